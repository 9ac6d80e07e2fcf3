"""Marker features of the primary embedding's clusters: dot plot and table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.data import ReportData, natural_order
from latentomics.report.encode import plotly_text
from latentomics.report.figures import FAINT, Figure, category_axis, figure
from latentomics.report.palette import plotly_scale
from latentomics.report.section import Section
from latentomics.report.words import number, percent

#: Markers per cluster in the table; all of them are in the Parquet file.
MAX_ROWS = 25

_COLUMNS = (
    ("cluster", "cluster", "text"),
    ("rank", "rank", "number"),
    ("symbol", "symbol", "text"),
    ("feature", "{feature}", "text"),
    ("auroc", "AUROC", "fixed3"),
    ("log2_fold_change", "log₂ fold change", "fixed2"),
    ("fraction_in", "{seen} inside", "percent"),
    ("fraction_out", "{seen} outside", "percent"),
    ("p_adjusted", "adjusted p", "number"),
)


def build(data: ReportData) -> Section | None:
    """Dot plot and sortable table; None if the primary embedding has no markers."""
    if data.primary is None or (markers := data.markers(data.primary)).empty:
        return None
    dots, width = _dot_plot(data, markers, data.limits.n_top_markers)
    top = markers[markers["rank"] <= MAX_ROWS]
    return Section(
        id="markers",
        title="Markers",
        template="markers.html.j2",
        context={
            "primary": data.title_of(data.primary),
            "method": data.primary,
            "n_clusters": markers["cluster"].nunique(),
            "n_top": data.limits.n_top_markers,
            "max_rows": MAX_ROWS,
            "n_rows": len(top),
            "width": width,
            "has_dots": dots is not None,
            "of_cells": data.kind.VALUE == "expression",
            "sizes": [(percent(share, 0), float(_diameter(share))) for share in (0.1, 0.25, 0.5, 0.75, 1.0)],
            "min_fraction": data.setting("markers", "min_fraction"),
            "max_cells": data.setting("markers", "max_cells_per_cluster"),
        },
        payload={
            "figures": {} if dots is None else {"dots": dots},
            "tables": {"markers": _table(top, _seen(data), "id" if data.feature == "gene" else data.feature)},
        },
    )


def _seen(data: ReportData) -> str:
    return "expressed" if data.kind.VALUE == "expression" else "present"


def _table(top: pd.DataFrame, seen: str, feature: str) -> dict[str, Any]:
    known = [column for column in _COLUMNS if column[0] in top]
    if "symbol" in top and (top["symbol"] == top["feature"].astype(str)).all():
        known = [column for column in known if column[0] != "feature"]
    return {
        "columns": [{"title": title.format(seen=seen, feature=feature), "kind": kind} for _, title, kind in known],
        "rows": [[_rounded(v) for v in row] for row in top[[c for c, _, _ in known]].itertuples(index=False)],
    }


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) and np.isfinite(value) else value


def _dot_plot(data: ReportData, markers: pd.DataFrame, n_top: int) -> tuple[Figure | None, int]:
    """The figure and the width it needs (pixels)."""
    if not {"fraction_in", "mean_in"} <= set(markers.columns):
        return None, 0
    best = markers[markers["rank"] <= n_top]
    if "auroc" in best:
        # With few features, the last of the best mark nothing.
        best = best[best["auroc"] > 0.5]
    best = best.drop_duplicates("feature")
    if best.empty:
        return None, 0
    clusters = natural_order(markers["cluster"])
    features = best["feature"].tolist()
    names = [plotly_text(s) for s in best["symbol"]]
    wide = markers[markers["feature"].isin(features)].drop_duplicates(["cluster", "feature"])
    wide = wide.set_index(["cluster", "feature"])
    places = pd.MultiIndex.from_product([clusters, features])
    mean, share = (
        wide[column].reindex(places).to_numpy(dtype=float).reshape(len(clusters), -1)
        for column in ("mean_in", "fraction_in")
    )
    # A feature that was not tested in a cluster has no dot there and no say in the scale.
    low = np.where(np.isnan(mean), np.inf, mean).min(axis=0)
    high = np.where(np.isnan(mean), -np.inf, mean).max(axis=0)
    scaled = np.divide(mean - low, high - low, out=np.zeros_like(mean), where=high > low)
    bar = {"tickvals": [0, 1], "ticktext": ["low", "high"]}
    least, most = 0.0, 1.0
    if data.kind.VALUE != "expression":
        # Log-ratios of different taxa are on one scale: they are shown as they are.
        scaled, bar = mean, {"title": {"text": "mean CLR", "side": "top", "font": {"size": 12}}, "nticks": 4}
        least, most = float(np.nanmin(mean)), float(np.nanmax(mean))
    y, x = np.nonzero(~np.isnan(share))
    hover = [
        f"{names[j]} in cluster {plotly_text(clusters[i])}<br>{_seen(data)} in {percent(share[i, j])} of {data.observations}"
        f"<br>mean {data.kind.VALUE} {number(float(mean[i, j]))}"
        for i, j in zip(y, x, strict=True)
    ]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": {
            "opacity": 1,
            "size": _diameter(share[y, x]),
            "color": np.round(scaled[y, x], 3),
            "colorscale": plotly_scale(),
            "cmin": least,
            "cmax": most,
            "line": {"width": 0.5, "color": FAINT},
            "showscale": True,
            "colorbar": {
                "thickness": 11,
                "lenmode": "pixels",
                "len": 110,
                "x": 1.02,
                "y": 1,
                "yanchor": "top",
                "outlinewidth": 0,
                **bar,
            },
        },
        "text": hover,
        "hoverinfo": "text",
    }
    owner = best["cluster"].tolist()
    edges = [i - 0.5 for i in range(1, len(owner)) if owner[i] != owner[i - 1]]
    separators = [
        {"type": "line", "x0": e, "x1": e, "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 1, "color": FAINT}}
        for e in edges
    ]
    width = 230 + 21 * len(features)
    return figure(
        [dots],
        height=185 + max(25 * len(clusters), 130),
        margin={"l": 60, "r": 90, "t": 12, "b": 80},
        xaxis=category_axis([_clipped(n) for n in best["symbol"]], tickangle=-90, range=[-0.7, len(features) - 0.3])
        | {"showgrid": False},
        yaxis=category_axis(
            [plotly_text(c) for c in clusters], "cluster", range=[len(clusters) - 0.4, -0.6], showgrid=False
        ),
        shapes=separators,
    ), width


def _diameter(share: Any) -> Any:
    """Diameter of a dot in pixels: the area, not the diameter, is proportional to the fraction."""
    return np.round(np.sqrt(share) * 17, 1)


def _clipped(name: str, width: int = 18) -> str:
    """A label short enough for an axis; the hover box has the whole name."""
    return plotly_text(name if len(name) <= width else name[: width - 1] + "…")
