"""Nearest neighbours and Leiden of large data: what is found, in how much time and memory.

The latent coordinates are the principal components of made cells (`benchmarks/made_cells.py`). Every search runs in a
process of its own, in one thread. The seconds of the descent (pynndescent) hold those in which it is compiled.

    .venv/bin/python benchmarks/neighbours.py MIRROR --work WORK --cells 20000 100000 1000000 > benchmarks/neighbours.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from made_cells import blocks, read_real
from scipy.sparse import csr_matrix, diags
from sklearn.metrics import adjusted_rand_score

from latentomics.cluster.exact import nearest_others, without_itself
from latentomics.cluster.graph import load_graph, neighbour_graph, save_graph
from latentomics.cluster.leiden import CellGraph
from latentomics.cluster.neighbours import EXACT_UP_TO, JUDGED, recall, through_graph
from latentomics.resources.peak import PeakMemory

SEED, K, COMPONENTS, GENES = 0, 15, 50, 2000
#: The exact searches, whose time grows with the square of the cells, are made up to here.
SLOW_UP_TO = 200_000
#: Leiden is iterated ten times, the long way, up to here.
ITERATED_UP_TO = 200_000


def latent_coordinates(mirror: Path, n_cells: int, file: Path) -> None:
    """Write so many made cells in the principal components of the real ones, (n_cells, COMPONENTS), float32."""
    if file.exists():
        return
    real = read_real(mirror)
    values = _normalised(real.counts, slice(None))
    mean = np.asarray(values.mean(axis=0)).ravel()
    variance = np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance)[:GENES])
    dense = values[:, genes].toarray()
    axes = np.linalg.svd(dense - dense.mean(axis=0), full_matrices=False)[2][:COMPONENTS].T
    made = [_normalised(block, genes) @ axes for block in blocks(real, n_cells, SEED, 0)]
    np.save(file, np.concatenate(made).astype(np.float32))


def _normalised(counts: csr_matrix, genes: Any) -> csr_matrix:
    totals = np.asarray(counts.sum(axis=1)).ravel()
    values = csr_matrix(diags(1e4 / totals) @ counts[:, genes])
    values.data = np.log1p(values.data)
    return values


def by_exact_search(latent: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=K - 1, algorithm="brute").fit(latent).kneighbors(return_distance=False)


def by_our_exact_search(latent: np.ndarray) -> np.ndarray:
    return nearest_others(latent, K - 1)


def by_graph(latent: np.ndarray) -> np.ndarray:
    indices, _ = through_graph(latent, K)
    return without_itself(np.arange(len(latent)), indices, indices)[0]


def by_descent(latent: np.ndarray) -> np.ndarray:
    from pynndescent import NNDescent

    # Lists of twice the length and 8 trees: as many neighbours, in less memory, as by the defaults.
    return NNDescent(latent, n_neighbors=2 * K, n_trees=8, random_state=SEED, n_jobs=1).neighbor_graph[0][:, 1:K]


def by_ivf(latent: np.ndarray) -> np.ndarray:
    import faiss

    coarse = faiss.IndexFlatL2(latent.shape[1])
    index = faiss.IndexIVFFlat(coarse, latent.shape[1], int(2 * np.sqrt(len(latent))))
    index.cp.seed, index.nprobe = SEED + 1, 16
    index.train(latent)
    index.add(latent)
    return index.search(latent, K)[1][:, 1:]


SEARCHES = {
    "exact (scikit-learn)": by_exact_search,
    "exact (the workflow's)": by_our_exact_search,
    "HNSW (faiss)": by_graph,
    "descent (pynndescent)": by_descent,
    "IVF (faiss)": by_ivf,
}
EXACT = (by_exact_search, by_our_exact_search)


def searched(name: str, file: Path) -> list[str]:
    """Recall, seconds on the wall and of CPU, memory; in a process of its own."""
    latent = np.load(file)
    watch, wall, cpu = PeakMemory(), time.perf_counter(), time.process_time()
    indices = SEARCHES[name](latent)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = watch.stop()
    found = recall(latent, np.asarray(indices), SEED)
    return [f"{found:.4f}", f"{wall:.0f}", f"{cpu:.0f}", f"{peak:,.0f}"]


def partitioned(file: Path, resolutions: list[float]) -> list[list[str]]:
    """Leiden of one graph, twice with two iterations and, where that can be afforded, with ten."""
    latent, saved = np.load(file), file.with_suffix(".graph.npz")
    if not saved.exists():
        save_graph(neighbour_graph(latent, K, SEED), saved)
    connectivities, rows = load_graph(saved)[1], []
    graph = CellGraph(connectivities)
    for resolution in resolutions:
        runs = [(10, SEED), (10, SEED + 1), (2, SEED), (2, SEED + 1)]
        runs = runs if len(latent) <= ITERATED_UP_TO else runs[2:]
        first = None
        for n_iterations, seed in runs:
            cpu = time.process_time()
            codes = graph.leiden(resolution, seed, n_iterations)
            cpu = time.process_time() - cpu
            first = codes if first is None else first
            same = "" if codes is first else f"{adjusted_rand_score(first, codes):.3f}"
            quality = modularity(connectivities, codes, resolution)
            rows.append(
                [
                    f"{resolution:g}",
                    str(n_iterations),
                    str(seed),
                    str(codes.max() + 1),
                    f"{quality:.4f}",
                    same,
                    f"{cpu:.1f}",
                ]
            )
    return rows


def modularity(connectivities: csr_matrix, codes: np.ndarray, resolution: float) -> float:
    """Share of the weights within clusters, less ``resolution`` times what chance gives: what Leiden maximises."""
    strength = np.asarray(connectivities.sum(axis=1, dtype=np.float64)).ravel()
    of_row = np.repeat(codes, np.diff(connectivities.indptr))
    within = connectivities.data[of_row == codes[connectivities.indices]].sum(dtype=np.float64)
    shares = np.bincount(codes, weights=strength) / strength.sum()
    return float(within / strength.sum() - resolution * (shares**2).sum())


def alone(function: Any, *arguments: Any) -> Any:
    """The result of a call in a new process, whose peak of memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def print_table(head: list[str], rows: list[list[str]]) -> None:
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--resolutions", type=float, nargs="*", default=[0.2, 1.0, 2.0])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    # Read by the libraries when the processes below start.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    files = {n: options.work / f"latent_{n}.npy" for n in options.cells}
    for n_cells, file in files.items():
        alone(latent_coordinates, options.mirror, n_cells, file)
    print(f"# Neighbours and Leiden of large data\n\n{date.today()}, 1 of {os.cpu_count()} {platform.machine()} cores.")
    print(f"By `benchmarks/{Path(__file__).name}`.\n\n## Nearest neighbours\n")
    print(
        f"{K - 1} nearest others in {COMPONENTS} principal components; recall on {JUDGED:,} cells. The workflow searches "
        f"exactly up to {EXACT_UP_TO:,} observations, by HNSW above. Time includes imports and what is compiled (descent: "
        "some 20 s), memory includes the coordinates and the interpreter.\n"
    )
    rows = [
        [f"{n_cells:,}", name, *alone(searched, name, file)]
        for n_cells, file in files.items()
        for name, search in SEARCHES.items()
        if (search not in EXACT or n_cells <= SLOW_UP_TO)
    ]
    print_table(["cells", "search", "recall", "wall, s", "CPU, s", "memory, MB"], rows)
    print(
        "\n## Iterations of Leiden\n\nAgreement (adjusted Rand index) is with the first row of the same cells and "
        "resolution.\n"
    )
    rows = [
        [f"{n_cells:,}", *row]
        for n_cells, file in files.items()
        for row in alone(partitioned, file, options.resolutions)
    ]
    print_table(["cells", "resolution", "iterations", "seed", "clusters", "modularity", "agreement", "CPU, s"], rows)


if __name__ == "__main__":
    main()
