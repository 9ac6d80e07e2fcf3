"""Neighbours of one embedding, its clusters at every resolution, and the evidence for the chosen one."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Clusters on {snakemake.wildcards.method}"):
    from latentomics.cluster.graph import save_graph
    from latentomics.cluster.select import select_clusters
    from latentomics.config.clusters import Clusters
    from latentomics.embed.latent import read_latent

    latent, index = read_latent(snakemake.input.embedding)
    params = Clusters(**snakemake.params.clusters)
    selection = select_clusters(
        latent, index, params, snakemake.params.n_neighbors, snakemake.params.seed, snakemake.threads
    )
    save_graph(selection.graph, Path(snakemake.output.graph))
    selection.clusters.to_parquet(snakemake.output.clusters)
    selection.evidence.to_csv(snakemake.output.selection, sep="\t", index=False, float_format="%.8g")
    print(f"{selection.graph.recall:.1%} of the nearest neighbours are found")
    print(selection.evidence.drop(columns="verdict").to_string())
    print(selection.evidence["verdict"].iloc[0])
