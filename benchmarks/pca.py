"""PCA of a counts store, streamed and exact, against what others do with the matrix in memory.

    python benchmarks/pca.py STORE [--threads 2] > benchmarks/pca.md         # STORE: benchmarks/made_cells.py --store

Every way is a process of its own, for its peak of memory. Agreement with the exact components (eigendecomposition of the
covariance, in float64): the largest angle between the spaces that the 50 components span, and the largest relative error of
a variance. On a machine that is busy with something else, ``--threads 1 --clock cpu`` counts the time of the processor.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import subspace_angles

from latentomics.assays.normaliser import size_log
from latentomics.embed import pca, run
from latentomics.embed.data import EmbeddingData
from latentomics.features.hvg import select_features
from latentomics.io.store import CountsStore

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
N_COMPONENTS = 50


class Result(NamedTuple):
    seconds: float
    peak: float
    components: np.ndarray
    variances: np.ndarray


def streamed(data: EmbeddingData) -> tuple[np.ndarray, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        pca.fit(data, pca.Params(n_components=N_COMPONENTS), 0, 0, Path(folder))
        with np.load(Path(folder) / "pca.npz") as model:
            return model["components"], model["variances"]


def of_scikit_learn(solver: str, dense: bool) -> Callable[[EmbeddingData], tuple[np.ndarray, np.ndarray]]:
    def fitted(data: EmbeddingData) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.decomposition import PCA

        rows = data.normalised.toarray() if dense else data.normalised
        model = PCA(N_COMPONENTS, svd_solver=solver, random_state=0)
        model.fit_transform(rows)
        return model.components_, model.explained_variance_

    return fitted


def of_scanpy(data: EmbeddingData) -> tuple[np.ndarray, np.ndarray]:
    import anndata as ad
    import scanpy as sc

    adata = ad.AnnData(data.normalised)
    sc.pp.pca(adata, n_comps=N_COMPONENTS)
    return adata.varm["PCs"].T, adata.uns["pca"]["variance"]


WAYS: dict[str, Callable[[EmbeddingData], Any]] = {
    "ours: exact covariance, from disk": streamed,
    "ours: exact covariance, from memory": streamed,
    "scikit-learn, exact covariance, sparse": of_scikit_learn("covariance_eigh", dense=False),
    "scikit-learn, randomised, dense": of_scikit_learn("randomized", dense=True),
    "scanpy as it is (ARPACK, sparse)": of_scanpy,
}


def measured(name: str, path: Path, chosen: pd.DataFrame, clock: str) -> Result:
    """Time from the opened store to the scores, reading and normalising included."""
    run.MEMORY = 0 if name.endswith("disk") else np.inf
    store = CountsStore(path)
    normaliser = size_log(store.totals, None)
    began = CLOCKS[clock]()
    found = WAYS[name](run.load_data(store, chosen, normaliser, seed=0))
    seconds = CLOCKS[clock]() - began
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
    return Result(seconds, peak, *found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(given.threads)  # the processes started below obey it
    store = CountsStore(given.store)
    chosen = select_features(store, np.full(store.shape[0], "all"), given.genes, 0.3)
    print(f"# PCA of {store.shape[0]:,} cells x {given.genes:,} genes\n\n{date.today()}, ", end="")
    print(
        f"{os.cpu_count()} {platform.machine()} cores. By `benchmarks/{Path(__file__).name}`: {given.threads} threads, ",
        end="",
    )
    print(f"{given.clock} time, {N_COMPONENTS} components.\n")
    print("| way | seconds | peak memory, MB | largest angle, degrees | largest error of a variance |")
    print("|---|---|---|---|---|")
    exact: Result | None = None
    for name in WAYS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
            found = processes.submit(measured, name, given.store, chosen, given.clock).result()
        exact = exact or found
        angle = np.degrees(subspace_angles(exact.components.T, found.components.T.astype(float))[0])
        error = np.abs(found.variances / exact.variances - 1).max()
        print(f"| {name} | {found.seconds:.1f} | {found.peak:,.0f} | {angle:.2g} | {error:.1g} |", flush=True)


if __name__ == "__main__":
    main()
