"""Time and memory of the steps that read a counts store, each in a process of its own.

    python benchmarks/store_passes.py STORE WORK [--only features markers] > table.md

STORE is a counts store of any size (``made_cells.py`` writes one). Clusters, latent coordinates and layouts are made up: what
a step costs does not depend on what they say. Time of the processor is that of all threads; peak memory is what the kernel
says of the process. The steps use no more memory for more cells, but for the small tables that have a row per cell.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.assays import scrna
from latentomics.assays.normaliser import normalised_columns
from latentomics.cluster.markers import find_markers
from latentomics.config.markers import Markers
from latentomics.features.hvg import select_features
from latentomics.io.export import join_results, write_h5ad
from latentomics.io.store import CountsStore, batch_of
from latentomics.resources.peak import PeakMemory

N_CLUSTERS, N_LATENT, N_SELECTED, N_JUDGED, SEED = 24, 50, 2000, 5000, 0


def clusters(store: CountsStore) -> pd.Series:
    """Clusters of uneven sizes, the largest a sixth of the cells."""
    share = 0.85 ** np.arange(N_CLUSTERS)
    drawn = np.random.default_rng(SEED).choice(N_CLUSTERS, store.shape[0], p=share / share.sum())
    return pd.Series(drawn, index=store.obs.index, name="cluster")


def coordinates(store: CountsStore, names: list[str]) -> pd.DataFrame:
    values = np.random.default_rng(SEED).normal(size=(store.shape[0], len(names))).astype(np.float32)
    return pd.DataFrame(values, index=store.obs.index, columns=names)


def scan(store: CountsStore, work: Path) -> None:
    """Nothing but reading."""
    for _ in store.blocks():
        pass


def features(store: CountsStore, work: Path) -> None:
    select_features(store, batch_of(store.obs), N_SELECTED, 0.3)


def markers(store: CountsStore, work: Path) -> None:
    target = scrna.normaliser(store, scrna.DEFAULT_NORMALISATION).target_sum
    find_markers(store, clusters(store), Markers(), target, SEED)


def scored_values(store: CountsStore, work: Path) -> None:
    """What the scores and the report read of the store: chosen genes of drawn cells."""
    normaliser = scrna.normaliser(store, scrna.DEFAULT_NORMALISATION)
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.choice(store.shape[0], N_JUDGED, replace=False))
    genes = np.sort(rng.choice(store.shape[1], N_SELECTED, replace=False))
    normalised_columns(store, normaliser, rows, genes)


def final_file(store: CountsStore, work: Path) -> None:
    normaliser = scrna.normaliser(store, scrna.DEFAULT_NORMALISATION)
    chosen = np.arange(store.shape[1]) < N_SELECTED
    tables = {
        "embeddings": coordinates(store, [f"z{i}" for i in range(N_LATENT)]),
        "clusters": clusters(store).to_frame(),
        "layouts": coordinates(store, ["umap1", "umap2", "tsne1", "tsne2"]),
    }
    of_genes = pd.DataFrame({"selected": chosen}, index=store.var.index)
    joined = join_results(store, of_genes, {"pca": tables}, "pca", normaliser, SEED)
    write_h5ad(work / "final.h5ad", store, normaliser, *joined)
    print(f"final.h5ad: {(work / 'final.h5ad').stat().st_size / 1e9:.2f} GB", file=sys.stderr)


STEPS: dict[str, Callable[[CountsStore, Path], None]] = {
    step.__name__: step for step in (scan, features, markers, scored_values, final_file)
}


def measure(step: str, store: Path, work: Path) -> dict[str, float]:
    peak, wall, cpu = PeakMemory(), time.perf_counter(), time.process_time()
    STEPS[step](CountsStore(store), work)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak.stop()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("work", type=Path, help="folder for what is written")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.step:
        print(json.dumps(measure(given.step, given.store, given.work)))
        return
    store = CountsStore(given.store)
    print(f"{store.shape[0]:,} cells x {store.shape[1]:,} genes, {store.n_nonzero:,} entries\n")
    print("| step | wall (s) | processor (s) | peak memory (MB) |\n|---|---|---|---|", flush=True)
    for step in given.only:
        command = [sys.executable, __file__, str(given.store), str(given.work), "--step", step]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"| {step} | {found['wall']:.1f} | {found['cpu']:.1f} | {found['peak']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
