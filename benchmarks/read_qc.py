"""Read QC on simulated pairs: memory at two sizes, and speed against cutadapt's own command line on one core.

.venv/bin/python benchmarks/read_qc.py --work WORK > benchmarks/read_qc.md
"""

from __future__ import annotations

import argparse
import filecmp
import gzip
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

# What measures stays small: a process begins with the peak memory of the one that started it. So NumPy and the package
# are imported only by the processes that are measured, or that prepare.
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

READS = (100_000, 2_000_000)
LENGTH = 150
#: Adapters as the simulation writes them; longer than what is cut.
WRITTEN = (
    "AGATCGGAAGAGCACACGTCTGAACTCCAGTCACCGATTCGATCTCGTATGCCGTCTTCTGCTTG",
    "AGATCGGAAGAGCGTCGTGTAGGGAAAGAGTGTAGATCTCGGTGGTCGCCGTATCATT",
)
CUT = ("AGATCGGAAGAGCACACGTCTGAACTCCAGTCA", "AGATCGGAAGAGCGTCGTGTAGGGAAAGAGTGT")
BARE = {"adapters": [CUT[0]], "adapters_2": [CUT[1]], "poly_g": False, "min_complexity": None}
MINE = ("reads_1.fastq.gz", "reads_2.fastq.gz")
SETTINGS = {
    "trimming only": BARE,
    "defaults": {},
    "defaults, copies dropped": {"deduplicate": True},
    "defaults, host by k-mers": {"hosts": ["kmers.fa"]},
    "defaults, host by minimap2": {"hosts": ["minimap2.fa"]},
}


def prepare(work: Path, tools: list[str]) -> None:
    """Genomes, their indexes and all reads."""
    import numpy as np

    from latentomics.metagenome.host import build_index

    rng = np.random.default_rng(1)
    genomes = [rng.integers(0, 4, size) for size in (5_000_000, 20_000_000)]
    for tool in tools:
        fasta = work / f"{tool}.fa"
        fasta.write_bytes(b">host\n" + np.frombuffer(b"ACGT", np.uint8)[genomes[1]].tobytes() + b"\n")
        build_index(fasta, work / f"{tool}.index", tool)
    for n in READS:
        simulate(n // 2, [work / f"{n}_{m}.fastq.gz" for m in (1, 2)], genomes)


def simulate(n_pairs: int, files: list[Path], genomes: list) -> None:
    """Pairs of 150 bases, one in ten of the second genome (the host); falling qualities, errors that follow them."""
    import numpy as np
    from xopen import xopen

    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", np.uint8)
    adapters = [np.frombuffer(a.ljust(LENGTH, "A").encode(), np.uint8) for a in WRITTEN]
    along = np.arange(LENGTH)
    with xopen(files[0], "wb", threads=0) as one, xopen(files[1], "wb", threads=0) as two:
        for done in range(0, n_pairs, 10_000):
            n = min(10_000, n_pairs - done)
            inserts = rng.normal(230, 70, n).clip(30, 500).astype(int)
            host = rng.random(n) < 0.1
            starts = rng.integers(0, min(map(len, genomes)) - 700, n)
            for mate, stream in enumerate((one, two)):
                places = starts[:, None] + (along if mate == 0 else (inserts - 1)[:, None] - along)
                codes = np.where(host[:, None], genomes[1][places], genomes[0][places])
                bases = letters[codes if mate == 0 else 3 - codes]
                behind = along - inserts[:, None]
                bases = np.where(behind >= 0, adapters[mate][behind.clip(0)], bases)
                fall = rng.random((n, 1)) ** 4 * 40 * along / LENGTH
                quality = (42 - fall + rng.normal(0, 2, (n, LENGTH))).clip(2, 40).astype(np.int16)
                wrong = rng.random((n, LENGTH)) < 10.0 ** (-quality / 10)
                bases = np.where(wrong, letters[rng.integers(0, 4, (n, LENGTH))], bases)
                text = (quality + 33).astype(np.uint8)
                rows = ((done + i, mate + 1, bases[i].tobytes(), text[i].tobytes()) for i in range(n))
                stream.write(b"".join(b"@r%d/%d\n%b\n+\n%b\n" % row for row in rows))


def run_clean(name: str, work: Path, n: int) -> None:
    """One run, in a process of its own (so that its peak memory is its own)."""
    from latentomics.config.reads import Reads, host_names
    from latentomics.config.row import InputRow
    from latentomics.metagenome.read_qc import clean

    params = Reads(**SETTINGS[name])
    row = InputRow(0, "s", "metagenome", work / f"{n}_1.fastq.gz", "fastq", work / f"{n}_2.fastq.gz")
    hosts = {host: work / f"{host}.index" for host in host_names(params.hosts)}
    print(clean([row], params, ROOT / "resources/adapters.tsv", hosts, work / "reads").steps.to_string())


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory (MB) of a command and the processes it waits for."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {command}")
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--one", nargs=2, metavar=("SETTING", "READS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    work = given.work.resolve()
    tools = [tool for tool in ("kmers", "minimap2") if tool == "kmers" or shutil.which(tool)]
    if given.one:
        name, n = given.one
        prepare(work, tools) if name == "prepare" else run_clean(name, work, int(n))
        return
    work.mkdir(parents=True, exist_ok=True)
    itself = [sys.executable, __file__, "--work", str(work), "--one"]
    subprocess.run([*itself, "prepare", "0"], check=True, stdout=sys.stderr)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("# Read QC\n")
    print(f"{date.today()}, one core of {os.cpu_count()} ({platform.machine()}), shared with other work: compare CPU")
    print(
        f"seconds, not wall seconds. cutadapt {version('cutadapt')}. Pairs of {LENGTH} bases, one in ten of a host of"
    )
    print("20 Mb. By `read_qc.py`.\n")
    print("| run | reads | wall s | CPU s | reads per CPU s | peak memory MB |\n|---|--:|--:|--:|--:|--:|")
    same = []
    for n in READS:
        files = [work / f"{n}_{m}.fastq.gz" for m in (1, 2)]
        outputs = [work / f"cutadapt_{m}.fastq.gz" for m in (1, 2)]
        bare = ["-j", "1", "--quiet", "-q", "20", "-m", "35", "-a", CUT[0], "-A", CUT[1]]
        commands = {"cutadapt's command line": [sys.executable, "-m", "cutadapt", *bare]}
        commands["cutadapt's command line"] += ["-o", str(outputs[0]), "-p", str(outputs[1]), *map(str, files)]
        for name, setting in SETTINGS.items():
            if all(host.stem in tools for host in map(Path, setting.get("hosts", []))):
                commands[name] = [*itself, name, str(n)]
        for name, command in commands.items():
            wall, cpu, memory = measure(command)
            print(f"| {name} | {n} | {wall:.1f} | {cpu:.1f} | {n / cpu:.0f} | {memory:.0f} |", flush=True)
            if name == "trimming only":
                same += [alike(mine, theirs) for mine, theirs in zip(MINE, outputs, strict=True)]
    print(f"\nTrimming only gives {'the very' if all(same) else 'NOT the'} reads that cutadapt's command line gives.")
    print(
        "Memory with copies dropped grows by the digests of the pairs kept; minimap2's own process is not in its row."
    )


def alike(mine: str, theirs: Path) -> bool:
    """Whether two gzip files hold the same text."""
    ours = theirs.parent / "reads" / mine
    if filecmp.cmp(ours, theirs, shallow=False):
        return True
    with gzip.open(ours) as one, gzip.open(theirs) as two:
        return all(a == b for a, b in zip(one, two, strict=True))


if __name__ == "__main__":
    main()
