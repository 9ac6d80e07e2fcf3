"""Kill a run with ``kill -9``, start it again until it ends, and compare with an undisturbed run.

Of real cells while scVI trains; of the demo's metagenomes (``demo``) during read QC, profiling and the VAE's training; of
read classifiers of ten genera (``reads``) while the CNN trains, on two threads.

export LATENTOMICS_MIRROR=/path/to/mirror   # or leave it out: then the files come from their public source
.venv/bin/python benchmarks/resume.py sc_mixology --work WORK >> benchmarks/resume.md
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
from read_classifiers import write_study

ROOT = Path(__file__).resolve().parents[1]
#: What may differ between two runs: times, paths, and the page that shows both.
TIMED = {"benchmarks", "logs", "usage", "costs.tsv", "resources.tsv", "report.html", ".checked.json"}
#: Of read classifiers, times stand beside the figures: their weights, their predictions and the tables of these are compared.
TIMED_OF_READS = {"model.json", "history.tsv", "summary.json", "scores.tsv"}
#: scvi-tools keeps more in this file than the weights; the weights are compared instead.
MODEL = "scrna/models/scvi/model.pt"
#: Where runs are killed: when this log was there, so many seconds later, and what must not be finished by then.
KILLS = {
    "cells": [("scrna/embed/scvi.log", 20, "scrna/embeddings/scvi.parquet")],
    "demo": [
        ("metagenome_reads/gut09.log", 0, "metagenome/samples/gut09/reads.tsv"),
        ("metagenome_profile/gut20.log", 0.5, "metagenome/samples/gut20/profile.parquet"),
        ("metagenome/embed/vae.log", 6, "metagenome/embeddings/vae.parquet"),
    ],
    "reads": [("reads/train/cnn.log", 14, "reads/models/cnn/model.json")],
}


def command(name: str, folder: Path) -> list[str]:
    own = ["--configfile", str(ROOT / "config/demo.yaml")] if name == "demo" else []
    return [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--directory", str(folder), *own]


def fetch(name: str, folder: Path) -> None:
    if name == "reads":
        drawn = {"reads_per_class": 6000, "length_mean": 75.0}
        mirror = Path(os.environ["LATENTOMICS_MIRROR"])
        write_study("genus", mirror, folder, drawn=drawn, fit={"max_epochs": 4, "min_steps": 1}, attributed_reads=0)
        return
    if name == "demo":
        tool = ["latentomics.simulate", str(folder / "data/demo"), "--assay", "metagenome"]
    else:
        tool = ["latentomics.io.datasets", name, "--to", str(folder)]
    subprocess.run([sys.executable, "-m", *tool], check=True, stdout=sys.stderr)


def run(name: str, folder: Path) -> float:
    started = time.monotonic()
    subprocess.run(command(name, folder), cwd=ROOT, check=True, stdout=sys.stderr)
    return time.monotonic() - started


def kill(name: str, folder: Path, log: str, delay: float, unfinished: str) -> float:
    """Kill the run and all its jobs some seconds after a log appeared; returns the seconds that it ran."""
    started = time.monotonic()
    head = subprocess.Popen(command(name, folder), cwd=ROOT, stdout=sys.stderr, start_new_session=True)
    while not (folder / "results/logs" / log).exists():
        if head.poll() is not None:
            raise SystemExit(f"the run ended before {log} was there")
        time.sleep(0.2)
    time.sleep(delay)
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    if (folder / "results" / unfinished).exists():
        raise SystemExit(f"{unfinished} was faster than the kill")
    return time.monotonic() - started


def hashes(folder: Path, timed: set[str]) -> dict[str, str]:
    results, found = folder / "results", {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results)
        if path.is_file() and not timed & set(name.parts):
            content = path.read_bytes().replace(str(folder).encode(), b"STUDY")
            found[str(name)] = hashlib.sha256(content).hexdigest()
    return found


def same_weights(one: Path, two: Path) -> tuple[bool, int]:
    # Both files were written by the runs above: nothing foreign is unpickled.
    states = [
        torch.load(f / "results" / MODEL, weights_only=False, map_location="cpu")["model_state_dict"]
        for f in (one, two)
    ]
    tensors = [{k: v for k, v in state.items() if isinstance(v, torch.Tensor)} for state in states]
    same = tensors[0].keys() == tensors[1].keys() and all(torch.equal(v, tensors[1][k]) for k, v in tensors[0].items())
    return same, len(tensors[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="sc_mixology")
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    undisturbed, killed = ((options.work / kind).absolute() for kind in ("undisturbed", "killed"))
    for folder in (undisturbed, killed):
        fetch(options.name, folder)
    whole = run(options.name, undisturbed)
    kills = KILLS.get(options.name, KILLS["cells"])
    until = [kill(options.name, killed, *where) for where in kills]
    rest = run(options.name, killed)
    timed = TIMED | (TIMED_OF_READS if options.name == "reads" else set())
    one, two = hashes(undisturbed, timed), hashes(killed, timed)
    different = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    print(f"## {options.name}\n\n{date.today()}, by `benchmarks/{Path(__file__).name} {options.name}`.\n")
    print(f"- Undisturbed: {whole:.0f} s.")
    for seconds, (log, *_) in zip(until, kills, strict=True):
        print(f"- Killed with -9 after {seconds:.0f} s, while `{log.removesuffix('.log')}` ran.")
    print(f"- The same command again: {rest:.0f} s to the end.")
    print(f"- {len(one)} result files; different bytes: {', '.join(different) or 'none'}.")
    same = True
    if MODEL in one:
        same, n_tensors = same_weights(undisturbed, killed)
        print(f"- The {n_tensors} tensors of the scVI model are {'equal' if same else 'NOT EQUAL'}.")
    if set(different) - {MODEL} or not same:
        raise SystemExit("the resumed run differs")


if __name__ == "__main__":
    main()
