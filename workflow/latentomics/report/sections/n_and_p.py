"""Observations against features: is there enough data for a deep embedding?"""

from __future__ import annotations

from math import log10
from typing import Any

from latentomics.report.data import ReportData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, FAINT, MUTED, Figure, axis, category_axis, figure, line, note
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import counted, number, percent


def build(data: ReportData) -> Section | None:
    """The figures of ``verdict.json`` and the verdict in words; None without that file."""
    verdict = data.verdict
    if not verdict:
        return None
    n_obs = int(verdict.get("n_obs") or data.shape[0])
    parameters = {str(m): int(n) for m, n in (verdict.get("parameters") or {}).items() if n}
    evidence = [
        {
            "name": str(item.get("name", "")),
            "value": number(item.get("value")),
            "meaning": str(item.get("meaning", "")),
        }
        for item in verdict.get("evidence") or []
    ]
    return Section(
        id="n-and-p",
        title="Observations and features",
        template="n_and_p.html.j2",
        context={
            "verdict": str(verdict.get("verdict", "")),
            "warranted": str(verdict.get("warranted", "unclear")),
            "facts": _facts(data, n_obs),
            "evidence": evidence,
            "parameters": [
                {"title": data.title_of(m), "n": n, "per_observation": n / n_obs if n_obs else None}
                for m, n in parameters.items()
            ],
        },
        payload={"figures": {"sizes": _sizes(data, n_obs, parameters)}},
    )


def _facts(data: ReportData, n_obs: int) -> list[tuple[str, str, str]]:
    verdict = data.verdict
    facts = [
        ("N", f"{data.observations.capitalize()} (observations)", number(n_obs)),
        ("P", f"{data.features_noun.capitalize()} (features)", number(verdict.get("n_features"))),
        ("P selected", f"{data.features_noun.capitalize()} selected for embedding", number(verdict.get("n_selected"))),
        ("N / P", f"{data.observations.capitalize()} per {data.feature}", number(verdict.get("ratio"))),
        (
            "N / P selected",
            f"{data.observations.capitalize()} per selected {data.feature}",
            number(verdict.get("ratio_selected")),
        ),
        ("Sparsity", "Share of the matrix that is zero", percent(verdict.get("sparsity"))),
        ("Depth", f"Median counts per {data.observation}", number(verdict.get("median_counts"))),
    ]
    return [fact for fact in facts if fact[2] != "–"]


def _sizes(data: ReportData, n_obs: int, parameters: dict[str, int]) -> Figure:
    verdict = data.verdict
    rows: list[tuple[str, int, str]] = [(data.observations.capitalize(), n_obs, MUTED)]
    for label, key in (("all", "n_features"), ("selected", "n_selected")):
        if verdict.get(key):
            rows.append((f"{data.features_noun.capitalize()}, {label}", int(verdict[key]), FAINT))
    colours = {m: color(i) for i, m in enumerate(data.methods)}
    for method, n in parameters.items():
        rows.append((f"Parameters of {data.title_of(method)}", n, colours.get(method, FAINT)))
    rows = [row for row in rows if row[1] > 0]
    labels = [plotly_text(label) for label, _, _ in rows]
    bars: dict[str, Any] = {
        "type": "bar",
        "orientation": "h",
        "x": [n for _, n, _ in rows],
        "y": list(range(len(rows))),
        "marker": {"color": [c for _, _, c in rows]},
        "text": [f" {n:,}" for _, n, _ in rows],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertext": [f"{label}: {n:,}" for label, (_, n, _) in zip(labels, rows, strict=True)],
        "hoverinfo": "text",
    }
    top = max((n for _, n, _ in rows), default=1)
    marks: dict[str, Any] = {}
    if n_obs:
        span = {"type": "line", "x0": n_obs, "x1": n_obs, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        marks["shapes"] = [span | {"line": line(1.5, ACCENT, "dot")}]
        # On a logarithmic axis shapes are placed by the value, annotations by its exponent.
        place = {"yref": "paper", "yanchor": "bottom", "xanchor": "left", "font": {"size": 12, "color": ACCENT}}
        marks["annotations"] = [note(counted(n_obs, data.observation, data.observations), log10(n_obs), 1, **place)]
    return figure(
        [bars],
        height=96 + 34 * len(rows),
        margin={"l": 60, "r": 24, "t": 30, "b": 48},
        xaxis=axis("number, logarithmic", type="log", range=[0, len(str(top)) + 1.3], dtick=1, exponentformat="SI"),
        yaxis=category_axis(labels, autorange="reversed"),
        **marks,
    )
