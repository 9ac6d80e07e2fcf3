"""The sheet of reference databases, checked as a whole before the first job.

Imported by the rules, so nothing heavier than pydantic.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from latentomics.config.paths import of_study
from latentomics.config.row import LONGEST_NAME, SAMPLE_NAME, closest
from latentomics.metagenome import lineage
from latentomics.metagenome.profile import registry
from latentomics.problems import Problem

COLUMNS = ("name", "profiler", "path", "lineages", "parameters")
_REQUIRED = COLUMNS[:3]
#: Names of the column that holds the genome, in the tables that tools and repositories write.
_GENOME_COLUMNS = ("genome", "accession", "ident", "identifiers", "assembly", "id", "name")
_FASTA = re.compile(r"(.+?)\.(fa|fna|fasta)(\.gz)?", re.IGNORECASE)
_PREFIX = re.compile(r"^[a-z]__")
_ACCESSION = re.compile(r"(GC[AF]_\d+)(\.\d+)?")


@dataclass(frozen=True)
class Database:
    """One row of the sheet, resolved.

    Attributes
    ----------
    path
        Folder of genomes, or an existing database where ``exists``.
    lineages
        Table of lineages; None only for databases that bring their own taxonomy.
    parameters
        Valid values of the profiler's ``Params``.
    """

    name: str
    profiler: str
    path: Path
    exists: bool
    lineages: Path | None
    parameters: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the params of a rule; :meth:`from_dict` is the way back."""
        return {
            "name": self.name,
            "profiler": self.profiler,
            "path": str(self.path),
            "exists": self.exists,
            "lineages": None if self.lineages is None else str(self.lineages),
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Database:
        """A row from the plain values of :meth:`as_dict`."""
        lineages = None if plain["lineages"] is None else Path(plain["lineages"])
        return cls(**{**plain, "path": Path(plain["path"]), "lineages": lineages})

    def files(self) -> list[Path]:
        """What the database is built from: what its job depends on."""
        main = list(genome_files(self.path).values()) if not self.exists else [self.path]
        if self.exists and self.path.is_dir():
            main = sorted(file for file in self.path.iterdir() if file.is_file())
        return main + ([self.lineages] if self.lineages else [])


def read_databases(path: Path) -> tuple[list[Database], list[Problem]]:
    """Read and check the sheet of databases.

    Parameters
    ----------
    path
        Tab-separated, UTF-8, columns ``name``, ``profiler``, ``path``, ``lineages``, ``parameters``
        (``key=value;key=value``). Relative paths are relative to the sheet's folder.

    Returns
    -------
    databases, problems
        The rows without fault, in order, and every fault of every row. Whether a profiler can run on this machine is
        asked only for the database in use.
    """
    lines, problems = _read(path, "the database sheet")
    if not lines:
        return [], problems
    header = [cell.strip() for cell in lines[0][1]]
    for column in _REQUIRED:
        if column not in header:
            hint = f"{closest(column, header)}The sheet is tab-separated with the columns {', '.join(COLUMNS)}."
            problems.append(Problem(str(path), f"required column {column!r} is missing", hint, row=1, key=column))
    for column in dict.fromkeys(header):
        if column not in COLUMNS or header.count(column) > 1:
            what = "column appears twice" if column in COLUMNS else "unknown column"
            hint = f"{closest(column, COLUMNS)}The columns are {', '.join(COLUMNS)}."
            problems.append(Problem(str(path), what, hint, row=1, key=column or "header", value=column))
    if problems:
        return [], problems
    if len(lines) == 1:
        return [], [Problem(str(path), "the sheet has no rows", "add one line per database.")]
    databases: list[Database] = []
    names: dict[str, int] = {}
    for number, cells in lines[1:]:
        if len(cells) > len(header):
            hint = "separate the values by one tab each; parameters are separated by ';'."
            problems.append(
                Problem(str(path), f"{len(cells)} values for {len(header)} columns", hint, row=number, key="header")
            )
            continue
        values = {k: (v or "").strip() for k, v in zip_longest(header, cells, fillvalue="")}
        database, faults = _row(path, number, values)
        first = names.setdefault(values["name"].casefold(), number)
        if first != number:
            hint = "give each database a name of its own (case makes no difference)."
            what = f"same name as row {first}"
            faults.append(Problem(str(path), what, hint, row=number, key="name", value=values["name"]))
        problems += faults
        if database is not None and not faults:
            databases.append(database)
    return databases, problems


def _row(sheet: Path, number: int, values: Mapping[str, str]) -> tuple[Database | None, list[Problem]]:
    problems: list[Problem] = []

    def fault(key: str, what: str, hint: str, value: object | None = None) -> None:
        shown = values.get(key) if value is None else value
        problems.append(
            Problem(str(sheet), f"database {values['name']!r}: {what}", hint, row=number, key=key, value=shown or None)
        )

    if not SAMPLE_NAME.fullmatch(values["name"]) or len(values["name"]) > LONGEST_NAME:
        hint = f"names become folders: letters, digits, '.', '_', '-', at most {LONGEST_NAME}, a letter or digit first."
        fault("name", "name cannot be used", hint)
    name = values["profiler"]
    module = registry.profiler(name) if name in registry.PROFILERS else None
    if module is None:
        hint = f"{closest(name, registry.PROFILERS)}This version has: {', '.join(registry.PROFILERS)}."
        fault("profiler", "unknown profiler", hint)
    path = _resolve(sheet, values["path"])
    lineages = _resolve(sheet, values.get("lineages", "")) if values.get("lineages") else None
    exists = False
    if not values["path"] or not os.access(path, os.R_OK):
        hint = f"looked for {path}; relative paths are relative to the sheet's folder."
        fault("path", "path does not exist or cannot be read", hint)
    elif module is not None:
        exists = bool(module.is_database(path))
        if not exists and not (path.is_dir() and genome_files(path)):
            hint = f"give a folder of genomes (.fa, .fna, .fasta, plain or .gz) or an existing {name} database."
            fault("path", "neither genomes nor a database of the profiler", hint)
        else:
            _check_lineages(fault, problems, path, exists, lineages, module)
    parameters = _parameters(fault, values.get("parameters", ""), module) if module is not None else {}
    if problems:
        return None, problems
    return Database(values["name"], name, path, exists, lineages, parameters), problems


def _resolve(sheet: Path, value: str) -> Path:
    return of_study(sheet.parent / value)


def _check_lineages(fault, problems, path: Path, exists: bool, lineages: Path | None, module) -> None:  # type: ignore[no-untyped-def]
    if lineages is None:
        if not (exists and module.OWN_TAXONOMY):
            fault("lineages", "no lineages", "name a table with the columns genome and lineage, or one per rank.")
        return
    known, faults = read_lineages(lineages)
    problems += faults
    if exists or faults:
        return
    for name in genome_files(path):
        if lineage_for(name, known) is None:
            hint = f"{closest(name, known)}Add a line for it to {lineages}."
            fault("lineages", "genome without a lineage", hint, name)


def _parameters(fault, text: str, module) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    """Values of ``key=value;key=value``, checked by the profiler."""
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = (side.strip() for side in part.partition("="))
        if not equals or not value:
            fault("parameters", "not of the form key=value", "write key=value;key=value.", part)
        elif key not in module.Params.model_fields:
            known = module.Params.model_fields
            fault("parameters", f"unknown parameter {key!r}", f"{closest(key, known)}Known: {', '.join(known)}.", part)
        elif key in given:
            fault("parameters", f"parameter {key!r} is given twice", "remove one.", part)
        else:
            try:
                given[key] = yaml.safe_load(value)
            except yaml.YAMLError:
                given[key] = value
    try:
        return dict(module.Params(**given).model_dump(exclude_unset=True))
    except ValidationError as error:
        for item in error.errors():
            key = str(item["loc"][0]) if item["loc"] else "parameters"
            fault("parameters", f"parameter {key!r}: {item['msg']}", "see config/README.md.", item["input"])
    return {}


def genome_files(folder: Path) -> dict[str, Path]:
    """FASTA files of a folder by the name of their genome (the file's without its endings), sorted.

    >>> genome_files(Path("no such folder"))
    {}
    """
    if not folder.is_dir():
        return {}
    matched = ((_FASTA.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return {match[1]: path for match, path in matched if match and path.is_file()}


def lineage_for(genome: str, known: Mapping[str, str]) -> str | None:
    """Lineage of a genome, by its name, else by the assembly accession in it, else by that without its version.

    >>> lineage_for("GCF_000006945.2_ASM694v2_genomic", {"GCF_000006945": "s__Salmonella enterica"})
    's__Salmonella enterica'
    """
    accession = _ACCESSION.match(genome)
    tried = [genome] + ([accession[0], accession[1]] if accession else [])
    return next((known[name] for name in tried if name in known), None)


def read_lineages(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Lineage text of each genome of a table (tab-separated; ``.csv``: comma-separated).

    Parameters
    ----------
    path
        The first of the columns genome, accession, ident, id... names the genome; either a column ``lineage``
        (``d__Bacteria;...`` as GTDB writes it) or one column per rank (``superkingdom`` counts as domain).

    Returns
    -------
    lineages, problems
    """
    lines, problems = _read(path, "the table of lineages", "," if path.suffix.lower() == ".csv" else "\t")
    if not lines:
        return {}, problems
    header = [cell.strip().casefold() for cell in lines[0][1]]
    key = next((column for column in _GENOME_COLUMNS if column in header), None)
    # NCBI's newest tables hold a domain and a kingdom: the first column of a rank counts.
    ranks = {lineage.SYNONYMS.get(c, c): i for i, c in reversed(list(enumerate(header)))}
    ranks = {rank: i for rank, i in ranks.items() if rank in lineage.RANKS}
    text = next((column for column in ("lineage", "taxonomy", "gtdb_taxonomy") if column in header), None)
    if key is None or (text is None and not ranks):
        hint = "name the columns `genome` and `lineage`, or `genome` and one column per rank."
        return {}, [Problem(str(path), "columns not recognised", hint, row=1, value="\t".join(lines[0][1]))]
    found: dict[str, str] = {}
    for number, cells in lines[1:]:
        cells = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
        genome = cells[header.index(key)]
        names = lineage.split(cells[header.index(text)].replace("; ", ";")) if text else {}
        names = names or {rank: _PREFIX.sub("", cells[i]) for rank, i in ranks.items()}
        value = lineage.join(names)
        if not genome or not value:
            hint = "write the genome and a lineage such as `d__Bacteria;...;s__Bacillus subtilis`."
            problems.append(Problem(str(path), "genome or lineage is empty", hint, row=number, key=text or key))
        elif found.get(genome, value) != value:
            hint = "keep one of the two lines."
            problems.append(Problem(str(path), "genome with two lineages", hint, row=number, key=key, value=genome))
        else:
            found[genome] = value
    return found, problems


def _read(path: Path, what: str, delimiter: str = "\t") -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    """Lines that hold something, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return [], [Problem(str(path), f"{what} is not UTF-8", "save it as UTF-8.")]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return [], [Problem(str(path), f"cannot read {what}: {reason}", "check the path and its permissions.")]
    # No quoting rules between tabs: a strain called 5" must not swallow the lines that follow.
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    rows = list(csv.reader(text.splitlines(), delimiter=delimiter, quoting=quoting))  # type: ignore[arg-type]
    lines = [(n, row) for n, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    lines = [(n, row) for n, row in lines if not row[0].startswith("#") or n == lines[0][0]]
    return lines, [] if lines else [Problem(str(path), f"{what} is empty", "it needs a header and one line per entry.")]
