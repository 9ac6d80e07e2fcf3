"""What a run makes, and what it says at its end."""

PLURALS = {"cell": "cells", "gene": "genes", "sample": "samples", "taxon": "taxa"}


def all_targets():
    """The report, and per assay the file that users take home."""
    targets = ["results/report.html"]
    for assay in ASSAYS:
        targets.append(f"results/{assay}/{assay}.h5ad")
    return targets


def per_method(*patterns):
    """These files of every embedding of every assay."""
    return [
        f"results/{assay}/{pattern.format(method=method)}"
        for assay in ASSAYS
        for method in METHODS[assay]
        for pattern in patterns
    ]


def assay_files():
    """What only one assay has for the report."""
    files = {
        "scrna": ["cells.parquet"],
        "metagenome": [
            *(f"samples/{sample}/reads.tsv" for sample in READS),
            "diversity.tsv",
            "ordination.tsv",
            "permanova.tsv",
            "associations.tsv",
            *(["prediction.tsv"] if CONFIG.prediction.target else []),
        ],
    }
    return [f"results/{assay}/{name}" for assay in ASSAYS for name in files.get(assay, [])]


def say_summary():
    """Where the results are, how long it took, what was dropped."""
    import csv
    from collections import Counter

    lines = []
    for assay in ASSAYS:
        with open(f"results/{assay}/ledger.tsv") as file:
            dropped = Counter(
                (row["kind"], row["reason"]) for row in csv.DictReader(file, delimiter="\t")
            )
        said = [f"{n} {PLURALS[kind]}: {reason}" for (kind, reason), n in dropped.most_common(6)]
        more = f" ({', '.join(said)}; all in results/{assay}/ledger.tsv)" if said else ""
        lines.append(f"  {assay}: dropped {sum(dropped.values())}{more}")
        lines.append(
            f"  {assay}: data for scanpy, with clusters and embeddings: {STUDY}/results/{assay}/{assay}.h5ad"
        )
    minutes_taken, seconds = divmod(round(time.time() - STARTED), 60)
    logger.info(
        "\n".join(
            [
                f"Finished in {minutes_taken} min {seconds} s.",
                *lines,
                f"  report: {STUDY}/results/report.html",
            ]
        )
    )


def say_failure(log):
    logger.error(
        "The run stopped before its end. The messages above name the rule and the sample, and show the last lines of\n"
        "its log (all logs: results/logs/). Nothing that is finished is lost: mend the cause and start the same command\n"
        f"again.\nSnakemake's own log: {log}"
    )
