"""The read classifiers on real genomes and reads, each study run by the workflow as a user runs it.

    python benchmarks/read_classifiers.py MIRROR --work FOLDER [--only genus,species] > benchmarks/read_classifiers.md

``MIRROR`` holds ``kmcp_15genomes`` and ``ameta_reads`` (public data, see ``resources/``). Studies:

- genus: 75 bp reads of 15 genomes in 10 genera, test reads from regions that no training read touches;
- curve: the same with more and more training reads, the fastest network and the baselines;
- species: one species of every genus that has two is left out of the training and is the test;
- origin: host, contaminant or bacterium, from labels in the names of simulated ancient reads (adapters trimmed first);
- ancient: reads of the same genomes with and without post-mortem damage.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import dnaio
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
ADAPTER = "AGATCGGAAGAG"
#: 20,000 of them are for training: 0.7 of the reads.
DRAWN = 28570


def genomes(mirror: Path) -> pd.DataFrame:
    table = pd.read_csv(mirror / "kmcp_15genomes/taxonomy.tsv", sep="\t")
    found = {path.name.split(".fa")[0].split(".fna")[0]: path for path in (mirror / "kmcp_15genomes/refs").iterdir()}
    table["path"] = [str(found[name]) for name in table["id"]]
    return table


def genus(mirror: Path, folder: Path) -> dict[str, object]:
    table = genomes(mirror)
    write_sheet(folder, [(row.path, "genome", row.genus, row.species, "") for row in table.itertuples()])
    return {"drawn": {"reads_per_class": DRAWN, "length_mean": 75.0}, "curve": [], "attributed_reads": 50}


def curve(mirror: Path, folder: Path) -> dict[str, object]:
    return {**genus(mirror, folder), "models": ["cnn"], "curve": [0.01, 0.03, 0.1, 0.3], "attributed_reads": 0}


def species(mirror: Path, folder: Path) -> dict[str, object]:
    table = genomes(mirror)
    left_out = [str(group["species"].iloc[-1]) for _, group in table.groupby("genus") if len(set(group["species"])) > 1]
    return {**genus(mirror, folder), "models": ["cnn"], "split": {"test_sources": left_out}, "attributed_reads": 0}


def origin(mirror: Path, folder: Path) -> dict[str, object]:
    kinds = {"endo": "host", "cont": "contaminant"}
    found: dict[str, list[bytes]] = {kind: [] for kind in (*kinds.values(), "bacterium")}
    for path in sorted((mirror / "ameta_reads").glob("*.fq.gz")):
        trimmed = folder / path.name
        subprocess.run(
            [sys.executable, "-m", "cutadapt", "-a", ADAPTER, "-m", "30", "-o", str(trimmed), str(path), "--quiet"],
            check=True,
        )
        with dnaio.open(trimmed) as reads:
            for read in reads:
                found[kinds.get(read.name.split("_")[0], "bacterium")].append(read.fastq_bytes())
    for kind, records in found.items():
        (folder / f"{kind}.fastq.gz").write_bytes(gzip.compress(b"".join(records), mtime=0))
    write_sheet(folder, [(f"{kind}.fastq.gz", "reads", kind, "", "") for kind in found])
    return {"curve": []}


def ancient(mirror: Path, folder: Path) -> dict[str, object]:
    rows = []
    for row in genomes(mirror).itertuples():
        rows += [(row.path, "genome", "modern", row.species, "")]
        rows += [(row.path, "genome", "ancient", row.species, "yes")]
    write_sheet(folder, rows)
    drawn = {"reads_per_class": 60000, "length_mean": 60.0, "length_sd": 15.0}
    return {"drawn": drawn, "models": ["cnn"], "curve": [], "attributed_reads": 300}


STUDIES = {"genus": genus, "curve": curve, "species": species, "origin": origin, "ancient": ancient}


def write_sheet(folder: Path, rows: list[tuple[str, ...]]) -> None:
    sheet = pd.DataFrame(rows, columns=["path", "kind", "label", "source", "ancient"])
    sheet.to_csv(folder / "training.tsv", sep="\t", index=False)


def write_study(name: str, mirror: Path, folder: Path, **changes: object) -> None:
    """The training sheet and the config of a study."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    settings = {"training": "config/training.tsv", **STUDIES[name](mirror.absolute(), folder / "config"), **changes}
    (folder / "config/config.yaml").write_text(yaml.safe_dump({"samples": None, "classifier": settings}))


def run(name: str, mirror: Path, work: Path) -> Path:
    folder = (work / name).absolute()
    write_study(name, mirror, folder)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return folder / "results/reads"


def cpu_seconds(results: Path, model: str) -> float:
    """CPU time of the training job, which other jobs on the cores change little."""
    tables = (results.parent / f"benchmarks/reads/{kind}/{model}.tsv" for kind in ("train", "baseline"))
    table = next(path for path in tables if path.exists())
    return float(pd.read_csv(table, sep="\t")["cpu_time"].iloc[0])


def show(name: str, results: Path) -> None:
    scores = pd.read_csv(results / "scores.tsv", sep="\t")
    facts = json.loads((results / "data/data.json").read_text())
    print(f"## {name}\n")
    print(
        f"{facts['reads']:,} reads, classes: {', '.join(facts['classes'])}. Near-duplicates: {json.dumps(facts['leak'])}.\n"
    )
    print(
        "| model | accuracy (95 %) | macro-F1 (95 %) | AUROC | ECE, scaled | at threshold: share, precision | training s "
        "| CPU s of the job |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in scores.to_dict("records"):
        interval = "{:.4f} ({:.4f}-{:.4f})".format
        print(
            f"| {row['model']} | {interval(row['accuracy'], row['accuracy_low'], row['accuracy_high'])} "
            f"| {interval(row['macro_f1'], row['macro_f1_low'], row['macro_f1_high'])} | {row['auroc']:.4f} "
            f"| {row['ece']:.3f}, {row['ece_scaled']:.3f} | {row['share_classified']:.3f}, {row['precision_classified']:.3f} "
            f"| {row['train_seconds']:.0f} | {cpu_seconds(results, row['model']):.0f} |"
        )
    print(f"\n{json.loads((results / 'verdict.json').read_text())['sentence']}\n")
    for path in sorted(results.glob("curve/*.tsv")):
        for row in pd.read_csv(path, sep="\t").to_dict("records"):
            print(f"- {row['model']}, {row['n_train']:,} training reads: accuracy {row['accuracy']:.4f}")
    by_source = {name: json.loads((results / f"scores/{name}/summary.json").read_text()) for name in scores["model"]}
    print(f"\nAccuracy by source: {json.dumps({k: v.get('accuracy_by_source') for k, v in by_source.items()})}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default=",".join(STUDIES))
    options = parser.parse_args()
    print(f"# Read classifiers\n\n{date.today()}, 2 cores, no GPU. By `benchmarks/{Path(__file__).name}`.\n")
    for name in options.only.split(","):
        show(name, run(name, options.mirror, options.work))


if __name__ == "__main__":
    main()
