"""Text tables of a sample: dense counts, per-cell metadata, lists of names. Faults name file, line and column."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, TextIO, cast

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from latentomics.config.row import InputRow
from latentomics.problems import InputError, Problem

#: Cells of a dense table parsed at once: bounds memory at about 8 bytes each.
_CELLS_PER_BLOCK = 1 << 22
_SEPARATORS = ("\t", ",", ";", " ")
_MISSING = ("", "NA", "N/A", "NaN", "nan")


class Layout(NamedTuple):
    """How a table is laid out: separator, line number of the header and the names of all columns but the first."""

    separator: str
    header_line: int
    columns: list[str]


def fault(
    row: InputRow,
    what: str,
    hint: str,
    *,
    file: Path | None = None,
    line: int | None = None,
    key: str | None = None,
    value: object | None = None,
) -> InputError:
    """One fault of a file of a sample, ready to raise; ``file`` defaults to the row's path."""
    return InputError(Problem(str(file or row.path), f"sample {row.sample!r}: {what}", hint, line, key, value))


@contextmanager
def reading(row: InputRow, path: Path, kind: str, hint: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into an :class:`InputError`.

    Parameters
    ----------
    row, path
        The row of the sheet and the file being read, to name in the fault.
    kind
        What the file should be, for the message.
    hint
        What to do if it is not.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except UnicodeDecodeError as error:
        line, byte = _undecodable(path)
        text = "save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
        raise fault(row, "bytes that are not UTF-8", text, file=path, line=line, value=byte) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        text = f"copy or download it again; `gzip -t {path.name}` tests it."
        raise fault(row, f"the gzip file is cut short or damaged ({error})", text, file=path) from error
    except Exception as error:
        # h5py, anndata, scanpy and scipy share no base class for "this file is broken".
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise fault(row, f"not a readable {kind} ({reason})", hint, file=path) from error


def open_binary(path: Path) -> BinaryIO:
    """Open a plain or gzip file by its content: browsers unpack downloads and keep the name."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def open_text(path: Path) -> TextIO:
    """Open a plain or gzip file as strict UTF-8; a byte order mark is dropped."""
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline=None)


def _undecodable(path: Path) -> tuple[int | None, bytes | None]:
    """Line number and byte of the first fault of encoding."""
    with open_binary(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, line[error.start : error.start + 1]
    return None, None


def read_names(row: InputRow, path: Path) -> list[list[str]]:
    """Tab-separated names without a header (barcodes, features): the fields of each line."""
    with reading(row, path, "table of names", "write one name per line."), open_text(path) as stream:
        lines = [line.rstrip("\n") for line in stream]
    # No quoting rules: a gene called 5' must not swallow the lines that follow.
    return [[field.strip().strip('"') for field in line.split("\t")] for line in lines if line.strip()]


def _fields(line: str, separator: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=separator), [])]


def _layout(row: InputRow, path: Path, lines: Iterator[tuple[int, str]]) -> tuple[Layout, tuple[int, str]]:
    """Recognise separator and header by the first two lines; returns the layout and the first line of values.

    R's ``write.table`` leaves the header one field short, as the row names have no title.
    """
    head, first = next(lines, None), next(lines, None)
    if head is None or first is None:
        what = "the table is empty" if head is None else "the table has a header but no rows"
        hint = "it needs a header line, then one line per row, the first column holding the names."
        raise fault(row, what, hint, file=path)
    found = {s: (_fields(head[1], s), _fields(first[1], s)) for s in _SEPARATORS}
    # Where two separators fit, the one that gives more columns stands between values, the other inside names.
    by_width = sorted(_SEPARATORS, key=lambda s: -len(found[s][1]))
    fitting = [s for s in by_width if len(found[s][1]) > 1 and len(found[s][1]) - len(found[s][0]) in (0, 1)]
    if fitting:
        header, values = found[fitting[0]]
        return Layout(fitting[0], head[0], header[len(header) - len(values) + 1 :]), first
    header, values = found[by_width[0]]
    if len(values) < 2:
        hint = "separate the columns by commas or tabs, the first column holding the names."
        raise fault(row, "no columns recognised", hint, file=path, line=first[0], value=first[1][:60])
    _ragged(row, path, head[0], len(header), len(values))


def _ragged(row: InputRow, path: Path, line: int, found: int, expected: int) -> NoReturn:
    hint = "every line must have the same number of fields (the header may have one fewer); is the file complete?"
    raise fault(row, f"{found} fields where {expected} are expected", hint, file=path, line=line)


def _numbered(stream: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((n, line.rstrip("\n")) for n, line in enumerate(stream, 1) if line.strip())


def read_dense(row: InputRow) -> tuple[csr_matrix, list[str], list[str]]:
    """Read a dense table of numbers, block by block.

    Returns
    -------
    values, row_names, column_names
        ``values`` in the table's own orientation; whole numbers as int32, else float64.

    Raises
    ------
    InputError
        For a cell that is not a number (with line and column), ragged lines, no header, bytes that are not UTF-8.
    """
    path = row.path
    names: list[str] = []
    parts: list[csr_matrix] = []
    with reading(row, path, "table", "it must be a .csv or .tsv text table."), open_text(path) as stream:
        lines = _numbered(stream)
        layout, first = _layout(row, path, lines)
        _check_header(row, layout)
        cut = re.compile(r'\s*"((?:[^"]|"")*)"\s*' + re.escape(layout.separator))
        block: list[tuple[int, str]] = []
        room = max(1, _CELLS_PER_BLOCK // len(layout.columns))
        pending: tuple[int, str] | None = first
        while pending is not None:
            number, line = pending
            quoted = cut.match(line)
            name, _, rest = line.partition(layout.separator)
            if quoted:
                name, rest = quoted[1].replace('""', '"'), line[quoted.end() :]
            names.append(name.strip())
            block.append((number, rest))
            pending = next(lines, None)
            if len(block) == room or pending is None:
                parts.append(_parse(row, layout, block))
                block = []
    return vstack(parts, format="csr"), names, layout.columns


def _check_header(row: InputRow, layout: Layout) -> None:
    if all(map(_is_number, layout.columns)) and len(set(layout.columns)) < len(layout.columns):
        hint = "the first line must name the columns, the first column the rows."
        raise fault(row, "the table has no header: its first line holds numbers", hint, line=layout.header_line)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _parse(row: InputRow, layout: Layout, block: list[tuple[int, str]]) -> csr_matrix:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
            lines = [rest for _, rest in block]
            values = np.loadtxt(lines, delimiter=layout.separator, comments=None, quotechar='"', ndmin=2)
    except ValueError:
        _bad_cell(row, layout, block)
    # NumPy skips a line without values.
    if values.shape != (len(block), len(layout.columns)):
        _bad_cell(row, layout, block)
    # NaN fails the comparison and so stays a float, for the checks to find.
    whole = (values == np.floor(values)).all() and np.abs(values).max() <= np.iinfo(np.int32).max
    return csr_matrix(values.astype(np.int32) if whole else values)


def _bad_cell(row: InputRow, layout: Layout, block: list[tuple[int, str]]) -> NoReturn:
    """Raise for the first cell that is at fault; NumPy only tells its place within the block."""
    for number, rest in block:
        if rest.count('"') % 2:
            raise fault(row, "a quote is not closed", "close or remove it.", line=number)
        cells = _fields(rest, layout.separator) or [""]
        if len(cells) != len(layout.columns):
            _ragged(row, row.path, number, len(cells) + 1, len(layout.columns) + 1)
        for column, cell in zip(layout.columns, cells, strict=True):
            if not _is_number(cell):
                hint = "besides the header and the first column the table may hold only counts: "
                hint += "write 0 for none." if cell in _MISSING else "move descriptions to a table named in `metadata`."
                raise fault(row, "a cell is not a number", hint, line=number, key=f"column {column!r}", value=cell)
    # Python and NumPy disagree on a few spellings of numbers, such as digits of other scripts.
    raise fault(row, "a cell is not a plain number", "write the digits 0 to 9.", line=block[0][0])


def read_metadata(row: InputRow, barcodes: pd.Index) -> tuple[pd.DataFrame, int]:
    """Read the per-cell table of a row of the sheet.

    Parameters
    ----------
    row
        A row of the sheet with a ``metadata`` path.
    barcodes
        The cells of the matrix, in order.

    Returns
    -------
    table, missing
        One row per barcode, every value as its text (``01`` stays ``01``), NaN where missing; number of barcodes that
        the table does not hold.
    """
    path = cast(Path, row.metadata)
    kind, hint = "table", "it must be a .csv or .tsv text table whose first column holds the barcodes."
    with reading(row, path, kind, hint), open_text(path) as stream:
        lines = list(stream)
        layout, _ = _layout(row, path, _numbered(lines))
        reader = csv.reader(lines, delimiter=layout.separator)
        records = []
        for cells in reader:
            if any(cells) and reader.line_num > layout.header_line:
                if len(cells) != len(layout.columns) + 1:
                    _ragged(row, path, reader.line_num, len(cells), len(layout.columns) + 1)
                records.append([cell.strip() for cell in cells])
    for column in layout.columns:
        if layout.columns.count(column) > 1:
            raise fault(row, f"column {column!r} appears twice", "remove one.", file=path, line=layout.header_line)
    names = pd.Index([cells[0] for cells in records], dtype=object)
    repeated = names[names.duplicated()]
    if len(repeated):
        hint = "keep one line per cell; a table of several samples needs barcodes that differ between them."
        raise fault(row, f"{len(repeated)} barcodes appear twice", hint, file=path, value=repeated[0])
    table = pd.DataFrame([cells[1:] for cells in records], index=names, columns=layout.columns, dtype=object)
    found = barcodes.isin(names)
    if found.sum() * 2 < len(barcodes):
        what = f"only {int(found.sum())} of the matrix's {len(barcodes)} barcodes are in the metadata table"
        hint = f"the matrix has barcodes like {barcodes[0]!r}, the table like {names[0]!r}: make them the same."
        raise fault(row, what, hint, file=path, key="metadata")
    return table.mask(table.isin(_MISSING)).reindex(barcodes), int((~found).sum())
