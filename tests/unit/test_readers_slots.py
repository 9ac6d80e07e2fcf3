"""Readers: which part of a file is read (feature types, genomes, slots), and the names beside a matrix."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matrix_cases import (
    CELLS,
    COUNTS,
    GENES,
    HEAD,
    SYMBOLS,
    failure,
    h5ad,
    mtx,
    row,
    tenx_dir,
    tenx_h5,
    text,
    write_names,
)
from scipy.io import mmwrite
from scipy.sparse import csc_matrix, csr_matrix

from latentomics.config.inputs import mtx_names
from latentomics.io.readers import read_counts

TYPES = ["Gene Expression", "Antibody Capture", "Gene Expression", "CRISPR Guide Capture", "Antibody Capture"]


def test_other_feature_types_are_dropped_and_told(tmp_path):
    made = (
        tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS, TYPES),
        tenx_h5(tmp_path / "a.h5", COUNTS, CELLS, GENES, SYMBOLS, TYPES),
        h5ad(tmp_path / "a.h5ad", csr_matrix(COUNTS), var={"feature_types": TYPES, "symbol": SYMBOLS}),
    )
    for made_row in made:
        adata = read_counts(made_row)
        np.testing.assert_array_equal(adata.X.toarray(), COUNTS[:, [0, 2]])
        assert list(adata.var["symbol"]) == ["ACTB", "RPL13"]
        assert adata.uns["ingest"]["dropped_feature_types"] == {"Antibody Capture": 2, "CRISPR Guide Capture": 1}
        assert "2 Antibody Capture, 1 CRISPR Guide Capture" in adata.uns["ingest"]["notes"][0]


def test_only_proteins_is_a_fault(tmp_path):
    problem = failure(tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS, ["Antibody Capture"] * 5))
    assert "no Gene Expression features, only Antibody Capture" in problem.what


def test_several_genomes_in_one_h5_ask(tmp_path):
    problem = failure(tenx_h5(tmp_path / "a.h5", COUNTS, CELLS, GENES, SYMBOLS, genomes=["mm10", "hg19"]))
    assert "several genomes (hg19, mm10)" in problem.what
    assert "genome='hg19'" in problem.hint


@pytest.fixture
def slots(tmp_path) -> Path:
    """X logged, layer `counts` (CSC), layer `dense_counts`, layer `scaled`; `raw` holds more genes than X."""
    raw = ad.AnnData(csr_matrix(COUNTS), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))
    some = COUNTS[:, :3]
    layers = {"counts": csc_matrix(some), "dense_counts": some.astype(float), "scaled": some - 1}
    h5ad(tmp_path / "a.h5ad", csr_matrix(np.log1p(some)), genes=GENES[:3], layers=layers, raw=raw)
    return tmp_path / "a.h5ad"


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (None, np.log1p(COUNTS[:, :3])),
        ("X", np.log1p(COUNTS[:, :3])),
        ("raw", COUNTS),
        ("counts", COUNTS[:, :3]),
        ("dense_counts", COUNTS[:, :3]),
        ("scaled", COUNTS[:, :3] - 1),
    ],
)
def test_h5ad_slots(slots, layer, expected):
    adata = read_counts(row(slots, "h5ad", layer=layer))
    np.testing.assert_array_equal(adata.X.toarray(), expected)
    assert list(adata.var_names) == GENES[: expected.shape[1]]
    ingest = adata.uns["ingest"]
    assert ingest["slot"] == (layer or "X")
    assert ingest["count_slots"] == ["raw", "counts", "dense_counts"]


def test_unknown_layer_suggests_and_lists(slots):
    problem = failure(row(slots, "h5ad", layer="count"))
    assert (problem.key, problem.value) == ("layer", "count")
    assert problem.hint.startswith("did you mean 'counts'? ")
    for name in ("X", "raw", "counts", "dense_counts", "scaled"):
        assert name in problem.hint.split("The file has:")[1]


def test_h5ad_without_x(tmp_path):
    problem = failure(h5ad(tmp_path / "a.h5ad", None, layers={"counts": csr_matrix(COUNTS)}))
    assert (problem.value, problem.hint) == ("X", "The file has: counts.")


@pytest.mark.parametrize(
    ("matrix", "barcodes", "features"),
    [
        ("liver.mtx", "liver.barcodes.tsv", "liver.genes.tsv"),
        ("liver.mtx.gz", "liver_barcodes.tsv.gz", "liver_features.tsv.gz"),
        ("GSM1_matrix.mtx", "GSM1_barcodes.tsv", "GSM1_features.tsv"),
        ("cells_x_genes.mtx", "cells_x_genes.barcodes.txt", "cells_x_genes.genes.txt"),
        ("matrix.mtx", "barcodes.tsv", "genes.tsv"),
        ("liver.mtx", "barcodes.tsv", "features.tsv.gz"),
    ],
)
def test_names_beside_a_matrix(tmp_path, matrix, barcodes, features):
    mmwrite(tmp_path / "written.mtx", csr_matrix(COUNTS.T))
    text(tmp_path / matrix, (tmp_path / "written.mtx").read_bytes())
    write_names(tmp_path / barcodes, CELLS)
    write_names(tmp_path / features, GENES)
    text(tmp_path / "other.barcodes.tsv", "of another matrix\n")
    assert mtx_names(tmp_path / matrix) == (tmp_path / barcodes, tmp_path / features)
    np.testing.assert_array_equal(read_counts(row(tmp_path / matrix, "mtx")).X.toarray(), COUNTS)


def test_mtx_orientation_by_lengths(tmp_path):
    for transposed, said in ((False, "genes x cells"), (True, "cells x genes")):
        adata = read_counts(mtx(tmp_path, COUNTS, CELLS, GENES, SYMBOLS, transposed))
        np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
        assert adata.uns["ingest"]["orientation"] == said


def test_written_zeros_and_repeated_entries(tmp_path):
    made = mtx(tmp_path, COUNTS, CELLS, GENES, SYMBOLS)
    text(made.path, f"{HEAD}5 4 4\n1 1 0\n2 1 3\n2 1 4\n5 4 1\n")
    X = read_counts(made).X
    assert X.nnz == 2
    assert (X[0, 1], X[3, 4]) == (7, 1)
