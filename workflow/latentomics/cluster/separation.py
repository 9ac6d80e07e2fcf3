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

import numpy as np

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
        if self.size[:, [a, b]].min() < MIN_HALF:
            return np.nan
        found = []
        for fit, judge in ((0, 1), (1, 0)):
            axis = self._discriminant(fit, a, b)
            gap = axis @ (self.mean[judge, b] - self.mean[judge, a])
            variance = axis @ (self.scatter[judge, a] + self.scatter[judge, b]) @ axis
            found.append(gap / np.sqrt(variance / self.size[judge, [a, b]].sum() + 1e-300))
        return float(np.mean(found))

    def _discriminant(self, half: int, a: int, b: int) -> np.ndarray:
        n, width = self.size[half, [a, b]].sum(), self.mean.shape[2]
        within = (self.scatter[half, a] + self.scatter[half, b]) / n
        # Shrink towards a sphere: with few cells per dimension the sample covariance cannot be inverted.
        weight = width / (width + n)
        within = (1 - weight) * within + (weight * np.trace(within) / width + 1e-12) * np.eye(width)
        return np.linalg.solve(within, self.mean[half, b] - self.mean[half, a])

    def distance(self, a: int, b: int) -> float:
        """Euclidean distance of the two centroids."""
        return float(np.linalg.norm(self._centroid(a) - self._centroid(b)))

    def _centroid(self, level: int) -> np.ndarray:
        size = self.size[:, level]
        return (size[:, None] * self.mean[:, level]).sum(axis=0) / size.sum()

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
        Clusters numbered by falling size, and the smallest d' that remains (NaN where no pair can be judged).
    """
    halves = Halves(latent, code, seed)
    alive = list(range(int(code.max()) + 1))
    table = {(a, b): halves.separation(a, b) for i, a in enumerate(alive) for b in alive[i + 1 :]}
    target = np.arange(len(alive))
    while len(alive) > 1 and min_separation > 0:
        pair = _next_merge(halves, alive, table, min_separation)
        if pair is None:
            break
        keep, gone = pair
        halves.merge(keep, gone)
        target[target == gone] = keep
        alive.remove(gone)
        table = {p: d for p, d in table.items() if gone not in p and keep not in p}
        table |= {(min(keep, x), max(keep, x)): halves.separation(keep, x) for x in alive if x != keep}
    merged = target[code]
    order = np.argsort(-np.bincount(merged, minlength=len(target)), kind="stable")
    number = np.empty(len(target), dtype=np.int64)
    number[order] = np.arange(len(target))
    judged = [d for d in table.values() if not np.isnan(d)]
    return number[merged], min(judged, default=np.nan)


def _next_merge(halves: Halves, alive: list[int], table: dict, min_separation: float) -> tuple[int, int] | None:
    tiny = [level for level in alive if halves.size[:, level].min() < MIN_HALF]
    if tiny:
        level = min(tiny, key=lambda x: (halves.size[:, x].sum(), x))
        nearest = min((x for x in alive if x != level), key=lambda x: (halves.distance(level, x), x))
        return nearest, level
    pair = min(table, key=lambda p: (table[p], p))
    return pair if table[pair] < min_separation else None
