"""Leakage across a split is found: planted reverse complements, overlapping reads; and none is found where there is none."""

from pathlib import Path

import numpy as np
import pytest

from latentomics.reads.bases import encode, reverse_complement
from latentomics.reads.leakage import check_split, leakage
from latentomics.reads.store import TEST, TRAIN, VALIDATION, ReadStore, ReadStoreWriter

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def other_strand(read: str) -> str:
    return read.translate(COMPLEMENT)[::-1]


def random_reads(n: int, length: int, random, letters: str = "ACGT") -> list[str]:
    return ["".join(row) for row in random.choice(list(letters), (n, length))]


def store_of(folder: Path, reads: dict[int, list[str]]) -> ReadStore:
    """A store with these reads in these splits, whatever their form."""
    splits = np.repeat(list(reads), [len(part) for part in reads.values()])
    codes, lengths, _ = encode([read.encode() for part in reads.values() for read in part], 90)
    order = np.random.default_rng(0).permutation(len(codes))
    writer = ReadStoreWriter(folder, len(codes), 90)
    writer.append(codes[order], lengths[order], order % 2, order * 0, splits[order])
    writer.close(["a", "b"], ["s"], {})
    return ReadStore(folder)


def test_injected_reverse_complements_are_caught(tmp_path):
    """What published notebooks do: reverse complements are added, then the reads are split."""
    random = np.random.default_rng(1)
    train, test = random_reads(600, 75, random), random_reads(200, 75, random)
    clean = store_of(tmp_path / "clean", {TRAIN: train, TEST: test})
    assert check_split(clean) == 0
    assert leakage(clean)["shared"] == 0
    leaky = store_of(tmp_path / "leaky", {TRAIN: train, TEST: test + [other_strand(read) for read in train[:50]]})
    assert check_split(leaky) == 50
    found = leakage(leaky)
    assert (found["k"], found["tested"], found["shared"], found["share"]) == (31, 250, 50, 0.2)
    assert found["compared"] == 600


def test_equal_reads_in_any_two_splits_count_once_each(tmp_path):
    random = np.random.default_rng(2)
    one, two, three, four = random_reads(4, 60, random)
    reads = {
        TRAIN: [one, one, two, four],
        VALIDATION: [other_strand(one), three],
        TEST: [one, other_strand(three), three[:-1], four[:-1] + "N"],
    }
    assert check_split(store_of(tmp_path / "store", reads)) == 2


def words(read: str, k: int) -> set[str]:
    pieces = {read[i : i + k] for i in range(len(read) - k + 1)}
    return {min(piece, other_strand(piece)) for piece in pieces if "N" not in piece}


@pytest.mark.parametrize("k", [5, 8, 12, 31])
def test_near_duplicates_against_sets_of_strings(tmp_path, k):
    """Overlapping reads of one sequence, with errors and unknown bases, some on the other strand."""
    random = np.random.default_rng(k)
    genome = "".join(random.choice(list("ACGT"), 3000))
    reads = []
    for start in random.integers(0, 2900, 400):
        read = list(genome[start : start + random.integers(31, 90)])
        for place in np.flatnonzero(random.random(len(read)) < 0.03):
            read[place] = random.choice(list("ACGTN"))
        reads.append(other_strand("".join(read)) if random.random() < 0.5 else "".join(read))
    train, test = reads[:250], [*reads[250:], "N" * 40]
    store = store_of(tmp_path / "store", {TRAIN: train, VALIDATION: reads[:3], TEST: test})
    known = set().union(*(words(read, k) for read in train))
    shared = sum(bool(words(read, k) & known) for read in test)
    found = leakage(store, k)
    assert (found["k"], found["shared"]) == (k, shared)
    assert found["tested"] == sum(bool(words(read, k)) for read in test)
    if k == 31:
        assert 20 < shared < found["tested"] - 5


def test_short_reads_have_shorter_words(tmp_path):
    """Nine of ten reads must have a word; the few that are shorter than it are not judged."""
    random = np.random.default_rng(3)
    test = random_reads(19, 24, random) + random_reads(1, 20, random)
    train = [*random_reads(30, 24, random), other_strand(test[0])]
    found = leakage(store_of(tmp_path / "store", {TRAIN: train, TEST: test}))
    assert (found["k"], found["tested"], found["shared"]) == (24, 19, 1)


def test_chance_is_what_random_sequences_share(tmp_path):
    random = np.random.default_rng(4)
    reads = random_reads(2000, 40, random)
    found = leakage(store_of(tmp_path / "store", {TRAIN: reads[:1000], TEST: reads[1000:]}), k=11)
    # 1,000 reads of 30 words against 30,000 words among half of 4^11: 35 %, within five standard errors.
    assert 0.3 < found["chance"] < 0.4
    assert found["share"] == pytest.approx(found["chance"], abs=5 * np.sqrt(0.35 * 0.65 / 1000))


def test_a_sample_is_drawn_by_the_seed(tmp_path):
    random = np.random.default_rng(5)
    train = random_reads(300, 50, random)
    test = random_reads(300, 50, random) + [other_strand(read) for read in train[:100]]
    store = store_of(tmp_path / "store", {TRAIN: train, TEST: test})
    found = [leakage(store, n_test=50, max_train=200, seed=seed) for seed in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len({(row["shared"]) for row in found}) > 1
    assert {(row["tested"], row["compared"]) for row in found} == {(50, 200)}


def test_blocks_do_not_matter(tmp_path, monkeypatch):
    random = np.random.default_rng(6)
    train = random_reads(100, 50, random)
    store = store_of(tmp_path / "store", {TRAIN: train, TEST: [other_strand(read) for read in train[::7]]})
    whole = leakage(store), check_split(store)
    monkeypatch.setattr("latentomics.reads.leakage._BASES", 7 * 90)
    assert (leakage(store), check_split(store)) == whole
    assert whole[1] == whole[0]["shared"] == 15


def test_reverse_complement_of_a_whole_store_is_the_same_store(tmp_path):
    """Strands do not count: turning any of the reads around changes no figure."""
    random = np.random.default_rng(7)
    reads = random_reads(60, 70, random) * 2
    store = store_of(tmp_path / "store", {TRAIN: reads[:80], TEST: reads[80:]})
    codes = store.codes(slice(None))
    turned = reverse_complement(codes, store.lengths)
    mixed = np.where((np.arange(len(codes)) % 3 == 0)[:, None], turned, codes)
    writer = ReadStoreWriter(tmp_path / "turned", len(codes), 90)
    writer.append(mixed, store.lengths, store.labels, store.sources, store.splits)
    writer.close(["a", "b"], ["s"], {})
    assert check_split(ReadStore(tmp_path / "turned")) == check_split(store) == 40
    assert leakage(ReadStore(tmp_path / "turned")) == leakage(store)
