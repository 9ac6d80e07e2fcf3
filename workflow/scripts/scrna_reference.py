"""Index the transcripts that reads of cells are mapped to, once for all samples."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Reference of the cells' reads"):
    from latentomics.config.quantify import Quantify
    from latentomics.scrna.quantify.reference import build_reference

    folder = Path(snakemake.output.reference)
    build_reference(Quantify(**snakemake.params.quantify), Path(), folder, snakemake.threads)
    print((folder / "reference.json").read_text())
