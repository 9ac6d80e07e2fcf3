"""scVI: what it is trained on, that scvi-tools opens what is saved, and how it fails."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi.model
from embedding_cases import cells, embedding_data, some_rows

from latentomics.embed.data import EmbeddingData, Fit, TrainingError
from latentomics.embed.scvi import Params, fit

SMALL = {"n_latent": 4, "n_hidden": 16, "min_steps": 8, "max_epochs": 2}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def data() -> EmbeddingData:
    found = embedding_data(cells())
    batch = found.obs["batch"]
    found.obs["age"] = np.where(batch == "batch1", "31", "40.5")  # the sheet's values are text
    found.obs["donor"] = pd.Categorical(np.where(np.arange(len(batch)) % 3 == 0, "a", "b"))
    found.obs["unknown_for_some"] = np.where(np.arange(len(batch)) % 2 == 0, "7", "")
    return found


@pytest.fixture(scope="module")
def trained(data: EmbeddingData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    folder = tmp_path_factory.mktemp("scvi")
    return quick(data, folder, max_epochs=6), folder


@pytest.fixture(scope="module")
def registered(data: EmbeddingData) -> ad.AnnData:
    obs = data.obs[["batch"]].astype("category")
    return ad.AnnData(data.counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=data.features))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What was given to scvi-tools."""
    given: dict = {}
    setup, train = scvi.model.SCVI.setup_anndata.__func__, scvi.model.SCVI.train

    def setup_anndata(cls, adata, **options):
        given.update(options, obs=adata.obs, counts=adata.X)
        return setup(cls, adata, **options)

    def trained(self, **options):
        given["split"] = list(options["datasplitter_kwargs"]["external_indexing"])
        return train(self, **options)

    monkeypatch.setattr(scvi.model.SCVI, "setup_anndata", classmethod(setup_anndata))
    monkeypatch.setattr(scvi.model.SCVI, "train", trained)
    return given


def quick(data: EmbeddingData, folder: Path, seed: int = 0, **changes: object) -> Fit:
    return fit(data, Params(**SMALL).model_copy(update=changes), seed=seed, threads=1, folder=folder)


def test_the_latent_space_is_finite_and_not_collapsed(trained: tuple[Fit, Path], data: EmbeddingData) -> None:
    latent = trained[0].latent
    assert latent.shape == (len(data.obs), 4)
    assert latent.dtype == np.float32
    assert np.isfinite(latent).all()
    assert (latent.std(axis=0) > 1e-3).all()


def test_scvi_tools_opens_the_model_and_finds_the_same_latent_space(
    trained: tuple[Fit, Path], registered: ad.AnnData
) -> None:
    found, folder = trained
    model = scvi.model.SCVI.load(str(folder), adata=registered, accelerator="cpu")
    np.testing.assert_array_equal(model.get_latent_representation(), found.latent)
    assert found.summary["n_parameters"] == sum(p.numel() for p in model.module.parameters())
    assert not list(folder.glob("*.h5ad")), "the counts are in the store already"


def test_the_batch_is_corrected_for(trained: tuple[Fit, Path], registered: ad.AnnData) -> None:
    model = scvi.model.SCVI.load(str(trained[1]), adata=registered, accelerator="cpu")
    assert model.summary_stats.n_batch == trained[0].summary["n_batches"] == 2
    one, two = (model.get_normalized_expression(transform_batch=b, return_numpy=True) for b in ("batch1", "batch2"))
    assert not np.allclose(one, two, rtol=1e-4), "the decoder must see the batch"


def test_history_and_summary(trained: tuple[Fit, Path], data: EmbeddingData) -> None:
    found, _ = trained
    losses = found.history
    assert list(losses) == ["epoch", "step", "train", "held_out"]
    assert list(losses["epoch"]) == list(range(1, 7))
    per_epoch = -(-int((~data.held_out).sum()) // 128)
    assert list(losses["step"]) == [per_epoch * epoch for epoch in losses["epoch"]]
    assert list(losses.index) == list(range(6))
    assert losses["train"].iloc[-1] < losses["train"].iloc[0]
    assert found.summary["held_out_loss"] == pytest.approx(losses["held_out"].min())
    assert found.summary["loss_name"] == "negative ELBO per observation"
    json.dumps(found.summary)


def test_it_is_trained_on_raw_counts_and_never_on_held_out_cells(
    data: EmbeddingData, tmp_path: Path, seen: dict
) -> None:
    quick(data, tmp_path)
    train, held_out = seen["split"]
    np.testing.assert_array_equal(held_out, np.flatnonzero(data.held_out))
    np.testing.assert_array_equal(train, np.flatnonzero(~data.held_out))
    np.testing.assert_array_equal(seen["counts"].toarray(), data.counts.toarray())
    assert seen["batch_key"] == "batch"


def test_held_out_cells_do_not_influence_the_training(data: EmbeddingData, tmp_path: Path) -> None:
    changed = some_rows(data, np.arange(len(data.obs)), data.held_out)
    changed.counts[np.flatnonzero(data.held_out)[0]] *= 7
    first, second = (quick(d, tmp_path / str(i), min_steps=1) for i, d in enumerate((data, changed)))
    np.testing.assert_array_equal(first.history["train"], second.history["train"])
    np.testing.assert_array_equal(first.latent[~data.held_out], second.latent[~data.held_out])
    assert not np.array_equal(first.history["held_out"], second.history["held_out"])


def test_the_same_seed_gives_the_same_bits_and_another_does_not(data: EmbeddingData, tmp_path: Path) -> None:
    first, again, other = (quick(data, tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1)))
    np.testing.assert_array_equal(first.latent, again.latent)
    pd.testing.assert_frame_equal(first.history, again.history)
    assert not np.allclose(first.latent, other.latent, atol=1e-3)


def test_numeric_covariates_are_continuous_and_others_categorical(
    data: EmbeddingData, tmp_path: Path, seen: dict
) -> None:
    found = quick(data, tmp_path, covariates=["age", "donor", "batch", "unknown_for_some"])
    assert seen["continuous_covariate_keys"] == ["age"]
    assert seen["categorical_covariate_keys"] == ["donor", "unknown_for_some"], "the batch is not corrected for twice"
    assert set(seen["obs"]["age"]) == {31.0, 40.5}
    assert np.isfinite(found.latent).all()
    model = scvi.model.SCVI.load(
        str(tmp_path),
        adata=ad.AnnData(
            data.counts.astype(np.float32),
            obs=seen["obs"][["batch", "age", "donor", "unknown_for_some"]],
            var=pd.DataFrame(index=data.features),
        ),
        accelerator="cpu",
    )
    np.testing.assert_array_equal(model.get_latent_representation(), found.latent)


def test_an_unknown_covariate_is_named_with_those_there_are(data: EmbeddingData, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)no column sexe in the sample sheet.*Hint: .*`.*covariates`.*donor"):
        quick(data, tmp_path, covariates=["age", "sexe"])


def test_a_single_batch_is_enough(data: EmbeddingData, tmp_path: Path) -> None:
    found = quick(replace(data, obs=data.obs.assign(batch="all")), tmp_path)
    assert found.summary["n_batches"] == 1
    assert np.isfinite(found.latent).all()


@pytest.mark.parametrize("n_train", [128, 129, 130])
def test_a_last_batch_of_a_few_cells_breaks_nothing(data: EmbeddingData, tmp_path: Path, n_train: int) -> None:
    rows = np.arange(n_train + 10)
    found = quick(some_rows(data, rows, rows >= n_train), tmp_path)
    assert np.isfinite(found.latent).all()
    assert found.latent.shape[0] == n_train + 10
    assert found.history["step"].iloc[0] == {128: 1, 129: 1, 130: 2}[n_train]


def test_fewer_cells_than_a_batch(data: EmbeddingData, tmp_path: Path) -> None:
    found = quick(some_rows(data, np.arange(9), np.arange(9) < 1), tmp_path)
    assert found.latent.shape == (9, 4)
    assert np.isfinite(found.latent).all()


def test_diverging_training_is_an_error_with_advice(data: EmbeddingData, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)scvi: .*not a finite number.*Hint: lower .*scvi\.learning_rate"):
        quick(data, tmp_path, learning_rate=1e6, min_steps=100)
    assert not (tmp_path / "model.pt").exists()


def test_a_nan_loss_that_scvi_tools_lets_pass_is_refused(
    data: EmbeddingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = scvi.model.SCVI.train

    def trained(self, **options):
        train(self, **options)
        self.history["elbo_train"].iloc[1, 0] = np.nan

    monkeypatch.setattr(scvi.model.SCVI, "train", trained)
    with pytest.raises(TrainingError, match="in epoch 2"):
        quick(data, tmp_path)


def test_other_errors_of_scvi_tools_keep_their_words(
    data: EmbeddingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(self, **options):
        raise ValueError("something else is wrong")

    monkeypatch.setattr(scvi.model.SCVI, "train", trained)
    with pytest.raises(ValueError, match="something else is wrong"):
        quick(data, tmp_path)
