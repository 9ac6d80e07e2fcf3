"""The variational autoencoder of taxon counts: its likelihood, what it learns, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.special import gammaln
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score

from latentomics.assays.metagenome import Composition
from latentomics.embed.data import EmbeddingData, TrainingError
from latentomics.embed.vae import Params, build, encode, fit, load, log_likelihood
from latentomics.metagenome.composition import normalise
from latentomics.metagenome.encoders import registered_encoder


def study(n: int = 60, seed: int = 0, batch_effect: float = 1.0) -> EmbeddingData:
    """Two communities of 30 taxa in two batches; the batch multiplies every taxon by a factor of its own."""
    rng = np.random.default_rng(seed)
    community, batch = np.arange(n) % 2, np.arange(n) // 2 % 2
    shares = rng.lognormal(0, 1, (2, 30))[community] * rng.lognormal(0, batch_effect, (2, 30))[batch]
    shares = rng.gamma(shares / shares.sum(axis=1, keepdims=True) * 80)
    counts = rng.poisson(shares / shares.sum(axis=1, keepdims=True) * rng.integers(2000, 9000, (n, 1))).astype(np.int32)
    obs = pd.DataFrame({"batch": np.where(batch, "b2", "b1"), "community": community})
    held_out = np.zeros(n, dtype=bool)
    held_out[rng.choice(n, n // 10, replace=False)] = True
    values = normalise(counts, "clr", 0).astype(np.float32)
    return EmbeddingData(
        counts=csr_matrix(counts),
        normaliser=Composition(values=values, keeps_zeros=False, sentence="", facts={}),
        obs=obs,
        features=pd.Index([f"t{i}" for i in range(30)]),
        held_out=held_out,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("vae")
    data = study()
    return data, fit(data, Params(), 0, 1, folder), folder


def test_likelihood_is_scipys() -> None:
    rng = np.random.default_rng(0)
    counts, logits, log_c = rng.poisson(20, (4, 6)), rng.normal(size=(4, 6)), 3.0
    mine = log_likelihood(
        torch.tensor(counts, dtype=torch.float64), torch.tensor(logits), torch.tensor(log_c, dtype=torch.float64)
    )
    alpha = np.exp(log_c) * np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) + 1e-6
    coefficient = gammaln(counts.sum(axis=1) + 1) - gammaln(counts + 1).sum(axis=1)
    reference = stats.dirichlet_multinomial.logpmf(counts, alpha, counts.sum(axis=1)) - coefficient
    np.testing.assert_allclose(mine.numpy(), reference, rtol=1e-9)


def test_likelihood_has_finite_gradients_where_a_taxon_vanishes() -> None:
    logits = torch.tensor([[-80.0, 0.0, 80.0]], requires_grad=True)
    log_likelihood(torch.tensor([[0.0, 5.0, 1e6]]), logits, torch.tensor(4.0)).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_communities_are_told_apart_and_batches_are_not(trained) -> None:
    data, found, _ = trained
    assert found.latent.shape == (60, 8)
    assert silhouette_score(found.latent, data.obs["community"]) > 0.3
    clr = data.normalised.toarray()
    assert silhouette_score(found.latent, data.obs["batch"]) < 0.1
    assert silhouette_score(clr, data.obs["batch"]) > silhouette_score(found.latent, data.obs["batch"]) + 0.05
    assert found.summary["held_out_r2"] > 0.3
    assert found.summary["n_batches"] == 2


def test_history_and_early_stopping(trained) -> None:
    _, found, _ = trained
    assert list(found.history.columns) == ["epoch", "step", "train", "held_out"]
    assert found.summary["held_out_loss"] == pytest.approx(found.history["held_out"].min(), rel=1e-6)
    assert found.history["held_out"].iloc[-1] < found.history["held_out"].iloc[0]


def test_saved_model_gives_the_same_latent_without_pickle(trained) -> None:
    data, found, folder = trained
    np.testing.assert_allclose(encode(folder, data), found.latent, atol=1e-5)
    network, features, batches = load(folder)
    assert (features[:2], batches) == (["t0", "t1"], ["b1", "b2"])
    assert sum(p.numel() for p in network.parameters()) == found.summary["n_parameters"]


def test_an_unknown_batch_is_the_mean_of_the_known(trained) -> None:
    data, _, folder = trained
    strange = replace(data, obs=data.obs.assign(batch="b9"))
    latent = encode(folder, strange)
    network, _, _ = load(folder)
    with torch.inference_mode():
        mean, _ = network.encode(torch.from_numpy(data.normalised.toarray()), torch.full((60, 2), 0.5))
    np.testing.assert_allclose(latent, mean.numpy(), atol=1e-5)


def test_same_seed_same_weights(tmp_path: Path) -> None:
    data, params = study(24), Params(max_epochs=4, min_steps=1)
    one, two, three = (fit(data, params, seed, 1, tmp_path / str(i)) for i, seed in enumerate((1, 1, 2)))
    np.testing.assert_array_equal(one.latent, two.latent)
    assert not np.array_equal(one.latent, three.latent)


def test_relative_abundances_are_refused(tmp_path: Path) -> None:
    data = study(12)
    shares = csr_matrix(data.counts / data.counts.sum(axis=1))
    with pytest.raises(TrainingError, match="vae: the Dirichlet-multinomial(.|\n)*Hint: leave `vae` out"):
        fit(replace(data, counts=shares), Params(), 0, 1, tmp_path)


def test_network_has_one_output_per_taxon() -> None:
    network = build(30, 2, Params(n_latent=3, n_hidden=16))
    mean, log_variance = network.encode(torch.zeros(5, 30), torch.zeros(5, 2))
    assert mean.shape == log_variance.shape == (5, 3)
    assert network.decode(mean, torch.zeros(5, 2)).shape == (5, 30)


@pytest.mark.parametrize("name", ["pca", "vae"])
def test_encoder_of_a_fold_carries_over_to_samples_it_has_not_seen(name: str) -> None:
    from latentomics.embed.registry import method

    data = study(80, batch_effect=0.0)
    counts, truth = data.counts.toarray().astype(float), data.obs["community"].to_numpy()
    params = method(name).Params(**({"max_epochs": 60, "min_steps": 50} if name == "vae" else {"n_components": 8}))
    train, test = registered_encoder(name, params)(counts[:60], counts[60:], 0)
    assert train.shape[0] == 60 and test.shape[0] == 20
    assert LogisticRegression().fit(train, truth[:60]).score(test, truth[60:]) > 0.9
    again, _ = registered_encoder(name, params)(counts[:60], counts[60:] * 7, 0)
    np.testing.assert_array_equal(train, again)  # what is tested has no say in the fit
