"""K-mers of sequences by FracMinHash: the same one in ``scaled`` of all k-mers, whichever sequence they are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

#: Bases, and k-mers kept, of one go: the library inserts into a sorted list, which is slow when long.
_CHUNK = 1 << 20
_KEPT = 20_000


def sketches(sequences: Iterable[str], ksize: int, scaled: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes and their numbers of occurrences, chunk by chunk (Irber et al. 2022, bioRxiv 2022.01.11.475838).

    Parameters
    ----------
    sequences
        Upper case; k-mers with other characters than ACGT are left out.
    ksize, scaled
        K-mer length and fraction (one in ``scaled`` k-mers).

    Yields
    ------
    hashes : (n,) uint64
        Ascending.
    occurrences : (n,) int64
    """
    chunk: list[str] = []
    bases, most = 0, min(_CHUNK, _KEPT * scaled)
    for sequence in sequences:
        chunk.append(sequence)
        bases += len(sequence)
        if bases >= most:
            yield _sketch(chunk, ksize, scaled)
            chunk, bases = [], 0
    if chunk:
        yield _sketch(chunk, ksize, scaled)


def _sketch(chunk: list[str], ksize: int, scaled: int) -> tuple[np.ndarray, np.ndarray]:
    from sourmash import MinHash

    sketch = MinHash(0, ksize, scaled=scaled, track_abundance=True)
    # An N between sequences keeps k-mers from spanning them; `force` skips k-mers that hold one.
    sketch.add_sequence("N".join(chunk), force=True)
    found = sketch.hashes
    hashes = np.fromiter(found.keys(), np.uint64, len(found))
    occurrences = np.fromiter(found.values(), np.int64, len(found))
    order = np.argsort(hashes)
    return hashes[order], occurrences[order]


def merge(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One sketch of several: ascending hashes and their numbers of occurrences."""
    if not parts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    hashes, code = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    occurrences = np.zeros(len(hashes), np.int64)
    np.add.at(occurrences, code, np.concatenate([part[1] for part in parts]))
    return hashes, occurrences


def locate(hashes: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which ``hashes`` stand in the ascending array ``among``, and where.

    Returns
    -------
    found : (n,) bool
    places : (n_found,) int64
    """
    if not len(among):
        return np.zeros(len(hashes), dtype=bool), np.empty(0, np.int64)
    places = np.searchsorted(among, hashes)
    places[places == len(among)] = 0
    found = among[places] == hashes
    return found, places[found]
