"""Labelled reads become a store of distinct reads, divided between training, validation and test.

Memory holds one chunk of reads, 1/64 of all reads, and at most about 25 bytes per distinct read.
The disk holds, until the store is complete, about 60 bytes more per read of 90 bases.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latentomics.config.row import closest
from latentomics.problems import InputError, Problem
from latentomics.reads.bases import unpack
from latentomics.reads.distinct import BEYOND, CONFLICT, DUPLICATE, Buckets, Distinct, distinct, sheet_of
from latentomics.reads.leakage import check_split, leakage
from latentomics.reads.split import Divider, word
from latentomics.reads.store import SPLITS, TEST, TRAIN, VALIDATION, ReadStore, ReadStoreWriter

if TYPE_CHECKING:
    from latentomics.config.classifier import Classifier
    from latentomics.reads.sources import LabelledReads, Tally

_PURPOSE = {TRAIN: "training", VALIDATION: "validation", TEST: "the test"}


def prepare(
    chunks: Iterable[LabelledReads],
    settings: Classifier,
    seed: int,
    folder: Path,
    tally: Tally,
    files: Sequence[str] = (),
) -> None:
    """Make a :class:`~latentomics.reads.store.ReadStore`; what it holds does not depend on the order of the reads.

    The stored form of a read is canonical. Of equal reads one stays, that of the unit first in the order of a hash;
    reads whose bases have several labels are all dropped. The facts in ``data.json`` say what was read and dropped.

    Parameters
    ----------
    chunks
        The reads.
    settings, seed
        Shares, held-out sources and the largest number of reads per class.
    folder
        Made here, replaced if it exists; absent if this fails.
    tally
        What was left out while reading; what is left out here is added.
    files
        Names of the files, for the facts.

    Raises
    ------
    InputError
        Fewer than two classes, too many classes or sources, unknown test sources, or a class without training or test
        reads.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        buckets = Buckets(partial / "buckets", settings)
        for chunk in chunks:
            buckets.add(chunk, seed)
        _Build(buckets, settings, seed, tally).write(partial, files)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def ledger(tally: Tally) -> pd.DataFrame:
    """Reads left out, by class and reason: columns ``kind item n reason``."""
    rows = [("read", name or "class unknown", n, reason) for (reason, name), n in sorted(tally.counts.items())]
    return pd.DataFrame(rows, columns=["kind", "item", "n", "reason"])


class _Build:
    """Two passes over the distinct reads: what there is, then where it goes."""

    def __init__(self, buckets: Buckets, settings: Classifier, seed: int, tally: Tally):
        self.buckets, self.settings, self.seed, self.tally = buckets, settings, seed, tally
        self.classes, self.sources = buckets.names()
        self.held_out = _held_out(self.sources, settings)
        n_classes, n_sources = len(self.classes), len(self.sources)
        self.divider = Divider(settings.split, n_classes, seed)
        self.lengths = np.zeros(settings.max_length + 1, dtype=np.int64)
        self.of_class, self.of_source = np.zeros(n_classes, dtype=np.int64), np.zeros(n_sources, dtype=np.int64)
        self.conflicts = 0
        dropped = {reason: np.zeros(n_classes, dtype=np.int64) for reason in (CONFLICT, DUPLICATE, BEYOND)}
        #: Records of the input, with those that were left out while reading.
        self.n_read = buckets.n + sum(tally.counts.values())
        for part in self._distinct():
            reads = part.reads
            self.divider.see(reads["hash"], reads["unit"], reads["label"], self.held_out[reads["source"]])
            self.lengths += np.bincount(reads["length"], minlength=len(self.lengths))
            self.of_class += np.bincount(reads["label"], minlength=n_classes)
            self.of_source += np.bincount(reads["source"], minlength=n_sources)
            self.conflicts += part.conflicts
            for reason, n in part.dropped.items():
                dropped[reason] += n
        for reason, counts in dropped.items():
            for name, n in zip(self.classes, counts.tolist(), strict=True):
                if n:
                    tally.add(reason, name, n)
        if (self.of_class > 0).sum() < 2:
            raise InputError(_too_few_classes(self.classes, self.of_class, settings, tally))
        self.divider.divide()

    def write(self, folder: Path, files: Sequence[str]) -> None:
        """Write the store and its facts; the buckets are gone then."""
        writer = ReadStoreWriter(folder, int(self.of_class.sum()), int(np.flatnonzero(self.lengths).max()))
        label, source = np.cumsum(self.of_class > 0) - 1, np.cumsum(self.of_source > 0) - 1
        for part in self._distinct():
            reads = part.reads
            if not len(reads):
                continue
            codes = unpack(reads["bases"], reads["unknown"], reads["length"], writer.width)
            held_out = self.held_out[reads["source"]]
            splits = self.divider.splits(reads["hash"], reads["unit"], reads["label"], held_out)
            writer.append(codes, reads["length"], label[reads["label"]], source[reads["source"]], splits)
        shutil.rmtree(self.buckets.folder)
        classes = [name for name, n in zip(self.classes, self.of_class, strict=True) if n]
        sources = [name for name, n in zip(self.sources, self.of_source, strict=True) if n]
        facts = self._facts(files)
        writer.close(classes, sources, facts)
        store = ReadStore(folder)
        if problems := self._shortages(store):
            raise InputError(problems)
        facts["per_class"] = {
            name: dict(zip(SPLITS, counts, strict=True))
            for name, counts in zip(classes, store.counts.T.tolist(), strict=True)
        }
        facts["leak"] = {**leakage(store, seed=self.seed), "identical": check_split(store)}
        # Once more, now that the store could be looked at.
        writer.close(classes, sources, facts)

    def _distinct(self) -> Iterator[Distinct]:
        order = np.array([word(self.seed, source) for source in self.sources], dtype=np.uint64)
        return distinct(self.buckets, order, len(self.classes), self.settings.max_reads_per_class)

    def _facts(self, files: Sequence[str]) -> dict[str, Any]:
        dropped: dict[str, int] = {}
        for (reason, _), n in sorted(self.tally.counts.items()):
            dropped[reason] = dropped.get(reason, 0) + n
        seen = np.flatnonzero(self.lengths)
        middle = np.searchsorted(np.cumsum(self.lengths), (self.lengths.sum() + 1) // 2)
        borrowing = self.divider.by_sequence
        return {
            "min_length": self.settings.min_length,
            "read": self.n_read,
            "dropped": dropped,
            "conflicts": self.conflicts,
            "duplicates": dropped.get(DUPLICATE, 0),
            "unit": " and ".join(kind for kind in ("source", "region", "sequence") if kind in self.buckets.kinds),
            "length": {"min": int(seen.min()), "median": int(middle), "max": int(seen.max())},
            "classes_left_out": [name for name, n in zip(self.classes, self.of_class, strict=True) if not n],
            "validation_by_sequence": [name for name, yes in zip(self.classes, borrowing, strict=True) if yes],
            "test_sources": list(self.settings.split.test_sources),
            "files": list(files),
            "seed": self.seed,
        }

    def _shortages(self, store: ReadStore) -> list[Problem]:
        """Classes without training or test reads, and validation without any."""
        problems = []
        needed = (TRAIN,) if self.settings.split.test_sources else (TRAIN, TEST)
        for label, name in enumerate(store.classes):
            for split in needed:
                if not store.counts[split, label]:
                    problems.append(self._shortage(store, label, f"class {name!r} has no reads for {_PURPOSE[split]}"))
                    break
        for split in (VALIDATION, TEST):
            if not store.counts[split].any() and not problems:
                hint = "give more reads, or other shares of `classifier.split`."
                problems.append(Problem(sheet_of(self.settings), f"no reads at all for {_PURPOSE[split]}", hint))
        return problems

    def _shortage(self, store: ReadStore, label: int, what: str) -> Problem:
        file, of_class = sheet_of(self.settings), store.labels == label
        sources = [store.source_names[i] for i in np.unique(store.sources[of_class])]
        if self.settings.split.test_sources and not store.counts[:TEST, label].any():
            hint = "leave one of its sources out of `test_sources`, or add another source of this class."
            return Problem(file, f"{what}: all its sources are test_sources", hint, value=sources)
        if "sequence" in self.buckets.kinds and of_class.sum() < 3:
            return Problem(file, f"{what}: it has {of_class.sum()} in all", "give more, or leave it out.")
        if "region" in self.buckets.kinds:
            hint = (
                "regions of genomes are never divided: lower `classifier.drawn.region`, or add genomes of this class."
            )
            return Problem(file, f"{what}: its genomes have too few regions", hint, value=sources)
        if len(sources) == 1:
            hint = (
                "a source is never divided: add another source of this class, or do not name sources (`source_column: "
                "null`, no column `source` in the sheet) so that reads are divided one by one, which is kinder to a model "
                "than new data will be."
            )
            return Problem(file, f"{what}: it has only one source", hint, value=sources[0])
        hint = "sources are never divided, and those of this class also hold other classes: add sources of its own."
        return Problem(file, f"{what}: its sources cannot be divided so that every class has some", hint, value=sources)


def _held_out(sources: Sequence[str], settings: Classifier) -> np.ndarray:
    """Which sources are wholly test, bool, (sources,)."""
    wanted = settings.split.test_sources
    problems = []
    for name in wanted:
        if name not in sources:
            hint = f"{closest(name, sources)}Sources are the values of the sheet's `source`, or of `source_column`."
            problems.append(
                Problem(
                    "config", "no reads are from this source", hint, key="classifier.split.test_sources", value=name
                )
            )
    if problems:
        raise InputError(problems)
    return np.array([name in wanted for name in sources], dtype=bool)


def _too_few_classes(classes: Sequence[str], kept: np.ndarray, settings: Classifier, tally: Tally) -> Problem:
    left = [name for name, n in zip(classes, kept, strict=True) if n]
    what = f"reads of one class only ({left[0]!r})" if left else "no reads are left"
    lost = sorted(((n, reason, name) for (reason, name), n in tally.counts.items()), reverse=True)[:3]
    if lost:
        what += "; left out: " + ", ".join(f"{n} of {name or 'class unknown'!r} ({reason})" for n, reason, name in lost)
    hint = (
        f"a classifier needs two classes: is `{settings.label_column}` the column of the class, and are labels right?"
    )
    return Problem(sheet_of(settings), what, hint)
