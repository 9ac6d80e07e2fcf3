"""How well two clusters can be told apart, and the merging of those that cannot.

Leiden cuts a featureless cloud into as many pieces as its resolution asks for. Whether a cut follows a gap is judged
on cells that did not choose the axis: half of each cluster's cells fix Fisher's linear discriminant, the other half is
projected on it, and the distance of the two means is taken in units of the standard deviation within clusters (d').

A cut through the middle of a single Gaussian cloud gives d' = 2.65 (the two halves of a normal density lie
2 sqrt(2/pi) apart, with a standard deviation of sqrt(1 - 2/pi) each); one that cuts off a tail less, or little more
(2.9 for the outermost 0.6 %, 3.4 for one cell in a thousand). So only larger values speak for two populations;
d' = 4.65 means that one cell in a hundred is on the wrong side.

Merging what a classifier cannot tell apart follows SCCAF (Miao et al. 2020, Nature Methods 17:621).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Pairs of clusters that are judged at a time: bounds the memory of their covariances.
BLOCK_PAIRS = 256
#: Clusters that each is compared with before all are: of thousands, most are far from each other.
NEAREST = 100
#: A half of a cluster with fewer cells than this cannot be judged; such a cluster joins its nearest.
MIN_HALF = 3


class Halves:
    """Sufficient statistics of every cluster in two random halves: sizes, means and scatter matrices.

    Merging two clusters adds them up, so that no merge needs the cells again.

    Parameters
    ----------
    latent
        Cells x dimensions.
    code
        Cluster of each cell, 0 to k - 1.
    """

    def __init__(self, latent: np.ndarray, code: np.ndarray, seed: int):
        k, width = int(code.max()) + 1, latent.shape[1]
        rng = np.random.default_rng(seed)
        self.size = np.zeros((2, k))
        self.mean = np.zeros((2, k, width))
        self.scatter = np.zeros((2, k, width, width))
        for level in range(k):
            rows = rng.permutation(np.flatnonzero(code == level))
            for half in (0, 1):
                cells = latent[rows[half::2]].astype(np.float64)
                self.size[half, level] = len(cells)
                if len(cells):
                    self.mean[half, level] = cells.mean(axis=0)
                    centred = cells - self.mean[half, level]
                    self.scatter[half, level] = centred.T @ centred

    def separation(self, a: int, b: int) -> float:
        """d' of two clusters, mean over both roles of the halves; NaN if a half is too small."""
        return float(self.separations(np.array([a]), np.array([b]))[0])

    def separations(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """d' of each pair of clusters a[i] and b[i], (pairs,)."""
        found = np.full(len(a), np.nan)
        known = np.flatnonzero(np.minimum(self.size[:, a], self.size[:, b]).min(axis=0) >= MIN_HALF)
        for start in range(0, len(known), BLOCK_PAIRS):
            block = known[start : start + BLOCK_PAIRS]
            judged = [self._judged(fit, a[block], b[block]) for fit in (0, 1)]
            found[block] = np.mean(judged, axis=0)
        return found

    def _judged(self, fit: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """d' on one half of each pair, along the discriminant of the other half ``fit``."""
        judge = 1 - fit
        axis = self._discriminants(fit, a, b)
        gap = np.vecdot(axis, self.mean[judge, b] - self.mean[judge, a])
        scatter = self.scatter[judge, a] + self.scatter[judge, b]
        variance = np.vecdot(np.matmul(axis[:, None], scatter)[:, 0], axis)
        return gap / np.sqrt(variance / (self.size[judge, a] + self.size[judge, b]) + 1e-300)

    def _discriminants(self, half: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Axis of Fisher's discriminant of each pair, (pairs, dimensions)."""
        n, width = (self.size[half, a] + self.size[half, b])[:, None, None], self.mean.shape[2]
        within = (self.scatter[half, a] + self.scatter[half, b]) / n
        # Shrink towards a sphere: with few cells per dimension the sample covariance cannot be inverted.
        weight = width / (width + n)
        trace = np.trace(within, axis1=1, axis2=2)[:, None, None]
        within = (1 - weight) * within + (weight * trace / width + 1e-12) * np.eye(width)
        return np.linalg.solve(within, (self.mean[half, b] - self.mean[half, a])[:, :, None])[:, :, 0]

    def nearest(self, level: int, others: np.ndarray) -> np.ndarray:
        """``others`` by rising distance of their centroids from that of ``level``."""
        centroids = self._centroids(np.append(others, level))
        return others[np.linalg.norm(centroids[:-1] - centroids[-1], axis=1).argsort(kind="stable")]

    def _centroids(self, levels: np.ndarray) -> np.ndarray:
        size = self.size[:, levels]
        return (size[:, :, None] * self.mean[:, levels]).sum(axis=0) / size.sum(axis=0)[:, None]

    def merge(self, a: int, b: int) -> None:
        """Add cluster ``b`` to cluster ``a``; ``b`` is empty afterwards."""
        for half in (0, 1):
            n_a, n_b = self.size[half, [a, b]]
            if n_b:
                gap = self.mean[half, b] - self.mean[half, a]
                total = n_a + n_b
                self.mean[half, a] = (n_a * self.mean[half, a] + n_b * self.mean[half, b]) / total
                self.scatter[half, a] += self.scatter[half, b] + np.outer(gap, gap) * (n_a * n_b / total)
                self.size[half, a] = total
                self.size[half, b] = 0


def merge_unseparated(
    latent: np.ndarray, code: np.ndarray, min_separation: float, seed: int
) -> tuple[np.ndarray, float]:
    """Merge the least separated pair of clusters until every pair is separated.

    Parameters
    ----------
    latent
        Cells x dimensions.
    code
        Cluster of each cell, 0 to k - 1.
    min_separation
        Pairs with a smaller d' are merged; at 0, nothing is, not even a cluster too small to be judged.

    Returns
    -------
    code, separation
        Clusters numbered by falling size, and the smallest d' that remains (NaN where no pair can be judged; where
        nothing is merged, among each cluster and its :data:`NEAREST`).
    """
    halves = Halves(latent, code, seed)
    k = int(code.max()) + 1
    target = np.arange(k)
    if min_separation > 0:
        for keep, gone in _tiny_merges(halves):
            target[target == gone] = keep
    table = _PairTable(halves, np.unique(target))
    while min_separation > 0:
        pair = table.closest()
        if pair is None or not table.values[pair] < min_separation:
            # What is far apart is separated, as a rule; that all of it is has to be seen.
            if table.judge_rest():
                continue
            break
        keep, gone = pair
        table.merge(keep, gone)
        target[target == gone] = keep
    merged = target[code]
    order = np.argsort(-np.bincount(merged, minlength=k), kind="stable")
    number = np.empty(k, dtype=np.int64)
    number[order] = np.arange(k)
    pair = table.closest()
    return number[merged], np.nan if pair is None else float(table.values[pair])


class _PairTable:
    """d' of pairs of clusters: of every cluster and its :data:`NEAREST` at first.

    Parameters
    ----------
    alive
        The clusters that are there, rising.

    Attributes
    ----------
    values
        (clusters, clusters), above the diagonal; infinite where a pair is not judged or cannot be.
    """

    def __init__(self, halves: Halves, alive: np.ndarray):
        self._halves, self._alive = halves, alive
        k = halves.size.shape[1]
        self.values = np.full((k, k), np.inf)
        self._judged = np.zeros((k, k), dtype=bool)
        near = np.zeros((k, k), dtype=bool)
        for level in alive:
            near[level, halves.nearest(level, alive[alive != level])[:NEAREST]] = True
        self._judge(*np.nonzero(np.triu(near | near.T)))

    def _judge(self, first: np.ndarray, second: np.ndarray) -> None:
        found = self._halves.separations(first, second)
        self.values[first, second] = np.where(np.isnan(found), np.inf, found)
        self._judged[first, second] = True

    def judge_rest(self) -> bool:
        """Judge every pair that is not judged yet; whether there was any."""
        first, second = (self._alive[part] for part in np.triu_indices(len(self._alive), 1))
        left = ~self._judged[first, second]
        self._judge(first[left], second[left])
        return bool(left.any())

    def closest(self) -> tuple[int, int] | None:
        """The pair of the smallest d', the first of equals; None if no pair is judged."""
        pair = np.unravel_index(self.values.argmin(), self.values.shape)
        return (int(pair[0]), int(pair[1])) if np.isfinite(self.values[pair]) else None

    def merge(self, keep: int, gone: int) -> None:
        """Add cluster ``gone`` to cluster ``keep`` and judge that anew."""
        self._halves.merge(keep, gone)
        self._alive = self._alive[self._alive != gone]
        for level in (keep, gone):
            self.values[level], self.values[:, level] = np.inf, np.inf
            self._judged[level], self._judged[:, level] = False, False
        near = self._halves.nearest(keep, self._alive[self._alive != keep])[:NEAREST]
        self._judge(np.minimum(keep, near), np.maximum(keep, near))


def _tiny_merges(halves: Halves) -> Iterator[tuple[int, int]]:
    """Join each cluster too small to be judged, the smallest first, to its nearest; which stays, which is gone."""
    alive = np.arange(halves.size.shape[1])
    while len(alive) > 1:
        tiny = alive[halves.size[:, alive].min(axis=0) < MIN_HALF]
        if not tiny.size:
            return
        level = int(min(tiny, key=lambda x: (halves.size[:, x].sum(), x)))
        alive = alive[alive != level]
        nearest = int(halves.nearest(level, alive)[0])
        halves.merge(nearest, level)
        yield nearest, level
