"""Labelled reads from what the sheet of training data names: tables, FASTA and FASTQ, and genomes.

Everything streams: memory holds a few blocks of a file (of a genome, its longest contig), whatever its size.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import dnaio
import numpy as np

from latentomics.config.classifier import Classifier
from latentomics.config.training_sheet import TrainingRow, label_fault, name_fault
from latentomics.io.tables import open_binary
from latentomics.metagenome.fastq import open_reads
from latentomics.problems import InputError, Problem
from latentomics.reads.bases import N, encode
from latentomics.reads.genomes import (
    cut_reads,
    deaminate,
    draw_lengths,
    draw_places,
    find_stretches,
    letter_codes,
    sequencing_errors,
    share_out,
)
from latentomics.reads.store import MAX_CLASSES
from latentomics.reads.tables import Records, fault, table_records

#: A chunk holds at most this many reads, and about this many bases.
READS_PER_CHUNK = 65536
_BASES_PER_CHUNK = 10_000_000
#: Why a record is left out.
NO_LABEL, NO_SOURCE = "no label", "no source"
EMPTY, FOREIGN = "an empty sequence", "characters that are no bases"
SHORT, UNKNOWN = "shorter than min_length", "unknown bases only"
#: Records of a FASTA file that are longer than this, in bases, are hardly reads.
_LONG_FOR_A_READ = 100_000
_COPY_AGAIN = "copy or download it again; `gzip -t {}` tests a gzip file."
_CODES, _FOREIGN = letter_codes()


@dataclass(frozen=True)
class LabelledReads:
    """Some reads with their classes.

    Attributes
    ----------
    codes
        uint8, (n, width), see :mod:`latentomics.reads.bases`.
    lengths
        Bases, int64, (n,).
    labels, sources
        Class, and where the read is from: str objects, (n,).
    units
        What must not be divided between splits, str objects, (n,): a source, or a region of a genome as
        ``source:00012``. None: each read by itself.
    """

    codes: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    units: np.ndarray | None


class Tally:
    """Reads left out: ``counts`` by reason and class (empty where it is unknown)."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, reason: str, name: str, n: int = 1) -> None:
        """Count ``n`` more reads of the class ``name``."""
        self.counts[reason, name] += int(n)


@dataclass(frozen=True)
class Look:
    """What the first records of a file show: faults, classes, and whether these are all the records there are."""

    problems: list[Problem]
    classes: set[str]
    whole: bool


def labelled_reads(
    rows: Sequence[TrainingRow], settings: Classifier, seed: int, tally: Tally
) -> Iterator[LabelledReads]:
    """All reads of the sheet, in chunks of at most 65,536.

    Reads of tables and files longer than ``max_length`` are cut to it; those that cannot be used are left out and
    counted. Their unit is the source, where the table or the sheet names it. Reads drawn from genomes depend on ``seed``
    and on the row, not on the other rows' order.

    Parameters
    ----------
    rows
        Rows of the sheet.
    settings
        The config section ``classifier``.
    tally
        What is left out is added to it.

    Raises
    ------
    InputError
        Naming file and record: a file that cannot be read, a column that is missing, no records at all, a genome without
        room for a read, names that cannot be used, or more classes than a store can hold.
    """
    known = _Names(settings)
    genomes: dict[str, list[TrainingRow]] = {}
    for row in rows:
        if row.kind == "genome":
            genomes.setdefault(str(row.label), []).append(row)
            continue
        for records in _records(row, settings):
            reads = _usable(row, records, settings, tally)
            if len(reads.codes):
                known.check(row.path, reads)
                yield reads
    for of_class in genomes.values():
        for row, reads in _drawn(of_class, settings, seed):
            known.check(row.path, reads)
            yield reads


class _Names:
    """Classes and sources so far, each judged when it is first seen."""

    def __init__(self, settings: Classifier):
        self.settings = settings
        self.classes: set[str] = set()
        self.sources: set[str] = set()

    def check(self, path: Path, reads: LabelledReads) -> None:
        new = sorted(set(reads.labels) - self.classes)
        for name in new:
            if bad := label_fault(name):
                raise fault(path, bad[0], bad[1], key=self.settings.label_column, value=name)
        self.classes.update(new)
        if len(self.classes) > MAX_CLASSES:
            hint = "is `classifier.label_column` the column of the class? Merge or leave out rare ones."
            what = f"more than {MAX_CLASSES} classes"
            raise fault(path, what, hint, key=self.settings.label_column, value=new[-1])
        unseen = set(reads.sources) - self.sources
        for name in sorted(unseen):
            if why := name_fault(name):
                hint = "is `classifier.source_column` the column of the source?"
                key = self.settings.source_column
                raise fault(path, f"source cannot be used: {why}", hint, key=key, value=name)
        self.sources |= unseen


def _chunk_size(settings: Classifier) -> int:
    return min(READS_PER_CHUNK, _BASES_PER_CHUNK // settings.max_length)


def _records(row: TrainingRow, settings: Classifier) -> Iterator[Records]:
    """Records of a table or a file of reads."""
    size = _chunk_size(settings)
    if row.kind == "table":
        found, kind = table_records(row.path, settings, size), "table"
    else:
        found, kind = _file_records(row, size), "FASTA or FASTQ file"
    return _guarded(row.path, kind, found, lambda records: len(records.sequences))


def _file_records(row: TrainingRow, size: int) -> Iterator[Records]:
    """Records of a FASTA or FASTQ file; long ones come in fewer at a time."""
    with _open_sequences(row.path, ("fasta", "fastq")) as source:
        records, rows = iter(source), min(size, 1024)
        while block := [record.sequence.encode() for record in islice(records, rows)]:
            yield Records(block, np.full(len(block), row.label, dtype=object), None)
            mean = max(sum(map(len, block)) // len(block), 1)
            rows = max(1, min(size, _BASES_PER_CHUNK // mean))


def contigs(path: Path) -> Iterator[np.ndarray]:
    """Codes of each sequence of a genome, uint8.

    Raises
    ------
    InputError
        Naming file and record: not FASTA, damaged, letters that are no bases, no sequence.
    """
    return _guarded(path, "FASTA file", _contigs(path), lambda _: 1)


def _contigs(path: Path) -> Iterator[np.ndarray]:
    with _open_sequences(path, ("fasta",)) as source:
        for number, record in enumerate(source, 1):
            letters = np.frombuffer(record.sequence.encode(), dtype=np.uint8)
            foreign = _FOREIGN[letters]
            if foreign.any():
                what, hint = "a letter that is no base", "a genome is DNA: A, C, G, T, N or other IUPAC letters."
                raise fault(path, what, hint, record=number, value=chr(letters[foreign.argmax()]))
            yield _CODES[letters]


@contextmanager
def _open_sequences(path: Path, formats: Sequence[str]) -> Iterator[dnaio.SingleEndReader]:
    with open_reads(path) as stream:
        first = stream.read(1 << 12).lstrip()[:1]
    found = {b">": "fasta", b"@": "fastq"}.get(first)
    if first and found not in formats:
        expected = " nor ".join(f.upper() for f in formats)
        what = f"neither {expected}" if len(formats) > 1 else f"not {expected}"
        raise fault(path, what, "check the sheet's `path` and `kind`.", row=1, value=first)
    with open_reads(path) as stream, dnaio.open(stream, fileformat=found or "fasta", open_threads=0) as source:
        yield source


_Item = TypeVar("_Item")


def _guarded(path: Path, kind: str, items: Iterator[_Item], count: Callable[[_Item], int]) -> Iterator[_Item]:
    """Pass on what is read from a file; whatever a damaged one raises becomes an :class:`InputError`."""
    done = 0
    while True:
        try:
            item = next(items, None)
        except (InputError, MemoryError):
            raise
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            what = f"the gzip file is cut short or damaged ({error})"
            raise fault(path, what, _COPY_AGAIN.format(path.name), row=_damaged_line(path)) from error
        except dnaio.FileFormatError as error:
            reason = error.message.splitlines()[0]
            row = _damaged_line(path) if error.line is None else error.line + 1
            record = (row - 1) // 4 + 1 if row is not None and error.format == "FASTQ" else None
            what, hint = f"not a {error.format} record ({reason})", _COPY_AGAIN.format(path.name)
            raise fault(path, what, hint, record=record, row=row) from error
        except UnicodeDecodeError as error:
            what, hint = "bytes that are not text", _COPY_AGAIN.format(path.name)
            raise fault(path, what, hint, row=_damaged_line(path)) from error
        except Exception as error:
            # pyarrow, dnaio and the modules for gzip share no base class for "this file is broken".
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = f"it must be a {kind}; was its copy complete?"
            raise fault(path, f"not a readable {kind} ({reason})", hint, record=done + 1) from error
        if item is None:
            break
        done += count(item)
        yield item
    if not done:
        raise fault(path, "the file holds no reads", "is this the right file? Was its copy complete?")


def _damaged_line(path: Path) -> int | None:
    """Number of the first line that cannot be read or is not ASCII; the libraries do not tell it."""
    number = 0
    try:
        # Python's gzip gives all that can be unpacked before it raises; the faster one does not.
        with open_binary(path) as stream:
            for number, line in enumerate(stream, 1):
                if not line.isascii():
                    return number
    except (EOFError, OSError, zlib.error):
        return number + 1
    return None


def _usable(row: TrainingRow, records: Records, settings: Classifier, tally: Tally) -> LabelledReads:
    """Encode records; those that cannot be used are left out and counted."""
    codes, lengths, foreign = encode(records.sequences, settings.max_length)
    labels, sources = records.labels, records.sources
    grouped = sources is not None or row.source is not None
    if sources is None:
        sources = np.full(len(labels), row.source_name, dtype=object)
    kept = np.ones(len(labels), dtype=bool)
    for reason, bad in (
        (NO_LABEL, labels == ""),
        (NO_SOURCE, sources == ""),
        (EMPTY, lengths == 0),
        (FOREIGN, foreign),
        (SHORT, lengths < settings.min_length),
        (UNKNOWN, (codes >= N).all(axis=1)),
    ):
        for name, n in Counter(labels[kept & bad]).items():
            tally.add(reason, name, n)
        kept &= ~bad
    sources = sources[kept]
    return LabelledReads(codes[kept], lengths[kept], labels[kept], sources, sources if grouped else None)


def _drawn(rows: Sequence[TrainingRow], settings: Classifier, seed: int) -> Iterator[tuple[TrainingRow, LabelledReads]]:
    """Reads of the genomes of one class, as many of each as its share of the bases."""
    drawn = settings.drawn
    rows = sorted(rows, key=lambda row: (row.source_name, row.ancient, row.path.name))
    found = [find_stretches(contigs(row.path), drawn.region, settings.min_length) for row in rows]
    what = f"no stretch of {settings.min_length} known bases (`classifier.min_length`)"
    hint = "reads are drawn from stretches without N; is this the genome?"
    barren = [fault(row.path, what, hint) for row, stretches in zip(rows, found, strict=True) if not stretches.bases]
    if barren:
        raise InputError([problem for error in barren for problem in error.problems])
    shares = share_out(drawn.reads_per_class, [stretches.bases for stretches in found])
    for row, stretches, n in zip(rows, found, shares.tolist(), strict=True):
        rng = _generator(seed, row)
        lengths = draw_lengths(n, drawn, settings.min_length, settings.max_length, rng)
        for reads in cut_reads(contigs(row.path), draw_places(stretches, lengths, rng), _chunk_size(settings)):
            codes = deaminate(reads.codes, reads.lengths, drawn.damage, rng) if row.ancient else reads.codes
            codes = sequencing_errors(codes, drawn.error_rate, rng)
            regions, which = np.unique(reads.regions, return_inverse=True)
            units = np.array([f"{row.source_name}:{region:05d}" for region in regions], dtype=object)[which]
            names = (np.full(len(codes), name, dtype=object) for name in (row.label, row.source_name))
            yield row, LabelledReads(codes, reads.lengths, *names, units)


def _generator(seed: int, row: TrainingRow) -> np.random.Generator:
    """Random numbers of a genome's own: the same whatever other rows there are.

    Label and damage are part of it, so that modern and ancient reads of one genome are not the same reads.
    """
    name = "\0".join((row.source_name, str(row.label), str(row.ancient)))
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest(), "little")])


def look_into(row: TrainingRow, settings: Classifier) -> Look:
    """Read the first records of a file, as :func:`labelled_reads` would.

    Raises
    ------
    InputError
        The same as there, for what the first records show.
    """
    if row.kind == "genome":
        with closing(contigs(row.path)) as found:
            next(found)
        return Look([], {str(row.label)}, False)
    tally = Tally()
    with closing(_records(row, settings)) as records:
        first = next(records)
        whole = next(records, None) is None
    reads = _usable(row, first, settings, tally)
    _Names(settings).check(row.path, reads)
    n, usable = len(first.sequences), len(reads.codes)
    problems = []
    if usable * 2 < n:
        reasons: Counter[str] = Counter()
        for (reason, _), left_out in tally.counts.items():
            reasons[reason] += left_out
        what = f"{n - usable} of the first {n} records are left out: "
        what += ", ".join(f"{left_out} {reason}" for reason, left_out in reasons.most_common())
        hint = f"sequences need {settings.min_length} bases (`classifier.min_length`) of A, C, G, T, N or other IUPAC letters"
        hint += ", and a label." if row.kind == "table" else "."
        severity = "warning" if usable else "error"
        shown = first.sequences[0][:60].decode("ascii", "replace")
        problems.append(Problem(str(row.path), what, hint, value=shown, severity=severity))
    if row.kind == "reads" and max(map(len, first.sequences)) > _LONG_FOR_A_READ:
        what = f"a record of more than {_LONG_FOR_A_READ:,} bases, of which one read of {settings.max_length} is made"
        hint = "if this is a genome to draw reads from, write `genome` in the sheet's `kind`."
        problems.append(Problem(str(row.path), what, hint, severity="warning"))
    return Look(problems, set(reads.labels), whole)
