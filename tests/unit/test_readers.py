"""Readers: every format gives back the one matrix that an independent writer wrote; dense tables; real data."""

from __future__ import annotations

import csv
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from count_cases import MIRROR, needs_mirror
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrix_cases import CELLS, COUNTS, GENES, dense, failure, frame, h5ad, mtx, row, tenx_dir, tenx_h5, text
from scipy.sparse import csc_matrix, csr_matrix

from latentomics.config.row import InputRow
from latentomics.io import tables
from latentomics.io.readers import as_counts, read_counts, resolve_covariates

WRITERS = {
    "10x_dir v3 gz": lambda d, *a: tenx_dir(d, *a),
    "10x_dir v2 plain": lambda d, *a: tenx_dir(d, *a, version=2, gz=False),
    "10x_h5 v3": lambda d, *a: tenx_h5(d / "a.h5", *a),
    "10x_h5 v2": lambda d, *a: tenx_h5(d / "a.h5", *a, genomes=["hg19"]),
    "h5ad csr": lambda d, x, c, g, s: h5ad(d / "a.h5ad", csr_matrix(x, dtype=np.float32), c, g, {"feature_name": s}),
    "h5ad csc": lambda d, x, c, g, s: h5ad(d / "a.h5ad", csc_matrix(x), c, s, {"gene_ids": g}),
    "h5ad dense": lambda d, x, c, g, s: h5ad(d / "a.h5ad", np.asarray(x, dtype=float), c, s, {"gene_ids": g}),
    "mtx": lambda d, *a: mtx(d, *a),
    "dense csv": lambda d, x, c, g, s: dense(d / "a.csv", x, c, g),
    "dense csv quoted": lambda d, x, c, g, s: dense(d / "a.csv", x, c, g, quoting=csv.QUOTE_ALL),
    "dense tsv gz transposed": lambda d, x, c, g, s: dense(d / "a.tsv.gz", x, c, g, True, sep="\t"),
    "dense semicolon": lambda d, x, c, g, s: dense(d / "a.txt", x, c, g, sep=";"),
    "dense space": lambda d, x, c, g, s: dense(d / "a.txt", x, c, g, sep=" "),
    "dense decimal point": lambda d, x, c, g, s: dense(d / "a.csv", np.asarray(x, dtype=float), c, g),
}


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=12, deadline=None)
@given(counts=hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 100000)))
def test_round_trip(writer, counts):
    cells = [f"AAACCTGAC{'ACGT'[i % 4]}{'ACGT'[i // 4]}-1" for i in range(counts.shape[0])]
    genes = [f"ENSMUSG{i:011d}" for i in range(counts.shape[1])]
    symbols = [f"Gene{i}" for i in range(counts.shape[1])]
    with tempfile.TemporaryDirectory() as folder:
        adata = read_counts(WRITERS[writer](Path(folder), counts, cells, genes, symbols))
    assert isinstance(adata.X, csr_matrix)
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    assert adata.X.nnz == np.count_nonzero(counts)
    assert list(adata.obs_names) == cells
    assert list(adata.var_names) == list(adata.var["ensembl"]) == genes
    assert list(adata.var["symbol"]) == ([""] * len(genes) if writer.startswith("dense") else symbols)
    ingest = adata.uns["ingest"]
    assert (ingest["id_type"], ingest["renamed"], ingest["dropped_feature_types"]) == ("ensembl", 0, {})
    assert as_counts(adata).X.dtype == np.int32


# --- dense tables ---------------------------------------------------------------------------------------------------


def test_dense_says_which_orientation_it_took(tmp_path):
    for transposed, said in ((False, "genes x cells"), (True, "cells x genes")):
        ingest = read_counts(dense(tmp_path / "a.csv", COUNTS, CELLS, GENES, transposed)).uns["ingest"]
        assert ingest["orientation"] == said
        assert said in ingest["notes"][0]
        assert "Ensembl" in ingest["notes"][0]


def test_dense_r_header_is_one_field_short(tmp_path):
    lines = frame().to_csv().splitlines()
    lines[0] = "\ufeff" + lines[0].removeprefix(",")  # a byte order mark must not stick to the first barcode
    adata = read_counts(row(text(tmp_path / "a.csv.gz", "\n".join(lines) + "\n\n"), "dense"))
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert list(adata.obs_names) == CELLS


def test_dense_windows_file_with_separators_inside_quoted_names(tmp_path):
    content = '\ufeff"",cell 1,"cell, 2"\r\n"HLA-A, MHC ""one""",1,2\r\n ACTB , 3 ,0\r\nMT-CO1,"5",0\r\n'
    adata = read_counts(row(text(tmp_path / "a.csv", content), "dense"))
    assert list(adata.obs_names) == ["cell 1", "cell, 2"]
    assert list(adata.var_names) == ['HLA-A, MHC "one"', "ACTB", "MT-CO1"]
    np.testing.assert_array_equal(adata.X.toarray(), [[1, 3, 5], [2, 0, 0]])


def test_dense_is_read_in_blocks_of_whole_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_CELLS_PER_BLOCK", 8)  # two lines of four cells
    sizes = []
    parse = tables._parse
    monkeypatch.setattr(
        tables, "_parse", lambda row, layout, block: sizes.append(len(block)) or parse(row, layout, block)
    )
    adata = read_counts(dense(tmp_path / "a.csv", COUNTS, CELLS, GENES))
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.X.dtype == np.int32
    assert sizes == [2, 2, 1]
    broken = frame().astype(object)
    broken.iloc[3, 2] = "many"
    broken.to_csv(tmp_path / "b.csv")
    problem = failure(row(tmp_path / "b.csv", "dense"))
    assert (problem.row, problem.key, problem.value) == (5, f"column {CELLS[2]!r}", "many")


def test_dense_keeps_fractions_and_missing_values_for_the_checks(tmp_path):
    text(tmp_path / "a.csv", f",{','.join(CELLS)}\nACTB,1.25,0,nan,-3\nMT-CO1,1,2,3,inf\n")
    values = read_counts(row(tmp_path / "a.csv", "dense")).X.toarray()
    np.testing.assert_array_equal(values, [[1.25, 1], [0, 2], [np.nan, 3], [-3, np.inf]])


# --- real data ------------------------------------------------------------------------------------------------------


@needs_mirror
def test_pbmc3k(tmp_path):
    with tarfile.open(MIRROR / "pbmc3k" / "pbmc3k_filtered_gene_bc_matrices.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    adata = as_counts(read_counts(row(tmp_path / "filtered_gene_bc_matrices" / "hg19", "10x_dir")))
    assert adata.shape == (2700, 32738)
    assert adata.X.nnz == 2286884
    assert adata.X.sum() == 6390631
    assert adata.var.loc["ENSG00000075624", "symbol"] == "ACTB"
    assert adata.uns["ingest"]["organism"] == "human"


@needs_mirror
def test_sc_mixology():
    folder = MIRROR / "sc_mixology"
    made = InputRow(
        2,
        "S",
        "scrna",
        folder / "sc_celseq2.count.csv.gz",
        "dense",
        metadata=folder / "sc_celseq2.metadata.csv.gz",
        covariates={"label": "obs:cell_line_demuxlet", "batch": "celseq2"},
    )
    adata = as_counts(read_counts(made))
    whole = pd.read_csv(made.path)
    np.testing.assert_array_equal(adata.X.toarray(), whole.to_numpy().T)
    assert list(adata.var_names) == list(whole.index)
    assert adata.uns["ingest"]["orientation"] == "genes x cells"
    assert adata.uns["ingest"]["without_metadata"] == 0
    label = resolve_covariates(adata, made)["label"]
    assert label.equals(
        pd.read_csv(made.metadata)["cell_line_demuxlet"].loc[adata.obs_names].rename("label").astype(object)
    )
    assert set(label) == {"H1975", "H2228", "HCC827"}


@needs_mirror
def test_pbmc_three_chemistries():
    path = MIRROR / "pbmc_3chemistries" / "pbmc_symphony_1200.h5ad"
    made = row(path, "h5ad", covariates={"batch": "obs:batch", "label": "obs:cell_type"})
    adata = read_counts(made)
    assert as_counts(adata).shape == (1200, 1767)
    ingest = adata.uns["ingest"]
    assert (ingest["id_type"], ingest["organism"], ingest["count_slots"]) == ("symbol", "human", ["X"])
    covariates = resolve_covariates(adata, made)
    assert (covariates["batch"].nunique(), covariates["label"].nunique()) == (3, 9)
