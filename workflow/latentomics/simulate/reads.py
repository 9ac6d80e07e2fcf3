"""Shotgun reads as an Illumina machine with two-colour chemistry writes them.

Qualities take the four values of current instruments (2, 12, 23 and 37), and a base is wrong with the probability that its
quality states. A fragment shorter than the read is read through into the adapter; beyond the adapter's end the machine
sees no light, which two-colour chemistry calls as G.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentomics.simulate.genomes import BASES, CODES, substitute

#: Illumina TruSeq: what the first and the second read run into.
ADAPTER_1 = b"AGATCGGAAGAGCACACGTCTGAACTCCAGTCA"
ADAPTER_2 = b"AGATCGGAAGAGCGTCGTGTAGGGAAAGAGTGT"
#: Fragments below this length are lost in library preparation (bases).
SHORTEST_INSERT = 20
#: Bounds of the mean error rate that the quality values can express.
ERROR_RATES = (0.0005, 0.015)
_COMPLEMENT = np.full(256, ord("N"), dtype=np.uint8)
_COMPLEMENT[BASES] = BASES[::-1]
_UPPER = np.full(256, ord("N"), dtype=np.uint8)
for _letters in (b"ACGT", b"acgt"):
    _UPPER[np.frombuffer(_letters, dtype=np.uint8)] = BASES


class ReadPairs(NamedTuple):
    """Pairs of reads, row by row.

    Attributes
    ----------
    reads_1, reads_2
        ASCII letters, (pairs, length) uint8.
    quals_1, quals_2
        Phred qualities, (pairs, length) uint8.
    start
        First base of the fragment in the genome, 0-based, (pairs,).
    insert
        Length of the fragment (bases), (pairs,).
    reverse
        True where the first read is of the reverse strand, (pairs,).
    """

    reads_1: np.ndarray
    reads_2: np.ndarray
    quals_1: np.ndarray
    quals_2: np.ndarray
    start: np.ndarray
    insert: np.ndarray
    reverse: np.ndarray


def simulate_pairs(
    genome: str | bytes | np.ndarray,
    n_pairs: int,
    rng: np.random.Generator,
    length: int = 150,
    insert_mean: float = 300.0,
    insert_sd: float = 60.0,
    error_rate: float = 0.004,
) -> ReadPairs:
    """Simulate pairs of one linear sequence, all of its fragments equally likely.

    Parameters
    ----------
    genome
        The sequence; letters other than A, C, G and T become N. uint8 arrays hold ASCII.
    n_pairs
        Pairs. Memory peaks at about ``15 * n_pairs * length`` bytes: draw millions in blocks.
    length
        Bases of each read.
    insert_mean, insert_sd
        Normal length of the fragments (bases), clipped to ``SHORTEST_INSERT`` and the genome's length.
    error_rate
        Mean probability of a substitution per base; rises along the read from half of it to half as much again.

    Returns
    -------
    ReadPairs

    Raises
    ------
    ValueError
        When a value is out of range; says which.
    """
    sequence = np.frombuffer(genome.encode() if isinstance(genome, str) else genome, dtype=np.uint8)
    checks = {
        f"the genome must have at least {SHORTEST_INSERT} bases": sequence.size >= SHORTEST_INSERT,
        "n_pairs must not be negative": n_pairs >= 0,
        "length must be at least 1": length >= 1,
        "insert_mean must be positive and insert_sd not negative": insert_mean > 0 and insert_sd >= 0,
        f"error_rate must lie between {ERROR_RATES[0]} and {ERROR_RATES[1]}": ERROR_RATES[0]
        <= error_rate
        <= ERROR_RATES[1],
    }
    failed = [rule for rule, holds in checks.items() if not holds]
    if failed:
        raise ValueError("; ".join(failed))
    sequence = _UPPER[sequence]
    size = sequence.size
    insert = np.rint(rng.normal(insert_mean, insert_sd, n_pairs)).astype(np.int64)
    insert = np.clip(insert, SHORTEST_INSERT, size)
    start = (rng.random(n_pairs) * (size - insert + 1)).astype(np.int64)
    reverse = rng.random(n_pairs) < 0.5

    # Both strands one after the other: a read is a window that begins at its fragment's 5' end.
    gap = np.full(length, ord("N"), dtype=np.uint8)
    strands = np.concatenate([sequence, gap, _COMPLEMENT[sequence[::-1]], gap])
    windows = np.lib.stride_tricks.sliding_window_view(strands, length)
    forward_end, reverse_end = start, size + length + (size - start - insert)
    both = []
    for ends, adapter in (
        (np.where(reverse, reverse_end, forward_end), ADAPTER_1),
        (np.where(reverse, forward_end, reverse_end), ADAPTER_2),
    ):
        both.append(_sequence(_read_through(windows[ends], insert, adapter), error_rate, rng))
    (reads_1, quals_1), (reads_2, quals_2) = both
    return ReadPairs(reads_1, reads_2, quals_1, quals_2, start, insert, reverse)


def error_probability(quality: np.ndarray) -> np.ndarray:
    """Probability that a base of this Phred quality is wrong, ``10 ** (-Q / 10)``; float32, shape of ``quality``."""
    return (10.0 ** (-np.arange(94) / 10)).astype(np.float32)[quality]


def draw_qualities(letters: np.ndarray, error_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Draw Phred qualities whose mean error probability rises along the read.

    Parameters
    ----------
    letters
        ASCII letters, (reads, length); N gets quality 2.
    error_rate
        Mean of the error probability over the read (fraction), within :data:`ERROR_RATES`.

    Returns
    -------
    ndarray
        12, 23 or 37 (2 for N), (reads, length) uint8. Quality 23 is twice as common as 12.
    """
    wanted = error_rate * np.linspace(0.5, 1.5, letters.shape[1], dtype=np.float32)
    low, middle, high = error_probability(np.array([12, 23, 37]))
    share = np.clip((wanted - high) / (low + 2 * middle - 3 * high), 0, 1 / 3)
    draw = rng.random(letters.shape, dtype=np.float32)
    quality = np.full(letters.shape, 37, dtype=np.uint8)
    quality[draw < 3 * share] = 23
    quality[draw < share] = 12
    quality[CODES[letters] == 4] = 2
    return quality


def _sequence(letters: np.ndarray, error_rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Letters with the machine's errors, and the qualities that foretell them."""
    quality = draw_qualities(letters, error_rate, rng)
    wrong = np.nonzero(rng.random(letters.shape, dtype=np.float32) < error_probability(quality))
    return substitute(letters, wrong, rng), quality


def _read_through(letters: np.ndarray, insert: np.ndarray, adapter: bytes) -> np.ndarray:
    """Fill what lies beyond the fragment with the adapter, then G."""
    length = letters.shape[1]
    tail = np.frombuffer(adapter + b"G" * length, dtype=np.uint8)
    letters = letters.copy()
    short = np.flatnonzero(insert < length)
    beyond = np.arange(length) - insert[short, None]
    letters[short] = np.where(beyond >= 0, tail[np.maximum(beyond, 0)], letters[short])
    return letters


def darken(letters: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Copy reads with a share of them calling only G from some base on: the cluster's light went out.

    The tail is 20 bases or more, as far as the read reaches.
    """
    n, length = letters.shape
    dark = rng.random(n) < share
    first = rng.integers(0, max(1, length - 20), size=n)
    return np.where(dark[:, None] & (np.arange(length) >= first[:, None]), np.uint8(ord("G")), letters)


def simulate_simple(n_pairs: int, rng: np.random.Generator, length: int = 150, error_rate: float = 0.004) -> ReadPairs:
    """Simulate pairs of low complexity: a motif of one to three bases repeated, the fragment as long as the read."""
    motifs = BASES[rng.integers(4, size=(n_pairs, 3))]
    period = rng.integers(1, 4, size=(n_pairs, 1))
    letters = np.take_along_axis(motifs, np.arange(length) % period, axis=1)
    reads_1, quals_1 = _sequence(letters, error_rate, rng)
    reads_2, quals_2 = _sequence(_COMPLEMENT[letters[:, ::-1]], error_rate, rng)
    nothing = np.zeros(n_pairs, dtype=np.int64)
    return ReadPairs(reads_1, reads_2, quals_1, quals_2, nothing, nothing + length, nothing.astype(bool))


def fastq(names: Sequence[bytes], letters: np.ndarray, quality: np.ndarray) -> bytes:
    """FASTQ records, Phred+33.

    Parameters
    ----------
    names
        Name of each read, without ``@``.
    letters, quality
        ASCII letters and Phred qualities, (reads, length) uint8.
    """
    length = letters.shape[1]
    rows = [np.ascontiguousarray(a).view(f"S{length}").ravel().tolist() for a in (letters, quality + np.uint8(33))]
    return b"".join([b"@%b\n%b\n+\n%b\n" % record for record in zip(names, *rows, strict=True)])
