"""UMAP and t-SNE of one embedding."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Layouts of {snakemake.wildcards.method}"):
    from latentomics.cluster.graph import load_graph
    from latentomics.cluster.layouts import layout_table
    from latentomics.config.layouts import Layouts
    from latentomics.embed.latent import read_latent

    latent, index = read_latent(snakemake.input.embedding)
    layout_table(
        latent,
        load_graph(Path(snakemake.input.graph)),
        index,
        Layouts(**snakemake.params.layouts),
        snakemake.params.seed,
        snakemake.threads,
    ).to_parquet(snakemake.output.layout)
