"""Marker features of the chosen clusters of one embedding."""

from latentomics.io.job import job

with job(snakemake, f"Markers on {snakemake.wildcards.method}"):
    import pandas as pd

    from latentomics.assays.registry import assay
    from latentomics.config.markers import Markers
    from latentomics.io.store import CountsStore

    store = CountsStore(snakemake.input.store)
    kind = assay(snakemake.wildcards.assay)
    normaliser = kind.normaliser(store, snakemake.params.normalisation)
    clusters = pd.read_parquet(snakemake.input.clusters)["cluster"]
    table = kind.find_markers(store, clusters, Markers(**snakemake.params.markers), normaliser, snakemake.params.seed)
    table.to_parquet(snakemake.output.markers, index=False)
    print(table[table["rank"] <= 5].to_string())
