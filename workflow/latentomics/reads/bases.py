"""Reads as arrays of numbers: codes, reverse complement, canonical form, packing, k-mers.

Codes are uint8, shape (reads, width), left-aligned: A 0, C 1, G 2, T 3, N (any unknown base) 4, and 5 beyond the end of a
read. With A < C < G < T < N the order of codes is the lexicographic order of the letters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

N, PAD = 4, 5
#: Code of each code's complement.
COMPLEMENT = np.array([3, 2, 1, 0, N, PAD], dtype=np.uint8)
LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)
_ALL_PAD = np.uint64(0x0505050505050505)
#: Longest k-mer that one word holds.
MAX_K = 31

_CODES = np.full(256, PAD, dtype=np.uint8)
#: IUPAC's ambiguity codes are unknown bases; anything else is no base at all.
_CODES[np.frombuffer(b"NnRrYySsWwKkMmBbDdHhVv", dtype=np.uint8)] = N
for _code, _bases in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu")):
    _CODES[list(_bases)] = _code


def encode(sequences: Sequence[bytes], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of sequences; what lies beyond ``width`` bases is cut off.

    Parameters
    ----------
    sequences
        ASCII letters, upper or lower case.
    width
        Columns of the result.

    Returns
    -------
    codes
        uint8, (n, width).
    lengths
        Bases kept, int64, (n,).
    foreign
        Whether a sequence holds a character that is no IUPAC base, bool, (n,). Such characters are N in ``codes``.
    """
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    flat = _CODES[np.frombuffer(b"".join(sequences), dtype=np.uint8)]
    bad = np.flatnonzero(flat == PAD)
    ends = np.cumsum(lengths)
    foreign = np.zeros(len(sequences), dtype=bool)
    foreign[np.searchsorted(ends, bad, side="right")] = True
    flat[bad] = N
    kept = np.minimum(lengths, width)
    codes = np.full((len(sequences), width), PAD, dtype=np.uint8)
    inside = np.arange(width) < kept[:, None]
    source = (ends - lengths)[:, None] + np.arange(width)
    codes[inside] = flat[source[inside]]
    return codes, kept, foreign


def decode(codes: np.ndarray) -> list[str]:
    """Letters of coded reads, without what lies beyond their ends."""
    return ["".join(map(chr, LETTERS[row[row < PAD]])) for row in codes]


def reverse_complement(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The other strand of each read, left-aligned as well; same shape."""
    width = codes.shape[1]
    from_end = np.asarray(lengths)[:, None] - 1 - np.arange(width)
    turned = np.take_along_axis(codes, np.maximum(from_end, 0), axis=1)
    return np.where(from_end >= 0, COMPLEMENT[turned], np.uint8(PAD))


def canonical(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The lexicographic minimum of each read and its reverse complement; same shape."""
    other = reverse_complement(codes, lengths)
    differ = codes != other
    first = differ.argmax(axis=1)
    rows = np.arange(len(codes))
    other_first = differ.any(axis=1) & (other[rows, first] < codes[rows, first])
    return np.where(other_first[:, None], other, codes)


def pack(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two bits a base, and one bit for each base that is unknown or beyond the end.

    Returns
    -------
    bases
        uint8, (n, ceil(width / 4)); the first base of four in the highest bits.
    unknown
        uint8, (n, ceil(width / 8)).
    """
    n, width = codes.shape
    two = np.zeros((n, -(-width // 4) * 4), dtype=np.uint8)
    two[:, :width] = np.where(codes < N, codes, 0)
    four = two.reshape(n, two.shape[1] // 4, 4)
    bases = four[:, :, 0] << 6 | four[:, :, 1] << 4 | four[:, :, 2] << 2 | four[:, :, 3]
    return bases, np.packbits(codes >= N, axis=1)


#: The four codes of every packed byte.
_UNPACKED = (np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3).astype(np.uint8)


def unpack(bases: np.ndarray, unknown: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Codes of packed reads: the inverse of :func:`pack`.

    Parameters
    ----------
    bases, unknown
        As :func:`pack` made them.
    lengths
        Bases of each read, (n,).
    width
        Columns of the result, at most those packed.
    """
    codes = _UNPACKED.take(bases, axis=0).reshape(len(bases), 4 * bases.shape[1])[:, :width]
    codes[np.unpackbits(unknown, axis=1, count=width).view(bool)] = N
    codes[np.arange(width, dtype=np.uint16) >= np.asarray(lengths).astype(np.uint16)[:, None]] = PAD
    return codes


def hashes(codes: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row of codes, uint64, (n,); the same on every machine and in every process.

    Its 64-bit words chained through splitmix64's finaliser (Steele et al. 2014). Of n different reads two share a hash
    with probability about n^2 / 2^65: 5e-6 for 13 million.
    """
    padded = np.full((len(codes), -(-codes.shape[1] // 8) * 8), PAD, dtype=np.uint8)
    padded[:, : codes.shape[1]] = codes
    words = padded.view("<u8")
    state = np.full(len(codes), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in words.T:
        # Padding does not count: the same read in a wider array has the same hash.
        state = np.where(column == _ALL_PAD, state, mix(state * np.uint64(0xD1B54A32D192ED03) ^ column))
    return state


def mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: a bijection of 64-bit words."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def kmers(codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The canonical k-mer that begins at each position.

    Parameters
    ----------
    codes
        uint8, (n, width).
    k
        Bases, 1 to :data:`MAX_K`.

    Returns
    -------
    words
        uint64, (n, max(width - k + 1, 0)): two bits a base, the smaller of both strands.
    valid
        bool, same shape: whether all k bases are known.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k must lie between 1 and {MAX_K}, not {k}")
    n, width = codes.shape
    positions = max(width - k + 1, 0)
    known = codes < N
    count = np.zeros((n, width + 1), dtype=np.int32)
    np.cumsum(~known, axis=1, out=count[:, 1:])
    valid = count[:, k:] == count[:, :positions] if positions else np.zeros((n, 0), dtype=bool)
    base = np.where(known, codes, 0).astype(np.uint64)
    other = np.uint64(3) - base
    # Words by doubling, as powers by squaring: from the highest bit of k to the lowest.
    forward, backward, length = base, other, 1
    for bit in f"{k:b}"[1:]:
        shift = np.uint64(2 * length)
        forward = forward[:, :-length] << shift | forward[:, length:]
        backward = backward[:, length:] << shift | backward[:, :-length]
        length *= 2
        if bit == "1":
            forward = forward[:, :-1] << np.uint64(2) | base[:, length:]
            backward = other[:, length:] << np.uint64(2 * length) | backward[:, :-1]
            length += 1
    return np.minimum(forward, backward), valid
