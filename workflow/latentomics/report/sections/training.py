"""How the embeddings were trained: loss curves, explained variance, cost."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, FAINT, MUTED, Figure, axis, figure, line, note
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import duration, megabytes, number

#: Facts of summary.json in the order of the table.
_FACTS = (
    ("n_latent", "latent dimensions"),
    ("n_parameters", "parameters"),
    ("n_train", "trained on"),
    ("n_held_out", "held out"),
    ("n_epochs", "epochs"),
    ("n_steps", "optimiser steps"),
    ("best_epoch", "best epoch"),
    ("loss_name", "loss"),
    ("held_out_loss", "held-out loss at best epoch"),
    ("held_out_r2", "held-out R²"),
    ("stopped", "why it stopped"),
    ("device", "device"),
    ("seed", "seed"),
)


def build(data: ReportData) -> Section | None:
    """One figure per embedding and one table of all; None if there is neither summary nor history."""
    figures: dict[str, Figure] = {}
    cards: list[dict[str, Any]] = []
    for method in data.methods:
        history, summary = data.history(method), data.summary(method)
        key = f"training-{len(cards)}"
        kind = ""
        if {"epoch", "held_out"} <= set(history.columns) and len(history):
            figures[key], kind = _losses(history, summary), "loss"
        elif ratios := summary.get("explained_variance_ratio"):
            figures[key], kind = _variance(list(ratios)), "variance"
        if kind or summary:
            cards.append(
                {"title": data.title_of(method), "figure": key if kind else "", "kind": kind, "method": method}
            )
    if not cards:
        return None
    methods = [card["method"] for card in cards]
    return Section(
        id="training",
        title="Training",
        template="training.html.j2",
        context={"cards": cards, "kinds": {c["kind"] for c in cards}, "facts": _facts(data, methods)},
        payload={"figures": figures},
    )


def _facts(data: ReportData, methods: list[str]) -> list[dict[str, Any]]:
    rows = []
    for key, label in _FACTS:
        values = [data.summary(m).get(key) for m in methods]
        if any(v is not None for v in values):
            rows.append({"label": label, "values": [_fact(v, 4 if key.endswith("loss") else 3) for v in values]})
    for column, label, show in (("seconds", "time", duration), ("max_rss_mb", "peak memory", megabytes)):
        if column in data.costs:
            rows.append({"label": label, "values": [show(data.costs[column].get(m)) for m in methods]})
    return rows


def _fact(value: Any, digits: int) -> str:
    if isinstance(value, list):  # one figure per number of dimensions
        return f"{number(value[-1], digits)} ({len(value)} dimensions)" if value else number(None)
    return str(value) if isinstance(value, str) and value else number(value, digits)


def _losses(history: pd.DataFrame, summary: dict[str, Any]) -> Figure:
    traces = []
    for column, name, colour in (("train", "training", MUTED), ("held_out", "held-out", ACCENT)):
        if column not in history:
            continue
        known = history[history[column].notna()]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": known["epoch"].tolist(),
                "y": known[column].tolist(),
                "line": line(2.5 if column == "held_out" else 1.8, colour),
                "hovertemplate": f"epoch %{{x}}<br>{name} loss %{{y:.5~g}}<extra></extra>",
            }
        )
    marks: dict[str, Any] = {}
    best = summary.get("best_epoch")
    if best is not None:
        marks["shapes"] = [
            {
                "type": "line",
                "x0": best,
                "x1": best,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": line(1.5, color(3), "dash"),
            }
        ]
        late = best > 0.6 * float(history["epoch"].max())
        place = {"yref": "paper", "yanchor": "top", "xanchor": "right" if late else "left", "bgcolor": "var(--surface)"}
        marks["annotations"] = [note(f" best epoch {number(best)} ", best, 1, **place)]
    title = "<br>".join(plotly_text(part) for part in wrap(str(summary.get("loss_name") or "loss"), 34))
    return figure(
        traces, height=280, showlegend=True, xaxis=axis("epoch", rangemode="tozero"), yaxis=axis(title), **marks
    )


def _variance(ratios: list[float]) -> Figure:
    numbers = list(range(1, len(ratios) + 1))
    cumulative = pd.Series(ratios, dtype=float).cumsum().tolist()
    bars = {
        "type": "bar",
        "name": "each",
        "x": numbers,
        "y": ratios,
        "marker": {"color": FAINT},
        "hovertemplate": "component %{x}: %{y:.2%}<extra></extra>",
    }
    total = {
        "type": "scatter",
        "mode": "lines",
        "name": "cumulative",
        "x": numbers,
        "y": cumulative,
        "line": line(2.5, ACCENT),
        "hovertemplate": "first %{x} components: %{y:.1%}<extra></extra>",
    }
    return figure(
        [bars, total],
        height=280,
        showlegend=True,
        xaxis=axis("principal component"),
        yaxis=axis("explained variance", tickformat=".0%", rangemode="tozero"),
    )
