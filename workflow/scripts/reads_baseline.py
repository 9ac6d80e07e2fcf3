"""Fit one baseline of the read classifiers."""

from pathlib import Path

from latentomics.io.job import job

name = snakemake.wildcards.classifier
with job(snakemake, f"Baseline {name}"):
    from latentomics.reads.baselines import fit_baseline
    from latentomics.reads.store import ReadStore

    store = ReadStore(snakemake.input.data)
    facts = fit_baseline(name, store, snakemake.params.kmer, snakemake.params.seed, Path(snakemake.output.model))
    training = facts["training"]
    print(
        f"{name}: {training['n_train']:,} training reads; validation accuracy "
        f"{training['validation_accuracy']:.4f}, loss {training['validation_loss']:.4f}"
    )
