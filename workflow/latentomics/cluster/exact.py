"""Exact nearest neighbours, in single precision wherever that is proven to be enough.

That takes about half the time of scikit-learn's search in double precision (``benchmarks/neighbours.md``), and none of the 140 MB
of scikit-learn, unless many points are duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

#: Points, at least, whose neighbours are searched at a time, which bounds what the answers in 64 bits hold. Of 4,096 and fewer
#: at a time faiss 1.15 takes three times as long to find 150 neighbours.
BLOCK_ROWS = 1 << 13
#: Of single precision.
ROUNDOFF = 2.0**-24
#: Candidates beyond those sought, where single precision does not tell which these are.
MORE = 32
#: Coordinates of neighbours that are looked at at a time (16 MB).
BLOCK_NUMBERS = 1 << 21


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
    these k. Where it is not (near ties), more candidates are taken, and their distances are computed in double precision: they
    hold the k nearest if the k-th is nearer by e than the last candidate. What is left (many duplicates) is found by brute
    force in double precision.
    """
    exact = points - points.mean(axis=0, dtype=np.float64)
    search = _Search(exact)
    found = np.empty((len(points), k), dtype=np.int32)
    left = np.zeros(len(points), dtype=bool)
    for rows in np.array_split(np.arange(len(points)), max(1, len(points) // BLOCK_ROWS)):
        # Beyond the k others one more, if there are so many.
        near, squares, error = search.candidates(rows, k + 1)
        found[rows] = near[:, :k]
        if near.shape[1] > k:
            left[rows] = ~(squares[:, k] - squares[:, k - 1] > 2 * error)
    for rows in pieces(np.flatnonzero(left), (k + MORE) * points.shape[1]):
        near, squares, error = search.candidates(rows, k + MORE)
        apart = exact[near] - exact[rows, None]
        true = np.einsum("ijk,ijk->ij", apart, apart)
        order = true.argsort(axis=1, kind="stable")[:, :k]
        found[rows] = np.take_along_axis(near, order, axis=1)
        left[rows] = ~(np.take_along_axis(true, order[:, -1:], axis=1)[:, 0] < squares[:, -1] - error)
    rows = np.flatnonzero(left)
    if rows.size:
        _, near = in_double_precision(exact, exact[rows], k + 1)
        (found[rows],) = without_itself(rows, near, near)
    return found


def pieces(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Rows, in pieces of which each needs about :data:`BLOCK_NUMBERS` numbers, if a row needs ``width``."""
    n_rows = max(1, BLOCK_NUMBERS // width)
    for start in range(0, len(rows), n_rows):
        yield rows[start : start + n_rows]


class _Search:
    """Search among some points in single precision, (points, dimensions), centred."""

    def __init__(self, points: np.ndarray):
        import faiss

        self._single = np.ascontiguousarray(points, dtype=np.float32)
        self._lengths = np.linalg.norm(points, axis=1)
        self._index = faiss.IndexFlatL2(points.shape[1])
        self._index.add(self._single)

    def candidates(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k nearest others of some points, or all, by rising distance; squared distances; how far these may be wrong.

        That is by ``error``, (rows,), at points as far as the last, and NaN where the point itself was not among those found.
        """
        n_points, n_dimensions = self._single.shape
        with one_thread():
            squares, near = self._index.search(self._single[rows], min(k + 1, n_points))
        seen = (near == rows[:, None]).any(axis=1)
        squares, near = without_itself(rows, near, squares.astype(np.float64), near)
        reach = 2 * self._lengths[rows] + np.sqrt(squares[:, -1])
        return near, squares, np.where(seen, (n_dimensions + 8) * ROUNDOFF * reach**2, np.nan)


@contextmanager
def one_thread() -> Iterator[None]:
    """Faiss with one thread: work is shared among processes, and it comes with threads of its own that others do not limit."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


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
