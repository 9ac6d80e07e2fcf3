"""Join the kept cells of every sample into the counts store; write the ledger of what was left out."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Joining the samples"):
    from latentomics.config.doublets import Doublets
    from latentomics.scrna.merge import gather, merge_samples

    named = ("counts", "cells", "summary", "droplets", "corrected", "ambient", "shares", "calls")
    merged = merge_samples(
        gather({name: snakemake.input[name] for name in named}),
        Path(snakemake.output.store),
        snakemake.params.join,
        snakemake.params.sheet,
        Doublets(**snakemake.params.doublets),
    )
    for name in ("cells", "droplets"):
        getattr(merged, name).to_parquet(snakemake.output[name])
    for name in ("samples", "ledger", "warnings", "quantification", "ambient"):
        getattr(merged, name).to_csv(snakemake.output[name], sep="\t", index=False, float_format="%.8g")
    print(merged.samples.to_string())
