"""Train one network that classifies reads."""

from pathlib import Path

from latentomics.io.job import job

name = snakemake.wildcards.classifier
with job(snakemake, f"Training of {name}"):
    from latentomics.config.classifier import Training
    from latentomics.reads.models.registry import model
    from latentomics.reads.store import ReadStore
    from latentomics.reads.train import train_model

    facts = train_model(
        name,
        ReadStore(snakemake.input.data),
        model(name).Params(**snakemake.params.model),
        Training(**snakemake.params.fit),
        snakemake.params.seed,
        snakemake.threads,
        Path(snakemake.output.model),
        Path(snakemake.params.checkpoints),
        precision=snakemake.params.precision,
    )
    training = facts["training"]
    print(
        f"{name}: {facts['n_parameters']:,} parameters, {training['n_train']:,} reads, on {training['device']}; "
        f"stopped {training['stopped']}"
    )
