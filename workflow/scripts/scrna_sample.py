"""Read one sample, check its counts, call its cells and judge them, test for doublets."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Sample {snakemake.wildcards.sample}"):
    import json

    from latentomics.config.cells import Cells
    from latentomics.config.doublets import Doublets
    from latentomics.config.qc import QC
    from latentomics.config.row import InputRow
    from latentomics.scrna.sample import Judging, process_sample, write_sample

    # Of a sample of reads, the first of the files is that of the counts made of them.
    counted = [json.loads(Path(path).read_text()) for path in snakemake.input.quantification]
    made = process_sample(
        [InputRow.from_dict(row) for row in snakemake.params.rows],
        Judging(
            Path(snakemake.input.gene_sets),
            Cells(**snakemake.params.cells),
            QC(**snakemake.params.qc),
            Doublets(**snakemake.params.doublets),
            snakemake.params.organism,
            snakemake.params.seed,
            snakemake.threads,
        ),
        raw=Path(snakemake.input.files[0]) if counted else None,
        quantification=counted[0] if counted else None,
    )
    write_sample(made, {name: Path(path) for name, path in snakemake.output.items()})
    print(f"{made.summary['n_kept']} of {made.summary['n_read']} cells kept; dropped: {made.summary['dropped']}")
    print("\n".join([made.summary["calling"]["why"], *made.summary["notes"]]))
