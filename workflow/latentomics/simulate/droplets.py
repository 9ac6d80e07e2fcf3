"""Simulated droplets whose truth is known: cells in their soup of ambient RNA, and droplets that hold nothing else.

As in the simulations of Lun et al. (2019, Genome Biology 20:63) and of Young and Behjati (2020, GigaScience 9): ambient
RNA is what broken cells leave, so its profile is a mean of those of the cells; every droplet takes up a log-normal amount
of it, and droplets with a cell have the cell's own counts on top.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp

from latentomics.simulate.cells import CellParams, barcodes, simulate


@dataclass(frozen=True)
class DropletParams:
    """What to simulate: one sample.

    Attributes
    ----------
    seed
        Seed of the one random generator.
    n_cells, n_empty
        Droplets with and without a cell.
    small_share, small_factor
        Share of the cells that are small (fraction), and the factor on their library: those that a cut at the knee loses.
    ambient_median, ambient_scale
        Ambient counts of a droplet: median, and standard deviation of the logarithm.
    cells
        The cells; number, samples and low-quality cells are set here.
    """

    seed: int = 0
    n_cells: int = 500
    n_empty: int = 20_000
    small_share: float = 0.3
    small_factor: float = 0.15
    ambient_median: float = 60.0
    ambient_scale: float = 0.3
    cells: CellParams = field(default_factory=CellParams)


@dataclass(frozen=True, eq=False)
class Droplets:
    """Droplets and their truth.

    Attributes
    ----------
    counts
        CSR matrix (droplets, genes), int32: what is sequenced. Cells and empty droplets are mixed.
    own
        Of it, the counts of the cell's own RNA, same shape; zero in empty droplets.
    obs
        Per droplet, indexed by barcode: ``cell`` (bool), ``small`` (bool), ``label`` (cell type, else empty), ``own`` and
        ``ambient`` (counts) and ``ambient_share`` (fraction of its counts).
    var
        Per gene, indexed by Ensembl id: ``ensembl``, ``symbol``, ``ambient`` (share of the gene in the soup; sums to 1).
    """

    counts: sp.csr_matrix
    own: sp.csr_matrix
    obs: pd.DataFrame
    var: pd.DataFrame


def simulate_droplets(params: DropletParams | None = None) -> Droplets:
    """Simulate the droplets of one sample; memory peaks at one dense (cells, genes) array."""
    params = params or DropletParams()
    rng = np.random.default_rng([params.seed, 1])
    settings = {
        **{name: getattr(params.cells, name) for name in params.cells.__dataclass_fields__},
        **{"seed": params.seed, "batches": ("batch1",), "conditions": ("control",), "low_rate": 0.0, "mito_rate": 0.0},
        # The number of barcodes of a sample is Poisson: enough of them to take the first n.
        "cells_per_sample": params.n_cells + 10 * int(np.sqrt(params.n_cells)) + 10,
    }
    made = simulate(CellParams(**settings))
    own, label = made.counts[: params.n_cells], made.obs["label"].to_numpy(dtype=object)[: params.n_cells]
    small = rng.random(params.n_cells) < params.small_share
    thinned = rng.binomial(own.data, np.repeat(np.where(small, params.small_factor, 1.0), np.diff(own.indptr)))
    own = sp.csr_matrix((thinned.astype(np.int32), own.indices, own.indptr), shape=own.shape)
    own.eliminate_zeros()
    profile = np.asarray(made.counts.sum(axis=0), dtype=float).ravel()
    profile /= profile.sum()
    n = params.n_cells + params.n_empty
    soup = _draw(profile, rng.poisson(rng.lognormal(np.log(params.ambient_median), params.ambient_scale, n)), rng)
    own = sp.vstack([own, sp.csr_matrix((params.n_empty, own.shape[1]), dtype=np.int32)], format="csr")
    order = rng.permutation(n)
    own, soup = own[order], soup[order]
    sums = {"own": np.asarray(own.sum(axis=1)).ravel(), "ambient": np.asarray(soup.sum(axis=1)).ravel()}
    is_cell = order < params.n_cells
    mine = np.minimum(order, params.n_cells - 1)
    obs = pd.DataFrame(
        {
            "cell": is_cell,
            "small": is_cell & small[mine],
            "label": np.where(is_cell, label[mine], ""),
            **sums,
            "ambient_share": sums["ambient"] / np.maximum(sums["own"] + sums["ambient"], 1),
        },
        index=pd.Index(barcodes(n, rng), name="barcode", dtype=object),
    )
    return Droplets((own + soup).tocsr(), own, obs, made.var.assign(ambient=profile))


def _draw(profile: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Counts of droplets that draw so many molecules of a profile, (droplets, genes)."""
    edges = np.cumsum(profile)
    gene = np.searchsorted(edges / edges[-1], rng.random(int(totals.sum())), side="right")
    row = np.repeat(np.arange(len(totals)), totals)
    ones = np.ones(len(gene), dtype=np.int32)
    return sp.coo_matrix((ones, (row, gene)), shape=(len(totals), len(profile))).tocsr()
