"""Take the ambient RNA out of the counts of one sample's cells."""

from pathlib import Path

from latentomics.io.job import job

sample = snakemake.wildcards.sample
with job(snakemake, f"Ambient RNA of sample {sample}"):
    from latentomics.config.ambient import Ambient
    from latentomics.config.row import InputRow
    from latentomics.scrna.ambient.correct import remove_ambient
    from latentomics.scrna.sample import read_matrix

    rows = [InputRow.from_dict(row) for row in snakemake.params.rows]
    made_of_reads = rows[0].format == "fastq"
    facts = remove_ambient(
        sample,
        str(rows[0].path),
        {name: Path(snakemake.input[name]) for name in ("counts", "cells", "droplets")},
        lambda: read_matrix(rows, Path(snakemake.input.raw[0]) if made_of_reads else None),
        Ambient(**snakemake.params.ambient),
        snakemake.params.seed,
        snakemake.threads,
        {name: Path(path) for name, path in snakemake.output.items()},
        Path(snakemake.output.corrected).with_name("ambient_work"),
    )
    share = "unknown" if facts["share"] is None else f"{facts['share']:.1%}"
    print(f"Ambient share of the counts of a cell: {share}; removed: {facts['removed']:.1%} of all counts")
    print("\n".join(facts["notes"]))
