"""Count the genes in the reads of one sample of cells."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Quantification of sample {snakemake.wildcards.sample}"):
    from latentomics.config.quantify import Quantify
    from latentomics.config.row import InputRow
    from latentomics.scrna.quantify.sample import quantify_sample

    quantify_sample(
        [InputRow.from_dict(row) for row in snakemake.params.rows],
        Quantify(**snakemake.params.quantify),
        Path(snakemake.input.reference),
        Path(snakemake.output.raw).parent,
        snakemake.threads,
        snakemake.resources.mem_mb,
    )
    print(Path(snakemake.output.quantification).read_text())
