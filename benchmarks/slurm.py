"""What Slurm costs a study that one machine could run: the demo, locally and through ``--profile slurm``.

On a private Slurm on this machine (tests/fixtures/slurm_cluster.py: two nodes that share the machine's cores), with the
pauses of the shipped profile, in the same minutes. Needs root and slurmctld.

.venv/bin/python benchmarks/slurm.py --work WORK > benchmarks/slurm.md
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/fixtures"), str(ROOT / "workflow")]

from same_results import differences  # noqa: E402
from slurm_cluster import Cluster, missing  # noqa: E402
from study import Study  # noqa: E402

#: Cases: name, and what follows ``snakemake``. Without groups, every job of a rule is a job of Slurm's.
CASES = {
    "local, --cores 2": ["--cores", "2"],
    "--profile slurm": ["--profile", "slurm"],
    "--profile slurm, no groups": ["--profile", "slurm", "--groups", "none=none"],
}


def run(folder: Path, arguments: list[str]) -> tuple[float, str]:
    """Wall time in seconds of a run of the demo in a folder, and what it said."""
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "data/demo"
    subprocess.run([sys.executable, "-m", "latentomics.simulate", str(data)], check=True, stdout=sys.stderr)
    command = [
        sys.executable, "-m", "snakemake", *arguments, "--directory", str(folder),
        "--configfile", str(ROOT / "config/demo.yaml"),
    ]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    taken = time.monotonic() - start
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return taken, done.stdout + done.stderr


def used(folder: Path) -> tuple[float, float]:
    """CPU seconds of a run's scripts, and seconds that they ran, one after the other."""
    ends = [
        json.loads(line)
        for path in (folder / "results/usage").rglob("*.jsonl")
        for line in path.read_text().splitlines()
        if json.loads(line)["event"] == "end"
    ]
    return sum(end["cpu_seconds"] for end in ends), sum(end["seconds"] for end in ends)


def waited(cluster: Cluster, ids: set[str]) -> float:
    """Seconds that these jobs were in the queue before they ran, on average."""
    shown = [cluster.show(job) for job in ids]
    pairs = [(datetime.fromisoformat(job["SubmitTime"]), datetime.fromisoformat(job["StartTime"])) for job in shown]
    return sum((start - submit).total_seconds() for submit, start in pairs) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--short", action="store_true", help="leave out the run without groups")
    given = parser.parse_args()
    work, cases = given.work.resolve(), list(CASES.items())[: 2 if given.short else 3]
    if why := missing():
        raise SystemExit(why)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    cluster = Cluster(folder, cores=16)
    rows, seen = [], set()
    try:
        cluster.start()
        for number, (name, arguments) in enumerate(cases):
            taken, _ = run(work / str(number), arguments)
            cpu, busy = used(work / str(number))
            jobs = {job["JOBID"]: job for job in cluster.jobs() if job["JOBID"] not in seen}
            seen |= set(jobs)
            partitions = Counter(job["PARTITION"] for job in jobs.values())
            differ = differences(Study(work / "0"), Study(work / str(number)))
            rows.append(
                [name, f"{taken:.0f}", f"{cpu:.0f}", f"{busy:.0f}", str(len(jobs) or "-")]
                + ([f"{partitions['gpu']}", f"{waited(cluster, set(jobs)):.0f}"] if jobs else ["-", "-"])
                + ["-" if not number else ", ".join(differ) or "none"]
            )
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    header = [
        "run",
        "wall, s",
        "CPU of scripts, s",
        "scripts, s",
        "Slurm jobs",
        "on gpu",
        "waited in queue, s",
        "files that differ",
    ]
    print(f"# The demo, locally and through Slurm\n\n{date.today()}, {os.cpu_count()} cores. `benchmarks/slurm.py`.\n")
    print("\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]))


if __name__ == "__main__":
    main()
