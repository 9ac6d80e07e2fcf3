"""Which taxa the samples are made of: bars by rank, a heat map, and the tree of lineages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.metagenome import lineage
from latentomics.report.composition import by_rank, grouped_order, leaf_order, lineages, ranks_known, shares
from latentomics.report.data import ReportData, natural_order
from latentomics.report.encode import plotly_text
from latentomics.report.figures import FAINT, MUTED, Figure, axis, category_axis, figure
from latentomics.report.palette import color, plotly_scale
from latentomics.report.section import Section
from latentomics.report.words import percent

#: Taxa with a colour of their own in the bars; the rest are one grey part.
MAX_BARS = 12
#: Rows of the heat map.
MAX_ROWS = 40
#: Taxa with a place of their own in the tree.
MAX_LEAVES = 150
#: With more samples their names are left to the hover box.
MAX_NAMES = 80
#: Most pixels that all samples together may need.
MAX_WIDTH = 1200
#: Pixels that a sample needs at least.
_BAR, _NAMED_BAR = 2, 13
#: Thickness of a strip, in pixels.
_STRIP = 13
_UNITS = 10**9


def build(data: ReportData) -> Section | None:
    """Bars, heat map and tree; None without a counts store of taxa."""
    if data.assay != "metagenome" or data.store is None or not min(data.shape):
        return None
    table, text = shares(data), lineages(data)
    order, used = grouped_order(data, table)
    ranks = ranks_known(text)
    figures: dict[str, Figure] = {}
    for rank in ranks:
        figures[f"bars-{rank}"] = _bars(by_rank(table, text, rank), order, used)
    shown = "genus" if "genus" in ranks else ranks[-1] if ranks else ""
    heat = table[table.mean().sort_values(ascending=False, kind="stable").index[:MAX_ROWS]]
    figures["heat"] = _heat(heat, used)
    if ranks:
        figures["tree"] = _tree(table, text)
    per_sample = _NAMED_BAR if len(table) <= MAX_NAMES else _BAR
    return Section(
        id="taxa",
        title="Taxa",
        template="taxa.html.j2",
        context={
            "ranks": ranks,
            "rank": shown,
            "ordered_by": list(used),
            "width": 330 + min(per_sample * len(table), MAX_WIDTH),
            "n_rows": heat.shape[1],
            "n_taxa": table.shape[1],
            "max_bars": MAX_BARS,
            "max_leaves": MAX_LEAVES if table.shape[1] > MAX_LEAVES else 0,
        },
        payload={"figures": figures},
    )


def _names(index: pd.Index) -> dict[str, Any]:
    """The axis of the samples: their names, as far as there is room."""
    labels = [plotly_text(name) for name in index]
    shown: dict[str, Any] = category_axis(labels, tickangle=-90, tickfont={"size": 11})
    if len(labels) > MAX_NAMES:
        shown = axis(f"{len(labels):,} samples", showticklabels=False)
    return shown | {"range": [-0.5, len(labels) - 0.5], "showgrid": False}


def _strips(
    used: dict[str, pd.Series], order: np.ndarray, height: int
) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    """Coloured strips of the groupings above a figure of a height (pixels), each on an axis of its own.

    Returns
    -------
    tuple
        Traces, layout, and where the figure itself ends (share of the height).
    """
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    thickness, gap = _STRIP / height, _STRIP / 3 / height
    top = 1 - len(used) * (thickness + gap) - 2 * gap if used else 1.0
    for k, (title, values) in enumerate(used.items()):
        bottom = top + 3 * gap + k * (thickness + gap)
        layout[f"yaxis{k + 2}"] = axis(
            domain=[bottom, min(bottom + thickness, 1)],
            range=[0, 1],
            showgrid=False,
            tickvals=[0.5],
            ticktext=[plotly_text(title)],
        )
        mine = values.iloc[order].tolist()
        for i, level in enumerate(natural_order(v for v in mine if v is not None)):
            at = [j for j, v in enumerate(mine) if v == level]
            traces.append(
                {
                    "type": "bar",
                    "x": at,
                    "y": [1] * len(at),
                    "width": 1,
                    "yaxis": f"y{k + 2}",
                    "name": plotly_text(level),
                    "legend": f"legend{k + 2}",
                    # Clusters as in the embeddings; the next strip in colours of its own.
                    "marker": {"color": color(i + 8 * k), "line": {"width": 0}},
                    "hovertext": f"{plotly_text(title)}: {plotly_text(level)}",
                    "hoverinfo": "text",
                }
            )
    return traces, layout, top


def _legends(used: dict[str, pd.Series], y: float) -> dict[str, Any]:
    """Legends of the strips, side by side above the figure."""
    return {
        f"legend{k + 2}": {
            "orientation": "h",
            "x": k * 0.5,
            "y": y,
            "yanchor": "bottom",
            "traceorder": "normal",
            "font": {"size": 12},
            "title": {"text": f"{plotly_text(title)}  ", "font": {"size": 12, "color": MUTED}},
            "itemclick": False,
            "itemdoubleclick": False,
        }
        for k, title in enumerate(used)
    }


def _bars(table: pd.DataFrame, order: np.ndarray, used: dict[str, pd.Series]) -> Figure:
    table = table.iloc[order]
    best = table.iloc[:, :MAX_BARS]
    rest = table.iloc[:, MAX_BARS:]
    parts = [(plotly_text(name), best[name], color(i)) for i, name in enumerate(best)]
    if rest.shape[1]:
        parts.append((f"{rest.shape[1]} others", rest.sum(axis=1), FAINT))
    samples = [plotly_text(name) for name in table.index]
    height = 470
    strips, layout, top = _strips(used, order, height - 110)
    bars = [
        {
            "type": "bar",
            "name": name,
            "x": list(range(len(table))),
            "y": values.round(5).tolist(),
            "marker": {"color": fill, "line": {"width": 0}},
            "customdata": samples,
            "hovertemplate": f"%{{customdata}}<br>{_template_text(name)} %{{y:.2%}}<extra></extra>",
        }
        for name, values, fill in parts
    ]
    return figure(
        [*bars, *strips],
        height=height,
        barmode="stack",
        bargap=0.08 if len(table) <= MAX_NAMES else 0,
        showlegend=True,
        margin={"l": 60, "r": 16, "t": 34, "b": 20},
        legend={"x": 1.01, "y": top, "yanchor": "top", "traceorder": "normal", "font": {"size": 12}},
        xaxis=_names(table.index),
        yaxis=axis("share of the sample", range=[0, 1], tickformat=".0%", domain=[0, top]),
        **layout,
        **_legends(used, 1.0),
    )


def _template_text(name: str) -> str:
    """A name inside a hover template, where ``%{`` would be read as a field."""
    return name.replace("%{", "% {")


def _heat(table: pd.DataFrame, used: dict[str, pd.Series]) -> Figure:
    """log10 of the shares, absent taxa left blank; similar samples and taxa side by side."""
    values = table.to_numpy()
    least = values[values > 0].min(initial=1.0)
    logs = np.log10(np.where(values > 0, values, np.nan))
    roots = np.sqrt(values)
    rows, columns = leaf_order(roots), leaf_order(roots.T, "correlation")
    shown = logs[rows][:, columns]
    samples = [plotly_text(name) for name in table.index[rows]]
    taxa = [plotly_text(name) for name in table.columns[columns]]
    low = int(np.floor(np.log10(least)))
    hover = [
        [f"{sample}<br>{taxon}: {percent(values[i, j], 2)}" for sample, i in zip(samples, rows, strict=True)]
        for taxon, j in zip(taxa, columns, strict=True)
    ]
    height = 130 + max(21 * len(taxa), 160)
    strips, layout, top = _strips(used, rows, height - 110)
    heat = {
        "type": "heatmap",
        "z": np.round(shown.T, 3),
        "text": hover,
        "hoverinfo": "text",
        "hoverongaps": False,
        "colorscale": plotly_scale(),
        "zmin": low,
        "zmax": 0,
        "xgap": 1 if len(table) <= MAX_NAMES else 0,
        "ygap": 1,
        "colorbar": {
            "thickness": 11,
            "lenmode": "pixels",
            "len": 150,
            "x": 1.01,
            "y": top,
            "yanchor": "top",
            "title": {"text": "share", "side": "top", "font": {"size": 12}},
            "tickvals": list(range(low, 1)),
            "ticktext": [percent(10.0**k, max(0, -k - 2)) for k in range(low, 1)],
            "outlinewidth": 0,
        },
    }
    return figure(
        [heat, *strips],
        height=height,
        barmode="stack",
        bargap=0,
        showlegend=True,
        margin={"l": 60, "r": 90, "t": 34, "b": 20},
        xaxis=_names(table.index[rows]),
        yaxis=category_axis(taxa, domain=[0, top], showgrid=False, tickfont={"size": 11}) | {"autorange": "reversed"},
        **layout,
        **_legends(used, 1.0),
    )


def _tree(table: pd.DataFrame, text: pd.Series) -> Figure:
    """Mean shares as a sunburst of the lineages."""
    mean = table.mean().sort_values(ascending=False, kind="stable")
    best, rest = mean.index[:MAX_LEAVES], mean.index[MAX_LEAVES:]
    # Whole parts of a billion: sums of decimal fractions may exceed their parent by a rounding, and nothing is drawn.
    units = (mean * _UNITS).round().astype(int)
    value: dict[str, int] = {}
    parent: dict[str, str] = {}
    for taxon in best:
        path = ""
        for rank, name in lineage.split(text[taxon]).items():
            above, path = path, lineage.join(lineage.split(path) | {rank: name})
            parent[path] = above
            value[path] = value.get(path, 0) + int(units[taxon])
        if not path:
            parent["?"], value["?"] = "", value.get("?", 0) + int(units[taxon])
    if len(rest):
        parent["…"], value["…"] = "", int(units[rest].sum())
    phyla = sorted({_phylum(p) for p in value if _phylum(p)}, key=lambda p: (-value.get(p, 0), p))
    tint = {p: color(i) for i, p in enumerate(phyla)}
    labels = {"?": "unknown lineage", "…": f"{len(rest)} rarer taxa"}
    ids = list(value)
    return figure(
        [
            {
                "type": "sunburst",
                "ids": [plotly_text(p) for p in ids],
                "labels": [plotly_text(labels.get(p, lineage.name_of(p))) for p in ids],
                "parents": [plotly_text(parent[p]) for p in ids],
                "values": [value[p] for p in ids],
                "branchvalues": "total",
                "sort": True,
                "hovertext": [
                    f"{plotly_text(labels.get(p) or f'{lineage.rank_of(p)} {lineage.name_of(p)}')}"
                    f"<br>mean share {percent(value[p] / _UNITS, 2)}"
                    for p in ids
                ],
                "hoverinfo": "text",
                "insidetextorientation": "tangential",
                "marker": {
                    "colors": [
                        _lighter(tint[q], len(lineage.split(p)) - 2) if (q := _phylum(p)) in tint else FAINT
                        for p in ids
                    ],
                    "line": {"width": 1, "color": "var(--surface)"},
                },
                "leaf": {"opacity": 1},
            }
        ],
        height=700,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        uniformtext={"minsize": 9, "mode": "hide"},
    )


def _phylum(text: str) -> str:
    known = lineage.split(text)
    return lineage.at_rank(text, "phylum") if "phylum" in known else ""


def _lighter(colour: str, steps: int) -> str:
    """A colour mixed with white, more with every rank below the phylum."""
    share = min(max(steps, 0) * 0.11, 0.6)
    mixed = (round(int(colour[i : i + 2], 16) * (1 - share) + 255 * share) for i in (1, 3, 5))
    return "#" + "".join(f"{c:02X}" for c in mixed)
