"""Single-cell RNA-seq: from the files of the sheet to the counts store.

Inputs:  the sheet's files
Outputs: results/scrna/reference/ and results/scrna/samples/{sample}/{raw.h5ad,quantification.json}, where there are reads
         results/scrna/samples/{sample}/{counts.h5ad,cells.parquet,droplets.parquet,summary.json}
         results/scrna/samples/{sample}/doublets/{caller}.parquet, of callers that need a GPU
         results/scrna/samples/{sample}/{corrected.h5ad,ambient.json,ambient.parquet}, where ambient RNA is removed
         results/scrna/{counts.zarr,cells.parquet,droplets.parquet,samples.tsv,quantification.tsv,ambient.tsv,ledger.tsv,warnings.tsv}
"""


rule scrna_reference:
    input:
        files=reference_files(),
    output:
        reference=directory("results/scrna/reference"),
    log:
        "results/logs/scrna_reference.log",
    benchmark:
        "results/benchmarks/scrna_reference.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=memory("scrna_reference"),
        runtime=minutes("scrna_reference"),
    params:
        quantify=quantify_params(*REFERENCE_KEYS),
        code=code_of("scrna_reference"),
    message:
        "Building the index that the reads of cells are mapped to"
    script:
        "../scripts/scrna_reference.py"


rule scrna_quantify:
    input:
        files=sample_files,
        reference="results/scrna/reference",
        whitelist=whitelist_file(),
    output:
        raw="results/scrna/samples/{sample}/raw.h5ad",
        quantification="results/scrna/samples/{sample}/quantification.json",
    log:
        "results/logs/scrna_quantify/{sample}.log",
    benchmark:
        "results/benchmarks/scrna_quantify/{sample}.tsv"
    wildcard_constraints:
        sample=any_of(CELL_READS, SAMPLES),
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=memory("scrna_quantify"),
        runtime=minutes("scrna_quantify"),
    params:
        rows=read_set_rows,
        quantify=section("quantify"),
        code=code_of("scrna_quantify"),
    message:
        "Sample {wildcards.sample}: counting molecules of genes in the reads"
    script:
        "../scripts/scrna_quantify.py"


rule scrna_sample:
    input:
        files=counts_files,
        quantification=quantification,
        gene_sets=str(GENE_SETS),
    output:
        counts="results/scrna/samples/{sample}/counts.h5ad",
        cells="results/scrna/samples/{sample}/cells.parquet",
        droplets="results/scrna/samples/{sample}/droplets.parquet",
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
        cells=section("cells"),
        qc=section("qc"),
        doublets=section("doublets"),
        organism=CONFIG.ingest.organism,
        seed=CONFIG.seed,
        code=doublet_code("scrna_sample", *CALLERS_ON_CPU),
    message:
        "Sample {wildcards.sample}: reading counts, calling and judging cells, testing for doublets"
    script:
        "../scripts/scrna_sample.py"


rule scrna_doublets:
    input:
        counts="results/scrna/samples/{sample}/counts.h5ad",
        cells="results/scrna/samples/{sample}/cells.parquet",
    output:
        calls="results/scrna/samples/{sample}/doublets/{caller}.parquet",
        facts="results/scrna/samples/{sample}/doublets/{caller}.json",
    log:
        "results/logs/scrna_doublets/{sample}.{caller}.log",
    benchmark:
        "results/benchmarks/scrna_doublets/{sample}.{caller}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("scrna_doublets"),
        runtime=minutes("scrna_doublets"),
        gpu=1,
    params:
        doublets=section("doublets"),
        seed=CONFIG.seed,
        code=caller_code,
    message:
        "Sample {wildcards.sample}: testing for doublets by {wildcards.caller}"
    script:
        "../scripts/scrna_doublets.py"


rule scrna_ambient:
    input:
        counts="results/scrna/samples/{sample}/counts.h5ad",
        cells="results/scrna/samples/{sample}/cells.parquet",
        droplets="results/scrna/samples/{sample}/droplets.parquet",
        raw=ambient_counts_files,
    output:
        corrected="results/scrna/samples/{sample}/corrected.h5ad",
        facts="results/scrna/samples/{sample}/ambient.json",
        shares="results/scrna/samples/{sample}/ambient.parquet",
    log:
        "results/logs/scrna_ambient/{sample}.log",
    benchmark:
        "results/benchmarks/scrna_ambient/{sample}.tsv"
    wildcard_constraints:
        sample=any_of([] if AMBIENT_ON_GPU else SAMPLES, SAMPLES),
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("scrna_ambient", counts_files),
        runtime=minutes("scrna_ambient", counts_files),
    params:
        rows=sample_rows,
        ambient=section("ambient"),
        seed=CONFIG.seed,
        code=ambient_code("scrna_ambient"),
    message:
        "Sample {wildcards.sample}: removing ambient RNA"
    script:
        "../scripts/scrna_ambient.py"


use rule scrna_ambient as scrna_ambient_gpu with:
    wildcard_constraints:
        sample=any_of(SAMPLES if AMBIENT_ON_GPU else [], SAMPLES),
    resources:
        mem_mb=memory("scrna_ambient_gpu"),
        runtime=minutes("scrna_ambient_gpu"),
        gpu=1,


rule scrna_merge:
    input:
        counts=of_samples("counts.h5ad"),
        cells=of_samples("cells.parquet"),
        droplets=of_samples("droplets.parquet"),
        summary=of_samples("summary.json"),
        corrected=of_samples("corrected.h5ad", AMBIENT),
        ambient=of_samples("ambient.json", AMBIENT),
        shares=of_samples("ambient.parquet", AMBIENT),
        calls=of_callers("parquet"),
    output:
        store=directory("results/scrna/counts.zarr"),
        cells="results/scrna/cells.parquet",
        droplets="results/scrna/droplets.parquet",
        samples=report(
            "results/scrna/samples.tsv",
            caption="../report/samples.rst",
            category="Quality",
        ),
        quantification="results/scrna/quantification.tsv",
        ambient="results/scrna/ambient.tsv",
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
        doublets=section("doublets"),
        code=code_of("scrna_merge"),
    message:
        "Joining the kept cells of all samples into one counts store"
    script:
        "../scripts/scrna_merge.py"
