"""Exact nearest neighbours, in single precision wherever that is proven to be enough.

Single precision halves what the search has to move, and faiss keeps the nearest in less time than scikit-learn: of 30,000
points 149 neighbours each in half the time, of 16,000 points 14 neighbours in half the time too (``benchmarks/neighbours.md``).
"""

from __future__ import annotations

import numpy as np

#: Points, at least, whose neighbours are searched at a time, which bounds what the answers in 64 bits hold. Of 4,096 and fewer
#: at a time faiss 1.15 takes three times as long to find 150 neighbours.
BLOCK_ROWS = 1 << 13
#: Of single precision.
ROUNDOFF = 2.0**-24


def nearest_others(points: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k others that are nearest to each point (Euclidean), in no particular order.

    Parameters
    ----------
    points
        (points, dimensions).
    k
        Below the number of points. Which of several others at the same distance count among the last is arbitrary.

    Returns
    -------
    numpy.ndarray
        int32, (points, k).

    Notes
    -----
    Squared distances are computed as ``|x|^2 + |y|^2 - 2 x.y`` in single precision (unit roundoff u, d dimensions, centred
    points). By the standard bound on inner products (Higham 2002, Accuracy and Stability of Numerical Algorithms, section
    3.1) the result is within ``e = (d + 8) u (|x| + |y|)^2`` of the truth. If the gap behind the k-th nearest is wider than 2e
    for the farthest y that matters, ``|y| <= |x| + r`` with r the distance beyond the gap, no other point can be nearer than
    these k. Where it is not (near ties, duplicates), the point's neighbours are searched in double precision.
    """
    import faiss

    exact = points - points.mean(axis=0, dtype=np.float64)
    single = np.ascontiguousarray(exact, dtype=np.float32)
    n_points, n_dimensions = single.shape
    index = faiss.IndexFlatL2(n_dimensions)
    index.add(single)
    found = np.empty((n_points, k), dtype=np.int32)
    undecided = np.zeros(n_points, dtype=bool)
    for rows in np.array_split(np.arange(n_points), max(1, n_points // BLOCK_ROWS)):
        # Itself, the k others, and the one beyond the gap, if there are so many points.
        squares, near = index.search(single[rows], min(k + 2, n_points))
        seen = (near == rows[:, None]).any(axis=1)
        squares, near = without_itself(rows, near, squares, near)
        found[rows] = near[:, :k]
        if near.shape[1] > k:
            beyond = squares[:, k].astype(np.float64)
            reach = 2 * np.linalg.norm(exact[rows], axis=1) + np.sqrt(beyond)
            error = (n_dimensions + 8) * ROUNDOFF * reach**2
            undecided[rows] = ~(seen & (beyond - squares[:, k - 1] > 2 * error))
    left = np.flatnonzero(undecided)
    if left.size:
        _, near = in_double_precision(exact, exact[left], k + 1)
        (found[left],) = without_itself(left, near, near)
    return found


def in_double_precision(points: np.ndarray, sought: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows of the k points that are nearest to each of those sought, by rising distance, (sought, k)."""
    from sklearn.neighbors import NearestNeighbors

    points, sought = points.astype(np.float64, copy=False), sought.astype(np.float64, copy=False)
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors(sought)


def without_itself(rows: np.ndarray, near: np.ndarray, *parts: np.ndarray) -> tuple[np.ndarray, ...]:
    """What was found near some points, less the points themselves: the parts, with one column less; the order stays.

    A point is usually the first near itself; among exact duplicates it may stand elsewhere, or have been pushed out: then
    the last is left out.

    Parameters
    ----------
    rows
        The points, (points,).
    near
        Rows that were found near each, (points, found).
    parts
        Something of each that was found, (points, found).
    """
    itself = near == rows[:, None]
    itself[~itself.any(axis=1), -1] = True
    return tuple(part[~itself].reshape(len(rows), -1) for part in parts)
