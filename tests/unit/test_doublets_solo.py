"""SOLO: true doublets score high, the same seed gives the same scores, and what cannot be tested is said."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from count_cases import random_counts
from scipy.sparse import csr_matrix, vstack
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from latentomics.config.doublets import Doublets
from latentomics.embed.data import TrainingError
from latentomics.scrna.doublets import solo as module
from latentomics.scrna.doublets.registry import METHODS, DoubletCalls, method
from latentomics.scrna.doublets.run import run_caller, write_calls
from latentomics.scrna.doublets.scrublet import call_doublets as scrublet
from latentomics.simulate.cells import CellParams, simulate


def solo(counts, seed: int = 0, **params: object) -> DoubletCalls:
    return module.call_doublets(csr_matrix(counts), Doublets(methods=["solo"], **params), seed, threads=1)


@cache
def sample() -> tuple[csr_matrix, np.ndarray]:
    """The demo's cells, of which a tenth are doublets."""
    params = CellParams(
        seed=4, batches=("a",), conditions=("x",), cells_per_sample=220, n_genes=400, doublet_rate=0.1, low_rate=0, mito_rate=0
    )  # fmt: skip
    found = simulate(params)
    return found.counts, (found.obs["label_doublet"] == "doublet").to_numpy()


@pytest.fixture
def short(monkeypatch):
    """A training of a few epochs."""
    from latentomics.embed import training

    monkeypatch.setattr(training, "schedule", lambda params, n: (2, 2))


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_true_doublets_score_high(tmp_path, recwarn, caplog, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_STEPS", 100)
    counts, truth = sample()
    before = counts.copy()
    with caplog.at_level(logging.INFO):
        calls = solo(counts)
    assert roc_auc_score(truth, calls.scores) > 0.8
    assert roc_auc_score(truth, calls.scores) > 0.9 * roc_auc_score(truth, scrublet(counts, Doublets(), 0, 1).scores)
    assert ((calls.scores >= 0) & (calls.scores <= 1)).all()
    np.testing.assert_array_equal(calls.called, calls.scores > calls.threshold)
    assert calls.note == ""
    assert (before != counts).nnz == 0
    assert not list(tmp_path.rglob("*")), "no file is left behind"
    assert not [r for r in caplog.records if r.name.startswith(("scvi", "lightning"))]
    assert not [w for w in recwarn if "scvi" in str(w.filename) or "lightning" in str(w.filename)]


@pytest.mark.usefixtures("short")
def test_the_same_seed_gives_the_same_scores():
    counts, _ = sample()
    one, two, other = (solo(counts, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.scores, two.scores)
    assert (one.scores != other.scores).any()


@pytest.mark.usefixtures("short")
def test_the_threshold_is_where_the_odds_say_one_half():
    """Two simulated doublets per cell: P(doublet) = rate / 2 * p / (1 - p)."""
    for rate in (0.05, 0.2):
        calls = solo(sample()[0], expected_rate=rate)
        assert rate / 2 * np.exp(logit(calls.threshold)) == pytest.approx(0.5)


def test_a_sure_classifier_separates_and_an_unsure_one_calls_nobody(monkeypatch):
    """Who knows nothing gives everybody the share of simulated doublets: two thirds."""
    monkeypatch.setattr(module, "_probabilities", lambda counts, *_: np.full(counts.shape[0], 2 / 3))
    assert not solo(sample()[0]).called.any()
    monkeypatch.setattr(module, "_probabilities", lambda counts, *_: np.where(sample()[1], 0.99, 0.3))
    np.testing.assert_array_equal(solo(sample()[0]).called, sample()[1])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("n_cells", [50, 143, 144])
def test_small_samples(n_cells):
    """Also where the last minibatch would hold one cell (129 of 143, tenth held out), which batch normalisation cannot do."""
    calls = solo(random_counts(n_cells, 60))
    assert np.isfinite(calls.scores).all()
    assert calls.note == ""


def test_few_cells_are_not_tested():
    calls = solo(random_counts(49, 100))
    assert np.isnan(calls.scores).all()
    assert not calls.called.any()
    assert calls.threshold is None
    assert calls.note == "49 cells passed QC, fewer than doublets.min_cells (50): no doublet test"


@pytest.mark.parametrize(("n_genes", "mean", "note"), [(9, 3, "9 genes vary"), (400, 0.001, "0 genes vary")])
def test_few_genes_are_not_tested(n_genes, mean, note):
    counts = np.random.default_rng(0).poisson(mean, (80, n_genes)).astype(np.int32)
    calls = solo(counts)
    assert np.isnan(calls.scores).all()
    assert calls.note.startswith(note)
    assert calls.note.endswith("no doublet test")


@pytest.mark.usefixtures("short")
def test_cells_without_counts_in_the_chosen_genes_have_no_score():
    counts, _ = sample()
    poor = np.zeros((2, counts.shape[1]), dtype=np.int32)
    calls = solo(vstack([csr_matrix(poor), counts]))
    assert np.isnan(calls.scores[:2]).all()
    assert not calls.called[:2].any()
    assert np.isfinite(calls.scores[2:]).all()


def test_few_cells_with_counts_are_not_tested():
    counts = np.zeros((90, 30), dtype=np.int32)
    counts[:40] = random_counts(40, 30, mean=5)
    calls = solo(counts)
    assert np.isnan(calls.scores).all()
    assert "40 cells have counts in variable genes" in calls.note


def test_the_most_variable_genes_are_chosen(monkeypatch):
    """Of genes with one mean, those that half of the cells do not have."""
    monkeypatch.setattr(module, "N_GENES", 5)
    counts = np.random.default_rng(0).poisson(3, (120, 200)).astype(np.int32)
    counts[:, 10:15] *= np.repeat([0, 2], 60)[:, None].astype(np.int32)
    np.testing.assert_array_equal(module.variable_genes(csr_matrix(counts)), np.arange(10, 15))


def test_a_training_that_diverges_is_noted(monkeypatch):
    import scvi

    def train(self, **options):
        raise ValueError("Expected parameter loc to satisfy the constraint Real(), but found nan")

    monkeypatch.setattr(scvi.model.SCVI, "train", train)
    calls = solo(sample()[0])
    assert np.isnan(calls.scores).all()
    assert calls.note == "SOLO's training diverged: no doublet test"


def test_other_errors_are_not_hidden(monkeypatch):
    import scvi

    def train(self, **options):
        raise ValueError("something else")

    monkeypatch.setattr(scvi.model.SCVI, "train", train)
    with pytest.raises(ValueError, match="something else"):
        solo(sample()[0])


def test_too_long_for_a_cpu_is_refused(monkeypatch):
    import torch

    from latentomics import time_limit

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(time_limit, "TIMED_SECONDS", 0.0)
    monkeypatch.setenv(time_limit.VARIABLE, "1e-9")
    with pytest.raises(
        TrainingError, match=r"(?s)SOLO \(latent space\): there is no GPU.*take `solo` out of `doublets"
    ):
        solo(sample()[0])


# The rule


@pytest.mark.parametrize("name", METHODS)
def test_every_caller_keeps_the_registrys_promises(name):
    caller = method(name)
    assert isinstance(caller.TITLE, str)
    assert isinstance(caller.GPU, bool)
    assert callable(caller.call_doublets)


def test_the_rule_judges_the_cells_that_passed(tmp_path, monkeypatch):
    """Those of the table with no reason, or another caller's; found by their names."""
    rng = np.random.default_rng(0)
    reasons = rng.choice(["", "doublet", "low counts"], 90)
    index = pd.Index([f"S_{i}" for i in range(90)], name="cell")
    counts = csr_matrix(rng.poisson(2, (90, 30)).astype(np.int32))
    ad.AnnData(counts, obs=pd.DataFrame(index=index)).write_h5ad(tmp_path / "counts.h5ad")
    shuffled = rng.permutation(90)
    pd.DataFrame({"reason": reasons}, index=index).iloc[shuffled].to_parquet(tmp_path / "cells.parquet")

    def call_doublets(found, params, seed, threads):
        assert (seed, threads) == (7, 2)
        assert isinstance(found, csr_matrix)
        totals = np.asarray(found.sum(axis=1), dtype=float).ravel()
        return DoubletCalls(totals, totals > 60, 60.0, "a note")

    monkeypatch.setattr(module, "call_doublets", call_doublets)
    table, calls = run_caller("solo", tmp_path / "counts.h5ad", tmp_path / "cells.parquet", Doublets(), 7, 2)
    to = {"calls": tmp_path / "solo.parquet", "facts": tmp_path / "solo.json"}
    write_calls("solo", table, calls, to)
    found = pd.read_parquet(to["calls"])
    passed = reasons != "low counts"
    totals = np.asarray(counts.sum(axis=1)).ravel()
    assert list(found.index) == list(index[passed])
    assert found.index.name == "cell"
    np.testing.assert_array_equal(found["score"], totals[passed])
    np.testing.assert_array_equal(found["doublet"].astype(bool), totals[passed] > 60)
    assert (found["threshold"] == 60).all()
    assert json.loads(Path(to["facts"]).read_text()) == {
        "method": "solo",
        "threshold": 60.0,
        "note": "a note",
        "n_tested": int(passed.sum()),
        "n_called": int((totals[passed] > 60).sum()),
    }
