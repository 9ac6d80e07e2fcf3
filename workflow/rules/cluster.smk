"""From a latent space to neighbours, clusters, pictures and markers.

Inputs:  results/{assay}/embeddings/{method}.parquet, results/{assay}/counts.zarr
Outputs: results/{assay}/{graphs,clusters,layouts,markers}/{method}.*
"""

from latentomics.cluster.threads import threads_of_cluster, threads_of_layout


rule cluster:
    input:
        embedding="results/{assay}/embeddings/{method}.parquet",
    output:
        graph="results/{assay}/graphs/{method}.npz",
        clusters="results/{assay}/clusters/{method}.parquet",
        selection=report(
            "results/{assay}/clusters/{method}.selection.tsv",
            caption="../report/selection.rst",
            category="Clusters",
            labels={"embedding": "{method}", "table": "choice of resolution"},
        ),
    log:
        "results/logs/{assay}/cluster/{method}.log",
    benchmark:
        "results/benchmarks/{assay}/cluster/{method}.tsv"
    conda:
        "../../environment.yml"
    threads: threads_of_cluster
    resources:
        mem_mb=memory("cluster"),
        runtime=minutes("cluster"),
    params:
        n_neighbors=CONFIG.graph.n_neighbors,
        clusters=section("clusters"),
        seed=CONFIG.seed,
        code=code_of("cluster"),
    message:
        "{wildcards.assay}: clusters on {wildcards.method}, and how stable they are"
    script:
        "../scripts/cluster.py"


rule layout:
    input:
        embedding="results/{assay}/embeddings/{method}.parquet",
        graph="results/{assay}/graphs/{method}.npz",
    output:
        layout="results/{assay}/layouts/{method}.parquet",
    log:
        "results/logs/{assay}/layout/{method}.log",
    benchmark:
        "results/benchmarks/{assay}/layout/{method}.tsv"
    conda:
        "../../environment.yml"
    threads: threads_of_layout
    resources:
        mem_mb=memory("layout"),
        runtime=minutes("layout"),
    params:
        layouts=section("layouts"),
        seed=CONFIG.seed,
        code=code_of("layout"),
    message:
        "{wildcards.assay}: UMAP and t-SNE of {wildcards.method}"
    script:
        "../scripts/layout.py"


rule markers:
    input:
        store="results/{assay}/counts.zarr",
        clusters="results/{assay}/clusters/{method}.parquet",
    output:
        markers="results/{assay}/markers/{method}.parquet",
    log:
        "results/logs/{assay}/markers/{method}.log",
    benchmark:
        "results/benchmarks/{assay}/markers/{method}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("markers"),
        runtime=minutes("markers"),
    params:
        markers=section("markers"),
        normalisation=normalisation,
        seed=CONFIG.seed,
        code=assay_code("markers", "MARKER_TEST"),
    message:
        "{wildcards.assay}: marker features of the clusters on {wildcards.method}"
    script:
        "../scripts/markers.py"
