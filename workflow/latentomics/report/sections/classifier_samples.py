"""What the samples consist of according to the classifier, corrected for its known errors."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.classifier import ClassifierData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import FAINT, Figure, axis, category_axis, figure
from latentomics.report.palette import color
from latentomics.report.section import Section
from latentomics.report.words import listed, percent

#: Classes with a colour of their own; the rest are one grey part.
MAX_CLASSES = 12
#: Most samples drawn as bars; with more, those that were classified least.
MAX_BARS = 40
#: The last row of a sample's table: reads below the threshold of confidence.
UNCLASSIFIED = "unclassified"
#: Share of unclassified reads that is much.
MUCH = 0.5

_COLUMNS = (
    ("sample", "sample", "text"),
    ("class", "class", "text"),
    ("reads", "reads", "number"),
    ("share", "raw share", "percent"),
    ("share_corrected", "corrected share", "percent"),
    ("low", "from", "percent"),
    ("high", "to", "percent"),
)


def build(data: ClassifierData) -> Section | None:
    """Stacked bars and a table of all samples; None if no sample was classified."""
    table = data.shares
    if not {"sample", "class", "reads", "share"} <= set(table.columns):
        return None
    # The last row of a sample, whatever the classes are called.
    last = ~table["sample"].duplicated(keep="last") & (table["class"] == UNCLASSIFIED)
    unclassified = table[last].set_index("sample")["share"]
    column = "share_corrected" if "share_corrected" in table else "share"
    shares = table[~last].pivot_table(index="sample", columns="class", values=column, sort=False)
    drawn = _drawn(shares, unclassified)
    much = unclassified[unclassified > MUCH]
    figures = {"shares": _figure(shares.loc[drawn], unclassified.reindex(drawn))} if drawn else {}
    return Section(
        id="samples",
        title="Classes in the samples",
        template="classifier_samples.html.j2",
        context={
            "figures": list(figures),
            "n_samples": table["sample"].nunique(),
            "n_drawn": len(drawn),
            "n_much": len(much),
            "much": percent(MUCH, 0),
            "names": listed(much.index[:8]) if 0 < len(much) <= 8 else "",
            "notes": _notes(data, list(dict.fromkeys(table["sample"]))),
            "model": _model(data, list(dict.fromkeys(table["sample"]))),
            "n_classes": shares.shape[1],
            "max_classes": MAX_CLASSES,
        },
        payload={"figures": figures, "tables": {"shares": _table(table)}},
    )


def _model(data: ClassifierData, samples: list[str]) -> str:
    """The model that classified them."""
    names = {str(data.sample_facts(sample).get("model") or "") for sample in samples} - {""}
    return listed(data.phrase_of(name) for name in sorted(names))


def _notes(data: ClassifierData, samples: list[str]) -> list[dict[str, Any]]:
    """What stands against the shares, and of which samples; what all have in common first."""
    found: dict[str, list[str]] = {}
    for sample in samples:
        for text in data.sample_facts(sample).get("notes") or []:
            if text := str(text).strip(". "):
                found.setdefault(text, []).append(sample)
    everywhere = "All samples"
    notes = [{"text": text, "samples": everywhere if of == samples else listed(of)} for text, of in found.items()]
    return sorted(notes, key=lambda note: note["samples"] != everywhere)


def _drawn(shares: pd.DataFrame, unclassified: pd.Series) -> list[str]:
    """Samples that are drawn, in their order."""
    known = shares.dropna(how="all").index
    if len(known) <= MAX_BARS:
        return list(known)
    least = set(unclassified.reindex(known).sort_values(ascending=False, kind="stable").index[:MAX_BARS])
    return [name for name in known if name in least]


def _figure(shares: pd.DataFrame, unclassified: pd.Series) -> Figure:
    """Corrected shares as stacked bars; beside them, on an axis of its own, the share of unclassified reads."""
    order = shares.mean().sort_values(ascending=False, kind="stable").index
    parts = [(plotly_text(name), shares[name], color(i)) for i, name in enumerate(order[:MAX_CLASSES])]
    if len(order) > MAX_CLASSES:
        rest = order[MAX_CLASSES:]
        parts.append((f"{len(rest)} others", shares[rest].sum(axis=1), FAINT))
    samples = [plotly_text(name) for name in shares.index]
    at = list(range(len(samples)))
    bars: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": values.fillna(0).round(5).tolist(),
            "y": at,
            "marker": {"color": fill, "line": {"width": 0}},
            "hovertext": [f"{sample}<br>{name}: {percent(v, 2)}" for sample, v in zip(samples, values, strict=True)],
            "hoverinfo": "text",
        }
        for name, values, fill in parts
    ]
    left_out = unclassified.fillna(0)
    bars.append(
        {
            "type": "bar",
            "orientation": "h",
            "showlegend": False,
            "xaxis": "x2",
            "x": left_out.round(5).tolist(),
            "y": at,
            "marker": {"color": FAINT},
            "hovertext": [
                f"{sample}<br>unclassified: {percent(v)}" for sample, v in zip(samples, unclassified, strict=True)
            ],
            "hoverinfo": "text",
        }
    )
    return figure(
        bars,
        height=120 + max(19, min(40, 480 // len(samples))) * len(samples),
        barmode="stack",
        bargap=0.3,
        showlegend=True,
        margin={"l": 60, "r": 28, "t": 6, "b": 48},
        xaxis=axis("share of the classes (corrected)", range=[0, 1], tickformat=".0%", domain=[0, 0.75]),
        xaxis2=axis("unclassified reads", range=[0, 1], tickformat=".0%", domain=[0.81, 1], nticks=3),
        yaxis=category_axis(samples, autorange="reversed", showgrid=False),
    )


def _table(table: pd.DataFrame) -> dict[str, Any]:
    known = [column for column in _COLUMNS if column[0] in table]
    return {
        "columns": [{"title": title, "kind": kind} for _, title, kind in known],
        "rows": [
            [str(value) if kind == "text" else value for value, (*_, kind) in zip(row, known, strict=True)]
            for row in table[[name for name, *_ in known]].itertuples(index=False)
        ],
    }
