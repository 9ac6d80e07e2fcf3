"""Markers of clusters: Wilcoxon rank-sum test of each cluster against the rest, with its effect size.

The effect size is the area under the ROC curve, U / (n1 n2): the probability that a random cell of the cluster
expresses the gene more than a random other cell. Normal approximation with correction for ties (Lehmann 1975,
Nonparametrics, ch. 1), equal to ``scipy.stats.mannwhitneyu(method="asymptotic", use_continuity=False)`` (tested); p
values adjusted by Benjamini and Hochberg within each cluster.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from latentomics.config.markers import Markers
from latentomics.io.store import CountsStore

#: Entries of the dense block of genes that is ranked at a time.
BLOCK_ENTRIES = 2_000_000
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
    expressed, means, log_means = _cluster_means(store, code, len(names), factors)
    size = np.bincount(code, minlength=len(names))
    tested = np.flatnonzero((expressed / size[:, None]).max(axis=0) >= params.min_fraction)
    drawn = _draw(code, len(names), params.max_cells_per_cluster, seed)
    expression = store.select(rows=drawn, columns=tested).astype(np.float64)
    expression.data = np.log1p(expression.data * np.repeat(factors[drawn], np.diff(expression.indptr)))
    auroc, p = rank_sum(expression.tocsc(), code[drawn], len(names))
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


def _cluster_means(store: CountsStore, code: np.ndarray, n: int, factors: np.ndarray):
    """Per cluster and gene: cells with a count, summed normalised counts, summed log1p expression; one pass."""
    n_genes = store.shape[1]
    expressed, sums, log_sums = (np.zeros(n * n_genes) for _ in range(3))
    for where, block in store.blocks():
        per_row = np.diff(block.indptr)
        flat = np.repeat(code[where].astype(np.int64) * n_genes, per_row) + block.indices
        values = block.data * np.repeat(factors[where], per_row)
        expressed += np.bincount(flat, minlength=n * n_genes)
        sums += np.bincount(flat, weights=values, minlength=n * n_genes)
        log_sums += np.bincount(flat, weights=np.log1p(values), minlength=n * n_genes)
    return tuple(a.reshape(n, n_genes) for a in (expressed, sums, log_sums))


def _draw(code: np.ndarray, n: int, most: int, seed: int) -> np.ndarray:
    """Row numbers, ascending: at most ``most`` per cluster, drawn without replacement."""
    rng = np.random.default_rng(seed)
    chosen = []
    for level in range(n):
        rows = np.flatnonzero(code == level)
        chosen.append(rows if len(rows) <= most else rng.choice(rows, most, replace=False))
    return np.sort(np.concatenate(chosen))


def rank_sum(expression, code: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank-sum test of each group against all others, for every column.

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
    member = np.zeros((n, n_obs))
    member[code, np.arange(n_obs)] = 1
    auroc, p = np.zeros((n, n_genes)), np.ones((n, n_genes))
    step = max(BLOCK_ENTRIES // max(n_obs, 1), 1)
    for start in range(0, n_genes, step):
        dense = expression[:, start : start + step].toarray()
        ranks = stats.rankdata(dense, axis=0)
        u = member @ ranks - (inside * (inside + 1) / 2)[:, None]
        ties = _tie_term(np.sort(dense, axis=0))
        spread = (inside * outside / 12)[:, None] * ((n_obs + 1) - ties / (n_obs * (n_obs - 1)))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (u - (inside * outside / 2)[:, None]) / np.sqrt(spread)
            auroc[:, start : start + step] = u / (inside * outside)[:, None]
        p[:, start : start + step] = np.where(np.isfinite(z), 2 * stats.norm.sf(np.abs(z)), 1.0)
    return auroc, p


def _tie_term(ordered: np.ndarray) -> np.ndarray:
    """Sum of t^3 - t over the groups of tied values, per column of sorted values."""
    n_obs, n_columns = ordered.shape
    starts = np.vstack([np.ones((1, n_columns), dtype=bool), ordered[1:] != ordered[:-1]])
    total = np.zeros(n_columns)
    column, row = np.nonzero(starts.T)
    ends = np.append(row[1:], n_obs)
    ends[np.append(column[1:] != column[:-1], True)] = n_obs
    size = (ends - row).astype(float)
    np.add.at(total, column, size**3 - size)
    return total
