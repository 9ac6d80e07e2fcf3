"""Groups of the observations that figures are coloured, ordered or split by."""

from __future__ import annotations

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from latentomics.report.data import ReportData

#: Shown first, in this order.
_FIRST = ("condition", "batch", "label")


def groupings(data: ReportData, max_levels: int) -> dict[str, pd.Series]:
    """Clusters of the primary embedding and every annotation that groups the observations, by title.

    Parameters
    ----------
    max_levels
        Annotations with more values than this are left out; so are those with one, and measurements.

    Returns
    -------
    dict
        Values as text in the order of ``data.obs``, None where missing. Clusters first, then condition, batch and label.
    """
    found: dict[str, pd.Series] = {}
    if data.primary is not None and len(clusters := data.clusters(data.primary)) == len(data.obs):
        found[f"cluster of {data.title_of(data.primary)}"] = clusters
    names = [c for c in _FIRST if c in data.obs] + [c for c in data.obs.columns if c not in _FIRST]
    for name in names:
        values = data.obs[name]
        if not (is_numeric_dtype(values) and not is_bool_dtype(values)):
            found[str(name).replace("_", " ")] = values
    texts = {title: values.astype(object).where(values.notna(), None) for title, values in found.items()}
    texts = {title: values.map(lambda v: None if v is None or v == "" else str(v)) for title, values in texts.items()}
    # An annotation that names every observation is its identifier.
    return {t: v for t, v in texts.items() if 2 <= v.nunique() <= max_levels and v.nunique() < len(v)}
