"""Scrublet: true doublets score high; where it cannot tell, nobody is called and a note says so."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from count_cases import MIRROR, needs_mirror, random_counts
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.metrics import roc_auc_score

from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.registry import DoubletCalls
from latentomics.scrna.doublets.scrublet import _score, _valley, call_doublets
from latentomics.simulate.cells import CellParams, simulate


@cache
def easy() -> tuple[csr_matrix, np.ndarray]:
    """Three types far apart, and the sums of cells of two of them."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.5, 2, (3, 300))
    kind = rng.integers(3, size=330)
    counts = rng.poisson(profiles[kind] * rng.lognormal(0.5, 0.2, (330, 1)))
    singlets, partners = counts[:300], counts[300:]
    far = [int(rng.choice(np.flatnonzero(kind[:300] != k))) for k in kind[300:]]
    truth = np.repeat([False, True], [300, 30])
    return csr_matrix(np.vstack([singlets, singlets[far] + partners]).astype(np.int32)), truth


def homogeneous(seed: int) -> csr_matrix:
    params = CellParams(
        seed=seed, batches=("a",), conditions=("x",), cells_per_sample=190, n_genes=800, n_types=1, rare_share=1.0
    )
    return simulate(params).counts


def scrublet(counts: csr_matrix, seed: int = 0, **params: object) -> DoubletCalls:
    return call_doublets(csr_matrix(counts), Doublets(**params), seed, threads=1)


def test_true_doublets_score_high():
    counts, truth = easy()
    calls = scrublet(counts)
    assert np.isfinite(calls.scores).all()
    assert roc_auc_score(truth, calls.scores) > 0.95
    assert truth[calls.called].mean() > 0.8
    assert calls.called[truth].mean() > 0.6
    assert calls.note == ""
    np.testing.assert_array_equal(calls.called, calls.scores > calls.threshold)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_scores_are_scanpys(seed: int):
    counts, _ = easy()
    # A cell of two genes, which Scrublet leaves out, and genes of few cells.
    poor = np.zeros((1, counts.shape[1]), dtype=np.int32)
    poor[0, :2] = 1
    rare = np.zeros((counts.shape[0] + 1, 3), dtype=np.int32)
    rare[:2] = 5
    counts = hstack([vstack([counts[:100], csr_matrix(poor), counts[100:]]), csr_matrix(rare)], format="csr")
    adata = AnnData(counts.astype(np.float32))
    sc.pp.scrublet(adata, expected_doublet_rate=0.07, use_approx_neighbors=False, random_state=seed, verbose=False)
    calls = scrublet(counts, seed, expected_rate=0.07)
    np.testing.assert_array_equal(calls.scores, adata.obs["doublet_score"])
    assert np.flatnonzero(np.isnan(calls.scores)).tolist() == [100]


@pytest.mark.parametrize("seed", [0, 1])
def test_so_are_those_of_simulated_doublets_and_the_threshold(seed: int):
    """Where an exact duplicate is among the points; elsewhere scanpy counts a point as a neighbour of itself."""
    counts = homogeneous(seed)
    adata = AnnData(counts.astype(np.float32))
    sc.pp.scrublet(adata, expected_doublet_rate=0.07, use_approx_neighbors=False, random_state=0, verbose=False)
    scored = _score(counts, Doublets(expected_rate=0.07), 0)
    np.testing.assert_array_equal(scored.simulated, adata.uns["scrublet"]["doublet_scores_sim"])
    assert _valley(scored.simulated) == adata.uns["scrublet"]["threshold"]


def test_simulated_sample():
    """The demo's cells, harder: types overlap, and doublets of one type cannot be seen."""
    params = CellParams(seed=1, batches=("a",), conditions=("x",), cells_per_sample=500, low_rate=0, mito_rate=0)
    found = simulate(params)
    calls = scrublet(found.counts)
    assert roc_auc_score(found.obs["label_doublet"] == "doublet", calls.scores) > 0.75


def test_a_threshold_that_does_not_separate_calls_nobody():
    """Cells of one type: Scrublet's valley is noise, and would cost up to 40 % of the cells."""
    refused = 0
    for seed in range(5):
        calls = scrublet(homogeneous(seed))
        assert np.isfinite(calls.scores).all()
        assert calls.called.mean() < 0.1
        if calls.note:
            assert "nobody is called a doublet" in calls.note
            assert not calls.called.any()
            assert calls.threshold is None
            refused += 1
    assert refused >= 4


def test_a_threshold_set_by_a_person_is_obeyed():
    counts = homogeneous(0)
    calls = scrublet(counts, threshold=0.05)
    assert calls.threshold == 0.05
    np.testing.assert_array_equal(calls.called, calls.scores > 0.05)
    assert calls.called.mean() > 0.3
    assert calls.note == ""
    assert not scrublet(counts, threshold=1.0).called.any()
    zero = scrublet(counts, threshold=0.0)
    assert zero.threshold == 0
    assert zero.called.all()


def test_no_valley_at_all(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Unable to find two maxima in histogram")

    monkeypatch.setattr("skimage.filters.threshold_minimum", fail)
    calls = scrublet(easy()[0])
    assert not calls.called.any()
    assert calls.threshold is None
    assert np.isfinite(calls.scores).all()
    assert "no valley" in calls.note


def test_deterministic_and_seeded():
    counts, _ = easy()
    one, two, other = (scrublet(counts, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one.threshold == two.threshold
    assert (one.scores != other.scores).any()


def test_input_is_left_alone():
    counts, _ = easy()
    before = counts.copy()
    scrublet(counts)
    assert (before != counts).nnz == 0
    assert counts.dtype == before.dtype


def test_few_cells_are_not_tested():
    calls = scrublet(random_counts(49, 100))
    assert np.isnan(calls.scores).all()
    assert not calls.called.any()
    assert calls.note == "49 cells passed QC, fewer than doublets.min_cells (50): no doublet test"
    enough = scrublet(random_counts(50, 300))
    assert np.isfinite(enough.scores).all()


@pytest.mark.parametrize(("n_genes", "mean"), [(1, 3), (5, 3), (20, 1), (400, 0.004)])
def test_few_genes_are_not_tested(n_genes, mean):
    """A panel or a failed library: too few variable genes for Scrublet's components, which is no reason to fail."""
    counts = np.random.default_rng(0).poisson(mean, (80, n_genes)).astype(np.int32)
    calls = scrublet(counts)
    assert np.isnan(calls.scores).all()
    assert not calls.called.any()
    assert calls.note.startswith("Scrublet cannot score these cells, no doublet test (")
    assert "\n" not in calls.note


def test_a_cell_without_common_genes_is_not_called():
    """Scrublet leaves out cells with fewer than three of the genes it keeps: no score is no doublet."""
    counts, _ = easy()
    poor = np.zeros((2, counts.shape[1]), dtype=np.int32)
    poor[:, :2] = 4
    calls = scrublet(vstack([counts, csr_matrix(poor)]))
    assert np.isnan(calls.scores[-2:]).all()
    assert not calls.called[-2:].any()
    assert calls.called.any()


@needs_mirror
@pytest.mark.parametrize(("name", "share"), [("sc_celseq2", 0.12), ("sc_celseq2_5cl_p2", 0.47), ("sc_dropseq", 0.07)])
def test_real_doublets(name, share):
    """Cell lines told apart by genotype: what is called is right, even where nearly half of the cells are doublets."""
    folder = MIRROR / "sc_mixology"
    counts = pd.read_csv(folder / f"{name}.count.csv.gz", index_col=0).T
    cells = pd.read_csv(folder / f"{name}.metadata.csv.gz", index_col=0).loc[counts.index]
    truth = (cells["demuxlet_cls"] == "DBL").to_numpy()
    assert truth.mean() == pytest.approx(share, abs=0.01)
    calls = scrublet(counts.to_numpy(np.int32))
    assert calls.note == ""
    assert 0.01 < calls.called.mean() < 0.1
    assert truth[calls.called].mean() > 0.9
    assert roc_auc_score(truth, calls.scores) > 0.65
