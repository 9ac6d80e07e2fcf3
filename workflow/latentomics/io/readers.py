"""Counts of one sample, from every format the sheet accepts, in one form.

Whatever the format, the result is cells x genes (CSR, the values as they stand in the file), indexed by barcode and by
feature id, and ``uns["ingest"]`` (:class:`Ingest`) says how it was read. Every fault of a file is an
:class:`~latentomics.problems.InputError`; whether the values are counts is for :mod:`latentomics.io.checks`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import coo_matrix, csr_matrix

from latentomics.config.confounding import PER_CELL
from latentomics.config.row import InputRow, closest
from latentomics.io.formats import READERS, texts
from latentomics.io.gene_ids import GeneIds, gene_table
from latentomics.io.tables import fault, read_metadata
from latentomics.problems import InputError

_GENES = "Gene Expression"


class Ingest(TypedDict):
    """``uns["ingest"]``: how the counts of a sample were read.

    ``slot`` and ``count_slots`` are those of an ``.h5ad``: the one read, and all that seem to hold counts.
    ``renamed`` is the number of gene names that got a suffix, ``without_metadata`` that of cells missing in the
    per-cell table, ``notes`` are for people.
    """

    format: str
    orientation: str | None
    slot: str | None
    count_slots: list[str]
    id_type: str
    organism: str | None
    dropped_feature_types: dict[str, int]
    renamed: int
    without_metadata: int
    notes: list[str]


def read_counts(row: InputRow) -> AnnData:
    """Read the counts and per-cell columns of one row of the sheet.

    Returns
    -------
    AnnData
        Cells x genes. ``X``: CSR, values as in the file, without explicit zeros. ``obs``: indexed by barcode; the
        columns of the ``.h5ad`` and of the ``metadata`` table (the table's win). ``var``: indexed by feature id,
        columns ``ensembl`` and ``symbol`` (see :func:`~latentomics.io.gene_ids.gene_table`). ``uns["ingest"]``:
        :class:`Ingest`.

    Raises
    ------
    InputError
        If a file is missing, damaged, or not what the sheet says.
    """
    raw = READERS[row.format](row)
    X, columns, names = raw["X"], dict(raw.get("columns", {})), [str(name) for name in raw["names"]]
    notes = list(raw.get("notes", []))
    dropped: dict[str, int] = {}
    types = np.asarray(columns.pop("feature_types", []), dtype=object)
    if _GENES in types:
        kept = np.flatnonzero(types == _GENES).tolist()
        dropped = dict(Counter(types[types != _GENES].tolist()))
        if dropped:
            listed = ", ".join(f"{n} {kind}" for kind, n in dropped.items())
            notes.append(f"only {_GENES} features are read; dropped: {listed}.")
            X, names = X[:, kept], [names[i] for i in kept]
            columns = {title: [values[i] for i in kept] for title, values in columns.items()}
    elif len(types) and row.format.startswith("10x"):
        what = f"no {_GENES} features, only {', '.join(sorted(set(types)))}"
        raise fault(row, what, "name the file that holds the RNA counts.")
    genes = gene_table(names, columns)
    obs = raw["obs"]
    obs.index = pd.Index(obs.index.astype(str), dtype=object)
    missing = 0
    if row.metadata:
        table, missing = read_metadata(row, obs.index)
        obs = pd.concat([obs.drop(columns=table.columns, errors="ignore"), table], axis=1)
        if missing:
            notes.append(f"{missing} of {len(obs)} cells are not in the metadata table: their values are missing.")
    ingest: Ingest = {
        "format": row.format,
        "orientation": raw.get("orientation"),
        "slot": raw.get("slot"),
        "count_slots": raw.get("count_slots", []),
        "id_type": genes.id_type,
        "organism": genes.organism,
        "dropped_feature_types": dropped,
        "renamed": genes.renamed,
        "without_metadata": missing,
        "notes": notes + genes.notes,
    }
    return _assemble(X, obs, genes, ingest)


def _assemble(X: csr_matrix, obs: pd.DataFrame, genes: GeneIds, ingest: Ingest) -> AnnData:
    X = csr_matrix(X)
    X.sum_duplicates()
    X.eliminate_zeros()
    with warnings.catch_warnings():
        # Names that are not unique are reported by the checks, in words that say what to do.
        warnings.filterwarnings("ignore", message=".*names are not unique")
        return AnnData(X=X, obs=obs, var=genes.var, uns={"ingest": dict(ingest)})


def resolve_covariates(adata: AnnData, row: InputRow) -> pd.DataFrame:
    """The sheet's covariates, per cell.

    Returns
    -------
    DataFrame
        Index: barcodes; one column of strings per covariate. A value ``obs:NAME`` of the sheet stands for the
        column ``NAME`` of ``adata.obs`` (missing values are empty), any other value for itself.

    Raises
    ------
    InputError
        Naming every column that ``adata.obs`` does not have.
    """
    values: dict[str, list[str]] = {}
    problems = []
    for covariate, value in row.covariates.items():
        name = value.removeprefix(PER_CELL)
        if name == value:
            values[covariate] = [value] * adata.n_obs
        elif name in adata.obs:
            values[covariate] = texts(adata.obs[name])
        else:
            known = [str(column) for column in adata.obs.columns]
            listed = (
                f"The cells have: {', '.join(known)}." if known else "Name a table of cells in the column `metadata`."
            )
            what = f"no per-cell column {name!r}, which the sheet names"
            problem = fault(row, what, closest(name, known) + listed, file=row.metadata, key=covariate, value=value)
            problems += problem.problems
    if problems:
        raise InputError(problems)
    return pd.DataFrame(values, index=adata.obs_names, dtype=object)


def read_sample(rows: Sequence[InputRow]) -> AnnData:
    """Read all rows of one sample (lanes) as one matrix.

    Returns
    -------
    AnnData
        As :func:`read_counts`: the union of cells and of genes, in order of appearance. Counts of a barcode that
        occurs in several files are summed; its per-cell values are the first that are not missing.

    Raises
    ------
    InputError
        If the files name their genes differently, their cells or genes repeat, or their covariates disagree.
    """
    parts = [read_counts(row) for row in rows]
    if len(parts) == 1:
        return parts[0]
    _check_mergeable(rows, parts)
    cells = pd.Index(pd.unique(np.concatenate([part.obs_names for part in parts])), dtype=object)
    var = pd.concat([part.var for part in parts])
    var = var[~var.index.duplicated()]
    shape = (len(cells), len(var))
    # Wide types: a file of 8-bit counts must not overflow when lanes are summed.
    total = csr_matrix(shape, dtype=np.int64 if all(part.X.dtype.kind in "biu" for part in parts) else np.float64)
    for part in parts:
        entries = part.X.tocoo()
        at = (cells.get_indexer(part.obs_names)[entries.row], var.index.get_indexer(part.var_names)[entries.col])
        total = total + coo_matrix((entries.data, at), shape=shape).tocsr()
    obs = pd.DataFrame(index=cells)
    for part in parts:
        for column in part.obs:
            values = part.obs[column].astype(object).reindex(cells)
            obs[column] = obs[column].where(obs[column].notna(), values) if column in obs else values
    # Types that differ between files become text: a column of mixed types cannot be written.
    for column in obs.infer_objects().select_dtypes(object):
        obs[column] = obs[column].map(str, na_action="ignore")
    infos = [part.uns["ingest"] for part in parts]
    shared = sum(part.n_obs for part in parts) - len(cells)
    notes = [
        f"{len(parts)} files are merged; {shared} barcodes occur again in a later one and their counts are summed."
    ]
    return AnnData(X=total, obs=obs.infer_objects(), var=var, uns={"ingest": dict(_merge_infos(infos, notes))})


def _check_mergeable(rows: Sequence[InputRow], parts: Sequence[AnnData]) -> None:
    first = parts[0].uns["ingest"]
    described = resolve_covariates(parts[0], rows[0])
    for row, part in zip(rows, parts, strict=True):
        if row.covariates != rows[0].covariates:
            what = f"covariates differ from those of {rows[0].path.name}, a file of the same sample"
            raise fault(row, what, "rows of one sample are merged and must agree; rename one sample if they are two.")
        for axis, names in (("barcode", part.obs_names), ("gene id", part.var_names)):
            if not names.is_unique:
                value = names[names.duplicated()][0]
                raise fault(row, f"a {axis} appears twice", "make them unique before files are merged.", value=value)
        for key, word in (("id_type", "gene ids"), ("organism", "organism")):
            found = part.uns["ingest"][key]
            if found and first[key] and found != first[key]:
                what = f"{word}: {found}, but {first[key]} in {rows[0].path.name}, a file of the same sample"
                raise fault(row, what, "quantify all files of a sample against the same annotation.")
        here = resolve_covariates(part, row)
        both = described.index.intersection(here.index)
        differ = described.loc[both].ne(here.loc[both]) & described.loc[both].ne("") & here.loc[both].ne("")
        if differ.to_numpy().any():
            covariate = differ.columns[differ.any()][0]
            what = f"{int(differ[covariate].sum())} cells have another {covariate} than in {rows[0].path.name}"
            hint = "if these are different cells with the same barcode, make two samples of them."
            raise fault(row, what, hint, key=covariate, value=both[differ[covariate]][0])


def _merge_infos(infos: Sequence[Ingest], notes: list[str]) -> Ingest:
    def joined(key: str) -> str | None:
        return " + ".join(dict.fromkeys(info[key] for info in infos if info[key])) or None  # type: ignore[literal-required]

    dropped: Counter[str] = Counter()
    for info in infos:
        dropped.update(info["dropped_feature_types"])
    return {
        "format": joined("format") or "",
        "orientation": joined("orientation"),
        "slot": joined("slot"),
        "count_slots": [s for s in infos[0]["count_slots"] if all(s in info["count_slots"] for info in infos)],
        "id_type": infos[0]["id_type"],
        "organism": joined("organism"),
        "dropped_feature_types": dict(dropped),
        "renamed": sum(info["renamed"] for info in infos),
        "without_metadata": sum(info["without_metadata"] for info in infos),
        "notes": notes + list(dict.fromkeys(note for info in infos for note in info["notes"])),
    }


def as_counts(adata: AnnData) -> AnnData:
    """The same data with ``X`` as int32, once the checks have passed.

    Raises
    ------
    ValueError
        If a value is not a whole number from 0 to 2**31 - 1: the checks were not run, or were ignored.
    """
    with np.errstate(invalid="ignore"):
        counts = adata.X.astype(np.int32)
    if (counts.data != adata.X.data).any() or (counts.data < 0).any():
        raise ValueError("values are not counts: run latentomics.io.checks.check_counts first")
    return AnnData(X=counts, obs=adata.obs, var=adata.var, uns=adata.uns)
