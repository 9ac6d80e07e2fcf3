"""Judge the cells of one sample by one doublet caller that has a rule of its own."""

from pathlib import Path

from latentomics.io.job import job

caller = snakemake.wildcards.caller
with job(snakemake, f"Doublets of sample {snakemake.wildcards.sample} by {caller}"):
    from latentomics.config.doublets import Doublets
    from latentomics.scrna.doublets.run import run_caller, write_calls

    table, calls = run_caller(
        caller,
        Path(snakemake.input.counts),
        Path(snakemake.input.cells),
        Doublets(**snakemake.params.doublets),
        snakemake.params.seed,
        snakemake.threads,
    )
    write_calls(caller, table, calls, {name: Path(path) for name, path in snakemake.output.items()})
    print(calls.note or f"{calls.called.sum()} of {len(table)} cells are called doublets, above {calls.threshold:.3f}")
