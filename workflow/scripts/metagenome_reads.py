"""Quality control of the reads of one sample, and removal of host reads."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Reads of sample {snakemake.wildcards.sample}"):
    from latentomics.config.reads import Reads, host_names
    from latentomics.config.row import InputRow
    from latentomics.metagenome.read_qc import clean, write_cleaned

    params = Reads(**snakemake.params.reads)
    cleaned = clean(
        [InputRow.from_dict(row) for row in snakemake.params.rows],
        params,
        Path(snakemake.input.adapters),
        dict(zip(host_names(params.hosts), map(Path, snakemake.input.get("hosts", [])), strict=True)),
        Path(snakemake.output.reads),
        snakemake.threads,
    )
    write_cleaned(cleaned, Path(snakemake.output.steps), Path(snakemake.output.summary))
    print(cleaned.steps.to_string(index=False))
    print("\n".join(cleaned.summary["notes"]))
