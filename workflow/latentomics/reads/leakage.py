"""Does the test know something of the training? Equal reads and near-duplicates on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from latentomics.reads.bases import MAX_K, canonical, hashes, kmers, mix
from latentomics.reads.store import TEST, TRAIN, ReadStore

#: Reads are looked at in blocks of about this many bases, which bounds memory.
_BASES = 1 << 20
#: Bits of the hash by which most k-mers of the training reads are told apart from those of the test at once.
_SIEVE = 24


def leakage(
    store: ReadStore, k: int = MAX_K, n_test: int = 2000, max_train: int = 2_000_000, seed: int = 0
) -> dict[str, Any]:
    """Share of the test reads that have a canonical k-mer in common with a training read.

    Overlapping reads of one genome share one; two reads of unrelated origin hardly ever do at k = 31.

    Parameters
    ----------
    k
        Length of the words (bases), at most 31. Lowered to the length that nine of ten test reads have where that is less.
    n_test, max_train
        Most test reads that are judged, and most training reads they are compared with, drawn at random; with fewer
        training reads than there are the share is a lower bound.

    Returns
    -------
    dict
        ``k``, as used; ``tested``, the test reads with at least one k-mer of known bases; ``shared``, those of them found
        in training, and ``share``, shared / tested; ``compared``, the training reads; ``chance``, the share to expect of
        random sequences, which says whether a lowered ``k`` still tells anything.
    """
    random = np.random.default_rng(seed)
    test = _drawn(store.rows(TEST), n_test, random)
    train = _drawn(store.rows(TRAIN), max_train, random)
    if len(test):
        k = min(k, int(np.quantile(store.lengths[test], 0.1, method="lower")))
    words, valid = kmers(store.codes(test), k)
    read = np.nonzero(valid)[0]
    known, which = np.unique(words[valid], return_inverse=True)
    sieve = np.zeros(1 << _SIEVE, dtype=bool)
    sieve[_sieved(known)] = True
    found = np.zeros(len(known) + 1, dtype=bool)
    n_words = 0
    for rows in _blocks(len(train), store.width):
        words, valid = kmers(store.codes(train[rows]), k)
        words = words[valid]
        n_words += len(words)
        words = words[sieve[_sieved(words)]]
        place = np.searchsorted(known, words)
        inside = place < len(known)
        found[place[inside][known[place[inside]] == words[inside]]] = True
    shared = int((np.bincount(read, weights=found[which], minlength=len(test)) > 0).sum())
    tested = len(np.unique(read))
    per_read = len(read) / max(tested, 1)
    return {
        "k": k,
        "tested": tested,
        "shared": shared,
        "share": shared / max(tested, 1),
        "compared": len(train),
        # Half of the 4^k words are canonical.
        "chance": float(-np.expm1(-per_read * n_words / (4.0**k / 2))),
    }


def check_split(store: ReadStore) -> int:
    """Number of sequences, either strand, that have reads in more than one split: 0 of a store that is sound."""
    keys = np.empty(len(store), dtype=np.uint64)
    for rows in _blocks(len(store), store.width):
        hashed = hashes(canonical(store.codes(rows), store.lengths[rows].astype(np.int64)))
        # The split takes the place of the hash's last two bits, so that one sort in place brings both together.
        keys[rows] = hashed >> np.uint64(2) << np.uint64(2) | store.splits[rows]
    keys.sort()
    differ = keys[1:] ^ keys[:-1]
    crossing = (differ > 0) & (differ < 4)
    return len(np.unique(keys[1:][crossing] >> np.uint64(2)))


def _drawn(rows: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """At most ``n`` of the rows, ascending."""
    return rows if len(rows) <= n else np.sort(random.choice(rows, n, replace=False))


def _blocks(n: int, width: int) -> Iterator[slice]:
    size = max(_BASES // width, 1)
    return (slice(start, start + size) for start in range(0, n, size))


def _sieved(words: np.ndarray) -> np.ndarray:
    return (mix(words) >> np.uint64(64 - _SIEVE)).astype(np.int64)
