"""The final file is the AnnData that one would build in memory."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from count_cases import annotations, random_counts, write_store
from scipy.sparse import csr_matrix

from latentomics.assays.metagenome import Composition
from latentomics.assays.normaliser import size_log
from latentomics.io import export
from latentomics.io.export import join_results, write_h5ad
from latentomics.io.store import CountsStore, CountsWriter

N, P = 25, 14


@pytest.fixture
def values() -> np.ndarray:
    counts = random_counts(N, P, seed=2, mean=1.0)
    counts[[0, 7, N - 1]] = 0
    return counts


@pytest.fixture
def store(tmp_path, values) -> CountsStore:
    return write_store(tmp_path / "counts.zarr", values, parts=2)


def features(store: CountsStore) -> pd.DataFrame:
    selected = np.arange(P) % 3 == 0
    return pd.DataFrame({"symbol": "again", "mean": np.arange(P) / 7, "selected": selected}, index=store.var.index)


def tables(store: CountsStore, *names: str) -> dict[str, dict[str, pd.DataFrame]]:
    rng = np.random.default_rng(0)
    index = store.obs.index

    def table(columns):
        return pd.DataFrame(rng.normal(size=(N, len(columns))).astype(np.float32), index=index, columns=columns)

    return {
        name: {
            "embeddings": table(["z0", "z1", "z2"]),
            "clusters": pd.DataFrame({"r1": 0, "cluster": (np.arange(N) + i) % 12}, index=index),
            "layouts": table(["umap1", "umap2", "tsne1", "tsne2"]),
        }
        for i, name in enumerate(names)
    }


def write(path, store, found, target=50.0):
    normaliser = size_log(store.obs["total_counts"], target)
    write_h5ad(path, store, normaliser, *join_results(store, features(store), found, "scvi", normaliser, 11))
    return ad.read_h5ad(path)


@pytest.mark.parametrize("limit", [1 << 24, 9])
def test_equals_a_reference_built_in_memory(tmp_path, store, values, monkeypatch, limit):
    whole = store.blocks
    monkeypatch.setattr(store, "blocks", lambda: whole(limit))
    found = tables(store, "pca", "scvi")
    adata = write(tmp_path / "out.h5ad", store, found)
    factor = 50.0 / np.maximum(values.sum(axis=1, keepdims=True), 1)
    assert (adata.layers["counts"].dtype, adata.X.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), values)
    np.testing.assert_allclose(adata.X.toarray(), np.log1p(values * factor), rtol=1e-6)
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(axis=1)[values.any(axis=1)], 50, rtol=1e-5)
    expected = store.obs.copy()
    for name in ("pca", "scvi"):
        labels = found[name]["clusters"]["cluster"].astype(str)
        expected[f"cluster_{name}"] = pd.Categorical(labels, categories=[str(i) for i in range(12)])
        np.testing.assert_array_equal(adata.obsm[f"X_{name}"], found[name]["embeddings"])
        np.testing.assert_array_equal(adata.obsm[f"X_umap_{name}"], found[name]["layouts"][["umap1", "umap2"]])
        np.testing.assert_array_equal(adata.obsm[f"X_tsne_{name}"], found[name]["layouts"][["tsne1", "tsne2"]])
    expected["cluster"] = expected["cluster_scvi"]
    pd.testing.assert_frame_equal(adata.obs, expected, check_categorical=False, check_names=False)
    assert list(adata.obs["cluster"].cat.categories) == [str(i) for i in range(12)], "as numbers, not as words"
    np.testing.assert_array_equal(adata.obsm["X_umap"], adata.obsm["X_umap_scvi"])
    np.testing.assert_array_equal(adata.obsm["X_tsne"], adata.obsm["X_tsne_scvi"])
    assert set(adata.obsm) == {"X_umap", "X_tsne"} | {f"X_{k}{m}" for k in ("", "umap_", "tsne_") for m in found}
    assert list(adata.var["symbol"]) == list(store.var["symbol"]), "the store's, not the table's"
    assert list(adata.var["highly_variable"]) == list(np.arange(P) % 3 == 0)
    assert "selected" not in adata.var
    assert adata.uns["log1p"] == {}
    about = adata.uns["latentomics"]
    assert (about["primary"], about["target_sum"], about["seed"]) == ("scvi", 50.0, 11)
    assert list(about["embeddings"]) == ["pca", "scvi"]


def test_scanpy_works_on_it(tmp_path, store):
    import scanpy as sc

    adata = write(tmp_path / "out.h5ad", store, tables(store, "scvi"))
    adata = adata[np.asarray(adata.layers["counts"].sum(axis=1)).ravel() > 0]
    adata = adata[adata.obs["cluster"].isin(["1", "2"])].copy()
    sc.tl.rank_genes_groups(adata, "cluster", method="t-test")
    sc.pp.pca(adata, n_comps=2)


def test_every_chunking_gives_the_same_matrix(tmp_path, store, values, monkeypatch):
    monkeypatch.setattr(export, "_CHUNK", 5)
    adata = write(tmp_path / "out.h5ad", store, tables(store, "scvi"))
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), values)


def test_the_places_of_the_entries_are_written_once(tmp_path, store):
    """Expression and counts differ in their values only; an old reader sees two matrices all the same."""
    write(tmp_path / "out.h5ad", store, tables(store, "scvi"))
    with h5py.File(tmp_path / "out.h5ad") as file:
        for part in ("indices", "indptr"):
            assert file[f"X/{part}"] == file[f"layers/counts/{part}"], "one object, two names"
        assert file["X/data"] != file["layers/counts/data"]
        assert {file[name].compression for name in ("X/data", "X/indices", "layers/counts/data")} == {"gzip"}
    copy = ad.read_h5ad(tmp_path / "out.h5ad")
    copy.X.indices[:] = 0
    assert (copy.layers["counts"].indices != 0).any(), "in memory they are two"


def test_a_normalisation_without_zeros_has_places_of_its_own(tmp_path, store, values):
    normaliser = Composition(
        values=np.random.default_rng(0).normal(size=(N, P)).astype(np.float32),
        keeps_zeros=False,
        sentence="",
        facts={"normalisation": "clr"},
    )
    joined = join_results(store, features(store), tables(store, "scvi"), "scvi", normaliser, 0)
    write_h5ad(tmp_path / "out.h5ad", store, normaliser, *joined)
    adata = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(adata.X.toarray(), normaliser.values)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), values)


def test_a_matrix_of_zeros(tmp_path):
    store = write_store(tmp_path / "zero.zarr", np.zeros((N, P), dtype=np.int32))
    adata = write(tmp_path / "out.h5ad", store, tables(store, "scvi"))
    assert adata.X.nnz == 0
    assert adata.shape == (N, P)


@pytest.mark.parametrize("kind", ["embeddings", "clusters", "layouts"])
def test_other_observations_are_refused(store, kind):
    found = tables(store, "pca", "scvi")
    found["scvi"][kind] = found["scvi"][kind].iloc[::-1]
    with pytest.raises(ValueError, match=f"{kind}/scvi and the counts store name different observations"):
        join_results(store, features(store), found, "scvi", size_log([1.0], 50.0), 0)


def test_other_features_are_refused(store):
    for wrong in (features(store).iloc[::-1], features(store).iloc[1:]):
        with pytest.raises(ValueError, match="name different features"):
            join_results(store, wrong, tables(store, "scvi"), "scvi", size_log([1.0], 50.0), 0)


def test_same_bytes_twice(tmp_path, store):
    for name in ("a", "b"):
        write(tmp_path / name, store, tables(store, "pca", "scvi"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_corrected_counts_have_a_layer_and_make_the_expression(tmp_path, values, monkeypatch):
    corrected = np.random.default_rng(1).binomial(values, 0.6).astype(np.int32)
    obs, var = annotations(N, P)
    obs = obs.assign(
        total_counts=values.sum(axis=1).astype(float), corrected_counts=corrected.sum(axis=1).astype(float)
    )
    writer = CountsWriter(tmp_path / "s", N, P, np.count_nonzero(values), n_corrected=np.count_nonzero(corrected))
    writer.append(csr_matrix(values), csr_matrix(corrected))
    writer.close(obs, var)
    store = CountsStore(tmp_path / "s")
    monkeypatch.setattr(CountsStore.blocks, "__defaults__", (9,))
    normaliser = size_log(store.totals, 50.0)
    write_h5ad(
        tmp_path / "out.h5ad",
        store,
        normaliser,
        *join_results(store, features(store), tables(store, "scvi"), "scvi", normaliser, 11),
    )
    adata = ad.read_h5ad(tmp_path / "out.h5ad")
    assert set(adata.layers) == {"counts", "corrected"}
    assert {adata.layers[name].dtype for name in adata.layers} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), values)
    np.testing.assert_array_equal(adata.layers["corrected"].toarray(), corrected)
    factor = 50.0 / np.maximum(corrected.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(adata.X.toarray(), np.log1p(corrected * factor), rtol=1e-6)
    assert adata.uns["latentomics"]["layer"] == "corrected"


def test_without_corrected_counts_nothing_is_said_of_them(tmp_path, store):
    adata = write(tmp_path / "out.h5ad", store, tables(store, "scvi"))
    assert set(adata.layers) == {"counts"}
    assert "layer" not in adata.uns["latentomics"]
