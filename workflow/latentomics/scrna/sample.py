"""One sample of the single-cell arm: read, check, call cells, judge them, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from latentomics.config.cells import Cells
from latentomics.config.doublets import Doublets
from latentomics.config.qc import QC
from latentomics.config.row import InputRow
from latentomics.io.checks import check_counts
from latentomics.io.readers import as_counts, read_counts, read_sample, resolve_covariates
from latentomics.problems import InputError, Problem
from latentomics.scrna.doublets.decide import calls_table, decide, said_doublets
from latentomics.scrna.doublets.registry import DoubletCalls, method
from latentomics.scrna.droplets.calling import Calling, call_cells
from latentomics.scrna.droplets.ranks import rank_curve
from latentomics.scrna.genes import flag_genes
from latentomics.scrna.qc import REASONS, Limit, cell_metrics, find_limits, judge


@dataclass(frozen=True)
class Judging:
    """How a sample's droplets and cells are judged.

    Attributes
    ----------
    gene_sets
        Table of mitochondrial, ribosomal and haemoglobin genes.
    organism
        ``human``, ``mouse`` or ``auto``.
    """

    gene_sets: Path
    cells: Cells = field(default_factory=Cells)
    qc: QC = field(default_factory=QC)
    doublets: Doublets = field(default_factory=Doublets)
    organism: str = "auto"
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Sample:
    """What is made of one sample.

    Attributes
    ----------
    counts
        Called cells x genes, raw counts (CSR, int32); the observation ids are ``{sample}_{barcode}``. ``var`` has
        ``ambient``, the profile of the empty droplets, where there were any.
    cells
        Per called cell: ``sample``, ``barcode``, covariates, metrics, ``doublet_score``, ``keep``, ``reason`` and the
        ``value`` and ``limit`` behind the reason.
    droplets
        The barcode-rank curve.
    summary
        JSON-able facts: how cells were called, limits, numbers dropped per reason, what the reader recognised, notes for
        people.
    """

    counts: ad.AnnData
    cells: pd.DataFrame
    droplets: pd.DataFrame
    summary: dict[str, Any]


def read_matrix(rows: Sequence[InputRow], raw: Path | None = None) -> ad.AnnData:
    """The matrix of a sample as it came: of the files of the sheet, or, of a sample of reads, what was counted in them.

    Raises
    ------
    InputError
        A file is damaged, or the matrix does not hold raw counts.
    """
    if raw is None:
        adata = read_sample(list(rows))
    else:
        counted = replace(rows[0], path=raw, format="h5ad", path_2=None, path_3=None, technology=None)
        adata = read_counts(counted)
    problems = check_counts(adata, rows[0].sample, str(rows[0].path))
    if problems:
        raise InputError(problems)
    return as_counts(adata)


def process_sample(
    rows: Sequence[InputRow],
    judging: Judging,
    raw: Path | None = None,
    quantification: dict[str, Any] | None = None,
) -> Sample:
    """Read one sample, check its matrix, call its cells and judge them.

    Parameters
    ----------
    rows
        The sample's rows of the sheet.
    raw, quantification
        Of a sample of reads: the file of counts made of them, and what is known of its making.

    Raises
    ------
    InputError
        The matrix does not hold raw counts, no droplet holds a cell, or no cell passes.
    """
    sample, file = rows[0].sample, str(rows[0].path)
    adata = read_matrix(rows, raw)
    ingest = dict(adata.uns["ingest"])
    said = next((row.droplets for row in rows if row.droplets), None)
    calling = call_cells(adata.X, judging.cells, judging.seed, said)
    droplets = rank_curve(np.asarray(adata.X.sum(axis=1)).ravel(), calling.called)
    if not calling.called.any():
        raise InputError([_no_cells(sample, file, calling), *_of_reads(file, quantification)])
    adata = adata if calling.called.all() else adata[calling.called].copy()
    covariates = resolve_covariates(adata, rows[0])
    organism = ingest["organism"] if judging.organism == "auto" else judging.organism
    metrics, limits, verdict = judge_cells(adata, judging.qc, organism, judging.gene_sets)
    passed = (verdict["reason"] == "").to_numpy()
    calls = {
        name: method(name).call_doublets(adata.X[passed], judging.doublets, judging.seed, judging.threads)
        for name in judging.doublets.methods
        if not method(name).GPU
    }
    cells = pd.concat(
        [
            pd.DataFrame({"sample": sample, "barcode": adata.obs_names}, index=adata.obs_names),
            covariates,
            metrics,
            (verdict["reason"] == "").rename("keep"),
            verdict,
        ],
        axis=1,
    )
    cells.index = pd.Index([f"{sample}_{barcode}" for barcode in adata.obs_names], name="cell")
    tables = {name: calls_table(found, cells.index[passed]) for name, found in calls.items()}
    cells = decide(cells, tables, judging.doublets, cells.get(judging.doublets.given))
    if not cells["keep"].any():
        raise InputError([all_cells_fail(sample, file, cells), *_of_reads(file, quantification)])
    var = adata.var[["ensembl", "symbol"]]
    if calling.ambient is not None:
        var = var.assign(ambient=calling.ambient)
    counts = ad.AnnData(adata.X, obs=pd.DataFrame(index=cells.index), var=var)
    facts = _summary(rows, cells, limits, calls, ingest, organism)
    return Sample(counts, cells, droplets, facts | {"calling": _described(calling), "quantification": quantification})


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


def _no_cells(sample: str, file: str, calling: Calling) -> Problem:
    what = f"sample {sample!r}: none of {len(calling.called)} droplets holds a cell ({calling.why})"
    hint = "is the library empty? `cells.lower` and `cells.method` in the config say how cells are called; a matrix of "
    hint += "cells alone is said to be one by `filtered` in the sheet's column `droplets`."
    return Problem(file, what, hint, key="cells")


def _of_reads(file: str, quantification: dict[str, Any] | None) -> list[Problem]:
    """What was odd about the reads: the likely cause where no cell is left."""
    found = (quantification or {}).get("warnings", [])
    return [Problem(file, one["what"], one["hint"], severity="warning") for one in found]


def _described(calling: Calling) -> dict[str, Any]:
    return {"state": calling.state, "why": calling.why, **calling.facts}


def _summary(
    rows: Sequence[InputRow],
    cells: pd.DataFrame,
    limits: dict[str, Limit],
    calls: dict[str, DoubletCalls],
    ingest: dict[str, Any],
    organism: str | None,
) -> dict[str, Any]:
    kept = cells[cells["keep"]]
    notes = [*ingest.get("notes", []), *(found.note for found in calls.values() if found.note)]
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
        "format": rows[0].format if rows[0].format == "fastq" else ingest.get("format"),
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
        "doublet_threshold": next((found.threshold for found in calls.values()), None),
        "doublet_average_precision": doublet_average_precision(cells),
        "notes": notes,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def doublet_average_precision(cells: pd.DataFrame) -> float | None:
    """Average precision of the doublet score for the true doublets; None without truth or without scores."""
    from sklearn.metrics import average_precision_score

    if "label_doublet" not in cells:
        return None
    truth = said_doublets(cells["label_doublet"])
    usable = truth.notna() & cells["doublet_score"].notna()
    if not usable.any() or truth[usable].nunique() < 2:
        return None
    return float(average_precision_score(truth[usable].astype(bool), cells.loc[usable, "doublet_score"]))


def write_sample(made: Sample, to: dict[str, Path]) -> None:
    """Write the files of a sample (keys ``counts``, ``cells``, ``droplets``, ``summary``)."""
    made.counts.write_h5ad(to["counts"], compression="gzip", compression_opts=1)
    made.cells.to_parquet(to["cells"])
    made.droplets.to_parquet(to["droplets"])
    to["summary"].write_text(json.dumps(made.summary, indent=1) + "\n")
