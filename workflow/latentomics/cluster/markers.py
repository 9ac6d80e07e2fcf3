"""Markers of clusters: Wilcoxon rank-sum test of each cluster against the rest, with its effect size.

The effect size is the area under the ROC curve, U / (n1 n2): the probability that a random cell of the cluster
expresses the gene more than a random other cell. Normal approximation with correction for ties (Lehmann 1975,
Nonparametrics, ch. 1), equal to ``scipy.stats.mannwhitneyu(method="asymptotic", use_continuity=False)`` (tested); p
values adjusted by Benjamini and Hochberg within each cluster.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse import csc_matrix, csr_matrix

from latentomics.config.markers import Markers
from latentomics.io.matrices import stack
from latentomics.io.store import CountsStore, row_blocks

#: Entries of the genes that are ranked at a time.
BLOCK_ENTRIES = 1 << 24
COLUMNS = (
    "cluster",
    "feature",
    "symbol",
    "rank",
    "auroc",
    "log2_fold_change",
    "fraction_in",
    "fraction_out",
    "mean_in",
    "mean_out",
    "p",
    "p_adjusted",
)


def find_markers(
    store: CountsStore, clusters: pd.Series, params: Markers, target_sum: float, seed: int
) -> pd.DataFrame:
    """Test every sufficiently expressed gene in every cluster.

    Parameters
    ----------
    store
        Counts.
    clusters
        Cluster of every observation, in the order of the store.
    target_sum
        Counts per cell after size normalisation; expression is ``log1p`` of that.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`, sorted by cluster, then ``rank`` (1 = largest AUROC). ``mean_in`` and ``mean_out`` are
        means of log1p expression; ``log2_fold_change`` compares mean normalised counts (with a pseudocount of 1e-9).
        Empty with a single cluster: there is nothing to compare it with.
    """
    labels = clusters.astype(str).to_numpy()
    names = sorted(set(labels), key=_natural)
    if len(names) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    code = pd.Categorical(labels, categories=names).codes
    factors = target_sum / np.maximum(store.totals, 1)
    drawn = _draw(code, len(names), params.max_cells_per_cluster, seed)
    (expressed, means, log_means), counts = _read(store, code, len(names), factors, drawn)
    size = np.bincount(code, minlength=len(names))
    tested = np.flatnonzero((expressed / size[:, None]).max(axis=0) >= params.min_fraction)
    auroc, p = _rank_tests(counts, tested, factors[drawn], code[drawn], len(names))
    symbols = store.var["symbol"].astype(str).to_numpy() if "symbol" in store.var else store.var.index.to_numpy()
    tables = []
    for i, name in enumerate(names):
        rest = size.sum() - size[i]
        inside, outside = means[i] / size[i], (means.sum(axis=0) - means[i]) / rest
        table = pd.DataFrame(
            {
                "cluster": name,
                "feature": store.var.index[tested],
                "symbol": symbols[tested],
                "auroc": auroc[i],
                "log2_fold_change": np.log2((inside[tested] + 1e-9) / (outside[tested] + 1e-9)),
                "fraction_in": expressed[i, tested] / size[i],
                "fraction_out": (expressed.sum(axis=0) - expressed[i])[tested] / rest,
                "mean_in": log_means[i, tested] / size[i],
                "mean_out": (log_means.sum(axis=0) - log_means[i])[tested] / rest,
                "p": p[i],
                "p_adjusted": stats.false_discovery_control(p[i]),
            }
        )
        table = table.sort_values(["auroc", "feature"], ascending=[False, True], kind="stable", ignore_index=True)
        table.insert(3, "rank", np.arange(1, len(table) + 1))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1 << 62, name)


def _read(store: CountsStore, code: np.ndarray, n: int, factors: np.ndarray, drawn: np.ndarray):
    """What the table needs, in one pass over the store.

    Returns
    -------
    sums, counts
        Per cluster and gene: cells with a count, summed normalised counts, summed log1p expression; and the counts of the
        drawn cells.
    """
    n_genes = store.shape[1]
    expressed, sums, log_sums = (np.zeros(n * n_genes) for _ in range(3))
    parts = []
    for where, block in store.blocks():
        per_row = np.diff(block.indptr)
        flat = np.repeat(code[where].astype(np.int64) * n_genes, per_row)
        flat += block.indices
        values = np.repeat(factors[where], per_row)
        values *= block.data
        expressed += np.bincount(flat, minlength=n * n_genes)
        sums += np.bincount(flat, weights=values, minlength=n * n_genes)
        log_sums += np.bincount(flat, weights=np.log1p(values, out=values), minlength=n * n_genes)
        parts.append(block[drawn[slice(*np.searchsorted(drawn, (where.start, where.stop)))] - where.start])
    return tuple(a.reshape(n, n_genes) for a in (expressed, sums, log_sums)), stack(parts)


def _rank_tests(
    counts: csr_matrix, tested: np.ndarray, factors: np.ndarray, code: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`rank_sum` of the expression of the tested genes, some genes at a time."""
    auroc, p = np.empty((2, n, len(tested)))
    entries = np.bincount(counts.indices, minlength=counts.shape[1])[tested]
    for genes in row_blocks(np.append(0, np.cumsum(entries)), BLOCK_ENTRIES):
        chosen = counts[:, tested[genes]]
        chosen.data = np.log1p(chosen.data * np.repeat(factors, np.diff(chosen.indptr)))
        auroc[:, genes], p[:, genes] = rank_sum(chosen.tocsc(), code, n)
    return auroc, p


def _draw(code: np.ndarray, n: int, most: int, seed: int) -> np.ndarray:
    """Row numbers, ascending: at most ``most`` per cluster, drawn without replacement."""
    rng = np.random.default_rng(seed)
    chosen = []
    for level in range(n):
        rows = np.flatnonzero(code == level)
        chosen.append(rows if len(rows) <= most else rng.choice(rows, most, replace=False))
    return np.sort(np.concatenate(chosen))


def rank_sum(expression: csc_matrix, code: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank-sum test of each group against all others, for every column.

    Only what is not zero is sorted: the zeros of a column are one group of ties, above the negative values and below the
    positive ones.

    Parameters
    ----------
    expression
        Observations x genes, CSC.
    code
        Group of each observation, 0 to n - 1.

    Returns
    -------
    auroc, p
        Each of shape (n, n_genes); two-sided p.
    """
    n_obs, n_genes = expression.shape
    inside = np.bincount(code, minlength=n).astype(float)
    outside = n_obs - inside
    ranks, ties = np.zeros((n, n_genes)), np.zeros(n_genes)
    for gene, (start, stop) in enumerate(pairwise(expression.indptr)):
        group = code[expression.indices[start:stop]]
        ranks[:, gene], ties[gene] = _summed_ranks(expression.data[start:stop], group, inside)
    u = ranks - (inside * (inside + 1) / 2)[:, None]
    spread = (inside * outside / 12)[:, None] * ((n_obs + 1) - ties / (n_obs * (n_obs - 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (u - (inside * outside / 2)[:, None]) / np.sqrt(spread)
        auroc = u / (inside * outside)[:, None]
    return auroc, np.where(np.isfinite(z), 2 * stats.norm.sf(np.abs(z)), 1.0)


def _summed_ranks(values: np.ndarray, group: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, float]:
    """Sum of the ranks of each group, and the sum of t^3 - t over the groups of tied values.

    Parameters
    ----------
    values, group
        The entries of a column, and the group of each.
    size
        Observations of each group; those without an entry are zero.
    """
    stored = values != 0
    order = np.argsort(values[stored])
    ordered, group = values[stored][order], group[stored][order]
    n_zeros = size.sum() - len(ordered)
    starts = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
    tied = np.diff(starts, append=len(ordered)).astype(float)
    rank = starts + (tied + 1) / 2 + np.where(ordered[starts] > 0, n_zeros, 0)
    rank_of_zeros = np.count_nonzero(ordered < 0) + (n_zeros + 1) / 2
    # Ranks are halves of whole numbers: their sums are exact, whatever the order.
    sums = np.bincount(group, weights=np.repeat(rank, tied.astype(int)), minlength=len(size))
    zeros = size - np.bincount(group, minlength=len(size))
    return sums + zeros * rank_of_zeros, float((tied**3 - tied).sum() + n_zeros**3 - n_zeros)
