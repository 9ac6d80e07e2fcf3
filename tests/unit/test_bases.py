"""Reads as numbers, against the same done with strings of letters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.reads.bases import (
    MAX_K,
    PAD,
    N,
    canonical,
    decode,
    encode,
    hashes,
    kmers,
    pack,
    reverse_complement,
    unpack,
)

READ = st.text("ACGTN", min_size=0, max_size=40)
READS = st.lists(READ, min_size=1, max_size=8)
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def other_strand(read: str) -> str:
    return read.translate(COMPLEMENT)[::-1]


def coded(reads: list[str], width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    codes, lengths, _ = encode([read.encode() for read in reads], width or max(1, *map(len, reads), 1))
    return codes, lengths


@given(READS)
@settings(deadline=None)
def test_letters_come_back(reads):
    codes, lengths = coded(reads)
    assert decode(codes) == reads
    assert lengths.tolist() == [len(read) for read in reads]
    assert codes.dtype == np.uint8
    assert (codes[np.arange(codes.shape[1]) >= lengths[:, None]] == PAD).all()


def test_letters_that_are_not_plain_bases():
    """Case and U do not matter, ambiguity codes are N, and what is no base at all is N and is told."""
    reads = [b"acgtuACGTU", b"RYSWKMBDHVN", b"ryswkmbdhvn", b"AC-GT", b"", b"AC GT", b"ACGT", b"A\xffG"]
    codes, lengths, foreign = encode(reads, 11)
    plain = ["ACGTTACGTT", "N" * 11, "N" * 11, "ACNGT", "", "ACNGT", "ACGT", "ANG"]
    assert decode(codes) == plain
    assert lengths.tolist() == list(map(len, plain))
    assert foreign.tolist() == [False, False, False, True, False, True, False, True]


def test_what_is_beyond_the_width_is_cut_off():
    codes, lengths, foreign = encode([b"ACGTACGT", b"AC", b"ACG*"], 3)
    assert decode(codes) == ["ACG", "AC", "ACG"]
    assert lengths.tolist() == [3, 2, 3]
    assert foreign.tolist() == [False, False, True]


def test_no_reads_at_all():
    codes, lengths, foreign = encode([], 7)
    assert codes.shape == (0, 7)
    assert len(lengths) == len(foreign) == len(hashes(codes)) == 0


@given(READS, st.integers(0, 9))
@settings(deadline=None)
def test_other_strand(reads, wider):
    """As with letters, left-aligned; and its other strand is the read again."""
    codes, lengths = coded(reads, max(map(len, reads)) + 1 + wider)
    turned = reverse_complement(codes, lengths)
    assert decode(turned) == [other_strand(read) for read in reads]
    np.testing.assert_array_equal(reverse_complement(turned, lengths), codes)


@given(READS)
@settings(deadline=None, max_examples=200)
def test_canonical_is_the_smaller_strand(reads):
    codes, lengths = coded(reads)
    order = str.maketrans("ACGTN", "01234")
    smaller = [min(read, other_strand(read), key=lambda s: s.translate(order)) for read in reads]
    found = canonical(codes, lengths)
    assert decode(found) == smaller
    np.testing.assert_array_equal(canonical(reverse_complement(codes, lengths), lengths), found)
    np.testing.assert_array_equal(canonical(found, lengths), found)


def test_canonical_of_reads_that_differ_late():
    """The first difference between the strands stands just before the middle; and palindromes stay."""
    reads = ["AAAACTTTT", "AAAAGTTTT", "ACGT", "AACCGGTT", "ACGAACGT"]
    codes, lengths = coded(reads)
    assert decode(canonical(codes, lengths)) == ["AAAACTTTT", "AAAACTTTT", "ACGT", "AACCGGTT", "ACGAACGT"]


@given(READS, st.integers(0, 9))
@settings(deadline=None)
def test_packing_loses_nothing(reads, wider):
    codes, lengths = coded(reads, max(map(len, reads)) + 1 + wider)
    width = codes.shape[1]
    bases, unknown = pack(codes)
    assert bases.shape == (len(reads), -(-width // 4))
    assert unknown.shape == (len(reads), -(-width // 8))
    np.testing.assert_array_equal(unpack(bases, unknown, lengths, width), codes)
    longest = max(1, int(lengths.max()))
    np.testing.assert_array_equal(unpack(bases, unknown, lengths, longest), codes[:, :longest])


def splitmix_hash(read: str) -> int:
    """The hash in plain Python numbers."""
    codes = ["ACGTN".index(base) for base in read]
    codes += [PAD] * (-len(codes) % 8)
    state, limit = 0x9E3779B97F4A7C15, 1 << 64
    for start in range(0, len(codes), 8):
        word = sum(code << 8 * i for i, code in enumerate(codes[start : start + 8]))
        x = state * 0xD1B54A32D192ED03 % limit ^ word
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % limit
        x = (x ^ x >> 27) * 0x94D049BB133111EB % limit
        state = x ^ x >> 31
    return state


@given(READS, st.integers(0, 20))
@settings(deadline=None)
def test_hash(reads, wider):
    """The same in a wider array, in another order, and in plain Python."""
    narrow = hashes(coded(reads)[0])
    wide = hashes(coded(reads[::-1], max(map(len, reads)) + 1 + wider)[0])[::-1]
    np.testing.assert_array_equal(narrow, wide)
    assert narrow.tolist() == [splitmix_hash(read) for read in reads]


def test_hashes_of_similar_reads_differ():
    """All reads of up to 5 bases, and of 60 bases with one or two changed: no two share a hash, and bits are even."""
    short = ["".join("ACGTN"[i // 5**d % 5] for d in range(n)) for n in range(6) for i in range(5**n)]
    base = "ACGTTGCAAC" * 6
    long = [base[:i] + c + base[i + 1 :] for i in range(60) for c in "ACGTN" if c != base[i]]
    long += [base[:i] + "N" + base[i + 1 : j] + "N" + base[j + 1 :] for i in range(60) for j in range(i + 1, 60)]
    found = hashes(coded([*short, *long, base])[0])
    assert len(np.unique(found)) == len(short) + len(long) + 1
    bits = np.unpackbits(found.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    # Standard error 0.5 / sqrt(5,900) = 0.0065.
    assert abs(bits - 0.5).max() < 0.033


@given(READS, st.integers(1, MAX_K))
@settings(deadline=None, max_examples=150)
def test_kmers(reads, k):
    codes, _ = coded(reads)
    words, valid = kmers(codes, k)
    assert words.shape == valid.shape == (len(reads), max(codes.shape[1] - k + 1, 0))
    for read, found, known in zip(reads, words, valid, strict=True):
        for start in range(len(found)):
            piece = read[start : start + k]
            assert known[start] == (len(piece) == k and "N" not in piece)
            if known[start]:
                smaller = min(piece, other_strand(piece))
                assert int(found[start]) == int(smaller.translate(str.maketrans("ACGT", "0123")), 4)


def test_kmers_need_a_sensible_k():
    codes = np.zeros((1, 40), dtype=np.uint8)
    for k in (0, MAX_K + 1):
        with pytest.raises(ValueError, match="between 1 and 31"):
            kmers(codes, k)
    assert N > 3
