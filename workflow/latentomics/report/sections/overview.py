"""Header of the page: what stands out, and the key figures."""

from __future__ import annotations

import pandas as pd

from latentomics.report.data import ReportData
from latentomics.report.section import Section
from latentomics.report.words import counted, number, percent, setting

#: More warnings than this are folded away below the first ones.
MAX_WARNINGS = 12


def build(data: ReportData) -> Section | None:
    """Warnings first, then one tile per key figure."""
    warnings = data.warnings.reindex(columns=["severity", "where", "message", "hint"]).fillna("")
    # Errors above warnings above notes, otherwise in the order written.
    order = warnings["severity"].map({"error": 0, "warning": 1}).fillna(2)
    warnings = warnings.iloc[order.argsort(kind="stable")]
    return Section(
        id="overview",
        title="Overview",
        template="overview.html.j2",
        context={
            "warnings": warnings.head(MAX_WARNINGS).to_dict("records"),
            "more": warnings.iloc[MAX_WARNINGS:].to_dict("records"),
            "tiles": _tiles(data),
        },
    )


def _tiles(data: ReportData) -> list[dict[str, str]]:
    n_obs, n_features = data.shape
    tiles = []
    if "sample" in data.obs and data.assay != "metagenome":
        n_samples = len(data.samples) or data.obs["sample"].nunique()
        batches = data.obs["batch"].nunique() if "batch" in data.obs else 0
        note = f"in {counted(batches, 'batch', 'batches')}" if batches > 1 else ""
        tiles.append({"label": "Samples", "value": number(n_samples), "note": note})
    n_read = int(data.samples["n_read"].sum()) if "n_read" in data.samples else len(data.cells)
    kept = f"of {n_read:,} read, {percent(n_obs / n_read)}" if n_read else ""
    if data.assay == "metagenome" and len(data.samples):
        controls = (
            data.samples["control"].astype(str).str.lower() if "control" in data.samples else pd.Series(dtype=str)
        )
        n_controls = int(controls.isin(["true", "1", "yes"]).sum())
        kept = f"of {len(data.samples):,}" + (
            f", {counted(n_controls, 'negative control')} among them" if n_controls else ""
        )
    tiles.append({"label": f"{data.observations.capitalize()} kept", "value": number(n_obs), "note": kept})
    selected = int(data.features["selected"].sum()) if "selected" in data.features else data.verdict.get("n_selected")
    note = f"{number(selected)} selected for embedding" if selected is not None else ""
    tiles.append({"label": data.features_noun.capitalize(), "value": number(n_features), "note": note})
    if data.primary is not None:
        note = f"of {counted(len(data.methods), 'embedding')} computed" if data.methods else ""
        tiles.append({"label": "Primary embedding", "value": data.title_of(data.primary), "note": note})
        clusters = data.clusters(data.primary)
        if len(clusters):
            selection = data.selection(data.primary)
            chosen = selection[selection["chosen"]] if "chosen" in selection else selection
            note = f"at resolution {setting(float(chosen['resolution'].iloc[0]))}" if len(chosen) else ""
            tiles.append({"label": "Clusters", "value": number(clusters.nunique()), "note": note})
    if "warranted" in data.verdict:
        value = str(data.verdict["warranted"]).capitalize()
        tiles.append({"label": "Deep embedding warranted", "value": value, "note": "see Observations and features"})
    return tiles
