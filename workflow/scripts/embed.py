"""Fit one registered embedding."""

from pathlib import Path

from latentomics.io.job import job

name = snakemake.wildcards.method
with job(snakemake, f"Embedding by {name}"):
    import pandas as pd

    from latentomics.assays.registry import assay
    from latentomics.embed.latent import latent_table
    from latentomics.embed.registry import method
    from latentomics.embed.run import fit_embedding, load_data
    from latentomics.io.store import CountsStore

    store = CountsStore(snakemake.input.store)
    normaliser = assay(snakemake.wildcards.assay).normaliser(store, snakemake.params.normalisation)
    data = load_data(store, pd.read_parquet(snakemake.input.features), normaliser, snakemake.params.seed)
    params = method(name).Params(**snakemake.params.method)
    fit = fit_embedding(name, data, params, snakemake.params.seed, snakemake.threads, Path(snakemake.output.model))
    latent_table(fit.latent, data.obs.index).to_parquet(snakemake.output.embedding)
    print(
        f"{name}: {fit.latent.shape[0]} x {fit.latent.shape[1]}, on {fit.summary['device']}; {fit.summary['stopped']}"
    )
