"""Choose highly variable features, batch-aware, from the streamed counts store."""

from latentomics.io.job import job

with job(snakemake.log[0], "Choosing features"):
    from latentomics.features.hvg import select_features
    from latentomics.io.store import CountsStore, batch_of

    store = CountsStore(snakemake.input.store)
    table = select_features(store, batch_of(store.obs), snakemake.params.n_top, snakemake.params.span)
    table.to_parquet(snakemake.output.features)
    print(f"{int(table['selected'].sum())} of {len(table)} features selected")
