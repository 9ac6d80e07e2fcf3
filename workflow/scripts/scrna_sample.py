"""Read one sample, check its counts, judge its cells, test for doublets."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake.log[0], f"Sample {snakemake.wildcards.sample}"):
    from latentomics.config.doublets import Doublets
    from latentomics.config.qc import QC
    from latentomics.config.sheet import InputRow
    from latentomics.scrna.sample import process_sample, write_sample

    counts, cells, summary = process_sample(
        [InputRow.from_dict(row) for row in snakemake.params.rows],
        QC(**snakemake.params.qc),
        Doublets(**snakemake.params.doublets),
        snakemake.params.organism,
        Path(snakemake.input.gene_sets),
        snakemake.params.seed,
    )
    write_sample(counts, cells, summary, {name: Path(path) for name, path in snakemake.output.items()})
    print(f"{summary['n_kept']} of {summary['n_read']} cells kept; dropped: {summary['dropped']}")
    print("\n".join(summary["notes"]))
