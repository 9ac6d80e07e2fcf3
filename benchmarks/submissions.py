"""How many Slurm jobs a study submits, with and without groups, and what it costs to build its DAG.

Counted in what Snakemake's own dry run prints with `--profile slurm`; no cluster is asked. Studies of many samples whose
rows all name the same small files: only names differ.

.venv/bin/python benchmarks/submissions.py --work WORK > benchmarks/submissions.md
"""

from __future__ import annotations

import argparse
import gzip
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
#: What is counted: name, sheet rows of which assay, and what the config says beyond the samples.
STUDIES: dict[str, tuple[str, dict]] = {
    "cells": ("scrna", {}),
    "cells, ambient: decontx": ("scrna", {"ambient": {"method": "decontx"}}),
    "metagenomes, sourmash": ("metagenome", {"profile": {"databases": "config/databases.tsv"}}),
}
SIZES = (500, 5000)
#: A group of jobs, and a job that is in none: those of a group are indented.
_GROUP = re.compile(r"^\[.*\] Group job (\S+) ", re.MULTILINE)
_JOB = re.compile(r"^Job \d+: ", re.MULTILINE)
_ANY_JOB = re.compile(r"^ *Job \d+: ", re.MULTILINE)


def submissions(said: str) -> tuple[int, Counter[str]]:
    """Jobs and submissions in what a dry run prints.

    Returns
    -------
    jobs, submitted
        Jobs that are not local; submissions by name of group, those of jobs in no group under ``alone``.
    """
    submitted = Counter(_GROUP.findall(said))
    submitted["alone"] = len(_JOB.findall(said))
    return len(_ANY_JOB.findall(said)), submitted


def dry_run(folder: Path, *arguments: str) -> tuple[str, float]:
    """What a dry run on a study with the Slurm profile prints, and the processor's time that it took in seconds.

    Raises
    ------
    RuntimeError
        The dry run failed.
    """
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--directory", str(folder), "--dry-run"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, *arguments], cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-5000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout + done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_study(folder: Path, assay: str, n: int, config: dict) -> None:
    """A study of ``n`` samples of an assay, enough for a dry run."""
    (folder / "config/genomes").mkdir(parents=True, exist_ok=True)
    files = {
        "raw/matrix.mtx": b"%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1\n",
        "raw/barcodes.tsv": b"ACGTACGT-1\n",
        "raw/genes.tsv": b"ENSG00000000001\tA\n",
        "reads.fastq.gz": gzip.compress(b"@read\nACGTACGT\n+\nIIIIIIII\n", mtime=0),
        "genomes/one.fa.gz": gzip.compress(b">one\nACGTACGT\n", mtime=0),
        "lineages.tsv": b"genome\tlineage\none\td__B;p__B;c__B;o__B;f__B;g__B;s__B b\n",
        "databases.tsv": b"name\tprofiler\tpath\tlineages\tparameters\none\tsourmash\tgenomes\tlineages.tsv\t\n",
    }
    for name, content in files.items():
        (folder / "config" / name).parent.mkdir(exist_ok=True)
        (folder / "config" / name).write_bytes(content)
    path = {"scrna": "raw", "metagenome": "reads.fastq.gz"}[assay]
    rows = ["sample\tassay\tpath", *(f"s{i:04d}\t{assay}\t{path}" for i in range(n))]
    (folder / "config/samples.tsv").write_text("\n".join(rows) + "\n")
    (folder / "config/config.yaml").write_text(yaml.safe_dump({"samples": "config/samples.tsv", **config}))


def table(work: Path) -> str:
    """Every study in every size, as a table in Markdown."""
    lines = [
        "| study | samples | jobs = submissions without groups | submissions with groups | of these alone | "
        "dry run without / with groups (CPU s) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, (assay, config) in STUDIES.items():
        for n in SIZES:
            folder = work / f"{re.sub(r'[^a-z]+', '-', name)}-{n}"
            write_study(folder, assay, n, config)
            said, with_groups = dry_run(folder)
            jobs, submitted = submissions(said)
            alone, without = dry_run(folder, "--groups", "none=none")
            if submissions(alone) != (jobs, Counter(alone=jobs)):
                raise RuntimeError(f"{name}: groups were not turned off")
            times = f"{without:.1f} / {with_groups:.1f}"
            counts = f"{jobs:,} | {submitted.total():,} | {submitted['alone']}"
            lines.append(f"| {name} | {n:,} | {counts} | {times} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    print(table(parser.parse_args().work))
