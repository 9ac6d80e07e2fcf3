"""Judge one network or baseline on reads that it was not trained on."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Judging {snakemake.wildcards.classifier}"):
    from latentomics.embed.training import use_device
    from latentomics.reads.saved import load_any
    from latentomics.reads.scoring import evaluate
    from latentomics.reads.store import ReadStore

    device = use_device(snakemake.threads)[1]
    found = evaluate(
        load_any(Path(snakemake.input.model)),
        ReadStore(snakemake.input.data),
        snakemake.params.settings["precision"],
        snakemake.params.settings["n_bootstrap"],
        snakemake.params.seed,
        Path(snakemake.output.scores),
    )
    print(f"on {device}", *(f"{name}: {value}" for name, value in found.items()), sep="\n")
