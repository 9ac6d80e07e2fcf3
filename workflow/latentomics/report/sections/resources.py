"""What the jobs of the run were predicted to need, and what they used."""

from __future__ import annotations

from math import log10
from typing import Any

import pandas as pd

from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, DANGER, MUTED, Figure, axis, figure, line, note
from latentomics.report.section import Section
from latentomics.report.words import duration, megabytes, percent
from latentomics.resources.account import LEAST_SECONDS, MEASURES, OVER, UNDER, flags, rule_table, strain

#: Most points of a figure: of each rule those that matter most are drawn.
MAX_DRAWN = 1000

#: Name of a kind of job, the verdicts that belong to it, and how its points look: not told apart by colour alone.
_KINDS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("not judged", ("not judged",), {"symbol": "circle-open", "size": 7, "color": MUTED}),
    ("within the bounds", ("within",), {"symbol": "circle", "size": 7, "color": ACCENT, "opacity": 0.75}),
    ("beyond a bound", ("under", "over"), {"symbol": "diamond", "size": 10, "color": DANGER}),
)
#: Marks of the logarithmic axes: MB, and seconds with their words.
_MEMORY_MARKS = {float(2**i): f"{2**i} MB" if i < 10 else f"{2 ** (i - 10):,} GB" for i in range(23)}
_TIME_MARKS = {
    **{0.01: "10 ms", 0.1: "0.1 s", 1.0: "1 s", 10.0: "10 s", 60.0: "1 min", 600.0: "10 min"},
    **{3600.0: "1 h", 36000.0: "10 h", 360000.0: "100 h"},
}
#: More marks than these run into each other on a narrow page.
_MAX_MARKS = 5


def build(jobs: pd.DataFrame) -> Section | None:
    """A row per rule and a point per job, of :func:`latentomics.resources.account.job_table`; None without a job."""
    if jobs.empty:
        return None
    parts = dict(list(jobs.groupby("rule")))
    rows = [_row(rule, parts[rule["rule"]]) for rule in rule_table(jobs).to_dict("records")]
    flagged = sum(bool(row["flags"]) for row in rows)
    figures = {name: _figure(jobs, name) for name in MEASURES}
    return Section(
        id="resources",
        title="Resources: predicted and used",
        template="resources.html.j2",
        context={
            # What someone has to look at comes first.
            "rows": sorted(rows, key=lambda row: (not row["under"], not row["flags"])),
            "flagged": flagged,
            "judged": int(jobs[list(MEASURES)].ne("not judged").any(axis=1).sum()),
            "figures": [name for name, drawn in figures.items() if drawn],
            "most": most_per_rule(jobs) if len(jobs) > MAX_DRAWN else None,
            "bounds": {"under": UNDER, "over": OVER, "minutes": LEAST_SECONDS / 60},
        },
        payload={"figures": {name: drawn for name, drawn in figures.items() if drawn}},
    )


def most_per_rule(jobs: pd.DataFrame) -> int:
    """How many jobs of one rule a figure shows."""
    return max(1, MAX_DRAWN // jobs["rule"].nunique())


def _row(rule: dict[str, Any], jobs: pd.DataFrame) -> dict[str, Any]:
    cells = []
    for name, (predicted, used, ratio) in MEASURES.items():
        show = _shown(name)
        cells += [{"text": show(rule[column]), "bad": False} for column in (predicted, used)]
        cells.append({"text": percent(rule[ratio], 0), "bad": jobs[name].isin(["under", "over"]).any()})
    return {
        "rule": rule["rule"],
        "jobs": rule["jobs"],
        "cells": cells,
        "gpu": _gpu(rule["gpu"], rule["device"]),
        "attempts": rule["attempts"],
        "flags": flags(jobs),
        "under": jobs[list(MEASURES)].eq("under").any(axis=None),
    }


def _shown(measure: str) -> Any:
    return megabytes if measure == "memory" else duration


def _gpu(asked: bool, device: str) -> str:
    """Whether a GPU was asked for, and what the work was done on; empty where neither."""
    on = ", ".join("CPU" if name == "cpu" else name for name in device.split(", "))
    if not asked:
        return "" if on == "CPU" else f"not asked for, ran on {on}"
    return f"asked for, ran on {on}"


def _figure(jobs: pd.DataFrame, measure: str) -> Figure | None:
    """Used against predicted, both logarithmic and of the same range, with the two bounds; None without a prediction."""
    predicted, used, ratio = MEASURES[measure]
    known = jobs[jobs[ratio].notna()]
    if known.empty:
        return None
    order = known.assign(judged=known[measure] != "not judged", strain=strain(known[ratio]))
    known = order.sort_values(["judged", "strain"], ascending=False, kind="stable")
    known = known.groupby("rule", sort=False).head(most_per_rule(jobs))
    values = known[[predicted, used]].to_numpy(dtype=float)
    low, high = values.min() / 2, values.max() * 2
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [low, high],
            "y": [low * factor, high * factor],
            "line": line(1.4, DANGER if factor > 1 else MUTED, "dash"),
            "hoverinfo": "skip",
            "showlegend": False,
        }
        for factor in (UNDER, 1 / OVER)
    ]
    for name, verdicts, marker in _KINDS:
        part = known[known[measure].isin(verdicts)]
        if len(part):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": part[predicted].tolist(),
                    "y": part[used].tolist(),
                    "marker": marker,
                    "text": [_hover(job, measure) for job in part.to_dict("records")],
                    "hoverinfo": "text",
                }
            )
    marks = _marks(_MEMORY_MARKS if measure == "memory" else _TIME_MARKS, low, high)
    span = {"type": "log", "range": [log10(low), log10(high)], "tickmode": "array"} | marks
    return figure(
        traces,
        height=380,
        showlegend=True,
        xaxis=axis("predicted", **span),
        yaxis=axis("used", **span),
        annotations=[
            note(f"under: used over<br>{UNDER:g} × predicted", 0.015, 0.985, **_corner("left", "top")),
            note(f"over: used below<br>predicted ÷ {OVER:g}", 0.985, 0.02, **_corner("right", "bottom")),
        ],
    )


def _corner(x: str, y: str) -> dict[str, Any]:
    return {"xref": "paper", "yref": "paper", "xanchor": x, "yanchor": y, "align": x}


def _marks(words: dict[float, str], low: float, high: float) -> dict[str, Any]:
    within = [(value, word) for value, word in words.items() if low <= value <= high]
    within = within[:: -(-len(within) // _MAX_MARKS) or 1]
    return {"tickvals": [value for value, _ in within], "ticktext": [word for _, word in within]}


def _hover(job: dict[str, Any], measure: str) -> str:
    predicted, used, ratio = MEASURES[measure]
    show = _shown(measure)
    asked = megabytes(job["asked_mb"]) if measure == "memory" else duration(60 * job["asked_minutes"])
    lines = [
        job["rule"],
        job["job"],
        f"used {show(job[used])} of {show(job[predicted])} predicted ({percent(job[ratio], 0)})",
        f"asked for: {asked}",
        f"on {'CPU' if job['device'] == 'cpu' else job['device']}",
    ]
    if job["attempts"] > 1:
        lines.append(f"{job['attempts']:.0f} attempts")
    return "<br>".join(plotly_text(text) for text in lines if text)
