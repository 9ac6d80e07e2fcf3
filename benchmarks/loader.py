"""Training scVI from the store on disk against training on counts in memory: held-out ELBO, speed, memory.

    python benchmarks/loader.py MIRROR WORK [--cells 20000] [--seeds 5] [--threads 2] > benchmarks/loader.md

Made cells (`benchmarks/made_cells.py`), in a store twice: in the order they were drawn in, and sorted along the first
principal component, so that neighbours on disk are neighbours in expression too. Speed and memory are of pools and runs of
rows as they are; so few cells are one pool. To see what the order does, they are also cut smaller: as many pools to a pass,
as many runs to a pool, as 1.3 million cells have. (Such small runs are slow to read, so the speed of those is not shown.)
The last row is a training that is shuffled too little: sorted cells, a single run to a pool.

Every way is a process of its own, for its peak of memory. On a machine that is busy with something else,
``--threads 1 --clock cpu`` counts the time of the processor, of both of the training's threads, in place of that on the wall.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from made_cells import read_real, write_store

from latentomics.assays.normaliser import size_log
from latentomics.embed import pca, run, stored
from latentomics.embed import scvi as method
from latentomics.embed.data import EmbeddingData
from latentomics.features.hvg import select_features
from latentomics.io.store import CountsStore, CountsWriter

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
#: What the settings below are scaled from: a million cells and more, and the molecules of some 850 genes in each.
MILLION, ENTRIES = 1_300_000, 850


class Way(NamedTuple):
    """How cells are fed: from which store, from disk or from memory, and in how many pools of how many runs (as it is)."""

    name: str
    store: str
    from_disk: bool = True
    pools: int | None = None
    runs: int = 0


class Result(NamedTuple):
    elbo: float
    seconds: float
    peak: float


def load(path: Path, way: Way) -> EmbeddingData:
    store = CountsStore(path)
    run.MEMORY = 0 if way.from_disk else np.inf
    if way.pools is not None:
        stored.POOL = -(-store.n_nonzero * 8 // way.pools)
        stored.RUN = max(store.shape[0] // (way.pools * way.runs), 1)
    features = pd.read_parquet(path.with_suffix(".parquet"))
    return run.load_data(store, features, size_log(store.totals, None), seed=0)


def train(path: Path, way: Way, params: method.Params, seed: int, threads: int, clock: str) -> Result:
    """Lowest held-out loss, time of an epoch, peak memory (MB) of one training."""
    importlib.import_module("latentomics.embed.likelihood.stored")  # is not what is timed
    data = load(path, way)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        began = CLOCKS[clock]()
        fit = method.fit(data, params, seed, threads, Path(folder))
        seconds = CLOCKS[clock]() - began
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
    return Result(fit.summary["held_out_loss"], seconds / len(fit.history), peak)


def make_stores(mirror: Path, work: Path, n_cells: int, n_genes: int) -> None:
    """``drawn.zarr`` and ``sorted.zarr`` with the features of each; what is there is kept."""
    work.mkdir(parents=True, exist_ok=True)
    drawn, ordered = work / "drawn.zarr", work / "sorted.zarr"
    if not ordered.with_suffix(".parquet").exists():
        write_store(read_real(mirror), drawn, n_cells)
        store = CountsStore(drawn)
        features = select_features(store, np.full(n_cells, "all"), n_genes, 0.3)
        features.to_parquet(drawn.with_suffix(".parquet"))
        data = load(drawn, Way("", "drawn", from_disk=False))
        with tempfile.TemporaryDirectory() as folder:
            order = pca.fit(data, pca.Params(n_components=2), 0, 2, Path(folder)).latent[:, 0].argsort()
        counts = store.select()[order]
        writer = CountsWriter(ordered, *counts.shape, counts.nnz)
        writer.append(counts)
        writer.close(store.obs.iloc[order], store.var)
        features.to_parquet(ordered.with_suffix(".parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    given = parser.parse_args()
    make_stores(given.mirror, given.work, given.cells, given.genes)
    pools = -(-MILLION * ENTRIES * 8 // stored.POOL)
    runs = MILLION // pools // stored.RUN
    ways = [
        Way("memory", "drawn", from_disk=False),
        Way("disk", "drawn"),
        Way("disk, cut like 1.3 million", "drawn", True, pools, runs),
        Way("memory, sorted cells", "sorted", from_disk=False),
        Way("disk, sorted cells, cut like 1.3 million", "sorted", True, pools, runs),
        Way("disk, sorted cells, one run to a pool", "sorted", True, pools, 1),
    ]
    params = method.Params(
        max_epochs=given.epochs, min_steps=1, batch_size=given.batch, kl_warmup_epochs=given.epochs // 2
    )
    rows = []
    for way in ways:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
            found = [
                processes.submit(
                    train, given.work / f"{way.store}.zarr", way, params, seed, given.threads, given.clock
                ).result()
                for seed in range(given.seeds)
            ]
        elbo = [result.elbo for result in found]
        rows.append((way, elbo, statistics.median(r.seconds for r in found), max(r.peak for r in found)))
    trained = given.cells - round(given.cells * run.HELD_OUT)
    print("# Training from the store on disk\n")
    print(
        f"{date.today()}, {os.cpu_count()} {platform.machine()} cores, no GPU. By `benchmarks/{Path(__file__).name}`: ",
        end="",
    )
    print(
        f"{given.cells:,} cells x {given.genes:,} genes, {given.epochs} epochs, minibatches of {given.batch}, ", end=""
    )
    print(
        f"{given.threads} threads, {given.clock} time, {given.seeds} seeds. A pass is {pools} pools of {runs} runs.\n"
    )
    print(
        "| cells from | held-out negative ELBO, mean | sd over seeds | cells/s | speed, of that in memory | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|")
    for way, elbo, seconds, peak in rows:
        spread = statistics.stdev(elbo) if len(elbo) > 1 else float("nan")
        speed = f"{trained / seconds:,.0f} | {rows[0][2] / seconds:.2f}" if way.pools is None else "|"
        print(f"| {way.name} | {statistics.mean(elbo):.2f} | {spread:.2f} | {speed} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
