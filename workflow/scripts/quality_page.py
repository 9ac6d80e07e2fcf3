"""Write the page on the samples and their quality: there even where the samples do not bear an embedding."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Writing the page on quality"):
    from latentomics.report.page import write_quality

    write_quality(
        {a: Path(store).parent for a, store in zip(snakemake.params.assays, snakemake.input.stores, strict=True)},
        Path(snakemake.output.html),
        f"{snakemake.params.title}: samples and quality",
        snakemake.params.config,
    )
