"""The sample sheet: one row per input, checked as a whole before the first job.

Imported by the rules, so nothing heavier than the standard library.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from latentomics.config.confounding import PER_CELL, confounding
from latentomics.config.inputs import PAIRED, RELATIVE
from latentomics.config.row import ASSAYS, InputRow, nearest, read_row
from latentomics.problems import Problem

COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
REQUIRED = ("sample", "assay", "path")
OPTIONAL = (
    *("path_2", "path_3", "format", "technology", "droplets", "layer", "metadata"),
    *("batch", "condition", "control", "label"),
)
#: Columns that say how to read a row; every other column describes its observations.
READING = ("sample", "assay", "path", "path_2", "path_3", "format", "technology", "droplets", "layer", "metadata")
#: Written by the workflow itself; a covariate of that name would be overwritten.
RESERVED = (
    *("cell", "cluster", "barcode", "keep", "reason", "value", "limit", "doublet", "doublet_score"),
    *("total_counts", "n_genes", "mito_percent", "ribo_percent", "hb_percent"),
    *("ambient_share", "corrected_counts", "scrublet_score", "scrublet_doublet", "solo_score", "solo_doublet"),
    *("n_taxa", "total_reads", "classified_reads", "unclassified_share"),
)
_RESERVED_START = "cluster_"


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
        row, found = read_row(name, number, dict(zip(header, cells, strict=False)), path.parent, study, covariates)
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
