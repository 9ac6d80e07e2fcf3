"""Which droplets hold a cell: the barcode-rank plot of every sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.encode import packed
from latentomics.report.figures import DANGER, FAINT, MUTED, Figure, axis, figure, line, note
from latentomics.report.section import Section
from latentomics.report.words import number, percent

#: Most samples drawn; with more, those whose number of called cells is the most unusual.
MAX_SAMPLES = 12
#: From droplets of which none is called to droplets of which all are; both show on a light and on a dark page.
_SCALE = [[0, "#A3ACB5"], [1, "#0072B2"]]
#: Facts of the calling and their titles.
_COLUMNS = (
    ("n_barcodes", "barcodes"),
    ("n_called", "cells called"),
    ("knee", "knee"),
    ("inflection", "inflection"),
    ("n_called_below_knee", "called below the knee"),
    ("lower", "empty up to"),
    ("retain", "cells from"),
    ("fdr", "FDR"),
)


def build(data: ReportData) -> Section | None:
    """Barcode-rank plots of the raw samples and a table of all; None where no sample tells of its droplets."""
    if data.assay != "scrna" or "sample" not in data.samples:
        return None
    told = {str(s["sample"]): s["calling"] for s in data.sample_facts("summary") if s.get("calling")}
    facts = {name: told[name] for name in data.samples["sample"].astype(str) if name in told}
    if not facts:
        return None
    raw = {name: called for name, called in facts.items() if called.get("state") == "raw"}
    curves = dict(list(data.droplets.groupby("sample", sort=False))) if len(data.droplets) else {}
    drawn = _drawn({name: called for name, called in raw.items() if name in curves})
    return Section(
        id="droplets",
        title="Droplets and cells",
        template="droplets.html.j2",
        context={
            "panels": [{"key": f"ranks{i}", "sample": name, "facts": raw[name]} for i, name in enumerate(drawn)],
            "n_raw": len(raw),
            "n_filtered": len(facts) - len(raw),
            "methods": {str(called.get("method")) for called in raw.values()},
            "fdr": next((called["fdr"] for called in raw.values() if called.get("fdr") is not None), None),
        },
        payload={
            "figures": {f"ranks{i}": _ranks(curves[name], raw[name]) for i, name in enumerate(drawn)},
            "tables": {"droplets": _table(facts)},
        },
    )


def _drawn(raw: dict[str, dict[str, Any]]) -> list[str]:
    """The samples that are drawn, in their order: all, or those farthest from the median number of called cells."""
    if len(raw) <= MAX_SAMPLES:
        return list(raw)
    called = pd.Series({name: np.log1p(float(facts.get("n_called") or 0)) for name, facts in raw.items()})
    unusual = set((called - called.median()).abs().sort_values(ascending=False, kind="stable").index[:MAX_SAMPLES])
    return [name for name in raw if name in unusual]


def _ranks(curve: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Counts against rank, both logarithmic; the colour is the share of called cells around that rank."""
    curve = curve[curve["total"] > 0].sort_values("rank", kind="stable")
    share = curve["called"].to_numpy(dtype=float)
    points = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": packed(curve["rank"].to_numpy(dtype=float)),
        "y": packed(curve["total"].to_numpy(dtype=float)),
        "line": line(1, FAINT),
        "marker": {"size": 5, "color": packed(share), "colorscale": _SCALE, "cmin": 0, "cmax": 1},
        "text": [f"{percent(s, 0)} of the barcodes around it are called cells" for s in share],
        "hovertemplate": "rank %{x:,.0f}: %{y:,.0f} counts<br>%{text}<extra></extra>",
    }
    shapes, notes = [], []
    # The words stand where a falling curve is not: above it at the right, below it at the left.
    for name, words, style, right, place in (
        ("knee", "knee", line(1.2, DANGER), True, "bottom"),
        ("inflection", "inflection", line(1.2, DANGER, "dot"), False, "bottom"),
        ("lower", "empty up to", line(1.2, MUTED, "dash"), False, "top"),
    ):
        value = facts.get(name)
        if value is None or not value > 0:
            continue
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": style})
        anchor = {"xref": "paper", "xanchor": "right" if right else "left", "yanchor": place}
        font = {"size": 11, "color": style["color"]}
        text = f"{words} {number(float(value))}"
        notes.append(note(text, 1 if right else 0.01, float(np.log10(value)), **anchor, font=font))
    ends = {"type": "log", "dtick": 1, "showgrid": True}
    return figure(
        [points],
        height=300,
        shapes=shapes,
        annotations=notes,
        xaxis=axis("rank of the barcode", **ends),
        yaxis=axis("counts of the barcode", **ends),
    )


def _table(facts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One row per sample: what it was read as and why, and the numbers of the calling."""
    numbers = {name: called if called.get("state") == "raw" else {} for name, called in facts.items()}
    known = [column for column in _COLUMNS if any(called.get(column[0]) is not None for called in numbers.values())]
    rows = []
    for name, called in facts.items():
        values = [numbers[name].get(key) for key, _ in known]
        why = "; ".join(str(said) for said in (called.get("why"), *(called.get("notes") or [])) if said)
        state = "raw" if numbers[name] else "already filtered"
        rows.append([name, state, *(None if v is None else float(v) for v in values), why])
    titles = ["sample", "droplets", *(title for _, title in known), "how it was told, and notes"]
    kinds = ["text", "text", *["number"] * len(known), "note"]
    return {"columns": [{"title": t, "kind": k} for t, k in zip(titles, kinds, strict=True)], "rows": rows}
