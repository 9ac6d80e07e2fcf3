"""The counts store gives back what was written, however it is cut, and breaks no promise silently."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from count_cases import annotations, random_counts, tree, write_store
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix, vstack

from latentomics.io import store as module
from latentomics.io.store import CountsStore, CountsWriter, batch_of, row_blocks

SPARSE = hnp.arrays(
    np.int32,
    st.tuples(st.integers(0, 7), st.just(6)),
    elements=st.sampled_from([0, 0, 0, 1, 2, 255, 65536, 2**31 - 1]),
)


def dense(matrix) -> np.ndarray:
    return np.asarray(matrix.todense())


@given(st.lists(SPARSE, max_size=5), st.integers(1, 7), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_round_trip(blocks, chunk, chunks_per_shard):
    """Whatever the sizes of blocks, chunks and shards: partial flushes, whole shards, empty blocks and rows."""
    whole = np.vstack([np.zeros((0, 6), np.int32), *blocks])
    obs, var = annotations(*whole.shape)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(module, CHUNK=chunk, CHUNKS_PER_SHARD=chunks_per_shard),
    ):
        path = Path(folder) / "counts.zarr"
        writer = CountsWriter(path, *whole.shape, int(np.count_nonzero(whole)))
        for block in blocks:
            writer.append(csr_matrix(block))
        writer.close(obs, var)
        store = CountsStore(path)
        assert (store.shape, store.n_nonzero) == (whole.shape, np.count_nonzero(whole))
        np.testing.assert_array_equal(dense(store.select()), whole)
        pd.testing.assert_frame_equal(store.obs, obs)
        pd.testing.assert_frame_equal(store.var, var)
        adata = ad.io.read_zarr(path)
        np.testing.assert_array_equal(dense(adata.X), whole)
        assert list(adata.obs_names) == list(obs.index)
        assert list(adata.var["symbol"]) == list(var["symbol"])
        for limit in (1, 3, 1000):
            found = list(store.blocks(limit))
            assert [i for where, _ in found for i in range(where.start, where.stop)] == list(range(len(whole)))
            for where, block in found:
                assert block.dtype == np.int32
                np.testing.assert_array_equal(dense(block), whole[where])
                assert block.nnz <= limit or block.shape[0] == 1


def test_whole_shards_are_written_while_appending(tmp_path, monkeypatch):
    """Memory holds less than a shard: what is pending after an append never reaches one."""
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(module, "CHUNKS_PER_SHARD", 2)
    values = csr_matrix(random_counts(40, 12))
    writer = CountsWriter(tmp_path / "s", *values.shape, values.nnz)
    for i in range(40):
        writer.append(values[i])
        assert sum(map(len, writer._counts._pending["data"])) < 16
        assert writer._counts._flushed % 16 == 0, "a shard is never written twice"
    writer.close(*annotations(*values.shape))
    assert len([f for f in tree(tmp_path / "s") if f.startswith("X/data/c/")]) == -(-values.nnz // 16)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 12))
def test_row_blocks_are_as_long_as_they_may_be(entries, limit):
    indptr = np.concatenate([[0], np.cumsum(entries)]).astype(np.int64)
    blocks = list(row_blocks(indptr, limit))
    assert [i for b in blocks for i in range(b.start, b.stop)] == list(range(len(entries)))
    for block in blocks:
        size = sum(entries[block])
        assert size <= limit or block.stop - block.start == 1
        if block.stop < len(entries):
            assert size + entries[block.stop] > limit


@given(
    st.lists(st.integers(0, 19), max_size=10).map(sorted),
    st.one_of(st.none(), st.lists(st.integers(0, 8), max_size=9, unique=True)),
)
@settings(max_examples=40, deadline=None)
def test_select_is_dense_indexing(shared_store, rows, columns):
    store, values = shared_store
    with mock.patch.object(CountsStore, "blocks", lambda self: list(_small_blocks(self))):
        found = store.select(np.array(rows, dtype=int), None if columns is None else np.array(columns, dtype=int))
    expected = values[rows] if columns is None else values[rows][:, columns]
    np.testing.assert_array_equal(dense(found), expected)
    assert found.dtype == np.int32


def _small_blocks(store):
    for where in row_blocks(store._indptr, 10):
        yield where, store.block(where.start, where.stop)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    values = random_counts(20, 9, seed=3, mean=0.7)
    values[[0, 5, 19]] = 0
    return write_store(tmp_path_factory.mktemp("store") / "s", values, parts=3), values


@pytest.mark.parametrize("rows", [[3, 1], [-1, 2], [0, 20], np.arange(20) > 3, [0.0, 1.0]])
def test_select_refuses_rows_it_would_get_wrong(shared_store, rows):
    with pytest.raises(ValueError, match="ascending row numbers below 20"):
        shared_store[0].select(rows)


def test_promises_are_kept(tmp_path):
    values = csr_matrix(np.eye(4, dtype=np.int32))
    obs, var = annotations(4, 4)

    def write(n_obs, n_nonzero, *blocks):
        writer = CountsWriter(tmp_path / "s", n_obs, 4, n_nonzero)
        for block in blocks:
            writer.append(block)
        writer.close(obs, var)

    write(4, 4, values)
    with pytest.raises(ValueError, match="4 rows were appended, 5 were promised"):
        write(5, 4, values)
    with pytest.raises(ValueError, match="4 entries were appended, 6 were promised"):
        write(4, 6, values)
    with pytest.raises(ValueError, match=r".+"):
        write(4, 3, values)
    with pytest.raises(ValueError, match=r".+"):
        write(3, 4, values)
    with pytest.raises(ValueError, match="block has 3 columns, the store 4"):
        write(4, 4, values[:, :3])


def test_an_unfinished_store_does_not_open(tmp_path):
    values = csr_matrix(np.eye(3, dtype=np.int32))
    writer = CountsWriter(tmp_path / "s", 3, 3, 3)
    writer.append(values)
    with pytest.raises(KeyError):
        CountsStore(tmp_path / "s")


def test_explicit_zeros_and_repeated_entries_are_resolved(tmp_path):
    """Two entries of one place are their sum, a stored zero is nothing; both as scipy means them."""
    messy = csr_matrix((np.array([2, 3, 0, 1]), np.array([1, 1, 0, 0]), np.array([0, 3, 4])), shape=(2, 3))
    writer = CountsWriter(tmp_path / "s", 2, 3, 2)
    writer.append(messy)
    writer.close(*annotations(2, 3))
    store = CountsStore(tmp_path / "s")
    assert store.select().nnz == 2
    np.testing.assert_array_equal(dense(store.select()), [[0, 5, 0], [1, 0, 0]])


def test_replaces_a_store_and_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 16)
    monkeypatch.setattr(module, "CHUNKS_PER_SHARD", 4)
    values = random_counts(30, 20)
    write_store(tmp_path / "a", random_counts(90, 20, seed=1))
    write_store(tmp_path / "a", values, parts=1)
    write_store(tmp_path / "b", values, parts=7)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_shares_are_kept_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(module, "CHUNKS_PER_SHARD", 2)
    shares = np.random.default_rng(0).dirichlet(np.ones(9), 12).astype(np.float32)
    shares[shares < 0.05] = 0
    writer = CountsWriter(tmp_path / "s", *shares.shape, np.count_nonzero(shares), dtype="float32")
    for row in shares:
        writer.append(csr_matrix(row))
    writer.close(*annotations(*shares.shape))
    store = CountsStore(tmp_path / "s")
    assert store.values == "relative"
    for found in (store.select(), store.block(0, 12), store.select(rows=[])):
        assert found.dtype == np.float32
    np.testing.assert_array_equal(dense(store.select()), shares)
    np.testing.assert_array_equal(dense(ad.io.read_zarr(tmp_path / "s").X), shares)


def test_a_store_of_counts_is_what_it_was(tmp_path):
    """The bytes of a counts store are a contract: no new attribute, the same types."""
    store = write_store(tmp_path / "s", random_counts(5, 4))
    assert store.values == "counts"
    assert dict(zarr.open_group(tmp_path / "s", mode="r").attrs) == {
        "encoding-type": "anndata",
        "encoding-version": "0.1.0",
    }
    assert store.select(rows=[]).dtype == np.int32


def test_batch_of():
    def batches(*values):
        return list(batch_of(pd.DataFrame({"batch": pd.Categorical(values)})))

    assert list(batch_of(pd.DataFrame({"sample": ["a", "b"]}))) == ["all", "all"]
    assert batches("", "") == ["all", "all"]
    assert batches("x", "") == ["x", ""]
    assert batches(1, 2) == ["1", "2"]


def test_vstack_of_blocks_is_the_matrix(shared_store):
    store, values = shared_store
    np.testing.assert_array_equal(dense(vstack([block for _, block in store.blocks(7)])), values)


# Corrected counts


def halved(values: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).binomial(values, 0.5).astype(np.int32)


def write_both(path: Path, values: np.ndarray, corrected: np.ndarray, parts: int = 1) -> CountsStore:
    """A store with both matrices, of raw totals and corrected ones."""
    obs, var = annotations(*values.shape)
    obs = obs.assign(
        total_counts=values.sum(axis=1).astype(float), corrected_counts=corrected.sum(axis=1).astype(float)
    )
    writer = CountsWriter(path, *values.shape, np.count_nonzero(values), n_corrected=np.count_nonzero(corrected))
    for rows in np.array_split(np.arange(len(values)), parts):
        writer.append(csr_matrix(values[rows]), csr_matrix(corrected[rows]))
    writer.close(obs, var)
    return CountsStore(path)


@given(st.lists(SPARSE, max_size=4), st.integers(1, 7), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=6, deadline=None)
def test_round_trip_of_both_matrices(blocks, chunk, chunks_per_shard, seed):
    """Whatever the sizes: each matrix comes back, for us and for anndata, and the corrected one is served."""
    whole = np.vstack([np.zeros((0, 6), np.int32), *blocks])
    corrected = halved(whole, seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(module, CHUNK=chunk, CHUNKS_PER_SHARD=chunks_per_shard),
    ):
        path = Path(folder) / "counts.zarr"
        store = write_both(path, whole, corrected, parts=max(len(blocks), 1))
        assert (store.layer, store.raw.layer, CountsStore(path, "counts").layer) == ("corrected", "counts", "counts")
        for found, expected in ((store, corrected), (store.raw, whole), (CountsStore(path, "counts"), whole)):
            assert (found.shape, found.n_nonzero) == (whole.shape, np.count_nonzero(expected))
            np.testing.assert_array_equal(dense(found.select()), expected)
            np.testing.assert_array_equal(found.totals, expected.sum(axis=1))
            for where, block in found.blocks(3):
                assert block.dtype == np.int32
                np.testing.assert_array_equal(dense(block), expected[where])
        adata = ad.io.read_zarr(path)
        np.testing.assert_array_equal(dense(adata.X), whole)
        np.testing.assert_array_equal(dense(adata.layers["corrected"]), corrected)


def test_corrected_shards_are_written_while_appending(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(module, "CHUNKS_PER_SHARD", 2)
    values = random_counts(40, 12)
    corrected = halved(values)
    writer = CountsWriter(tmp_path / "s", 40, 12, np.count_nonzero(values), n_corrected=np.count_nonzero(corrected))
    for i in range(40):
        writer.append(csr_matrix(values[[i]]), csr_matrix(corrected[[i]]))
        for matrix in (writer._counts, writer._corrected):
            assert sum(map(len, matrix._pending["data"])) < 16
            assert matrix._flushed % 16 == 0
    writer.close(*annotations(40, 12))
    shards = [f for f in tree(tmp_path / "s") if f.startswith("layers/corrected/data/c/")]
    assert len(shards) == -(-np.count_nonzero(corrected) // 16)


def test_the_raw_matrix_is_the_same_bytes_with_and_without_a_corrected_one(tmp_path):
    values = random_counts(30, 9)
    write_store(tmp_path / "plain", values)
    write_both(tmp_path / "both", values, halved(values), parts=3)
    plain, both = (
        {name: content for name, content in tree(tmp_path / which).items() if name.startswith("X/")}
        for which in ("plain", "both")
    )
    assert plain == both


def test_corrected_counts_that_cannot_be_are_refused(tmp_path):
    values = csr_matrix(np.array([[2, 0, 1]], dtype=np.int32))
    writer = CountsWriter(tmp_path / "s", 1, 3, 2, n_corrected=1)
    for wrong in ([[3, 0, 0]], [[0, 1, 0]], [[-1, 0, 0]]):
        with pytest.raises(ValueError, match="negative, or larger than the raw one"):
            writer.append(values, csr_matrix(np.array(wrong, dtype=np.int32)))
    with pytest.raises(ValueError, match=r"raw counts are \(1, 3\), corrected ones \(1, 2\)"):
        writer.append(values, csr_matrix(np.zeros((1, 2), dtype=np.int32)))
    with pytest.raises(ValueError, match="with every block of a store, or with none"):
        writer.append(values)
    plain = CountsWriter(tmp_path / "plain", 1, 3, 2)
    with pytest.raises(ValueError, match="with every block of a store, or with none"):
        plain.append(values, values)


def test_a_matrix_that_is_not_there(tmp_path):
    write_store(tmp_path / "s", random_counts(3, 3))
    with pytest.raises(KeyError):
        CountsStore(tmp_path / "s", "corrected")


def test_expression_is_scaled_by_what_the_store_serves(tmp_path):
    """Size factors of corrected counts are theirs, not those of the raw ones."""
    from latentomics.assays import scrna

    values = random_counts(20, 9, mean=4.0) + 2
    corrected = halved(values - 1) + 1
    store = write_both(tmp_path / "s", values, corrected)
    scaled = np.expm1(scrna.normaliser(store, {"target_sum": 50.0})(store.select(), slice(0, 20)).toarray())
    np.testing.assert_allclose(scaled.sum(axis=1), 50, rtol=1e-5)
    raw = scrna.normaliser(store.raw, {"target_sum": None})
    assert raw.target_sum == np.median(values.sum(axis=1))
