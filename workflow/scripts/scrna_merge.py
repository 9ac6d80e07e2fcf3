"""Join the kept cells of every sample into the counts store; write the ledger of what was left out."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake.log[0], "Joining the samples"):
    from latentomics.scrna.merge import SampleFiles, merge_samples

    files = [
        SampleFiles(Path(counts), Path(cells), Path(summary))
        for counts, cells, summary in zip(
            snakemake.input.counts, snakemake.input.cells, snakemake.input.summary, strict=True
        )
    ]
    merged = merge_samples(files, Path(snakemake.output.store), snakemake.params.join, snakemake.params.sheet)
    merged.cells.to_parquet(snakemake.output.cells)
    for name in ("samples", "ledger", "warnings"):
        getattr(merged, name).to_csv(snakemake.output[name], sep="\t", index=False, float_format="%.8g")
    print(merged.samples.to_string())
