"""Profile the reads of several samples with one database, loaded once."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Profiles of {len(snakemake.params.samples)} samples"):
    from latentomics.config.profile import Profile
    from latentomics.metagenome.profile.run import profile_samples, write_profiles

    results = profile_samples(
        dict(zip(snakemake.params.samples, map(Path, snakemake.input.reads), strict=True)),
        Path(snakemake.input.database),
        Profile(**snakemake.params.profile),
        snakemake.threads,
    )
    write_profiles(
        results,
        [Path(path) for path in snakemake.output.tables],
        [Path(path) for path in snakemake.output.summaries],
    )
    for table, summary in results:
        share = summary["observations"][0]["unclassified_share"]
        print(f"{summary['sample']}: {int(table['kept'].sum())} of {len(table)} taxa kept, {share:.1%} unclassified")
        print("\n".join(summary["notes"]))
