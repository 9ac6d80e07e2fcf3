"""Are these raw counts? Everything that is wrong with a matrix, at once, before the first job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io.readers import read_counts, resolve_covariates
from latentomics.problems import InputError, Problem

#: Stored values looked at in one go, and cells whose sums are compared: both bound memory.
_BLOCK = 1 << 22
_CELLS = 2000
#: log1p of a count per ten thousand stays below 9.3, log2 of one per million below 20.
_LARGEST_LOG = 20.0
#: Cells of one sum: their sums differ by less than this share of the median, but for rounding and dropped genes.
_SAME_SUM = 0.02

Transformed = Literal["log", "normalised", "fractional"]


def check_counts(adata: AnnData, sample: str, file: str, alternatives: Sequence[str] | None = None) -> list[Problem]:
    """Every fault of one matrix of counts.

    Parameters
    ----------
    adata
        Cells x genes, as :func:`~latentomics.io.readers.read_counts` returns it (``X`` in CSR).
    sample, file
        Named in every problem.
    alternatives
        Other slots of the file that may hold counts; by default those that ``uns["ingest"]`` lists.

    Returns
    -------
    list of Problem
        Empty if the values are counts and the names are unique.
    """
    problems: list[Problem] = []

    def fault(what: str, hint: str, value: object | None = None) -> None:
        problems.append(Problem(file, f"sample {sample!r}: {what}", hint, value=value))

    X = csr_matrix(adata.X)
    if alternatives is None:
        ingest = adata.uns.get("ingest", {})
        alternatives = [slot for slot in ingest.get("count_slots", []) if slot != ingest.get("slot")]
    elsewhere = ""
    if alternatives:
        elsewhere = (
            f"set the sheet's column 'layer' to {' or '.join(map(repr, alternatives))}, which may hold the counts."
        )
    if 0 in X.shape:
        fault(f"{X.shape[0]} cells and {X.shape[1]} genes: nothing to analyse", "is this the right file?")
    elif not X.count_nonzero():
        fault("the matrix is empty: every value is zero", elsewhere or "is this the right file?")
    _name_problems(fault, adata.obs_names, "barcode", "two samples in one file? Give each its own file and row.")
    _name_problems(fault, adata.var_names, "gene id", "sum the rows of one gene, or remove the surplus ones.")

    def first(at: int) -> str:
        cell = int(np.searchsorted(X.indptr, at, side="right")) - 1
        return f"the first in cell {adata.obs_names[cell]!r}, gene {adata.var_names[X.indices[at]]!r}"

    n_bad, at = _find(X.data, lambda v: ~np.isfinite(v))
    if n_bad:
        hint = elsewhere or "counts cannot be missing or infinite: write 0 where nothing was counted."
        fault(f"{n_bad} values are not finite, {first(at)}", hint, X.data[at].item())
    n_negative, at = _find(X.data, lambda v: v < 0)
    if n_negative:
        hint = elsewhere or "scaled or batch-corrected values are not counts: give the raw ones."
        fault(f"{n_negative} negative values, {first(at)}", hint, X.data[at].item())
    n_fractions, at = _find(X.data, lambda v: np.isfinite(v) & (v != np.floor(v)))
    if n_fractions:
        kind = "fractional" if n_bad or n_negative else kind_of_fractions(X, n_fractions)
        what, hint = _FRACTIONS[kind]
        fault(f"{what}: {n_fractions} values are not whole, {first(at)}", elsewhere or hint, X.data[at].item())
    n_large, at = _find(X.data, lambda v: np.isfinite(v) & (v > np.iinfo(np.int32).max))
    if n_large:
        hint = elsewhere or "no gene is counted that often in a cell: are these intensities?"
        fault(f"{n_large} values above 2147483647, {first(at)}", hint, X.data[at].item())
    return problems


_NOT_RECOVERED = "give the raw counts (UMIs or reads): they cannot be recovered from transformed values."
_FRACTIONS: dict[Transformed, tuple[str, str]] = {
    "log": ("the values look log-transformed", _NOT_RECOVERED),
    "normalised": ("the values look normalised (every cell has the same sum)", _NOT_RECOVERED),
    "fractional": (
        "the values are not counts",
        "give the raw counts; round expected counts (Salmon, RSEM) and corrected ones (SoupX, CellBender) first.",
    ),
}


def _name_problems(fault: Callable[..., None], names: pd.Index, word: str, hint: str) -> None:
    repeated = names[names.duplicated()]
    if len(repeated):
        fault(f"{len(repeated)} duplicate {word}s", hint, str(repeated[0]))
    blank = int((names == "").sum())
    if blank:
        fault(f"{blank} {word}s are empty", f"give every one a {word}.")


def _find(values: np.ndarray, test: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int]:
    """Number of values that pass a test and the position of the first (-1 if none), block by block."""
    number, first = 0, -1
    for start in range(0, len(values), _BLOCK):
        hits = test(values[start : start + _BLOCK])
        if first < 0 and hits.any():
            first = start + int(hits.argmax())
        number += int(np.count_nonzero(hits))
    return number, first


def kind_of_fractions(X: csr_matrix, n_fractions: int) -> Transformed:
    """What made values fractional, guessed from sums and sizes.

    Parameters
    ----------
    X
        Cells x genes, finite and not negative.
    n_fractions
        Number of values that are not whole.

    Returns
    -------
    str
        ``normalised`` if all cells have nearly the same sum; ``log`` if the values are small and either ``expm1`` of
        them sums to the same in all cells (log1p of normalised counts) or most are not whole (any logarithm; counts
        estimated by a model are mostly whole); else ``fractional``.
    """
    cells = X[np.unique(np.linspace(0, X.shape[0] - 1, _CELLS).astype(int))].astype(np.float64)
    if _same_sums(cells):
        return "normalised"
    if X.data.max() < _LARGEST_LOG and (n_fractions > 0.5 * X.nnz or _same_sums(cells.expm1())):
        return "log"
    return "fractional"


def _same_sums(X: csr_matrix) -> bool:
    sums = np.asarray(X.sum(axis=1)).ravel()
    sums = sums[sums > 0]
    if len(sums) < 3:
        return False
    low, middle, high = np.quantile(sums, [0.05, 0.5, 0.95])
    return bool(high - low < _SAME_SUM * middle)


def check_id_types(infos: Mapping[str, Mapping[str, Any]], sheet_file: str) -> list[Problem]:
    """Samples that cannot share one matrix, because their genes are named differently.

    Parameters
    ----------
    infos
        ``uns["ingest"]`` (or the summary of :func:`inspect_row`) by sample.
    sheet_file
        The sample sheet, named in the problems.
    """
    hints = {
        "id_type": (
            "samples name their genes differently",
            (
                "give the samples with symbols Ensembl ids as well (features.tsv: first column; .h5ad: a column of `var`), "
                "or put them into a study of their own."
            ),
        ),
        "organism": ("samples of different organisms", "put each organism into a study of its own."),
    }
    problems = []
    for key, (what, hint) in hints.items():
        having: dict[str, list[str]] = defaultdict(list)
        for sample, info in infos.items():
            if info.get(key):
                having[str(info[key])].append(sample)
        if len(having) > 1:
            listed = "; ".join(f"{value}: {_some(samples)}" for value, samples in sorted(having.items()))
            problems.append(Problem(sheet_file, f"{what} ({listed})", hint, key="path"))
    return problems


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def inspect_row(
    row: InputRow, further: Callable[[AnnData], list[Problem]] | None = None
) -> tuple[list[Problem], dict[str, Any]]:
    """Read and check one row of the sheet, before the first job.

    Parameters
    ----------
    row
        One row of the sheet.
    further
        Checks for a matrix that has no other fault.

    Returns
    -------
    problems, summary
        Every fault found. The summary is ready for JSON; it is empty if the counts could not be read.
    """
    try:
        adata = read_counts(row)
    except InputError as error:
        return error.problems, {}
    problems = check_counts(adata, row.sample, str(row.path))
    try:
        resolve_covariates(adata, row)
    except InputError as error:
        problems += error.problems
    if not problems and further is not None:
        problems += further(adata)
    ingest = adata.uns["ingest"]
    summary = {
        "n_cells": adata.n_obs,
        "n_genes": adata.n_vars,
        "nnz": int(adata.X.nnz),
        **{key: ingest[key] for key in ("id_type", "organism", "orientation", "notes")},
    }
    return problems, summary
