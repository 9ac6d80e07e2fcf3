"""Which reads share k-mers with a host: the way that needs no further program.

The canonical 25-mers of the host are hashed and kept as one sorted array on disk, which all jobs of a machine map into
memory. Of a large genome only those with a small hash are kept (FracMinHash: Irber et al. 2022, bioRxiv
2022.01.11.475838), and of the reads the same ones are looked up.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import dnaio
import numpy as np

from latentomics.metagenome.fastq import Chunk, encode, open_reads

#: Odd, so that no k-mer is its own reverse complement. One read error spoils 25 k-mers; a random 25-mer is in the
#: human genome with probability 5e-6.
K = 25
#: Most hashes of an index: 2 GiB. Larger genomes (from about 270 million bases) are sampled.
MAX_HASHES = 1 << 28
_BLOCK = 1 << 20
#: Of a complete index, every fourth k-mer of a read is looked up.
_STRIDE = 4
_ALL = (1 << 64) - 1
_FORMAT = 1
#: First bytes of an index: NumPy's array format.
MAGIC = b"\x93NUMPY"


class KmerIndex(NamedTuple):
    """``hashes``: sorted uint64, shape (n,); of all k-mers those whose hash is at most ``largest``."""

    hashes: np.ndarray
    largest: int


def canonical_hashes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash of the canonical k-mer that begins at each position.

    Parameters
    ----------
    codes
        uint8, shape (n,): A 0, C 1, G 2, T 3, anything else 4.

    Returns
    -------
    hashes, valid
        Shape (n - K + 1,): uint64 hashes (splitmix64, Steele et al. 2014, a bijection), and whether the k-mer has
        only known bases. Reverse complements have the same hash.
    """
    n = len(codes) - K + 1
    if n < 1:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=bool)
    unknown = np.concatenate([[0], np.cumsum(codes > 3)])
    valid = unknown[K:] == unknown[:-K]
    base = (codes & 3).astype(np.uint64)
    # Words of 1, 2, 4, 8, 16 bases by doubling; 25 = 16 + 8 + 1.
    words, reverse = {1: base}, {1: base ^ np.uint64(3)}
    for size in (1, 2, 4, 8):
        shift = np.uint64(2 * size)
        words[2 * size] = words[size][:-size] << shift | words[size][size:]
        reverse[2 * size] = reverse[size][size:] << shift | reverse[size][:-size]
    forward = words[16][:n] << np.uint64(18) | words[8][16 : 16 + n] << np.uint64(2) | base[24 : 24 + n]
    backward = reverse[1][24 : 24 + n] << np.uint64(48) | reverse[8][16 : 16 + n] << np.uint64(32) | reverse[16][:n]
    return _mix(np.minimum(forward, backward)), valid


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser, in place."""
    x += np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def build_index(fasta: Path, to: Path, max_hashes: int = MAX_HASHES) -> None:
    """Write the index of a FASTA file.

    Parameters
    ----------
    max_hashes
        Above this number the bound on the hashes is halved, again and again. Building takes about 20 bytes of memory
        for each of them, and 100 MB.
    """
    largest = _ALL
    parts, waiting = [np.empty(0, dtype=np.uint64)], 0
    with open_reads(fasta) as stream, dnaio.open(stream, fileformat="fasta", open_threads=0) as records:
        for record in records:
            for start in range(0, max(len(record) - K + 1, 1), _BLOCK):
                codes, _ = encode([record[start : start + _BLOCK + K - 1]])
                hashes, valid = canonical_hashes(codes)
                parts.append(hashes[valid & (hashes <= largest)])
                waiting += len(parts[-1])
                if waiting > max_hashes // 4:
                    largest, waiting = _merge(parts, largest, max_hashes), 0
    largest = _merge(parts, largest, max_hashes)
    with to.open("wb") as stream:
        np.save(stream, np.array([_FORMAT, K, largest], dtype=np.uint64), allow_pickle=False)
        np.save(stream, parts[0], allow_pickle=False)


def _merge(parts: list[np.ndarray], largest: int, max_hashes: int) -> int:
    """Make the parts one, sorted and distinct, in place (they may fill half the memory); the new bound."""
    hashes = np.concatenate(parts)
    parts.clear()
    hashes.sort()
    hashes = hashes[np.concatenate([[True], hashes[1:] != hashes[:-1]])] if len(hashes) else hashes
    while len(hashes) > max_hashes:
        largest //= 2
        hashes = hashes[: np.searchsorted(hashes, np.uint64(largest), side="right")]
    parts.append(hashes)
    return largest


def load_index(path: Path) -> KmerIndex:
    """Map an index into memory."""
    with path.open("rb") as stream:
        version, k, largest = np.load(stream, allow_pickle=False).tolist()
        if (version, k) != (_FORMAT, K):
            raise ValueError(f"{path}: an index of another version (format {version}, k {k})")
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        offset = stream.tell()
    if not shape[0]:
        return KmerIndex(np.empty(0, dtype=dtype), largest)
    return KmerIndex(np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape), largest)


def shared_kmers(chunk: Chunk, index: KmerIndex) -> tuple[np.ndarray, np.ndarray]:
    """K-mers of each read (or pair, both mates together), and how many of them are the host's.

    Of a complete index every fourth k-mer of a read is looked up (a common stretch of 28 bases never escapes), of a
    sampled one all that the index could hold.

    Returns
    -------
    shared, looked_up
        int64, shape (len(chunk),).
    """
    shared, looked_up = np.zeros((2, len(chunk)), dtype=np.int64)
    for mate in chunk.mates:
        codes, read = encode(mate)
        hashes, taken = canonical_hashes(codes)
        read = read[: len(taken)]
        if index.largest < _ALL:
            taken &= hashes <= index.largest
        else:
            starts = np.searchsorted(read, np.arange(len(chunk)))
            taken &= (np.arange(len(read)) - starts[read]) % _STRIDE == 0
        hashes, read = hashes[taken], read[taken]
        looked_up += np.bincount(read, minlength=len(chunk))
        if len(index.hashes) and len(hashes):
            # In their order: neighbours in the index are near in memory.
            order = np.argsort(hashes)
            hashes = hashes[order]
            at = np.minimum(np.searchsorted(index.hashes, hashes), len(index.hashes) - 1)
            shared += np.bincount(read[order[index.hashes[at] == hashes]], minlength=len(chunk))
    return shared, looked_up
