"""PCA against scikit-learn's, the normalisation against scanpy's, and the split that every method shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from embedding_cases import cells, embedding_data, some_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from latentomics.assays.normaliser import size_log
from latentomics.embed import pca
from latentomics.embed.data import EmbeddingData, TrainingError, split_held_out


@pytest.fixture(scope="module")
def data() -> EmbeddingData:
    return embedding_data(cells())


def fit(data: EmbeddingData, folder: Path, n_components: int = 12):
    return pca.fit(data, pca.Params(n_components=n_components), seed=0, threads=1, folder=folder)


def test_lognorm_is_scanpys_on_the_totals_of_all_genes() -> None:
    simulated = cells()
    data = embedding_data(simulated)
    whole = ad.AnnData(simulated.counts.astype(np.float32))
    sc.pp.normalize_total(whole, target_sum=data.normaliser.target_sum)
    sc.pp.log1p(whole)
    np.testing.assert_allclose(data.normalised.toarray(), whole.X[:, :100].toarray(), rtol=2e-6)
    assert data.normalised.dtype == np.float32
    assert data.counts.dtype == np.int32, "the counts themselves stay as they are"


def test_an_empty_observation_has_no_expression(data: EmbeddingData) -> None:
    counts = data.counts[:4].copy()
    counts.data[: counts.indptr[1]] = 0
    empty = EmbeddingData(
        counts, size_log(np.array([0.0, 9, 9, 9]), 10.0), data.obs[:4], data.features, np.zeros(4, bool)
    )
    assert np.isfinite(empty.normalised.data).all()
    assert empty.normalised[0].sum() == 0


def test_scores_and_ratios_are_those_of_a_full_decomposition(data: EmbeddingData, tmp_path: Path) -> None:
    found = fit(data, tmp_path)
    dense = data.normalised.toarray().astype(np.float64)
    reference = PCA(12, svd_solver="full").fit(dense)
    scores = reference.transform(dense)
    signs = np.sign((found.latent * scores).sum(axis=0))
    np.testing.assert_allclose(found.latent * signs, scores, atol=1e-4)
    np.testing.assert_allclose(
        found.summary["explained_variance_ratio"], reference.explained_variance_ratio_, atol=1e-7
    )
    np.testing.assert_allclose(found.latent.mean(axis=0), 0, atol=1e-5)
    assert found.latent.dtype == np.float32
    assert found.history is None


def test_the_saved_model_projects_new_rows(data: EmbeddingData, tmp_path: Path) -> None:
    found = fit(data, tmp_path)
    with np.load(tmp_path / "pca.npz", allow_pickle=False) as model:
        projected = (data.normalised.toarray() - model["mean"]) @ model["components"].T
        np.testing.assert_allclose(projected, found.latent, atol=1e-4)
        assert list(model["features"]) == list(data.features)
        np.testing.assert_allclose(model["variances"], found.latent.astype(float).var(axis=0, ddof=1), rtol=1e-4)


def test_held_out_r2_is_that_of_components_fitted_on_training_rows(data: EmbeddingData, tmp_path: Path) -> None:
    dense = data.normalised.toarray().astype(np.float64)
    train, held_out = dense[~data.held_out], dense[data.held_out]
    about = ((held_out - train.mean(axis=0)) ** 2).sum()
    expected = []
    for k in range(1, 13):
        model = PCA(k, svd_solver="full").fit(train)
        expected.append(1 - ((held_out - model.inverse_transform(model.transform(held_out))) ** 2).sum() / about)
    found = fit(data, tmp_path).summary["held_out_r2"]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert np.all(np.diff(found) > 0)


def test_every_component_together_reconstructs_everything(data: EmbeddingData, tmp_path: Path) -> None:
    narrow = replace(data, counts=data.counts[:, :8], features=data.features[:8])
    found = fit(narrow, tmp_path, n_components=50)
    assert found.latent.shape == (len(data.obs), 8)
    assert found.summary["held_out_r2"][-1] == pytest.approx(1)
    assert sum(found.summary["explained_variance_ratio"]) == pytest.approx(1)


@pytest.mark.parametrize("block", [1, 7, 100_000])
def test_the_size_of_the_blocks_does_not_matter(
    data: EmbeddingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    few = some_rows(data, np.arange(60), data.held_out[:60])
    whole = fit(few, tmp_path)
    monkeypatch.setattr(pca, "BLOCK_ROWS", block)
    parts = fit(few, tmp_path)
    np.testing.assert_allclose(parts.latent, whole.latent, atol=1e-5)
    np.testing.assert_allclose(parts.summary["held_out_r2"], whole.summary["held_out_r2"], atol=1e-7)


def test_signs_do_not_depend_on_the_order_of_the_observations(data: EmbeddingData, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(data.obs))
    shuffled = fit(some_rows(data, order, data.held_out[order]), tmp_path).latent
    np.testing.assert_allclose(shuffled, fit(data, tmp_path).latent[order], atol=1e-4)


def test_the_largest_weight_of_every_component_is_positive(data: EmbeddingData, tmp_path: Path) -> None:
    fit(data, tmp_path)
    with np.load(tmp_path / "pca.npz") as model:
        axes = model["components"]
    assert (axes[np.arange(12), np.abs(axes).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("n_obs", [3, 4, 9])
def test_fewer_observations_than_components(data: EmbeddingData, tmp_path: Path, n_obs: int) -> None:
    few = some_rows(data, np.arange(n_obs), split_held_out(n_obs, 0.1, 0))
    found = fit(few, tmp_path, n_components=50)
    assert found.latent.shape == (n_obs, n_obs - 2), "one less than the training observations"
    assert np.isfinite(found.latent).all()
    assert found.summary["n_latent"] == n_obs - 2 == len(found.summary["held_out_r2"])


@given(st.integers(3, 5000), st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_the_split_holds_out_the_asked_share(n_obs: int, fraction: float, seed: int) -> None:
    mask = split_held_out(n_obs, fraction, seed)
    assert mask.shape == (n_obs,)
    assert mask.dtype == bool
    assert 1 <= mask.sum() <= n_obs - 2
    if 1 <= n_obs * fraction <= n_obs - 2:
        assert abs(mask.sum() - n_obs * fraction) <= 0.5
    np.testing.assert_array_equal(mask, split_held_out(n_obs, fraction, seed))


def test_the_split_depends_on_the_seed_and_favours_nobody() -> None:
    masks = np.array([split_held_out(50, 0.2, seed) for seed in range(400)])
    assert len({mask.tobytes() for mask in masks}) > 390
    # 80 of 400 expected for each, standard deviation 8.
    assert np.all(np.abs(masks.sum(axis=0) - 80) < 5 * 8)


@pytest.mark.parametrize("n_obs", [0, 1, 2])
def test_too_few_observations_are_named(n_obs: int) -> None:
    with pytest.raises(TrainingError, match=rf"(?s){n_obs} observations? left.*Hint: the ledger"):
        split_held_out(n_obs, 0.1, 0)
