"""Choose the features of the embeddings, in the manner of the assay."""

from latentomics.io.job import job

with job(snakemake.log[0], "Choosing features"):
    from latentomics.assays.registry import assay
    from latentomics.io.store import CountsStore

    table = assay(snakemake.wildcards.assay).select_features(
        CountsStore(snakemake.input.store), snakemake.params.choice
    )
    table.to_parquet(snakemake.output.features)
    print(f"{int(table['selected'].sum())} of {len(table)} features selected")
