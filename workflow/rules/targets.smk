"""What a run makes, and what it says at its end."""

PLURALS = {
    "cell": "cells",
    "gene": "genes",
    "sample": "samples",
    "taxon": "taxa",
    "droplet": "droplets",
}


def all_targets():
    """The pages, and per assay the file that users take home."""
    targets = ["results/report.html", *(["results/quality.html"] if ASSAYS else [])]
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


def classifier_files():
    """What the read classifiers leave for the report."""
    if not TRAINING:
        return []
    everyone, shown = [*READ_MODELS, *READ_BASELINES], CONFIG.classifier.attributed_reads
    return [
        "results/reads/data",
        "results/reads/ledger.tsv",
        "results/reads/scores.tsv",
        "results/reads/verdict.json",
        *expand("results/reads/models/{name}", name=READ_MODELS),
        *expand("results/reads/baselines/{name}", name=READ_BASELINES),
        *expand("results/reads/scores/{name}", name=everyone),
        *expand("results/reads/attribution/{name}", name=READ_MODELS if shown else []),
        *expand("results/reads/curve/{name}.tsv", name=everyone if CONFIG.classifier.curve else []),
        *expand("results/reads/samples/{sample}/shares.tsv", sample=CLASSIFIED),
    ]


def of_assays(files):
    return [f"results/{assay}/{name}" for assay in ASSAYS for name in files.get(assay, [])]


def sample_files_of_assays():
    """What only one assay has on the quality of its samples."""
    reads = [f"samples/{sample}/reads.tsv" for sample in READS]
    scrna = ["cells.parquet", "droplets.parquet", "quantification.tsv", "ambient.tsv"]
    scrna += [f"samples/{sample}/summary.json" for sample in SAMPLES]
    return of_assays({"scrna": scrna, "metagenome": reads})


def assay_files():
    """What only one assay has for the report."""
    made = {
        "metagenome": [
            "diversity.tsv",
            "ordination.tsv",
            "permanova.tsv",
            "associations.tsv",
            *(["prediction.tsv"] if CONFIG.prediction.target else []),
        ],
    }
    return [*sample_files_of_assays(), *of_assays(made)]


def say_summary():
    """Where the results are, how long it took, what was dropped."""
    import csv
    from collections import Counter

    lines = []
    # A run that was asked for less than everything may not have come so far.
    for assay in [assay for assay in ASSAYS if Path(f"results/{assay}/{assay}.h5ad").exists()]:
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
    page = Path("results/report.html")
    minutes_taken, seconds = divmod(round(time.time() - STARTED), 60)
    logger.info(
        "\n".join(
            [
                f"Finished in {minutes_taken} min {seconds} s.",
                *lines,
                *([f"  report: {STUDY / page}"] if page.exists() else []),
            ]
        )
    )


def failed_jobs():
    """What failed, and why, in words; the same job's attempts once."""
    from datetime import UTC, datetime

    from latentomics.resources.usage import read_events
    from latentomics.slurm.failures import failures, sentence

    found = failures(
        read_events(Path("results/usage")),
        Path(".snakemake/slurm_logs"),
        datetime.fromtimestamp(STARTED, UTC),
    )
    return "".join(f"  {sentence(failure)}\n" for failure in found)


def say_failure(log):
    page = Path("results/quality.html")
    seen = f"The samples and their quality: {STUDY / page}\n" if page.exists() else ""
    logger.error(
        f"The run stopped before its end.\n{failed_jobs()}"
        "The messages above show the last lines of the logs (all of them: results/logs/). Nothing that is finished is\n"
        f"lost: mend the cause and start the same command again.\n{seen}Snakemake's own log: {log}"
    )
