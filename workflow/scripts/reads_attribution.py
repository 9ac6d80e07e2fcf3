"""What in the reads a classifier looks at: attributions summarised as sequence logos."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Attribution of {snakemake.wildcards.classifier}"):
    from latentomics.embed.training import use_device
    from latentomics.reads.attribution import attribute_model
    from latentomics.reads.saved import load_model
    from latentomics.reads.store import ReadStore

    _, device = use_device(snakemake.threads)
    model = load_model(Path(snakemake.input.model))
    print(f"{snakemake.wildcards.classifier} on {device}", flush=True)
    attribute_model(
        model,
        ReadStore(snakemake.input.data),
        snakemake.params.n_reads,
        snakemake.params.seed,
        Path(snakemake.output.attribution),
    )
