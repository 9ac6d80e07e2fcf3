"""Kill a run on real data with ``kill -9`` while scVI trains, start it again, and compare with an undisturbed run.

export LATENTOMICS_MIRROR=/path/to/mirror   # or leave it out: then the files come from their public source
.venv/bin/python benchmarks/resume.py sc_mixology --work WORK > benchmarks/resume.md
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

ROOT = Path(__file__).resolve().parents[1]
#: What may differ between two runs: times, paths, and the page that shows both.
TIMED = {"benchmarks", "logs", "costs.tsv", "report.html", ".checked.json"}
#: scvi-tools keeps more in this file than the weights; the weights are compared instead.
MODEL = "scrna/models/scvi/model.pt"


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--directory", str(folder)]


def fetch(name: str, folder: Path) -> None:
    fetcher = [sys.executable, "-m", "latentomics.io.datasets", name, "--to", str(folder)]
    subprocess.run(fetcher, check=True, stdout=sys.stderr)


def run(folder: Path) -> float:
    started = time.monotonic()
    subprocess.run(command(folder), cwd=ROOT, check=True, stdout=sys.stderr)
    return time.monotonic() - started


def kill_during_scvi(folder: Path) -> float:
    """Seconds after which the run and all its jobs were killed."""
    started = time.monotonic()
    head = subprocess.Popen(command(folder), cwd=ROOT, stdout=sys.stderr, start_new_session=True)
    log = folder / "results/logs/scrna/embed/scvi.log"
    while not log.exists():
        if head.poll() is not None:
            raise SystemExit("the run ended before scVI started")
        time.sleep(0.2)
    time.sleep(20)
    if (folder / "results/scrna/embeddings/scvi.parquet").exists():
        raise SystemExit("scVI was faster than the kill")
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    return time.monotonic() - started


def hashes(folder: Path) -> dict[str, str]:
    results, found = folder / "results", {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results)
        if path.is_file() and not TIMED & set(name.parts):
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
    whole = run(undisturbed)
    until = kill_during_scvi(killed)
    rest = run(killed)
    one, two = hashes(undisturbed), hashes(killed)
    different = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    same, n_tensors = same_weights(undisturbed, killed)
    print(f"# A killed run\n\n{date.today()}, {options.name}. By `benchmarks/{Path(__file__).name}`.\n")
    print(f"- Undisturbed: {whole:.0f} s. Killed with -9 after {until:.0f} s, while scVI trained.")
    print(f"- The same command again: {rest:.0f} s to the end.")
    print(f"- {len(one)} result files; different bytes: {', '.join(different) or 'none'}.")
    print(f"- The {n_tensors} tensors of the scVI model are {'equal' if same else 'NOT EQUAL'}.")
    if set(different) - {MODEL} or not same:
        raise SystemExit("the resumed run differs")


if __name__ == "__main__":
    main()
