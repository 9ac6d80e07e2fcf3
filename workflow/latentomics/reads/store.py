"""Labelled reads on disk: two bits a base and a mask of unknown bases, mapped into memory.

One folder with plain NumPy arrays (no pickle), one row per read: ``bases.npy`` and ``unknown.npy``
(:func:`~latentomics.reads.bases.pack`), ``lengths.npy`` (uint16), ``labels.npy`` (uint8), ``sources.npy`` (uint16) and
``splits.npy`` (uint8); and ``data.json`` with the names of classes and sources, and the facts of how they were made. A
read of 90 bases takes 41 bytes.

Rows are in the order of a hash of their bases: any stretch of rows is a random sample, so that training reads the disk in
long runs and still sees shuffled classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentomics.reads.bases import pack, unpack

#: Values of ``splits``.
TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")
#: Most classes: labels are one byte.
MAX_CLASSES = 255
_ARRAYS = {"lengths": np.uint16, "labels": np.uint8, "sources": np.uint16, "splits": np.uint8}


class Batch(NamedTuple):
    """Some reads: ``codes`` uint8 (n, width), see :mod:`~latentomics.reads.bases`; ``lengths`` and ``labels`` int64 (n,)."""

    codes: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


class ReadStore:
    """Labelled reads, mapped into memory.

    Parameters
    ----------
    path
        The folder that :class:`ReadStoreWriter` made.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.facts: dict[str, Any] = json.loads((self.path / "data.json").read_text("utf-8"))
        self.classes: list[str] = self.facts["classes"]
        self.source_names: list[str] = self.facts["sources"]
        self.width: int = self.facts["width"]
        self.bases, self.unknown = self._array("bases"), self._array("unknown")
        self.lengths, self.labels = self._array("lengths"), self._array("labels")
        self.sources, self.splits = self._array("sources"), self._array("splits")

    def __len__(self) -> int:
        return len(self.bases)

    @cached_property
    def counts(self) -> np.ndarray:
        """Reads per split and class, int64, (3, classes)."""
        n = len(self.classes)
        flat = np.bincount(self.splits.astype(np.int64) * n + self.labels, minlength=3 * n)
        return flat.reshape(3, n)

    def rows(self, split: int) -> np.ndarray:
        """Row numbers of a split, ascending, which is a random order of reads."""
        return np.flatnonzero(self.splits == split)

    def codes(self, rows: np.ndarray | slice) -> np.ndarray:
        """Codes of some reads, uint8, (n, width)."""
        return unpack(self.bases[rows], self.unknown[rows], self.lengths[rows], self.width)

    def batch(self, rows: np.ndarray | slice) -> Batch:
        """Some reads, as wide as the longest of them."""
        lengths = self.lengths[rows].astype(np.int64)
        width = int(lengths.max(initial=1))
        codes = unpack(self.bases[rows], self.unknown[rows], lengths, width)
        return Batch(codes, lengths, self.labels[rows].astype(np.int64))

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)


class ReadStoreWriter:
    """Write a store of a known number of reads, row by row in blocks.

    Parameters
    ----------
    path
        A folder; made if need be.
    n_reads, width
        Rows, and bases of the longest read.
    """

    def __init__(self, path: Path, n_reads: int, width: int):
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.width, self.done = path, width, 0
        shapes = {"bases": (n_reads, -(-width // 4)), "unknown": (n_reads, -(-width // 8))}
        kinds = {"bases": np.uint8, "unknown": np.uint8, **_ARRAYS}
        self.arrays = {
            name: np.lib.format.open_memmap(
                path / f"{name}.npy", mode="w+", dtype=kind, shape=shapes.get(name, (n_reads,))
            )
            for name, kind in kinds.items()
        }

    def append(
        self, codes: np.ndarray, lengths: np.ndarray, labels: np.ndarray, sources: np.ndarray, splits: np.ndarray
    ) -> None:
        """Write the next rows; ``codes`` may be narrower than the store."""
        rows = slice(self.done, self.done + len(codes))
        for name, packed in zip(("bases", "unknown"), pack(codes), strict=True):
            self.arrays[name][rows, : packed.shape[1]] = packed
        for name, values in zip(_ARRAYS, (lengths, labels, sources, splits), strict=True):
            self.arrays[name][rows] = values
        self.done = rows.stop

    def close(self, classes: Sequence[str], sources: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Flush the arrays and write what they mean."""
        if self.done != len(self.arrays["labels"]):
            raise ValueError(f"{self.done} of {len(self.arrays['labels'])} reads were written")
        for array in self.arrays.values():
            array.flush()
        plain = {**facts, "classes": list(classes), "sources": list(sources), "width": self.width, "reads": self.done}
        (self.path / "data.json").write_text(json.dumps(plain, indent=1) + "\n", "utf-8")
