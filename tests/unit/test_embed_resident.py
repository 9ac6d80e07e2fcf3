"""Values that stay on the device which trains: here on the CPU, and where there is one, on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi.model
import torch
from embedding_cases import cells, embedding_data, write_store
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random
from scvi.dataloaders import AnnDataLoader

from latentomics.embed import autoencoder, resident
from latentomics.embed import scvi as scvi_method
from latentomics.embed.data import EmbeddingData
from latentomics.embed.likelihood.resident import ResidentCells
from latentomics.embed.resident import ResidentRows, RowOrder, resident_rows
from latentomics.embed.stored import StoredCounts

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def matrix(n_rows: int, n_columns: int, density: float, seed: int) -> csr_matrix:
    rng = np.random.default_rng(seed)
    return csr_matrix(random(n_rows, n_columns, density, rng=rng, data_rvs=lambda n: rng.integers(1, 9, n)), dtype="f4")


@pytest.mark.parametrize("device", DEVICES)
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.1, 0.9]),
    st.lists(st.integers(0, 39), max_size=60),
    st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_what_is_taken_are_the_rows(
    device: str, n_rows: int, n_columns: int, density: float, wanted: list[int], block: int
) -> None:
    values = matrix(n_rows, n_columns, density, seed=n_rows)
    rows = ResidentRows((values[start : start + block] for start in range(0, n_rows, block)), device)
    assert (len(rows), rows.width) == values.shape
    which = np.array(wanted, dtype=int) % n_rows
    found, expected = rows.take(which), values[which]
    assert found.device.type == device
    np.testing.assert_array_equal(found.dense().cpu(), expected.toarray())
    np.testing.assert_array_equal(found.start.cpu(), expected.indptr)
    np.testing.assert_array_equal(found.gene.cpu(), expected.indices)


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_comes_once_in_a_pass_in_another_order(n: int, batch_size: int, seed: int, drop_last: bool) -> None:
    rows = np.arange(100, 100 + n)
    batches = RowOrder(rows, batch_size, seed, drop_last)
    first, second = list(batches), list(batches)
    assert len(first) == len(second) == len(batches)
    assert all(len(batch) == batch_size for batch in first[:-1])
    together = np.concatenate([*first, rows[:0]])
    assert len(set(together)) == len(together) == (n - n % batch_size if drop_last else n)
    assert set(together) <= set(rows)
    again = list(RowOrder(rows, batch_size, seed, drop_last))
    np.testing.assert_array_equal(np.concatenate([*again, rows[:0]]), together, err_msg="of the seed alone")
    if len(together) > 12:
        assert (np.concatenate(second) != together).any()
    np.testing.assert_array_equal(np.concatenate([*RowOrder(rows, batch_size, None), rows[:0]]), rows)


def test_only_an_accelerator_with_room_keeps_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    values = matrix(30, 20, 0.5, seed=0)
    assert resident_rows(iter([]), "cpu") is None, "nothing is read for nothing"
    monkeypatch.setattr(resident, "device_of", lambda accelerator: "cpu")
    monkeypatch.setattr(resident, "room", lambda device: values.nnz * 8)
    assert len(resident_rows([values[:10], values[10:]], "gpu")) == 30
    monkeypatch.setattr(resident, "room", lambda device: values.nnz * 8 - 1)
    assert resident_rows([values[:10], values[10:]], "gpu") is None
    assert "minibatches are sent to it" in capsys.readouterr().out


@pytest.fixture
def data() -> EmbeddingData:
    found = embedding_data(cells())
    found.obs["batch"] = found.obs["batch"].astype("category")
    return found


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts as a device on which data stay."""
    monkeypatch.setattr(resident, "device_of", lambda accelerator: "cpu")
    monkeypatch.setattr(resident, "room", lambda device: np.inf)


SCVI = {"n_latent": 4, "n_hidden": 16, "min_steps": 8, "max_epochs": 3}


def left_in_store(data: EmbeddingData, folder: Path) -> EmbeddingData:
    """The same data, whose counts are in a store, other features among them."""
    simulated = cells()
    store = write_store(folder / "counts.zarr", simulated.counts, simulated.obs, simulated.var)
    return replace(data, counts=StoredCounts(store, np.arange(data.counts.shape[1])))


def test_counts_of_a_store_become_the_same_resident_ones(data: EmbeddingData, tmp_path: Path, on_device: None) -> None:
    params = scvi_method.Params(**SCVI)
    there = left_in_store(data, tmp_path)
    fits = [
        scvi_method.fit(d, params, seed=0, threads=1, folder=tmp_path / name)
        for name, d in (("read", data), ("left", there))
    ]
    pd.testing.assert_frame_equal(fits[0].history, fits[1].history)
    np.testing.assert_allclose(fits[0].latent, fits[1].latent, atol=1e-5)
    params = autoencoder.Params(hidden=[48, 32, 16], n_latent=4, batch_size=64, min_steps=6, max_epochs=2)
    fits = [
        autoencoder.fit(d, params, seed=0, threads=1, folder=tmp_path / f"autoencoder_{name}")
        for name, d in (("read", data), ("left", there))
    ]
    pd.testing.assert_frame_equal(fits[0].history, fits[1].history)


def test_data_that_do_not_fit_are_sent(
    data: EmbeddingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_device: None
) -> None:
    monkeypatch.setattr(resident, "room", lambda device: 1000)
    params = scvi_method.Params(**SCVI)
    found = scvi_method.fit(left_in_store(data, tmp_path), params, seed=0, threads=1, folder=tmp_path / "model")
    assert np.isfinite(found.latent).all()


def test_shares_are_no_counts_for_scvi(data: EmbeddingData, tmp_path: Path) -> None:
    shares = replace(data, counts=data.counts.astype(np.float32))
    with pytest.raises(ValueError, match="counts must be whole numbers, not float32"):
        scvi_method.fit(shares, scvi_method.Params(**SCVI), seed=0, threads=1, folder=tmp_path)


def test_scvi_learns_from_resident_counts_what_it_learns_from_others(
    data: EmbeddingData, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def fit(name: str) -> scvi_method.Fit:
        return scvi_method.fit(data, scvi_method.Params(**SCVI), seed=0, threads=1, folder=tmp_path / name)

    sent = fit("sent")
    request.getfixturevalue("on_device")
    stays, again = fit("stays"), fit("again")
    np.testing.assert_array_equal(stays.latent, again.latent, err_msg="the same seed, the same bits")
    assert list(sent.history["step"]) == list(stays.history["step"])
    # Another order of the cells: the losses are alike, not the same.
    assert not np.allclose(sent.latent, stays.latent, atol=1e-3)
    for column in ("train", "held_out"):
        np.testing.assert_allclose(sent.history[column], stays.history[column], rtol=0.02)
    adata = ad.AnnData(data.counts.astype(np.float32), obs=data.obs[["batch"]], var=pd.DataFrame(index=data.features))
    model = scvi.model.SCVI.load(str(tmp_path / "stays"), adata=adata, accelerator="cpu")
    np.testing.assert_allclose(model.get_latent_representation(), stays.latent, atol=1e-5)
    cells = ResidentCells(
        model.adata_manager, ResidentRows([data.counts.astype(np.float32)], "cpu"), data.held_out, 50, 0
    )
    np.testing.assert_allclose(cells.latent(model), stays.latent, atol=1e-5)


def test_resident_cells_keep_their_annotations(data: EmbeddingData, tmp_path: Path) -> None:
    data.obs["age"] = np.linspace(20, 70, len(data.obs))
    data.obs["donor"] = np.where(np.arange(len(data.obs)) % 3, "a", "b")
    params = scvi_method.Params(**SCVI, covariates=["age", "donor"])
    scvi_method.fit(data, params, seed=0, threads=1, folder=tmp_path)
    counts = data.counts.astype(np.float32)
    adata = ad.AnnData(counts, obs=data.obs[["batch", "age", "donor"]], var=pd.DataFrame(index=data.features))
    model = scvi.model.SCVI.load(str(tmp_path), adata=adata, accelerator="cpu")
    fed = ResidentCells(model.adata_manager, ResidentRows([counts], "cpu"), data.held_out, batch_size=50, seed=0)
    [expected] = AnnDataLoader(model.adata_manager, batch_size=len(data.obs))
    whole = [tensors for _, part in fed.in_order() for tensors in part]
    for key in set(expected) - {"X"}:
        assert torch.equal(torch.cat([tensors[key] for tensors in whole]), expected[key]), key
        assert whole[0][key].dtype == expected[key].dtype
    # By its age, which no other cell has, a shuffled cell is found again.
    for loader, rows in ((fed.train_dataloader(), fed.train_idx), (fed.val_dataloader(), fed.val_idx)):
        seen = []
        for tensors in loader:
            cell = (tensors["extra_continuous_covs"] == expected["extra_continuous_covs"].T).int().argmax(dim=1)
            assert torch.equal(tensors["X"].dense(), expected["X"][cell])
            assert torch.equal(tensors["batch"], expected["batch"][cell])
            seen.append(cell)
        assert sorted(torch.cat(seen).tolist()) == rows.tolist()


def test_the_autoencoder_learns_from_resident_values_what_it_learns_from_others(
    data: EmbeddingData, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    params = autoencoder.Params(hidden=[48, 32, 16], n_latent=4, batch_size=64, min_steps=6, max_epochs=4)

    def fit(name: str) -> autoencoder.Fit:
        return autoencoder.fit(data, params, seed=0, threads=1, folder=tmp_path / name)

    sent = fit("sent")
    request.getfixturevalue("on_device")
    stays, again = fit("stays"), fit("again")
    np.testing.assert_array_equal(stays.latent, again.latent, err_msg="the same seed, the same bits")
    assert list(sent.history["step"]) == list(stays.history["step"])
    np.testing.assert_allclose(sent.history["held_out"], stays.history["held_out"], rtol=0.02)
