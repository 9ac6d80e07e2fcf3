"""What is told of the samples: tables on what was read, called, corrected, kept and left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from latentomics.config.confounding import confounding
from latentomics.problems import Problem
from latentomics.scrna.qc import DOUBLET, REASONS

#: Columns of the ledger: every observation or feature removed, by which rule, why.
LEDGER = ("observation", "kind", "sample", "rule", "reason", "value", "limit")
NO_SHARED_GENE = "no counts in shared genes"
NO_COUNTS_LEFT = "no counts after ambient removal"
#: The rule behind a reason, where it is not ``qc``.
_RULES = {DOUBLET: "doublets", NO_SHARED_GENE: "ingest.join", NO_COUNTS_LEFT: "ambient"}
_LOST = {
    NO_SHARED_GENE: "{} cells have no counts in the genes that all samples share",
    NO_COUNTS_LEFT: "{} cells have no counts after the removal of ambient RNA",
}
_LIMITS = {
    "low_counts": "min_counts",
    "high_counts": "max_counts",
    "low_genes": "min_genes",
    "high_genes": "max_genes",
    "high_mito_percent": "max_mito_percent",
}
QUANTIFICATION = (
    *("sample", "technology", "whitelist", "n_reads", "n_mapped", "mapping_rate", "unique_rate"),
    *("barcodes_exact", "barcodes_corrected", "n_barcodes", "n_genes", "n_umis", "reads_per_umi", "saturation"),
    *("notes", "warnings"),
)
AMBIENT = ("sample", "method", "share", "median", "removed", "top_genes", "notes")
DROPLETS = ("sample", "rank", "total", "called")
#: Genes of the ambient profile that are named.
_TOP = 10


def sample_table(summaries: Sequence[Mapping[str, Any]], cells: pd.DataFrame) -> pd.DataFrame:
    """One row per sample: what was read, called, kept and dropped, the limits used, what the reader recognised.

    Empty droplets are counted here (``n_barcodes`` less ``n_called``) and nowhere listed. What is not known of any
    sample (droplets of filtered matrices, mapping rates of count matrices) has no column.
    """
    rows = []
    for summary in summaries:
        mine = cells[cells["sample"] == summary["sample"]]
        kept, reasons = mine[mine["keep"]], mine["reason"].value_counts()
        limits = {_LIMITS[key]: value for key, value in summary["limits"].items() if key in _LIMITS}
        rows.append(
            {
                "sample": summary["sample"],
                **{c: "/".join(sorted(set(mine[c].astype(str)))) for c in ("batch", "condition") if c in mine},
                **{key: summary[key] for key in ("format", "orientation", "id_type", "organism")},
                **_before_cells(summary),
                "n_read": summary["n_read"],
                "n_kept": len(kept),
                **{_reason_column(reason): int(reasons.get(reason, 0)) for reason in REASONS},
                "median_counts": kept["total_counts"].median(),
                "median_genes": kept["n_genes"].median(),
                "median_mito_percent": kept["mito_percent"].median(),
                **limits,
                "doublet_threshold": summary["doublet_threshold"],
                **{f"{name}_threshold": value for name, value in summary.get("doublet_thresholds", {}).items()},
                "doublet_average_precision": summary["doublet_average_precision"],
                "notes": "; ".join([*summary["notes"], *(_LOST[r].format(reasons[r]) for r in _LOST if r in reasons)]),
            }
        )
    table = pd.DataFrame(rows)
    for column in ("n_barcodes", "n_called"):
        table[column] = table[column].astype("Int64")
    return table.drop(columns=[c for c in ("mapping_rate", "n_barcodes", "n_called") if table[c].isna().all()])


def _before_cells(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the reads and droplets of a sample."""
    calling = summary.get("calling") or {}
    raw = calling if calling.get("state") == "raw" else {}
    return {
        "mapping_rate": (summary.get("quantification") or {}).get("mapping_rate"),
        **{key: raw.get(key) for key in ("n_barcodes", "n_called")},
    }


def _reason_column(reason: str) -> str:
    return "n_" + {"high mitochondrial share": "mito"}.get(reason, reason.replace(" ", "_"))


def quantification_table(summaries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per sample that was read as FASTQ: how many of its reads became counts."""
    rows = []
    for summary in summaries:
        if facts := summary.get("quantification"):
            told = {
                "notes": "; ".join(map(str, facts.get("notes", []))),
                "warnings": "; ".join(str(warning["what"]) for warning in facts.get("warnings", [])),
            }
            rows.append({**facts, "sample": summary["sample"], **told})
    return pd.DataFrame(rows).reindex(columns=list(QUANTIFICATION))


def ambient_table(
    samples: Sequence[str], profiles: Sequence[pd.Series | None], corrections: Sequence[Mapping[str, Any] | None]
) -> pd.DataFrame:
    """One row per sample whose ambient RNA is known or was removed.

    Parameters
    ----------
    profiles
        Share of each gene in the empty droplets, indexed by its name for people; None where there were none.
    corrections
        What the removal said of itself; None where nothing was removed.
    """
    rows = []
    for sample, profile, correction in zip(samples, profiles, corrections, strict=True):
        if profile is None and correction is None:
            continue
        told = correction or {"method": "none"}
        rows.append(
            {
                "sample": sample,
                **{key: told.get(key) for key in ("method", "share", "median", "removed")},
                "top_genes": "" if profile is None else "; ".join(_top_genes(profile)),
                "notes": "; ".join(map(str, told.get("notes", []))),
            }
        )
    return pd.DataFrame(rows, columns=list(AMBIENT))


def _top_genes(profile: pd.Series) -> list[str]:
    top = profile[profile > 0].sort_values(ascending=False, kind="stable").head(_TOP)
    return [f"{gene} {100 * share:.3g}%" for gene, share in top.items()]


def droplet_table(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The barcode-rank curves of all samples under each other."""
    parts = [curve.assign(sample=sample) for sample, curve in curves.items() if len(curve)]
    if not parts:
        return pd.DataFrame({"sample": pd.Series(dtype=str), **{c: pd.Series(dtype=float) for c in DROPLETS[1:]}})
    return pd.concat(parts, ignore_index=True)[list(DROPLETS)]


def ledger(cells: pd.DataFrame, dropped_genes: pd.DataFrame) -> pd.DataFrame:
    """Every cell and gene that did not reach the store.

    A droplet is no observation before it is called a cell: of the empty ones, which may be millions, the ledger lists
    none (:func:`sample_table` has their number).
    """
    out = cells[~cells["keep"]]
    rows = pd.DataFrame(
        {
            "observation": out.index,
            "kind": "cell",
            "sample": out["sample"].to_numpy(),
            "rule": out["reason"].map(_RULES).fillna("qc").to_numpy(),
            "reason": out["reason"].to_numpy(),
            "value": out["value"].to_numpy(),
            "limit": out["limit"].to_numpy(),
        }
    )
    genes = pd.DataFrame(
        {
            "observation": dropped_genes["gene"],
            "kind": "gene",
            "sample": "",
            "rule": "ingest.join",
            "reason": "missing in " + dropped_genes["missing_in"],
        }
    )
    return pd.concat([rows, genes.reindex(columns=list(LEDGER))] if len(genes) else [rows], ignore_index=True)[
        list(LEDGER)
    ]


def warnings_table(
    cells: pd.DataFrame,
    summaries: Sequence[Mapping[str, Any]],
    genes: Sequence[pd.DataFrame],
    var: pd.DataFrame,
    join: str,
    sheet: str,
) -> pd.DataFrame:
    """What the report repeats at its top."""
    found: list[Problem] = []
    for summary in summaries:
        where = summary["files"][0]
        told = (summary.get("quantification") or {}).get("warnings", [])
        found += [Problem(where, str(w["what"]), str(w["hint"]), severity="warning") for w in told]
        mine = cells[cells["sample"] == summary["sample"]]
        lost = 1 - mine["keep"].mean()
        if lost > 0.5:
            counted = mine.loc[~mine["keep"], "reason"].value_counts()
            ordered = [*(r for r in REASONS if r in counted), *(r for r in _LOST if r in counted)]
            reasons = ", ".join(f"{counted[reason]} {reason}" for reason in ordered)
            what = f"sample {summary['sample']!r} loses {lost:.0%} of its {len(mine)} cells ({reasons})"
            found.append(Problem(where, what, "look at its QC plots; is it a failed library?", severity="warning"))
    if {"batch", "condition"} <= set(cells.columns):
        pairs = set(zip(cells["batch"].astype(str), cells["condition"].astype(str), strict=True))
        found += confounding(sheet, pairs)
    largest = max(len(g) for g in genes)
    shared = int((var["n_samples"] == len(genes)).sum())
    if shared < largest:
        what = (
            f"samples differ in their genes: {shared} shared by all, largest sample {largest}, {len(var)} kept ({join})"
        )
        hint = (
            "a gene that a sample's annotation lacks counts as zero there (outer); `ingest.join: inner` leaves it out."
        )
        found.append(Problem(sheet, what, hint, severity="warning"))
    columns = {"severity": "severity", "where": "file", "message": "what", "hint": "hint"}
    return pd.DataFrame(
        [{name: getattr(p, key) for name, key in columns.items()} for p in found], columns=list(columns)
    )
