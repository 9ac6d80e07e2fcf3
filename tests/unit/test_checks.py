"""Checks: each fault of a matrix alone, all together, and nothing wrong with counts."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io import checks
from latentomics.io.checks import check_counts, check_id_types, inspect_row, kind_of_fractions

MIRROR = Path(os.environ.get("LATENTOMICS_MIRROR") or Path(__file__).parents[2] / ".." / "shared" / "data")

pytestmark = pytest.mark.filterwarnings("ignore:.*names are not unique")


def matrix(values, cells=None, genes=None, **ingest) -> ad.AnnData:
    values = csr_matrix(values)
    return ad.AnnData(
        values,
        obs=pd.DataFrame(index=cells or [f"c{i}" for i in range(values.shape[0])]),
        var=pd.DataFrame(index=genes or [f"g{i}" for i in range(values.shape[1])]),
        uns={"ingest": ingest},
    )


def counts(n_cells=60, n_genes=80, seed=0) -> np.ndarray:
    """Cells whose library sizes differ several times, as real ones do."""
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.lognormal(0, 0.7, (n_cells, 1)) * rng.gamma(0.5, 2, n_genes)).astype(float)


def normalised(values: np.ndarray, total: float) -> np.ndarray:
    return values / values.sum(axis=1, keepdims=True) * total


def only(values, **ingest) -> checks.Problem:
    (problem,) = check_counts(matrix(values, **ingest), "S", "a.h5ad")
    assert problem.what.startswith("sample 'S': ")
    assert (problem.file, problem.severity) == ("a.h5ad", "error")
    assert problem.hint
    return problem


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 2**31 - 1)))
@settings(max_examples=50, deadline=None)
def test_counts_have_no_problem(values):
    for kind in (np.int64, np.float64, np.uint32):
        problems = check_counts(matrix(values.astype(kind)), "S", "a")
        assert [p.what for p in problems] == (
            [] if values.any() else ["sample 'S': the matrix is empty: every value is zero"]
        )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_no_cells_or_no_genes(shape):
    assert f"{shape[0]} cells and {shape[1]} genes" in only(np.zeros(shape)).what


def test_place_number_and_value_of_the_first_fault(monkeypatch):
    monkeypatch.setattr(checks, "_BLOCK", 3)  # faults lie beyond the first block
    for bad, words in (
        (np.nan, "1 values are not finite"),
        (-np.inf, "1 values are not finite"),
        (-2, "1 negative values"),
    ):
        values = counts()
        values[7, 4] = bad
        problem = check_counts(matrix(values), "S", "a")[0]
        assert f"{words}, the first in cell 'c7', gene 'g4'" in problem.what
        np.testing.assert_equal(problem.value, bad)
        assert isinstance(problem.value, float)
    values = counts()
    values[[7, 9, 30], [4, 0, 70]] = -1
    assert "3 negative values, the first in cell 'c7', gene 'g4'" in only(values).what


def test_first_fault_after_cells_without_counts():
    values = np.zeros((5, 3))
    values[3, 1] = -1
    assert "in cell 'c3', gene 'g1'" in only(values).what


def test_too_large():
    values = counts()
    values[0, 0] = 2.0**31
    assert "1 values above 2147483647" in only(values).what


def test_names():
    adata = matrix(np.ones((4, 3)), ["a", "b", "a", "a"], ["x", "", "x"])
    found = [p.what for p in check_counts(adata, "S", "a")]
    assert found == [
        "sample 'S': 2 duplicate barcodes",
        "sample 'S': 1 duplicate gene ids",
        "sample 'S': 1 gene ids are empty",
    ]
    assert [p.value for p in check_counts(adata, "S", "a")] == ["a", "x", None]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: np.log1p(normalised(x, 1e4)), "log"),
        (lambda x: np.log1p(normalised(x, 1e4))[:, :20], "log"),  # genes dropped: sums no longer agree
        (lambda x: np.log2(normalised(x, 1e6) + 1), "log"),
        (lambda x: np.log1p(x), "log"),
        (lambda x: normalised(x, 1e4), "normalised"),
        (lambda x: normalised(x, 1e6).astype(np.float32), "normalised"),
        (lambda x: normalised(x, 1), "normalised"),
        (lambda x: x + 0.25 * (x > 3) * (np.arange(x.shape[1]) % 5 == 0), "fractional"),  # counts estimated by a model
        (lambda x: np.minimum(x, 9) + 0.25 * (np.arange(x.shape[1]) % 9 == 0), "fractional"),  # small ones too
        (lambda x: x * 37.5, "fractional"),
        (lambda x: x[:2] * 37.3, "fractional"),  # two sums prove nothing
        (lambda x: normalised(x[:1], 1e4), "fractional"),
    ],
)
def test_kinds_of_fractions(make, kind):
    values = make(counts())
    n_fractions = int((values != np.floor(values)).sum())
    assert kind_of_fractions(csr_matrix(values), n_fractions) == kind
    words = {"log": "log-transformed", "normalised": "look normalised", "fractional": "are not counts"}[kind]
    problem = only(values)
    assert words in problem.what
    assert f"{n_fractions} values are not whole" in problem.what
    assert "raw counts" in problem.hint


def test_hint_names_the_slot_that_holds_counts():
    values = np.log1p(counts())
    assert only(values, slot="X", count_slots=["counts"]).hint.startswith("set the sheet's column 'layer' to 'counts'")
    assert "to 'raw' or 'counts'," in only(values, slot="X", count_slots=["X", "raw", "counts"]).hint
    (problem,) = check_counts(matrix(values), "S", "a", alternatives=["umi"])
    assert "'layer' to 'umi'" in problem.hint
    assert "layer" not in only(values, slot="X", count_slots=[]).hint


def test_all_faults_at_once():
    values = counts()
    values[1, 2], values[2, 3], values[3, 4], values[4, 5] = np.nan, -1, 0.5, 1e10
    problems = check_counts(matrix(values, ["same"] * 60), "S", "a")
    found = " / ".join(p.what for p in problems)
    assert len(problems) == 5
    for words in ("duplicate barcodes", "not finite", "negative", "not whole", "above"):
        assert words in found


def test_scaled_values_are_not_called_a_logarithm():
    values = np.log1p(counts())
    negative, fractional = check_counts(matrix(values - values.mean(axis=0)), "S", "a")
    assert "negative values" in negative.what
    assert "scaled or batch-corrected" in negative.hint
    assert "are not counts" in fractional.what


# --- between samples ------------------------------------------------------------------------------------------------


def test_mixed_ids_and_organisms_name_the_samples():
    infos = {
        "a": {"id_type": "ensembl", "organism": "human"},
        "b": {"id_type": "symbol", "organism": None},
        "c": {"id_type": "ensembl", "organism": "mouse"},
    }
    ids, organisms = check_id_types(infos, "samples.tsv")
    assert "(ensembl: a, c; symbol: b)" in ids.what
    assert "(human: a; mouse: c)" in organisms.what
    assert ids.file == organisms.file == "samples.tsv"
    many = {f"s{i}": infos["a"] for i in range(9)} | {"b": infos["b"]}
    assert "s0, s1, s2, s3, s4 and 4 more; symbol: b" in check_id_types(many, "samples.tsv")[0].what


def test_agreeing_samples_and_unread_ones_pass():
    same = {"id_type": "symbol", "organism": "human"}
    assert check_id_types({"a": same, "b": {**same, "organism": None}, "unread": {}}, "samples.tsv") == []


# --- rows, as the first step of a run reads them ----------------------------------------------------------------------


def made(path: Path, values, **more) -> InputRow:
    matrix(values).write_h5ad(path)
    return InputRow(row=2, sample="S", assay="scrna", path=path, format="h5ad", **more)


def test_rows_are_inspected_in_other_processes(tmp_path):
    good = counts()
    rows = [
        made(tmp_path / "good.h5ad", good),
        made(tmp_path / "log.h5ad", np.log1p(good), covariates={"batch": "obs:nowhere"}),
        made(tmp_path / "broken.h5ad", good),
    ]
    rows[2].path.write_bytes(b"nothing")
    with ProcessPoolExecutor(1) as pool:
        (none, summary), (both, _), (unread, nothing) = pool.map(inspect_row, rows)
    assert none == []
    assert json.loads(json.dumps(summary)) == {
        "n_cells": 60,
        "n_genes": 80,
        "nnz": np.count_nonzero(good),
        "id_type": "symbol",
        "organism": None,
        "orientation": None,
        "notes": [],
    }
    assert ["log-transformed" in both[0].what, "'nowhere'" in both[1].what, len(both)] == [True, True, 2]
    assert "not a readable .h5ad file" in unread[0].what
    assert nothing == {}


def test_further_checks_see_only_matrices_without_other_fault(tmp_path):
    found = checks.Problem("a.h5ad", "too few cells", "sequence more.")
    seen = []

    def further(adata: ad.AnnData) -> list[checks.Problem]:
        seen.append(adata.shape)
        return [found]

    assert inspect_row(made(tmp_path / "good.h5ad", counts()), further)[0] == [found]
    assert len(inspect_row(made(tmp_path / "log.h5ad", np.log1p(counts())), further)[0]) == 1
    assert seen == [(60, 80)]


@pytest.mark.skipif(not MIRROR.is_dir(), reason="the mirror of real data is not here (LATENTOMICS_MIRROR)")
def test_real_counts_pass_and_their_log_values_do_not():
    path = MIRROR / "pbmc_3chemistries" / "pbmc_symphony_1200.h5ad"
    row = InputRow(2, "S", "scrna", path, "h5ad")
    assert inspect_row(row)[0] == []
    (problem,) = inspect_row(InputRow(2, "S", "scrna", path, "h5ad", layer="lognorm_original"))[0]
    assert "log-transformed" in problem.what
    assert "'layer' to 'X'" in problem.hint
