"""How well each network and baseline does on the test reads, class by class and length by length, and at what cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.classifier import KMER, MAJORITY, ClassifierData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, DANGER, Figure, axis, category_axis, figure, line, note
from latentomics.report.palette import color, plotly_scale
from latentomics.report.section import Section
from latentomics.report.words import counted, duration, number, percent

#: With more classes the confusion matrix has no room for their names.
MAX_NAMES = 60
#: Bins of read length with fewer test reads than this are not drawn.
FEWEST_READS = 20

#: Scores with intervals: column, heading, whether it is shown as percent.
_SCORES = (("accuracy", "Accuracy", True), ("macro_f1", "Macro-F1", False), ("auroc", "AUROC", False))


def build(data: ClassifierData) -> Section | None:
    """Table, dots with intervals, the best network's classes and confusions, and accuracy by length; None without scores."""
    scores = data.scores
    if "accuracy" not in scores:
        return None
    figures: dict[str, Figure] = {"scores": _dots(data)}
    tables = {}
    if data.best is not None and len(confusion := data.confusion(data.best)):
        figures["confusion"] = _heat(confusion)
    if len(lengths := _lengths(data)):
        figures["lengths"] = _by_length(data, lengths)
    if data.best is not None and len(per_class := data.judged(data.best, "per_class")):
        tables["classes"] = _classes(per_class)
    accuracy = scores["accuracy"]
    top = accuracy.max()
    return Section(
        id="scores",
        title="Scores",
        template="classifier_scores.html.j2",
        context={
            "heads": [title for column, title, _ in _SCORES if column in scores],
            "rows": [_row(data, name, bool(accuracy[name] == top and len(scores) > 1)) for name in scores.index],
            "best": data.phrase_of(data.best) if data.best else "",
            "sources": _sources(data),
            "figures": list(figures),
            "has_classes": bool(tables),
            "n_classes": len(data.classes),
        },
        payload={"figures": figures, "tables": tables},
    )


def _row(data: ClassifierData, name: str, best: bool) -> dict[str, Any]:
    row = data.scores.loc[name]
    training = data.model(name).get("training") or {}
    epochs = number(training.get("epochs"))
    if (chosen := training.get("best_epoch")) is not None:
        epochs += f" (best {number(chosen)})"
    n_train = number(_known(row, "n_train"))
    # The regression holds its k-mers in memory, and of many reads takes a sample.
    if (used := training.get("n_used")) is not None and used < row.get("n_train", used):
        n_train = f"{number(used)} of {n_train}"
    return {
        "name": data.title_of(name),
        "baseline": name in (MAJORITY, KMER),
        "best": best,
        "scores": [_score(row, column, as_percent) for column, _, as_percent in _SCORES if column in row],
        "seconds": duration(_known(row, "train_seconds")),
        "speed": number(_known(row, "reads_per_second")),
        "device": str(row.get("device") or "–"),
        "n_parameters": number(_known(row, "n_parameters")),
        "n_train": n_train,
        "epochs": epochs,
    }


def _sources(data: ClassifierData) -> str:
    """How much the accuracy of the best network differs between sources, in one sentence."""
    found = data.summary(data.best).get("accuracy_by_source") if data.best else None
    if not found:
        return ""
    lowest, highest = found["lowest"], found["highest"]
    return (
        f"Of {counted(int(found['sources']), 'source')} with enough test reads, {data.phrase_of(data.best)} recognises "
        f"{percent(lowest['accuracy'])} of the reads of the hardest ({lowest['source']}) and {percent(highest['accuracy'])} "
        f"of those of the easiest ({highest['source']}); the median is {percent(found['median'])}. A new source may lie "
        "anywhere in between, or beyond."
    )


def _known(row: pd.Series, column: str) -> float | None:
    value = row.get(column)
    return None if value is None or pd.isna(value) else float(value)


def _score(row: pd.Series, column: str, as_percent: bool) -> dict[str, str]:
    value, low, high = (_known(row, name) for name in (column, f"{column}_low", f"{column}_high"))

    def show(number: float) -> str:
        return percent(number) if as_percent else f"{number:.3f}"

    return {
        "value": "–" if value is None else show(value),
        "interval": "" if low is None or high is None else f"{show(low)} to {show(high)}",
    }


def _dots(data: ClassifierData) -> Figure:
    """One row per model: accuracy and macro-F1 with their intervals."""
    scores = data.scores
    names = [plotly_text(data.title_of(name)) for name in scores.index]
    traces = []
    for k, (column, title, colour) in enumerate((("accuracy", "accuracy", ACCENT), ("macro_f1", "macro-F1", color(1)))):
        if column not in scores:
            continue
        value = scores[column].to_numpy(dtype=float)
        low, high = (
            scores[c].to_numpy(dtype=float) if c in scores else value * np.nan
            for c in (f"{column}_low", f"{column}_high")
        )
        ends = {"array": high - value, "arrayminus": value - low, "color": colour, "thickness": 2, "width": 5}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": title,
                "x": value,
                "y": np.arange(len(scores)) + 0.26 * k - 0.13,
                "marker": {"size": 10, "color": colour, "symbol": "diamond" if k else "circle"},
                "error_x": {"type": "data", "symmetric": False} | ends,
                "text": [
                    f"{name}<br>{title} {v:.4f}" + (f" ({a:.4f} to {b:.4f})" if np.isfinite(a) else "")
                    for name, v, a, b in zip(names, value, low, high, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
    marks: dict[str, Any] = {}
    if MAJORITY in scores.index:
        floor = float(scores.loc[MAJORITY, "accuracy"])
        place = {"type": "line", "x0": floor, "x1": floor, "yref": "paper", "y0": 0, "y1": 1}
        marks["shapes"] = [place | {"line": line(1.2, DANGER, "dot")}]
    return figure(
        traces,
        height=110 + 44 * len(scores),
        showlegend=True,
        xaxis=axis("accuracy and macro-F1 on the test reads", range=[0, 1.02], tickformat=".1~f"),
        yaxis=category_axis(names, range=[len(scores) - 0.4, -0.6], showgrid=False),
        **marks,
    )


def _heat(confusion: pd.DataFrame) -> Figure:
    """Shares of each true class, counts in the hover box; the diagonal is what is right."""
    counts = confusion.to_numpy(dtype=float)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    classes = [plotly_text(name) for name in confusion.index]
    n = len(classes)
    named = n <= MAX_NAMES
    text = [
        [
            f"true: {true}<br>predicted: {predicted}<br>{counts[i, j]:,.0f} of {total[i, 0]:,.0f} reads "
            f"({percent(float(shares[i, j]))})"
            for j, predicted in enumerate(classes)
        ]
        for i, true in enumerate(classes)
    ]
    size = 24 if named else max(4, 900 // n)
    heat: dict[str, Any] = {
        "type": "heatmap",
        "z": np.round(shares, 4),
        "text": text,
        "hoverinfo": "text",
        "hoverongaps": False,
        "colorscale": plotly_scale(),
        "zmin": 0,
        "zmax": 1,
        "xgap": 1 if named else 0,
        "ygap": 1 if named else 0,
        "colorbar": {
            "thickness": 11,
            "lenmode": "pixels",
            "len": 150,
            "y": 1,
            "yanchor": "top",
            "title": {"text": "share of the true class", "side": "right", "font": {"size": 12}},
            "tickformat": ".0%",
            "outlinewidth": 0,
        },
    }
    marks: dict[str, Any] = {}
    if n <= 12:
        # Dark cells are those of small shares.
        marks["annotations"] = [
            note(
                f"{100 * shares[i, j]:.0f}",
                j,
                i,
                font={"size": 12, "color": "#17212b" if shares[i, j] > 0.6 else "#ffffff"},
            )
            for i in range(n)
            for j in range(n)
            if np.isfinite(shares[i, j])
        ]
    names = {"showgrid": False, "tickfont": {"size": 11}}
    if not named:
        names = {"showgrid": False, "showticklabels": False}
    return figure(
        [heat],
        height=150 + max(size * n, 160),
        margin={"l": 60, "r": 100, "t": 6, "b": 60},
        xaxis=category_axis(classes, "predicted class", **names) | {"range": [-0.5, n - 0.5]},
        yaxis=category_axis(classes, "true class", **names) | {"range": [n - 0.5, -0.5]},
        **marks,
    )


def _lengths(data: ClassifierData) -> pd.DataFrame:
    """Accuracy by bin of read length of all models, bins with enough reads."""
    parts = [data.judged(name, "by_length").assign(model=name) for name in data.scores.index]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if not {"shortest", "longest", "reads", "accuracy"} <= set(table.columns):
        return pd.DataFrame()
    table = table[table["reads"] >= FEWEST_READS]
    # One bin is no relation.
    return table if len(set(table["shortest"])) > 1 else table.iloc[:0]


def _by_length(data: ClassifierData, table: pd.DataFrame) -> Figure:
    traces = []
    for name in data.scores.index:
        mine = table[table["model"] == name].sort_values("shortest")
        if mine.empty:
            continue
        accuracy = mine["accuracy"].to_numpy(dtype=float)
        colour = data.colour_of(name)
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": plotly_text(data.title_of(name)),
            "x": ((mine["shortest"] + mine["longest"]) / 2).tolist(),
            "y": accuracy,
            "line": line(2.2, colour, "dot" if name == MAJORITY else "dash" if name == KMER else "solid"),
            "marker": {"size": 7, "color": colour},
            "text": [
                f"{plotly_text(data.title_of(name))}<br>{row.shortest:.0f} to {row.longest:.0f} bases: {percent(row.accuracy)} "
                f"of {row.reads:,.0f} reads"
                for row in mine.itertuples()
            ],
            "hoverinfo": "text",
        }
        if {"accuracy_low", "accuracy_high"} <= set(mine.columns):
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": mine["accuracy_high"].to_numpy(dtype=float) - accuracy,
                "arrayminus": accuracy - mine["accuracy_low"].to_numpy(dtype=float),
                "color": colour,
                "thickness": 1.2,
                "width": 3,
            }
        traces.append(trace)
    return figure(
        traces,
        height=340,
        showlegend=True,
        xaxis=axis("length of the read (bases)"),
        yaxis=axis("accuracy", tickformat=".0%"),
    )


#: Columns of the table of classes: column, heading, kind.
_OF_CLASS = (
    ("class", "class", "text"),
    ("reads", "test reads", "number"),
    ("precision", "precision", "percent"),
    ("precision_low", "from", "percent"),
    ("precision_high", "to", "percent"),
    ("recall", "recall", "percent"),
    ("recall_low", "from", "percent"),
    ("recall_high", "to", "percent"),
    ("f1", "F1", "fixed3"),
)


def _classes(table: pd.DataFrame) -> dict[str, Any]:
    known = [column for column in _OF_CLASS if column[0] in table]
    return {
        "columns": [{"title": title, "kind": kind} for _, title, kind in known],
        "rows": [
            [str(value) if kind == "text" else value for value, (*_, kind) in zip(row, known, strict=True)]
            for row in table[[column for column, *_ in known]].itertuples(index=False)
        ],
    }
