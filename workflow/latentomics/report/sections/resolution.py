"""Which Leiden resolution was chosen, and the evidence."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.figures import ACCENT, DANGER, INK, MUTED, Figure, axis, category_axis, figure, line, note
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import counted, number, setting


def build(data: ReportData) -> Section | None:
    """One figure and a few words per embedding; None if no selection was written."""
    threshold = data.setting("clusters", "min_stability")
    pinned = data.setting("clusters", "resolution")
    figures: dict[str, Figure] = {}
    cards: list[dict[str, Any]] = []
    for method in data.methods:
        selection = data.selection(method)
        if selection.empty or "resolution" not in selection:
            continue
        selection = selection.sort_values("resolution", kind="stable").reset_index(drop=True)
        key = f"resolution-{len(cards)}"
        figures[key] = _stability(selection, threshold)
        cards.append({"title": data.title_of(method), "figure": key} | _words(selection, threshold, pinned, data))
    if not cards:
        return None
    return Section(
        id="resolution",
        title="Which resolution",
        template="resolution.html.j2",
        context={
            "cards": cards,
            "threshold": threshold,
            "n_resamples": data.setting("clusters", "n_resamples"),
            "fraction": data.setting("clusters", "fraction"),
            "max_cells": data.setting("clusters", "max_cells"),
            "pinned": pinned,
            "min_separation": data.setting("clusters", "min_separation"),
        },
        payload={"figures": figures},
    )


def _words(selection: pd.DataFrame, threshold: Any, pinned: Any, data: ReportData) -> dict[str, Any]:
    verdict = str(selection["verdict"].iloc[0]) if "verdict" in selection else ""
    chosen = selection[selection["chosen"]] if "chosen" in selection else selection.iloc[:0]
    stable = bool(selection["stable"].any()) if "stable" in selection else True
    facts: list[tuple[str, str]] = []
    if len(chosen):
        row = chosen.iloc[0]
        facts.append(("chosen resolution", setting(float(row["resolution"]))))
        facts.append(("clusters", number(row.get("n_clusters"))))
        low, high = number(row.get("stability_low")), number(row.get("stability_high"))
        facts.append(("stability", f"{number(row.get('stability'))} ({low} to {high})"))
        facts.append(("separation", number(row.get("separation"))))
        if pd.notna(row.get("smallest_cluster")):
            facts.append(
                ("smallest cluster", counted(int(row["smallest_cluster"]), data.observation, data.observations))
            )
    return {"verdict": verdict, "facts": facts, "stable": stable, "pinned": pinned is not None}


def _stability(selection: pd.DataFrame, threshold: Any) -> Figure:
    places = list(range(len(selection)))
    labels = [setting(float(r)) for r in selection["resolution"]]
    if "n_clusters" in selection:
        labels = [f"{r}<br><b>{number(k)}</b>" for r, k in zip(labels, selection["n_clusters"], strict=True)]
    hover = [_hover(row) for _, row in selection.iterrows()]
    traces: list[dict[str, Any]] = []
    if {"stability_low", "stability_high"} <= set(selection.columns):
        # The band is one closed outline: it keeps its shape where a value is missing at either end.
        known = selection[selection["stability_low"].notna() & selection["stability_high"].notna()]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [*known.index, *known.index[::-1]],
                "y": [*known["stability_high"], *known["stability_low"][::-1]],
                "fill": "toself",
                "fillcolor": "rgba(0,114,178,0.28)",
                "line": {"width": 0},
                "name": "range over resamples",
                "hoverinfo": "skip",
            }
        )
    common = {"type": "scatter", "x": places, "text": hover, "hoverinfo": "text"}
    for column, name, colour, dash, axis_of in (
        ("separation", "separation, smallest d' between clusters", color(1), "dash", "y2"),
        ("stability", "stability, mean adjusted Rand index", ACCENT, "solid", "y"),
    ):
        if column in selection:
            look = {"mode": "lines+markers", "line": line(2, colour, dash), "marker": {"size": 6, "color": colour}}
            traces.append(common | look | {"name": name, "y": selection[column].tolist(), "yaxis": axis_of})
    shapes, notes = [], []
    if threshold is not None:
        span = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": threshold, "y1": threshold}
        shapes.append(span | {"line": line(1.2, DANGER, "dot")})
        text = f"stable from {setting(threshold)}"
        place = {"xref": "paper", "xanchor": "left", "yanchor": "top", "font": {"size": 11, "color": DANGER}}
        notes.append(note(text, 0.004, threshold, **place))
    chosen = selection[selection["chosen"]] if "chosen" in selection else selection.iloc[:0]
    for place in chosen.index[:1]:
        shapes.append(
            {
                "type": "rect",
                "x0": place - 0.42,
                "x1": place + 0.42,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"width": 0},
                "fillcolor": MUTED,
                "opacity": 0.16,
                "layer": "below",
            }
        )
        notes.append(note("chosen", place, 0.02, yref="paper", yanchor="bottom", font={"size": 12, "color": INK}))
    # d' has no upper end: an axis of its own on the right, from 0 so that heights can be compared.
    highest = float(selection["separation"].max()) if "separation" in selection else float("nan")
    right = axis("separation, d'", overlaying="y", side="right", showgrid=False, tickmode="auto", nticks=5)
    right["range"] = [0, 1.15 * highest if pd.notna(highest) else 1]
    return figure(
        traces,
        height=330,
        showlegend=True,
        margin={"l": 56, "r": 56, "t": 6, "b": 60},
        xaxis=category_axis(labels, "Leiden resolution, and below it the number of clusters")
        | {"range": [-0.6, len(places) - 0.4], "showgrid": False},
        yaxis=axis("stability", range=[0.0, 1.04]),
        yaxis2=right,
        shapes=shapes,
        annotations=notes,
    )


def _hover(row: pd.Series) -> str:
    parts = [f"resolution {setting(float(row['resolution']))}"]
    if "n_clusters" in row:
        before = f" ({number(row['n_leiden'])} before merging)" if "n_leiden" in row else ""
        parts.append(f"{number(row['n_clusters'])} clusters{before}")
    for column in ("stability", "stability_low", "stability_high", "separation", "smallest_cluster"):
        if column in row and pd.notna(row[column]):
            parts.append(f"{column.replace('_', ' ')} {number(row[column])}")
    return "<br>".join(parts)
