"""Latent spaces. Every registered method is the same rule; those that train a network ask for a GPU.

Inputs:  results/{assay}/{counts.zarr,features.parquet}
Outputs: results/{assay}/embeddings/{method}.parquet, results/{assay}/models/{method}/
"""


rule embed:
    input:
        store="results/{assay}/counts.zarr",
        features="results/{assay}/features.parquet",
    output:
        embedding="results/{assay}/embeddings/{method}.parquet",
        model=directory("results/{assay}/models/{method}"),
    log:
        "results/logs/{assay}/embed/{method}.log",
    benchmark:
        "results/benchmarks/{assay}/embed/{method}.tsv"
    wildcard_constraints:
        method="|".join(ON_CPU),
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("embed"),
        runtime=minutes("embed"),
    params:
        method=method_params,
        normalisation=normalisation,
        seed=CONFIG.seed,
        code=method_code,
    message:
        "{wildcards.assay}: embedding by {wildcards.method}"
    script:
        "../scripts/embed.py"


use rule embed as embed_gpu with:
    wildcard_constraints:
        method="|".join(ON_GPU),
    resources:
        mem_mb=memory("embed_gpu"),
        runtime=minutes("embed_gpu"),
        gpu=1,
