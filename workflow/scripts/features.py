"""Choose the features of the embeddings, in the manner of the assay."""

from latentomics.io.job import job

with job(snakemake, "Choosing features"):
    from latentomics.assays.registry import assay
    from latentomics.embed.data import check_enough
    from latentomics.io.store import CountsStore

    kind, store = assay(snakemake.wildcards.assay), CountsStore(snakemake.input.store)
    check_enough(store.shape[0], kind.OBSERVATION)
    table = kind.select_features(store, snakemake.params.choice)
    table.to_parquet(snakemake.output.features)
    print(f"{int(table['selected'].sum())} of {len(table)} features selected")
