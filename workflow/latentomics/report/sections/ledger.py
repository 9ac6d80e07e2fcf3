"""What was removed, by which rule and why."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.data import ReportData, natural_order
from latentomics.report.section import Section
from latentomics.report.words import number

#: With more samples the table shows totals only.
MAX_SAMPLES = 12

#: Samples and taxa are few and have names; of a rule that took no more than this many, they are listed.
MAX_NAMES = 8


def build(data: ReportData) -> Section | None:
    """Counts by kind, rule, reason and sample; None if no ledger was written."""
    ledger = data.ledger
    if not {"kind", "rule", "reason"} <= set(ledger.columns):
        return None
    samples = natural_order(s for s in ledger["sample"] if s) if "sample" in ledger else []
    shown = samples if len(samples) <= MAX_SAMPLES else []
    kinds = [k for k in ("cell", "gene", "sample", "taxon") if (ledger["kind"] == k).any()]
    kinds += [k for k in natural_order(ledger["kind"]) if k not in kinds]
    return Section(
        id="ledger",
        title="Ledger of what was dropped",
        template="ledger.html.j2",
        context={
            "rows": [row for kind in kinds for row in _rows(ledger[ledger["kind"] == kind], kind, shown)],
            "samples": shown,
            "n_samples": len(samples),
            "total": len(ledger),
            "path": f"results/{data.assay}/ledger.tsv",
        },
    )


def _rows(ledger: pd.DataFrame, kind: str, samples: list[str]) -> list[dict[str, Any]]:
    rows = []
    for (rule, reason), part in ledger.groupby(["rule", "reason"], sort=True):
        by_sample = part["sample"].value_counts() if samples else pd.Series(dtype=int)
        rows.append(
            {
                "kind": kind,
                "rule": rule,
                "reason": reason,
                "n": len(part),
                "limits": _limits(part),
                "names": _names(part, kind),
                "by_sample": [int(by_sample.get(s, 0)) for s in samples],
            }
        )
    return sorted(rows, key=lambda row: (-row["n"], row["rule"], row["reason"]))


def _names(part: pd.DataFrame, kind: str) -> list[str]:
    """Names of what was dropped, where they say something to people."""
    if kind not in ("sample", "taxon") or "observation" not in part:
        return []
    names = natural_order(part["observation"])
    return names if len(names) <= MAX_NAMES else []


def _limits(part: pd.DataFrame) -> str:
    """The limit that was crossed, or the range of limits where samples have their own."""
    if "limit" not in part:
        return ""
    limits = pd.to_numeric(part["limit"], errors="coerce").dropna()
    if limits.empty:
        return ""
    low, high = float(limits.min()), float(limits.max())
    return number(low) if low == high else f"{number(low)} to {number(high)}"
