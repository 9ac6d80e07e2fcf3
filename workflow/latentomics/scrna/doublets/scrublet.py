"""Two cells in one droplet, found per sample by Scrublet (Wolock, Lopez, Klein 2019, Cell Systems 8:281).

Scrublet puts its threshold into the valley between the two modes of the scores of simulated doublets. Where there is
one mode (few cells, or cells of one type) it takes any dent for the valley. Its own estimate of the rate of doublets
tells: the share of cells above the threshold over the share of simulated doublets above it, since only that share of
the true ones can be seen. A rate of 1 or more is impossible: cells then look more like doublets than doublets do, and
the threshold is not used.

Scanpy's Scrublet standardises genes, and holds cells and simulated doublets as dense tables for that, several times over.
Here its steps up to the principal components are called one by one, on sparse counts, and the neighbours in them are found
by the workflow's own exact search: the scores are the same (tested), of 10,000 cells in 0.8 GB instead of 2.3.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latentomics.cluster.exact import nearest_others
from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.registry import DoubletCalls
from latentomics.scrna.doublets.untested import too_few, untested

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TITLE = "Scrublet"
GPU = False

#: Principal components in which neighbours are searched: Scrublet's own default.
COMPONENTS = 30


def call_doublets(counts: csr_matrix, params: Doublets, seed: int, threads: int) -> DoubletCalls:
    """Score and call doublets among the cells of one sample that passed QC.

    Parameters
    ----------
    counts
        Raw counts, (cells, genes).
    threads
        Not used: numpy's threads are limited from outside.
    """
    n_cells = counts.shape[0]
    if n_cells < params.min_cells:
        return too_few(n_cells, params.min_cells)
    try:
        scored = _score(counts, params, seed)
    except ValueError as error:
        # Scrublet keeps genes found in three cells and the highly variable ones of them: too few may be left.
        return untested(n_cells, f"Scrublet cannot score these cells, no doublet test ({str(error).splitlines()[0]})")
    # NaN, and so not called: cells in which Scrublet finds fewer than three genes.
    scores = np.full(n_cells, np.nan)
    scores[scored.rows] = scored.observed
    threshold = _valley(scored.simulated) if params.threshold is None else params.threshold
    nobody = np.zeros(n_cells, dtype=bool)
    if threshold is None:
        note = "Scrublet found no valley between its two modes: scores are kept, nobody is called a doublet"
        return DoubletCalls(scores, nobody, None, note)
    called = scores > threshold
    seen = (scored.simulated > threshold).mean()
    if params.threshold is None and called.any() and called.mean() >= seen:
        note = (
            f"Scrublet's threshold ({threshold:.2g}) does not separate doublets: {called.mean():.0%} of the cells lie "
            f"above it, and {seen:.0%} of the simulated doublets; scores are kept, nobody is called a doublet"
        )
        return DoubletCalls(scores, nobody, None, note)
    return DoubletCalls(scores, called, float(threshold))


class Scored(NamedTuple):
    """Scores of the cells that can be scored, which are those of ``rows``, and of the simulated doublets."""

    rows: np.ndarray
    observed: np.ndarray
    simulated: np.ndarray


def _score(counts: csr_matrix, params: Doublets, seed: int) -> Scored:
    observed, simulated = _observed_and_simulated(counts, seed)
    rows, n_observed = observed.obs_names.astype(int).to_numpy(), observed.n_obs
    points = _components(observed.X, simulated.X, min(COMPONENTS, counts.shape[0] - 1), seed)
    scores = _neighbour_scores(points, np.arange(len(points)) >= n_observed, params.expected_rate)
    return Scored(rows, scores[:n_observed], scores[n_observed:])


def _neighbour_scores(points: np.ndarray, simulated: np.ndarray, expected_rate: float) -> np.ndarray:
    """How likely each point is a doublet, given how many simulated ones are among its neighbours (Wolock et al. 2019).

    Parameters
    ----------
    points
        Principal components of cells and simulated doublets, (points, components).
    simulated
        Which are simulated doublets, (points,).

    Returns
    -------
    numpy.ndarray
        (points,). With a share q of simulated doublets among the nearest others, smoothed as by one more of each kind, r
        simulated doublets to a cell and an expected rate of doublets rho: ``q rho / r / (1 - rho - q (1 - rho - rho / r))``.
    """
    n_simulated = int(simulated.sum())
    n_observed = len(points) - n_simulated
    ratio = n_simulated / n_observed
    k = round(round(0.5 * np.sqrt(n_observed)) * (1 + ratio))
    # The point itself is one of the k, and not counted. (Scanpy counts it if no two points of a sample are exactly alike,
    # which in real samples some are.)
    near = nearest_others(points, k - 1)
    q = (simulated[near].sum(axis=1) + 1) / (k + 2)
    return q * expected_rate / ratio / (1 - expected_rate - q * (1 - expected_rate - expected_rate / ratio))


def _valley(scores: np.ndarray) -> float | None:
    """The threshold between the two modes of the scores of simulated doublets; None if there are not two."""
    from skimage.filters import threshold_minimum

    try:
        return float(threshold_minimum(scores))
    except RuntimeError:
        return None


def _observed_and_simulated(counts: csr_matrix, seed: int) -> tuple[Any, Any]:
    """Cells and simulated doublets x highly variable genes, counts per million, as ``scanpy.pp.scrublet`` makes them."""
    import scanpy as sc
    from anndata import AnnData

    observed = AnnData(counts.astype(np.float32))
    sc.pp.filter_genes(observed, min_cells=3)
    sc.pp.filter_cells(observed, min_genes=3)
    logged = sc.pp.normalize_total(observed, copy=True)
    sc.pp.log1p(logged)
    variable = sc.pp.highly_variable_genes(logged, inplace=False)["highly_variable"].to_numpy()
    del logged
    gc.collect()  # an AnnData refers to itself: without this, its counts would stay
    simulated = sc.pp.scrublet_simulate_doublets(AnnData(observed.X[:, variable]), random_seed=seed)
    sc.pp.normalize_total(observed)
    observed = observed[:, variable].copy()
    for part in (observed, simulated):
        sc.pp.normalize_total(part, target_sum=1e6)
    return observed, simulated


def _components(observed: csr_matrix, simulated: csr_matrix, n: int, seed: int) -> np.ndarray:
    """Principal components of the standardised cells and, below, where the doublets lie on them: (cells + doublets, n)."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    observed, simulated = observed.astype(np.float64), simulated.astype(np.float64)
    scaler = StandardScaler(with_mean=False).fit(observed)
    observed, simulated = scaler.transform(observed), scaler.transform(simulated)
    pca = PCA(n_components=n, svd_solver="arpack", random_state=seed).fit(observed)
    return np.vstack([pca.transform(observed), pca.transform(simulated)])
