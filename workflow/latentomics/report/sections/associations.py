"""Do groups of samples differ: in their diversity, in their composition, in single taxa?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.data import ReportData, natural_order
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, DANGER, MUTED, Figure, axis, category_axis, figure, line, note
from latentomics.report.groupings import groupings
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import number, percent

#: Measures of diversity.tsv and their titles.
MEASURES = {
    "richness": "richness (taxa seen)",
    "shannon": "Shannon index (nats)",
    "simpson": "Simpson index",
    "evenness": "evenness (Pielou)",
}
#: Taxa in a forest plot, those of the smallest p.
MAX_TAXA = 30
#: False discovery rate below which a taxon is coloured.
FDR = 0.05
_MAX_LEVELS = 12

_COLUMNS = (
    ("group", "group", "text"),
    ("reference", "against", "text"),
    ("taxon", "taxon", "text"),
    ("effect", "log fold change", "fixed2"),
    ("low", "95 % from", "fixed2"),
    ("high", "to", "fixed2"),
    ("p", "p", "number"),
    ("p_adjusted", "q", "number"),
    ("method", "method", "text"),
    ("note", "note", "note"),
)


def build(data: ReportData) -> Section | None:
    """Diversity, PERMANOVA and differential abundance; None if none of them was written."""
    diversity, tests = data.table("diversity"), data.table("diversity_tests")
    permanova, found = data.table("permanova"), data.table("associations")
    figures: dict[str, Figure] = {}
    boxes = _diversity_figures(data, diversity)
    figures |= {f"diversity-{i}": shown for i, shown in enumerate(boxes.values())}
    effects, notes = _effects(found)
    figures |= {f"taxa-{i}": shown for i, (shown, *_) in enumerate(effects.values())}
    if not figures and permanova.empty and not notes:
        return None
    tested = found[found["taxon"].astype(str) != ""] if "taxon" in found else found.iloc[:0]
    return Section(
        id="associations",
        title="Groups compared",
        template="associations.html.j2",
        context={
            "diversity": [(f"diversity-{i}", title) for i, title in enumerate(boxes)],
            "tests": _test_rows(tests),
            "permanova": _permanova_rows(permanova),
            "effects": [(f"taxa-{i}", title) for i, title in enumerate(effects)],
            "summaries": [summary for _, summary in effects.values()],
            "notes": notes,
            "max_taxa": MAX_TAXA,
            "fdr": FDR,
            "n_tested": len(tested),
        },
        payload={"figures": figures, "tables": {"taxa": _table(tested)} if len(tested) else {}},
    )


def _diversity_figures(data: ReportData, diversity: pd.DataFrame) -> dict[str, Figure]:
    """Boxes of every measure, one figure per grouping."""
    shown = [m for m in MEASURES if m in diversity and diversity[m].notna().any()]
    if "sample" not in diversity or not shown:
        return {}
    diversity = diversity.set_index("sample")
    known = groupings(data, _MAX_LEVELS)
    # Conditions are the question; clusters were made from the same data.
    order = sorted(known, key=lambda title: (title != "condition", title.startswith("cluster of")))
    series = {t: known[t].set_axis(known[t].index.astype(str)).reindex(diversity.index) for t in order}
    series = series or {"all samples": pd.Series("all", index=diversity.index)}
    return {title: _boxes(diversity, shown, values) for title, values in series.items()}


def _boxes(diversity: pd.DataFrame, shown: list[str], values: pd.Series) -> Figure:
    levels = natural_order(v for v in values if v is not None and pd.notna(v))
    gap = 0.07
    width = (1 - gap * (len(shown) - 1)) / len(shown)
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    for k, measure in enumerate(shown):
        axis_id = "" if k == 0 else str(k + 1)
        left = k * (width + gap)
        for i, level in enumerate(levels):
            mine = diversity.loc[values == level, measure].dropna()
            traces.append(
                {
                    "type": "box",
                    "name": plotly_text(level),
                    "x": [i] * len(mine),
                    "y": mine.tolist(),
                    "xaxis": f"x{axis_id}",
                    "yaxis": f"y{axis_id}",
                    "width": 0.55,
                    # Few samples are shown one by one; of many, a cloud says less than the box.
                    "boxpoints": "all" if len(diversity) <= 300 else "outliers",
                    "jitter": 0.5,
                    "pointpos": 0,
                    "marker": {"size": 5, "color": color(i), "opacity": 0.75},
                    "line": line(1.4, color(i)),
                    "fillcolor": "rgba(128,128,128,0.10)",
                    "text": [plotly_text(s) for s in mine.index],
                    "hoveron": "points",
                    "hovertemplate": "%{text}: %{y:.4~g}<extra></extra>",
                }
            )
        ticks = category_axis([plotly_text(v) for v in levels], range=[-0.6, len(levels) - 0.4], showgrid=False)
        layout[f"xaxis{axis_id}"] = ticks | {"domain": [left, left + width], "anchor": f"y{axis_id}"}
        layout[f"yaxis{axis_id}"] = axis(MEASURES[measure], anchor=f"x{axis_id}")
    return figure(traces, height=310, margin={"l": 56, "r": 8, "t": 10, "b": 50}, **layout)


def _test_rows(tests: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "factor": row.get("factor", ""),
            "measure": row.get("measure", ""),
            "groups": row.get("groups", ""),
            "n": number(row.get("n_samples")),
            "effect": number(row.get("effect")),
            "p": number(row.get("p")),
            "q": number(row.get("p_adjusted")),
            "note": row.get("note", ""),
        }
        for _, row in tests.iterrows()
    ]


def _permanova_rows(permanova: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "factor": row.get("factor", ""),
            "groups": row.get("groups", ""),
            "n": number(row.get("n_samples")),
            "r_squared": percent(row.get("r_squared")),
            "pseudo_f": number(row.get("pseudo_f")),
            "p": number(row.get("p")),
            "q": number(row.get("p_adjusted")),
            "dispersion_p": number(row.get("dispersion_p")),
            "note": row.get("note", ""),
        }
        for _, row in permanova.iterrows()
    ]


def _effects(found: pd.DataFrame) -> tuple[dict[str, tuple[Figure, str]], list[str]]:
    """Forest plot and a sentence per group compared, and what could not be tested."""
    if not {"taxon", "effect", "low", "high", "p_adjusted"} <= set(found.columns):
        return {}, []
    notes = sorted({str(n) for n in found.get("note", []) if n})
    tested = found[(found["taxon"].astype(str) != "") & found["effect"].notna()]
    if tested.empty:
        return {}, notes
    plots = {}
    for (group, reference), part in tested.groupby(["group", "reference"], sort=True):
        part = part.sort_values(["p", "taxon"], kind="stable")
        n = int((part["p_adjusted"] < FDR).sum())
        words = f"{group} against {reference}: {n:,} of {len(part):,} taxa differ at a false discovery rate of {percent(FDR, 0)}."
        plots[f"{group} against {reference}"] = (_forest(part.head(MAX_TAXA), str(group), str(reference)), words)
    return plots, notes


def _forest(part: pd.DataFrame, group: str, reference: str) -> Figure:
    part = part.sort_values(["effect", "taxon"], kind="stable")
    labels = [plotly_text(taxon) for taxon in part["taxon"]]
    hit = (part["p_adjusted"] < FDR).to_numpy()
    effect, low, high = (part[c].to_numpy(dtype=float) for c in ("effect", "low", "high"))
    traces = []
    for mask, name, colour in ((hit, f"q < {FDR}", ACCENT), (~hit, f"q ≥ {FDR}", MUTED)):
        at = np.flatnonzero(mask)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": effect[at],
                "y": at,
                "marker": {"size": 9, "color": colour, "symbol": "circle" if colour == ACCENT else "circle-open"},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": (high - effect)[at],
                    "arrayminus": (effect - low)[at],
                    "color": colour,
                    "thickness": 1.6,
                    "width": 0,
                },
                "text": [
                    f"{labels[i]}<br>{effect[i]:+.2f} ({low[i]:+.2f} to {high[i]:+.2f})"
                    f"<br>p {number(float(part['p'].iloc[i]))}, q {number(float(part['p_adjusted'].iloc[i]))}"
                    for i in at
                ],
                "hoverinfo": "text",
            }
        )
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": line(1.2, DANGER, "dot")}
    place = {"xref": "x domain", "yref": "paper", "yanchor": "bottom"}
    return figure(
        traces,
        height=120 + 23 * len(part),
        showlegend=True,
        margin={"l": 60, "r": 16, "t": 30, "b": 52},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        xaxis=axis("log fold change (natural logarithm), with 95 % interval"),
        yaxis=category_axis(labels, range=[-0.7, len(part) - 0.3], tickfont={"size": 12}),
        shapes=[zero],
        annotations=[
            note(
                f"← more in {plotly_text(reference)}  |  more in {plotly_text(group)} →", 0, 1, xanchor="left", **place
            )
        ],
    )


def _table(tested: pd.DataFrame) -> dict[str, Any]:
    known = [c for c in _COLUMNS if c[0] in tested and not (tested[c[0]].astype(str) == "").all()]
    return {
        "columns": [{"title": title, "kind": kind} for _, title, kind in known],
        "rows": [
            [str(v) if kind in ("text", "note") else float(v) for v, (*_, kind) in zip(row, known, strict=True)]
            for row in tested[[name for name, _, _ in known]].itertuples(index=False)
        ],
    }
