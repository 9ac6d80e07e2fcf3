"""Nearest neighbours in a latent space: exact in small data, in large data through a graph, where their recall is measured.

The graph is HNSW (Malkov and Yashunin 2020, IEEE Transactions on Pattern Analysis and Machine Intelligence 42:824) as faiss
has it. Of 100,000 made cells in 50 principal components it found 98 % of the neighbours in 27 s of one processor; the exact
search, whose time grows with the square of the cells, all in 22 s; the descent of pynndescent 96 % in 33 s, part of which it
compiles, with 500 MB more (``benchmarks/neighbours.md``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from latentomics.cluster.exact import in_double_precision, nearest_others, one_thread, pieces, without_itself

#: Up to this many observations neighbours are exact; above, they are searched in a graph: that takes less time from here on.
EXACT_UP_TO = 100_000
#: Links of an observation in the graph, and how many candidates are held when it is linked, and when neighbours are searched.
LINKS, BUILT_AMONG, SOUGHT_AMONG = 24, 60, 100
#: Observations whose exact neighbours are searched for the recall.
JUDGED = 1000


class Neighbours(NamedTuple):
    """Nearest others of every observation.

    Attributes
    ----------
    indices, distances
        By rising distance, (observations, k - 1); distances (Euclidean) in float32.
    recall
        Share of the true neighbours that are among them, 0 to 1.
    """

    indices: np.ndarray
    distances: np.ndarray
    recall: float


def nearest(latent: np.ndarray, k: int, seed: int) -> Neighbours:
    """The k - 1 nearest others of each observation.

    Parameters
    ----------
    latent
        Observations x latent dimensions, float32.
    k
        Neighbours, itself included.
    seed
        Of the draw of :data:`JUDGED` observations on which the recall of the approximate search is measured.

    Notes
    -----
    The graph is built in one thread: with more, it would depend on which of them is first.
    """
    latent = np.ascontiguousarray(latent, dtype=np.float32)
    if len(latent) <= EXACT_UP_TO:
        return Neighbours(*_by_distance(latent, nearest_others(latent, k - 1)), 1.0)
    rows = np.arange(len(latent))
    indices, distances = through_graph(latent, k)
    indices, distances = without_itself(rows, indices, indices, distances)
    return Neighbours(indices, distances, recall(latent, indices, seed))


def _by_distance(latent: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same neighbours of each observation by rising distance, equal ones by their row; and the distances, float32."""
    indices = np.sort(indices, axis=1)
    distances = np.empty(indices.shape, dtype=np.float32)
    for block in pieces(np.arange(len(latent)), indices.shape[1] * latent.shape[1]):
        # In double precision, and by differences: of duplicates exactly 0.
        apart = latent[indices[block]].astype(np.float64) - latent[block, None]
        squares = np.einsum("ijk,ijk->ij", apart, apart)
        order = squares.argsort(axis=1, kind="stable")
        indices[block] = np.take_along_axis(indices[block], order, axis=1)
        distances[block] = np.sqrt(np.take_along_axis(squares, order, axis=1))
    return indices, distances


def through_graph(latent: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest to each observation, itself included, by rising distance: indices and distances, (observations, k)."""
    import faiss

    with one_thread():
        index = faiss.IndexHNSWFlat(latent.shape[1], LINKS)
        index.hnsw.efConstruction, index.hnsw.efSearch = BUILT_AMONG, max(SOUGHT_AMONG, k)
        index.add(latent)
        squares, found = index.search(latent, k)
    distances, indices = np.sqrt(squares), found.astype(np.int32)
    del index, squares, found
    # From among many duplicates, which are linked to each other only, the search finds too few.
    lost = np.flatnonzero((indices < 0).any(axis=1))
    if lost.size:
        _, near = in_double_precision(latent, latent[lost], k)
        # By differences, as the graph has them: of duplicates exactly 0.
        apart = np.linalg.norm(latent[near] - latent[lost, None], axis=2)
        order = apart.argsort(axis=1, kind="stable")
        indices[lost], distances[lost] = (np.take_along_axis(part, order, axis=1) for part in (near, apart))
    return indices, distances


def recall(latent: np.ndarray, indices: np.ndarray, seed: int) -> float:
    """Share of the true nearest others that ``indices`` holds, on a random draw of observations.

    Parameters
    ----------
    indices
        Supposed nearest others of every observation, (observations, k - 1).
    """
    rows = np.random.default_rng(seed).choice(len(latent), min(JUDGED, len(latent)), replace=False)
    _, near = in_double_precision(latent, latent[rows], indices.shape[1] + 1)
    (true,) = without_itself(rows, near, near)
    return float((indices[rows, :, None] == true[:, None, :]).any(axis=1).mean())
