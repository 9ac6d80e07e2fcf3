"""One sample from its file to its three files: the same from every format, with the truth of the simulation."""

from __future__ import annotations

import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from count_cases import GENE_SETS
from sample_cases import FORMATS, one_sample, sheet_row, write_format
from sklearn.metrics import average_precision_score

from latentomics.config.cells import Cells
from latentomics.config.doublets import Doublets
from latentomics.config.qc import QC
from latentomics.problems import InputError
from latentomics.scrna.doublets.decide import said_doublets
from latentomics.scrna.qc import REASONS
from latentomics.scrna.sample import Judging, Sample, doublet_average_precision, process_sample, write_sample
from latentomics.simulate.cells import CellParams
from latentomics.simulate.droplets import DropletParams, Droplets, simulate_droplets

NONE = Doublets(methods=[])
DOUBLETS = Doublets(min_cells=30)
OPEN = QC(n_mads=None, n_mads_mito=None)


@pytest.fixture
def h5ad(tmp_path):
    return write_format(tmp_path / "in", "h5ad", *one_sample())


def make(rows, qc=None, doublets=NONE, organism="auto", seed=0, cells=None) -> Sample:
    judging = Judging(GENE_SETS, cells or Cells(), qc or QC(), doublets, organism, seed)
    return process_sample(rows if isinstance(rows, list) else [rows], judging)


def process(*args, **kwargs):
    made = make(*args, **kwargs)
    return made.counts, made.cells, made.summary


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_sample(tmp_path, form):
    values, obs, var = one_sample()
    row = sheet_row(write_format(tmp_path, form, values, obs, var), form, batch="b1", condition="treated")
    counts, cells, summary = process(row, doublets=DOUBLETS)
    assert counts.X.dtype == np.int32
    np.testing.assert_array_equal(counts.X.toarray(), values)
    assert list(counts.obs_names) == list(cells.index) == [f"S_{barcode}" for barcode in obs.index]
    assert list(counts.var_names) == list(counts.var["ensembl"]) == list(var["ensembl"])
    assert list(counts.var["symbol"]) == ([""] * len(var) if form == "dense" else list(var["symbol"]))
    assert list(cells["barcode"]) == list(obs.index)
    assert set(cells["sample"]) == {"S"}
    assert set(cells["batch"]) == {"b1"}
    assert set(cells["condition"]) == {"treated"}
    np.testing.assert_array_equal(cells["total_counts"], values.sum(axis=1))
    np.testing.assert_array_equal(cells["n_genes"], (values > 0).sum(axis=1))
    mito = var["symbol"].str.startswith("MT-").to_numpy()
    np.testing.assert_allclose(cells["mito_percent"], 100 * values[:, mito].sum(axis=1) / values.sum(axis=1), rtol=1e-5)
    assert (summary["format"], summary["id_type"], summary["organism"]) == (form, "ensembl", "human")
    assert summary["orientation"] == ("genes x cells" if form in ("10x_dir", "mtx", "dense") else None)
    assert summary["files"] == [str(row.path)]


def test_verdicts_and_summary_agree(h5ad):
    counts, cells, summary = process(sheet_row(h5ad, "h5ad"), doublets=DOUBLETS)
    assert (cells["keep"] == (cells["reason"] == "")).all()
    assert set(cells["reason"]) <= {"", *REASONS}
    assert summary["dropped"] == {reason: (cells["reason"] == reason).sum() for reason in REASONS}
    assert summary["n_read"] == len(cells) == counts.n_obs
    assert summary["n_kept"] == cells["keep"].sum() == summary["n_read"] - sum(summary["dropped"].values())
    kept = cells[cells["keep"]]
    for key, column in (("counts", "total_counts"), ("genes", "n_genes"), ("mito_percent", "mito_percent")):
        assert summary[f"median_{key}"] == kept[column].median()
    assert kept[["value", "limit"]].isna().all(axis=None)
    dropped = cells[~cells["keep"]]
    assert dropped[["value", "limit"]].notna().all(axis=None)
    low = dropped["reason"].str.startswith("low")
    assert (dropped["value"] < dropped["limit"])[low].all()
    assert (dropped["value"] > dropped["limit"])[~low].all()
    judged = cells["doublet_score"].notna()
    assert (judged == cells["reason"].isin(["", "doublet"])).all(), "only what passed QC is tested for doublets"
    limits = summary["limits"]
    assert limits["low_mito_percent"] is None
    assert limits["low_counts"] >= 1
    assert limits["high_counts"] > limits["low_counts"]


def test_summary_is_json_without_nan(tmp_path):
    values, obs, var = one_sample()
    keep = ~var["symbol"].str.startswith("MT-").to_numpy()
    row = sheet_row(write_format(tmp_path, "h5ad", values[:, keep], obs, var[keep]), "h5ad")
    _, cells, summary = process(row, OPEN)
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text) == summary
    assert cells["mito_percent"].isna().all()
    assert (summary["median_mito_percent"], summary["limits"]["high_counts"]) == (None, None)
    assert "no mitochondrial genes found: their share cannot be judged" in summary["notes"]
    assert summary["n_kept"] == len(cells)


# Doublets


def test_called_doublets_are_dropped_or_annotated(h5ad):
    row = sheet_row(h5ad, "h5ad")
    fixed = {"min_cells": 30, "threshold": 0.1}
    _, cells, summary = process(row, doublets=Doublets(**fixed))
    called = cells["doublet"]
    assert 0 < called.sum() < len(cells)
    assert ((cells["reason"] == "doublet") == called).all()
    assert (cells.loc[called, "value"] == cells.loc[called, "doublet_score"]).all()
    assert (cells.loc[called, "limit"] == 0.1).all()
    assert summary["dropped"]["doublet"] == called.sum()
    assert summary["doublet_threshold"] == 0.1
    _, only, about = process(row, doublets=Doublets(drop=False, **fixed))
    assert (only["doublet"] == called).all()
    assert only.loc[called, "keep"].all()
    assert about["dropped"]["doublet"] == 0
    assert about["n_kept"] == summary["n_kept"] + called.sum()


def test_scores_reach_their_cells_and_a_threshold_of_zero_the_ledger(h5ad, monkeypatch):
    from latentomics.scrna.doublets import scrublet as module
    from latentomics.scrna.doublets.registry import DoubletCalls

    def calls(counts, params, seed, threads):
        scores = np.asarray(counts.sum(axis=1), dtype=float).ravel()
        return DoubletCalls(scores, scores > 2500, 0.0)

    monkeypatch.setattr(module, "call_doublets", calls)
    _, cells, _ = process(sheet_row(h5ad, "h5ad"), doublets=Doublets())
    tested = cells["doublet_score"].notna()
    assert 0 < tested.sum() < len(cells), "else the order of the cells is not tested"
    assert (cells["doublet_score"] == cells["total_counts"])[tested].all()
    assert (cells["doublet"] == tested & (cells["total_counts"] > 2500)).all()
    assert (cells.loc[cells["doublet"], "limit"] == 0).all()


def test_average_precision_of_the_doublet_score(h5ad):
    row = sheet_row(h5ad, "h5ad", label_doublet="obs:label_doublet")
    _, cells, summary = process(row, doublets=DOUBLETS)
    tested = cells["doublet_score"].notna()
    truth = one_sample()[1]["label_doublet"].to_numpy() == "doublet"
    expected = average_precision_score(truth[tested], cells.loc[tested, "doublet_score"])
    assert summary["doublet_average_precision"] == pytest.approx(expected)
    assert expected > truth[tested].mean()
    assert process(sheet_row(h5ad, "h5ad"), doublets=DOUBLETS)[2]["doublet_average_precision"] is None
    assert process(row)[2]["doublet_average_precision"] is None, "no scores"


def test_truth_in_words():
    words = ["doublet", "DBL", " True ", "1", "yes", "SNG", "singlet", "0", "", "nan"]
    truth = said_doublets(pd.Series(words))
    assert truth.tolist() == [True] * 5 + [False] * 3 + [pd.NA] * 2
    scores = [0.9, 0.8, 0.1, 0.7, 0.2, 0.3, 0.4, 0.5, 1, 1]
    cells = pd.DataFrame({"label_doublet": words, "doublet_score": scores})
    expected = average_precision_score([1] * 5 + [0] * 3, scores[:8])
    assert doublet_average_precision(cells) == pytest.approx(expected)
    assert doublet_average_precision(cells.iloc[:5]) is None, "one kind only"
    assert doublet_average_precision(cells.iloc[8:]) is None, "no truth"


def test_few_cells_are_noted(h5ad):
    _, cells, summary = process(sheet_row(h5ad, "h5ad"), doublets=Doublets(min_cells=500))
    assert cells["doublet_score"].isna().all()
    assert any("fewer than doublets.min_cells (500)" in note for note in summary["notes"])


# Faults


def test_all_cells_fail_qc(h5ad):
    with pytest.raises(InputError) as error:
        process(sheet_row(h5ad, "h5ad", sample="lung-1"), QC(min_counts=10**6))
    (problem,) = error.value.problems
    n = len(one_sample()[1])
    assert problem.file == str(h5ad)
    assert problem.what == f"sample 'lung-1': all {n} cells fail QC ({n} low counts)"
    assert "`qc`" in problem.hint


def test_all_cells_are_called_doublets(h5ad):
    """A threshold of zero leaves nobody: said here, not by a crash of what comes after."""
    with pytest.raises(InputError, match=r"s.h5ad.*sample 'S': all \d+ cells fail QC \(\d+ doublet"):
        process(sheet_row(h5ad, "h5ad"), doublets=Doublets(min_cells=30, threshold=0.0))
    assert process(sheet_row(h5ad, "h5ad"), doublets=Doublets(min_cells=30, threshold=0.0, drop=False))[2]["n_kept"] > 0


def test_values_that_are_not_counts(tmp_path):
    values, obs, var = one_sample()
    path = write_format(tmp_path, "h5ad", np.log1p(values), obs, var)
    with pytest.raises(InputError, match="log-transformed") as error:
        process(sheet_row(path, "h5ad"))
    assert "sample 'S'" in str(error.value)


def test_a_covariate_that_the_cells_lack(h5ad):
    with pytest.raises(InputError, match="no per-cell column 'donor'"):
        process(sheet_row(h5ad, "h5ad", batch="obs:donor"))


# Other inputs


def test_organism(tmp_path, h5ad):
    row = sheet_row(h5ad, "h5ad")
    assert process(row, organism="human")[1].equals(process(row)[1])
    assert process(row, organism="mouse")[1]["mito_percent"].isna().all()
    values, obs, var = one_sample()
    other = var.assign(symbol=[f"X{i}" for i in range(len(var))])
    other.index = other["ensembl"] = [f"ENSDARG{i:011d}" for i in range(len(var))]
    _, cells, summary = process(sheet_row(write_format(tmp_path / "fish", "h5ad", values, obs, other), "h5ad"))
    assert summary["organism"] is None
    assert cells["mito_percent"].isna().all()


def test_covariates_per_cell(h5ad):
    _, cells, _ = process(sheet_row(h5ad, "h5ad", batch="obs:label", donor="d1"))
    assert list(cells["batch"]) == list(one_sample()[1]["label"])
    assert set(cells["donor"]) == {"d1"}


def test_lanes_are_merged(tmp_path):
    """Two files of one sample: shared barcodes are summed and judged once."""
    values, obs, var = one_sample()
    half = values // 2
    rows = [
        sheet_row(write_format(tmp_path / name, "10x_dir", part, obs, var), "10x_dir")
        for name, part in (("l1", half), ("l2", values - half))
    ]
    counts, cells, summary = process(rows)
    np.testing.assert_array_equal(counts.X.toarray(), values)
    alone = process(replace(rows[0], path=write_format(tmp_path / "whole", "10x_dir", values, obs, var)))[1]
    pd.testing.assert_frame_equal(cells, alone)
    assert summary["files"] == [str(row.path) for row in rows]
    assert any("2 files are merged" in note for note in summary["notes"])


def test_two_runs_write_the_same_bytes(tmp_path, h5ad):
    row = sheet_row(h5ad, "h5ad", batch="b", label_doublet="obs:label_doublet")
    written = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        to = {"counts": "counts.h5ad", "cells": "cells.parquet", "droplets": "d.parquet", "summary": "summary.json"}
        to = {key: tmp_path / run / name for key, name in to.items()}
        made = make(row, doublets=DOUBLETS, seed=3)
        counts, cells, summary = made.counts, made.cells, made.summary
        write_sample(made, to)
        written.append({key: path.read_bytes() for key, path in to.items()})
    assert written[0] == written[1]
    pd.testing.assert_frame_equal(pd.read_parquet(to["cells"]), cells)
    assert json.loads(to["summary"].read_text()) == summary
    back = ad.read_h5ad(to["counts"])
    assert (back.X != counts.X).nnz == 0
    assert back.X.dtype == np.int32


@pytest.fixture(scope="module")
def droplets() -> Droplets:
    return simulate_droplets(
        DropletParams(n_cells=150, n_empty=4000, small_share=0, cells=CellParams(n_genes=300, n_types=3))
    )


@pytest.fixture
def raw(tmp_path, droplets: Droplets):
    """A folder as Cell Ranger writes it, with its empty droplets."""
    return write_format(tmp_path / "raw", "10x_dir", droplets.counts, droplets.obs, droplets.var)


def test_cells_are_called_in_a_raw_matrix(raw, droplets):
    made = make(sheet_row(raw, "10x_dir"))
    assert made.summary["calling"]["state"] == "raw"
    assert made.summary["calling"]["n_barcodes"] == len(droplets.obs)
    true = set("S_" + droplets.obs.index[droplets.obs["cell"]])
    found = set(made.cells.index)
    assert len(found & true) > 0.95 * len(true) and len(found - true) <= 0.02 * len(found)
    assert list(made.counts.obs_names) == list(made.cells.index)
    places = droplets.obs.index.get_indexer(made.cells["barcode"])
    assert (droplets.counts[places] != made.counts.X).nnz == 0
    assert np.corrcoef(made.counts.var["ambient"], droplets.var["ambient"])[0, 1] > 0.99
    assert made.droplets["rank"].max() >= 0.9 * len(droplets.obs)


def test_the_sheet_says_what_a_matrix_is(raw, droplets):
    row = replace(sheet_row(raw, "10x_dir"), droplets="filtered")
    made = make(row)
    assert made.summary["calling"]["state"] == "filtered"
    assert len(made.cells) == len(droplets.obs)
    assert "ambient" not in made.counts.var


def test_a_filtered_matrix_is_passed_on(h5ad):
    made = make(sheet_row(h5ad, "h5ad"))
    assert made.summary["calling"]["state"] == "filtered"
    assert len(made.cells) == len(one_sample()[1])


def test_a_sample_without_cells(tmp_path, droplets):
    empty = ~droplets.obs["cell"].to_numpy()
    path = write_format(tmp_path / "raw", "10x_dir", droplets.counts[empty], droplets.obs[empty], droplets.var)
    row = replace(sheet_row(path, "10x_dir"), droplets="raw")
    with pytest.raises(InputError, match="'S': none of 4000 droplets holds a cell"):
        make(row, cells=Cells(retain=10**6))


def test_reads_that_did_not_map_are_named_where_no_cell_is_left(tmp_path):
    few = np.eye(4, 20, dtype=np.int32)
    path = write_format(tmp_path, "h5ad", few, pd.DataFrame(index=list("abcd")), one_sample()[2].iloc[:20])
    warning = {"what": "sample 'S': only 1.2% of its 25000 reads map", "hint": "is it the right reference?"}
    row = sheet_row(tmp_path / "R1.fastq.gz", "fastq")
    with pytest.raises(InputError) as error:
        process_sample([row], Judging(GENE_SETS, Cells(retain=10**6)), path, {"warnings": [warning]})
    assert [p.severity for p in error.value.problems] == ["error", "warning"]
    assert "only 1.2%" in error.value.problems[1].what


def test_calls_of_another_kind_decide(h5ad):
    row = sheet_row(h5ad, "h5ad", hashing="obs:label_doublet")
    cells = make(row, OPEN, Doublets(methods=[], given="hashing")).cells
    assert (cells["hashing"] == "doublet").any()
    assert ((cells["reason"] == "doublet") == (cells["hashing"] == "doublet")).all()
