"""SCVI on sparse minibatches: the same training as scvi-tools' own, and the same model afterwards."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from embedding_cases import cells
from scipy.sparse import csc_matrix
from scvi import REGISTRY_KEYS
from scvi.dataloaders import AnnDataLoader

from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.likelihood.model import SCVI

MODELS = (scvi.model.SCVI, SCVI)
FITTING = {"max_epochs": 3, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False, "train_size": 0.8}
FITTING |= {"check_val_every_n_epoch": 1, "plan_kwargs": {"n_epochs_kl_warmup": 5}}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def data() -> ad.AnnData:
    simulated = cells()
    obs = simulated.obs[["batch"]].astype("category")
    obs["donor"] = pd.Categorical(np.where(np.arange(len(obs)) % 3 == 0, "a", "b"))
    obs["age"] = np.linspace(-1, 1, len(obs))
    obs["size"] = np.asarray(simulated.counts.sum(1)).ravel().astype(np.float32)
    return ad.AnnData(simulated.counts.astype(np.float32), obs=obs, var=simulated.var[[]])


def untrained(cls: type, data: ad.AnnData, keys: dict[str, Any] | None = None, **options: Any) -> scvi.model.SCVI:
    """A model of the same first weights, whichever class."""
    cls.setup_anndata(data, batch_key="batch", **(keys or {}))
    scvi.settings.seed = 3
    return cls(data, n_hidden=16, n_latent=4, **options)


def minibatches(model: scvi.model.SCVI, sparse: bool, dtype: torch.dtype) -> list[dict[str, Any]]:
    """The cells in order, with values of the given type."""
    found = []
    for tensors in AnnDataLoader(model.adata_manager, batch_size=60):
        tensors = {key: x.to(dtype) if x.is_floating_point() else x for key, x in tensors.items()}
        if sparse:
            tensors[REGISTRY_KEYS.X_KEY] = SparseCounts.of(tensors[REGISTRY_KEYS.X_KEY])
        found.append(tensors)
    return found


def losses(model: scvi.model.SCVI, epochs: int, dtype: torch.dtype) -> np.ndarray:
    """Of every step of a training written out, in validation mode at the end."""
    module = model.module.to(dtype).train()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2, eps=0.01, weight_decay=1e-6)
    batches = minibatches(model, isinstance(model, SCVI), dtype)
    torch.manual_seed(5)
    found = []
    for epoch in range(epochs):
        for tensors in batches:
            optimiser.zero_grad()
            *_, loss = module(tensors, loss_kwargs={"kl_weight": epoch / epochs})
            loss.loss.backward()
            optimiser.step()
            found += [loss.loss.item(), loss.reconstruction_loss_sum.item(), loss.kl_local_sum.item()]
    module.eval()
    with torch.no_grad():
        found += [module(tensors)[2].loss.item() for tensors in batches]
    return np.array(found)


SETUPS = {
    "zinb": ({}, {}),
    "nb": ({}, {"gene_likelihood": "nb"}),
    "gene-batch": ({}, {"dispersion": "gene-batch"}),
    "gene-cell": ({}, {"dispersion": "gene-cell", "gene_likelihood": "nb"}),
    "covariates": ({"categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]}, {"n_layers": 2}),
    "encoded covariates": ({"categorical_covariate_keys": ["donor"]}, {"encode_covariates": True, "n_layers": 2}),
    "encoded numbers": ({"continuous_covariate_keys": ["age"]}, {"encode_covariates": True}),
    "learnt library size": ({}, {"use_observed_lib_size": False}),
    "batch embedding": ({}, {"batch_representation": "embedding"}),
    "logistic normal": ({}, {"latent_distribution": "ln"}),
    "not log": ({}, {"log_variational": False}),
}


#: What scvi-tools computes in float32 whatever the type of the module.
SINGLE = {"gene-batch", "learnt library size"}


@pytest.mark.parametrize("setup", SETUPS)
def test_every_step_of_a_training_is_that_of_scvi_tools(data: ad.AnnData, setup: str) -> None:
    keys, options = SETUPS[setup]
    models = [untrained(cls, data, keys, **options) for cls in MODELS]
    dtype = torch.float32 if setup in SINGLE else torch.float64
    theirs, ours = (losses(model, 5, dtype) for model in models)
    # torch's softplus, in scvi-tools' formulas, is wrong by up to 2e-9 (see test_likelihood.py)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4 if setup in SINGLE else 1e-8)
    assert not np.allclose(theirs[:3], theirs[-3:], rtol=1e-2), "they learn"
    if setup not in SINGLE:
        for (name, a), b in zip(models[1].module.named_parameters(), models[0].module.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("likelihood", ["zinb", "nb"])
def test_train_keeps_the_history_of_scvi_tools(data: ad.AnnData, likelihood: str) -> None:
    histories = []
    for cls in MODELS:
        model = untrained(cls, data, gene_likelihood=likelihood)
        model.train(**FITTING)
        histories.append(model.history)
    theirs, ours = histories
    assert set(ours) >= set(theirs)
    for key in set(theirs) - {"kl_weight"}:
        assert list(theirs[key].index) == list(ours[key].index)
        np.testing.assert_allclose(ours[key].astype(float), theirs[key].astype(float), rtol=1e-4, err_msg=key)
    np.testing.assert_allclose(ours["kl_weight"].to_numpy().ravel().astype(float), [0, 0.2, 0.4], atol=1e-6)


def test_only_training_sees_sparse_counts(data: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained(SCVI, data)
    kinds: list[tuple[bool, type]] = []
    forward = type(model.module).forward

    def watched(self, tensors, *args, **options):
        kinds.append((self.training, type(tensors[REGISTRY_KEYS.X_KEY])))
        return forward(self, tensors, *args, **options)

    monkeypatch.setattr(type(model.module), "forward", watched)
    model.train(**FITTING)
    assert {kind for _, kind in kinds} == {SparseCounts}
    assert {training for training, _ in kinds} == {True, False}, "validation too"
    kinds.clear()
    model.get_elbo()
    assert {kind for _, kind in kinds} == {torch.Tensor}


@pytest.fixture(scope="module")
def saved(data: ad.AnnData, tmp_path_factory: pytest.TempPathFactory) -> tuple[scvi.model.SCVI, Path]:
    model = untrained(SCVI, data)
    model.train(**FITTING)
    folder = tmp_path_factory.mktemp("saved")
    model.save(str(folder), overwrite=True)
    return model, folder


USES = {
    "latent": lambda m: m.get_latent_representation(),
    "elbo": lambda m: m.get_elbo(),
    "reconstruction": lambda m: m.get_reconstruction_error()["reconstruction_loss"],
    "marginal": lambda m: m.get_marginal_ll(n_mc_samples=5),
    "expression": lambda m: m.get_normalized_expression(transform_batch="batch2", return_numpy=True),
    "parameters": lambda m: m.get_likelihood_parameters()["dispersions"],
    "sample": lambda m: m.posterior_predictive_sample().todense(),
    "differential": lambda m: m.differential_expression(groupby="batch")[["bayes_factor", "scale1"]].sort_index(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.filterwarnings("ignore")
def test_scvi_tools_loads_the_model_and_does_the_same_with_it(
    saved: tuple[scvi.model.SCVI, Path], data: ad.AnnData, use: str
) -> None:
    model, folder = saved
    loaded = scvi.model.SCVI.load(str(folder), adata=data, accelerator="cpu")
    assert type(loaded.module) is scvi.module.VAE and type(loaded) is scvi.model.SCVI
    found = []
    for each in (model, loaded):
        scvi.settings.seed = 9
        found.append(np.asarray(USES[use](each)))
    np.testing.assert_array_equal(*found)
    assert np.isfinite(found[0]).all()


def test_a_model_of_scvi_tools_can_be_trained_further(saved: tuple[scvi.model.SCVI, Path], data: ad.AnnData) -> None:
    continued = []
    for cls in MODELS:
        model = cls.load(str(saved[1]), adata=data, accelerator="cpu")
        scvi.settings.seed = 4
        model.train(**FITTING)
        continued.append(model.history["elbo_train"].to_numpy().ravel().astype(float))
    np.testing.assert_allclose(*continued, rtol=1e-4)


@pytest.mark.parametrize(
    ("keys", "options"),
    [({"size_factor_key": "size"}, {}), ({}, {"gene_likelihood": "poisson"}), ({}, {"gene_likelihood": "normal"})],
)
def test_other_likelihoods_are_trained_as_before(data: ad.AnnData, keys: dict, options: dict) -> None:
    elbos = []
    for cls in MODELS:
        model = untrained(cls, data, keys, **options)
        model.train(**FITTING)
        elbos.append(model.history["elbo_validation"].to_numpy().ravel().astype(float))
    np.testing.assert_allclose(*elbos, rtol=1e-4)


def test_counts_that_a_sparse_likelihood_would_be_wrong_of_are_refused(data: ad.AnnData) -> None:
    fractional, stored_zero = data.copy(), data.copy()
    fractional.X.data[3] = 0.5
    stored_zero.X.data[3] = 0
    dense, by_column = data.copy(), data.copy()
    dense.X, by_column.X = data.X.toarray(), csc_matrix(data.X)
    for bad, words in [
        (fractional, "positive whole number"),
        (stored_zero, "positive whole number"),
        (dense, "CSR matrix, not ndarray"),
        (by_column, "CSR matrix, not csc"),
    ]:
        with pytest.raises(ValueError, match=words):
            untrained(SCVI, bad).train(**FITTING)
