"""Join the kept cells of every sample into the counts store, and account for everything that was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.config.sheet import confounding
from latentomics.io.store import CountsWriter, row_blocks
from latentomics.problems import InputError, Problem
from latentomics.scrna.qc import DOUBLET, REASONS

#: Columns of the ledger: every observation or feature removed, by which rule, why.
LEDGER = ("observation", "kind", "sample", "rule", "reason", "value", "limit")
NO_SHARED_GENE = "no counts in shared genes"
_NOT_IN_STORE = ("keep", "reason", "value", "limit")
#: Entries of a sample in memory at once.
_BLOCK = 1 << 24


@dataclass(frozen=True)
class SampleFiles:
    """The three files that the sample rule wrote."""

    counts: Path
    cells: Path
    summary: Path


@dataclass(frozen=True)
class Merged:
    """Tables that describe the join; the matrix itself went straight to the store."""

    cells: pd.DataFrame
    samples: pd.DataFrame
    ledger: pd.DataFrame
    warnings: pd.DataFrame


def merge_samples(files: Sequence[SampleFiles], store: Path, join: Literal["outer", "inner"], sheet: str) -> Merged:
    """Write the counts store; of the matrices, one block of rows is in memory at a time.

    Parameters
    ----------
    files
        Files of each sample, in the order of the sheet.
    store
        Folder of the store to write.
    join
        Keep every gene (``outer``, missing counts are zero) or the shared ones (``inner``).
    sheet
        Name of the sample sheet, for warnings.

    Raises
    ------
    InputError
        No gene is shared by all samples, or no cell has counts in those that are, with ``join`` at ``inner``.
    """
    cells = [pd.read_parquet(f.cells) for f in files]
    summaries = [json.loads(f.summary.read_text()) for f in files]
    genes = [_read_var(f.counts) for f in files]
    var, dropped_genes = join_genes(genes, join, [s["sample"] for s in summaries])
    if var.empty:
        hint = "set `ingest.join` to outer, or quantify the samples against the same annotation."
        raise InputError(Problem(sheet, "no gene is shared by all samples", hint, key="ingest.join", value=join))
    n_nonzero, kept = 0, []
    for i, (file, gene) in enumerate(zip(files, genes, strict=True)):
        entries = _entries(file.counts, gene, var)
        if join == "inner":  # it may take a kept cell its last count
            cells[i] = _without_counts(cells[i], entries == 0)
        kept.append(cells[i]["keep"].to_numpy(dtype=bool))
        n_nonzero += int(entries[kept[-1]].sum())
    if not any(keep.any() for keep in kept):
        hint = "set `ingest.join` to outer, or quantify the samples against the same annotation."
        what = "no cell has a count in the genes that all samples share"
        raise InputError(Problem(sheet, what, hint, key="ingest.join", value=join))
    writer = CountsWriter(store, sum(int(k.sum()) for k in kept), len(var), n_nonzero)
    for file, keep, gene in zip(files, kept, genes, strict=True):
        for block in _kept_blocks(file.counts, keep, gene.index, var.index):
            writer.append(block)
    everything = pd.concat(cells)
    obs = everything[everything["keep"]].drop(columns=list(_NOT_IN_STORE))
    if not obs["doublet"].any():  # they were dropped, or there was none: the column would say nothing
        obs = obs.drop(columns="doublet")
    writer.close(_categorical(obs), var)
    samples = sample_table(summaries, everything)
    return Merged(
        cells=everything,
        samples=samples,
        ledger=ledger(everything, dropped_genes),
        warnings=warnings_table(everything, summaries, genes, var, join, sheet),
    )


def _read_var(path: Path) -> pd.DataFrame:
    with h5py.File(path, "r") as file:
        # anndata writes repeated strings as categories, which cannot take a new value.
        return ad.io.read_elem(file["var"]).astype(str)


def join_genes(
    genes: Sequence[pd.DataFrame], join: Literal["outer", "inner"], samples: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join gene sets in order of first appearance.

    Returns
    -------
    var, dropped
        ``var`` has ``ensembl``, ``symbol`` (first known) and ``n_samples``. ``dropped`` lists, for an inner join, the
        genes that were left out and the samples that lack them.
    """
    stacked = pd.concat(genes)
    known = stacked.where(stacked != "").groupby(level=0, sort=False).first().fillna("")
    var = known[["ensembl", "symbol"]].astype(str)
    var["n_samples"] = stacked.groupby(level=0, sort=False).size()
    var.index.name = "gene"
    dropped = pd.DataFrame({"gene": [], "missing_in": []}, dtype=str)
    if join == "inner":
        partial = var.index[var["n_samples"] < len(genes)]
        lacking = ["; ".join(s for s, g in zip(samples, genes, strict=True) if gene not in g.index) for gene in partial]
        dropped = pd.DataFrame({"gene": partial.to_numpy(str), "missing_in": lacking}, dtype=str)
        var = var.drop(index=partial)
    return var, dropped


def _entries(path: Path, genes: pd.DataFrame, var: pd.DataFrame) -> np.ndarray:
    """Entries of every cell of a sample in the joined genes, (cells,)."""
    if genes.index.isin(var.index).all():
        with h5py.File(path, "r") as file:
            return np.diff(file["X/indptr"][:])
    with h5py.File(path, "r") as file:
        everyone = np.ones(len(file["X/indptr"]) - 1, dtype=bool)
    return np.concatenate([np.diff(block.indptr) for block in _kept_blocks(path, everyone, genes.index, var.index)])


def _without_counts(cells: pd.DataFrame, empty: np.ndarray) -> pd.DataFrame:
    """The table of a sample's cells, those of the kept that are ``empty`` no longer kept."""
    gone = cells["keep"].to_numpy(dtype=bool) & empty
    if not gone.any():
        return cells
    cells = cells.copy()
    cells["reason"] = cells["reason"].astype(object)
    cells.loc[gone, ["keep", "reason", "value", "limit"]] = [False, NO_SHARED_GENE, 0.0, 1.0]
    return cells


def _kept_blocks(path: Path, keep: np.ndarray, genes: pd.Index, joined: pd.Index) -> Iterator[csr_matrix]:
    """The kept rows of a sample, block by block, their columns moved to their places among the joined genes."""
    places = joined.get_indexer(genes)
    with h5py.File(path, "r") as file:
        data, indices, indptr = file["X/data"], file["X/indices"], file["X/indptr"][:]
        for rows in row_blocks(indptr, _BLOCK):
            entries = slice(indptr[rows.start], indptr[rows.stop])
            wanted, per_row = keep[rows], np.diff(indptr[rows.start : rows.stop + 1])
            kept = np.repeat(wanted, per_row)
            column = places[indices[entries][kept]]
            row = np.repeat(np.arange(wanted.sum()), per_row[wanted])
            present = column >= 0
            shape = (int(wanted.sum()), len(joined))
            yield csr_matrix((data[entries][kept][present], (row[present], column[present])), shape=shape)


def _categorical(obs: pd.DataFrame) -> pd.DataFrame:
    obs = obs.copy()
    for column in obs.columns:
        if column != "barcode" and obs[column].dtype == object:
            obs[column] = obs[column].astype(str).astype("category")
    return obs


def sample_table(summaries: Sequence[dict[str, Any]], cells: pd.DataFrame) -> pd.DataFrame:
    """One row per sample: what was read, kept and dropped, the limits used, what the reader recognised."""
    rows = []
    for summary in summaries:
        mine = cells[cells["sample"] == summary["sample"]]
        row = {
            "sample": summary["sample"],
            **{c: "/".join(sorted(set(mine[c].astype(str)))) for c in ("batch", "condition") if c in mine},
            **{key: summary[key] for key in ("format", "orientation", "id_type", "organism", "n_read")},
            "n_kept": int(mine["keep"].sum()),
            **{_reason_column(reason): summary["dropped"][reason] for reason in REASONS},
            **{key: summary[key] for key in ("median_counts", "median_genes", "median_mito_percent")},
            **summary["limits"],
            "doublet_threshold": summary["doublet_threshold"],
            "doublet_average_precision": summary["doublet_average_precision"],
            "notes": "; ".join([*summary["notes"], *_cells_without_shared_genes(mine)]),
        }
        limits = {
            "low_counts": "min_counts",
            "high_counts": "max_counts",
            "low_genes": "min_genes",
            "high_genes": "max_genes",
            "high_mito_percent": "max_mito_percent",
        }
        row = {limits.get(key, key): value for key, value in row.items() if key != "low_mito_percent"}
        rows.append(row)
    return pd.DataFrame(rows)


def _cells_without_shared_genes(cells: pd.DataFrame) -> list[str]:
    n = int((cells["reason"] == NO_SHARED_GENE).sum())
    return [f"{n} cells have no counts in the genes that all samples share"] if n else []


def _reason_column(reason: str) -> str:
    return "n_" + {"high mitochondrial share": "mito"}.get(reason, reason.replace(" ", "_"))


def ledger(cells: pd.DataFrame, dropped_genes: pd.DataFrame) -> pd.DataFrame:
    """Every cell and gene that did not reach the store."""
    out = cells[~cells["keep"]]
    rows = pd.DataFrame(
        {
            "observation": out.index,
            "kind": "cell",
            "sample": out["sample"].to_numpy(),
            "rule": out["reason"].map({DOUBLET: "doublets", NO_SHARED_GENE: "ingest.join"}).fillna("qc").to_numpy(),
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
    summaries: Sequence[dict[str, Any]],
    genes: Sequence[pd.DataFrame],
    var: pd.DataFrame,
    join: str,
    sheet: str,
) -> pd.DataFrame:
    """What the report repeats at its top."""
    found: list[Problem] = []
    for summary in summaries:
        lost = 1 - summary["n_kept"] / summary["n_read"]
        where = summary["files"][0]
        if lost > 0.5:
            reasons = ", ".join(f"{n} {reason}" for reason, n in summary["dropped"].items() if n)
            what = f"sample {summary['sample']!r} loses {lost:.0%} of its {summary['n_read']} cells ({reasons})"
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
