"""How accuracy grows with the number of training reads, and from where on a deep model pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.classifier import KMER, MAJORITY, ClassifierData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import Figure, axis, figure, line
from latentomics.report.section import Section
from latentomics.report.words import duration, listed, number, percent

_NEEDED = ("model", "n_train", "accuracy", "accuracy_low", "accuracy_high")


def build(data: ClassifierData) -> Section | None:
    """Curves and what they say; None if nothing was trained on less than all reads."""
    table = _points(data)
    if table.empty or table["n_train"].nunique() < 2:
        return None
    names = [name for name in data.scores.index if name in set(table["model"])]
    names += [name for name in dict.fromkeys(table["model"]) if name not in names]
    return Section(
        id="curve",
        title="How many reads are needed?",
        template="classifier_curve.html.j2",
        context={
            "sentences": [*_crossings(data, table), *_rising(data, table)],
            "rows": _rows(data, table, names),
            "sizes": [number(n) for n in sorted(table["n_train"].unique())],
        },
        payload={"figures": {"curve": _figure(data, table, names)}},
    )


def _points(data: ClassifierData) -> pd.DataFrame:
    """One row per model and number of training reads, ascending; the models of the scores are the last points."""
    if not set(_NEEDED) <= set(data.curve.columns):
        return pd.DataFrame(columns=[*_NEEDED, "seconds"])
    scores = data.scores.reset_index().rename(columns={"train_seconds": "seconds"})
    table = pd.concat([data.curve, scores.reindex(columns=[*_NEEDED, "seconds"])], ignore_index=True)
    table = table[list(_NEEDED) + (["seconds"] if "seconds" in table else [])]
    table = table.dropna(subset=["n_train", "accuracy"]).drop_duplicates(["model", "n_train"])
    return table.sort_values(["model", "n_train"], kind="stable").reset_index(drop=True)


def first_better(model: pd.DataFrame, baseline: pd.DataFrame) -> float | None:
    """The number of training reads from which on a model is better than a baseline, its interval above the baseline's.

    Parameters
    ----------
    model, baseline
        ``n_train accuracy_low accuracy_high`` of each, one row per number of training reads.

    Returns
    -------
    float or None
        The smallest number that was tried for which this holds, and holds for all larger ones; None if there is none.
    """
    both = model.merge(baseline, on="n_train", suffixes=("", "_baseline")).sort_values("n_train")
    better = (both["accuracy_low"] > both["accuracy_high_baseline"]).to_numpy()
    # From the last one on backwards, as long as it holds.
    held = np.logical_and.accumulate(better[::-1])[::-1]
    return float(both["n_train"].to_numpy()[held][0]) if held.any() else None


def _crossings(data: ClassifierData, table: pd.DataFrame) -> list[str]:
    """From how many reads on each network is better than the regression on k-mers, or that it never is."""
    baseline = table[table["model"] == KMER]
    if baseline.empty:
        return []
    title = data.phrase_of(KMER)
    sentences, never = [], []
    for name in data.networks:
        mine = table[table["model"] == name]
        shared = mine.merge(baseline, on="n_train")
        if shared.empty:
            continue
        at = first_better(mine, baseline)
        if at is None:
            never.append(data.phrase_of(name))
        elif at == shared["n_train"].min():
            sentences.append(
                f"At every number of training reads that was tried, from {number(at)} on, {data.phrase_of(name)} is better "
                f"than {title}."
            )
        else:
            sentences.append(f"From {number(at)} training reads on, {data.phrase_of(name)} is better than {title}.")
    if never:
        most = number(baseline["n_train"].max())
        are = "is" if len(never) == 1 else "are"
        sentences.append(f"With up to {most} training reads {listed(never)} {are} not clearly better than {title}.")
    return sentences


def _rising(data: ClassifierData, table: pd.DataFrame) -> list[str]:
    """Models that still learnt from the last reads they were given."""
    rising, flat = [], []
    for name in [*data.networks, KMER]:
        last = table[table["model"] == name].tail(2)
        if len(last) == 2:
            grew = last["accuracy_low"].iloc[1] > last["accuracy_high"].iloc[0]
            (rising if grew else flat).append(data.phrase_of(name))
    parts = []
    if rising:
        parts.append(
            f"With more reads than these, {listed(rising)} may still improve: the last step up was a clear gain."
        )
    if flat:
        parts.append(f"The last step up brought no clear gain to {listed(flat)}.")
    return parts


def _rows(data: ClassifierData, table: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    sizes = sorted(table["n_train"].unique())
    rows = []
    for name in names:
        mine = table[table["model"] == name].set_index("n_train")
        cells = []
        for n in sizes:
            if n not in mine.index:
                cells.append({"value": "–", "seconds": ""})
                continue
            seconds = mine["seconds"].get(n) if "seconds" in mine else None
            known = seconds is not None and not pd.isna(seconds)
            cells.append({"value": percent(mine.loc[n, "accuracy"]), "seconds": duration(seconds) if known else ""})
        rows.append({"name": data.title_of(name), "cells": cells})
    return rows


def _figure(data: ClassifierData, table: pd.DataFrame, names: list[str]) -> Figure:
    traces = []
    for name in names:
        mine = table[table["model"] == name]
        title, colour = plotly_text(data.title_of(name)), data.colour_of(name)
        accuracy = mine["accuracy"].to_numpy(dtype=float)
        low, high = (mine[c].to_numpy(dtype=float) for c in ("accuracy_low", "accuracy_high"))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": title,
                "x": mine["n_train"].tolist(),
                "y": accuracy,
                "line": line(2.2, colour, "dot" if name == MAJORITY else "dash" if name == KMER else "solid"),
                "marker": {"size": 8, "color": colour},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": high - accuracy,
                    "arrayminus": accuracy - low,
                    "color": colour,
                    "thickness": 1.5,
                    "width": 4,
                },
                "text": [
                    f"{title}<br>{n:,.0f} training reads: {percent(a)} ({percent(x)} to {percent(y)})"
                    for n, a, x, y in zip(mine["n_train"], accuracy, low, high, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
    sizes = sorted(table["n_train"].unique())
    return figure(
        traces,
        height=420,
        showlegend=True,
        xaxis=axis(
            "training reads (logarithmic)",
            type="log",
            tickmode="array",
            tickvals=sizes,
            ticktext=[f"{n:,.0f}" for n in sizes],
        ),
        yaxis=axis("accuracy on the test reads", tickformat=".0%"),
    )
