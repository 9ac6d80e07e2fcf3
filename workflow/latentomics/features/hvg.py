"""Highly variable genes from a counts store, streamed: ``seurat_v3`` (Stuart et al. 2019, Cell 177:1888), batch-aware.

The same numbers as ``scanpy.pp.highly_variable_genes(flavor="seurat_v3", batch_key=...)`` (tested), without the matrix
in memory: two passes over the rows, memory of genes x batches. They differ where scanpy fails (batches too small for a
trend) or ranks genes that do not vary.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from latentomics.io.store import CountsStore
from latentomics.problems import InputError, Problem

#: Observations that a batch needs to vote.
_FEWEST = 3


def select_features(store: CountsStore, batch: np.ndarray, n_top: int, span: float) -> pd.DataFrame:
    """Rank genes by their standardised variance within each batch, and combine the ranks.

    Parameters
    ----------
    store
        Raw counts.
    batch
        Batch of every observation, shape (n_obs,).
    n_top
        Genes to select; all that vary if there are fewer.
    span
        Span of the loess fit.

    Returns
    -------
    DataFrame
        Indexed by gene: ``symbol``, ``n_cells`` (with a count), ``mean`` and ``variance`` over all observations,
        ``variance_norm`` (mean over batches), ``rank`` (median rank over the batches that rank it, NaN if none does),
        ``n_batches`` (that rank it) and ``selected``.

    Raises
    ------
    InputError
        No batch has enough observations, or no gene varies in any.

    Notes
    -----
    Batches of fewer than three observations have no variance trend; they do not vote. A gene that does not vary in a
    batch has no rank there.
    """
    levels, code = np.unique(np.asarray(batch).astype(str), return_inverse=True)
    n_genes, n_levels = store.shape[1], len(levels)
    sums, squares = np.zeros((n_levels, n_genes)), np.zeros((n_levels, n_genes))
    n_cells = np.zeros(n_genes, dtype=np.int64)
    for where, block in store.blocks():
        n_cells += np.bincount(block.indices, minlength=n_genes)
        for level, rows in _by_level(block, code[where], n_levels):
            values = rows.data.astype(np.float64)
            sums[level] += np.bincount(rows.indices, weights=values, minlength=n_genes)
            values *= values
            squares[level] += np.bincount(rows.indices, weights=values, minlength=n_genes)
    size = np.bincount(code, minlength=n_levels)
    voting = np.flatnonzero(size >= _FEWEST)
    if not len(voting):
        what = f"no batch has {_FEWEST} cells: the largest of {n_levels} has {size.max(initial=0)}"
        raise InputError(Problem("counts.zarr", what, "leave `batch` empty, or loosen the limits under `qc`."))
    mean = sums / size[:, None]
    variance = (squares - size[:, None] * mean**2) / np.maximum(size - 1, 1)[:, None]
    expected = np.vstack([_trend(mean[level], variance[level], span) for level in voting])
    clip = expected * np.sqrt(size[voting])[:, None] + mean[voting]
    clipped, clipped_squares = np.zeros_like(expected), np.zeros_like(expected)
    place = {level: i for i, level in enumerate(voting)}
    for where, block in store.blocks():
        for level, rows in _by_level(block, code[where], n_levels):
            if level in place:
                i = place[level]
                values = clip[i][rows.indices]
                np.minimum(rows.data, values, out=values)
                clipped[i] += np.bincount(rows.indices, weights=values, minlength=n_genes)
                values *= values
                clipped_squares[i] += np.bincount(rows.indices, weights=values, minlength=n_genes)
    n = size[voting][:, None]
    standardised = n * mean[voting] ** 2 + clipped_squares - 2 * clipped * mean[voting]
    standardised /= (n - 1) * expected**2
    rank, n_batches, selected = _combine(standardised, variance[voting] > 0, n_top)
    if not selected.any():
        hint = "are these the counts of single cells? Every kept cell has the same count of each gene."
        raise InputError(Problem("counts.zarr", "no gene varies within a batch", hint))
    total = int(size.sum())
    overall = sums.sum(axis=0) / total
    return pd.DataFrame(
        {
            "symbol": store.var["symbol"].astype(str).to_numpy(),
            "n_cells": n_cells,
            "mean": overall,
            "variance": (squares.sum(axis=0) - total * overall**2) / max(total - 1, 1),
            "variance_norm": standardised.mean(axis=0),
            "rank": rank,
            "n_batches": n_batches,
            "selected": selected,
        },
        index=store.var.index,
    )


def _by_level(block, code: np.ndarray, n_levels: int):
    for level in range(n_levels):
        rows = code == level
        if rows.all():
            yield level, block
        elif rows.any():
            yield level, block[np.flatnonzero(rows)]


def _trend(mean: np.ndarray, variance: np.ndarray, span: float) -> np.ndarray:
    """Standard deviation that the loess fit of log variance on log mean expects; 1 for constant genes."""
    varies = variance > 0
    expected = np.zeros(len(mean))
    if varies.any():
        expected[varies] = _smooth(np.log10(mean[varies]), np.log10(variance[varies]), span)
    return np.sqrt(10**expected)


def _smooth(x: np.ndarray, y: np.ndarray, span: float) -> np.ndarray:
    """Loess of degree 2, as Seurat fits it; in tiny data, where that is singular, one parabola through all genes."""
    from skmisc.loess import loess

    # In small batches many genes share one mean; a vanishing jitter and a wider span make the local fit regular.
    jitter = np.random.default_rng(0).uniform(-1e-6, 1e-6, len(x))
    for shift, width in ((0.0, span), (jitter, max(span, 0.5))):
        # With fewer genes in its span than a parabola has coefficients, loess fails or crashes the interpreter.
        if int(width * len(x)) < 3:
            continue
        try:
            model = loess(x + shift, y, span=width, degree=2)
            model.fit()
        except ValueError:
            continue
        fitted = model.outputs.fitted_values
        # A singular fit that went unnoticed lies orders of magnitude off.
        if (np.abs(fitted - y) <= np.ptp(y) + 1).all():
            return fitted
    # Genes whose means differ by rounding only count as one: a slope through them would be noise.
    degree = min(2, len(np.unique(x.round(6))) - 1)
    return np.polynomial.Polynomial.fit(x, y, degree)(x)


def _combine(standardised: np.ndarray, varies: np.ndarray, n_top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median rank among the top genes of each batch, number of batches, and the selection."""
    order = np.argsort(-standardised, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable").astype(float)
    ranks[(ranks >= n_top) | ~varies] = np.nan
    n_batches = np.isfinite(ranks).sum(axis=0)
    rank = pd.DataFrame(ranks).median(axis=0).to_numpy()  # NaN where no batch ranks the gene
    best = pd.DataFrame({"rank": rank, "n_batches": n_batches}).sort_values(
        ["rank", "n_batches"], ascending=[True, False], na_position="last", kind="stable"
    )
    selected = np.zeros(standardised.shape[1], dtype=bool)
    selected[best.index[:n_top]] = True
    return rank, n_batches, selected & np.isfinite(rank)
