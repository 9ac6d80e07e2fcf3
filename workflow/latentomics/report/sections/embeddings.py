"""The embeddings side by side, coloured by any annotation or marker feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy.optimize import linear_sum_assignment

from latentomics.cluster.layouts import LANDMARKS, LARGE
from latentomics.report.data import LAYOUTS, ReportData, natural_order
from latentomics.report.encode import codes, packed, quantised
from latentomics.report.palette import CATEGORICAL, SEQUENTIAL
from latentomics.report.section import Section

#: A text column with more values than this is an identifier: no palette tells its values apart.
MAX_LEVELS = 60

#: Shown in the hover box, where present.
_HOVER = ("sample", "batch", "condition", "label")

#: What the values are, by the normalisation that made them.
_SCALES = {
    "log1p": "log-normalised",
    "clr": "centred log-ratio",
    "rclr": "robust centred log-ratio",
    "relative": "share of the sample",
    "rarefy": "counts at one depth",
}

_UNITS = {
    "total_counts": "total counts",
    "corrected_counts": "counts without ambient RNA",
    "ambient_share": "ambient share of counts",
    "scrublet_score": "Scrublet score",
    "solo_score": "SOLO score",
    "n_genes": "detected genes",
    "n_taxa": "detected taxa",
    "unclassified_share": "unclassified share of reads",
    "mito_percent": "mitochondrial counts, %",
    "ribo_percent": "ribosomal counts, %",
    "hb_percent": "haemoglobin counts, %",
    "doublet_score": "doublet score",
}


def build(data: ReportData) -> Section | None:
    """The explorer and its data; None if there are no layouts."""
    if data.obs.empty:
        return None
    methods = [m for m in data.methods if not data.layout(m).empty]
    rows = data.drawn
    panels = [
        {"method": m, "layout": key, "x": packed(xy[:, 0]), "y": packed(xy[:, 1])}
        for key in LAYOUTS
        for m in methods
        if (xy := _coordinates(data, m, key, rows)) is not None
    ]
    if not panels:
        return None
    columns, omitted = _columns(data.obs, rows)
    features = data.colour_features
    explorer: dict[str, Any] = {
        "ids": data.obs.index[rows].astype(str).tolist(),
        "panels": panels,
        "methods": {m: data.title_of(m) for m in methods},
        "layouts": [[key, title] for key, (title, *_) in LAYOUTS.items() if any(p["layout"] == key for p in panels)],
        "order": [m for m in methods if any(p["method"] == m for p in panels)],
        "clusters": _clusters(data, methods, rows),
        "columns": columns,
        "hover": [c for c in _HOVER if any(column["name"] == c for column in columns)],
        "features": _expression(data, features),
        "palette": CATEGORICAL,
        "scale": SEQUENTIAL,
        "nouns": {
            "observation": data.observation,
            "observations": data.observations,
            "feature": data.feature,
            "value": data.kind.VALUE,
            "scale": _SCALES.get(data.normaliser.facts.get("normalisation", ""), "normalised"),
        },
        "seed": data.limits.seed,
    }
    n_obs = data.shape[0]
    return Section(
        id="embeddings",
        title="Embeddings",
        template="embeddings.html.j2",
        context={
            "titles": [data.title_of(m) for m in methods],
            "layouts": [title for _, title in explorer["layouts"]],
            "n_drawn": len(rows),
            "n_obs": n_obs,
            "sampled": len(rows) < n_obs,
            "n_features": len(features),
            "omitted": omitted,
            "perplexity": _perplexity(data),
            "landmarks": LANDMARKS if n_obs > LARGE else None,
            "min_dist": data.setting("layouts", "umap_min_dist"),
        },
        payload={"explorer": explorer},
    )


def _perplexity(data: ReportData) -> float | None:
    """As used: openTSNE wants three neighbours per unit, so that few observations have a smaller one than was set."""
    asked = data.setting("layouts", "tsne_perplexity")
    return None if asked is None else round(min(float(asked), max((data.shape[0] - 1) / 3 - 1, 1)), 1)


def _coordinates(data: ReportData, method: str, key: str, rows: np.ndarray) -> np.ndarray | None:
    frame = data.layout(method)
    _, x, y = LAYOUTS[key]
    if not {x, y} <= set(frame.columns):
        return None
    return frame[[x, y]].reindex(data.obs.index[rows]).to_numpy(dtype=np.float32)


def _clusters(data: ReportData, methods: list[str], rows: np.ndarray) -> dict[str, Any]:
    """Clusters of each method, with colours that agree between methods where the cells do."""
    found = {m: data.clusters(m) for m in methods}
    found = {m: c for m, c in found.items() if len(c) == len(data.obs)}
    primary = data.primary if data.primary in found else next(iter(found), None)
    result: dict[str, Any] = {}
    for method, labels in found.items():
        levels = natural_order(labels.dropna())
        colours = list(range(len(levels)))
        if primary is not None and method != primary:
            colours = matched_colours(labels, levels, found[primary])
        result[method] = _categorical(labels.iloc[rows], levels) | {
            "colours": colours,
            "counts": _counts(labels, levels),
        }
    return result


def matched_colours(labels: pd.Series, levels: list[str], reference: pd.Series) -> list[int]:
    """Colour numbers for clusters so that they match the clusters of a reference that they share most cells with.

    Parameters
    ----------
    labels, reference
        Two partitions of the same observations.
    levels
        The values of ``labels`` in order.

    Returns
    -------
    list
        A colour number per level. Matched one to one by the largest total overlap; the unmatched get new numbers.
    """
    reference_levels = natural_order(reference.dropna())
    overlap = pd.crosstab(labels, reference).reindex(index=levels, columns=reference_levels, fill_value=0).to_numpy()
    mine, theirs = linear_sum_assignment(-overlap)
    match = {int(i): int(j) for i, j in zip(mine, theirs, strict=True) if overlap[i, j] > 0}
    free = iter(range(len(reference_levels), len(reference_levels) + len(levels)))
    return [match[i] if i in match else next(free) for i in range(len(levels))]


def _counts(values: pd.Series, levels: list[str]) -> list[int]:
    return values.value_counts().reindex(levels, fill_value=0).astype(int).tolist()


def _categorical(values: pd.Series, levels: list[str]) -> dict[str, Any]:
    """Levels and codes; the code after the last level means missing."""
    code = pd.Categorical(values, categories=levels).codes.astype(np.int64)
    code[code < 0] = len(levels)
    return {"levels": levels, "codes": packed(codes(code))}


def _columns(obs: pd.DataFrame, rows: np.ndarray) -> tuple[list[dict[str, Any]], list[str]]:
    """Every annotation that can colour, and the names of those that have too many values to."""
    columns: list[dict[str, Any]] = []
    omitted: list[str] = []
    for name in obs.columns:
        values = obs[name]
        # A sample that is itself the observation is named when pointed at.
        if name == "barcode" or values.isna().all() or _names_observations(values):
            continue
        title = _UNITS.get(name, str(name).replace("_", " "))
        if is_numeric_dtype(values) and not is_bool_dtype(values):
            numbers = values.to_numpy(dtype=np.float64)
            # A column of counts spans orders of magnitude: its colours are spread over the logarithm.
            log = name in ("total_counts", "corrected_counts", "n_genes", "n_taxa") and np.nanmin(numbers) > 0
            shown = {"kind": "numeric", "values": packed(numbers[rows]), "log": bool(log)}
            columns.append({"name": str(name), "title": title} | shown)
            continue
        text = values.astype(object).where(values.notna(), None).map(lambda v: None if v is None else str(v))
        levels = natural_order(text.dropna())
        if len(levels) > MAX_LEVELS:
            omitted.append(str(name))
            continue
        shown = {"kind": "categorical", "counts": _counts(text, levels)} | _categorical(text.iloc[rows], levels)
        columns.append({"name": str(name), "title": title} | shown)
    return columns, omitted


def _names_observations(values: pd.Series) -> bool:
    """Whether an annotation is the name of each observation."""

    def same(some: pd.Series) -> bool:
        return bool((some.astype(str).to_numpy() == some.index.astype(str)).all())

    # The first tells nearly always: a million numbers take seconds to become text.
    return same(values.iloc[:1]) and same(values)


def _expression(data: ReportData, features: pd.DataFrame) -> dict[str, Any]:
    """Names, ranges and one byte per observation and feature, feature after feature."""
    if features.empty:
        return {"names": [], "lows": [], "tops": [], "bytes": "", "zeros": True}
    values = data.expression(features["column"].to_numpy())
    columns, lows, tops = zip(*(quantised(values[:, j]) for j in range(values.shape[1])), strict=True)
    return {
        "names": features["symbol"].tolist(),
        "lows": [round(low, 4) for low in lows],
        "tops": [round(top, 4) for top in tops],
        # Whether 0 means "not seen"; a log-ratio of 0 does not.
        "zeros": data.normaliser.keeps_zeros,
        "bytes": packed(np.concatenate(columns))["bdata"],
    }
