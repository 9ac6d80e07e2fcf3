"""Classify a sample's reads with a trained model, and estimate the composition of the sample."""

from pathlib import Path

from latentomics.io.job import job

sample, name = snakemake.wildcards.sample, snakemake.params.apply
with job(snakemake, f"Sample {sample}: classes of reads"):
    import json

    from latentomics.embed.training import use_device
    from latentomics.reads.saved import load_model
    from latentomics.reads.shares import apply_model

    if name == "best":
        name = json.loads(Path(snakemake.input.best).read_text("utf-8"))["model"]
    model, scores = (
        next(path for path in map(Path, paths) if path.name == name)
        for paths in (snakemake.input.models, snakemake.input.scores)
    )
    device = use_device(snakemake.threads)[1]
    table, facts = apply_model(
        sample,
        Path(snakemake.input.reads),
        load_model(model),
        scores / "predictions.npz",
        snakemake.params.n_bootstrap,
        snakemake.params.seed,
    )
    table.to_csv(snakemake.output.shares, sep="\t", index=False, float_format="%.8g")
    Path(snakemake.output.facts).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    print(f"{facts['reads']:,} reads by {name} on {device}: {facts['classified']:,} classified")
    print(table.to_string(index=False))
    print("\n".join(facts["notes"]))
