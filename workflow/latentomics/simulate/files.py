"""Files of a simulated study: every sample in one of the formats that laboratories send, and the sample sheet."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from latentomics.simulate.cells import Simulated

FORMATS = ("10x_v3", "10x_v2", "10x_h5", "h5ad")
"""Samples are written in these formats in turn, so that the demo exercises every reader."""
#: Columns of the sample sheet, those of the assays together.
_COLUMNS = (
    *("sample", "assay", "path", "path_2", "format", "layer", "metadata", "batch", "condition", "control", "label"),
    *("label_doublet", "label_quality"),
)


def render(simulated: Simulated) -> dict[str, bytes]:
    """Render a single-cell study: the files of :func:`render_cells` and its sample sheet."""
    files, rows = render_cells(simulated)
    return files | {"samples.tsv": render_sheet(rows)}


def render_sheet(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Render the sample sheet: those of :data:`_COLUMNS` that any row has, empty where a row has none."""
    used = [column for column in _COLUMNS if any(column in row for row in rows)]
    return pd.DataFrame(rows, columns=used).to_csv(sep="\t", index=False, na_rep="", lineterminator="\n").encode()


def render_cells(simulated: Simulated) -> tuple[dict[str, bytes], list[dict[str, str]]]:
    """Render the cells of every sample and its ``cells.tsv``.

    Returns
    -------
    files, rows
        Bytes by path relative to the study's folder, and the rows of the sample sheet. Samples are written in the order
        of :data:`FORMATS`, repeated.
    """
    files: dict[str, bytes] = {}
    rows = []
    for i, (sample, obs) in enumerate(simulated.obs.groupby("sample", sort=False)):
        counts = simulated.counts[simulated.obs["sample"].to_numpy() == sample]
        form = FORMATS[i % len(FORMATS)]
        path, made = _render_counts(form, counts, obs["barcode"].to_numpy(), simulated.var)
        files |= {f"{sample}/{name}": data for name, data in made.items()}
        columns = ["barcode", "label", "label_doublet", "label_quality"]
        files[f"{sample}/cells.tsv"] = obs[columns].to_csv(sep="\t", index=False, lineterminator="\n").encode()
        kind = "10x_dir" if form in ("10x_v3", "10x_v2") else form
        rows.append(
            {
                "sample": sample,
                "assay": "scrna",
                "path": f"{sample}/{path}",
                "format": kind,
                "layer": "counts" if kind == "h5ad" else "",
                "metadata": f"{sample}/cells.tsv",
                "batch": obs["batch"].iloc[0],
                "condition": obs["condition"].iloc[0],
                **{column: f"obs:{column}" for column in columns[1:]},
            }
        )
    return files, rows


def _render_counts(
    kind: str, counts: sp.csr_matrix, barcodes: np.ndarray, var: pd.DataFrame
) -> tuple[str, dict[str, bytes]]:
    if kind == "10x_h5":
        return "filtered_feature_bc_matrix.h5", {"filtered_feature_bc_matrix.h5": _h5(counts, barcodes, var)}
    if kind == "h5ad":
        return "cells.h5ad", {"cells.h5ad": _h5ad(counts, barcodes, var)}
    lines = "".join(f"{barcode}\n" for barcode in barcodes).encode()
    if kind == "10x_v2":
        folder = "filtered_gene_bc_matrices"
        genes = var.to_csv(sep="\t", index=False, header=False, lineterminator="\n").encode()
        parts = {"genes.tsv": genes, "barcodes.tsv": lines, "matrix.mtx": _mtx(counts)}
    else:
        folder = "filtered_feature_bc_matrix"
        typed = var.assign(kind="Gene Expression")
        genes = typed.to_csv(sep="\t", index=False, header=False, lineterminator="\n").encode()
        plain = {"features.tsv.gz": genes, "barcodes.tsv.gz": lines, "matrix.mtx.gz": _mtx(counts)}
        # mtime=0: no time of day in the bytes.
        parts = {name: gzip.compress(data, mtime=0) for name, data in plain.items()}
    return folder, {f"{folder}/{name}": data for name, data in parts.items()}


def _mtx(counts: sp.csr_matrix) -> bytes:
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    head = f"%%MatrixMarket matrix coordinate integer general\n%\n{counts.shape[1]} {counts.shape[0]} {counts.nnz}\n"
    text = io.BytesIO(head.encode())
    text.seek(0, io.SEEK_END)
    np.savetxt(text, np.column_stack([counts.indices + 1, cell + 1, counts.data]), fmt="%d")
    return text.getvalue()


def _h5(counts: sp.csr_matrix, barcodes: np.ndarray, var: pd.DataFrame) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as handle:
        # Cell Ranger stores genes x cells as CSC, whose arrays are those of cells x genes as CSR.
        matrix = handle.create_group("matrix")
        matrix.create_dataset("barcodes", data=barcodes.astype("S"))
        matrix.create_dataset("data", data=counts.data.astype(np.int32), compression="gzip")
        matrix.create_dataset("indices", data=counts.indices.astype(np.int64), compression="gzip")
        matrix.create_dataset("indptr", data=counts.indptr.astype(np.int64))
        matrix.create_dataset("shape", data=np.array(counts.shape[::-1], dtype=np.int32))
        features = matrix.create_group("features")
        features.create_dataset("_all_tag_keys", data=np.array([b"genome"]))
        features.create_dataset("id", data=var["ensembl"].to_numpy().astype("S"))
        features.create_dataset("name", data=var["symbol"].to_numpy().astype("S"))
        features.create_dataset("feature_type", data=np.full(len(var), b"Gene Expression"))
        features.create_dataset("genome", data=np.full(len(var), b"simulated"))
    return buffer.getvalue()


def _h5ad(counts: sp.csr_matrix, barcodes: np.ndarray, var: pd.DataFrame) -> bytes:
    import anndata
    import h5py

    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    # As authors often publish: X normalised (log1p of counts per 10,000), the counts in a layer.
    normalised = (sp.diags(1e4 / total) @ counts).astype(np.float32).log1p().tocsr()
    adata = anndata.AnnData(
        normalised, obs=pd.DataFrame(index=pd.Index(barcodes, dtype=object)), var=var, layers={"counts": counts}
    )
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as handle:
        anndata.io.write_elem(handle, "/", adata)
    return buffer.getvalue()


def write_study(simulated: Simulated, folder: Path) -> list[Path]:
    """Write a single-cell study under ``folder``, as :func:`write_files` does."""
    return write_files(render(simulated), folder)


def write_files(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write files, given by path relative to ``folder``, leaving those whose bytes are right untouched.

    Returns
    -------
    list of Path
        The files that were written. A file with the right bytes keeps its time, so that Snakemake reruns nothing.
    """
    written = []
    for name, data in files.items():
        target = Path(folder) / name
        if target.is_file() and target.read_bytes() == data:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".write-") as staging:
            partial = Path(staging) / target.name
            partial.write_bytes(data)
            os.replace(partial, target)
        written.append(target)
    return written
