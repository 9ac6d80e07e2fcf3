"""Clusters whose resolution is chosen by evidence: Leiden over a grid, judged by separation and by stability.

Leiden: Traag, Waltman and van Eck 2019, Scientific Reports 9:5233. At every resolution, clusters that held-out cells
cannot tell apart are merged (:mod:`latentomics.cluster.separation`). Then cells are subsampled without replacement,
the neighbour graph is built anew on the subsample's latent coordinates, the whole procedure is repeated on it, and the
clusterings of each pair of subsamples are compared on their shared cells by the adjusted Rand index (Ben-Hur,
Elisseeff and Guyon 2002, Pac Symp Biocomput; Lange et al. 2004, Neural Computation 16:1299).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from latentomics.cluster.clusterings import Clustering, clusterings, subsample_clusterings
from latentomics.cluster.graph import Graph, neighbour_graph
from latentomics.cluster.threads import share
from latentomics.config.clusters import Clusters

NO_STRUCTURE = "no stable structure"
#: Up to this many observations Leiden iterates ten times, above twice, as is scanpy's and igraph's default; so it does in
#: their subsamples, whose agreement is to tell how stable the procedure is. Of 100,000 cells that takes a quarter of the
#: time and less than a hundredth of the modularity; the clusters differ no more from those of ten iterations (adjusted Rand
#: index of 0.93 to 0.99) than these do from each other with another seed (0.81 to 0.99; ``benchmarks/neighbours.md``).
ITERATED_UP_TO = 20_000


@dataclass(frozen=True)
class Selection:
    """Clusterings of every resolution and the evidence for the chosen one.

    Attributes
    ----------
    graph
        Neighbours of all observations.
    clusters
        Index: observation id; a column ``r{resolution}`` each, and ``cluster``; strings, "0" the largest.
    evidence
        One row per resolution: ``n_leiden`` and ``n_clusters`` (before and after merging), ``smallest_cluster``,
        ``stability`` (mean over pairs of subsamples, with ``stability_low`` and ``stability_high``: 5 % and 95 %),
        ``separation`` (smallest d' between clusters), ``stable``, ``chosen`` and a ``verdict`` in words.
    """

    graph: Graph
    clusters: pd.DataFrame
    evidence: pd.DataFrame


def select_clusters(
    latent: np.ndarray, index: pd.Index, params: Clusters, n_neighbors: int, seed: int, threads: int = 1
) -> Selection:
    """Find neighbours, cluster at every resolution, measure, and choose the finest stable clustering.

    Parameters
    ----------
    latent
        Observations x latent dimensions.
    index
        Observation ids.
    n_neighbors
        Of each observation in the graph, itself included.
    threads
        Processes that share the work; the result is the same. A process takes seconds to start: use one for small data.

    Notes
    -----
    The finest is the one with most clusters; among equals the most stable, then the lowest resolution. A clustering of
    one cluster is trivially stable and proves nothing: if no resolution gives two stable clusters, there is one.
    A pinned resolution is used as Leiden gives it, unmerged; its evidence stands beside the others'.
    Of large data all observations are clustered, and the evidence comes from subsamples of ``max_cells`` of them.
    """
    resolutions = sorted({*params.resolutions, *([params.resolution] if params.resolution else [])})
    subsamples = _subsamples(len(latent), params, seed)
    graph, whole, runs = _all_clusterings(latent, subsamples, resolutions, params, n_neighbors, seed, threads)
    columns, rows = {}, []
    for number, (resolution, found) in enumerate(zip(resolutions, whole, strict=True)):
        sizes = np.bincount(found.codes)
        agreement = _agreement(subsamples, [run[number].codes for run in runs], trivial=float(len(sizes) == 1))
        columns[f"r{resolution:g}"] = _names(found.codes)
        rows.append(
            {
                "resolution": resolution,
                "n_leiden": found.n_leiden,
                "n_clusters": len(sizes),
                "smallest_cluster": int(sizes.min()),
                "stability": float(np.mean(agreement)),
                "stability_low": float(np.quantile(agreement, 0.05)),
                "stability_high": float(np.quantile(agreement, 0.95)),
                "separation": found.separation,
                "stable": bool(len(sizes) > 1 and np.mean(agreement) >= params.min_stability),
            }
        )
    evidence = pd.DataFrame(rows)
    chosen, verdict = choose(evidence, params)
    evidence["chosen"] = evidence["resolution"] == chosen
    evidence["verdict"] = verdict
    table = pd.DataFrame(columns, index=index)
    table["cluster"] = table[f"r{chosen:g}"] if chosen is not None else "0"
    return Selection(graph, table, evidence)


def _names(codes: np.ndarray) -> np.ndarray:
    """Clusters as strings; the few names are shared by all cells."""
    return np.arange(codes.max() + 1).astype(str).astype(object)[codes]


def choose(evidence: pd.DataFrame, params: Clusters) -> tuple[float | None, str]:
    """The chosen resolution (None: none is stable) and the reason in words."""
    if params.resolution is not None:
        row = evidence[evidence["resolution"] == params.resolution].iloc[0]
        holds = "stable" if row["stable"] else "NOT stable"
        return params.resolution, (
            f"resolution {params.resolution:g} is pinned by the config: {row['n_clusters']} clusters, {holds} "
            f"(adjusted Rand index {row['stability']:.2f} between subsamples)"
        )
    stable = evidence[evidence["stable"]]
    if stable.empty:
        best = evidence["stability"].where(evidence["n_clusters"] > 1).max()
        why = (
            "at no resolution are two clusters separated"
            if np.isnan(best)
            else f"the best adjusted Rand index between subsamples is {best:.2f}, below {params.min_stability:g}"
        )
        return (
            None,
            f"{NO_STRUCTURE}: {why}; all cells stay in one cluster (`clusters.resolution` cuts it all the same)",
        )
    row = stable.sort_values(["n_clusters", "stability", "resolution"], ascending=[False, False, True]).iloc[0]
    return float(row["resolution"]), (
        f"resolution {row['resolution']:g} gives the most clusters ({row['n_clusters']}) that are stable (adjusted "
        f"Rand index {row['stability']:.2f} between subsamples, at least {params.min_stability:g} asked) and separated "
        f"(d' of at least {row['separation']:.1f})"
    )


def _all_clusterings(
    latent: np.ndarray,
    subsamples: list[np.ndarray],
    resolutions: list[float],
    params: Clusters,
    n_neighbors: int,
    seed: int,
    threads: int,
) -> tuple[Graph, list[Clustering], list[list[Clustering]]]:
    """Graph and clusterings of all observations, and the clusterings of each subsample; one per resolution each."""
    n_iterations = 10 if len(latent) <= ITERATED_UP_TO else 2
    # The search for the neighbours of all is one long task: what does not need it is done beside it.
    tasks = [partial(neighbour_graph, latent, n_neighbors, seed)]
    judged = (n_neighbors, resolutions, params, seed, n_iterations)
    tasks += [partial(subsample_clusterings, latent[rows], *judged) for rows in subsamples]
    graph, *runs = share(tasks, threads)
    del tasks  # and the coordinates of every subsample
    # Every process needs the graph of all: each takes an equal part of low and high resolutions.
    shares = [resolutions[start::threads] for start in range(threads)]
    of_all = [partial(clusterings, latent, graph.connectivities, part, params, seed, n_iterations) for part in shares]
    parts = zip(shares, share(of_all, threads), strict=True)
    whole = {resolution: one for some, found in parts for resolution, one in zip(some, found, strict=True)}
    return graph, [whole[resolution] for resolution in resolutions], runs


def _subsamples(n_obs: int, params: Clusters, seed: int) -> list[np.ndarray]:
    """Row numbers of each subsample, ascending; all drawn from the same base of at most ``max_cells``."""
    rng = np.random.default_rng(seed)
    base = np.arange(n_obs) if n_obs <= params.max_cells else rng.choice(n_obs, params.max_cells, replace=False)
    size = max(int(len(base) * params.fraction), min(len(base), 4))
    return [np.sort(rng.choice(base, size, replace=False)) for _ in range(params.n_resamples)]


def _agreement(subsamples: list[np.ndarray], runs: list[np.ndarray], trivial: float) -> list[float]:
    """Adjusted Rand index of each pair; two subsamples of one cluster each agree to the degree ``trivial``.

    By definition their index is 1, but it speaks against clusters that only the whole data show.
    """
    found = []
    for i, j in combinations(range(len(runs)), 2):
        _, a, b = np.intersect1d(subsamples[i], subsamples[j], assume_unique=True, return_indices=True)
        alike = runs[i].max() == 0 and runs[j].max() == 0
        found.append(trivial if alike else adjusted_rand_score(runs[i][a], runs[j][b]))
    return found
