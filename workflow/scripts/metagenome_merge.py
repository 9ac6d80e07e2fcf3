"""Join the profiles of every sample into the counts store; write the ledger of what was left out."""

import json
from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Joining the profiles"):
    import pandas as pd

    from latentomics.config.row import InputRow
    from latentomics.config.taxa import Taxa
    from latentomics.metagenome.merge import merge_profiles
    from latentomics.metagenome.observations import sheet_observations

    # A table describes its own samples; a sample of reads is described by its row of the sheet.
    observations = {
        sample: sheet_observations([InputRow.from_dict(row)]) for sample, row in snakemake.params.read_rows.items()
    }
    for sample, path in zip(snakemake.params.tables, snakemake.input.observations, strict=True):
        observations[sample] = pd.read_parquet(path)
    merged = merge_profiles(
        [pd.read_parquet(path) for path in snakemake.input.profiles],
        [json.loads(Path(path).read_text("utf-8")) for path in snakemake.input.summaries],
        [observations[sample] for sample in snakemake.params.samples],
        Taxa(**snakemake.params.taxa),
        Path(snakemake.output.store),
        snakemake.params.sheet,
    )
    for name in ("samples", "ledger", "warnings"):
        getattr(merged, name).to_csv(snakemake.output[name], sep="\t", index=False, float_format="%.8g")
    print(merged.samples.to_string())
