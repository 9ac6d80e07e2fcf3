"""Quality control: what was kept, what was dropped and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.data import ReportData, natural_order
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, DANGER, FAINT, INK, Figure, axis, category_axis, figure, line
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import number, percent

#: Columns of samples.tsv that count dropped cells, and the reason in words.
_REASONS = {
    "n_doublet": "doublet",
    "n_low_counts": "low counts",
    "n_high_counts": "high counts",
    "n_low_genes": "few genes",
    "n_high_genes": "many genes",
    "n_mito": "mitochondrial",
}

#: Metric of cells.parquet, its title, whether its axis is logarithmic, and its threshold columns of samples.tsv.
_METRICS = (
    ("total_counts", "counts per cell", True, ("min_counts", "max_counts")),
    ("n_genes", "genes per cell", True, ("min_genes", "max_genes")),
    ("mito_percent", "mitochondrial counts, %", False, ("max_mito_percent",)),
    ("doublet_score", "doublet score", False, ("doublet_threshold",)),
)

#: Most samples drawn; with more, those that lost the largest share of their cells.
MAX_SAMPLES = 40
_BINS = 64

#: Colour of the cells that were dropped.
DROPPED = color(3)


def build(data: ReportData) -> Section | None:
    """Per-sample table, bars and distributions; None without samples.tsv (assays without cell QC)."""
    samples = data.samples
    if data.assay != "scrna" or samples.empty or "sample" not in samples:
        return None
    names, cut = _shown(samples)
    rows = samples.set_index("sample").loc[names]
    figures = {}
    if "n_kept" in samples:
        figures["kept"] = _kept_bars(rows)
    if (distributions := _distributions(data.cells, rows)) is not None:
        figures["distributions"] = distributions
    return Section(
        id="quality",
        title="Quality control",
        template="quality.html.j2",
        context={
            "samples": _sample_rows(samples),
            "n_samples": len(samples),
            "n_shown": len(names),
            "cut": cut,
            "figures": list(figures),
            "qc": data.setting("qc", default={}),
            "truth": _truth(data.cells),
            "precision": _precision(samples),
        },
        payload={"figures": figures},
    )


def _shown(samples: pd.DataFrame) -> tuple[list[str], bool]:
    if len(samples) <= MAX_SAMPLES or not {"n_kept", "n_read"} <= set(samples.columns):
        return samples["sample"].head(MAX_SAMPLES).tolist(), len(samples) > MAX_SAMPLES
    share = samples["n_kept"] / samples["n_read"].where(samples["n_read"] > 0)
    worst = share.fillna(0).sort_values(kind="stable").index[:MAX_SAMPLES]
    return samples.loc[sorted(worst), "sample"].tolist(), True


def _sample_rows(samples: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for _, row in samples.iterrows():
        read, kept = row.get("n_read"), row.get("n_kept")
        share = kept / read if read and kept is not None else None
        rows.append(
            {
                "sample": row["sample"],
                "batch": row.get("batch", ""),
                "condition": row.get("condition", ""),
                "format": ", ".join(str(row[c]) for c in ("format", "id_type") if row.get(c)),
                "read": number(read),
                "kept": number(kept),
                "share": percent(share),
                "low": share is not None and share < 0.5,
                "medians": [number(row.get(c)) for c in ("median_counts", "median_genes", "median_mito_percent")],
                "notes": [n for n in str(row.get("notes", "") or "").split("; ") if n],
            }
        )
    return rows


def _kept_bars(rows: pd.DataFrame) -> Figure:
    labels = [plotly_text(name) for name in rows.index]
    reasons = {c: word for c, word in _REASONS.items() if c in rows and rows[c].sum() > 0}
    parts = {"n_kept": "kept"} | reasons
    # Kept is the quiet part; the reasons take the strong colours.
    colours = [FAINT, *(color(i) for i in (3, 1, 5, 4, 0, 2))]
    total = rows[list(parts)].sum(axis=1).where(lambda s: s > 0)
    data = []
    for (column, word), fill in zip(parts.items(), colours, strict=False):
        share = (rows[column] / total).fillna(0)
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": word,
                "x": share.tolist(),
                "y": list(range(len(rows))),
                "marker": {"color": fill},
                "hovertext": [
                    f"{label}: {int(n):,} {word} ({percent(s)})"
                    for label, n, s in zip(labels, rows[column].fillna(0), share, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
    return figure(
        data,
        height=110 + max(24, min(40, 600 // len(rows))) * len(rows),
        barmode="stack",
        bargap=0.35,
        showlegend=True,
        margin={"l": 60, "r": 28, "t": 6, "b": 48},
        xaxis=axis("share of the cells read", range=[0, 1], tickformat=".0%"),
        yaxis=category_axis(labels, autorange="reversed"),
    )


def _distributions(cells: pd.DataFrame, rows: pd.DataFrame) -> Figure | None:
    """One row per sample, one column per metric: all cells read as an outline, kept ones filled."""
    metrics = [m for m in _METRICS if m[0] in cells and cells[m[0]].notna().any()]
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
    for k, (metric, title, log, limits) in enumerate(metrics):
        axis_id = "" if k == 0 else str(k + 1)
        values = cells[metric].to_numpy(dtype=float)
        values = np.log10(np.maximum(values, 1)) if log else values
        finite = np.isfinite(values)
        low, high = _span(values[finite])
        ticks = _decades(low, high) if log else {}
        domain = [k * (width + gap), k * (width + gap) + width]
        layout[f"xaxis{axis_id}"] = axis(title, domain=domain, range=[low, high]) | ticks
        edges = np.linspace(low, high, _BINS + 1)
        for i, name in enumerate(rows.index):
            mine = (sample == str(name)) & finite
            place = {"xaxis": f"x{axis_id}", "yaxis": "y"}
            shape = _violin(values[mine], values[mine & keep], edges)
            if shape is None:
                continue
            middle, everything, kept = shape
            median = 10 ** np.median(values[mine & keep]) if log else np.median(values[mine & keep])
            hover = f"{labels[i]}<br>median {title}, kept cells: {number(float(median))}"
            traces.append(_polygon(middle, everything, i, "rgba(213,94,0,0.4)", line(0.8, DROPPED), hover) | place)
            traces.append(_polygon(middle, kept, i, ACCENT, line(1, ACCENT), hover) | place | {"opacity": 0.75})
            at = float(np.median(values[mine & keep]))
            traces.append(_tick(at, i, 0.3, line(2.5, INK)) | place)
            for limit in limits:
                value = rows.iloc[i].get(limit)
                if value is None or pd.isna(value) or (log and value <= 0):
                    continue
                at = float(np.log10(value)) if log else float(value)
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
    """Bin centres and both outlines as half-widths on one scale, so that what shows between them was dropped."""
    if len(kept) == 0:
        return None
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.4) ** 2)
    smooth = [np.convolve(np.histogram(v, edges)[0], kernel / kernel.sum(), mode="same") for v in (everything, kept)]
    top = max(float(smooth[0].max()), 1e-12)
    return (edges[:-1] + edges[1:]) / 2, smooth[0] / top, smooth[1] / top


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


def _truth(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """How cells of known kind fared: one table per truth column."""
    tables = []
    for column, title in (("label_doublet", "True doublets"), ("label_quality", "True cell quality")):
        if column not in cells or cells[column].isna().all() or "keep" not in cells:
            continue
        known = cells[cells[column].notna()]
        reason = known["reason"].fillna("").astype(str) if "reason" in known else pd.Series("", index=known.index)
        truth = known[column].astype(str)
        keep = known["keep"].astype(bool)
        rows = []
        for level in natural_order(truth):
            mine = truth == level
            dropped = reason[mine & ~keep].value_counts()
            rows.append(
                {
                    "level": level,
                    "read": int(mine.sum()),
                    "kept": int((mine & keep).sum()),
                    "share": percent((mine & keep).sum() / mine.sum()),
                    "reasons": [(name, int(n)) for name, n in sorted(dropped.items(), key=lambda kv: (-kv[1], kv[0]))],
                }
            )
        tables.append({"title": title, "column": column, "rows": rows})
    return tables


def _precision(samples: pd.DataFrame) -> list[tuple[str, str]]:
    if "doublet_average_precision" not in samples:
        return []
    known = samples[samples["doublet_average_precision"].notna()]
    known = known[known["doublet_average_precision"] != ""]
    return [(str(r["sample"]), number(float(r["doublet_average_precision"]))) for _, r in known.iterrows()]
