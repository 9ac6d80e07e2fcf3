"""Join the kept cells of every sample into the counts store, and account for everything that was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.config.doublets import Doublets
from latentomics.io.ahead import ahead
from latentomics.io.store import CountsWriter, row_blocks
from latentomics.problems import InputError, Problem
from latentomics.scrna.accounts import (
    NO_COUNTS_LEFT,
    NO_SHARED_GENE,
    ambient_table,
    droplet_table,
    ledger,
    quantification_table,
    sample_table,
    warnings_table,
)
from latentomics.scrna.doublets.decide import MAJORITY, decide

_NOT_IN_STORE = ("keep", "reason", "value", "limit")
#: Entries of a sample in memory at once.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class SampleFiles:
    """What the rules before wrote of a sample.

    Attributes
    ----------
    counts, cells, summary
        What the sample rule wrote.
    droplets
        The barcode-rank curve.
    corrected, ambient, shares
        What the removal of ambient RNA wrote: corrected counts, facts, and the share of every cell.
    doublets
        Scores and calls of the methods that have a rule of their own, by method; the facts lie beside, as ``.json``.
    """

    counts: Path
    cells: Path
    summary: Path
    droplets: Path | None = None
    corrected: Path | None = None
    ambient: Path | None = None
    shares: Path | None = None
    doublets: Mapping[str, Path] = field(default_factory=dict)

    @property
    def matrices(self) -> tuple[Path, ...]:
        return (self.counts,) if self.corrected is None else (self.counts, self.corrected)


def gather(inputs: Mapping[str, Sequence[str]]) -> list[SampleFiles]:
    """The files of each sample.

    Parameters
    ----------
    inputs
        Of every attribute of :class:`SampleFiles` the paths of all samples in their order, empty where the study has none;
        the tables of callers under ``calls``, by method and then by sample.
    """
    calls = [Path(path) for path in inputs["calls"]]
    names = ("counts", "cells", "summary", "droplets", "corrected", "ambient", "shares")
    n_samples = len(inputs["counts"])
    return [
        SampleFiles(
            **{name: Path(inputs[name][i]) for name in names if inputs[name]},
            doublets={path.stem: path for path in calls[i::n_samples]},
        )
        for i in range(n_samples)
    ]


@dataclass(frozen=True)
class Merged:
    """Tables that describe the join; the matrix itself went straight to the store."""

    cells: pd.DataFrame
    samples: pd.DataFrame
    ledger: pd.DataFrame
    warnings: pd.DataFrame
    droplets: pd.DataFrame
    quantification: pd.DataFrame
    ambient: pd.DataFrame


def merge_samples(
    files: Sequence[SampleFiles],
    store: Path,
    join: Literal["outer", "inner"],
    sheet: str,
    doublets: Doublets | None = None,
) -> Merged:
    """Write the counts store; of the matrices, one block of rows is in memory at a time.

    Parameters
    ----------
    files
        Files of each sample, in the order of the sheet. Corrected counts: of every sample, or of none.
    store
        Folder of the store to write.
    join
        Keep every gene (``outer``, missing counts are zero) or the shared ones (``inner``).
    sheet
        Name of the sample sheet, for warnings.
    doublets
        How doublets are called; needed where methods with a rule of their own have scored the cells.

    Raises
    ------
    InputError
        No gene is shared by all samples, or no cell has counts in those that are, with ``join`` at ``inner``; or no cell
        at all is left.
    ValueError
        Corrected counts are of other cells or genes than the raw ones, or larger.
    """
    summaries = [json.loads(f.summary.read_text()) for f in files]
    cells = [pd.read_parquet(f.cells) for f in files]
    for i, file in enumerate(files):
        if file.doublets:
            cells[i], summaries[i] = _call_again(cells[i], summaries[i], file.doublets, doublets or Doublets())
        if file.shares is not None:
            cells[i]["ambient_share"] = pd.read_parquet(file.shares)["ambient_share"].reindex(cells[i].index)
    names = [s["sample"] for s in summaries]
    genes, profiles = zip(*(_read_var(f.counts) for f in files), strict=True)
    var, dropped_genes = join_genes(genes, join, names)
    if var.empty:
        hint = "set `ingest.join` to outer, or quantify the samples against the same annotation."
        raise InputError(Problem(sheet, "no gene is shared by all samples", hint, key="ingest.join", value=join))
    if len({len(f.matrices) for f in files}) > 1:
        raise ValueError("some samples have corrected counts and others have none")
    n_entries = []
    for i, (file, gene) in enumerate(zip(files, genes, strict=True)):
        entries = [_entries(file.counts, gene.index, var.index)]
        if join == "inner":  # it may take a kept cell its last count
            cells[i] = _without_counts(cells[i], entries[0] == 0, NO_SHARED_GENE)
        if file.corrected is not None:
            of_corrected, cells[i]["corrected_counts"] = _corrected(file.counts, file.corrected, gene.index, var.index)
            cells[i] = _without_counts(cells[i], (cells[i]["corrected_counts"] == 0).to_numpy(), NO_COUNTS_LEFT)
            cells[i] = _without_counts(cells[i], of_corrected == 0, NO_SHARED_GENE)
            entries.append(of_corrected)
        n_entries.append([int(n[cells[i]["keep"].to_numpy(dtype=bool)].sum()) for n in entries])
    everything = pd.concat(cells)
    if not everything["keep"].any():
        raise InputError(_nothing_left(everything, join, sheet))
    n_nonzero, *n_corrected = np.sum(n_entries, axis=0).tolist()
    shape = (int(everything["keep"].sum()), len(var))
    writer = CountsWriter(store, *shape, n_nonzero, n_corrected=n_corrected[0] if n_corrected else None)
    for file, table, gene in zip(files, cells, genes, strict=True):
        for blocks in _kept_blocks(file.matrices, table["keep"].to_numpy(dtype=bool), gene.index, var.index):
            writer.append(*blocks)
    obs = everything[everything["keep"]].drop(columns=list(_NOT_IN_STORE))
    if not obs["doublet"].any():  # they were dropped, or there was none: the column would say nothing
        obs = obs.drop(columns="doublet")
    writer.close(_categorical(obs), var)
    curves = {name: pd.read_parquet(f.droplets) for name, f in zip(names, files, strict=True) if f.droplets is not None}
    corrections = [None if f.ambient is None else json.loads(f.ambient.read_text()) for f in files]
    return Merged(
        cells=everything,
        samples=sample_table(summaries, everything),
        ledger=ledger(everything, dropped_genes),
        warnings=warnings_table(everything, summaries, genes, var, join, sheet),
        droplets=droplet_table(curves),
        quantification=quantification_table(summaries),
        ambient=ambient_table(names, profiles, corrections),
    )


def _call_again(
    cells: pd.DataFrame, summary: dict[str, Any], files: Mapping[str, Path], params: Doublets
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Cells and summary of a sample after the last call of doublets, now that all methods have run."""
    from latentomics.scrna.sample import doublet_average_precision

    calls = {name: pd.read_parquet(path) for name, path in files.items()}
    facts = {name: json.loads(path.with_suffix(".json").read_text()) for name, path in files.items()}
    cells = decide(cells, calls, params, cells.get(params.given))
    # The sample rule tells the threshold of the first method that it ran itself.
    here = [name for name in params.methods if name not in facts][:1]
    thresholds = dict.fromkeys(here, summary["doublet_threshold"])
    thresholds |= {name: told["threshold"] for name, told in facts.items()}
    deciding = params.methods[0] if params.call == "auto" else params.call
    return cells, summary | {
        "doublet_threshold": MAJORITY if params.call == "vote" else thresholds.get(deciding),
        "doublet_thresholds": thresholds,
        "doublet_average_precision": doublet_average_precision(cells),
        "notes": [*summary["notes"], *(told["note"] for told in facts.values() if told["note"])],
    }


def _nothing_left(cells: pd.DataFrame, join: str, sheet: str) -> Problem:
    if (cells["reason"] == NO_SHARED_GENE).any():
        hint = "set `ingest.join` to outer, or quantify the samples against the same annotation."
        what = "no cell has a count in the genes that all samples share"
        return Problem(sheet, what, hint, key="ingest.join", value=join)
    reasons = ", ".join(f"{n} {reason}" for reason, n in cells["reason"].value_counts().items())
    hint = "loosen `qc`, `doublets` or `ambient` in the config; results/scrna/samples/ has the numbers of every cell."
    return Problem(sheet, f"no cell of any sample is left ({reasons})", hint)


def _read_var(path: Path) -> tuple[pd.DataFrame, pd.Series | None]:
    """Genes of a sample, and their shares in its empty droplets where there were any."""
    with h5py.File(path, "r") as file:
        var = ad.io.read_elem(file["var"])
    # anndata writes repeated strings as categories, which cannot take a new value.
    genes = var[["ensembl", "symbol"]].astype(str)
    if "ambient" not in var:
        return genes, None
    names = genes["symbol"].where(genes["symbol"] != "", genes.index)
    return genes, pd.Series(var["ambient"].to_numpy(dtype=float), index=names.to_numpy())


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


def _entries(path: Path, genes: pd.Index, joined: pd.Index) -> np.ndarray:
    """Entries of every cell of a sample in the joined genes, (cells,)."""
    with h5py.File(path, "r") as file:
        per_cell = np.diff(file["X/indptr"][:])
    if genes.isin(joined).all():
        return per_cell
    everyone = np.ones(len(per_cell), dtype=bool)
    return np.concatenate([np.diff(block.indptr) for (block,) in _kept_blocks((path,), everyone, genes, joined)])


def _corrected(raw: Path, path: Path, genes: pd.Index, joined: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Entries in the joined genes and counts in all genes of every cell of a sample, corrected; (cells,) each."""
    with h5py.File(raw, "r") as before, h5py.File(path, "r") as after:
        for part in ("obs", "var"):
            if not ad.io.read_elem(before[part]).index.equals(ad.io.read_elem(after[part]).index):
                raise ValueError(f"{path} and {raw} differ in their {part}")
        everyone = np.ones(len(after["X/indptr"]) - 1, dtype=bool)
    inside = genes.isin(joined)
    entries, totals = [], []
    for (block,) in _kept_blocks((path,), everyone, genes, genes):
        totals.append(np.asarray(block.sum(axis=1), dtype=float).ravel())
        entries.append(np.asarray((block[:, inside] > 0).sum(axis=1)).ravel())
    return np.concatenate(entries), np.concatenate(totals)


def _without_counts(cells: pd.DataFrame, empty: np.ndarray, reason: str) -> pd.DataFrame:
    """The table of a sample's cells, those of the kept that are ``empty`` no longer kept."""
    gone = cells["keep"].to_numpy(dtype=bool) & empty
    if not gone.any():
        return cells
    cells = cells.copy()
    cells["reason"] = cells["reason"].astype(object)
    cells.loc[gone, ["keep", "reason", "value", "limit"]] = [False, reason, 0.0, 1.0]
    return cells


def _kept_blocks(
    paths: Sequence[Path], keep: np.ndarray, genes: pd.Index, joined: pd.Index
) -> Iterator[tuple[csr_matrix, ...]]:
    """The kept rows of a sample's matrices, block by block, their columns moved to their places among the joined genes.

    Parameters
    ----------
    paths
        Matrices of the same cells and genes; the blocks are cut by the first.
    """
    places = joined.get_indexer(genes).astype(np.int32)
    with ExitStack() as stack:
        matrices = [stack.enter_context(h5py.File(path, "r"))["X"] for path in paths]
        yield from ahead(
            lambda rows: tuple(_kept_rows(matrix, rows, keep[rows], places, len(joined)) for matrix in matrices),
            row_blocks(matrices[0]["indptr"][:], _BLOCK),
        )


def _kept_rows(matrix: h5py.Group, rows: slice, wanted: np.ndarray, places: np.ndarray, n_genes: int) -> csr_matrix:
    indptr = matrix["indptr"][rows.start : rows.stop + 1]
    entries = slice(indptr[0], indptr[-1])
    data, indices = matrix["data"][entries], matrix["indices"][entries]
    block = csr_matrix((data, indices, indptr - indptr[0]), shape=(len(wanted), len(places)))
    block = block if wanted.all() else block[np.flatnonzero(wanted)]
    present = np.flatnonzero(places >= 0)
    if len(present) < len(places):
        block = block[:, present]
    column = places[present]
    if not np.array_equal(column, np.arange(len(column))):
        block.indices = column[block.indices]
    return csr_matrix((block.data, block.indices, block.indptr), shape=(block.shape[0], n_genes))


def _categorical(obs: pd.DataFrame) -> pd.DataFrame:
    obs = obs.copy()
    for column in obs.columns:
        if column != "barcode" and obs[column].dtype == object:
            obs[column] = obs[column].astype(str).astype("category")
    return obs
