"""One sample of the single-cell arm: read, check, judge, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentomics.config.doublets import Doublets
from latentomics.config.qc import QC
from latentomics.config.sheet import InputRow
from latentomics.io.checks import check_counts
from latentomics.io.readers import as_counts, read_sample, resolve_covariates
from latentomics.problems import InputError, Problem
from latentomics.scrna.doublets import DoubletCalls, call_doublets
from latentomics.scrna.genes import flag_genes
from latentomics.scrna.qc import DOUBLET, REASONS, Limit, cell_metrics, find_limits, judge

#: Values of a ``label_doublet`` column that mean "a true doublet"; anything else non-empty means a true singlet.
DOUBLET_WORDS = frozenset({"doublet", "dbl", "true", "1", "yes"})


def process_sample(
    rows: Sequence[InputRow],
    qc: QC,
    doublets: Doublets,
    organism: str,
    gene_sets: Path,
    seed: int,
) -> tuple[ad.AnnData, pd.DataFrame, dict[str, Any]]:
    """Read one sample, check its matrix and judge its cells.

    Returns
    -------
    counts
        Every cell that was read x genes, raw counts (CSR, int32); the observation ids are ``{sample}_{barcode}``.
    cells
        Per cell: ``sample``, ``barcode``, covariates, metrics, ``doublet_score``, ``keep``, ``reason`` and the
        ``value`` and ``limit`` behind the reason.
    summary
        JSON-able facts: limits, numbers dropped per reason, what the reader recognised, notes for people.

    Raises
    ------
    InputError
        The matrix does not hold raw counts, or no cell passes.
    """
    sample, file = rows[0].sample, str(rows[0].path)
    adata = read_sample(list(rows))
    ingest = dict(adata.uns["ingest"])
    problems = check_counts(adata, sample, file)
    if problems:
        raise InputError(problems)
    adata = as_counts(adata)
    covariates = resolve_covariates(adata, rows[0])
    organism = ingest["organism"] if organism == "auto" else organism
    metrics, limits, verdict = judge_cells(adata, qc, organism, gene_sets)
    passed = (verdict["reason"] == "").to_numpy()
    calls = call_doublets(adata[passed], doublets, seed)
    scores, called = np.full(adata.n_obs, np.nan), np.zeros(adata.n_obs, dtype=bool)
    scores[passed], called[passed] = calls.scores, calls.called
    if doublets.drop:
        verdict.loc[called, ["reason", "value", "limit"]] = [DOUBLET, np.nan, calls.threshold]
        verdict.loc[called, "value"] = scores[called]
    if (verdict["reason"] != "").all():
        raise InputError(all_cells_fail(sample, file, verdict))
    cells = pd.concat(
        [
            pd.DataFrame({"sample": sample, "barcode": adata.obs_names}, index=adata.obs_names),
            covariates,
            metrics,
            pd.DataFrame({"doublet_score": scores, "doublet": called}, index=adata.obs_names),
            (verdict["reason"] == "").rename("keep"),
            verdict,
        ],
        axis=1,
    )
    cells.index = pd.Index([f"{sample}_{barcode}" for barcode in adata.obs_names], name="cell")
    counts = ad.AnnData(adata.X, obs=pd.DataFrame(index=cells.index), var=adata.var[["ensembl", "symbol"]])
    return counts, cells, _summary(rows, cells, limits, calls, ingest, organism)


def judge_cells(
    adata: ad.AnnData, qc: QC, organism: str | None, gene_sets: Path
) -> tuple[pd.DataFrame, dict[str, Limit], pd.DataFrame]:
    """Metrics of every cell, the limits of this sample, and which cells break them (before the doublet test)."""
    if organism == "auto":
        organism = adata.uns["ingest"]["organism"]
    metrics = cell_metrics(adata, flag_genes(adata.var, organism, gene_sets))
    limits = find_limits(metrics, qc)
    return metrics, limits, judge(metrics, limits)


def all_cells_fail(sample: str, file: str, verdict: pd.DataFrame) -> Problem:
    """The problem of a sample whose every cell fails QC, with the numbers behind it."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in verdict["reason"].value_counts().items())
    hint = "loosen the limits under `qc` and `doublets` in the config, or take the sample out of the sheet."
    return Problem(file, f"sample {sample!r}: all {len(verdict)} cells fail QC ({reasons})", hint, key="qc")


def _summary(
    rows: Sequence[InputRow],
    cells: pd.DataFrame,
    limits: dict[str, Limit],
    calls: DoubletCalls,
    ingest: dict[str, Any],
    organism: str | None,
) -> dict[str, Any]:
    kept = cells[cells["keep"]]
    notes = [*ingest.get("notes", []), *([calls.note] if calls.note else [])]
    if cells["mito_percent"].isna().all():
        notes.append("no mitochondrial genes found: their share cannot be judged")
    finite = {
        f"{side}_{name}": getattr(limits[metric], side)
        for metric, name in (("total_counts", "counts"), ("n_genes", "genes"), ("mito_percent", "mito_percent"))
        for side in ("low", "high")
    }
    return {
        "sample": rows[0].sample,
        "files": [str(row.path) for row in rows],
        "format": ingest.get("format"),
        "orientation": ingest.get("orientation"),
        "id_type": ingest.get("id_type"),
        "organism": organism,
        "n_read": len(cells),
        "n_kept": len(kept),
        "dropped": {reason: int((cells["reason"] == reason).sum()) for reason in REASONS},
        "median_counts": float(kept["total_counts"].median()),
        "median_genes": float(kept["n_genes"].median()),
        "median_mito_percent": _number(kept["mito_percent"].median()),
        "limits": {name: _number(value) for name, value in finite.items()},
        "doublet_threshold": calls.threshold,
        "doublet_average_precision": doublet_average_precision(cells),
        "notes": notes,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def is_true_doublet(labels: pd.Series) -> pd.Series:
    """Boolean truth of a ``label_doublet`` column; NA where it is empty."""
    words = labels.astype(str).str.strip().str.lower()
    return words.isin(DOUBLET_WORDS).astype("boolean").mask(words.isin(["", "nan"]))


def doublet_average_precision(cells: pd.DataFrame) -> float | None:
    """Average precision of the doublet score for the true doublets; None without truth or without scores."""
    from sklearn.metrics import average_precision_score

    if "label_doublet" not in cells:
        return None
    truth = is_true_doublet(cells["label_doublet"])
    usable = truth.notna() & cells["doublet_score"].notna()
    if not usable.any() or truth[usable].nunique() < 2:
        return None
    return float(average_precision_score(truth[usable].astype(bool), cells.loc[usable, "doublet_score"]))


def write_sample(counts: ad.AnnData, cells: pd.DataFrame, summary: dict[str, Any], to: dict[str, Path]) -> None:
    """Write the three files of a sample (keys ``counts``, ``cells``, ``summary``)."""
    counts.write_h5ad(to["counts"], compression="gzip", compression_opts=1)
    cells.to_parquet(to["cells"])
    to["summary"].write_text(json.dumps(summary, indent=1) + "\n")
