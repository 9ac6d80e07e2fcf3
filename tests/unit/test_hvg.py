"""Streamed selection of highly variable genes: scanpy's numbers, and sense where scanpy has none."""

from __future__ import annotations

import tarfile
import warnings
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from count_cases import MIRROR, needs_mirror, random_counts, write_store
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from latentomics.features.hvg import _smooth, select_features
from latentomics.io.store import CountsStore, row_blocks
from latentomics.problems import InputError
from latentomics.simulate.cells import CellParams, simulate


def scanpys(counts, batch, n_top, span) -> pd.DataFrame:
    adata = ad.AnnData(csr_matrix(counts, dtype=np.float32), obs=pd.DataFrame({"batch": batch}).rename(str))
    argsort = np.argsort

    def stable(values, axis=-1, kind=None):
        return argsort(values, axis=axis, kind="stable")

    # scanpy leaves the order of genes of equal standardised variance to chance; ours is that of the genes.
    with warnings.catch_warnings(), mock.patch("numpy.argsort", stable):
        warnings.simplefilter("ignore")
        return sc.pp.highly_variable_genes(
            adata, flavor="seurat_v3", n_top_genes=n_top, batch_key="batch", span=span, inplace=False
        ).reset_index(drop=True)


def assert_like_scanpy(counts, batch, n_top, span, store):
    ours = select_features(store, batch, n_top, span)
    theirs = scanpys(counts, batch, n_top, span)
    np.testing.assert_allclose(ours["mean"], theirs["means"], rtol=1e-6)
    np.testing.assert_allclose(ours["variance"], theirs["variances"], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(ours["variance_norm"], theirs["variances_norm"], rtol=1e-5, atol=1e-9)
    assert ours["selected"].sum() == theirs["highly_variable"].sum() == n_top
    np.testing.assert_array_equal(ours["selected"], theirs["highly_variable"])
    np.testing.assert_array_equal(ours["n_batches"], theirs["highly_variable_nbatches"])
    np.testing.assert_array_equal(ours["rank"], theirs["highly_variable_rank"])


@pytest.fixture(scope="module")
def cells():
    return simulate(CellParams(seed=4, batches=("a", "b", "c"), conditions=("x",), cells_per_sample=110, n_genes=500))


@pytest.mark.parametrize(("n_top", "span"), [(60, 0.3), (200, 0.3), (100, 0.7)])
@pytest.mark.parametrize("batched", [False, True])
def test_equals_scanpy_on_simulated_cells(tmp_path, cells, n_top, span, batched):
    batch = cells.obs["batch"].to_numpy() if batched else np.full(len(cells.obs), "all")
    assert_like_scanpy(cells.counts, batch, n_top, span, write_store(tmp_path / "s", cells.counts))


@needs_mirror
def test_equals_scanpy_on_pbmc3k(tmp_path):
    with tarfile.open(MIRROR / "pbmc3k" / "pbmc3k_filtered_gene_bc_matrices.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    counts = sc.read_10x_mtx(next(tmp_path.rglob("matrix.mtx")).parent).X.astype(np.int32)
    assert counts.shape == (2700, 32738)
    assert_like_scanpy(counts, np.full(2700, "all"), 2000, 0.3, write_store(tmp_path / "s", counts))


@needs_mirror
def test_equals_scanpy_on_three_chemistries(tmp_path):
    adata = ad.read_h5ad(MIRROR / "pbmc_3chemistries" / "pbmc_symphony_1200.h5ad")
    counts, batch = csr_matrix(adata.X).astype(np.int32), adata.obs["batch"].astype(str).to_numpy()
    assert len(set(batch)) == 3
    store = write_store(tmp_path / "s", counts)
    assert_like_scanpy(counts, batch, 300, 0.7, store)
    with pytest.raises(ValueError, match="singularities"):
        scanpys(counts, batch, 300, 0.3)
    narrow, wide = (select_features(store, batch, 300, span)["selected"] for span in (0.3, 0.7))
    assert (narrow & wide).sum() > 0.9 * 300


def test_block_size_does_not_matter(tmp_path, cells, monkeypatch):
    store = write_store(tmp_path / "s", cells.counts)
    batch = cells.obs["batch"].to_numpy()
    whole = select_features(store, batch, 100, 0.3)
    monkeypatch.setattr(
        CountsStore, "blocks", lambda self: ((w, self.block(w.start, w.stop)) for w in row_blocks(self._indptr, 3000))
    )
    assert len(list(store.blocks())) > 10
    pd.testing.assert_frame_equal(select_features(store, batch, 100, 0.3), whole, check_exact=True)


def test_order_of_the_cells_does_not_matter(tmp_path, cells):
    order = np.random.default_rng(0).permutation(cells.counts.shape[0])
    batch = cells.obs["batch"].to_numpy()
    one = select_features(write_store(tmp_path / "a", cells.counts), batch, 100, 0.3)
    two = select_features(write_store(tmp_path / "b", cells.counts[order]), batch[order], 100, 0.3)
    assert list(one["selected"]) == list(two["selected"])
    np.testing.assert_allclose(one["variance_norm"], two["variance_norm"], rtol=1e-9)


def test_finds_the_gene_that_varies(tmp_path):
    """Known truth: of Poisson genes with one mean each, the few that differ between two groups stand out."""
    rng = np.random.default_rng(0)
    rate = np.repeat(rng.uniform(1, 8, 200)[None], 300, axis=0)
    rate[:150, :10] *= 1.7
    rate[150:, :10] *= 0.3
    found = select_features(write_store(tmp_path / "s", rng.poisson(rate)), np.full(300, "all"), 10, 0.3)
    assert set(np.flatnonzero(found["selected"])) == set(range(10))
    assert found["variance_norm"][10:].median() == pytest.approx(1, abs=0.1)


def test_constant_genes_are_never_selected(tmp_path):
    """All-zero or all-equal genes have no rank, however many genes are asked for."""
    counts = random_counts(60, 80)
    counts[:, :20], counts[:, 20:30] = 0, 7
    varying = counts.std(axis=0) > 0
    found = select_features(write_store(tmp_path / "s", counts), np.full(60, "all"), 2000, 0.3)
    assert list(found["selected"]) == list(varying)
    assert found["rank"].isna().to_numpy().tolist() == (~varying).tolist()
    assert (found["n_batches"].to_numpy() == varying).all()
    assert list(found["n_cells"]) == list((counts > 0).sum(axis=0))


def test_constant_genes_take_no_place_of_varying_ones(tmp_path):
    """A batch in which few genes vary does not vote for the ones that do not."""
    counts = np.vstack([random_counts(50, 120, mean=4), random_counts(50, 120, seed=1, mean=4)])
    counts[:50, 30:] = 1
    counts[:, 100:] = 0
    batch = np.repeat(["a", "b"], 50)
    found = select_features(write_store(tmp_path / "s", counts), batch, 90, 0.5)
    varying = counts[:50].std(axis=0) + counts[50:].std(axis=0) > 0
    assert found["selected"].sum() == 90
    assert not found["selected"][~varying].any()


def test_tiny_batches_do_not_vote(tmp_path):
    counts = random_counts(102, 150)
    batch = np.array(["main"] * 100 + ["tiny"] * 2)
    store, rest = write_store(tmp_path / "a", counts), write_store(tmp_path / "b", counts[:100])
    found, without = select_features(store, batch, 40, 0.5), select_features(rest, batch[:100], 40, 0.5)
    for column in ("selected", "rank", "variance_norm", "n_batches"):
        np.testing.assert_array_equal(found[column], without[column])
    np.testing.assert_allclose(found["mean"], counts.mean(axis=0))
    np.testing.assert_allclose(found["variance"], counts.var(axis=0, ddof=1))


def test_no_batch_can_vote(tmp_path):
    store = write_store(tmp_path / "s", random_counts(4, 50))
    with pytest.raises(
        InputError, match=r"no batch has 3 cells: the largest of 2 has 2(.|\n)*Hint: leave `batch` empty"
    ):
        select_features(store, np.array(["a", "a", "b", "b"]), 10, 0.3)


def test_no_gene_varies(tmp_path):
    for name, value in (("zero", 0), ("one", 1)):
        store = write_store(tmp_path / name, np.full((6, 5), value))
        with pytest.raises(InputError, match="no gene varies within a batch"):
            select_features(store, np.full(6, "all"), 10, 0.3)


@given(
    st.integers(3, 12), st.integers(1, 40), st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]), st.integers(1, 60)
)
@settings(max_examples=40, deadline=None)
def test_tiny_data(tmp_path_factory, n_cells, n_genes, seed, span, n_top):
    """No crash (loess reads beyond its arrays when starved), no NaN, exactly as many genes as there are to select."""
    counts = np.random.default_rng(seed).poisson(0.8, (n_cells, n_genes))
    store = write_store(tmp_path_factory.mktemp("tiny") / "s", counts)
    batch = np.arange(n_cells) % 2 if n_cells > 8 else np.zeros(n_cells)
    varying = np.zeros(n_genes, dtype=bool)
    for level in set(batch):
        varying |= counts[batch == level].std(axis=0) > 0
    if not varying.any():
        with pytest.raises(InputError):
            select_features(store, batch, n_top, span)
        return
    found = select_features(store, batch, n_top, span)
    assert np.isfinite(found["variance_norm"]).all()
    assert (found["variance_norm"] >= -1e-9).all()
    assert found["selected"].sum() <= min(n_top, varying.sum())
    assert found["selected"].sum() >= min(n_top, max(varying.sum() // 2, 1))
    assert not found["selected"][~varying].any()


def test_starved_trend_is_a_parabola():
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(_smooth(x, 1 + 2 * x + 3 * x**2, 0.3), 1 + 2 * x + 3 * x**2)
    np.testing.assert_allclose(_smooth(x[:2], np.array([4.0, 6.0]), 0.3), [4, 6])
    np.testing.assert_allclose(_smooth(np.ones(3), np.array([1.0, 2.0, 6.0]), 0.3), 3)
    np.testing.assert_allclose(_smooth(1 + np.array([0, 1e-9, 2e-9]), np.array([1.0, 2.0, 6.0]), 0.3), 3)
    np.testing.assert_allclose(_smooth(x[:1], np.array([5.0]), 0.3), 5)
