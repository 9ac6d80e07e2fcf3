"""Relative abundances of a metagenomic study as its figures need them: summed by rank, samples and taxa in order."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

from latentomics.metagenome import lineage
from latentomics.report.data import ReportData
from latentomics.report.groupings import groupings

#: With more rows the order of a tree's leaves is not optimised: that takes the square of their number.
_MAX_OPTIMAL = 400


def shares(data: ReportData) -> pd.DataFrame:
    """Share of each taxon in its sample, samples x taxa; rows of kept taxa sum to 1."""
    if data.store is None:
        raise ValueError("there is no counts store")
    counts = data.store.select().toarray().astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    values = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return pd.DataFrame(values, index=data.obs.index.astype(str), columns=data.store.var.index.astype(str))


def lineages(data: ReportData) -> pd.Series:
    """Lineage of every taxon of the store as text (see ``metagenome.lineage``); empty where unknown."""
    var = data.store.var  # type: ignore[union-attr]
    found = var["lineage"].astype(str).to_numpy() if "lineage" in var else ""
    return pd.Series(found, index=var.index.astype(str), dtype=object)


def ranks_known(lineages_: pd.Series) -> list[str]:
    """Ranks below the domain that any lineage reaches, from the root down."""
    reached = {rank for text in lineages_.unique() for rank in lineage.split(text)}
    return [rank for rank in lineage.RANKS if rank in reached and rank != "domain"]


def by_rank(table: pd.DataFrame, lineages_: pd.Series, rank: str) -> pd.DataFrame:
    """Shares summed at a rank, samples x names, the largest mean first.

    A lineage that does not reach the rank is summed under its own lowest name, marked ``(unclassified RANK)``; two taxa of
    one name under different parents stay apart, told by the parent's name.
    """
    cut = lineages_.map(lambda text: lineage.at_rank(text, rank))
    names = {}
    for text in cut.unique():
        name = lineage.name_of(text)
        names[text] = name if rank in lineage.split(text) else f"{name} (unclassified {rank})"
    counts = pd.Series(names).value_counts()
    for text, name in names.items():
        if counts[name] > 1:
            above = list(lineage.split(text).values())[:-1]
            names[text] = f"{name} [{above[-1]}]" if above else name
    summed = table.T.groupby(cut.map(names).reindex(table.columns).to_numpy(), sort=True).sum().T
    return summed[summed.mean().sort_values(ascending=False, kind="stable").index]


def leaf_order(values: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Rows in the order of the leaves of their average-linkage tree, similar ones side by side."""
    if len(values) < 3:
        return np.arange(len(values))
    # Two rows without any variance, or without any counts, have no distance: they are as far apart as can be.
    distances = np.nan_to_num(pdist(values, metric), nan=1.0)
    tree = linkage(distances, "average")
    return leaves_list(optimal_leaf_ordering(tree, distances) if len(values) <= _MAX_OPTIMAL else tree)


def grouped_order(data: ReportData, table: pd.DataFrame) -> tuple[np.ndarray, dict[str, pd.Series]]:
    """Samples by cluster, then condition, then composition; and the groupings that did it, in the order of ``data.obs``."""
    known = groupings(data, max_levels=12)
    used = {title: v for title, v in known.items() if title.startswith("cluster of") or title == "condition"}
    place = np.empty(len(table), dtype=int)
    place[leaf_order(table.to_numpy(), "braycurtis")] = np.arange(len(table))
    keys = pd.DataFrame({title: v.fillna("~").to_numpy() for title, v in used.items()} | {"~place": place})
    # Clusters are numbers as text: 10 comes after 9.
    for title in used:
        levels = sorted(keys[title].unique(), key=lambda s: (not s.isdigit(), int(s) if s.isdigit() else 0, s))
        keys[title] = keys[title].map({level: i for i, level in enumerate(levels)})
    return keys.sort_values(list(keys.columns), kind="stable").index.to_numpy(), used
