"""The mixture of DecontX: each count is the cell's own, or ambient (:mod:`latentomics.scrna.ambient.decontx`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latentomics.config.ambient import Decontx

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Added to every probability, as celda does.
TINY = 1e-20
#: Prior of theta where delta is fitted: where celda begins.
BEGIN = (10.0, 10.0)
#: Counts that are in work at once: bounds the memory (some 60 bytes each).
_BLOCK = 1_000_000


@dataclass(frozen=True, eq=False)
class Mixture:
    """Profiles of the populations and of the ambient RNA, each (populations, genes), rows summing to 1."""

    own: np.ndarray
    ambient: np.ndarray


class Fit(NamedTuple):
    """A mixture, the Beta prior of theta, (2,), and the iterations that it took."""

    mixture: Mixture
    prior: np.ndarray
    iterations: int


class Split(NamedTuple):
    """Entries of a block of cells: their cell, the place in the profiles, counts, and the share that is the cell's own."""

    cell: np.ndarray
    place: np.ndarray
    counts: np.ndarray
    own: np.ndarray


def split_counts(counts: csr_matrix, cluster: np.ndarray, theta: np.ndarray, mixture: Mixture) -> Iterator[Split]:
    """The E step, block by block in the order of the matrix's entries."""
    n_genes = counts.shape[1]
    own, ambient = mixture.own.ravel(), mixture.ambient.ravel()
    edges = np.searchsorted(counts.indptr, np.append(np.arange(0, counts.nnz, _BLOCK), counts.nnz))
    for first, last in itertools.pairwise(edges):
        if first == last:
            continue
        entries = slice(counts.indptr[first], counts.indptr[last])
        cell = np.repeat(np.arange(first, last), np.diff(counts.indptr[first : last + 1]))
        place = cluster[cell].astype(np.int64) * n_genes + counts.indices[entries]
        mine = (own[place] + TINY) * (theta[cell] + TINY)
        mine /= mine + (ambient[place] + TINY) * (1 - theta[cell] + TINY)
        yield Split(cell, place, counts.data[entries], mine)


def cell_totals(counts: csr_matrix) -> np.ndarray:
    """Counts of each cell, (cells,), at least 1."""
    return np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1.0)


def _rows_to_one(sums: np.ndarray) -> np.ndarray:
    return sums / np.maximum(sums.sum(axis=1, keepdims=True), TINY)


def _others(own: np.ndarray) -> np.ndarray:
    """Profile of the other populations together, from the own counts of each."""
    return _rows_to_one(own.sum(axis=0) - own)


def expectation(
    counts: csr_matrix, cluster: np.ndarray, theta: np.ndarray, mixture: Mixture
) -> tuple[np.ndarray, np.ndarray]:
    """Expected own counts: of each population per gene, (populations, genes), and of each cell, (cells,)."""
    shape = mixture.own.shape
    per_gene, per_cell = np.zeros(mixture.own.size), np.zeros(counts.shape[0])
    for part in split_counts(counts, cluster, theta, mixture):
        mine = part.counts * part.own
        per_gene += np.bincount(part.place, mine, per_gene.size)
        per_cell += np.bincount(part.cell, mine, per_cell.size)
    return per_gene.reshape(shape), per_cell


def fit_to_empty(
    counts: csr_matrix, cluster: np.ndarray, profile: np.ndarray, share: np.ndarray, params: Decontx
) -> tuple[Mixture, int]:
    """Own profiles, with the ambient profile and each cell's ambient share known; and the iterations that it took."""
    totals, pooled = cell_totals(counts), _pooled(counts, cluster)
    mixture = Mixture(_rows_to_one(pooled), np.tile(profile, (len(pooled), 1)))
    before = np.full(counts.shape[0], np.inf)
    for iteration in range(1, params.max_iterations + 1):
        per_gene, per_cell = expectation(counts, cluster, 1 - share, mixture)
        mixture = Mixture(_rows_to_one(per_gene), mixture.ambient)
        found = 1 - per_cell / totals
        if np.abs(found - before).max() < params.tolerance:
            return mixture, iteration
        before = found
    return mixture, params.max_iterations


def fit_to_others(counts: csr_matrix, cluster: np.ndarray, params: Decontx, seed: int) -> Fit:
    """The published inference: own profiles, ambient profiles from the other populations, theta and its prior."""
    totals = cell_totals(counts)
    theta = np.random.default_rng(seed).beta(*BEGIN, size=counts.shape[0])
    begun = _pooled(counts, cluster, theta) + TINY
    mixture, delta = Mixture(_rows_to_one(begun), _others(begun)), np.array(BEGIN)
    for iteration in range(1, params.max_iterations + 1):
        per_gene, per_cell = expectation(counts, cluster, theta, mixture)
        mixture = Mixture(_rows_to_one(per_gene), _others(per_gene))
        delta = fit_beta(per_cell / totals)
        before, theta = theta, (per_cell + delta[0]) / (totals + delta.sum())
        if np.abs(theta - before).max() < params.tolerance:
            return Fit(mixture, delta, iteration)
    return Fit(mixture, delta, params.max_iterations)


def _pooled(counts: csr_matrix, cluster: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Counts of each population, (populations, genes)."""
    from scipy.sparse import csr_matrix

    n = len(cluster)
    weight = np.ones(n) if weight is None else weight
    return (csr_matrix((weight, (cluster, np.arange(n))), shape=(cluster.max() + 1, n)) @ counts).toarray()


def fit_beta(shares: np.ndarray) -> np.ndarray:
    """Maximum likelihood fit of a Beta distribution, (2,), by Newton's method (Minka 2000, Estimating a Dirichlet)."""
    from scipy.special import digamma, polygamma

    shares = np.clip(shares, 1e-6, 1 - 1e-6)
    logs = np.array([np.log(shares).mean(), np.log1p(-shares).mean()])
    mean, variance = shares.mean(), max(shares.var(), 1e-9)
    delta = np.array([mean, 1 - mean]) * max(mean * (1 - mean) / variance - 1, 0.1)
    for _ in range(100):
        gradient = digamma(delta.sum()) - digamma(delta) + logs
        curvature = -polygamma(1, delta)
        shared = (gradient / curvature).sum() / (1 / polygamma(1, delta.sum()) + (1 / curvature).sum())
        moved = delta - (gradient - shared) / curvature
        moved = np.where(moved > 0, moved, delta / 2)
        if np.abs(moved - delta).max() < 1e-8 * delta.max():
            break
        delta = moved
    return delta


def infer_theta(
    counts: csr_matrix, cluster: np.ndarray, mixture: Mixture, prior: np.ndarray, params: Decontx
) -> np.ndarray:
    """Own share of every cell, (cells,), with the profiles at rest; ``prior`` is the Beta prior, (cells, 2)."""
    totals, weight = cell_totals(counts), prior.sum(axis=1)
    theta = prior[:, 0] / weight
    for _ in range(params.max_iterations):
        _, per_cell = expectation(counts, cluster, theta, mixture)
        before, theta = theta, (per_cell + prior[:, 0]) / (totals + weight)
        if np.abs(theta - before).max() < params.tolerance:
            break
    return theta


def dispersion(counts: csr_matrix, cluster: np.ndarray, share: np.ndarray, cv: float, mixture: Mixture) -> np.ndarray:
    """Dispersion of the score of theta in each population, (populations,), at least 1.

    Under the model the square of a cell's score has the expectation I (1 + I V): the information I of its counts times one
    plus what the cell's own departure from ``share``, of variance V, adds. What is above that is dispersion.
    """
    score, information = np.zeros(len(share)), np.zeros(len(share))
    for part in split_counts(counts, cluster, 1 - share, mixture):
        slope = (1 - part.own) / share[part.cell] - part.own / (1 - share[part.cell])
        score += np.bincount(part.cell, part.counts * slope, len(share))
        information += np.bincount(part.cell, part.counts * slope**2, len(share))
    excess = score**2 / np.maximum(information, TINY) - information * (share * cv) ** 2
    cells = np.bincount(cluster, minlength=len(mixture.own))
    return np.maximum(np.bincount(cluster, excess, len(cells)) / np.maximum(cells, 1), 1.0)
