"""One row of the sample sheet: what it says, and every fault of it.

Imported by the rules, so nothing heavier than the standard library.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from latentomics.config.inputs import FORMATS, PAIRED, mtx_names, recognise, tenx_files
from latentomics.config.paths import of_study
from latentomics.problems import Problem

SAMPLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: File names may hold 255 bytes; a sample's name gets endings, and goes into every observation id.
LONGEST_NAME = 100
ASSAYS = tuple(FORMATS)
#: What a matrix of cells may be said to be.
DROPLETS = ("raw", "filtered")
#: Columns that name files.
PATHS = ("path", "path_2", "path_3", "metadata")


@dataclass(frozen=True)
class InputRow:
    """One row of the sheet, resolved: every path absolute, the format known.

    Attributes
    ----------
    row
        Line number in the sheet, for messages (0: unknown); where a row stands is no part of what it says.
    path_2, path_3
        Further files of the same reads: mates, or barcodes and UMIs.
    technology
        How the reads of cells are built, where the sheet says so (:mod:`latentomics.config.quantify`).
    droplets
        ``raw`` or ``filtered``, where the sheet says which a matrix is.
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
    path_3: Path | None = None
    technology: str | None = None
    droplets: str | None = None
    layer: str | None = None
    metadata: Path | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Every file that the row reads: what its job depends on."""
        main = tenx_files(self.path) if self.format == "10x_dir" else [self.path]
        beside = mtx_names(self.path) if self.format == "mtx" else ()
        return [p for p in (*main, *beside, self.path_2, self.path_3, self.metadata) if p is not None]

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
        paths = {k: Path(plain[k]) for k in PATHS if plain.get(k) is not None}
        return cls(**{"row": 0, **plain, **paths})


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word most like this one, whatever the case; None where nothing is near."""
    folded = {other.casefold(): other for other in known}
    match = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=cutoff)
    return folded[match[0]] if match else None


def closest(word: str, known: Iterable[str]) -> str:
    """A "did you mean" clause, or an empty string where nothing is near."""
    match = nearest(word, known)
    return f"did you mean {match!r}? " if match else ""


@dataclass(frozen=True)
class _Use:
    """For which inputs a column means something, and what."""

    what: str
    formats: tuple[str, ...] | None = None
    assay: str | None = None

    def applies(self, assay: str, form: str) -> bool:
        return self.assay in (None, assay) and (self.formats is None or form in self.formats)


_MATRICES = tuple(form for form in FORMATS["scrna"] if form not in PAIRED)
_USES = {
    "path_2": _Use("names the second file of FASTQ reads", PAIRED),
    "path_3": _Use("names the third file of the FASTQ reads of cells", PAIRED, "scrna"),
    "technology": _Use("says how the FASTQ reads of cells are built", PAIRED, "scrna"),
    "droplets": _Use("says whether a matrix of cells is raw or filtered", _MATRICES, "scrna"),
    "layer": _Use("only applies to .h5ad files", ("h5ad",)),
}


def read_row(
    name: str, number: int, values: Mapping[str, str], base: Path, study: Path, covariates: tuple[str, ...]
) -> tuple[InputRow | None, list[Problem]]:
    """Read and check one row of the sheet.

    Parameters
    ----------
    name, number
        The sheet and the line, for messages.
    values
        Cells of the row by column; relative paths are those below ``base``, and may leave neither it nor ``study``.
    covariates
        Columns that describe the observations.

    Returns
    -------
    row, problems
        ``row`` is None if it has a fault.
    """
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
    for key in PATHS:
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
    if form in formats:
        for key, use in _USES.items():
            if values.get(key) and not use.applies(known, str(form)):
                fault(key, f"{of_sample}`{key}` has no use here", f"it {use.what}; leave it empty.")
    for key, earlier in (("path_2", ("path",)), ("path_3", ("path", "path_2"))):
        if key in paths and paths[key] in [paths.get(other) for other in earlier]:
            fault(key, f"{of_sample}the same file twice", "name the file of the other reads.")
    if values.get("droplets") and values["droplets"] not in DROPLETS:
        fault(
            "droplets",
            f"{of_sample}not a kind of matrix",
            f"{closest(values['droplets'], DROPLETS)}Use raw or filtered.",
        )
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
            covariates=described,
            **{key: of_study(paths[key]) for key in PATHS[1:] if key in paths},
            **{key: values.get(key) or None for key in ("layer", "technology", "droplets")},
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
