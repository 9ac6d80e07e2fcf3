"""How good and how fast the pictures of many cells are: the libraries' own schedules against a start from landmarks.

    python benchmarks/layouts.py EMBEDDING [--cells 20001 50000 100000 ...] [--own-up-to 100000] > benchmarks/layouts.md

EMBEDDING is a table that the workflow wrote (``results/scrna/embeddings/pca.parquet``); cells are drawn from it without
replacement. Each picture is drawn in a process of its own, whose peak memory is stated. ``--alternatives N`` adds the
schedules that were tried on N cells. On a machine that is busy with something else, ``--clock cpu`` counts the time of the
processor in place of that on the wall.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from latentomics.cluster import layouts
from latentomics.cluster.graph import Graph, load_graph, neighbour_graph, save_graph
from latentomics.cluster.landmarks import draw_landmarks, spread_positions
from latentomics.config.layouts import Layouts
from latentomics.resources.peak import PeakMemory

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
STEPS = ("neighbour_graph", "spread_positions", "_umap", "_tsne", "_tsne_of_landmarks", "_refined_tsne")
#: Neighbours that a picture should keep, and the cells of which that is asked.
NEIGHBOURS, ASKED = 15, 1_000
SEED = 0

MEASURES = f"""\
Of {ASKED:,} cells, against all: *trustworthiness* (Venna and Kaski 2001) falls below 1 as far as the {NEIGHBOURS} nearest cells
of the picture are strangers in the latent space; *neighbours kept* is the share of the {NEIGHBOURS} nearest cells of the latent
space that are among the {NEIGHBOURS} nearest of the picture; *distances* is Spearman's correlation of their distances
in the picture with those in the latent space."""


def quality(latent: np.ndarray, picture: np.ndarray) -> dict[str, float]:
    """Trustworthiness, neighbours kept and correlation of distances, of a sample of the cells against all."""
    n_cells = len(latent)
    rows = np.random.default_rng(SEED).choice(n_cells, min(ASKED, n_cells), replace=False)
    found = KDTree(picture).query(picture[rows], NEIGHBOURS + 1)[1]
    norms = (latent**2).sum(axis=1)
    penalty = kept = 0
    for row, drawn in zip(rows, found, strict=True):
        distances = norms - 2 * latent @ latent[row]
        distances[row] = -np.inf
        last = np.partition(distances, NEIGHBOURS)[NEIGHBOURS]
        to_drawn = distances[drawn[drawn != row][:NEIGHBOURS]]
        kept += int((to_drawn <= last).sum())
        # The cell itself is among the nearer ones, so that their number is the rank.
        penalty += sum(int((distances < d).sum()) - NEIGHBOURS for d in to_drawn[to_drawn > last])
    worst = len(rows) * NEIGHBOURS * (2 * n_cells - 3 * NEIGHBOURS - 1) / 2
    return {
        "trustworthiness": 1 - penalty / worst,
        "neighbours kept": kept / (len(rows) * NEIGHBOURS),
        "distances": spearmanr(pdist(latent[rows]), pdist(picture[rows])).statistic,
    }


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def draw(latent: np.ndarray, graph_file: Path, large: int, threads: int, clock: str) -> dict[str, Any]:
    """Both pictures, seconds of every step, seconds and peak memory (GB) of the whole."""
    memory, now, steps = PeakMemory(), CLOCKS[clock], []

    def timed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            started = now()
            result = step(*arguments, **named)
            steps.append((name.strip("_"), now() - started))
            return result

        return run

    started = now()
    with patch.multiple(layouts, LARGE=large, **{name: timed(name, getattr(layouts, name)) for name in STEPS}):
        index = pd.RangeIndex(len(latent))
        table = layouts.layout_table(latent, load_graph(graph_file), index, Layouts(), SEED, threads)
    return {"table": table, "steps": steps, "seconds": now() - started, "peak": memory.stop() / 1024}


def make_graph(latent: np.ndarray, file: Path) -> None:
    save_graph(neighbour_graph(latent, NEIGHBOURS, SEED), file)


def compared(latent: np.ndarray, sizes: list[int], work: Path, options: argparse.Namespace) -> None:
    """Print the table of both ways at every size, and that of the steps."""
    rows, steps = [], []
    for n_cells in sizes:
        drawn = sample(latent, n_cells)
        file = work / f"graph_{n_cells}.npz"
        if not file.exists():
            alone(make_graph, drawn, file)
        ways = {"from landmarks": 0} | ({"libraries' own": sys.maxsize} if n_cells <= options.own_up_to else {})
        for way, large in ways.items():
            result = alone(draw, drawn, file, large, options.threads, options.clock)
            print(n_cells, way, result["steps"], file=sys.stderr, flush=True)
            common = {"cells": f"{n_cells:,}", "way": way}
            steps.append(common | numbered(result["steps"]))
            for kind in ("umap", "tsne"):
                found = quality(drawn, result["table"][[f"{kind}1", f"{kind}2"]].to_numpy(float))
                rows.append(common | {"picture": kind} | {k: f"{v:.3f}" for k, v in found.items()})
            rows[-2] |= {"s, both": f"{result['seconds']:.0f}", "peak GB": f"{result['peak']:.1f}"}
    print_table(rows)
    print(f"\n## Seconds of each step ({options.clock})\n")
    print_table(steps)


def numbered(steps: list[tuple[str, float]]) -> dict[str, str]:
    """Seconds per step; a step that comes again (first the landmarks, then all) gets a column of its own."""
    result: dict[str, str] = {}
    for name, seconds in steps:
        title = f"{name} again" if name in result else name
        result[title] = f"{float(result.get(title, 0)) + seconds:.1f}"
    return result


def alternatives(latent: np.ndarray, work: Path, options: argparse.Namespace) -> None:
    """Print what other starts and schedules come to, on cells and on walks."""
    n_cells = options.alternatives
    print(f"\n## What else was tried, {n_cells:,} cells\n")
    print(
        "Seconds without those of the landmarks. *graph* stands for the weights of the graph as affinities, *equal* for equal "
        "weights, *room* for the factor by which the landmarks' t-SNE is widened. *walks* are 12 curves that wind through ten "
        "dimensions, which no two straight axes can show.\n"
    )
    rows = []
    for name, drawn in {"cells": sample(latent, n_cells), "walks": walks(n_cells)}.items():
        file = work / f"graph_{name}_{n_cells}.npz"
        if not file.exists():
            alone(make_graph, drawn, file)
        rows += [{"data": name} | row for row in alone(tried, drawn, file, options.clock, options.threads)]
    print_table(rows)


def walks(n_cells: int) -> np.ndarray:
    """Cells along 12 random walks of 40 steps that start at one place, ten dimensions."""
    rng = np.random.default_rng(SEED)
    turns = np.cumsum(rng.normal(size=(12, 41, 10)), axis=1)
    turns -= turns[:, :1]
    walk, place = rng.integers(0, 12, n_cells), rng.uniform(0, 40, n_cells)
    step, part = place.astype(int), (place % 1)[:, None]
    on_walk = turns[walk, step] * (1 - part) + turns[walk, step + 1] * part
    return (on_walk + rng.normal(scale=0.35, size=on_walk.shape)).astype(np.float32)


def tried(latent: np.ndarray, graph_file: Path, clock: str, threads: int) -> list[dict[str, str]]:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PrecomputedAffinities

    graph, now, params = load_graph(graph_file), CLOCKS[clock], Layouts()
    connectivities = graph[1]
    equal = connectivities.copy()
    equal.data[:] = 1
    n_cells, rows = len(latent), []

    def refined(start: np.ndarray, weights: csr_matrix, iterations: int, exaggeration: float) -> np.ndarray:
        affinities = PrecomputedAffinities(weights.astype(np.float64))
        embedding = TSNEEmbedding(start.astype(np.float64), affinities, negative_gradient_method="fft", n_jobs=threads)
        return np.asarray(embedding.optimize(n_iter=iterations, exaggeration=exaggeration))

    def add(kind: str, start: str, schedule: str, step: Callable[[], np.ndarray]) -> None:
        started = now()
        picture = step()
        facts = {"picture": kind, "start": start, "schedule": schedule, "s": f"{now() - started:.0f}"}
        rows.append(facts | {k: f"{v:.3f}" for k, v in quality(latent, picture).items()})
        print(rows[-1], file=sys.stderr, flush=True)

    for epochs in (50, 200):
        add(
            "umap",
            "first two axes",
            f"{epochs} epochs",
            partial(layouts._umap, latent, graph, params, SEED, "pca", epochs),
        )
    for n_landmarks in (n_cells // 100, n_cells // 10):
        umap, tsne, room = starts(latent, graph, params, n_landmarks)
        name = f"{n_landmarks:,} landmarks"
        add("umap", name, "0 epochs", partial(np.asarray, umap))
        for epochs in (30, 50, 100):
            add("umap", name, f"{epochs} epochs", partial(layouts._umap, latent, graph, params, SEED, umap, epochs))
        add("tsne", name, "0 iterations", partial(np.asarray, tsne))
        for factor, weights, title, iterations, exaggeration in (
            (room, connectivities, "graph", 50, 1),
            (room, connectivities, "graph", 100, 1),
            (room, connectivities, "graph", 200, 1),
            (1, connectivities, "graph", 100, 1),
            (room**2, connectivities, "graph", 100, 1),
            (room, connectivities, "graph", 100, 4),
            (room, equal, "equal", 100, 1),
        ):
            schedule = f"{iterations} iterations, exaggeration {exaggeration}, {title}, room {factor:.1f}"
            add("tsne", name, schedule, partial(refined, factor * tsne / room, weights, iterations, exaggeration))
        schedule = f"the workflow's: {layouts.COARSE_ITERATIONS} iterations on a coarse grid, {layouts.FINE_ITERATIONS} on a fine"
        add("tsne", name, schedule, partial(layouts._refined_tsne, tsne, connectivities, threads))
    return rows


def starts(latent: np.ndarray, graph: Graph, params: Layouts, n_landmarks: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Where all cells start from so many landmarks, UMAP and t-SNE, and how far the latter was widened."""
    rows = draw_landmarks(len(latent), n_landmarks, SEED)
    near = neighbour_graph(latent[rows], NEIGHBOURS, SEED)
    drawn = (
        layouts.umap_layout(latent[rows], near, params, SEED),
        layouts._tsne_of_landmarks(latent[rows], params, SEED),
    )
    umap, tsne = (spread_positions(points, rows, latent, graph.connectivities, SEED) for points in drawn)
    room = (len(latent) / n_landmarks) ** layouts.ROOM
    return umap, room * tsne, room


def sample(latent: np.ndarray, n_cells: int) -> np.ndarray:
    rows = np.random.default_rng(SEED).choice(len(latent), n_cells, replace=False)
    return np.ascontiguousarray(latent[np.sort(rows)], dtype=np.float32)


def print_table(rows: list[dict[str, str]]) -> None:
    print(pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embedding", type=Path)
    parser.add_argument("--cells", type=int, nargs="*", default=[20_001, 50_000, 100_000])
    parser.add_argument(
        "--own-up-to", type=int, default=100_000, help="most cells that the libraries' own way is given"
    )
    parser.add_argument("--alternatives", type=int, default=0, help="cells on which other schedules are compared")
    parser.add_argument("--work", type=Path, default=Path("layouts_work"), help="folder that keeps the graphs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    latent = pd.read_parquet(options.embedding).to_numpy(np.float32)
    print("# Pictures of many cells\n")
    print(
        f"{date.today()}, {platform.machine()}, {options.threads} thread(s), {options.clock} time, {latent.shape[1]} latent "
        "dimensions. By `layouts.py`.\n"
    )
    print(MEASURES + "\n")
    if options.cells:
        compared(latent, options.cells, options.work, options)
    if options.alternatives:
        alternatives(latent, options.work, options)


if __name__ == "__main__":
    main()
