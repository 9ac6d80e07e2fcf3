"""Which reads train, which validate and which test: nothing that belongs together is divided between training and test.

Reads with a unit (a source, a region of a genome) follow their unit; the others follow the hash of their bases.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from latentomics.reads.bases import mix
from latentomics.reads.store import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from latentomics.config.classifier import Split

#: Stands for the unit of reads that are divided by their own bases; sorts after every other.
NO_UNIT = np.uint64(2**64 - 1)


def word(seed: int, name: str) -> int:
    """A 64-bit hash of a name, the same on every machine; another seed shuffles the names anew."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "little")


class Divider:
    """See all reads, in any number of calls, then say of each in which split it is.

    Parameters
    ----------
    split
        The shares. With ``test_sources`` these are the test, and the share for validation is one of the other reads.
    n_classes
        Labels are below this.
    seed
        Another seed gives another division.
    """

    def __init__(self, split: Split, n_classes: int, seed: int):
        test = 0.0 if split.test_sources else split.test
        #: Shares of training, validation and test, in the order of their numbers.
        self.shares = np.array([1 - split.validation - test, split.validation, test])
        self.n_classes = n_classes
        self._seed = np.uint64(word(seed, "sequences"))
        self._single: list[tuple[np.ndarray, np.ndarray]] = []
        self._grouped: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def see(self, hashes: np.ndarray, units: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> None:
        """Take note of reads.

        Parameters
        ----------
        hashes, units
            Of the reads' bases, all different, and of what must not be divided (or :data:`NO_UNIT`); uint64, (n,).
        labels
            Integers, (n,).
        held_out
            Whether the read is of one of ``test_sources``, bool, (n,).
        """
        single = ~held_out & (units == NO_UNIT)
        self._single.append((mix(hashes[single] ^ self._seed), labels[single]))
        grouped = ~held_out & (units != NO_UNIT)
        self._grouped.append(_count(units[grouped], labels[grouped], np.ones(grouped.sum(), dtype=np.int64)))

    def divide(self) -> None:
        """Decide, once all reads were seen."""
        self.thresholds = np.zeros((2, self.n_classes), dtype=np.uint64)
        for label in range(self.n_classes):
            values = np.concatenate([v[of == label] for v, of in self._single] or [np.zeros(0, np.uint64)])
            self.thresholds[:, label] = _thresholds(values, self.shares)
        single = sum((np.bincount(of, minlength=self.n_classes) for _, of in self._single), np.zeros(self.n_classes))
        units, labels, n = _count(*(np.concatenate(c) for c in zip(*self._grouped, strict=True)))
        self.units, rows = np.unique(units, return_inverse=True)
        self.unit_counts = np.zeros((len(self.units), self.n_classes), dtype=np.int64)
        self.unit_counts[rows, labels] = n
        self.assigned = assign_units(self.unit_counts, self.shares)
        #: Classes whose units are too few for validation: it gets some reads of their training units instead.
        self.by_sequence = (self.unit_counts.sum(axis=0) > 0) & (single == 0)
        self.by_sequence &= self.unit_counts[self.assigned == VALIDATION].sum(axis=0) == 0
        self._single, self._grouped = [], []

    def splits(self, hashes: np.ndarray, units: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        """The split of reads that were seen, uint8, (n,); parameters as of :meth:`see`."""
        value = mix(hashes ^ self._seed)
        test_below, validation_below = self.thresholds[:, labels]
        result = np.full(len(hashes), TRAIN, dtype=np.uint8)
        result[value < validation_below] = VALIDATION
        result[value < test_below] = TEST
        grouped = ~held_out & (units != NO_UNIT)
        result[grouped] = self.assigned[np.searchsorted(self.units, units[grouped])]
        share = self.shares[VALIDATION] / (self.shares[VALIDATION] + self.shares[TRAIN])
        borrowed = grouped & (result == TRAIN) & self.by_sequence[labels] & (value < np.uint64(share * 2**64))
        result[borrowed] = VALIDATION
        result[held_out] = TEST
        return result


def assign_units(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """A split for each unit.

    One after the other, each unit goes where it makes the squared distance of the classes' shares from those wanted
    smallest. Then a class that lacks a split is given its smallest unit that can be spared: training and test come
    first, so that a class with two units has both, and one with three has all.

    Parameters
    ----------
    counts
        Reads per unit and class, int, (units, classes); the units in random order.
    shares
        Wanted of each split, (3,); a split of share 0 gets nothing.

    Returns
    -------
    numpy.ndarray
        uint8, (units,).
    """
    wanted = np.flatnonzero(shares)
    part = counts / np.maximum(counts.sum(axis=0), 1)
    missing = np.repeat(shares[wanted, None], counts.shape[1], axis=1)
    assigned = np.zeros(len(counts), dtype=np.uint8)
    for unit, row in enumerate(part):
        best = int(np.argmax(missing @ row))
        missing[best] -= row
        assigned[unit] = wanted[best]
    has = counts > 0
    size = counts.sum(axis=1)
    for split in (TRAIN, TEST, VALIDATION):
        for label in np.flatnonzero(has.any(axis=0)) if shares[split] else ():
            members = np.stack([has[assigned == s].sum(axis=0) for s in range(3)])
            if members[split, label]:
                continue
            spare = members > 1
            # Validation can do with reads of training units, the others cannot.
            spare[VALIDATION] |= split != VALIDATION
            able = np.flatnonzero(has[:, label] & ~(has & ~spare[assigned]).any(axis=1))
            if len(able):
                assigned[able[np.argmin(size[able])]] = split
    return assigned


def _thresholds(values: np.ndarray, shares: np.ndarray) -> tuple[int, int]:
    """Values below the first are test, the others below the second validation: of each as many as its share."""
    n = len(values)
    test = min(max(round(shares[TEST] * n), 1), n - 1) if shares[TEST] and n else 0
    validation = min(max(round(shares[VALIDATION] * n), 1), n - 1 - test) if n else 0
    if not n:
        return 0, 0
    # One of the reads is always left for training, so that both are numbers of a read.
    values.partition([test, test + validation])
    return int(values[test]), int(values[test + validation])


def _count(units: np.ndarray, labels: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct pairs of unit and label, ascending, and the sum of ``n`` over each."""
    order = np.lexsort((labels, units))
    units, labels, n = units[order], labels[order], n[order]
    first = np.ones(len(units), dtype=bool)
    first[1:] = (units[1:] != units[:-1]) | (labels[1:] != labels[:-1])
    first = np.flatnonzero(first)
    return units[first], labels[first], np.add.reduceat(n, first) if len(first) else n
