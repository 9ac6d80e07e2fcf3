"""From the reads of single cells to counts: how many reads mapped, to how many molecules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from latentomics.config.quantify import Quantify
from latentomics.report.data import ReportData
from latentomics.report.section import Section
from latentomics.report.words import number, percent

#: Column of quantification.tsv, its title, and how its values are written.
_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("n_reads", "Reads", number),
    ("mapping_rate", "Mapped", percent),
    ("barcodes_exact", "Listed barcode", percent),
    ("barcodes_corrected", "One base beside", percent),
    ("n_umis", "Molecules (UMIs)", number),
    ("reads_per_umi", "Reads per molecule", number),
)


def build(data: ReportData) -> Section | None:
    """One row per sample that was read as FASTQ; None where there is none."""
    table = data.table("quantification")
    if "sample" not in table or table.empty:
        return None
    shown = [column for column in _COLUMNS if column[0] in table and table[column[0]].notna().any()]
    least = data.setting("quantify", "min_mapping_rate", default=Quantify().min_mapping_rate)
    return Section(
        id="quantification",
        title="Reads to counts",
        template="quantification.html.j2",
        context={
            "heads": [title for _, title, _ in shown],
            "rows": [_row(row, shown, least) for _, row in table.iterrows()],
            "warnings": [text for said in table.get("warnings", []) for text in _split(said)],
            "least": least,
        },
    )


def _row(row: pd.Series, shown: list[tuple[str, str, Callable[[Any], str]]], least: float) -> dict[str, Any]:
    return {
        "sample": row["sample"],
        "technology": row.get("technology", ""),
        "values": [
            {"text": write(row[name]), "bad": name == "mapping_rate" and row[name] < least} for name, _, write in shown
        ],
        "notes": _split(row.get("notes", "")),
    }


def _split(said: object) -> list[str]:
    return [text for text in str(said or "").split("; ") if text]
