"""Marker features of the chosen clusters of one embedding."""

from latentomics.io.job import job

with job(snakemake.log[0], f"Markers on {snakemake.wildcards.method}"):
    import pandas as pd

    from latentomics.cluster.markers import find_markers
    from latentomics.config.markers import Markers
    from latentomics.io.store import CountsStore, size_target

    store = CountsStore(snakemake.input.store)
    target_sum = size_target(store.obs, snakemake.params.target_sum)
    clusters = pd.read_parquet(snakemake.input.clusters)["cluster"]
    table = find_markers(store, clusters, Markers(**snakemake.params.markers), target_sum, snakemake.params.seed)
    table.to_parquet(snakemake.output.markers, index=False)
    print(table[table["rank"] <= 5].to_string())
