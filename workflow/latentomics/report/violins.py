"""Distributions of the cells of every sample: one row per sample, one column per metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, DANGER, INK, Figure, axis, category_axis, figure, line
from latentomics.report.palette import color
from latentomics.report.words import number, percent

_BINS = 64

#: Colour of the cells that were dropped.
DROPPED = color(3)


@dataclass(frozen=True)
class Metric:
    """A column of cells.parquet.

    Attributes
    ----------
    column, title
        Its name, and what stands at its axis.
    log
        Whether its axis is logarithmic.
    limits
        Columns of the samples' table that hold its limits.
    share
        Whether it is a share, written in percent.
    """

    column: str
    title: str
    log: bool = False
    limits: tuple[str, ...] = ()
    share: bool = False


def distributions(cells: pd.DataFrame, rows: pd.DataFrame, metrics: Sequence[Metric]) -> Figure | None:
    """All cells read as an outline, kept ones filled.

    Parameters
    ----------
    cells
        ``sample``, ``keep`` and the metrics; those that are missing or without a value are left out.
    rows
        The samples that are drawn, with their limits where there are any.

    Returns
    -------
    Figure or None
        None without a metric.
    """
    metrics = [m for m in metrics if m.column in cells and cells[m.column].notna().any()]
    if not metrics or not {"sample", "keep"} <= set(cells.columns):
        return None
    labels = [plotly_text(name) for name in rows.index]
    height = max(26, min(64, 720 // len(rows)))
    gap = 0.035
    width = (1 - gap * (len(metrics) - 1)) / len(metrics)
    layout: dict[str, Any] = {"yaxis": category_axis(labels, range=[len(rows) - 0.4, -0.6], showgrid=False)}
    traces: list[dict[str, Any]] = []
    sample = cells["sample"].astype(str).to_numpy()
    keep = cells["keep"].to_numpy(dtype=bool)
    for k, metric in enumerate(metrics):
        axis_id = "" if k == 0 else str(k + 1)
        values = cells[metric.column].to_numpy(dtype=float)
        values = np.log10(np.maximum(values, 1)) if metric.log else values
        finite = np.isfinite(values)
        low, high = _span(values[finite])
        low = max(low, 0.0) if metric.share else low
        ticks = _decades(low, high) if metric.log else {"tickformat": ".2~%"} if metric.share else {}
        domain = [k * (width + gap), k * (width + gap) + width]
        layout[f"xaxis{axis_id}"] = axis(metric.title, domain=domain, range=[low, high]) | ticks
        edges = np.linspace(low, high, _BINS + 1)
        for i, name in enumerate(rows.index):
            mine = (sample == str(name)) & finite
            place = {"xaxis": f"x{axis_id}", "yaxis": "y"}
            shape = _violin(values[mine], values[mine & keep], edges)
            if shape is None:
                continue
            middle, everything, kept = shape
            at = float(np.median(values[mine & keep]))
            median = percent(at) if metric.share else number(10**at if metric.log else at)
            hover = f"{labels[i]}<br>median {metric.title}, kept cells: {median}"
            traces.append(_polygon(middle, everything, i, "rgba(213,94,0,0.4)", line(0.8, DROPPED), hover) | place)
            traces.append(_polygon(middle, kept, i, ACCENT, line(1, ACCENT), hover) | place | {"opacity": 0.75})
            traces.append(_tick(at, i, 0.3, line(2.5, INK)) | place)
            for limit in metric.limits:
                value = rows.iloc[i].get(limit)
                if value is None or pd.isna(value) or (metric.log and value <= 0):
                    continue
                at = float(np.log10(value)) if metric.log else float(value)
                if low <= at <= high:
                    traces.append(_tick(at, i, 0.44, line(2, DANGER)) | place)
    return figure(
        traces,
        height=90 + height * len(rows),
        margin={"l": 60, "r": 12, "t": 14, "b": 52},
        hovermode="closest",
        **layout,
    )


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.03 * (high - low) or 0.5
    return low - pad, high + pad


def _decades(low: float, high: float) -> dict[str, Any]:
    """Ticks of a hand-made log10 axis: 1, 2 and 5 of each decade if there is room."""
    steps = (1, 2, 5) if high - low < 2 else (1, 3) if high - low < 3.2 else (1,)
    marks = [step * 10**d for d in range(int(low), int(high) + 1) for step in steps]
    marks = [m for m in marks if low <= np.log10(m) <= high]
    return {
        "tickmode": "array",
        "tickvals": [float(np.log10(m)) for m in marks],
        "ticktext": [f"{m // 1000:,}k" if m >= 1000 else str(m) for m in marks],
    }


def _violin(
    everything: np.ndarray, kept: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Places and both outlines as half-widths on one scale, so that what shows between them was dropped."""
    if len(kept) == 0:
        return None
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.4) ** 2)
    smooth = [np.convolve(np.histogram(v, edges)[0], kernel / kernel.sum(), mode="same") for v in (everything, kept)]
    top = max(float(smooth[0].max()), 1e-12)
    # To the very edges: a share of nearly nothing lies at one.
    places = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    return places, np.pad(smooth[0] / top, 1, mode="edge"), np.pad(smooth[1] / top, 1, mode="edge")


def _polygon(x: np.ndarray, half: np.ndarray, row: int, fill: str, edge: dict[str, Any], hover: str) -> dict[str, Any]:
    inside = np.flatnonzero(half > 0.004)
    first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
    x, half = x[first:last], 0.4 * half[first:last]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.round(np.concatenate([x, x[::-1]]), 4),
        "y": np.round(np.concatenate([row - half, (row + half)[::-1]]), 4),
        "fill": "toself",
        "fillcolor": fill,
        "line": edge,
        "text": hover,
        "hoverinfo": "text",
        "hoveron": "fills",
    }


def _tick(at: float, row: int, half: float, style: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [at, at],
        "y": [row - half, row + half],
        "line": style,
        "hoverinfo": "skip",
    }
