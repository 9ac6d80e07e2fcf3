"""Neighbours of one embedding, its clusters at every resolution, and the evidence for the chosen one."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Clusters on {snakemake.wildcards.method}"):
    import pandas as pd

    from latentomics.cluster.graph import neighbour_graph, save_graph
    from latentomics.cluster.select import select_clusters
    from latentomics.config.clusters import Clusters

    embedding = pd.read_parquet(snakemake.input.embedding)
    latent, seed, n_neighbors = embedding.to_numpy(), snakemake.params.seed, snakemake.params.n_neighbors
    graph = neighbour_graph(latent, n_neighbors, seed)
    save_graph(graph, Path(snakemake.output.graph))
    print(f"{graph.uns['neighbors']['recall']:.1%} of the nearest neighbours are found")
    params = Clusters(**snakemake.params.clusters)
    selection = select_clusters(latent, graph, embedding.index, params, n_neighbors, seed, snakemake.threads)
    selection.clusters.to_parquet(snakemake.output.clusters)
    selection.evidence.to_csv(snakemake.output.selection, sep="\t", index=False, float_format="%.8g")
    print(selection.evidence.drop(columns="verdict").to_string())
    print(selection.evidence["verdict"].iloc[0])
