"""The read store gives back what was written, however it was cut."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.reads.bases import encode
from latentomics.reads.store import SPLITS, TEST, TRAIN, VALIDATION, ReadStore, ReadStoreWriter

READS = st.lists(
    st.tuples(st.text("ACGTN", min_size=1, max_size=21), st.integers(0, 2), st.integers(0, 300), st.integers(0, 2)),
    min_size=1,
    max_size=20,
)
NAMES = {"classes": ["a", "b", "c"], "sources": [f"s{i}" for i in range(301)]}


def arrays(reads, width):
    codes, lengths, _ = encode([read.encode() for read, *_ in reads], width)
    return codes, lengths, *(np.array([read[i] for read in reads]) for i in (1, 2, 3))


def write(folder: Path, reads, cuts=(), facts=None) -> ReadStore:
    width = max(len(read) for read, *_ in reads)
    writer = ReadStoreWriter(folder, len(reads), width)
    edges = [0, *sorted(cuts), len(reads)]
    for start, stop in pairwise(edges):
        if start < stop:
            part = reads[start:stop]
            writer.append(*arrays(part, max(len(read) for read, *_ in part)))
    writer.close(**NAMES, facts=facts or {})
    return ReadStore(folder)


@given(READS, st.data())
@settings(deadline=None, max_examples=50)
def test_round_trip(reads, data):
    cuts = data.draw(st.lists(st.integers(0, len(reads)), max_size=3))
    with tempfile.TemporaryDirectory() as name:
        store = write(Path(name) / "store", reads, cuts)
        codes, lengths, labels, sources, splits = arrays(reads, store.width)
        assert len(store) == len(reads)
        np.testing.assert_array_equal(store.codes(slice(None)), codes)
        np.testing.assert_array_equal(store.lengths, lengths)
        np.testing.assert_array_equal(store.labels, labels)
        np.testing.assert_array_equal(store.sources, sources)
        np.testing.assert_array_equal(store.splits, splits)
        rows = np.array(data.draw(st.lists(st.integers(0, len(reads) - 1), min_size=1, max_size=9)))
        batch = store.batch(rows)
        assert batch.codes.shape[1] == lengths[rows].max()
        np.testing.assert_array_equal(batch.codes, codes[rows, : batch.codes.shape[1]])
        np.testing.assert_array_equal(batch.lengths, lengths[rows])
        np.testing.assert_array_equal(batch.labels, labels[rows])
        assert batch.lengths.dtype == batch.labels.dtype == np.int64


def test_counts_and_rows(tmp_path):
    reads = [("ACGT", 0, 0, TRAIN), ("AC", 2, 1, TEST), ("A", 1, 1, TRAIN), ("AG", 1, 0, VALIDATION), ("T", 2, 0, TEST)]
    store = write(tmp_path / "store", reads, facts={"unit": "source"})
    assert store.counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 2]]
    assert [store.rows(split).tolist() for split in range(len(SPLITS))] == [[0, 2], [3], [1, 4]]
    assert (store.classes, store.width, store.facts["unit"]) == (["a", "b", "c"], 4, "source")


def test_size_on_disk_and_no_pickle(tmp_path):
    """41 bytes for a read of 90 bases, of which 13 million have to fit 0.6 GB; arrays open without pickle."""
    n = 1000
    codes, lengths, _ = encode([b"ACGTN" * 18] * n, 90)
    writer = ReadStoreWriter(tmp_path, n, 90)
    writer.append(codes, lengths, *np.zeros((3, n), dtype=int))
    writer.close(["a", "b"], ["s"], {})
    files = list(tmp_path.glob("*.npy"))
    assert len(files) == 6
    assert sum(np.load(file, allow_pickle=False).nbytes for file in files) == 41 * n
    assert 41 * 13e6 < 0.6e9


def test_a_store_that_is_not_full_is_not_closed(tmp_path):
    writer = ReadStoreWriter(tmp_path, 3, 4)
    writer.append(*arrays([("ACGT", 0, 0, 0)], 4))
    with pytest.raises(ValueError, match="1 of 3 reads"):
        writer.close(["a", "b"], ["s"], {})
    assert not (tmp_path / "data.json").exists()


def test_facts_do_not_overrule_what_the_arrays_say(tmp_path):
    store = write(tmp_path / "store", [("ACGT", 0, 0, 0)], facts={"width": 99, "reads": 99, "classes": []})
    assert json.loads((store.path / "data.json").read_text())["reads"] == 1
    assert store.width == 4


def test_no_rows_asked(tmp_path):
    """A class without test reads, a sample without reads: nothing to unpack is no fault."""
    store = write(tmp_path / "store", [("ACGT", 0, 0, TRAIN)])
    assert store.codes(store.rows(TEST)).shape == (0, 4)
    assert store.batch(store.rows(TEST)).codes.shape[0] == 0
