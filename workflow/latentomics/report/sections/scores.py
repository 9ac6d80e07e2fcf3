"""The scoreboard: which embedding won on what, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.section import Section
from latentomics.report.words import duration, megabytes, number


@dataclass(frozen=True)
class Score:
    """What a column of the scoreboard means.

    Attributes
    ----------
    title
        Heading.
    meaning
        One line for the legend.
    span
        Worst and best value, as text.
    best
        Which direction wins; None for figures that are not a contest.
    group
        Heading under which it stands.
    """

    title: str
    meaning: str
    span: str
    best: Literal["high", "low"] | None
    group: str


SCORES: dict[str, Score] = {
    "batch_mixing": Score(
        "Batch mixing",
        "how evenly batches mix among each cell's neighbours (iLISI, rescaled)",
        "0 to 1",
        "high",
        "Batches",
    ),
    "batch_mixing_expected": Score(
        "Mixing expected",
        "batch mixing if batch had no effect at all: the ceiling to compare with",
        "0 to 1",
        None,
        "Batches",
    ),
    "label_ari": Score(
        "Adjusted Rand index",
        "agreement of the chosen clusters with the known labels",
        "0 (chance) to 1",
        "high",
        "Known labels",
    ),
    "label_nmi": Score(
        "Normalised mutual information",
        "the same agreement, kinder to clusters that split one label",
        "0 to 1",
        "high",
        "Known labels",
    ),
    "label_silhouette": Score(
        "Silhouette",
        "how compact and apart the known labels lie in the latent space (rescaled)",
        "0 to 1",
        "high",
        "Known labels",
    ),
    "label_purity": Score(
        "Purity", "how pure in label each cell's neighbours are (cLISI, rescaled)", "0 to 1", "high", "Known labels"
    ),
    "neighbour_overlap_pca": Score(
        "Overlap with PCA", "share of each cell's neighbours that PCA gives it too", "0 to 1", None, "Without labels"
    ),
    "trustworthiness": Score(
        "Trustworthiness",
        "whether neighbours in the latent space were neighbours in the data",
        "0 to 1",
        "high",
        "Without labels",
    ),
    "stability": Score(
        "Stability",
        "mean adjusted Rand index between resampled clusterings at the chosen resolution",
        "0 to 1",
        "high",
        "Without labels",
    ),
    "n_clusters": Score("Clusters", "number of clusters at the chosen resolution", "", None, "Without labels"),
    "seconds": Score("Time", "wall-clock time of the embedding", "", "low", "Cost"),
    "max_rss_mb": Score("Peak memory", "largest resident memory of the embedding's job", "", "low", "Cost"),
    "device": Score("Device", "where it was computed", "", None, "Cost"),
}


def build(data: ReportData) -> Section | None:
    """Scores and costs in one table, one score per row, the best of each marked; None if both are absent."""
    table = data.scores.join(data.costs, how="outer") if len(data.scores) else data.costs
    table = table.reindex([m for m in data.methods if m in table.index] or list(table.index))
    table = table.loc[:, [c for c in table.columns if _known(table[c]).any()]]
    if table.empty:
        return None
    tie = float(data.setting("scores", "tie", default=0.0))
    # Known scores in the order above, then whatever else was written.
    columns = [c for c in SCORES if c in table] + [c for c in table.columns if c not in SCORES]
    groups: dict[str, list[dict[str, Any]]] = {}
    for column in columns:
        score = SCORES.get(column) or _unknown(column)
        row = {"score": score, "cells": _cells(table[column], score, column, tie)}
        groups.setdefault(score.group, []).append(row)
    return Section(
        id="scores",
        title="Which embedding won on what",
        template="scores.html.j2",
        context={
            "heads": [{"title": data.title_of(m), "primary": m == data.primary} for m in table.index],
            "groups": list(groups.items()),
            "sentences": [str(s) for s in data.verdict.get("sentences") or []],
            "why_primary": str(data.verdict.get("why_primary") or ""),
            "tie": tie,
            "max_cells": data.setting("scores", "max_cells"),
            "has_labels": any(c.startswith("label_") for c in columns),
        },
    )


def _unknown(name: str) -> Score:
    return Score(str(name).replace("_", " ").capitalize(), "", "", None, "Other")


def _fixed(value: Any) -> str:
    return number(value) if value is None else f"{float(value):.3f}"


def _known(values: pd.Series) -> pd.Series:
    return values.notna() & (values.astype(str) != "")


def _cells(values: pd.Series, score: Score, name: str, tie: float) -> list[dict[str, Any]]:
    numbers = pd.to_numeric(values, errors="coerce")
    best: set[int] = set()
    # With one embedding there is no contest; the tie is in score units and says nothing about seconds or megabytes.
    if score.best is not None and numbers.notna().sum() > 1:
        margin = tie if score.best == "high" else 0.0
        near = numbers >= numbers.max() - margin if score.best == "high" else numbers <= numbers.min() + margin
        best = {i for i, hit in enumerate(near) if hit}
    unit = score.span.startswith("0")
    show = {"seconds": duration, "max_rss_mb": megabytes}.get(name, _fixed if unit else number)
    return [
        {
            "text": show(value if pd.notna(value) else None),
            "best": i in best,
            "share": min(max(float(numbers.iloc[i]), 0.0), 1.0) if unit and pd.notna(numbers.iloc[i]) else None,
        }
        for i, value in enumerate(values)
    ]
