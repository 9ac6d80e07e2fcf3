"""Low-complexity reads and exact copies.

Complexity is the Shannon entropy of a read's overlapping base triplets, divided by its greatest possible value, as in
PRINSEQ (Schmieder, Edwards 2011, Bioinformatics 27:863), here over the whole read instead of windows of 64 bases: the
reads are short, and trimmed.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from latentomics.metagenome.fastq import Chunk, encode


def triplet_entropy(codes: np.ndarray, read: np.ndarray, n_reads: int) -> np.ndarray:
    """Normalised entropy of the triplets of each read.

    Parameters
    ----------
    codes, read
        As :func:`~latentomics.metagenome.fastq.encode` returns them.
    n_reads
        Number of reads.

    Returns
    -------
    numpy.ndarray
        Shape (n_reads,), 0 to 1: ``-sum(p log p) / log(min(64, n))`` over the ``n`` triplets without ambiguous bases;
        0 for reads with fewer than two of them.
    """
    if len(codes) < 3:
        return np.zeros(n_reads)
    triplets = codes[:-2].astype(np.int64) * 16 + codes[1:-1] * np.int64(4) + codes[2:]
    valid = (codes[:-2] < 4) & (codes[1:-1] < 4) & (codes[2:] < 4)
    counts = np.bincount((read[:-2] * 64 + triplets)[valid], minlength=n_reads * 64).reshape(n_reads, 64)
    total = counts.sum(axis=1)
    # -sum(p log p) = log n - sum(c log c) / n
    logs = np.log(np.arange(1, counts.max(initial=1) + 1))
    weighted = counts * np.concatenate([[0.0], logs])[counts]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = (np.log(total) - weighted.sum(axis=1) / total) / np.log(np.minimum(total, 64))
    return np.where(total > 1, np.clip(np.nan_to_num(entropy), 0.0, 1.0), 0.0)


def is_complex(chunk: Chunk, min_complexity: float) -> np.ndarray:
    """Which reads reach a complexity; of a pair both mates must."""
    kept = np.ones(len(chunk), dtype=bool)
    for mate in chunk.mates:
        kept &= triplet_entropy(*encode(mate), len(mate)) >= min_complexity
    return kept


class Copies:
    """Remembers reads by 128-bit digests (two of a billion reads collide with probability 1e-21)."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def is_new(self, chunk: Chunk) -> np.ndarray:
        """Which reads (or pairs) were not seen before; the first of several copies is new."""
        kept = np.empty(len(chunk), dtype=bool)
        for i, records in enumerate(zip(*chunk.mates, strict=True)):
            text = "\n".join([record.sequence for record in records]).upper()
            digest = blake2b(text.encode(), digest_size=16).digest()
            kept[i] = digest not in self._seen
            self._seen.add(digest)
        return kept
