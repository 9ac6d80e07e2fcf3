"""Distances between the samples in two dimensions, by two measures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.data import ReportData, natural_order
from latentomics.report.encode import plotly_text
from latentomics.report.figures import FAINT, Figure, axis, figure, note
from latentomics.report.groupings import groupings
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import percent

#: Columns of ordination.tsv begin with the name of the distance.
DISTANCES = {"aitchison": "Aitchison", "braycurtis": "Bray–Curtis"}
#: A grouping with more values than this has too many colours to be told apart.
MAX_LEVELS = 30


def build(data: ReportData) -> Section | None:
    """Both ordinations, one figure per grouping; None if none was written."""
    frame = data.table("ordination")
    if "sample" not in frame:
        return None
    frame = frame.set_index("sample")
    shown = [d for d in DISTANCES if {f"{d}1", f"{d}2"} <= set(frame.columns)]
    if not shown or frame.empty:
        return None
    known = groupings(data, MAX_LEVELS)
    known = {title: v.set_axis(v.index.astype(str)).reindex(frame.index) for title, v in known.items()}
    known = known or {"nothing": pd.Series(None, index=frame.index, dtype=object)}
    figures = {f"by-{i}": _figure(frame, shown, values) for i, values in enumerate(known.values())}
    return Section(
        id="ordination",
        title="Distances between samples",
        template="ordination.html.j2",
        context={"choices": list(zip(figures, known, strict=True)), "distances": [DISTANCES[d] for d in shown]},
        payload={"figures": figures},
    )


def _figure(frame: pd.DataFrame, shown: list[str], values: pd.Series) -> Figure:
    size = 10 if len(frame) <= 100 else 7 if len(frame) <= 500 else 5
    levels: list[str | None] = [*natural_order(v for v in values if v is not None and pd.notna(v))]
    if values.isna().any():
        levels.append(None)
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    titles = []
    width = 1 / len(shown) - 0.05
    for k, distance in enumerate(shown):
        axis_id = "" if k == 0 else str(k + 1)
        left = k * (width + 0.1)
        for i, level in enumerate(levels):
            rows = frame[values.isna() if level is None else values == level]
            name = "unknown" if level is None else plotly_text(level)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "legendgroup": str(i),
                    "showlegend": k == 0 and len(levels) > 1,
                    "x": rows[f"{distance}1"].tolist(),
                    "y": rows[f"{distance}2"].tolist(),
                    "xaxis": f"x{axis_id}",
                    "yaxis": f"y{axis_id}",
                    "text": [f"{plotly_text(sample)}<br>{name}" for sample in rows.index],
                    "hoverinfo": "text",
                    "marker": {
                        "size": size,
                        "opacity": 0.85,
                        "color": FAINT if level is None else color(i),
                        "line": {"width": 0.6, "color": "var(--surface)"},
                    },
                }
            )
        layout[f"xaxis{axis_id}"] = axis(
            _axis_title(frame, distance, 1), domain=[left, left + width], anchor=f"y{axis_id}"
        )
        # One unit is as long on both axes: distances on the page are distances.
        layout[f"yaxis{axis_id}"] = axis(
            _axis_title(frame, distance, 2), anchor=f"x{axis_id}", scaleanchor=f"x{axis_id}", scaleratio=1
        )
        place = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "font": {"size": 13.5}}
        titles.append(note(f"<b>{DISTANCES[distance]}</b>", left, 1.0, **place))
    legend = {"orientation": "h", "x": 0, "y": 1.07, "yanchor": "bottom", "traceorder": "normal"}
    return figure(
        traces,
        height=480,
        showlegend=True,
        legend=legend,
        margin={"l": 60, "r": 16, "t": 40, "b": 52},
        annotations=titles,
        **layout,
    )


def _axis_title(frame: pd.DataFrame, distance: str, number: int) -> str:
    column = f"{distance}{number}_explained"
    share = f" ({percent(float(frame[column].iloc[0]))})" if column in frame and pd.notna(frame[column].iloc[0]) else ""
    return f"PCo {number}{share}"
