"""The samples of a metagenomic study: their reads, step by step, and how many of them were classified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, FAINT, Figure, axis, category_axis, figure, line
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import percent

#: Most samples drawn as bars; with more, those that kept the smallest share of their reads.
MAX_BARS = 40

_COLUMNS = (
    ("sample", "sample", "text"),
    ("source", "source", "text"),
    ("batch", "batch", "text"),
    ("condition", "condition", "text"),
    ("raw", "raw reads", "number"),
    ("clean", "clean reads", "number"),
    ("clean_share", "clean", "percent"),
    ("total_reads", "profiled reads", "number"),
    ("unclassified_share", "unclassified", "percent"),
    ("n_taxa", "taxa", "number"),
    ("outcome", "outcome", "text"),
    ("notes", "notes", "note"),
)


def build(data: ReportData) -> Section | None:
    """Funnel of reads and a table of all samples; None for assays of cells, and without any such file."""
    if data.assay != "metagenome":
        return None
    reads = _wide(data.read_steps)
    samples, shared = _without_shared_notes(data.samples)
    table = _table(samples, reads)
    if table is None:
        return None
    figures: dict[str, Figure] = {}
    drawn: list[str] = []
    if len(reads):
        share = reads.div(reads.iloc[:, 0].where(reads.iloc[:, 0] > 0), axis=0)
        figures["funnel"] = _funnel(reads, share)
        drawn = sorted(
            share.iloc[:, -1].fillna(0).sort_values(kind="stable").index[:MAX_BARS], key=list(reads.index).index
        )
        figures["lost"] = _lost(reads.loc[drawn])
    return Section(
        id="reads",
        title="Samples and reads",
        template="reads.html.j2",
        context={
            "figures": list(figures),
            "n_samples": len(reads),
            "n_drawn": len(drawn),
            "n_raw": float(reads.iloc[:, 0].sum()) if len(reads) else None,
            "shared": shared,
            "n_clean": float(reads.iloc[:, -1].sum()) if len(reads) else None,
        },
        payload={"figures": figures, "tables": {"samples": table}},
    )


def _without_shared_notes(samples: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """What every sample's note says is said once."""
    if "notes" not in samples or len(samples) < 2:
        return samples, []
    notes = samples["notes"].astype(str).str.split("; ")
    shared = [note for note in notes.iloc[0] if note and all(note in mine for mine in notes)]
    own = notes.map(lambda mine: "; ".join(note for note in mine if note not in shared))
    return samples.assign(notes=own), shared


def _wide(steps: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Reads after each step, samples x steps; a step that a sample did not go through keeps the number before it."""
    order: list[str] = []
    for table in steps.values():
        at = 0
        for step in table["step"].astype(str):
            if step in order:
                at = order.index(step) + 1
            else:
                order.insert(at, step)
                at += 1
    rows = {name: table.set_index(table["step"].astype(str))["reads"].astype(float) for name, table in steps.items()}
    wide = pd.DataFrame.from_dict({name: row.reindex(order).ffill() for name, row in rows.items()}, orient="index")
    return wide.reindex(columns=order)


def _table(samples: pd.DataFrame, reads: pd.DataFrame) -> dict[str, Any] | None:
    if "sample" not in samples and reads.empty:
        return None
    table = samples.set_index("sample") if "sample" in samples else pd.DataFrame(index=reads.index)
    if len(reads):
        ends = pd.DataFrame({"raw": reads.iloc[:, 0], "clean": reads.iloc[:, -1]})
        ends["clean_share"] = ends["clean"] / ends["raw"].where(ends["raw"] > 0)
        table = table.join(ends, how="left")
    if "kept" in table:
        kept = table["kept"].astype(str).str.lower().isin(["true", "1"])
        reason = table["reason"].astype(str) if "reason" in table else pd.Series("dropped", index=table.index)
        table["outcome"] = np.where(kept, "kept", reason.where(reason != "", "dropped"))
    table = table.rename_axis("sample").reset_index()
    known = [c for c in _COLUMNS if c[0] in table and not (table[c[0]].isna() | (table[c[0]].astype(str) == "")).all()]
    rows = table[[name for name, _, _ in known]].astype(object)
    return {
        "columns": [{"title": title, "kind": kind} for _, title, kind in known],
        "rows": [
            [
                None if pd.isna(v) else str(v) if kind in ("text", "note") else float(v)
                for v, (*_, kind) in zip(r, known, strict=True)
            ]
            for r in rows.itertuples(index=False)
        ],
    }


def _funnel(reads: pd.DataFrame, share: pd.DataFrame) -> Figure:
    """One line per sample and their median; hundreds of samples are one trace."""
    steps = list(reads.columns)
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for name in reads.index:
        for i, step in enumerate(steps):
            x.append(i)
            y.append(round(float(share.loc[name, step]), 5) if pd.notna(share.loc[name, step]) else None)
            text.append(f"{plotly_text(name)}: {reads.loc[name, step]:,.0f} reads after {plotly_text(step)}")
        x.append(None)
        y.append(None)
        text.append("")
    each = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "each sample",
        "x": x,
        "y": y,
        "text": text,
        "hovertemplate": "%{text} (%{y:.1%})<extra></extra>",
        "line": line(1, FAINT),
        "marker": {"size": 4, "color": FAINT},
        "opacity": 0.8 if len(reads) <= 50 else 0.4,
    }
    middle = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "median",
        "x": list(range(len(steps))),
        "y": share.median().round(5).tolist(),
        "hovertemplate": "median %{y:.1%}<extra></extra>",
        "line": line(2.5, ACCENT),
        "marker": {"size": 7, "color": ACCENT},
    }
    return figure(
        [each, middle],
        height=300,
        showlegend=True,
        xaxis=category_axis([plotly_text(s) for s in steps], range=[-0.4, len(steps) - 0.6]),
        yaxis=axis("share of the raw reads left", tickformat=".0%", rangemode="tozero"),
    )


def _lost(reads: pd.DataFrame) -> Figure:
    """Stacked bars: what was left, and what each step took."""
    labels = [plotly_text(name) for name in reads.index]
    first = reads.iloc[:, 0].where(reads.iloc[:, 0] > 0)
    taken = -reads.diff(axis=1).iloc[:, 1:]
    parts = {"left": reads.iloc[:, -1]} | {step: taken[step].clip(lower=0) for step in taken if taken[step].max() > 0}
    colours = [FAINT, *(color(i) for i in (3, 1, 5, 4, 0, 2, 6))]
    bars = []
    for i, (step, n) in enumerate(parts.items()):
        share = (n / first).fillna(0)
        word = "left" if step == "left" else f"taken by {plotly_text(step)}"
        bars.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": "left" if step == "left" else plotly_text(step),
                "x": share.round(5).tolist(),
                "y": list(range(len(reads))),
                "marker": {"color": colours[i] if i < len(colours) else color(i)},
                "hovertext": [
                    f"{label}: {k:,.0f} reads {word} ({percent(s)})"
                    for label, k, s in zip(labels, n, share, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
    return figure(
        bars,
        height=110 + max(19, min(40, 480 // len(reads))) * len(reads),
        barmode="stack",
        bargap=0.3,
        showlegend=True,
        margin={"l": 60, "r": 28, "t": 6, "b": 48},
        xaxis=axis("share of the raw reads", range=[0, 1], tickformat=".0%"),
        yaxis=category_axis(labels, autorange="reversed"),
    )
