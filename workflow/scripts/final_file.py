"""Join counts, annotations, embeddings, layouts and clusters into one .h5ad."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Joining the final file"):
    import pandas as pd

    from latentomics.assays.registry import assay
    from latentomics.io.export import join_results, write_h5ad
    from latentomics.io.store import CountsStore

    store = CountsStore(snakemake.input.store)
    normaliser = assay(snakemake.wildcards.assay).normaliser(store, snakemake.params.normalisation)
    tables = {
        name: {kind: pd.read_parquet(snakemake.input[kind][i]) for kind in ("embeddings", "clusters", "layouts")}
        for i, name in enumerate(snakemake.params.methods)
    }
    # Sample names may look like numbers.
    ordinations = [pd.read_csv(path, sep="\t", index_col=0, dtype={0: str}) for path in snakemake.input.ordinations]
    joined = join_results(
        store,
        pd.read_parquet(snakemake.input.features),
        tables,
        snakemake.params.primary,
        normaliser,
        snakemake.params.seed,
        *ordinations,
    )
    write_h5ad(Path(snakemake.output.h5ad), store, normaliser, *joined)
