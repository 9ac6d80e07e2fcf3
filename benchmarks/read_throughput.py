"""Reads per second of the read classifiers, beside a plain PyTorch loop on the same model, and the memory of 13 million reads.

    python benchmarks/read_throughput.py MIRROR --work FOLDER [--millions 13] > benchmarks/read_throughput.md

The plain loop is what notebooks do: reads as strings, one-hot vectors made one by one in Python, a `DataLoader`, the layers
of the model as PyTorch has them (no table of k-mers), both strands averaged in training (or one of them: second row).
Everything runs in this order on the same machine, ``--repeats`` times in turn; medians are shown.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.config.classifier import Classifier
from latentomics.config.training_sheet import TrainingRow
from latentomics.reads.bases import decode
from latentomics.reads.loader import Loader
from latentomics.reads.models.registry import MODELS, model
from latentomics.reads.prepare import prepare
from latentomics.reads.sources import LabelledReads, Tally, labelled_reads
from latentomics.reads.store import TRAIN, ReadStore

THREADS = 2
BATCH = 512


def real_store(mirror: Path, folder: Path) -> tuple[ReadStore, float]:
    """75 bp reads of 15 genomes, and the reads per second of drawing and encoding them."""
    table = pd.read_csv(mirror / "kmcp_15genomes/taxonomy.tsv", sep="\t")
    found = {path.name.split(".fa")[0].split(".fna")[0]: path for path in (mirror / "kmcp_15genomes/refs").iterdir()}
    rows = [
        TrainingRow(i, found[row.id], "genome", row.genus, row.species) for i, row in enumerate(table.itertuples(), 2)
    ]
    settings, tally = Classifier(training="training.tsv"), Tally()
    started = time.monotonic()
    prepare(labelled_reads(rows, settings, 0, tally), settings, 0, folder, tally)
    store = ReadStore(folder)
    return store, len(store) / (time.monotonic() - started)


def steps(network, batches: Callable, seconds: float) -> float:
    """Reads per second of training, forward, backward and the optimiser's step."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    done, started = 0, None
    for i, (codes, lengths, labels) in enumerate(batches()):
        if i == 3:  # warm
            started, done = time.monotonic(), 0
        loss = cross_entropy(network(codes, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += len(labels)
        if started and time.monotonic() - started > seconds:
            break
    return done / (time.monotonic() - (started or 0))


def plain_batches(store: ReadStore, rows: np.ndarray):
    """One-hot vectors made read by read."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    texts = decode(store.codes(rows))
    labels = store.labels[rows].astype(int).tolist()
    place = {"A": 0, "C": 1, "G": 2, "T": 3}

    class Reads(Dataset):
        def __len__(self) -> int:
            return len(texts)

        def __getitem__(self, i: int):
            onehot = torch.zeros(4, store.width)
            for position, base in enumerate(texts[i]):
                if base in place:
                    onehot[place[base], position] = 1
            return onehot, len(texts[i]), labels[i]

    return lambda: iter(DataLoader(Reads(), batch_size=BATCH, shuffle=True))


class Plain:
    """The layers as they stand, without the table of k-mers; both strands in training, or one."""

    def __init__(self, network, both: bool):
        self.network, self.both = network, both

    def parameters(self):
        return self.network.parameters()

    def train(self) -> None:
        self.network.train()

    def __call__(self, onehot, lengths):
        from latentomics.reads.models.strands import inside

        mask = inside(lengths, onehot.shape[2])
        return self.network.from_onehot(onehot, mask) if self.both else self.network.network(onehot, mask)


def training(name: str, store: ReadStore, seconds: float) -> dict[str, float]:
    import torch

    from latentomics.reads.models import layers
    from latentomics.reads.models.strands import BothStrands

    rows = store.rows(TRAIN)[:50_000]

    def fresh():
        torch.manual_seed(0)
        return BothStrands(model(name).build(model(name).Params(), len(store.classes)))

    found = {"this": steps(fresh(), lambda: iter(Loader(store, rows, BATCH, 0)), seconds)}
    is_plain = layers.KmerFeatures._is_plain
    layers.KmerFeatures._is_plain = lambda self, onehot: False
    try:
        for label, both in (("plain, both strands", True), ("plain, one strand", False)):
            found[label] = steps(Plain(fresh(), both), plain_batches(store, rows), seconds)
    finally:
        layers.KmerFeatures._is_plain = is_plain
    return found


def prediction(name: str, store: ReadStore, seconds: float) -> float:
    import torch

    from latentomics.reads.models.strands import BothStrands

    network = BothStrands(model(name).build(model(name).Params(), len(store.classes))).eval()
    done, started = 0, time.monotonic()
    with torch.inference_mode():
        for codes, lengths, _ in Loader(store, store.rows(TRAIN), BATCH):
            network(codes, lengths)
            done += len(codes)
            if time.monotonic() - started > seconds:
                break
    return done / (time.monotonic() - started)


def many(n: int, folder: Path) -> None:
    """Encode n random reads of 60 to 90 bases in five classes, each one of a kind; run as a process of its own."""

    def chunks():
        rng = np.random.default_rng(0)
        for start in range(0, n, 65536):
            size = min(65536, n - start)
            lengths = rng.integers(60, 91, size)
            codes = rng.integers(0, 4, (size, 90), dtype=np.uint8)
            codes[np.arange(90) >= lengths[:, None]] = 5
            labels = np.array([f"class {i}" for i in range(5)], dtype=object)[rng.integers(0, 5, size)]
            yield LabelledReads(codes, lengths, labels, np.full(size, "source", dtype=object), None)

    settings = Classifier(training="training.tsv", max_length=90)
    prepare(chunks(), settings, 0, folder, Tally())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def anonymous_peak(process: subprocess.Popen) -> float:
    """Largest anonymous resident memory of a process, MB: without the mapped files, which the system may drop."""
    peak = 0.0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        peak = max([peak, *(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))])
        time.sleep(0.2)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--millions", type=float, default=13)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.many:
        return many(options.many, options.work)
    import torch

    torch.set_num_threads(THREADS)
    options.work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(options.work / "real", ignore_errors=True)
    store, encoded = real_store(options.mirror, options.work / "real")
    print(
        f"# Throughput of the read classifiers\n\n{date.today()}, {os.cpu_count()} {platform.machine()} cores, no GPU. "
    )
    print(f"By `benchmarks/{Path(__file__).name}`. {len(store):,} reads of 75 bases, batches of {BATCH}.\n")
    print(f"Drawing from genomes, encoding, removing duplicates, splitting: {encoded:,.0f} reads/s.\n")
    rounds = [{name: training(name, store, options.seconds) for name in MODELS} for _ in range(options.repeats)]
    print("| model | training, reads/s | plain, both strands | plain, one strand | ratios | prediction, reads/s |")
    print("|---|---|---|---|---|---|")
    for name in MODELS:
        median = {key: statistics.median(r[name][key] for r in rounds) for key in rounds[0][name]}
        ours = median.pop("this")
        ratios = " and ".join(
            f"{statistics.median(r[name]['this'] / r[name][key] for r in rounds):.1f}" for key in median
        )
        speed = prediction(name, store, options.seconds)
        print(
            f"| {name} | {ours:,.0f} | {' | '.join(f'{v:,.0f}' for v in median.values())} | {ratios} | {speed:,.0f} |"
        )
    if options.millions:
        folder = options.work / "many"
        shutil.rmtree(folder, ignore_errors=True)
        n = round(options.millions * 1e6)
        started = time.monotonic()
        command = [sys.executable, __file__, str(options.mirror), "--work", str(folder), "--many", str(n)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peak = anonymous_peak(process)
        if process.returncode:
            raise SystemExit("encoding failed")
        seconds, size = time.monotonic() - started, sum(f.stat().st_size for f in folder.iterdir()) / 1e9
        print(
            f"\n{n:,} reads of 60 to 90 bases: {seconds:.0f} s to encode, divide and look for near-duplicates "
            f"({n / seconds:,.0f} reads/s), {peak:.0f} MB of memory at most, {size:.3f} GB on disk."
        )


if __name__ == "__main__":
    main()
