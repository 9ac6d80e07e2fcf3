"""Quality control: what was kept, what was dropped and why."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.data import ReportData, natural_order
from latentomics.report.encode import plotly_text
from latentomics.report.figures import FAINT, Figure, axis, category_axis, figure
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.violins import Metric, distributions
from latentomics.report.words import number, percent
from latentomics.scrna.doublets import registry
from latentomics.scrna.doublets.decide import said_doublets

#: Columns of samples.tsv that count dropped cells, and the reason in words.
_REASONS = {
    "n_doublet": "doublet",
    "n_low_counts": "low counts",
    "n_high_counts": "high counts",
    "n_low_genes": "few genes",
    "n_high_genes": "many genes",
    "n_mito": "mitochondrial",
}

_METRICS = (
    Metric("total_counts", "counts per cell", log=True, limits=("min_counts", "max_counts")),
    Metric("n_genes", "genes per cell", log=True, limits=("min_genes", "max_genes")),
    Metric("mito_percent", "mitochondrial counts, %", limits=("max_mito_percent",)),
)

#: Most samples drawn; with more, those that lost the largest share of their cells.
MAX_SAMPLES = 40


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
    methods = _doublet_methods(data.cells)
    if (found := distributions(data.cells, rows, [*_METRICS, *_doublet_metrics(methods)])) is not None:
        figures["distributions"] = found
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
            "doublets": _doublets(data.cells, methods) if len(methods) > 1 else None,
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


def _doublet_methods(cells: pd.DataFrame) -> dict[str, str]:
    """Doublet callers whose own scores were kept: name and title."""
    return {name: registry.method(name).TITLE for name in registry.METHODS if f"{name}_score" in cells}


def _doublet_metrics(methods: dict[str, str]) -> list[Metric]:
    """The score of every method; with one, or none that is known, the score that decided."""
    if len(methods) < 2:
        return [Metric("doublet_score", "doublet score", limits=("doublet_threshold",))]
    return [Metric(f"{name}_score", f"{title} score", limits=(f"{name}_threshold",)) for name, title in methods.items()]


def _doublets(cells: pd.DataFrame, methods: dict[str, str]) -> dict[str, Any]:
    """How many cells of every sample each method calls doublets, how many all of them do, and how many were called."""
    tested = cells[cells[[f"{name}_score" for name in methods]].notna().any(axis=1)]
    calls = {title: tested[f"{name}_doublet"].fillna(False).astype(bool) for name, title in methods.items()}
    columns = {
        "Cells tested": pd.Series(True, index=tested.index),
        **calls,
        "All methods": pd.DataFrame(calls).all(axis=1),
        "Called": tested["doublet"].astype(bool),
    }
    counts = pd.DataFrame(columns).groupby(tested["sample"].astype(str).to_numpy(), sort=False).sum()
    precision = {title: _average_precision(tested, f"{name}_score") for name, title in methods.items()}
    return {
        "heads": list(columns),
        "rows": [(sample, [int(n) for n in row]) for sample, row in zip(counts.index, counts.to_numpy(), strict=True)],
        "precision": [(title, number(value)) for title, value in precision.items() if value is not None],
    }


def _average_precision(cells: pd.DataFrame, score: str) -> float | None:
    """Of a score for the known doublets of all samples; None where they are not known, or all of one kind."""
    from sklearn.metrics import average_precision_score

    if "label_doublet" not in cells:
        return None
    truth = said_doublets(cells["label_doublet"])
    usable = truth.notna() & cells[score].notna()
    known = truth[usable].astype(bool)
    return float(average_precision_score(known, cells.loc[usable, score])) if known.nunique() == 2 else None


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
