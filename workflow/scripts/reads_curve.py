"""The learning curve of one network or baseline."""

from pathlib import Path

from latentomics.io.job import job

name = snakemake.wildcards.classifier
with job(snakemake, f"Learning curve of {name}"):
    from latentomics.config.classifier import Training
    from latentomics.reads.curve import learning_curve
    from latentomics.reads.models import registry
    from latentomics.reads.store import ReadStore

    network = name in registry.MODELS
    table = learning_curve(
        name,
        ReadStore(snakemake.input.data),
        snakemake.params.shares,
        registry.model(name).Params(**snakemake.params.model) if network else None,
        Training(**snakemake.params.fit),
        snakemake.params.kmer,
        snakemake.params.n_bootstrap,
        snakemake.params.seed,
        snakemake.threads,
        Path(snakemake.params.checkpoints),
    )
    table.to_csv(snakemake.output.curve, sep="\t", index=False, float_format="%.8g")
