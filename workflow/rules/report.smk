"""Judge the embeddings, join everything for the user, and write the page.

Inputs:  all of results/{assay}
Outputs: results/{assay}/{scores.tsv,costs.tsv,verdict.json,{assay}.h5ad},
         results/{quality,report}.html, results/resources.tsv
"""


# First of all that follows the joined samples: a run that stops later leaves it behind.
rule quality_page:
    input:
        samples=expand("results/{assay}/samples.tsv", assay=ASSAYS),
        warnings=expand("results/{assay}/warnings.tsv", assay=ASSAYS),
        ledgers=expand("results/{assay}/ledger.tsv", assay=ASSAYS),
        stores=expand("results/{assay}/counts.zarr", assay=ASSAYS),
        of_assay=sample_files_of_assays(),
    output:
        html=report("results/quality.html", caption="../report/quality.rst", category="Quality"),
    log:
        "results/logs/quality.log",
    benchmark:
        "results/benchmarks/quality.tsv"
    priority: 100
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("quality_page"),
        runtime=minutes("quality_page"),
    params:
        assays=ASSAYS,
        title=CONFIG.report.title,
        config={name: section(name) for name in ("qc", "quantify", "taxa")},
        code=code_of("quality_page", *(assay_registry.ASSAYS[assay] for assay in ASSAYS)),
    message:
        "Writing the page on samples and their quality"
    script:
        "../scripts/quality_page.py"


rule scores:
    input:
        store="results/{assay}/counts.zarr",
        features="results/{assay}/features.parquet",
        embeddings=of_methods("results/{assay}/embeddings/{method}.parquet"),
        models=of_methods("results/{assay}/models/{method}"),
        clusters=of_methods("results/{assay}/clusters/{method}.parquet"),
        selections=of_methods("results/{assay}/clusters/{method}.selection.tsv"),
    output:
        scores=report(
            "results/{assay}/scores.tsv",
            caption="../report/scores.rst",
            category="Scores",
        ),
        costs="results/{assay}/costs.tsv",
        verdict="results/{assay}/verdict.json",
    log:
        "results/logs/{assay}/scores.log",
    benchmark:
        "results/benchmarks/{assay}/scores.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("scores"),
        runtime=minutes("scores"),
    params:
        methods=methods_of,
        benchmarks=of_methods("results/benchmarks/{assay}/embed/{method}.tsv"),
        primary=primary_of,
        why_primary=why_primary,
        scores=section("scores"),
        normalisation=normalisation,
        seed=CONFIG.seed,
        code=assay_code("scores"),
    message:
        "{wildcards.assay}: judging the embeddings"
    script:
        "../scripts/scores.py"


rule final_file:
    input:
        store="results/{assay}/counts.zarr",
        features="results/{assay}/features.parquet",
        embeddings=of_methods("results/{assay}/embeddings/{method}.parquet"),
        clusters=of_methods("results/{assay}/clusters/{method}.parquet"),
        layouts=of_methods("results/{assay}/layouts/{method}.parquet"),
        ordinations=ordinations_of,
    output:
        h5ad="results/{assay}/{assay}.h5ad",
    log:
        "results/logs/{assay}/final_file.log",
    benchmark:
        "results/benchmarks/{assay}/final_file.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("final_file"),
        runtime=minutes("final_file"),
    params:
        methods=methods_of,
        primary=primary_of,
        normalisation=normalisation,
        seed=CONFIG.seed,
        code=assay_code("final_file"),
    message:
        "{wildcards.assay}: joining everything into {output.h5ad}"
    script:
        "../scripts/final_file.py"


rule report_page:
    input:
        samples=expand("results/{assay}/samples.tsv", assay=ASSAYS),
        warnings=expand("results/{assay}/warnings.tsv", assay=ASSAYS),
        ledgers=expand("results/{assay}/ledger.tsv", assay=ASSAYS),
        stores=expand("results/{assay}/counts.zarr", assay=ASSAYS),
        features=expand("results/{assay}/features.parquet", assay=ASSAYS),
        verdicts=expand("results/{assay}/verdict.json", assay=ASSAYS),
        scores=expand("results/{assay}/scores.tsv", assay=ASSAYS),
        costs=expand("results/{assay}/costs.tsv", assay=ASSAYS),
        per_method=per_method(
            "embeddings/{method}.parquet",
            "models/{method}",
            "clusters/{method}.parquet",
            "clusters/{method}.selection.tsv",
            "layouts/{method}.parquet",
            "markers/{method}.parquet",
        ),
        of_assay=assay_files(),
        classifier=classifier_files(),
    output:
        html=report("results/report.html", caption="../report/page.rst", category="Report"),
        runs=expand("results/{assay}/run.json", assay=ASSAYS),
        resources="results/resources.tsv",
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("report_page"),
        runtime=minutes("report_page"),
    params:
        assays=ASSAYS,
        methods=METHODS,
        primary={assay: primary for assay, (primary, _) in PRIMARY.items()},
        normalisation={assay: assay_registry.assay(assay).normalisation(CONFIG) for assay in ASSAYS},
        config=CONFIG.model_dump(mode="json"),
        code=code_of("report", *(assay_registry.ASSAYS[assay] for assay in ASSAYS)),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
