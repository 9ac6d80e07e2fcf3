"""Single-cell RNA-seq: from the files of the sheet to the counts store.

Inputs:  the sheet's files
Outputs: results/scrna/samples/{sample}/{counts.h5ad,cells.parquet,summary.json}
         results/scrna/{counts.zarr,cells.parquet,samples.tsv,ledger.tsv,warnings.tsv}
"""


rule scrna_sample:
    input:
        files=sample_files,
        gene_sets=str(GENE_SETS),
    output:
        counts="results/scrna/samples/{sample}/counts.h5ad",
        cells="results/scrna/samples/{sample}/cells.parquet",
        summary="results/scrna/samples/{sample}/summary.json",
    log:
        "results/logs/scrna_sample/{sample}.log",
    benchmark:
        "results/benchmarks/scrna_sample/{sample}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("scrna_sample"),
        runtime=minutes("scrna_sample"),
    params:
        rows=sample_rows,
        qc=section("qc"),
        doublets=section("doublets"),
        organism=CONFIG.ingest.organism,
        seed=CONFIG.seed,
        code=code_of("scrna_sample"),
    message:
        "Sample {wildcards.sample}: reading counts, judging cells, testing for doublets"
    script:
        "../scripts/scrna_sample.py"


rule scrna_merge:
    input:
        counts=expand("results/scrna/samples/{sample}/counts.h5ad", sample=SAMPLES),
        cells=expand("results/scrna/samples/{sample}/cells.parquet", sample=SAMPLES),
        summary=expand("results/scrna/samples/{sample}/summary.json", sample=SAMPLES),
    output:
        store=directory("results/scrna/counts.zarr"),
        cells="results/scrna/cells.parquet",
        samples=report(
            "results/scrna/samples.tsv",
            caption="../report/samples.rst",
            category="Quality",
        ),
        ledger="results/scrna/ledger.tsv",
        warnings="results/scrna/warnings.tsv",
    log:
        "results/logs/scrna_merge.log",
    benchmark:
        "results/benchmarks/scrna_merge.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("scrna_merge"),
        runtime=minutes("scrna_merge"),
    params:
        join=CONFIG.ingest.join,
        sheet=CONFIG.samples,
        code=code_of("scrna_merge"),
    message:
        "Joining the kept cells of all samples into one counts store"
    script:
        "../scripts/scrna_merge.py"
