"""Readers: every bad file is a clear fault."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from matrix_cases import CELLS, COUNTS, GENES, HEAD, SYMBOLS, dense, failure, h5ad, mtx, row, tenx_dir, tenx_h5, text
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io.readers import as_counts, read_counts

CSV = ",".join(["", *CELLS])
BAD_DENSE = {
    "not a number": (f"{CSV}\n{GENES[0]},1,2,3,4\n{GENES[1]},1,two,3,4\n", "not a number", 3, "two"),
    "empty cell": (f"{CSV}\n{GENES[0]},1,,3,4\n", "not a number", 2, ""),
    "NA": (f"{CSV}\n{GENES[0]},1,NA,3,4\n", "not a number", 2, "NA"),
    "description": (f",name,{','.join(CELLS)}\n{GENES[0]},actin,1,2,3,4\n", "not a number", 2, "actin"),
    "short line": (f"{CSV}\n{GENES[0]},1,2,3,4\n\n{GENES[1]},1,2,3\n", "4 fields where 5", 4, None),
    "long line": (f"{CSV}\n{GENES[0]},1,2,3,4\n{GENES[1]},1,2,3,4,5\n", "6 fields where 5", 3, None),
    "long header": (f"{CSV},x,y\n{GENES[0]},1,2,3,4\n", "7 fields where 5", 1, None),
    "open quote": (f'{CSV}\n{GENES[0]},1,2,3,"4\n{GENES[1]},1,2,3,4\n', "quote is not closed", 2, None),
    "no value": (f",{CELLS[1]}\n{GENES[0]},1\n{GENES[1]},\n", "not a number", 3, ""),
    "no header": (f"{GENES[0]},0,2,0,4\n{GENES[1]},1,2,3,4\n", "no header", 1, None),
    "header only": (f"{CSV}\n", "header but no rows", None, None),
    "empty": ("", "empty", None, None),
    "no separator": ("hello\nworld\n", "no columns", 2, "world"),
    "latin-1": (f"{CSV}\nCO\u00dc,1,2,3,4\n".encode("latin-1"), "not UTF-8", 2, b"\xdc"),
    "utf-16": (f"{CSV}\n".encode("utf-16"), "not UTF-8", 1, b"\xff"),
    "genes or cells": ("g,a,b,c\nx,1,2,3\ny,1,2,3\nz,1,2,3\n", "cannot tell genes from cells", None, None),
}


@pytest.mark.parametrize("case", BAD_DENSE)
def test_bad_dense_table(tmp_path, case):
    content, words, line, value = BAD_DENSE[case]
    problem = failure(row(text(tmp_path / "a.csv", content), "dense"))
    assert words in problem.what
    assert (problem.row, problem.value) == (line, value)
    if "not a number" in words:
        assert problem.key == ("column 'name'" if case == "description" else f"column {CELLS[1]!r}")


BAD_MTX = {
    "malformed": (b"hello\n", "not a readable Matrix Market file (Line 1"),
    "cut": (HEAD.encode() + b"5 4 3\n1 1 1\n2 2 ", "not a readable Matrix Market file"),
    "text": (HEAD.encode() + b"5 4 1\n1 1 x\n", "Line 3"),
    "index beyond the shape": (HEAD.encode() + b"5 4 1\n6 1 1\n", "Line 3"),
    "huge": (HEAD.encode() + b"5 4 1\n1 1 99999999999999999999\n", "Line 3"),
    "pattern": (HEAD.replace("integer", "pattern").encode() + b"5 4 1\n1 1\n", "pattern entries, not counts"),
    "shape": (HEAD.encode() + b"6 4 1\n1 1 1\n", "6 x 4, but there are 5 features and 4 barcodes"),
}


@pytest.mark.parametrize("case", BAD_MTX)
@pytest.mark.parametrize("form", ["mtx", "10x_dir"])
def test_bad_matrix_market_file(tmp_path, case, form):
    content, words = BAD_MTX[case]
    made = tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS, gz=False)
    text(tmp_path / "matrix.mtx", content)
    problem = failure(made if form == "10x_dir" else row(tmp_path / "matrix.mtx", "mtx"))
    assert words in problem.what
    assert problem.file.endswith("matrix.mtx")


def test_decimals_are_not_cut_silently(tmp_path):
    made = tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS, gz=False)
    text(tmp_path / "matrix.mtx", f"{HEAD}%made by hand 1.0\n5 4 2\n1 1 2\n2 2 0.69\n")
    problem = failure(made)
    assert "decimal numbers in a matrix declared integer" in problem.what
    assert problem.row == 5


@pytest.mark.parametrize("part", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_gzip(tmp_path, part, damage):
    made = tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS)
    data = bytearray((tmp_path / part).read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[-5] ^= 0xFF  # the check sum
    (tmp_path / part).write_bytes(data)
    problem = failure(made)
    assert "gzip file is cut short or damaged" in problem.what
    assert problem.file.endswith(part)


def test_damaged_gzip_of_a_dense_table(tmp_path):
    made = dense(tmp_path / "a.csv.gz", np.random.default_rng(0).poisson(9, (4, 5)), CELLS, GENES)
    made.path.write_bytes(made.path.read_bytes()[:-20])
    assert "gzip file is cut short or damaged" in failure(made).what


@pytest.mark.parametrize("part", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
def test_missing_part_of_a_tenx_folder(tmp_path, part):
    made = tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS)
    (tmp_path / part).unlink()
    problem = failure(made)
    assert "not a complete 10x folder" in problem.what
    assert part not in problem.what
    assert "barcodes.tsv" in problem.hint


@pytest.mark.parametrize(("part", "word"), [("liver.genes.tsv", "features"), ("liver.barcodes.tsv", "barcodes")])
def test_missing_names_of_a_matrix(tmp_path, part, word):
    made = mtx(tmp_path, COUNTS, CELLS, GENES, SYMBOLS)
    (tmp_path / part).unlink()
    problem = failure(made)
    assert problem.what == f"sample 'S': no file of {word} beside the matrix"
    assert "liver.barcodes.tsv" in problem.hint


@pytest.mark.parametrize("form", ["h5ad", "10x_h5"])
def test_bad_hdf5(tmp_path, form):
    def make() -> InputRow:
        if form == "h5ad":
            return h5ad(tmp_path / "a.h5ad", csr_matrix(COUNTS))
        return tenx_h5(tmp_path / "a.h5", COUNTS, CELLS, GENES, SYMBOLS)

    made = make()
    made.path.write_bytes(made.path.read_bytes()[:1000])
    assert "not a readable" in failure(made).what
    made.path.write_bytes(b"PK\x03\x04 this is a spreadsheet")
    assert "not a readable" in failure(made).what
    with h5py.File(made.path, "w") as file:
        file["something"] = [1, 2, 3]
    assert "not a" in failure(made).what
    made = make()
    with h5py.File(made.path, "r+") as file:
        # Read without a check, indices beyond the shape crash the interpreter.
        file["X/indices" if form == "h5ad" else "matrix/indices"][0] = 99
    assert "not a readable" in failure(made).what


def test_counts_that_were_not_checked_are_refused(tmp_path):
    for bad in (1.5, -1, np.nan, 2.0**31):
        adata = read_counts(h5ad(tmp_path / "a.h5ad", csr_matrix(np.where(COUNTS == 70000, bad, COUNTS))))
        with pytest.raises(ValueError, match="check_counts"):
            as_counts(adata)
