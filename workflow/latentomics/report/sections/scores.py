"""The scoreboard: which embedding won on what, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.section import Section
from latentomics.report.words import duration, megabytes, number
from latentomics.score.catalogue import SCORES


@dataclass(frozen=True)
class Row:
    """How the table shows one score or cost.

    Attributes
    ----------
    title, meaning, group
        Heading, one line for the legend, and the heading under which it stands.
    best
        Which direction wins; None for figures that are not a contest.
    share
        Whether the value is a share that a bar can show.
    """

    title: str
    meaning: str
    group: str
    best: Literal["high", "low"] | None = None
    share: bool = False


ROWS: dict[str, Row] = {
    **{
        name: Row(score.name, score.meaning, score.group, "high" if score.ranked else None, share=True)
        for name, score in sorted(SCORES.items(), key=lambda item: item[1].group)
    },
    "n_clusters": Row("Clusters", "number of clusters at the chosen resolution", "Without labels"),
    "seconds": Row("Time", "wall-clock time of the embedding", "Cost", "low"),
    "max_rss_mb": Row("Peak memory", "largest resident memory of the embedding's job", "Cost", "low"),
    "device": Row("Device", "where it was computed", "Cost"),
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
    columns = [c for c in ROWS if c in table] + [c for c in table.columns if c not in ROWS]
    groups: dict[str, list[dict[str, Any]]] = {}
    for column in columns:
        score = ROWS.get(column) or _unknown(column)
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
            "primary": data.title_of(data.primary) if data.primary else "",
            "why_primary": str(data.verdict.get("why_primary") or ""),
            "tie": tie,
            "max_cells": data.setting("scores", "max_cells"),
            "has_labels": any(c.startswith("label_") for c in columns),
        },
    )


def _unknown(name: str) -> Row:
    return Row(str(name).replace("_", " ").capitalize(), "", "Other")


def _fixed(value: Any) -> str:
    return number(value) if value is None else f"{float(value):.3f}"


def _known(values: pd.Series) -> pd.Series:
    return values.notna() & (values.astype(str) != "")


def _cells(values: pd.Series, score: Row, name: str, tie: float) -> list[dict[str, Any]]:
    numbers = pd.to_numeric(values, errors="coerce")
    best: set[int] = set()
    # With one embedding there is no contest; the tie is in score units and says nothing about seconds or megabytes.
    if score.best is not None and numbers.notna().sum() > 1:
        margin = tie if score.best == "high" else 0.0
        near = numbers >= numbers.max() - margin if score.best == "high" else numbers <= numbers.min() + margin
        best = {i for i, hit in enumerate(near) if hit}
    show = {"seconds": duration, "max_rss_mb": megabytes}.get(name, _fixed if score.share else number)
    return [
        {
            "text": show(value if pd.notna(value) else None),
            "best": i in best,
            "share": min(max(float(numbers.iloc[i]), 0.0), 1.0) if score.share and pd.notna(numbers.iloc[i]) else None,
        }
        for i, value in enumerate(values)
    ]
