"""Which features enter the embeddings.

Inputs:  results/{assay}/counts.zarr
Outputs: results/{assay}/features.parquet
"""


rule features:
    input:
        store="results/{assay}/counts.zarr",
    output:
        features="results/{assay}/features.parquet",
    log:
        "results/logs/{assay}/features.log",
    benchmark:
        "results/benchmarks/{assay}/features.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("features"),
        runtime=minutes("features"),
    params:
        choice=feature_choice,
        code=assay_code("features", "CHOOSER"),
    message:
        "{wildcards.assay}: choosing features"
    script:
        "../scripts/features.py"
