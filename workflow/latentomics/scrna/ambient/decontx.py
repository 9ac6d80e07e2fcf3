"""DecontX (Yang et al. 2020, Genome Biology 21:57): each cell is a mixture of its population and of ambient RNA.

The model. A count of cell j, of population k, is the cell's own with probability theta_j, and then of gene g with
probability phi_kg, or ambient, and then of gene g with probability eta_kg; theta_j has a Beta prior. The updates are those
of the published inference (R package celda, ``DecontX.cpp``):

    r_jg    = theta_j phi_kg / (theta_j phi_kg + (1 - theta_j) eta_kg)      a count is the cell's own
    phi_kg ~ sum over the cells of k of r_jg x_jg
    theta_j = (delta_1 + sum_g r_jg x_jg) / (delta_1 + delta_2 + sum_g x_jg)

Filtered input: as published. eta_k is the mean of the other populations, delta the maximum likelihood fit to the theta.
Populations that held-out cells cannot tell apart are merged first: two halves of one would each be the other's background,
and half of all counts ambient.

Raw input: eta is the profile of the empty droplets, and the prior has to come from them too. Where phi is in part eta,
phi = (1 - t) phi' + t eta, the shares (1 - t) theta and the profile phi' make the same counts as theta and phi do,

    (1 - t) theta phi' + (1 - (1 - t) theta) eta = theta phi + (1 - theta) eta,

so the counts of a population tell at most how much of eta its profile *can* hold: a population that expresses every gene
of eta a little fits as well with no ambient RNA as with much, and where the published inference ends depends on where it
began (theta near one half: it finds 13 % where 3 % are ambient). What does tell is that a droplet takes up the same
soup with a cell as without one, the assumption of CellBender (Fleming et al. 2023, Nature Methods 20:1323). Hence

1. phi is learnt with theta_j at the share that the counts of an empty droplet leave to cell j;
2. theta is then inferred with phi at rest, its prior around that share: the ambient counts are Gamma with the mean and
   spread of the empty droplets, in the terms of theta delta_2 = shape, delta_1 = shape (1 - s_j) / s_j. Cells of one
   population differ more than draws from phi do, and this must not be taken for ambient RNA: the weight of the counts is
   divided by the dispersion of their score (quasi-likelihood; McCullagh and Nelder 1989, chapter 9).

The corrected counts are the expected own ones, r_jg x_jg, rounded to the nearest whole number: of all whole numbers these
have the least expected squared error. (Removing the exact number of counts from each cell, or drawing, lies further from
the truth: most single counts are more likely the cell's own, and would have to go.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentomics.config.ambient import Ambient, Decontx
from latentomics.scrna.ambient.empties import EmptyDroplets, empty_droplets
from latentomics.scrna.ambient.mixture import (
    TINY,
    Mixture,
    cell_totals,
    dispersion,
    fit_to_empty,
    fit_to_others,
    infer_theta,
    split_counts,
)
from latentomics.scrna.ambient.registry import AmbientSample, Correction

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TITLE = "DecontX"
GPU = False
NEEDS_RAW = False

#: A cell is at least this much its own (fraction): droplets with fewer counts than an empty one have been called too.
_LEAST_OWN = 0.05
_FEWEST_CELLS, _VARIABLE_GENES = 20, 2000


def correct(sample: AmbientSample, params: Ambient, seed: int, threads: int) -> Correction:
    """Correct the counts of all called cells; profiles are learnt from those that passed QC.

    Parameters
    ----------
    threads
        Not used: numpy's threads are limited from outside.
    """
    empty = None if sample.profile is None else empty_droplets(sample.curve)
    learnt = sample.counts[sample.passed]
    cluster = find_populations(learnt, seed, distinct=empty is None)
    n_clusters = int(cluster.max()) + 1
    facts: dict[str, Any] = {
        "n_populations": n_clusters,
        "background": "empty droplets" if empty else "other populations",
    }
    if empty is not None:
        notes: list[str] = []
        mixture, prior, spread, iterations = _from_empty(sample, learnt, cluster, empty, params.decontx)
        facts |= {"empty_counts": empty.mean, "empty_cv": empty.cv, "dispersion": spread}
        typical = float(np.median(prior[:, 1] / prior.sum(axis=1)))
    elif n_clusters == 1:
        note = (
            "the input has no empty droplets, and its cells are of one population: nothing tells ambient RNA, and none "
        )
        note += "is removed."
        return Correction(sample.counts, np.full(sample.counts.shape[0], np.nan), facts, [note])
    else:
        notes = [_UNSURE]
        mixture, delta, iterations = fit_to_others(learnt, cluster, params.decontx, seed)
        prior = np.tile(delta, (sample.counts.shape[0], 1))
        typical = float(delta[1] / delta.sum())
    everywhere = np.empty(sample.counts.shape[0], dtype=np.int64)
    everywhere[sample.passed] = cluster
    everywhere[~sample.passed] = nearest_population(sample.counts[~sample.passed], mixture, typical)
    if iterations == params.decontx.max_iterations:
        notes.append(f"DecontX had not converged after {iterations} iterations (`ambient.decontx.max_iterations`).")
    theta = infer_theta(sample.counts, everywhere, mixture, prior, params.decontx)
    counts, share = own_counts(sample.counts, everywhere, theta, mixture)
    return Correction(counts, share, facts | {"iterations": iterations}, notes)


_UNSURE = (
    "the input has no empty droplets: the ambient profile of each population is the mean of the others, and how much of "
    "it the counts hold is determined only by genes that a population does not express. Where populations are alike, the "
    "share is far too high; a raw matrix gives a better one."
)


def _from_empty(
    sample: AmbientSample, learnt: csr_matrix, cluster: np.ndarray, empty: EmptyDroplets, params: Decontx
) -> tuple[Mixture, np.ndarray, list[float], int]:
    """Profiles, the prior of every cell's theta, (cells, 2), the dispersions behind it, and the iterations."""
    share = np.minimum(empty.mean / cell_totals(sample.counts), 1 - _LEAST_OWN)
    passed = share[sample.passed]
    mixture, iterations = fit_to_empty(learnt, cluster, np.asarray(sample.profile), passed, params)
    spread = dispersion(learnt, cluster, passed, empty.cv, mixture)
    # Cells outside the fit belong to a population only when theirs is known: they get the typical weight.
    weight = np.full(len(share), float(np.median(spread[cluster])))
    weight[sample.passed] = spread[cluster]
    shape = weight / empty.cv**2
    return mixture, np.column_stack([shape * (1 - share) / share, shape]), spread.tolist(), iterations


def own_counts(
    counts: csr_matrix, cluster: np.ndarray, theta: np.ndarray, mixture: Mixture
) -> tuple[csr_matrix, np.ndarray]:
    """Expected own counts as whole numbers (CSR, int32), and the expected ambient share of each cell, (cells,)."""
    from scipy.sparse import csr_matrix

    kept, own = np.empty(counts.nnz, dtype=np.int32), np.zeros(counts.shape[0])
    done = 0
    for part in split_counts(counts, cluster, theta, mixture):
        mine = part.counts * part.own
        # What is removed is rounded: half a count is kept.
        kept[done : done + len(mine)] = part.counts - np.ceil(part.counts - mine - 0.5).astype(np.int32)
        own += np.bincount(part.cell, mine, len(own))
        done += len(mine)
    corrected = csr_matrix((kept, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
    corrected.eliminate_zeros()
    share = np.clip(1 - own / cell_totals(counts), 0.0, 1.0)
    share[np.diff(counts.indptr) == 0] = np.nan
    return corrected, share


def find_populations(counts: csr_matrix, seed: int, distinct: bool = False) -> np.ndarray:
    """Clusters of cells: log-normalised, 2,000 variable genes, 30 principal components, 15 neighbours, Leiden at 1.

    Where populations are each other's background they have to be ``distinct``: those that held-out cells cannot tell apart
    are merged, as for the clusters of a study.
    """
    import anndata as ad
    import scanpy as sc

    from latentomics.cluster.graph import neighbour_graph
    from latentomics.cluster.leiden import CellGraph
    from latentomics.cluster.separation import merge_unseparated
    from latentomics.config.clusters import Clusters

    n_cells = counts.shape[0]
    varies = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= min(3, n_cells))
    if n_cells < _FEWEST_CELLS or len(varies) < 3:
        return np.zeros(n_cells, dtype=np.int64)
    work = ad.AnnData(counts[:, varies].astype(np.float32))
    sc.pp.normalize_total(work, target_sum=1e4)
    sc.pp.log1p(work)
    if work.n_vars > _VARIABLE_GENES:
        sc.pp.highly_variable_genes(work, n_top_genes=_VARIABLE_GENES)
        work = work[:, work.var["highly_variable"].to_numpy()].copy()
    sc.pp.pca(work, n_comps=min(30, min(work.shape) - 1), random_state=seed)
    latent = work.obsm["X_pca"]
    cluster = CellGraph(neighbour_graph(latent, 15, seed).connectivities).leiden(1.0, seed)
    return merge_unseparated(latent, cluster, Clusters().min_separation, seed)[0] if distinct else cluster


def nearest_population(counts: csr_matrix, mixture: Mixture, share: float) -> np.ndarray:
    """The population that makes the counts of each cell most likely, (cells,)."""
    logs = np.log((1 - share) * mixture.own + share * mixture.ambient + TINY)
    return np.asarray(counts @ logs.T).argmax(axis=1)
