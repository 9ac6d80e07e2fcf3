"""Units go whole into one split, the classes' shares are met as well as units allow, and no class is left without."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config.classifier import Split
from latentomics.reads.split import NO_UNIT, Divider, assign_units, word
from latentomics.reads.store import TEST, TRAIN, VALIDATION

SHARES = np.array([0.7, 0.1, 0.2])


def column(*sizes: int) -> np.ndarray:
    return np.array(sizes)[:, None]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10], [TRAIN]),
        ([10, 90], [TEST, TRAIN]),
        ([90, 10], [TRAIN, TEST]),
        ([5, 90, 6], [VALIDATION, TRAIN, TEST]),
        ([40, 30, 20, 5, 5], [TRAIN, TRAIN, TEST, VALIDATION, VALIDATION]),
    ],
)
def test_a_few_units(sizes, expected):
    """Worked out by hand: the largest unit trains, and every split that can have one has one."""
    assert assign_units(column(*sizes), SHARES).tolist() == expected


def test_three_equal_units_give_each_split_one():
    assert sorted(assign_units(column(7, 7, 7), SHARES).tolist()) == [TRAIN, VALIDATION, TEST]


def test_many_units_meet_the_shares():
    random = np.random.default_rng(0)
    counts = np.zeros((3000, 4), dtype=np.int64)
    counts[np.arange(3000), random.integers(0, 4, 3000)] = random.lognormal(4, 1, 3000).astype(int) + 1
    assigned = assign_units(counts, SHARES)
    for split in range(3):
        found = counts[assigned == split].sum(axis=0) / counts.sum(axis=0)
        np.testing.assert_allclose(found, SHARES[split], atol=(counts.max(axis=0) / counts.sum(axis=0)).max())
    # No bias towards large units: the median unit of each split is about the same.
    medians = [np.median(counts.sum(axis=1)[assigned == split]) for split in range(3)]
    assert max(medians) < 1.5 * min(medians)


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=6), min_size=1, max_size=5), st.randoms())
@settings(deadline=None, max_examples=200)
def test_every_class_has_what_its_units_allow(classes, random):
    """Classes with units of their own: one unit trains, two train and test, three and more have all three splits."""
    units = [(label, size) for label, sizes in enumerate(classes) for size in sizes]
    random.shuffle(units)
    counts = np.zeros((len(units), len(classes)), dtype=np.int64)
    for row, (label, size) in enumerate(units):
        counts[row, label] = size
    assigned = assign_units(counts, SHARES)
    for label, sizes in enumerate(classes):
        expected = [{TRAIN}, {TRAIN, TEST}, {TRAIN, TEST, VALIDATION}][min(len(sizes), 3) - 1]
        assert set(assigned[counts[:, label] > 0]) == expected
    alone = assign_units(counts, np.array([0.9, 0.1, 0]))
    assert TEST not in alone
    for label, sizes in enumerate(classes):
        assert TRAIN in alone[counts[:, label] > 0]
        assert len(sizes) == 1 or VALIDATION in alone[counts[:, label] > 0]


def test_units_of_several_classes():
    """Samples that hold all classes: three samples, one for each split; classes of very different size count alike."""
    counts = np.array([[1000, 10, 3]] * 3)
    assert sorted(assign_units(counts, SHARES).tolist()) == [TRAIN, VALIDATION, TEST]
    random = np.random.default_rng(1)
    counts = random.poisson([1000, 100, 10], (200, 3))
    assigned = assign_units(counts, SHARES)
    for split in range(3):
        np.testing.assert_allclose(counts[assigned == split].sum(axis=0) / counts.sum(axis=0), SHARES[split], atol=0.01)


def divided(split: Split, hashes, units, labels, held_out=None, seed=0) -> np.ndarray:
    held_out = np.zeros(len(hashes), dtype=bool) if held_out is None else held_out
    divider = Divider(split, int(labels.max()) + 1, seed)
    for part in np.array_split(np.arange(len(hashes)), 3):
        divider.see(hashes[part], units[part], labels[part], held_out[part])
    divider.divide()
    return divider.splits(hashes, units, labels, held_out)


def reads(n: int, n_classes: int, seed: int = 0):
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, n, dtype=np.uint64)
    return hashes, np.full(n, NO_UNIT), random.integers(0, n_classes, n)


def test_reads_without_units_meet_the_shares_exactly():
    hashes, units, labels = reads(1000, 3)
    splits = divided(Split(), hashes, units, labels)
    for label in range(3):
        n = (labels == label).sum()
        assert (splits[labels == label] == TEST).sum() == round(0.2 * n)
        assert (splits[labels == label] == VALIDATION).sum() == round(0.1 * n)
    other = divided(Split(), hashes, units, labels, seed=1)
    assert 0.3 < (splits == other).mean() < 0.75


@pytest.mark.parametrize(("n", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (5, [3, 1, 1])])
def test_small_classes_without_units(n, expected):
    hashes, units, _ = reads(n, 1)
    splits = divided(Split(), hashes, units, np.zeros(n, dtype=int))
    assert np.bincount(splits, minlength=3).tolist() == expected
    greedy = divided(Split(test=0.7, validation=0.2), hashes, units, np.zeros(n, dtype=int))
    assert (greedy == TRAIN).sum() >= 1


def test_new_reads_leave_most_others_where_they_were():
    hashes, units, labels = reads(4000, 2)
    before = divided(Split(), hashes[:3600], units[:3600], labels[:3600])
    after = divided(Split(), hashes, units, labels)[:3600]
    assert (before == after).mean() > 0.95


def test_a_class_of_two_units_borrows_validation_from_training():
    """The test stays apart; validation takes its share of the reads of the training unit."""
    hashes, units, labels = reads(4000, 2)
    which = np.arange(4000) % 2
    units = np.array([[word(0, f"{label} {unit}") for unit in range(2)] for label in range(2)], np.uint64)[
        labels, which
    ]
    splits = divided(Split(), hashes, units, labels)
    for label in range(2):
        of_unit = [splits[(labels == label) & (which == unit)] for unit in range(2)]
        kinds = sorted((sorted(set(part.tolist())) for part in of_unit), key=len)
        assert kinds == [[TEST], [TRAIN, VALIDATION]]
        part = max(of_unit, key=lambda part: len(set(part.tolist())))
        assert (part == VALIDATION).mean() == pytest.approx(0.1 / 0.8, abs=0.05)


def test_held_out_reads_are_the_test_and_nothing_else_is():
    hashes, units, labels = reads(3000, 3)
    units[::2] = np.array([word(0, str(i)) for i in range(60)], np.uint64)[np.arange(1500) % 60]
    held_out = np.isin(units, np.unique(units)[:10]) | (np.arange(3000) % 30 == 1)
    splits = divided(Split(test_sources=["x"]), hashes, units, labels, held_out)
    np.testing.assert_array_equal(splits == TEST, held_out)
    assert (splits[~held_out] == VALIDATION).mean() == pytest.approx(0.1, abs=0.01)
    for unit in np.unique(units[units != NO_UNIT]):
        assert len(set(splits[units == unit])) == 1


def test_words_are_the_same_everywhere():
    assert word(0, "a") == int.from_bytes(blake2b(b"0\0a", digest_size=8).digest(), "little")
    assert len({word(seed, name) for seed in range(30) for name in ("a", "b", "1", "")}) == 120
