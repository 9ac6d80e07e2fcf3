"""Readers: what is known of each cell, covariates, and lanes of one sample."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matrix_cases import CELLS, COUNTS, GENES, SYMBOLS, failure, h5ad, row, tenx_dir, text
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io.readers import read_counts, read_sample, resolve_covariates
from latentomics.problems import InputError

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
