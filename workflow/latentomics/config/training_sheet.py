"""The sheet of the read classifier's training data, checked as a whole before the first job.

Imported by the rules, so nothing heavier than pydantic at the top.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from latentomics.config.classifier import Classifier
from latentomics.config.paths import of_study
from latentomics.config.row import closest
from latentomics.problems import InputError, Problem

COLUMNS = ("path", "kind", "label", "source", "ancient")
KINDS = ("table", "reads", "genome")
#: Classes and sources have at most this many characters, so that tables and plots can show them.
LONGEST_LABEL = 200
#: Reads below the threshold of confidence are counted under this name.
RESERVED_LABEL = "unclassified"
#: A sheet has one line per file; what is larger is the data itself (bytes).
_LARGEST_SHEET = 10_000_000
_NAMES = {
    "table": re.compile(r".+\.((tsv|csv|txt)(\.gz)?|parquet)", re.IGNORECASE),
    "reads": re.compile(r".+\.(fastq|fq|fasta|fa|fna)(\.gz)?", re.IGNORECASE),
}
_ENDING = re.compile(r"(\.(tsv|csv|txt|parquet|fastq|fq|fasta|fa|fna))?(\.gz)?$", re.IGNORECASE)
_SWITCH = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}


@dataclass(frozen=True)
class TrainingRow:
    """One row of the sheet, resolved.

    Attributes
    ----------
    row
        Line number in the sheet, for messages (0: unknown); where a row stands is no part of what it says.
    kind
        ``table``: reads with their classes, in columns. ``reads``: FASTA or FASTQ of one class. ``genome``: FASTA of one
        class, from which reads are drawn.
    label
        Class of all reads of the file; None for a table, which names them itself.
    source
        Where the reads are from, as far as the sheet says so.
    ancient
        Whether the reads drawn from a genome are damaged.
    """

    row: int = field(compare=False)
    path: Path
    kind: str
    label: str | None = None
    source: str | None = None
    ancient: bool = False

    @property
    def source_name(self) -> str:
        """The source, by default the file's name without its endings."""
        return self.source or _ENDING.sub("", self.path.name) or self.path.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the params of a rule; :meth:`from_dict` is the way back.

        Without the line number: a file added further up must not rerun what is below it.
        """
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare} | {"path": str(self.path)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainingRow:
        """A row from the plain values of :meth:`as_dict`."""
        return cls(**{"row": 0, **plain, "path": Path(plain["path"])})


def read_training_sheet(path: Path) -> tuple[list[TrainingRow], list[Problem]]:
    """Read and check the sheet of training data.

    Parameters
    ----------
    path
        Tab-separated, UTF-8, columns ``path`` and, as needed, ``kind``, ``label``, ``source`` and ``ancient``. Relative
        paths are relative to the sheet's folder, and may not leave it or the study's folder (the current one).

    Returns
    -------
    rows, problems
        The rows without fault, in order, and every fault of every row.
    """
    lines, problems = _lines(path)
    if not lines:
        return [], problems
    number, header = lines[0]
    problems = _header_problems(str(path), number, header)
    if problems:
        return [], problems
    if len(lines) == 1:
        return [], [Problem(str(path), "the sheet has a header but no rows", "add one line per file.")]
    rows: list[TrainingRow] = []
    for number, cells in lines[1:]:
        if len(cells) > len(header):
            what, hint = f"{len(cells)} values for {len(header)} columns", "separate the values by one tab each."
            problems.append(Problem(str(path), what, hint, row=number, key="header", value=cells[len(header)]))
            continue
        values = dict.fromkeys(COLUMNS, "") | dict(zip(header, cells, strict=False))
        row, faults = _row(path, number, values)
        problems += faults
        if row is not None:
            rows.append(row)
    return rows, problems + _together(str(path), rows, whole=not problems)


def _lines(path: Path) -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    """Number and cells of every line that is not blank or a comment."""
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= _LARGEST_SHEET else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "set `classifier.training` in the config to the sheet, relative to the study's folder, or create it."
        return [], [Problem(str(path), f"cannot read the sheet of training data: {reason}", hint, key="training")]
    if size > _LARGEST_SHEET:
        hint = "a sheet has one line per file of reads: name this file in the column `path` of a sheet."
        return [], [Problem(str(path), f"{size:,} bytes are too many for a sheet of training data", hint)]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        what, hint = "bytes that are not UTF-8", "save the sheet as UTF-8, as text separated by tabs."
        return [], [Problem(str(path), what, hint, row=row, value=raw[error.start : error.start + 1])]
    found = []
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        # No quoting rules between tabs: a strain called 5" must not swallow the lines that follow.
        cells = [cell.strip() for cell in line.split("\t")]
        if any(cells) and not cells[0].startswith("#"):
            found.append((number, cells))
    hint = f"write a header line ({', '.join(COLUMNS)}), then one line per file."
    return found, [] if found else [Problem(str(path), "the sheet of training data is empty", hint)]


def _header_problems(name: str, number: int, header: list[str]) -> list[Problem]:
    problems = []
    every = f"The sheet is tab-separated with the columns {', '.join(COLUMNS)}."
    if "path" not in header:
        what, hint = "required column 'path' is missing", f"{closest('path', header)}{every}"
        problems.append(Problem(name, what, hint, row=number, key="path"))
    for column in dict.fromkeys(header):
        if column not in COLUMNS:
            what, hint = "unknown column", f"{closest(column, COLUMNS)}{every}"
            problems.append(Problem(name, what, hint, row=number, key="header", value=column))
        elif header.count(column) > 1:
            problems.append(Problem(name, "column appears twice", "remove one.", row=number, key=column))
    return problems


def _row(sheet: Path, number: int, values: Mapping[str, str]) -> tuple[TrainingRow | None, list[Problem]]:
    problems: list[Problem] = []

    def fault(key: str, what: str, hint: str) -> None:
        problems.append(Problem(str(sheet), what, hint, row=number, key=key, value=values[key] or None))

    path = Path(os.path.normpath(sheet.parent.absolute() / values["path"]))
    if found := _path_fault(values["path"], path, sheet):
        fault("path", *found)
    kind = values["kind"] or next((k for k, known in _NAMES.items() if known.fullmatch(path.name)), "")
    if values["kind"] and kind not in KINDS:
        fault("kind", "unknown kind", f"{closest(kind, KINDS)}Write one of {', '.join(KINDS)}.")
    elif not kind and values["path"]:
        hint = "name it .tsv, .csv, .txt, .parquet, .fastq or .fasta (.gz), or write `table`, `reads` or `genome` in `kind`."
        fault("path", "the kind of file is not recognised by its name", hint)
    if kind == "table" and values["label"]:
        hint = "leave it empty: a table names the class of each read in a column (`classifier.label_column`)."
        fault("label", "a label has no use for a table", hint)
    elif kind in ("reads", "genome"):
        if not values["label"]:
            fault("label", f"a row of kind {kind!r} needs a label", "write the class of the file's reads.")
        elif bad := label_fault(values["label"]):
            fault("label", *bad)
    if values["source"] and (bad := name_fault(values["source"])):
        fault("source", f"source cannot be used: {bad}", "write a short name, such as that of a genome or sample.")
    ancient = _SWITCH.get(values["ancient"].casefold())
    if ancient is None:
        fault("ancient", "neither yes nor no", "write `yes` or `no`, or leave it empty.")
    elif ancient and kind in ("table", "reads"):
        fault(
            "ancient", f"`ancient` has no use for a row of kind {kind!r}", "only reads drawn from genomes are damaged."
        )
    if problems:
        return None, problems
    plain = {"label": values["label"] or None, "source": values["source"] or None, "ancient": bool(ancient)}
    return TrainingRow(number, of_study(path), kind, **plain), problems


def _path_fault(value: str, path: Path, sheet: Path) -> tuple[str, str] | None:
    """What is wrong with a path of the sheet and what to do, if anything."""
    if not value:
        return "no path", "name the file of the reads or genome."
    if not str(path).isprintable() or any(c in str(path) for c in "{}"):
        return "path holds braces or control characters", "rename the file or folder."
    folders = (Path(os.path.normpath(sheet.parent.absolute())), Path.cwd())
    if not Path(value).is_absolute() and not any(map(path.is_relative_to, folders)):
        hint = "move the data into the study, or give the absolute path if you do mean a file elsewhere."
        return "relative path leaves the study's folder", hint
    try:
        size, folder = path.stat().st_size, path.is_dir()
    except OSError as error:
        hint = f"looked for {path}; relative paths are relative to the sheet's folder."
        return f"file cannot be reached ({error.strerror})", hint
    if folder:
        return "path is a folder", "write one line per file."
    if not os.access(path, os.R_OK):
        return "file cannot be read", f"check the permissions of {path}."
    return None if size else ("file is empty", "was its copy complete?")


def name_fault(text: str) -> str | None:
    """Why a text cannot be the name of a class or source, if so: it is shown in tables and plots.

    >>> name_fault("Homo sapiens") is None
    True
    """
    if len(text) > LONGEST_LABEL:
        return f"longer than {LONGEST_LABEL} characters"
    return None if text.isprintable() else "it holds control characters"


def label_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with the name of a class and what to do about it, if anything."""
    if text == RESERVED_LABEL:
        return f"the class {RESERVED_LABEL!r} is reserved", "it names reads without a class in the results: rename it."
    why = name_fault(text)
    return (f"class cannot be used: {why}", "is this the column of the class?") if why else None


def _together(name: str, rows: Sequence[TrainingRow], whole: bool) -> list[Problem]:
    """Faults that only the rows together show; ``whole``: no row was left out as faulty."""
    problems = []
    seen: dict[tuple[Path, bool | None], TrainingRow] = {}
    cases: dict[str, TrainingRow] = {}
    for row in rows:
        # A genome may give modern reads in one row and ancient ones in another.
        first = seen.setdefault((row.path, row.ancient if row.kind == "genome" else None), row)
        if first is not row:
            hint = "remove one of the two rows; the same reads under two classes cannot be told apart."
            problems.append(Problem(name, f"same path as row {first.row}", hint, row.row, "path", str(row.path)))
        if row.label and (like := cases.setdefault(row.label.casefold(), row)).label != row.label:
            what, hint = f"label differs from that of row {like.row} only in case", "are they one class?"
            problems.append(Problem(name, what, hint, row.row, "label", row.label, severity="warning"))
    labels = {row.label for row in rows}
    if whole and len(labels) == 1 and None not in labels:
        hint = "add files of a second class: a classifier needs two at least."
        problems.append(Problem(name, "there is only one class", hint, key="label", value=labels.pop()))
    return problems


def check_training(rows: Iterable[TrainingRow], settings: Classifier) -> list[Problem]:
    """Look into the first records of every file, before the first job.

    What is wrong further on, the job that reads the whole file finds.

    Returns
    -------
    list of Problem
        Files that cannot be read, columns missing, no sequence that can be used, one class only; as warnings: most
        sequences would be left out, a FASTA that looks like a genome, drawn reads that are all cut.
    """
    from latentomics.reads.sources import look_into

    rows = list(rows)
    problems: list[Problem] = []
    classes: Counter[str] = Counter()
    whole = True
    for row in rows:
        try:
            look = look_into(row, settings)
        except InputError as error:
            problems += error.problems
            whole = False
            continue
        problems += look.problems
        classes.update(look.classes)
        whole = whole and (look.whole or row.kind != "table")
    tables = [row for row in rows if row.kind == "table"]
    if whole and tables and len(classes) == 1:
        hint = "a classifier needs two classes at least; is `classifier.label_column` the column of the class?"
        what = "all reads are of one class"
        problems.append(Problem(str(tables[0].path), what, hint, key=settings.label_column, value=next(iter(classes))))
    return problems + _settings_problems(rows, tables, settings)


def _settings_problems(
    rows: Sequence[TrainingRow], tables: Sequence[TrainingRow], settings: Classifier
) -> list[Problem]:
    """Settings that do not fit the rows."""
    problems = []
    for row in tables:
        if row.source and settings.source_column:
            what = f"a source is given for a table whose sources are in column {settings.source_column!r}"
            hint = "leave the sheet's `source` empty, or set `classifier.source_column` to null."
            problems.append(Problem(str(row.path), what, hint, key="source", value=row.source))
    # Sources in a table's column are known only once it is read.
    if not (tables and settings.source_column):
        known = {row.source_name for row in rows}
        for name in settings.split.test_sources:
            if name not in known:
                what, hint = (
                    "no row has this source",
                    f"{closest(name, known)}The sources are {', '.join(sorted(known))}.",
                )
                problems.append(Problem("config", what, hint, key="classifier.split.test_sources", value=name))
    mean = settings.drawn.length_mean
    if any(row.kind == "genome" for row in rows) and not settings.min_length <= mean <= settings.max_length:
        what = f"drawn reads are cut to between {settings.min_length} and {settings.max_length} bases"
        hint = "set `classifier.min_length` and `max_length` around `drawn.length_mean`."
        key = "classifier.drawn.length_mean"
        problems.append(Problem("config", what, hint, key=key, value=mean, severity="warning"))
    return problems
