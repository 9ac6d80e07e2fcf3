"""Equal reads meet: reads are spread over files by a hash of their canonical form, and one of each is kept.

Files by the first bits of the hash, taken one after the other and sorted by themselves, are an external sort: memory holds
one chunk and one file, whatever the number of reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from latentomics.problems import InputError, Problem
from latentomics.reads.bases import canonical, hashes, pack
from latentomics.reads.split import NO_UNIT, word
from latentomics.reads.store import MAX_CLASSES

if TYPE_CHECKING:
    from latentomics.config.classifier import Classifier
    from latentomics.reads.sources import LabelledReads

#: Why a read of the input is not in the store.
CONFLICT = "the same bases have different labels"
DUPLICATE = "a copy of another read or of its reverse complement"
BEYOND = "beyond max_reads_per_class"

_BUCKET_BITS = 6
#: Numbers of sources are two bytes.
_MAX_SOURCES = 1 << 16
#: Reads are packed in blocks of about this many bases.
_BASES = 1 << 20


class Distinct(NamedTuple):
    """Reads of one bucket: those that stay, in the order of their hash; reads dropped, per reason and class."""

    reads: np.ndarray
    conflicts: int
    dropped: dict[str, np.ndarray]


def distinct(parts: Iterable[np.ndarray], order: np.ndarray, n_classes: int, most: int | None) -> Iterator[Distinct]:
    """One read per sequence with one label, at most ``most`` per class: those of the smallest hashes.

    Parameters
    ----------
    parts
        Records of :class:`Buckets`, ascending by the first bits of their hash.
    order
        The order of sources where copies have the same unit, uint64, (sources,).
    """
    room = np.full(n_classes, np.iinfo(np.int64).max if most is None else most)
    for reads in parts:
        reads = reads[np.lexsort((order[reads["source"]], reads["unit"], reads["hash"]))]
        hashed, labels = reads["hash"], reads["label"]
        first = np.flatnonzero(np.concatenate([[True], hashed[1:] != hashed[:-1]]))
        copies = np.diff(np.append(first, len(reads)))
        clear = np.minimum.reduceat(labels, first) == np.maximum.reduceat(labels, first)
        unclear = np.bincount(labels[np.repeat(~clear, copies)], minlength=n_classes)
        kept, further = first[clear], copies[clear] - 1
        duplicate = np.bincount(labels[kept], weights=further, minlength=n_classes).astype(np.int64)
        n = np.bincount(labels[kept], minlength=n_classes)
        fits = np.ones(len(kept), dtype=bool)
        for label in np.flatnonzero(n > room):
            fits[np.flatnonzero(labels[kept] == label)[room[label] :]] = False
        beyond = np.maximum(n - room, 0)
        room -= n - beyond
        yield Distinct(
            reads[kept[fits]], int((~clear).sum()), {CONFLICT: unclear, DUPLICATE: duplicate, BEYOND: beyond}
        )


class Buckets:
    """Canonical reads on disk, in files by the first bits of their hash; iterating gives them file by file.

    Records: ``hash`` and ``unit`` (uint64), ``label``, ``source``, ``length``, and the packed ``bases`` and ``unknown``.
    While reads arrive, labels and sources are numbered as they come; iterating gives their numbers in :meth:`names`.
    """

    def __init__(self, folder: Path, settings: Classifier):
        folder.mkdir()
        self.folder, self.settings = folder, settings
        self.n = 0
        self.kinds: set[str] = set()
        self._widths: set[int] = set()
        self._labels: dict[str, int] = {}
        self._sources: dict[str, int] = {}

    def add(self, chunk: LabelledReads, seed: int) -> None:
        """Store the reads of a chunk."""
        n = len(chunk.codes)
        if not n:
            return
        self.n += n
        lengths = np.asarray(chunk.lengths, dtype=np.int64)
        width = max(-(-int(lengths.max()) // 32) * 32, 32)
        self._widths.add(width)
        records = np.zeros(n, dtype=_record(width))
        records["length"] = lengths
        records["label"] = self._numbered(
            chunk.labels, self._labels, MAX_CLASSES, "classes", self.settings.label_column
        )
        of_source = self.settings.source_column
        records["source"] = self._numbered(chunk.sources, self._sources, _MAX_SOURCES, "sources", of_source)
        records["unit"] = self._units(chunk, seed)
        size = max(_BASES // width, 1)
        for rows in (slice(start, start + size) for start in range(0, n, size)):
            codes = canonical(chunk.codes[rows, :width], lengths[rows])
            records["hash"][rows] = hashes(codes)
            for name, packed in zip(("bases", "unknown"), pack(codes), strict=True):
                records[name][rows, : packed.shape[1]] = packed
        bucket = records["hash"] >> np.uint64(64 - _BUCKET_BITS)
        order = np.argsort(bucket, kind="stable")
        records, ends = records[order], np.cumsum(np.bincount(bucket.astype(np.int64), minlength=1 << _BUCKET_BITS))
        for number, part in enumerate(np.split(records, ends[:-1])):
            if len(part):
                with self._path(number, width).open("ab") as stream:
                    part.tofile(stream)

    def names(self) -> tuple[list[str], list[str]]:
        """Classes and sources, in their natural order."""
        return sorted(self._labels, key=_natural), sorted(self._sources, key=_natural)

    def __iter__(self) -> Iterator[np.ndarray]:
        classes, sources = ({name: i for i, name in enumerate(names)} for names in self.names())
        label = np.array([classes[name] for name in self._labels], dtype=np.uint8)
        source = np.array([sources[name] for name in self._sources], dtype=np.uint16)
        for number in range(1 << _BUCKET_BITS):
            paths = {width: self._path(number, width) for width in sorted(self._widths)}
            parts = [np.fromfile(path, dtype=_record(width)) for width, path in paths.items() if path.exists()]
            if parts:
                reads = np.zeros(sum(map(len, parts)), dtype=_record(max(self._widths)))
                ends = np.cumsum([len(part) for part in parts])
                for part, end in zip(parts, ends, strict=True):
                    rows = reads[end - len(part) : end]
                    for name in ("hash", "unit", "length"):
                        rows[name] = part[name]
                    for name in ("bases", "unknown"):
                        rows[name][:, : part[name].shape[1]] = part[name]
                    rows["label"], rows["source"] = label[part["label"]], source[part["source"]]
                yield reads

    def _path(self, number: int, width: int) -> Path:
        return self.folder / f"{number:03d}.{width}"

    def _units(self, chunk: LabelledReads, seed: int) -> np.ndarray | np.uint64:
        if chunk.units is None:
            self.kinds.add("sequence")
            return NO_UNIT
        self.kinds.add("source" if np.array_equal(chunk.units, chunk.sources) else "region")
        codes, names = pd.factorize(chunk.units)
        return np.array([word(seed, str(name)) for name in names], dtype=np.uint64)[codes]

    def _numbered(self, values: np.ndarray, known: dict[str, int], most: int, what: str, key: str | None) -> np.ndarray:
        codes, names = pd.factorize(values)
        if (codes < 0).any():
            raise ValueError(f"reads that are of none of the {what}")
        numbers = np.array([known.setdefault(str(name), len(known)) for name in names])
        if len(known) > most:
            hint = f"is `{key}` the right column? Merge rare ones, or leave some out."
            raise InputError(
                Problem(sheet_of(self.settings), f"reads of more than {most} {what}", hint, value=str(names[-1]))
            )
        return numbers[codes]


def sheet_of(settings: Classifier) -> str:
    """The file to name in a fault of the training data as a whole."""
    return settings.training or "classifier"


def _record(width: int) -> np.dtype:
    """One read of at most ``width`` bases, a multiple of 32."""
    packed = [("bases", "u1", (width // 4,)), ("unknown", "u1", (width // 8,))]
    return np.dtype([("hash", "<u8"), ("unit", "<u8"), ("label", "u1"), ("source", "<u2"), ("length", "<u2"), *packed])


def _natural(name: str) -> tuple[list[str | int], str]:
    """Key of the order in which numbers within names count by their value; ``1`` and ``01`` are told apart by their text."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
