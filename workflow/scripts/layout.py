"""UMAP and t-SNE of one embedding."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Layouts of {snakemake.wildcards.method}"):
    import pandas as pd

    from latentomics.cluster.graph import load_graph
    from latentomics.cluster.layouts import layout_table
    from latentomics.config.layouts import Layouts

    embedding = pd.read_parquet(snakemake.input.embedding)
    layout_table(
        embedding.to_numpy(),
        load_graph(Path(snakemake.input.graph)),
        embedding.index,
        Layouts(**snakemake.params.layouts),
        snakemake.params.seed,
        snakemake.threads,
    ).to_parquet(snakemake.output.layout)
