"""Build a reference database from genomes, or prepare an existing one."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Database {snakemake.params.database['name']}"):
    from latentomics.config.databases import Database
    from latentomics.metagenome.profile.run import prepare_database

    prepare_database(Database.from_dict(snakemake.params.database), Path(snakemake.output.folder), snakemake.threads)
