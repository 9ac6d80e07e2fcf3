"""Join counts, annotations, embeddings, layouts and clusters into one .h5ad."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake.log[0], "Joining the final file"):
    import pandas as pd

    from latentomics.io.export import join_results, write_h5ad
    from latentomics.io.store import CountsStore, size_target

    store = CountsStore(snakemake.input.store)
    target_sum = size_target(store.obs, snakemake.params.target_sum)
    tables = {
        name: {kind: pd.read_parquet(snakemake.input[kind][i]) for kind in ("embeddings", "clusters", "layouts")}
        for i, name in enumerate(snakemake.params.methods)
    }
    joined = join_results(
        store,
        pd.read_parquet(snakemake.input.features),
        tables,
        snakemake.params.primary,
        target_sum,
        snakemake.params.seed,
    )
    write_h5ad(Path(snakemake.output.h5ad), store, *joined)
