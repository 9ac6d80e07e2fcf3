"""Labelled tables of reads, block by block: text with any of three separators, plain or gzip, or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from latentomics.config.classifier import Classifier
from latentomics.config.row import closest
from latentomics.metagenome.fastq import open_reads
from latentomics.problems import InputError, Problem

#: Of a text table, this many bytes are parsed at once; no line may be longer.
_BLOCK = 1 << 22
_LONGEST_HEADER = 1 << 16
_SEPARATORS = ("\t", ",", ";")
_PARQUET = b"PAR1"


class Records(NamedTuple):
    """Consecutive records of a file, as it has them.

    Attributes
    ----------
    sequences
        Letters, in ASCII.
    labels, sources
        str objects, (n,), empty where there is none. ``sources`` is None where the file does not say.
    """

    sequences: list[bytes]
    labels: np.ndarray
    sources: np.ndarray | None


def fault(
    path: Path,
    what: str,
    hint: str,
    *,
    record: int | None = None,
    row: int | None = None,
    key: str | None = None,
    value: object | None = None,
) -> InputError:
    """One fault of a file of reads, ready to raise; records count from 1, without a header."""
    place = "" if record is None else f"record {record}: "
    return InputError(Problem(str(path), place + what, hint, row, key, value))


def table_records(path: Path, settings: Classifier, rows: int) -> Iterator[Records]:
    """Read a labelled table.

    Parameters
    ----------
    path
        Text whose header line is separated by tabs, commas or semicolons, plain or gzip; or Parquet. Which of them, its
        content says.
    settings
        Names the columns; further ones are ignored.
    rows
        Most records at once.

    Raises
    ------
    InputError
        Naming file and record: a column that is missing or there twice, lines of another number of fields, quotes that
        are not closed, text that is not UTF-8. What else a damaged file raises, the caller must name.
    """
    with path.open("rb") as stream:
        parquet = stream.read(len(_PARQUET)) == _PARQUET
    columns = {"sequence_column": settings.sequence_column, "label_column": settings.label_column}
    if settings.source_column:
        columns["source_column"] = settings.source_column
    done = 0
    for block in _parquet_blocks(path, columns, rows) if parquet else _text_blocks(path, columns):
        for start in range(0, block.num_rows, rows):
            batch = block.slice(start, rows)
            sequences, *named = (_binary(path, batch.column(i), name) for i, name in enumerate(columns.values()))
            letters = [b"" if value is None else value.strip() for value in sequences.to_numpy(zero_copy_only=False)]
            labels, *sources = (
                _names(path, array, key, done) for key, array in zip(list(columns)[1:], named, strict=True)
            )
            yield Records(letters, labels, sources[0] if sources else None)
            done += batch.num_rows


def _positions(path: Path, columns: Mapping[str, str], header: list[str]) -> list[int]:
    """Where the columns stand."""
    problems = []
    for key, name in columns.items():
        if name not in header:
            hint = f"{closest(name, header)}`classifier.{key}` in the config names it; the table has "
            hint += f"{', '.join(map(repr, header[:20]))}{', ...' if len(header) > 20 else ''}."
            problems.append(Problem(str(path), f"column {name!r} is missing", hint, row=1, key=key))
        elif header.count(name) > 1:
            problems.append(Problem(str(path), f"column {name!r} appears twice", "remove one.", row=1, key=key))
    if problems:
        raise InputError(problems)
    return [header.index(name) for name in columns.values()]


def _text_blocks(path: Path, columns: Mapping[str, str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    with open_reads(path) as stream:
        separator, quoted, header = _header(path, stream)
        wanted = _positions(path, columns, header)
        # The header is read; by their numbers columns have different names, whatever it calls the others.
        read = arrow_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK, column_names=[str(i) for i in range(len(header))]
        )
        parse = arrow_csv.ParseOptions(
            delimiter=separator, quote_char='"' if quoted else False, invalid_row_handler=note
        )
        names = [str(i) for i in wanted]
        # A quote that is never closed swallows lines, in whichever column it is.
        parsed = read.column_names if quoted else names
        convert = arrow_csv.ConvertOptions(
            include_columns=parsed, column_types=dict.fromkeys(parsed, pa.binary()), strings_can_be_null=False
        )
        done = 0
        try:
            for batch in arrow_csv.open_csv(pa.PythonFile(stream, mode="r"), read, parse, convert):
                if quoted:
                    _check_quotes(path, batch, done)
                done += batch.num_rows
                yield batch.select(names)
        except pa.ArrowInvalid as error:
            if ragged:
                what = f"{ragged[0].actual_columns} fields where the header has {ragged[0].expected_columns}"
                hint = "every line must have as many fields as the header; quote a value that holds the separator."
                raise fault(path, what, hint, record=ragged[0].number, value=ragged[0].text[:60]) from error
            if "straddling" in str(error):
                hint = "a table has one line per read; are its lines ended by line feeds?"
                raise fault(path, f"a line of more than {_BLOCK:,} characters", hint) from error
            if "Empty CSV" not in str(error):
                raise


def _check_quotes(path: Path, batch: Any, done: int) -> None:
    import pyarrow.compute as pc

    for column in batch.columns:
        lines = pc.match_substring(column, "\n")
        if pc.any(lines).as_py():
            number = pc.index(lines, True).as_py()
            what = "a value of several lines: a quote is not closed"
            hint = "close or remove the quote; one inside a quoted value is written twice."
            raise fault(path, what, hint, record=done + number + 1, value=column[number].as_py()[:60])


def _header(path: Path, stream: BinaryIO) -> tuple[str, bool, list[str]]:
    """Separator, whether values may be quoted, and names of the columns."""
    line = b"\n"
    while line and not line.strip():
        line = stream.readline(_LONGEST_HEADER)
    if not line:
        raise fault(path, "the table is empty", "it needs a header line and one line per read.")
    if len(line) == _LONGEST_HEADER:
        what = f"the first line has more than {_LONGEST_HEADER:,} characters"
        raise fault(path, what, "is this a table with a header, one line per read?", row=1)
    try:
        text = line.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        bad = line[error.start : error.start + 1]
        raise fault(path, "the header is not UTF-8", "save the table as UTF-8.", row=1, value=bad) from error
    found = {s: [cell.strip() for cell in next(csv.reader([text], delimiter=s))] for s in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda s: len(found[s]))
    # Between tabs only R quotes, and then the header too: elsewhere a strain called 5" must not swallow what follows.
    return separator, separator != "\t" or text.startswith('"'), found[separator]


def _parquet_blocks(path: Path, columns: Mapping[str, str], rows: int) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _positions(path, columns, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=rows, columns=list(columns.values()), use_threads=False):
            yield batch.select(list(columns.values()))


def _binary(path: Path, array: Any, name: str) -> Any:
    """A column as bytes; numbers as the text of their digits."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return array
    try:
        return array.cast(pa.large_string()).cast(pa.large_binary())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise fault(path, f"column {name!r} holds no text but {array.type}", "it must be text.", key=name) from error


def _names(path: Path, array: Any, key: str, done: int) -> np.ndarray:
    """Names as str objects, (n,); "" where missing. `NA` is a name like others."""
    coded = array.dictionary_encode()
    values, index = [], coded.indices.fill_null(len(coded.dictionary)).to_numpy()
    for number, value in enumerate(coded.dictionary.to_pylist()):
        try:
            values.append(value.decode("utf-8").strip())
        except UnicodeDecodeError as error:
            record = done + int(np.argmax(index == number)) + 1
            hint = "save the table as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
            raise fault(path, "bytes that are not UTF-8", hint, record=record, key=key, value=value[:60]) from error
    return np.array([*values, ""], dtype=object)[index]
