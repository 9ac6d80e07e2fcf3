"""Counts that stay on disk: read, shuffled, and embedded as if they were in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import pytest
import scvi.model
import torch
from embedding_cases import cells, write_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scvi.dataloaders import AnnDataLoader

from latentomics.assays.metagenome import Composition
from latentomics.assays.normaliser import Normaliser, size_log
from latentomics.embed import autoencoder, loop, pca, run, stored
from latentomics.embed import scvi as scvi_method
from latentomics.embed.data import EmbeddingData
from latentomics.embed.likelihood.stored import StoredCells
from latentomics.embed.stored import Minibatch, Shuffled, StoredCounts, minibatches
from latentomics.io.store import CountsStore

#: The first gene and the last are among them: where a row's entries begin and end must be right.
COLUMNS = np.array([0, 1, *range(4, 120, 2), 199])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CountsStore:
    simulated = cells()
    return write_store(
        tmp_path_factory.mktemp("stored") / "counts.zarr", simulated.counts, simulated.obs, simulated.var
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, runs and pools of few cells."""
    monkeypatch.setattr(CountsStore.blocks, "__defaults__", (1 << 11,))
    monkeypatch.setattr(stored, "RUN", 30)
    monkeypatch.setattr(stored, "POOL", 1 << 16)


def unchanged(counts: object, rows: object) -> object:
    return counts


def test_rows_and_columns_are_those_of_the_store(store: CountsStore, small_blocks: None) -> None:
    expected, counts = store.select(columns=COLUMNS).toarray(), StoredCounts(store, COLUMNS)
    assert counts.shape == expected.shape and counts.dtype == expected.dtype == np.int32
    np.testing.assert_array_equal(counts.rows(5, 9).toarray(), expected[5:9])
    found = counts.read()
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.dtype == np.int32 and found.has_sorted_indices
    blocks = list(counts.blocks(lambda part, where: part * (where.start + 1)))
    assert len(blocks) > 3
    for where, block in blocks:
        np.testing.assert_array_equal(block.toarray(), expected[where] * (where.start + 1))
    assert [where.stop for where, _ in blocks] == [*(where.start for where, _ in blocks[1:]), len(expected)]


def test_what_is_read_stays_within_the_memory_allowed(store: CountsStore) -> None:
    counts, keep = StoredCounts(store, COLUMNS), np.arange(store.shape[0]) % 3 == 0
    some = counts.read(keep)
    np.testing.assert_array_equal(some.toarray(), counts.read().toarray()[keep])
    assert counts.read(keep, most=some.nnz * 8) is not None
    assert counts.read(keep, most=some.nnz * 8 - 1) is None
    assert counts.read(most=some.nnz * 8) is None


def passes(counts: StoredCounts, keep: np.ndarray, n: int = 1, **options: object) -> list[list[Minibatch]]:
    shuffled = Shuffled(counts, keep, **({"batch_size": 16, "seed": 0, "transform": unchanged} | options))
    found = [list(shuffled) for _ in range(n)]
    assert {len(shuffled)} == set(map(len, found))
    return found


@given(
    seed=st.integers(0, 2**32),
    batch_size=st.integers(1, 300),
    share=st.sampled_from([0.02, 0.5, 1.0]),
    drop_last=st.booleans(),
    pool=st.sampled_from([1 << 12, 1 << 16, 1 << 29]),
    run_length=st.sampled_from([16, 100, 1024]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_kept_cell_comes_once_in_a_pass(
    store: CountsStore, seed: int, batch_size: int, share: float, drop_last: bool, pool: int, run_length: int
) -> None:
    keep = np.random.default_rng(seed).random(store.shape[0]) < share
    counts = StoredCounts(store, COLUMNS)
    expected = counts.read().toarray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "POOL", pool)
        patch.setattr(stored, "RUN", run_length)
        [found] = passes(counts, keep, seed=seed, batch_size=batch_size, drop_last=drop_last)
    rows = np.concatenate([np.zeros(0, int), *(batch.rows for batch in found)])
    n_left_out = keep.sum() % batch_size if drop_last else 0
    assert len(rows) == len(set(rows)) == keep.sum() - n_left_out and keep[rows].all()
    assert all(len(batch.rows) == batch_size for batch in found[: len(found) if drop_last else -1])
    for batch in found:
        np.testing.assert_array_equal(batch.values.toarray(), expected[batch.rows])


def order(of_pass: list[Minibatch]) -> list[int]:
    return np.concatenate([batch.rows for batch in of_pass]).tolist()


def test_the_order_is_of_the_seed_and_another_one_in_every_pass(store: CountsStore, small_blocks: None) -> None:
    counts, keep = StoredCounts(store, COLUMNS), np.ones(store.shape[0], dtype=bool)
    first, again, other = (list(map(order, passes(counts, keep, 2, seed=seed))) for seed in (0, 0, 1))
    assert first == again
    assert first[0] != first[1] and first[0] != other[0]
    assert first[0] != sorted(first[0])


def test_a_minibatch_mixes_cells_of_many_places(store: CountsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RUN", 8)
    counts, keep = StoredCounts(store, COLUMNS), np.ones(store.shape[0], dtype=bool)
    monkeypatch.setattr(stored, "POOL", store.n_nonzero * 8 // 2)
    [found] = passes(counts, keep)
    assert counts.n_pools == 2
    n_runs = [len(set(batch.rows // 8)) for batch in found]
    # 16 cells drawn from some 15 runs: ten of them on average, two if runs were read one after the other.
    assert np.mean(n_runs) > 8


def test_values_are_transformed_with_the_numbers_of_their_rows(store: CountsStore, small_blocks: None) -> None:
    counts, keep = StoredCounts(store, COLUMNS), np.ones(store.shape[0], dtype=bool)
    normaliser, expected = normaliser_of(store), store.select(columns=COLUMNS)
    expected = normaliser(expected, slice(None)).toarray()
    for batch in passes(counts, keep, transform=normaliser)[0]:
        np.testing.assert_array_equal(batch.values.toarray(), expected[batch.rows])


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_held_out_cells_come_from_memory_or_from_the_store(
    store: CountsStore, monkeypatch: pytest.MonkeyPatch, small_blocks: None, memory: int
) -> None:
    monkeypatch.setattr(stored, "MEMORY", memory)
    held_out = np.arange(store.shape[0]) % 5 == 0
    train, judged = minibatches(StoredCounts(store, COLUMNS), held_out, 16, 0, unchanged)
    assert isinstance(judged, Shuffled) == (memory == 0)
    assert sorted(order(list(judged))) == np.flatnonzero(held_out).tolist()
    assert sorted(order(list(train))) == np.flatnonzero(~held_out).tolist()


def normaliser_of(store: CountsStore) -> Normaliser:
    return size_log(store.totals, None)


def both(
    store: CountsStore, normaliser: Normaliser, columns: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmbeddingData]:
    """The data of a study in memory, and left in the store."""
    features = pd.DataFrame({"selected": np.isin(np.arange(store.shape[1]), columns)}, index=store.var.index)
    for memory in (stored.MEMORY, 1000):
        monkeypatch.setattr(run, "MEMORY", memory)
        data = run.load_data(store, features, normaliser, seed=0)
        assert data.stored == (memory == 1000)
        yield data


def test_pca_of_stored_cells_is_that_in_memory(
    store: CountsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    fits = []
    for data in both(store, normaliser_of(store), COLUMNS, monkeypatch):
        folder = tmp_path / str(data.stored)
        fits.append(pca.fit(data, pca.Params(n_components=12), seed=0, threads=1, folder=folder))
        np.testing.assert_allclose(pca.encode(folder, data), fits[-1].latent, atol=1e-6)
    np.testing.assert_allclose(fits[0].latent, fits[1].latent, atol=1e-5)
    for key in ("explained_variance_ratio", "held_out_r2"):
        np.testing.assert_allclose(fits[0].summary[key], fits[1].summary[key], atol=1e-8)


def test_pca_of_stored_samples_of_which_no_value_is_zero(
    store: CountsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    values = np.random.default_rng(0).normal(size=store.shape).astype(np.float32)
    normaliser = Composition(values=values, keeps_zeros=False, sentence="", facts={})
    every = np.arange(store.shape[1])
    one, two = (
        pca.fit(data, pca.Params(n_components=5), seed=0, threads=1, folder=tmp_path / str(data.stored)).latent
        for data in both(store, normaliser, every, monkeypatch)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.fixture
def n_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many minibatches every training says an epoch has: what its time on a CPU is foreseen from."""
    found: list[int] = []

    class Watch(L.Callback):
        def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
            found.append(trainer.num_training_batches)

    for module in (loop, scvi_method):
        monkeypatch.setattr(module, "refusal", lambda *_: Watch())
    return found


SCVI = {"n_latent": 4, "n_hidden": 16, "min_steps": 8, "max_epochs": 3}


def test_scvi_of_stored_cells_learns_what_it_learns_in_memory(
    store: CountsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None, n_batches: list[int]
) -> None:
    in_memory, left = both(store, normaliser_of(store), COLUMNS, monkeypatch)
    fits = [
        scvi_method.fit(data, scvi_method.Params(**SCVI), seed=0, threads=1, folder=tmp_path / name)
        for name, data in (("in_memory", in_memory), ("left", left), ("again", left))
    ]
    np.testing.assert_array_equal(fits[1].latent, fits[2].latent, err_msg="the same seed, the same bits")
    assert len(set(n_batches)) == 1
    assert list(fits[0].history["step"]) == list(fits[1].history["step"])
    # Another order of the cells: the losses are alike, not the same.
    np.testing.assert_allclose(fits[0].history["held_out"], fits[1].history["held_out"], rtol=0.02)
    np.testing.assert_allclose(fits[0].history["train"], fits[1].history["train"], rtol=0.02)
    assert set(fits[0].summary) == set(fits[1].summary)
    # scvi-tools opens the model as it opens the other, and knows as much of it.
    adata = ad.AnnData(
        in_memory.counts.astype(np.float32),
        obs=in_memory.obs[["batch"]].astype("category"),
        var=pd.DataFrame(index=in_memory.features),
    )
    models = [
        scvi.model.SCVI.load(str(tmp_path / name), adata=adata, accelerator="cpu") for name in ("in_memory", "left")
    ]
    np.testing.assert_allclose(models[1].get_latent_representation(), fits[1].latent, atol=1e-5)
    np.testing.assert_equal(models[0].registry["field_registries"], models[1].registry["field_registries"])
    np.testing.assert_array_equal(models[0].train_indices, models[1].train_indices)
    np.testing.assert_array_equal(models[0].validation_indices, models[1].validation_indices)
    assert len(models[1].differential_expression(groupby="batch")) == 2 * len(COLUMNS)


def test_scvi_of_stored_cells_corrects_for_covariates(
    store: CountsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    *_, data = both(store, normaliser_of(store), COLUMNS, monkeypatch)
    data.obs["age"] = np.linspace(20, 70, len(data.obs))
    data.obs["donor"] = np.where(np.arange(len(data.obs)) % 3, "a", "b")
    params = scvi_method.Params(**SCVI, covariates=["age", "donor"])
    scvi_method.fit(data, params, seed=0, threads=1, folder=tmp_path)
    adata = ad.AnnData(
        data.counts_in_memory.astype(np.float32),
        obs=data.obs[["batch", "age", "donor"]],
        var=pd.DataFrame(index=data.features),
    )
    model = scvi.model.SCVI.load(str(tmp_path), adata=adata, accelerator="cpu")
    stored_cells = StoredCells(model.adata_manager, data.counts, data.held_out, batch_size=100, seed=0)
    [expected] = AnnDataLoader(model.adata_manager, batch_size=len(data.obs))
    parts = [(rows, list(minibatches)) for rows, minibatches in stored_cells.in_order()]
    assert len(parts) > 2
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
    assert [sum(len(t["batch"]) for t in part) for _, part in parts] == [rows.stop - rows.start for rows, _ in parts]
    found = [tensors for _, part in parts for tensors in part]
    assert set(found[0]) == set(expected) >= {"batch", "labels", "extra_categorical_covs", "extra_continuous_covs"}
    for key in set(expected) - {"X"}:
        assert torch.equal(torch.cat([tensors[key] for tensors in found]), expected[key]), key
        assert found[0][key].dtype == expected[key].dtype
    assert torch.equal(torch.cat([tensors["X"].dense() for tensors in found]), expected["X"])
    # Shuffled too, a cell keeps its annotations: by its age, which no other cell has, it is found again.
    for tensors in stored_cells.train_dataloader():
        cell = (tensors["extra_continuous_covs"] == expected["extra_continuous_covs"].T).int().argmax(dim=1)
        assert torch.equal(tensors["X"].dense(), expected["X"][cell])
        assert torch.equal(tensors["batch"], expected["batch"][cell])


def test_a_latent_space_is_asked_for_part_by_part(store: CountsStore, small_blocks: None) -> None:
    """What scvi-tools gathers of all cells at once takes memory that grows with them."""
    adata = ad.AnnData(np.zeros((store.shape[0], 1)), obs=pd.DataFrame({"age": np.arange(store.shape[0], dtype=float)}))
    adata.obs_names = store.obs.index
    scvi.model.SCVI.setup_anndata(adata, continuous_covariate_keys=["age"])
    registered = scvi.model.SCVI(adata).adata_manager
    asked: list[int] = []

    class Model:
        module = SimpleNamespace(n_latent=1)

        def get_latent_representation(self, dataloader: Iterable[dict[str, torch.Tensor]]) -> np.ndarray:
            ages = torch.cat([tensors["extra_continuous_covs"] for tensors in dataloader])
            asked.append(len(ages))
            return ages.numpy()

    cells = StoredCells(registered, StoredCounts(store, COLUMNS), np.zeros(store.shape[0], bool), batch_size=16, seed=0)
    latent = cells.latent(Model())
    assert latent[:, 0].tolist() == list(range(store.shape[0]))
    assert asked == [where.stop - where.start for where, _ in store.blocks()] and len(asked) > 2


def test_shares_are_no_counts_for_scvi(store: CountsStore) -> None:
    counts = StoredCounts(store, COLUMNS)
    counts.dtype = np.dtype(np.float32)
    with pytest.raises(ValueError, match="counts must be whole numbers, not float32"):
        StoredCells(None, counts, np.zeros(store.shape[0], bool), batch_size=16, seed=0)


def test_the_autoencoder_of_stored_cells(
    store: CountsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None, n_batches: list[int]
) -> None:
    params = autoencoder.Params(hidden=[48, 32, 16], n_latent=4, batch_size=64, min_steps=6, max_epochs=4)
    in_memory, left = both(store, normaliser_of(store), COLUMNS, monkeypatch)
    fits = [
        autoencoder.fit(data, params, seed=0, threads=1, folder=tmp_path / name)
        for name, data in (("in_memory", in_memory), ("left", left), ("again", left))
    ]
    np.testing.assert_array_equal(fits[1].latent, fits[2].latent, err_msg="the same seed, the same bits")
    assert len(set(n_batches)) == 1
    assert list(fits[0].history["step"]) == list(fits[1].history["step"])
    np.testing.assert_allclose(fits[0].history["held_out"], fits[1].history["held_out"], rtol=0.02)
    np.testing.assert_allclose(autoencoder.encode(tmp_path / "left", in_memory), fits[1].latent, atol=1e-5)
