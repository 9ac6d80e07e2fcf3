"""What the config's section ``quantify`` and the sample sheet show together, and how both say what a row's reads are.

Imported by the rules: nothing heavier than the sections of the config.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from latentomics.config.load import line_of
from latentomics.config.quantify import TECHNOLOGIES, Quantify, read_layout, technology_problem
from latentomics.config.row import InputRow, closest
from latentomics.config.sheet import Sheet
from latentomics.problems import Problem

#: Columns of the sheet that name kallisto's files 0, 1 and 2.
FILE_COLUMNS = ("path", "path_2", "path_3")
#: Words of ``quantify.whitelist`` that are no file.
WHITELIST_WORDS = ("auto", "none")
_REFERENCE = ("genome", "annotation", "transcripts", "transcripts_to_genes", "index")


def is_cell_reads(row: InputRow) -> bool:
    """Whether a row holds reads of single cells, which are to be quantified."""
    return row.assay == "scrna" and row.format == "fastq"


def technology_of(row: InputRow, quantify: Quantify) -> str:
    """How the reads of a row are built: as the sheet says, else as the config says."""
    return row.technology or quantify.technology


def read_files(row: InputRow) -> list[Path]:
    """kallisto's files of a row, in their order."""
    return [path for path in (row.path, row.path_2, row.path_3) if path is not None]


def whitelist_file(quantify: Quantify, study: Path) -> Path | None:
    """The file of barcodes that the config names, if it names one; relative paths are relative to the study."""
    return None if quantify.whitelist in WHITELIST_WORDS else study / quantify.whitelist


def quantify_problems(quantify: Quantify, config_file: Path, sheet: Sheet, study: Path) -> list[Problem]:
    """Faults of the section ``quantify`` and of the sheet's rows of reads, before anything is read.

    Parameters
    ----------
    config_file
        For messages.
    study
        The study's folder: relative paths of the config are relative to it.
    """
    problems = []
    for row in filter(is_cell_reads, sheet.rows):
        problems += layout_problems(row, quantify, str(sheet.path))
    samples = {name: rows for name, rows in sheet.samples("scrna").items() if any(map(is_cell_reads, rows))}
    for sample, rows in samples.items():
        for row in rows[1:]:
            first, other = technology_of(rows[0], quantify), technology_of(row, quantify)
            if first.lower() != other.lower():
                what = f"sample {sample!r} is of {first} in row {rows[0].row}"
                hint = "rows of one sample are lanes of one library; give reads of another technology their own sample."
                problems.append(Problem(str(sheet.path), what, hint, row=row.row, key="technology", value=other))
    return [*problems, *(_config_problems(quantify, config_file, study, len(samples)) if samples else ())]


def layout_problems(row: InputRow, quantify: Quantify, sheet: str) -> list[Problem]:
    """Whether the technology of a row of reads is known, and the row names the files that it needs."""
    technology = technology_of(row, quantify)

    def fault(key: str, what: str, hint: str, value: object | None = None) -> Problem:
        return Problem(sheet, f"sample {row.sample!r}: {what}", hint, row=row.row or None, key=key, value=value)

    if problem := technology_problem(technology):
        hint = f"{closest(technology, TECHNOLOGIES)}See `quantify.technology` in the manual of the config."
        return [fault("technology", problem, hint)]
    needed = read_layout(technology).n_files
    given = [column for column in FILE_COLUMNS if getattr(row, column) is not None]
    found = []
    for column in FILE_COLUMNS[:needed]:
        if column not in given:
            hint = "name the file of barcodes and UMIs and the file of the RNA in the order of the technology."
            found.append(fault(column, f"{technology} reads are in {needed} files, and `{column}` is empty", hint))
    for column in FILE_COLUMNS[needed:]:
        if column in given:
            hint = "leave it empty, or name the right `technology`; further lanes of a sample are rows of their own."
            what = f"{technology} reads are in {needed} file(s), and `{column}` names a further one"
            found.append(fault(column, what, hint, str(getattr(row, column))))
    return found


def _config_problems(quantify: Quantify, config_file: Path, study: Path, n_samples: int) -> Iterator[Problem]:
    def fault(key: str, what: str, hint: str) -> Problem:
        row = line_of(config_file, ("quantify", key)) or line_of(config_file, ("quantify",))
        return Problem(str(config_file), what, hint, row=row, key=f"quantify.{key}", value=getattr(quantify, key))

    if not (quantify.genome or quantify.transcripts or quantify.index):
        what = f"the sheet has reads of {n_samples} sample(s) of cells, and the config no reference to map them to"
        hint = (
            "set `quantify.genome` and `quantify.annotation`, or `quantify.transcripts` (or `quantify.index`) "
            "and `quantify.transcripts_to_genes`."
        )
        yield fault("genome", what, hint)
    named = [key for key in _REFERENCE if getattr(quantify, key)]
    if quantify.whitelist not in WHITELIST_WORDS:
        named.append("whitelist")
    for key in named:
        if not (study / getattr(quantify, key)).is_file():
            near = closest(quantify.whitelist, WHITELIST_WORDS) if key == "whitelist" else ""
            yield fault(key, "file does not exist", f"{near}Paths are relative to the study's folder, or absolute.")
