"""Readers: every format gives back the one matrix that an independent writer wrote, every bad file a clear fault."""

from __future__ import annotations

import csv
import gzip
import os
import tarfile
import tempfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import mmwrite
from scipy.sparse import csc_matrix, csr_matrix

from latentomics.config.inputs import mtx_names
from latentomics.config.row import InputRow
from latentomics.io import tables
from latentomics.io.gene_ids import gene_table, guess_organism, table_orientation
from latentomics.io.readers import as_counts, read_counts, read_sample, resolve_covariates
from latentomics.problems import InputError

MIRROR = Path(os.environ.get("LATENTOMICS_MIRROR", Path(__file__).parents[2] / ".." / "shared" / "data"))
needs_mirror = pytest.mark.skipif(
    not MIRROR.is_dir(), reason="the mirror of real data is not here (LATENTOMICS_MIRROR)"
)

COUNTS = np.array([[0, 3, 0, 1, 0], [7, 0, 0, 0, 0], [0, 0, 70000, 2, 1], [1, 1, 0, 0, 0]])
CELLS = ["AAACCTGA-1", "AAACCTGC-1", "AAACCTGG-1", "AAACCTGT-1"]
GENES = [f"ENSG0000000000{i}" for i in range(5)]
SYMBOLS = ["ACTB", "MT-CO1", "RPL13", "CD74", "GAPDH"]
HEAD = "%%MatrixMarket matrix coordinate integer general\n"


def row(path: Path, form: str, **more) -> InputRow:
    return InputRow(row=2, sample="S", assay="scrna", path=path, format=form, **more)


def text(path: Path, content: str | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def frame(counts=COUNTS, cells=CELLS, genes=GENES) -> pd.DataFrame:
    """Genes x cells."""
    return pd.DataFrame(np.asarray(counts).T, index=genes, columns=cells)


def write_names(path: Path, *columns: list[str]) -> Path:
    return text(path, "".join("\t".join(fields) + "\n" for fields in zip(*columns, strict=True)))


def tenx_dir(folder: Path, counts, cells, genes, symbols, types=None, version=3, gz=True) -> InputRow:
    end = ".gz" if gz else ""
    mmwrite(folder / "matrix.mtx", csr_matrix(np.asarray(counts).T), field="integer")
    if gz:
        text(folder / "matrix.mtx.gz", (folder / "matrix.mtx").read_bytes())
        (folder / "matrix.mtx").unlink()
    columns = [genes, symbols] + ([types or ["Gene Expression"] * len(genes)] if version == 3 else [])
    write_names(folder / (("features" if version == 3 else "genes") + ".tsv" + end), *columns)
    write_names(folder / ("barcodes.tsv" + end), cells)
    return row(folder, "10x_dir")


def tenx_h5(path: Path, counts, cells, genes, symbols, types=None, genomes=None) -> InputRow:
    """``genomes``: write CellRanger's version 2 layout, one group for each."""
    stored = csr_matrix(counts)
    with h5py.File(path, "w") as file:
        for name in genomes or ["matrix"]:
            group = file.create_group(name)
            for key in ("data", "indices", "indptr"):
                group[key] = getattr(stored, key).astype(np.int32)
            group["shape"] = np.array(stored.shape[::-1], dtype=np.int32)
            group["barcodes"] = np.array(cells, dtype="S")
            if genomes:
                group["genes"], group["gene_names"] = np.array(genes, dtype="S"), np.array(symbols, dtype="S")
            else:
                group["features/id"], group["features/name"] = np.array(genes, dtype="S"), np.array(symbols, dtype="S")
                group["features/feature_type"] = np.array(types or ["Gene Expression"] * len(genes), dtype="S")
                group["features/genome"] = np.array(["GRCh38"] * len(genes), dtype="S")
    return row(path, "10x_h5")


def h5ad(path: Path, X, cells=CELLS, genes=GENES, var=None, obs=None, layers=None, raw=None, **more) -> InputRow:
    adata = ad.AnnData(
        X=X,
        obs=pd.DataFrame(obs or {}, index=cells),
        var=pd.DataFrame(var or {}, index=genes),
        layers=layers,
    )
    if raw is not None:
        adata.raw = raw
    adata.write_h5ad(path)
    return row(path, "h5ad", **more)


def mtx(folder: Path, counts, cells, genes, symbols, transposed=False) -> InputRow:
    path = folder / "liver.mtx"
    mmwrite(path, csr_matrix(counts if transposed else np.asarray(counts).T))
    write_names(folder / "liver.genes.tsv", genes, symbols)
    write_names(folder / "liver.barcodes.tsv", cells)
    return row(path, "mtx")


def dense(path: Path, counts, cells, genes, transposed=False, **how) -> InputRow:
    table = frame(counts, cells, genes)
    (table.T if transposed else table).to_csv(path, **how)
    return row(path, "dense")


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


@pytest.mark.parametrize(
    ("rows", "columns", "expected", "why"),
    [
        (GENES, CELLS, "genes x cells", "Ensembl"),
        (CELLS, GENES, "cells x genes", "Ensembl"),
        # A cell named like a gene does not turn the table.
        (["c1", "c2", "c3"], SYMBOLS, "cells x genes", "symbols"),
        (["Actb", "mt-Co1", "Foo"], ["b1", "b2", "b3"], "genes x cells", "symbols"),
        (SYMBOLS, ["VIM", *[f"w{i}" for i in range(40)]], "genes x cells", "symbols"),
        (["ACTB", "x", "y", "z"], ["VIM", "a", "b"], None, ""),
        (CELLS, ["g1", "g2", "g3"], "cells x genes", "barcodes"),
        ([f"g{i}" for i in range(30)], [f"c{i}" for i in range(10)], "genes x cells", "longer side"),
        ([f"c{i}" for i in range(10)], [f"g{i}" for i in range(30)], "cells x genes", "longer side"),
        ([f"g{i}" for i in range(29)], [f"c{i}" for i in range(10)], None, ""),
    ],
)
def test_table_orientation(rows, columns, expected, why):
    orientation, reason = table_orientation(rows, columns)
    assert orientation == expected
    assert why in reason


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


# --- gene names -----------------------------------------------------------------------------------------------------


def test_versions_are_stripped_only_if_ids_stay_unique():
    assert list(gene_table(["ENSG00000000001.4", "ENSG00000000002.11"], {}).var.index) == GENES[1:3]
    kept = gene_table(["ENSG00000000001.4", "ENSG00000000001.5"], {})
    assert list(kept.var.index) == ["ENSG00000000001.4", "ENSG00000000001.5"]
    assert "version" in kept.notes[0]
    copies = gene_table(["ENSG00000000001.4", "ENSG00000000001.4_PAR_Y"], {})
    assert list(copies.var.index) == ["ENSG00000000001", "ENSG00000000001_PAR_Y"]


def test_repeated_symbols_get_a_suffix_repeated_ensembl_ids_do_not():
    symbols = gene_table(["A", "B", "A", "A", "A-1"], {})
    assert list(symbols.var.index) == ["A", "B", "A-2", "A-3", "A-1"]
    assert list(symbols.var["symbol"]) == ["A", "B", "A", "A", "A-1"]
    assert symbols.renamed == 2
    assert "2 gene names" in symbols.notes[0]
    ids = gene_table([GENES[0], GENES[0], GENES[1], "GFP", "GFP"], {})
    assert list(ids.var.index) == [GENES[0], GENES[0], GENES[1], "GFP", "GFP-1"]
    assert ids.renamed == 1


def test_features_without_an_ensembl_id_keep_their_own():
    found = gene_table([*GENES[:3], "ERCC-00002"], {"gene_symbols": ["A", "B", "C", ""]})
    assert found.id_type == "ensembl"
    assert list(found.var.index) == [*GENES[:3], "ERCC-00002"]
    assert list(found.var["ensembl"]) == [*GENES[:3], ""]
    novel = gene_table(["ACTB", "GAPDH", "ENSG00000000009.1"], {})
    assert (novel.id_type, list(novel.var["ensembl"])) == ("symbol", ["", "", "ENSG00000000009"])
    unlisted = gene_table(["ACTB", "GAPDH", "FOO"], {"gene_ids": [*GENES[:2], ""]})
    assert list(unlisted.var.index) == [*GENES[:2], "FOO"]


def test_first_column_that_is_no_ensembl_id_gives_way_to_the_symbol():
    found = gene_table(["gene-1", "gene-2"], {"gene_ids": ["gene-1", "gene-2"], "gene_symbols": ["ACTB", "TP53"]})
    assert found.id_type == "symbol"


@pytest.mark.parametrize(
    ("ensembl", "symbols", "expected"),
    [
        (GENES, [""] * 5, "human"),
        (["ENSMUSG00000000001"], [""], "mouse"),
        (["ENSDARG00000000001"], [""], None),
        ([GENES[0], "ENSMUSG00000000001"], ["", ""], None),
        ([""] * 2, ["MT-ND1", "x"], "human"),
        ([""] * 2, ["mt-Nd1", "x"], "mouse"),
        ([""] * 2, ["mt-Nd1", "MT-ND1"], None),
        ([""] * 1, ["mt-nd1"], None),  # zebrafish
        ([""] * 12, [f"TP{i}" for i in range(12)], "human"),
        ([""] * 12, [f"Trp{i}" for i in range(12)], "mouse"),
        ([""] * 12, ["H19", "LOC1", *[f"Trp{i}" for i in range(10)]], "mouse"),
        ([""] * 12, [f"unc{i}" for i in range(12)], None),
        ([""] * 2, ["TP53", "CD4"], None),  # too few to judge by capitals
    ],
)
def test_organism(ensembl, symbols, expected):
    assert guess_organism(ensembl, symbols) == expected


# --- feature types, genomes, slots, names beside a matrix -----------------------------------------------------------

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


# --- cells and covariates -------------------------------------------------------------------------------------------


def with_table(tmp_path: Path, content: str | bytes, name="cells.csv", **covariates) -> InputRow:
    counts = tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS)
    metadata = text(tmp_path / name, content)
    return row(counts.path, "10x_dir", metadata=metadata, covariates=covariates)


@pytest.mark.parametrize("name", ["cells.csv", "cells.tsv", "cells.txt.gz"])
@pytest.mark.parametrize("r_style", [True, False])
def test_metadata_is_matched_by_barcode_and_kept_as_text(tmp_path, name, r_style):
    sep = "," if name.endswith("csv") else "\t"
    lines = [["bc", "plate", "type"], [CELLS[2], "01", '"T, helper"'], ["unseen", "09", "B"], [CELLS[0], "1e5", "NA"]]
    lines.append([CELLS[3], "TRUE", "B"])
    content = "\n".join(sep.join(line[1:] if r_style and i == 0 else line) for i, line in enumerate(lines))
    adata = read_counts(with_table(tmp_path, content, name))
    assert list(adata.obs["plate"].fillna("-")) == ["1e5", "-", "01", "TRUE"]
    assert list(adata.obs["type"].fillna("-")) == ["-", "-", "T, helper", "B"]
    assert adata.uns["ingest"]["without_metadata"] == 1
    assert "1 of 4 cells" in adata.uns["ingest"]["notes"][0]


def test_metadata_overrides_the_cells_of_the_h5ad(tmp_path):
    table = text(tmp_path / "cells.csv", "bc,label\n" + "".join(f"{cell},new\n" for cell in CELLS))
    obs = {"label": ["old"] * 4, "kept": [1, 2, 3, 4]}
    adata = read_counts(h5ad(tmp_path / "a.h5ad", csr_matrix(COUNTS), obs=obs, metadata=table))
    assert list(adata.obs["label"]) == ["new"] * 4
    assert list(adata.obs["kept"]) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "words", "line"),
    [
        (f"bc,x\n{CELLS[0]},1\na,2\nb,3\n", "only 1 of the matrix's 4 barcodes", None),
        (f"bc,x\n{CELLS[0]},1\n{CELLS[1]},1\n{CELLS[0]},2\n", "1 barcodes appear twice", None),
        (f"bc,x,y\n{CELLS[0]},1,2\n\n{CELLS[1]},1\n", "2 fields where 3 are expected", 4),
        (f"bc,x,x\n{CELLS[0]},1,2\n", "column 'x' appears twice", 1),
        (f"bc,x\n{CELLS[0]},Zürich\n".encode("latin-1"), "not UTF-8", 2),
        ("bc,x\n", "header but no rows", None),
        ("", "empty", None),
        ("bc\nAAA\n", "no columns", 2),
    ],
)
def test_bad_metadata(tmp_path, content, words, line):
    problem = failure(with_table(tmp_path, content))
    assert problem.file.endswith("cells.csv")
    assert words in problem.what
    assert problem.row == line


def test_half_of_the_barcodes_suffice(tmp_path):
    adata = read_counts(with_table(tmp_path, f"bc,x\n{CELLS[0]},1\n{CELLS[3]},1\n"))
    assert adata.uns["ingest"]["without_metadata"] == 2


def test_covariates_per_sample_and_per_cell(tmp_path):
    obs = {"type": pd.Categorical(["T", None, "B", "T"]), "donor": [1.0, np.nan, 2.0, 2.5], "good": [True, False] * 2}
    covariates = {"batch": "b1", "label": "obs:type", "donor": "obs:donor", "ok": "obs:good", "condition": ""}
    made = h5ad(tmp_path / "a.h5ad", csr_matrix(COUNTS), obs=obs, covariates=covariates)
    table = resolve_covariates(read_counts(made), made)
    assert list(table.index) == CELLS
    assert {column: list(table[column]) for column in table} == {
        "batch": ["b1"] * 4,
        "label": ["T", "", "B", "T"],
        "donor": ["1", "", "2", "2.5"],
        "ok": ["True", "False", "True", "False"],
        "condition": [""] * 4,
    }


def test_unknown_per_cell_columns_are_all_told(tmp_path):
    made = with_table(
        tmp_path, "bc,cell_type\n" + "".join(f"{c},T\n" for c in CELLS), label="obs:celltype", batch="obs:q"
    )
    with pytest.raises(InputError) as caught:
        resolve_covariates(read_counts(made), made)
    label, batch = caught.value.problems
    assert (label.key, label.value, batch.key) == ("label", "obs:celltype", "batch")
    assert label.what.startswith("sample 'S': ")
    assert label.hint == "did you mean 'cell_type'? The cells have: cell_type."


# --- lanes ----------------------------------------------------------------------------------------------------------


def lane(tmp_path: Path, name: str, counts, cells, genes, obs=None, **more) -> InputRow:
    return h5ad(tmp_path / f"{name}.h5ad", csr_matrix(counts), cells, genes, obs=obs, **more)


def test_lanes_are_summed_over_the_union_of_cells_and_genes(tmp_path):
    # 8-bit counts must not overflow when they are added.
    one = np.array([[200, 1], [0, 2]], dtype=np.uint8)
    two = np.array([[100, 5], [7, 90]], dtype=np.uint8)
    first = lane(tmp_path, "a", one, ["c1", "c2"], GENES[:2], {"type": ["T", None], "only_a": [1, 2]})
    second = lane(tmp_path, "b", two, ["c3", "c1"], [GENES[2], GENES[0]], {"type": ["B", None]})
    adata = read_sample([first, second])
    assert list(adata.obs_names) == ["c1", "c2", "c3"]
    assert list(adata.var_names) == list(adata.var["ensembl"]) == GENES[:3]
    np.testing.assert_array_equal(adata.X.toarray(), [[290, 1, 7], [0, 2, 0], [5, 0, 100]])
    assert list(adata.obs["type"].fillna("-")) == ["T", "-", "B"]
    np.testing.assert_array_equal(adata.obs["only_a"], [1, 2, np.nan])
    assert adata.uns["ingest"]["notes"][0].startswith("2 files are merged; 1 barcodes occur again")
    third = lane(tmp_path, "c", one.astype(float), ["c1", "c9"], GENES[:2])
    again = read_sample([first, second, third])
    assert again["c1", GENES[0]].X.toarray().item() == 490


def test_what_was_read_can_be_written(tmp_path):
    obs = {"good": [True, False], "n": [1, 2], "type": pd.Categorical(["T", None]), "mixed": [1, 2]}
    first = lane(tmp_path, "a", COUNTS[:2, :2], ["c1", "c2"], GENES[:2], obs)
    second = lane(tmp_path, "b", COUNTS[:2, :2], ["c1", "c3"], GENES[:2], {"mixed": ["x", "y"]})
    made = with_table(tmp_path, f"bc,x\n{CELLS[0]},1\n{CELLS[1]},\n{CELLS[2]},q\n")
    for adata in (read_sample([first, second]), read_sample([made]), read_sample([first])):
        adata.write_h5ad(tmp_path / "out.h5ad")
        back = ad.read_h5ad(tmp_path / "out.h5ad")
        assert list(back.obs.columns) == list(adata.obs.columns)
        assert back.uns["ingest"]["id_type"] == "ensembl"


def test_one_lane_is_the_row_itself(tmp_path):
    made = tenx_dir(tmp_path, COUNTS, CELLS, GENES, SYMBOLS)
    np.testing.assert_array_equal(read_sample([made]).X.toarray(), read_counts(made).X.toarray())


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"genes": ["ACTB", "TP53"]}, "gene ids: symbol, but ensembl in a.h5ad"),
        ({"genes": ["ENSMUSG00000000001", "ENSMUSG00000000002"]}, "organism: mouse, but human in a.h5ad"),
        ({"cells": ["c1", "c1"]}, "a barcode appears twice"),
        ({"genes": [GENES[0], GENES[0]]}, "a gene id appears twice"),
        ({"covariates": {"label": "obs:type", "batch": "2"}}, "covariates differ"),
        ({"obs": {"type": ["B", "B"]}}, "1 cells have another label than in a.h5ad"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*names are not unique")
def test_lanes_that_do_not_fit(tmp_path, second, words):
    common = {
        "cells": ["c1", "c2"],
        "genes": GENES[:2],
        "obs": {"type": ["T", ""]},
        "covariates": {"label": "obs:type"},
    }
    common["covariates"]["batch"] = "1"
    first = lane(tmp_path, "a", COUNTS[:2, :2], **common)
    other = lane(tmp_path, "b", COUNTS[:2, :2], **{**common, **second})
    with pytest.raises(InputError) as caught:
        read_sample([first, other])
    assert words in caught.value.problems[0].what
    assert caught.value.problems[0].file.endswith("b.h5ad")


# --- bad files ------------------------------------------------------------------------------------------------------


def failure(made: InputRow):
    """The one problem of a row that cannot be read; it names sample and file and says what to do."""
    with pytest.raises(InputError) as caught:
        read_counts(made)
    (problem,) = caught.value.problems
    assert problem.what.startswith("sample 'S': ")
    assert str(made.path.parent) in problem.file
    assert problem.hint
    return problem


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
