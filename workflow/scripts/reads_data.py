"""Read the labelled reads, leave each only once, and divide them between training, validation and test."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Training data of the read classifiers"):
    from latentomics.config.classifier import Classifier
    from latentomics.config.training_sheet import TrainingRow
    from latentomics.reads.prepare import ledger, prepare
    from latentomics.reads.sources import Tally, labelled_reads
    from latentomics.reads.store import ReadStore

    settings = Classifier(**snakemake.params.settings)
    rows = [TrainingRow.from_dict(row) for row in snakemake.params.rows]
    seed, tally = snakemake.params.seed, Tally()
    folder = Path(snakemake.output.data)
    prepare(
        labelled_reads(rows, settings, seed, tally),
        settings,
        seed,
        folder,
        tally,
        [row.path.name for row in rows],
    )
    left_out = ledger(tally)
    left_out.to_csv(snakemake.output.ledger, sep="\t", index=False)
    store = ReadStore(folder)
    print(f"{len(store)} of {store.facts['read']} reads, in {len(store.classes)} classes")
    print(left_out.to_string(index=False))
