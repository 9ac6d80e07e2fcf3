"""Whether a confidence means what it says, and what is gained by leaving doubtful reads unclassified."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.classifier import KMER, MAJORITY, ClassifierData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, FAINT, MUTED, Figure, axis, figure, line
from latentomics.report.section import Section
from latentomics.report.words import number, percent, setting


def build(data: ClassifierData) -> Section | None:
    """Reliability and abstention curves with their table; None if nothing was judged."""
    names = [data.best, *(n for n in data.scores.index if n not in (data.best, MAJORITY))] if data.best else []
    figures: dict[str, Figure] = {}
    options = []
    for name in names:
        if {"confidence", "accuracy", "scaled"} <= set((table := data.judged(name, "calibration")).columns):
            key = f"reliability-{len(options)}"
            figures[key] = _reliability(table, data.summary(name))
            options.append({"key": key, "title": data.title_of(name)})
    curves = {n: t for n in names if {"share", "precision"} <= set((t := data.judged(n, "abstention")).columns)}
    if curves:
        figures["abstention"] = _abstention(data, curves)
    if not figures:
        return None
    return Section(
        id="calibration",
        title="Calibration and abstention",
        template="classifier_calibration.html.j2",
        context={
            "options": options,
            "figures": list(figures),
            "rows": [_row(data, name) for name in names],
            "wanted": data.summary(names[0]).get("precision_wanted"),
        },
        payload={"figures": figures},
    )


def _row(data: ClassifierData, name: str) -> dict[str, Any]:
    summary = data.summary(name)
    threshold = summary.get("threshold")
    return {
        "name": data.title_of(name),
        "temperature": number(summary.get("temperature")),
        "errors": [percent(summary.get(key), 2) for key in ("ece", "ece_scaled", "ece_by_chance")],
        "threshold": "none" if threshold is None else setting(round(threshold, 3)),
        "share": percent(summary.get("share_classified")),
        "precision": percent(summary.get("precision_classified")),
        "why": str(summary.get("threshold_why") or ""),
    }


def _reliability(table: pd.DataFrame, summary: dict[str, Any]) -> Figure:
    """Accuracy against confidence, before and after temperature scaling."""
    traces: list[dict[str, Any]] = []
    scaled = table["scaled"].str.lower().isin(["true", "1"])
    floor = max(min(table["confidence"].min(), table["accuracy"].min()) - 0.05, 0)
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 1],
            "y": [0, 1],
            "line": line(1.2, FAINT, "dot"),
            "hoverinfo": "skip",
            "showlegend": False,
        }
    )
    for mine, name, key, colour in (
        (table[~scaled], "as trained", "ece", MUTED),
        (table[scaled], "after temperature scaling", "ece_scaled", ACCENT),
    ):
        if mine.empty:
            continue
        error = f" (error {percent(summary[key], 2)})" if summary.get(key) is not None else ""
        reads = mine["reads"] if "reads" in mine else pd.Series(float("nan"), index=mine.index)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name + error,
                "x": mine["confidence"].tolist(),
                "y": mine["accuracy"].tolist(),
                "line": line(2.2 if colour == ACCENT else 1.6, colour, "solid" if colour == ACCENT else "dash"),
                "marker": {"size": 8, "color": colour, "symbol": "circle" if colour == ACCENT else "circle-open"},
                "text": [
                    f"{name}<br>mean confidence {percent(c)}: {percent(a)} of {number(n)} reads are right"
                    for c, a, n in zip(mine["confidence"], mine["accuracy"], reads, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
    both = {"range": [floor, 1.01], "tickformat": ".0%"}
    return figure(
        traces,
        height=400,
        showlegend=True,
        xaxis=axis("confidence of the classifier", **both),
        yaxis=axis("share that is right", **both),
    )


def _abstention(data: ClassifierData, curves: dict[str, pd.DataFrame]) -> Figure:
    """Precision against the share of reads that are classified, one line per model; the chosen thresholds as points."""
    traces: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    for name, table in curves.items():
        title, colour = plotly_text(data.title_of(name)), data.colour_of(name)
        at = table["threshold"] if "threshold" in table else pd.Series(float("nan"), index=table.index)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": title,
                "x": table["share"].tolist(),
                "y": table["precision"].tolist(),
                "line": line(2.6 if name == data.best else 1.8, colour, "dash" if name == KMER else "solid"),
                "text": [
                    f"{title}<br>confidence of at least {t:.3f}: {percent(s)} of the reads, {percent(p)} of them right"
                    for t, s, p in zip(at, table["share"], table["precision"], strict=True)
                ],
                "hoverinfo": "text",
            }
        )
        summary = data.summary(name)
        if summary.get("threshold") is not None and summary.get("precision_classified") is not None:
            share, precision = summary["share_classified"], summary["precision_classified"]
            chosen.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [share],
                    "y": [precision],
                    "marker": {"size": 12, "symbol": "diamond", "color": colour, "line": line(1.5, "var(--surface)")},
                    "hovertext": f"{title}<br>chosen threshold {summary['threshold']:.3f}: {percent(share)} classified, "
                    f"{percent(precision)} of them right",
                    "hoverinfo": "text",
                    "showlegend": False,
                }
            )
    marks: dict[str, Any] = {}
    if (wanted := data.summary(next(iter(curves))).get("precision_wanted")) is not None:
        place = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": wanted, "y1": wanted}
        marks["shapes"] = [place | {"line": line(1.2, MUTED, "dot")}]
    return figure(
        [*traces, *chosen],
        height=400,
        showlegend=True,
        xaxis=axis("share of the reads that are classified", range=[0, 1.02], tickformat=".0%"),
        yaxis=axis("share of them that is right", tickformat=".0%"),
        **marks,
    )
