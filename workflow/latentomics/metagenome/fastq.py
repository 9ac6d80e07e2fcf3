"""FASTQ in and out, piece by piece: every record checked while it passes, memory bounded by one chunk.

Parsing and writing is dnaio's. What dnaio lets pass is checked here: characters, quality scale, mates.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, compress, islice
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import dnaio
import numpy as np
from dnaio import SequenceRecord, records_are_mates
from xopen import xopen

from latentomics.config.row import InputRow
from latentomics.io.tables import fault, open_binary
from latentomics.problems import InputError

#: A chunk holds at most this many reads per mate, or about this many bases: long reads come in fewer at a time.
READS_PER_CHUNK = 8192
BASES_PER_CHUNK = 2_000_000
_LETTERS = b"ACGTRYSWKMBDHVNacgtryswkmbdhvn"
_QUALITIES = bytes(range(33, 127))
#: Phred+64 (Illumina 1.3 to 1.7): no character below ';' (Solexa -5), some above 'K', which Phred+33 reads reach
#: only as consensus reads; those go on to '~'.
_PHRED64 = (59, 75, 110)
_COPY_AGAIN = "copy or download it again; `gzip -t {}` tests a gzip file."


@dataclass(frozen=True)
class Chunk:
    """Consecutive reads: ``mates`` holds one list (single-end) or two of the same length (pairs)."""

    mates: tuple[list[SequenceRecord], ...]

    def __len__(self) -> int:
        """Number of single reads or of pairs."""
        return len(self.mates[0])

    @property
    def n_reads(self) -> int:
        """Number of reads; both mates of a pair count."""
        return sum(map(len, self.mates))

    @property
    def n_bases(self) -> int:
        return sum(sum(map(len, mate)) for mate in self.mates)

    def keep(self, kept: np.ndarray) -> Chunk:
        """The reads or pairs for which ``kept`` (booleans, shape (len(self),)) is true."""
        return self if kept.all() else Chunk(tuple(list(compress(mate, kept)) for mate in self.mates))


def open_reads(path: Path) -> BinaryIO:
    """Open a plain or gzip file by its content: browsers unpack downloads and keep the name."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, xopen(path, "rb", threads=0, format="gz") if packed else path.open("rb"))


def read_chunks(row: InputRow) -> Iterator[Chunk]:
    """Read and check the reads of one row of the sheet.

    Parameters
    ----------
    row
        ``path`` holds the reads, ``path_2`` their mates, if any.

    Yields
    ------
    Chunk
        Never empty.

    Raises
    ------
    InputError
        Naming sample, file and record: not FASTQ, truncated or damaged, letters that are no bases, qualities that are
        not Phred+33, mates that do not belong together, no reads at all.
    """
    paths = [path for path in (row.path, row.path_2) if path is not None]
    if len(paths) == 2 and paths[0].resolve() == paths[1].resolve():
        raise fault(row, "`path` and `path_2` are the same file", "name the file of the mates in `path_2`.")
    with ExitStack() as stack:
        sources = []
        for path in paths:
            with _parsing(row, path):
                stream = stack.enter_context(open_reads(path))
                sources.append(stack.enter_context(dnaio.open(stream, fileformat="fastq", open_threads=0)))
        readers = [_checked(row, path, iter(source)) for path, source in zip(paths, sources, strict=True)]
        done = 0
        for chunk in _chunks(readers):
            if len(paths) == 2:
                _check_mates(row, paths, chunk.mates, done)
            done += len(chunk)
            yield chunk
        if not done:
            raise fault(row, "the file holds no reads", "is this the right file? Was its copy complete?")


def stored_chunks(paths: Sequence[Path]) -> Iterator[Chunk]:
    """Read files that :func:`open_writers` wrote."""
    with ExitStack() as stack:
        yield from _chunks([iter(stack.enter_context(dnaio.open(path, open_threads=0))) for path in paths])


def _chunks(readers: Sequence[Iterator[SequenceRecord]]) -> Iterator[Chunk]:
    size = 1024
    while True:
        chunk = Chunk(tuple(list(islice(reader, size)) for reader in readers))
        if not any(chunk.mates):
            return
        yield chunk
        per_read = max(chunk.n_bases // chunk.n_reads, 1)
        size = max(1, min(READS_PER_CHUNK, BASES_PER_CHUNK // per_read))


def _checked(row: InputRow, path: Path, records: Iterator[SequenceRecord]) -> Iterator[SequenceRecord]:
    """The records of a file, checked in blocks (whole blocks cost a hundredth of single records)."""
    done = 0
    while True:
        block: list[SequenceRecord] = []
        with _parsing(row, path):
            block.extend(islice(records, 1024))
        if not block:
            return
        _check_letters(row, path, block, done)
        if not done:
            _check_scale(row, path, block)
        done += len(block)
        yield from block


def _line(record: int) -> int:
    """Line on which a record begins; both count from 1."""
    return 4 * (record - 1) + 1


def _check_letters(row: InputRow, path: Path, block: Sequence[SequenceRecord], done: int) -> None:
    if "".join([record.sequence for record in block]).encode().translate(None, _LETTERS):
        for number, record in enumerate(block, done + 1):
            if bad := record.sequence.encode().translate(None, _LETTERS):
                what = f"record {number}: a sequence with letters that are no bases"
                hint = "reads are DNA: A, C, G, T, N or other IUPAC letters."
                raise fault(row, what, hint, file=path, line=_line(number) + 1, value=bad.decode()[:1])
    if "".join([record.qualities for record in block]).encode().translate(None, _QUALITIES):
        for number, record in enumerate(block, done + 1):
            if bad := record.qualities.encode().translate(None, _QUALITIES):
                what = f"record {number}: a quality outside the range of Phred+33 (0 to 93, '!' to '~')"
                raise fault(row, what, "the file is damaged.", file=path, line=_line(number) + 3, value=bad[:1])


def _check_scale(row: InputRow, path: Path, block: Sequence[SequenceRecord]) -> None:
    low, high, highest = _PHRED64
    qualities = np.frombuffer("".join([record.qualities for record in block]).encode(), dtype=np.uint8)
    if len(qualities) and qualities.min() >= low and high < qualities.max() <= highest:
        number = next(n for n, record in enumerate(block, 1) if max(record.qualities, default="!") > chr(high))
        what = f"record {number}: the qualities look like Phred+64 (Illumina 1.3 to 1.7), not Phred+33"
        hint = "convert the file, e.g. `seqkit convert` or `reformat.sh qin=64 qout=33`."
        raise fault(row, what, hint, file=path, line=_line(number) + 3)


def _check_mates(row: InputRow, paths: Sequence[Path], mates: Sequence[list[SequenceRecord]], done: int) -> None:
    first, second = mates
    for number, (one, two) in enumerate(zip(first, second, strict=False), done + 1):
        if not records_are_mates(one, two):
            what = f"record {number}: mates whose names do not match ({paths[0].name} has {_name(one)!r})"
            hint = "the two files must hold the same pairs in the same order; a file filtered on its own does not."
            raise fault(row, what, hint, file=paths[1], line=_line(number), value=_name(two))
    if len(first) != len(second):
        short, long = (0, 1) if len(first) < len(second) else (1, 0)
        number = done + min(len(first), len(second))
        what = f"the file ends after record {number}, but {paths[long].name} goes on: mates are missing"
        hint = "the two files must hold the same pairs in the same order; was one of them copied incompletely?"
        raise fault(row, what, hint, file=paths[short], line=_line(number + 1))


def _name(record: SequenceRecord) -> str:
    return (record.name.split() or [""])[0]


@contextmanager
def _parsing(row: InputRow, path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into an :class:`InputError` that names the record."""
    try:
        yield
    except InputError:
        raise
    except dnaio.FileFormatError as error:
        if error.line is None:
            _damaged(row, path, str(error), error)
        number = error.line // 4 + 1
        reason = str(error).split(": ", 1)[-1].splitlines()[0]
        what = f"record {number} is not a FASTQ record of four lines ({reason})"
        raise fault(row, what, _COPY_AGAIN.format(path.name), file=path, line=error.line + 1) from error
    except (EOFError, OSError, zlib.error) as error:
        _damaged(row, path, str(error), error)


def _damaged(row: InputRow, path: Path, reason: str, error: Exception) -> NoReturn:
    """Raise for damage whose place the library does not tell: read again, line by line."""
    lines, what = 0, "cannot be read"
    try:
        # Python's gzip gives all that can be unpacked before it raises; the faster one of xopen does not.
        with open_binary(path) as stream:
            for line in stream:
                if not line.isascii():
                    what = "holds bytes that are not text"
                    break
                lines += 1
    except EOFError:
        what = "is in a gzip file that is cut short"
    except (gzip.BadGzipFile, zlib.error):
        what = "is in a damaged gzip file"
    except OSError as again:
        raise fault(row, f"the file cannot be read ({again.strerror})", "check it.", file=path) from error
    where = f"record {lines // 4 + 1} {what} ({reason})"
    raise fault(row, where, _COPY_AGAIN.format(path.name), file=path, line=lines + 1) from error


@contextmanager
def open_writers(paths: Sequence[Path]) -> Iterator[list[dnaio.SingleEndWriter]]:
    """Writers of gzip FASTQ, one per mate. The same reads give the same bytes (no time in the header)."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(dnaio.open(path, mode="w", fileformat="fastq", compression_level=1, open_threads=0))
            for path in paths
        ]


def write_chunk(chunk: Chunk, writers: Sequence[dnaio.SingleEndWriter]) -> None:
    for writer, mate in zip(writers, chunk.mates, strict=True):
        for record in mate:
            writer.write(record)


_CODES = np.full(256, 4, dtype=np.uint8)
for _code, _bases in enumerate((b"Aa", b"Cc", b"Gg", b"Tt")):
    _CODES[list(_bases)] = _code


def encode(records: Sequence[SequenceRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Bases as numbers.

    Returns
    -------
    codes
        uint8, all reads in a row: A 0, C 1, G 2, T 3; 4 for anything else and once after each read, so that no word
        of bases spans two reads.
    read
        int64, same shape: index of the read that each code belongs to.
    """
    text = "\n".join(chain((record.sequence for record in records), ("",)))
    codes = _CODES[np.frombuffer(text.encode(), dtype=np.uint8)]
    lengths = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
    return codes, np.repeat(np.arange(len(records)), lengths + 1)
