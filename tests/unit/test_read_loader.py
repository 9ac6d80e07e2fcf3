"""Batches of reads: every read once per epoch, in an order that depends on seed and epoch only, read from disk in runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain, islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.reads import loader
from latentomics.reads.bases import PAD
from latentomics.reads.loader import Loader, batches, n_batches, prefetch
from latentomics.reads.store import Batch, ReadStore, ReadStoreWriter

N_READS, WIDTH = 700, 47


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ReadStore:
    """Reads of all lengths from 1, some bases unknown; the label of a read is its row, modulo 251."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, WIDTH + 1, N_READS)
    codes = np.where(np.arange(WIDTH) < lengths[:, None], rng.integers(0, 5, (N_READS, WIDTH)), PAD).astype(np.uint8)
    folder = tmp_path_factory.mktemp("reads")
    writer = ReadStoreWriter(folder, N_READS, WIDTH)
    nothing = np.zeros(N_READS, dtype=int)
    writer.append(codes, lengths, np.arange(N_READS) % 251, nothing, nothing)
    writer.close([f"c{i}" for i in range(251)], ["s"], {})
    return ReadStore(folder)


def reads(batch: Batch) -> list[bytes]:
    """Each read of a batch and its label, without padding; all reads of the store differ in this."""
    return [
        bytes(codes[:length]) + bytes([label])
        for codes, length, label in zip(batch.codes, batch.lengths, batch.labels, strict=True)
    ]


def listed(found: Iterator[Batch]) -> list[list[bytes]]:
    return [reads(batch) for batch in found]


def small(block: int, window: int) -> patch:
    return patch.multiple(loader, BLOCK=block, WINDOW=window)


@given(
    st.lists(st.integers(0, N_READS - 1), unique=True, max_size=N_READS).map(sorted),
    st.integers(1, 90),
    st.none() | st.integers(0, 2**40),
    st.integers(1, 64),
    st.integers(1, 300),
)
@settings(max_examples=150, deadline=None)
def test_every_read_once_in_batches_of_one_size(
    store: ReadStore, rows: list[int], batch_size: int, seed: int | None, block: int, window: int
) -> None:
    which = np.array(rows, dtype=np.int64)
    with small(block, window):
        found = list(batches(store, which, batch_size, seed, epoch=3))
    expected = reads(store.batch(which)) if rows else []
    seen = [read for batch in found for read in reads(batch)]
    assert sorted(seen) == sorted(expected)
    if seed is None:
        assert seen == expected, "without a seed the order is that of the rows"
    sizes = [len(batch.codes) for batch in found]
    assert len(sizes) == n_batches(len(rows), batch_size)
    assert max(sizes, default=0) <= batch_size and max(sizes, default=0) - min(sizes, default=0) <= 1
    for batch in found:
        assert batch.codes.shape[1] == batch.lengths.max(), "as wide as the longest read, no wider"
        assert ((batch.codes == PAD) == (np.arange(batch.codes.shape[1]) >= batch.lengths[:, None])).all()
        assert batch.codes.dtype == np.uint8 and batch.lengths.dtype == batch.labels.dtype == np.int64


@given(st.integers(0, 30), st.integers(1, 64), st.integers(1, 300), st.none() | st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_goes_on_where_it_was_left(
    store: ReadStore, start: int, block: int, window: int, seed: int | None
) -> None:
    rows = np.arange(0, N_READS, 2)
    with small(block, window):
        whole = listed(batches(store, rows, 16, seed, epoch=1))
        assert listed(batches(store, rows, 16, seed, epoch=1, start=start)) == whole[start:]


@pytest.mark.parametrize("window", [100, 10_000])
def test_the_order_depends_on_seed_and_epoch_only(store: ReadStore, window: int) -> None:
    rows = np.arange(N_READS)
    with small(32, window):
        first = listed(batches(store, rows, 50, 7, epoch=0))
        assert listed(batches(store, rows, 50, 7, epoch=0)) == first
        assert listed(prefetch(batches(store, rows, 50, 7, epoch=0))) == first, "nor on being made in advance"
        assert listed(batches(store, rows, 50, 7, epoch=1)) != first
        assert listed(batches(store, rows, 50, 8, epoch=0)) != first


def test_a_store_in_one_window_is_permuted_uniformly(store: ReadStore) -> None:
    """Where the first of 64 rows comes to lie, over 2,000 epochs: chi-square with 63 degrees of freedom."""
    from scipy.stats import chi2

    rows = np.arange(64)
    with small(8, 1000):
        at = [
            np.concatenate([batch.labels for batch in batches(store, rows, 16, 1, epoch)]).tolist().index(0)
            for epoch in range(2000)
        ]
    expected = 2000 / 64
    statistic = ((np.bincount(at, minlength=64) - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, 63) > 1e-3
    by_block = np.bincount(np.array(at) // 8, minlength=8)
    assert by_block.min() > 200, "blocks are no trace of the order on disk"


class Spy:
    """An array that remembers which rows were asked for."""

    def __init__(self, array: np.ndarray):
        self.array, self.asked = array, []

    def take(self, rows: np.ndarray, axis: int) -> np.ndarray:
        self.asked.append(rows)
        return self.array.take(rows, axis=axis)


def test_a_large_store_is_read_in_long_runs(store: ReadStore) -> None:
    spies = {name: Spy(getattr(store, name)) for name in ("bases", "unknown", "lengths", "labels")}
    with small(50, 200):
        found = list(batches(SimpleNamespace(**spies), np.arange(N_READS), 20, 3, 0))
    for name, spy in spies.items():
        assert len(spy.asked) == 4, f"{name}: once per window of 200 reads"
        for rows in spy.asked:
            assert len(rows) <= 200
            gaps = np.diff(rows)
            assert (gaps > 0).all(), "in the order on disk"
            assert (gaps > 1).sum() <= 5, "in blocks of 50 (and the parts of two at the window's ends)"
    # Yet a batch is made of reads from all over its window.
    rows_of = {read: row for row, read in enumerate(reads(store.batch(slice(None))))}
    blocks = [len({rows_of[read] // 50 for read in reads(batch)}) for batch in found]
    assert np.mean(blocks) > 3


def test_what_was_seen_is_not_read_again(store: ReadStore) -> None:
    spies = {name: Spy(getattr(store, name)) for name in ("bases", "unknown", "lengths", "labels")}
    with small(50, 200):
        found = list(batches(SimpleNamespace(**spies), np.arange(N_READS), 20, 3, 0, start=25))
    assert len(found) == 10 and len(spies["bases"].asked) == 2, "the last two of four windows"


def test_no_reads_no_batches(store: ReadStore) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert list(batches(store, nothing, 16, 1)) == []
    assert len(Loader(store, nothing, 16)) == 0 and list(Loader(store, nothing, 16)) == []


def test_items_come_in_order_and_only_a_few_in_advance() -> None:
    made = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    source = prefetch(items(), depth=4)
    assert list(islice(source, 10)) == list(range(10))
    assert len(made) <= 15
    assert list(source) == list(range(10, 100))
    assert list(prefetch(iter([]))) == []


def test_errors_of_the_background_are_raised_in_front() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    source = prefetch(items())
    assert next(source) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(source)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    source = prefetch(iter(range(1000)), depth=3)
    next(source)
    assert threading.active_count() == before + 1
    source.close()
    assert threading.active_count() == before


def of_epoch(tensors: list[tuple[torch.Tensor, ...]]) -> list[list[bytes]]:
    return [reads(Batch(*(part.numpy() for part in batch))) for batch in tensors]


def test_each_pass_of_the_loader_is_the_next_epoch(store: ReadStore) -> None:
    rows = np.arange(100, 400)
    made = Loader(store, rows, 32, seed=5)
    assert len(made) == 10
    # Lightning takes as many batches as there are, and does not wait for the end of the iteration.
    passes = [of_epoch(list(islice(made, len(made)))) for _ in range(3)]
    assert passes == [listed(batches(store, rows, 32, 5, epoch)) for epoch in range(3)]
    for first, second in pairwise(passes):
        assert first != second and sorted(chain(*first)) == sorted(chain(*second))
    codes, lengths, labels = next(iter(made))
    assert codes.dtype == torch.uint8 and lengths.dtype == labels.dtype == torch.int64
    assert codes.is_contiguous() and made.waited > 0


def test_the_loader_goes_on_from_its_state(store: ReadStore) -> None:
    rows = np.arange(300)
    first = Loader(store, rows, 32, seed=5)
    list(islice(first, len(first)))
    list(islice(first, 4))
    second = Loader(store, rows, 32, seed=5)
    second.load_state_dict(first.state_dict())
    assert first.state_dict() == {"epoch": 1, "done": 4}
    whole = listed(batches(store, rows, 32, 5, epoch=1))
    assert of_epoch(list(islice(second, 6))) == whole[4:]
    assert of_epoch(list(islice(second, 10))) == listed(batches(store, rows, 32, 5, epoch=2))


def test_the_same_order_for_validation(store: ReadStore, tmp_path: Path) -> None:
    made = Loader(store, np.arange(100), 30)
    assert of_epoch(list(made)) == of_epoch(list(made)) == listed(batches(store, np.arange(100), 30))
