"""The sample sheet: one row per input, checked as a whole before the first job.

Imported by the rules, so nothing heavier than the standard library.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any

from latentomics.config.confounding import PER_CELL, confounding
from latentomics.config.inputs import FORMATS, PAIRED, RELATIVE, mtx_names, recognise, tenx_files
from latentomics.config.paths import of_study
from latentomics.problems import Problem

SAMPLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: File names may hold 255 bytes; a sample's name gets endings, and goes into every observation id.
LONGEST_NAME = 100
COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
ASSAYS = tuple(FORMATS)
REQUIRED = ("sample", "assay", "path")
OPTIONAL = ("path_2", "format", "layer", "metadata", "batch", "condition", "control", "label")
#: Columns that say how to read a row; every other column describes its observations.
READING = ("sample", "assay", "path", "path_2", "format", "layer", "metadata")
#: Written by the workflow itself; a covariate of that name would be overwritten.
RESERVED = (
    *("cell", "cluster", "barcode", "keep", "reason", "value", "limit", "doublet", "doublet_score"),
    *("total_counts", "n_genes", "mito_percent", "ribo_percent", "hb_percent"),
    *("n_taxa", "total_reads", "classified_reads", "unclassified_share"),
)
_RESERVED_START = "cluster_"


@dataclass(frozen=True)
class InputRow:
    """One row of the sheet, resolved: every path absolute, the format known.

    Attributes
    ----------
    row
        Line number in the sheet, for messages (0: unknown); where a row stands is no part of what it says.
    layer
        Slot of an ``.h5ad`` that holds the counts: ``X``, ``raw`` or a layer's name.
    metadata
        Table of per-cell columns, its first column the barcode.
    covariates
        ``batch``, ``condition``, ``label`` and further columns; a value ``obs:NAME`` names a per-cell column.
    """

    row: int = field(compare=False)
    sample: str
    assay: str
    path: Path
    format: str
    path_2: Path | None = None
    layer: str | None = None
    metadata: Path | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Every file that the row reads: what its job depends on."""
        main = tenx_files(self.path) if self.format == "10x_dir" else [self.path]
        beside = mtx_names(self.path) if self.format == "mtx" else ()
        return [p for p in (*main, *beside, self.path_2, self.metadata) if p is not None]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the params of a rule; :meth:`from_dict` is the way back.

        Without the line number: a sample added further up must not rerun those below it.
        """
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return {k: str(v) if isinstance(v, Path) else v for k, v in plain.items()} | {
            "covariates": dict(self.covariates)
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> InputRow:
        """A row from the plain values of :meth:`as_dict`."""
        paths = {k: Path(plain[k]) for k in ("path", "path_2", "metadata") if plain[k] is not None}
        return cls(**{"row": 0, **plain, **paths})


@dataclass(frozen=True)
class Sheet:
    """A sample sheet whose rows were all readable."""

    path: Path
    rows: tuple[InputRow, ...]
    covariates: tuple[str, ...]

    def samples(self, assay: str) -> dict[str, list[InputRow]]:
        """Rows of each sample of an assay, in the order of the sheet."""
        found: dict[str, list[InputRow]] = {}
        for row in self.rows:
            if row.assay == assay:
                found.setdefault(row.sample, []).append(row)
        return found

    def assays(self) -> list[str]:
        """Assays that the sheet names, in the order of the house."""
        return [assay for assay in ASSAYS if any(row.assay == assay for row in self.rows)]

    def counts(self, assay: str) -> bool:
        """Whether every input of an assay holds counts, as far as its format tells."""
        return not any(row.assay == assay and row.format in RELATIVE for row in self.rows)

    def batches(self, assay: str) -> int:
        """Number of batches that the sheet promises; a per-cell batch column counts as two or more."""
        values = {row.covariates.get("batch", "") for row in self.rows if row.assay == assay}
        return max(len(values), 2 if any(v.startswith(PER_CELL) for v in values) else 0)


#: Of a study that only trains read classifiers.
NO_SAMPLES = Sheet(Path(), (), ())


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word most like this one, whatever the case; None where nothing is near."""
    folded = {other.casefold(): other for other in known}
    match = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=cutoff)
    return folded[match[0]] if match else None


def closest(word: str, known: Iterable[str]) -> str:
    """A "did you mean" clause, or an empty string where nothing is near."""
    match = nearest(word, known)
    return f"did you mean {match!r}? " if match else ""


def read_sheet(path: Path, study: Path) -> tuple[Sheet | None, list[Problem]]:
    """Read and check the sample sheet.

    Parameters
    ----------
    path
        The sheet: tab-separated (``.csv``: comma-separated), UTF-8, one header line.
    study
        The study's folder. Relative paths of the sheet may not leave it.

    Returns
    -------
    sheet, problems
        ``sheet`` holds the rows that can be read, so that the content of the good rows is checked in the same go;
        it is None only if there is no such row. ``problems`` lists every fault of every row.
    """
    name = str(path)
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        hint = "set `samples` in the config to the sample sheet, relative to the study's folder, or create it."
        what = f"cannot read the sample sheet: {getattr(error, 'strerror', None) or error}"
        return None, [Problem(name, what, hint, key="samples")]
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        hint = "save it as UTF-8; Excel's 'Unicode Text' is UTF-16."
        return None, [Problem(name, "the sample sheet is UTF-16", hint)]
    table, problems = _cells(name, raw, "," if path.suffix.lower() == ".csv" else "\t")
    if not table:
        hint = f"write a header line with at least {', '.join(REQUIRED)}, then one row per input."
        return None, [*problems, Problem(name, "the sample sheet is empty", hint)]
    header = table[0][1]
    problems += _header_problems(name, table[0][0], header)
    if not set(REQUIRED) <= set(header):
        return None, problems
    covariates = tuple(c for c in header if c and c not in READING)
    rows = []
    for number, cells in table[1:]:
        cells = cells + [""] * (len(header) - len(cells))
        surplus = [cell for cell, column in zip_longest(cells, header) if cell and not column]
        if surplus:
            hint = "remove the surplus cells, name their column, or quote a value that holds the separator."
            what = f"{len(surplus)} cell(s) in no column of the header"
            problems.append(Problem(name, what, hint, row=number, value=surplus[0]))
            continue
        row, found = _read_row(name, number, dict(zip(header, cells, strict=False)), path.parent, study, covariates)
        problems += found
        if row is not None:
            rows.append(row)
    if len(table) == 1:
        problems.append(Problem(name, "the sample sheet has a header but no rows", "add one row per input."))
    problems += _duplicate_problems(name, rows) + sheet_confounding(name, rows)
    return (Sheet(path, tuple(rows), covariates) if rows else None), problems


def _cells(name: str, raw: bytes, separator: str) -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    """Number and cells of every line that is not blank or a comment.

    Line by line: a quote that is never closed costs its own row, not all that follow.
    """
    table, problems = [], []
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", raw.removeprefix(b"\xef\xbb\xbf")), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            hint = "save the sheet as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
            bad = line[error.start : error.start + 1]
            problems.append(Problem(name, "bytes that are not UTF-8", hint, row=number, value=bad))
        text = line.decode("utf-8", errors="replace")
        if text.lstrip().startswith("#"):
            continue
        try:
            cells = [cell.strip() for cell in next(csv.reader([text], delimiter=separator, strict=True), [])]
        except csv.Error:
            hint = "close the quote in the same row, or remove it; a quote inside a quoted cell is written twice."
            problems.append(Problem(name, "a quote that is not closed", hint, row=number, value=text))
            continue
        if any(cells) and not cells[0].startswith("#"):
            table.append((number, cells))
    return table, problems


def _header_problems(name: str, number: int, header: list[str]) -> list[Problem]:
    problems = []
    others = [column for column in header if column not in (*REQUIRED, *OPTIONAL)]
    meant = {near: column for column in others if (near := nearest(column, (*REQUIRED, *OPTIONAL), cutoff=0.8))}
    for column in REQUIRED:
        if column not in header:
            near = meant.get(column) or nearest(column, others)
            hint = f"rename the column {near!r} to {column!r}." if near else f"add a column {column!r}."
            if len(header) == 1:
                hint += " The sheet must be separated by tabs (.csv: by commas)."
            problems.append(Problem(name, f"required column {column!r} is missing", hint, row=number, key=column))
    for column in dict.fromkeys(c for c in header if c and header.count(c) > 1):
        problems.append(Problem(name, f"column {column!r} appears twice", "remove one.", row=number, key=column))
    for column in dict.fromkeys(c for c in header if c):
        if not COLUMN_NAME.fullmatch(column):
            hint = "use letters, digits and underscores, starting with a letter."
            problems.append(Problem(name, "column name cannot be used", hint, row=number, key="header", value=column))
        if column in RESERVED or column.startswith(_RESERVED_START):
            hint = "the workflow writes a column of this name: rename yours."
            problems.append(Problem(name, "column name is reserved", hint, row=number, key=column))
    for known, column in meant.items():
        if known in OPTIONAL and known not in header:
            hint = f"rename it to {known!r} if that is what it is; as it stands it is a covariate."
            what = f"column {column!r} is much like {known!r}, which has a meaning"
            problems.append(Problem(name, what, hint, row=number, key=column, severity="warning"))
    return problems


def _read_row(
    name: str, number: int, values: Mapping[str, str], base: Path, study: Path, covariates: tuple[str, ...]
) -> tuple[InputRow | None, list[Problem]]:
    problems: list[Problem] = []

    def fault(key: str, what: str, hint: str) -> None:
        problems.append(Problem(name, what, hint, row=number, key=key, value=values.get(key) or None))

    sample, assay = values["sample"], values["assay"]
    if not SAMPLE_NAME.fullmatch(sample):
        fault(
            "sample",
            "sample name cannot be used",
            "sample names become file names: letters, digits, '.', '_' and '-', starting with a letter or digit.",
        )
    elif len(sample) > LONGEST_NAME:
        fault(
            "sample",
            "sample name is too long",
            f"sample names become file names: use {LONGEST_NAME} characters at most.",
        )
    of_sample = f"sample {sample!r}: "
    if assay not in ASSAYS:
        fault("assay", f"{of_sample}unknown assay", f"{closest(assay, ASSAYS)}This version reads: {', '.join(ASSAYS)}.")
    paths = {}
    for key in ("path", "path_2", "metadata"):
        if values.get(key):
            path, fault_found = _resolve(values[key], base, study)
            if fault_found:
                fault(key, of_sample + fault_found[0], fault_found[1])
            else:
                paths[key] = path
        elif key == "path":
            fault("path", f"{of_sample}no path", "name the file or 10x folder that holds the counts.")
    # Of an unknown assay, the path is judged as one of cells, so that its faults are listed too.
    known = assay if assay in FORMATS else "scrna"
    formats = FORMATS[known]
    form = values.get("format") or ("path" in paths and recognise(paths["path"], known)) or None
    if form not in formats and (values.get("format") or "path" in paths):
        key, what = ("format", "unknown format") if values.get("format") else ("path", "format not recognised")
        fault(
            key,
            of_sample + what,
            f"{closest(form or '', formats)}Set the column `format` to one of {', '.join(formats)}.",
        )
    elif form == "10x_dir" and "path" in paths and len(tenx_files(paths["path"])) < 3:
        fault(
            "path",
            f"{of_sample}not a complete 10x folder",
            "it must hold matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv, each plain or .gz.",
        )
    if values.get("path_2") and form in formats and form not in PAIRED:
        fault("path_2", f"{of_sample}`path_2` has no use here", "it names the mates of FASTQ reads; leave it empty.")
    if "path_2" in paths and paths["path_2"] == paths.get("path"):
        fault("path_2", f"{of_sample}mates are the same file as `path`", "name the file of the second reads.")
    if values.get("layer") and form in formats and form != "h5ad":
        fault("layer", f"{of_sample}`layer` only applies to .h5ad files", "leave it empty for other formats.")
    if problems:
        return None, problems
    described = {c: values.get(c, "") for c in covariates}
    return (
        InputRow(
            row=number,
            sample=sample,
            assay=assay,
            path=of_study(paths["path"]),
            format=str(form),
            path_2=of_study(paths["path_2"]) if "path_2" in paths else None,
            layer=values.get("layer") or None,
            metadata=of_study(paths["metadata"]) if "metadata" in paths else None,
            covariates=described,
        ),
        problems,
    )


def _resolve(value: str, base: Path, study: Path) -> tuple[Path, tuple[str, str] | None]:
    base, study = (Path(os.path.normpath(folder.absolute())) for folder in (base, study))
    path = Path(os.path.normpath(base / value))
    if not str(path).isprintable() or any(c in str(path) for c in "{}"):
        return path, ("path holds braces or control characters", "rename the file or folder.")
    if not Path(value).is_absolute() and not (path.is_relative_to(study) or path.is_relative_to(base)):
        return path, (
            "relative path leaves the study's folder",
            "move the data into the study, or give the absolute path if you do mean a file elsewhere.",
        )
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return path, (
            "file does not exist",
            f"looked for {path}; relative paths are relative to the sheet's folder. "
            "(`make demo` writes the embedded data of the shipped sheet.)",
        )
    except OSError as error:
        return path, (f"file cannot be reached: {error.strerror}", f"check {path} and the permissions of its folders.")
    needed = [path, *tenx_files(path)] if folder and os.access(path, os.X_OK) else [path]
    locked = [file for file in needed if not os.access(file, os.R_OK)]
    if locked or (folder and not os.access(path, os.X_OK)):
        return path, ("file cannot be read", f"check the permissions of {locked[0] if locked else path}.")
    return path, None


def _duplicate_problems(name: str, rows: list[InputRow]) -> list[Problem]:
    problems = []
    by_sample: dict[tuple[str, str], list[InputRow]] = defaultdict(list)
    by_name: dict[str, InputRow] = {}
    by_path: dict[Path, InputRow] = {}
    for row in rows:
        by_sample[row.assay, row.sample].append(row)
        like = by_name.setdefault(row.sample.casefold(), row)
        if like.sample != row.sample:
            hint = "make the names differ in more than case: some file systems cannot tell them apart."
            what = f"sample name differs from {like.sample!r} of row {like.row} only in case"
            problems.append(Problem(name, what, hint, row=row.row, key="sample", value=row.sample))
        first = by_path.setdefault(row.path, row)
        if first.sample != row.sample:
            hint = "name the sample's own file; the same cells under two names would count twice."
            what = f"sample {row.sample!r}: same path as sample {first.sample!r} of row {first.row}"
            problems.append(Problem(name, what, hint, row=row.row, key="path", severity="warning"))
    for (_, sample), group in by_sample.items():
        first = group[0]
        kinds = {row.format in PAIRED for row in group}
        if len(kinds) > 1:
            hint = "give the table and the reads names of their own."
            what = f"sample {sample!r} has reads in one row and a table in another"
            problems.append(Problem(name, what, hint, row=group[-1].row, key="format", value=group[-1].format))
        for row in group[1:]:
            seen = next(r for r in group if r.path == row.path)
            if seen is not row:
                hint = "remove one of the two rows; rows of one sample are merged, so its counts would double."
                problems.append(
                    Problem(
                        name,
                        f"duplicate sample {sample!r}: same path as row {seen.row}",
                        hint,
                        row=row.row,
                        key="sample",
                        value=sample,
                    )
                )
            for column, value in row.covariates.items():
                if value != first.covariates[column]:
                    hint = "rows of one sample are merged and must agree; rename one sample if they are two."
                    what = f"sample {sample!r} has {first.covariates[column]!r} in row {first.row}"
                    problems.append(Problem(name, what, hint, row=row.row, key=column, value=value))
    return problems


def sheet_confounding(name: str, rows: Iterable[InputRow]) -> list[Problem]:
    """Confounding that the sheet alone shows (per-cell batches are checked when the samples are joined)."""
    pairs: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        pairs[row.assay].add((row.covariates.get("batch", ""), row.covariates.get("condition", "")))
    return [problem for found in pairs.values() for problem in confounding(name, found)]
