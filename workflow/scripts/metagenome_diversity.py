"""Diversity and ordination of the samples, and what differs between conditions, batches and clusters."""

from latentomics.io.job import job

with job(snakemake, "Diversity and associations"):
    import pandas as pd

    from latentomics.config.associations import Associations
    from latentomics.io.store import CountsStore
    from latentomics.metagenome.associations import study_tables

    tables = study_tables(
        CountsStore(snakemake.input.store),
        pd.read_parquet(snakemake.input.clusters)["cluster"],
        Associations(**snakemake.params.associations),
        snakemake.params.composition["delta"],
        snakemake.params.seed,
    )
    for name, table in tables.items():
        table.to_csv(snakemake.output[name], sep="\t", index=table.index.name == "sample", float_format="%.8g")
    print(tables["permanova"].to_string())
    print(tables["diversity_tests"].to_string())
