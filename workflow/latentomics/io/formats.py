"""One reader per input format: each hands over cells x features and the names beside them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy.io import mminfo, mmread
from scipy.sparse import csr_matrix, vstack

from latentomics.config.inputs import mtx_names, tenx_files
from latentomics.config.row import InputRow, closest
from latentomics.io.gene_ids import table_orientation
from latentomics.io.tables import fault, open_binary, read_dense, read_names, reading

_TENX_PARTS = "a 10x folder holds matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv, each plain or .gz."
_NO_HDF5 = "copy or download the file again; it must be an HDF5 file that was closed properly."
#: Values of a slot looked at to say whether it may hold counts; rows of a dense one turned sparse at once.
_PROBE = 1 << 20


class RawMatrix(TypedDict, total=False):
    """What a format's reader hands over: cells x features, and their names."""

    X: csr_matrix
    obs: pd.DataFrame
    names: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    orientation: str | None
    slot: str
    count_slots: list[str]
    notes: list[str]


def _named(barcodes: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index(list(barcodes), dtype=object))


def _read_tenx_dir(row: InputRow) -> RawMatrix:
    files = tenx_files(row.path)
    if len(files) < 3:
        found = ", ".join(file.name for file in files) or "none of them"
        raise fault(row, f"not a complete 10x folder (it holds {found})", _TENX_PARTS)
    return _read_named_matrix(row, *files)


def _read_mtx(row: InputRow) -> RawMatrix:
    barcodes, features = mtx_names(row.path)
    if barcodes is None or features is None:
        stem = re.sub(r"\.mtx(\.gz)?$", "", row.path.name)
        lacking = " and ".join(word for word, path in (("barcodes", barcodes), ("features", features)) if path is None)
        hint = f"put {stem}.barcodes.tsv and {stem}.genes.tsv (or barcodes.tsv and features.tsv) into its folder."
        raise fault(row, f"no file of {lacking} beside the matrix", hint)
    return _read_named_matrix(row, row.path, features, barcodes)


def _read_named_matrix(row: InputRow, matrix: Path, features: Path, barcodes: Path) -> RawMatrix:
    cells = [fields[0] for fields in read_names(row, barcodes)]
    genes = read_names(row, features)
    with reading(row, matrix, "Matrix Market file", "write it again, for example with scipy.io.mmwrite."):
        declared = mminfo(str(matrix))[4]
        if declared in ("pattern", "complex"):
            hint = "write the matrix with its counts (integer)."
            raise fault(row, f"the matrix holds {declared} entries, not counts", hint, file=matrix, line=1)
        X = mmread(str(matrix))
    if "integer" in declared:
        _refuse_cut_decimals(row, matrix)
    orientation, notes = "genes x cells", []
    if X.shape == (len(genes), len(cells)):
        X = X.T
        if len(genes) == len(cells):
            notes.append("as many genes as cells: the matrix is taken as genes x cells, as 10x writes it.")
    elif X.shape == (len(cells), len(genes)):
        orientation = "cells x genes"
    else:
        what = (
            f"the matrix is {X.shape[0]} x {X.shape[1]}, but there are {len(genes)} features and {len(cells)} barcodes"
        )
        hint = f"{features.name} and {barcodes.name} need one line per gene and per cell, and no header."
        raise fault(row, what, hint, file=matrix)
    width = max(map(len, genes), default=0)
    titles = ("gene_symbols", "feature_types")[: max(width - 1, 0)]
    columns = {title: [g[i] if i < len(g) else "" for g in genes] for i, title in enumerate(titles, 1)}
    return {
        "X": csr_matrix(X),
        "obs": _named(cells),
        "names": [fields[0] for fields in genes],
        "columns": columns,
        "orientation": orientation,
        "notes": notes,
    }


def _refuse_cut_decimals(row: InputRow, matrix: Path) -> None:
    """SciPy cuts the decimals of a matrix whose header says `integer`; log values would pass as counts."""
    line = 1
    with open_binary(matrix) as stream:
        for start in iter(stream.readline, b""):
            if not start.startswith(b"%"):
                break
            line += 1
        for block in iter(lambda: stream.read(_PROBE), b""):
            if b"." in block:
                line += block[: block.index(b".")].count(b"\n") + 1
                hint = "give the raw counts; if these are they, write them as whole numbers."
                raise fault(row, "decimal numbers in a matrix declared integer", hint, file=matrix, line=line)
            line += block.count(b"\n")


def _read_tenx_h5(row: InputRow) -> RawMatrix:
    with reading(row, row.path, "10x .h5 file", f"{_NO_HDF5} If it is an AnnData file, name it .h5ad."):
        with h5py.File(row.path, "r") as file:
            genomes = [] if "matrix" in file else sorted(key for key in file if isinstance(file[key], h5py.Group))
        if len(genomes) > 1:
            hint = "write the genome you mean to a file of its own: "
            hint += (
                f"scanpy.read_10x_h5({row.path.name!r}, genome={genomes[0]!r}).write_h5ad({genomes[0] + '.h5ad'!r})."
            )
            raise fault(row, f"counts of several genomes ({', '.join(genomes)})", hint)
        # Late: scanpy takes seconds to import, and only this format needs it.
        from scanpy import read_10x_h5

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*names are not unique")
            adata = read_10x_h5(row.path, gex_only=False)
        adata.X.check_format(full_check=True)
    columns = {key: texts(adata.var[key]) for key in ("gene_ids", "feature_types") if key in adata.var}
    return {"X": adata.X, "obs": _named(adata.obs_names), "names": adata.var_names, "columns": columns}


def _read_h5ad(row: InputRow) -> RawMatrix:
    with reading(row, row.path, ".h5ad file", _NO_HDF5), h5py.File(row.path, "r") as file:
        if "obs" not in file or not isinstance(file["obs"], h5py.Group):
            hint = "open and write it with a current anndata: anndata.read_h5ad(path).write_h5ad(path)."
            raise fault(row, "not an .h5ad file, or one of anndata before version 0.7", hint)
        # Only what is needed: read_h5ad would load every layer, embedding and graph.
        slots = _h5ad_slots(file)
        slot = row.layer or "X"
        if slot not in slots:
            hint = f"{closest(slot, slots)}The file has: {', '.join(slots) or 'no matrix'}."
            raise fault(row, "the sheet names a matrix that the file does not have", hint, key="layer", value=slot)
        obs = read_elem(file["obs"])
        var = read_elem(file["raw/var" if slot == "raw" else "var"])
        X = _read_matrix(slots[slot])
        if X.shape != (len(obs), len(var)):
            raise fault(row, f"matrix {slot!r} is {X.shape}, not {len(obs)} cells x {len(var)} genes", _NO_HDF5)
        counts = [name for name, elem in slots.items() if _may_be_counts(elem)]
    columns = {str(c): texts(var[c]) for c in var if not pd.api.types.is_numeric_dtype(var[c])}
    return {
        "X": X,
        "obs": obs,
        "names": [str(name) for name in var.index],
        "columns": columns,
        "slot": slot,
        "count_slots": counts,
    }


def _h5ad_slots(file: h5py.File) -> dict[str, h5py.Group | h5py.Dataset]:
    paths = {"X": "X", "raw": "raw/X", **{name: f"layers/{name}" for name in file.get("layers", {})}}
    found = {name: file[path] for name, path in paths.items() if path in file}
    return {
        name: elem
        for name, elem in found.items()
        if (elem.ndim == 2 if isinstance(elem, h5py.Dataset) else "data" in elem)
    }


def _read_matrix(elem: h5py.Group | h5py.Dataset) -> csr_matrix:
    if isinstance(elem, h5py.Group):
        matrix = read_elem(elem)
        # Indices beyond the shape, from a damaged file, would crash the interpreter later.
        matrix.check_format(full_check=True)
        return csr_matrix(matrix)
    step = max(1, _PROBE // max(elem.shape[1], 1))
    blocks = [csr_matrix(elem[start : start + step]) for start in range(0, elem.shape[0], step)]
    return vstack(blocks, format="csr") if blocks else csr_matrix(elem.shape)


def _may_be_counts(elem: h5py.Group | h5py.Dataset) -> bool:
    """Whether the first values are whole and not negative, and some are not zero: a hint, not a check."""
    sparse = isinstance(elem, h5py.Group)
    values = elem["data"][:_PROBE] if sparse else elem[: max(1, _PROBE // max(elem.shape[1], 1))]
    return bool(values.any() and (values >= 0).all() and (values == np.floor(values)).all())


def _read_dense(row: InputRow) -> RawMatrix:
    X, rows, columns = read_dense(row)
    orientation, reason = table_orientation(rows, columns)
    if orientation is None:
        what = f"cannot tell genes from cells in a table of {len(rows)} rows and {len(columns)} columns"
        raise fault(row, what, "name the genes by Ensembl id or official symbol, or save the counts as .h5ad.")
    transposed = orientation == "genes x cells"
    return {
        "X": X.T if transposed else X,
        "obs": _named(columns if transposed else rows),
        "names": rows if transposed else columns,
        "orientation": orientation,
        "notes": [f"the table is read as {orientation}: {reason}."],
    }


READERS = {
    "10x_dir": _read_tenx_dir,
    "10x_h5": _read_tenx_h5,
    "h5ad": _read_h5ad,
    "dense": _read_dense,
    "mtx": _read_mtx,
}


def texts(values: pd.Series) -> list[str]:
    """Values as a person would write them: missing is empty, whole numbers have no ``.0``."""

    def text(value: object) -> str:
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return str(int(value))
        return str(value)

    return ["" if missing else text(v) for v, missing in zip(values, values.isna(), strict=True)]
