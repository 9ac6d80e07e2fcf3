"""RNA of broken cells in every droplet: how much of it the cells hold, and what was done about it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.cell_methods import with_paper
from latentomics.report.data import ReportData
from latentomics.report.section import Section
from latentomics.report.violins import Metric, distributions
from latentomics.report.words import listed
from latentomics.scrna.ambient import registry

#: Most samples drawn; with more, those with the largest share.
MAX_SAMPLES = 40
_COLUMNS = (
    ("sample", "sample", "text"),
    ("method", "removed by", "text"),
    ("share", "mean share", "percent"),
    ("median", "median share", "percent"),
    ("removed", "counts removed", "percent"),
    ("top_genes", "genes that lead in the empty droplets", "note"),
    ("notes", "notes", "note"),
)


def build(data: ReportData) -> Section | None:
    """Share of ambient counts by sample; None where nothing is known of it."""
    table = data.table("ambient")
    if table.empty or not {"sample", "method"} <= set(table.columns):
        return None
    methods = [m for m in dict.fromkeys(table["method"]) if m != "none"]
    figures = {}
    names: list[str] = []
    if methods and "ambient_share" in data.cells:
        share = table.set_index("sample")["share"]
        names = [
            name
            for name in share.index
            if name in set(share.sort_values(ascending=False, kind="stable").index[:MAX_SAMPLES])
        ]
        rows = pd.DataFrame(index=names)
        found = distributions(
            data.cells, rows, [Metric("ambient_share", "ambient share of a cell's counts", share=True)]
        )
        figures = {} if found is None else {"shares": found}
    return Section(
        id="ambient",
        title="Ambient RNA",
        template="ambient.html.j2",
        context={
            "figures": list(figures),
            "removed": listed(with_paper(m, _title(m)) for m in methods),
            "n_samples": len(table),
            "n_shown": len(names),
            "known": bool((table.get("top_genes", pd.Series(dtype=str)) != "").any()),
        },
        payload={
            "figures": figures,
            "tables": {"ambient": _table(table.assign(method=table["method"].map(_title)), removed=bool(methods))},
        },
    )


def _title(name: str) -> str:
    return registry.method(name).TITLE if name in registry.METHODS else name


def _table(table: pd.DataFrame, removed: bool) -> dict[str, Any]:
    table = table if removed else table.drop(columns="method")
    known = [c for c in _COLUMNS if c[0] in table and not (table[c[0]].isna() | (table[c[0]].astype(str) == "")).all()]
    return {
        "columns": [{"title": title, "kind": kind} for _, title, kind in known],
        "rows": [
            [
                None if pd.isna(row[name]) else float(row[name]) if kind == "percent" else str(row[name])
                for name, _, kind in known
            ]
            for _, row in table.iterrows()
        ],
    }
