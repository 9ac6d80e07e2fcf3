"""How well a condition is predicted in samples that no model has seen, from taxa and from latent spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.encode import plotly_text
from latentomics.report.figures import ACCENT, DANGER, FAINT, MUTED, Figure, axis, category_axis, figure, line
from latentomics.report.section import Section
from latentomics.report.words import number

_MODELS = {"random_forest": "random forest", "logistic": "logistic regression"}
_FEATURES = {"relative": "shares", "clr": "centred log-ratios"}
CROSS_VALIDATION = "cross-validation"


def build(data: ReportData) -> Section | None:
    """AUC with intervals, differences and verdicts; None if nothing was predicted."""
    summary = data.table("prediction")
    if "verdict" not in summary:
        return None
    target = str(data.setting("prediction", "target", default="the condition"))
    auc = summary["auc_mean"] if "auc_mean" in summary else pd.Series(np.nan, index=summary.index)
    known = summary[auc.notna()].reset_index(drop=True)
    names = [_name(data, row) for _, row in known.iterrows()]
    figures: dict[str, Figure] = {}
    if len(known):
        figures["auc"] = _figure(known, names, data.table("prediction_splits"))
    return Section(
        id="prediction",
        title="Prediction",
        template="prediction.html.j2",
        context={
            "target": target,
            "verdicts": _sentences(known, names) if len(known) else [str(v) for v in summary["verdict"]],
            "lost": _lost(known, names),
            "rows": [_row(row, name) for (_, row), name in zip(known.iterrows(), names, strict=True)],
            "n_repeats": data.setting("prediction", "n_repeats"),
            "n_folds": data.setting("prediction", "n_folds"),
            "has_figure": bool(figures),
        },
        payload={"figures": figures},
    )


def _name(data: ReportData, row: pd.Series) -> str:
    features = str(row["features"])
    on = (
        _FEATURES.get(features)
        or f"{data.title_of(features) if data.summary(features) else features.upper()} coordinates"
    )
    return f"{_MODELS.get(str(row['model']), str(row['model']))} on {on}"


def _is_latent(row: pd.Series) -> bool:
    return str(row["features"]) not in _FEATURES


def _sentences(known: pd.DataFrame, names: list[str]) -> list[str]:
    return [
        f"{name[0].upper()}{name[1:]}: {row['verdict']}."
        for (_, row), name in zip(known.iterrows(), names, strict=True)
        if row["scheme"] == CROSS_VALIDATION and row["verdict"]
    ]


def _lost(known: pd.DataFrame, names: list[str]) -> str:
    """What the latent spaces gained over the taxa themselves, in one honest sentence; empty if none was tried."""
    outcome: dict[str, list[str]] = {"worse": [], "better": [], "even": []}
    for (_, row), name in zip(known.iterrows(), names, strict=True):
        if row["scheme"] != CROSS_VALIDATION or not _is_latent(row) or pd.isna(row.get("difference_low")):
            continue
        kind = "worse" if row["difference_high"] < 0 else "better" if row["difference_low"] > 0 else "even"
        outcome[kind].append(name.split(" on ", 1)[1])
    words = {
        "worse": "the latent space loses: {} predict worse than the taxa themselves",
        "better": "{} predict better than the taxa themselves",
        "even": "{} predict no better and no worse than the taxa themselves, as far as these samples can tell",
    }
    parts = [words[kind].format(" and ".join(found)) for kind, found in outcome.items() if found]
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "." if parts else ""


def _row(row: pd.Series, name: str) -> dict[str, Any]:
    def span(low: str, high: str) -> str:
        return f"{row[low]:.3f} to {row[high]:.3f}" if low in row and pd.notna(row[low]) else "–"

    return {
        "scheme": row["scheme"],
        "name": name,
        "auc": number(row["auc_mean"]),
        "interval": span("auc_low", "auc_high"),
        "difference": f"{row['difference_to_clr']:+.3f}" if pd.notna(row.get("difference_to_clr")) else "–",
        "difference_interval": span("difference_low", "difference_high"),
        "p": number(row.get("p")),
        "n_splits": number(row.get("n_splits")),
        "verdict": row["verdict"],
    }


def _figure(known: pd.DataFrame, names: list[str], splits: pd.DataFrame) -> Figure:
    """One row per model: interval and mean, and the splits of left-out batches as points."""
    schemes = list(dict.fromkeys(known["scheme"]))
    labels = [
        plotly_text(n if s == CROSS_VALIDATION else f"{n} ({s})") for n, s in zip(names, known["scheme"], strict=True)
    ]
    traces: list[dict[str, Any]] = []
    for scheme in schemes:
        at = np.flatnonzero(known["scheme"] == scheme)
        rows = known.iloc[at]
        auc = rows["auc_mean"].to_numpy(dtype=float)
        low, high = (rows[c].to_numpy(dtype=float) if c in rows else auc * np.nan for c in ("auc_low", "auc_high"))
        colour = ACCENT if scheme == CROSS_VALIDATION else MUTED
        if len(splits) and scheme != CROSS_VALIDATION:
            traces.append(_points(splits[splits["scheme"] == scheme], rows, at))
        mean = {
            "type": "scatter",
            "mode": "markers",
            "name": plotly_text(scheme),
            "x": auc,
            "y": at,
            "marker": {"size": 11, "color": colour, "symbol": "circle" if colour == ACCENT else "diamond"},
            "text": [
                f"{labels[i]}<br>AUC {a:.3f}" + (f" ({x:.3f} to {y:.3f})" if np.isfinite(x) else "")
                for i, a, x, y in zip(at, auc, low, high, strict=True)
            ],
            "hoverinfo": "text",
        }
        if np.isfinite(low).any():
            ends = {"array": high - auc, "arrayminus": auc - low, "color": colour, "thickness": 2, "width": 5}
            mean["error_x"] = {"type": "data", "symmetric": False} | ends
        traces.append(mean)
    chance = {"type": "line", "x0": 0.5, "x1": 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": line(1.2, DANGER, "dot")}
    return figure(
        traces,
        height=110 + 34 * len(known),
        showlegend=True,
        xaxis=axis("area under the ROC curve (0.5 is chance)", range=[0, 1.02]),
        yaxis=category_axis(labels, range=[len(known) - 0.4, -0.6], showgrid=False),
        shapes=[chance],
    )


def _points(splits: pd.DataFrame, rows: pd.DataFrame, at: np.ndarray) -> dict[str, Any]:
    x, y, text = [], [], []
    for i, (_, row) in zip(at, rows.iterrows(), strict=True):
        mine = splits[(splits["model"] == row["model"]) & (splits["features"] == row["features"])]
        x += mine["auc"].tolist()
        y += [int(i)] * len(mine)
        text += [
            f"held out: {plotly_text(h)}<br>AUC {a:.3f}" for h, a in zip(mine["held_out"], mine["auc"], strict=True)
        ]
    marker = {"size": 7, "color": FAINT}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "each batch left out",
        "x": x,
        "y": y,
        "text": text,
        "hoverinfo": "text",
        "marker": marker,
    }
