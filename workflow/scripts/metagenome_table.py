"""Read the taxon tables of one sample of the sheet into the profile that every profiler writes."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Taxon table {snakemake.wildcards.sample}"):
    from latentomics.config.row import InputRow
    from latentomics.metagenome.tables import read_table, write_table

    profile, summary, observations = read_table([InputRow.from_dict(row) for row in snakemake.params.rows])
    write_table(profile, summary, observations, {name: Path(path) for name, path in snakemake.output.items()})
    print(f"{len(observations)} samples, {profile['lineage'].nunique()} taxa, {summary['values']}")
    print("\n".join([*summary["notes"], *(f"{w['what']} Hint: {w['hint']}" for w in summary["warnings"])]))
