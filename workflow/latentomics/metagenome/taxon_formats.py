"""Taxon tables as their tools write them, in one form: taxa x samples, every taxon with its lineage.

Nothing is judged here: whether the values are counts or shares, and whether they make sense, is for
:mod:`latentomics.metagenome.tables`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io.tables import fault, open_text, reading
from latentomics.metagenome import lineage

#: What tools write where they could name nothing at all, or no name at a rank.
_UNCLASSIFIED = frozenset({"unassigned", "unclassified", "unknown", "no blast hit", "no hit", "noblasthit"})
_NO_NAME = frozenset({"", "na", "nan", "none", "null", "__"})
_PART = re.compile(r"(?:D_(?P<level>\d+)|(?P<letter>[A-Za-z]))__(?P<name>.*)", re.DOTALL)
_RANK_OF = {prefix: rank for rank, prefix in lineage.RANKS.items()} | {"k": "domain"}
_BINOMIAL = re.compile(r"\[?[A-Z][a-z]+\]?[ _][a-z]")
LINEAGE_COLUMNS = ("lineage", "taxonomy", "consensus lineage", "consensuslineage", "taxon", "clade_name")
_TAXON_WORDS = frozenset(
    {"#otu id", "otu id", "otu", "otuid", "otu_id", "asv", "asv_id", "feature", "feature id", "featureid", "taxon"}
    | {"taxa", "taxonomy", "lineage", "clade", "clade_name", "species", "genus", "name", "taxonomy_id", "taxid"}
)
_SAMPLE_WORDS = frozenset({"sample", "sampleid", "sample_id", "sample-id", "sample id", "samples", "sample_name"})
#: What MetaPhlAn calls the values of a single sample.
_OF_ONE_SAMPLE = frozenset({"relative_abundance", "metaphlan_analysis", "metaphlan2_analysis"})
#: Columns that describe a taxon beside its lineage.
_ANNOTATIONS = frozenset(
    {"ncbi_tax_id", "clade_taxid", "taxonomy_id", "taxid", "tax_id", "rank", "taxonomy_lvl", "name", "confidence"}
    | {"additional_species", "coverage", "average_genome_length_in_the_clade", "sequence"}
    | {"estimated_number_of_reads_from_the_clade"}
)


@dataclass(frozen=True)
class TaxonTable:
    """A table as it stands in its file.

    Attributes
    ----------
    values
        Taxa x samples, as written (CSR; what is not finite is kept).
    taxa, samples
        Names as written.
    lineages
        Lineage of every taxon (:mod:`latentomics.metagenome.lineage`).
    unclassified
        Which rows hold what could not be classified, (taxa,).
    lines
        Line numbers of the table's rows, for messages; empty where the file has no lines.
    by_sample
        The rows of the file are samples.
    without_lineage
        Number of taxa of which only a name is known.
    metadata
        What the file itself says of its samples (indexed by sample).
    evidence, plain
        Distinct minimisers and reads before re-estimation, (taxa,); None where the tool has none.
    """

    values: csr_matrix
    taxa: list[str]
    samples: list[str]
    lineages: list[str]
    unclassified: np.ndarray
    profiler: str
    version: str = ""
    database: str = ""
    lines: Sequence[int] = ()
    by_sample: bool = False
    without_lineage: int = 0
    metadata: pd.DataFrame = field(default_factory=pd.DataFrame)
    evidence: np.ndarray | None = None
    plain: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def parse_lineage(value: str | Iterable[str]) -> str | None:
    """The lineage in a tool's own words; None if it is but a name, empty if it says "unclassified".

    Ranks are known by their prefixes (``k__``, ``d__``, ``D_0__``), else by their places from the domain down. A
    species epithet that stands alone (Greengenes) is joined to its genus.

    >>> parse_lineage("k__Bacteria; p__Firmicutes; g__Bacillus; s__subtilis")
    'd__Bacteria;p__Firmicutes;g__Bacillus;s__Bacillus subtilis'
    >>> parse_lineage("Bacteria|Firmicutes"), parse_lineage("ASV_17"), parse_lineage("Unassigned")
    ('d__Bacteria;p__Firmicutes', None, '')
    """
    if not isinstance(value, str):
        value = ";".join(str(part) for part in value)
    parts = [part.strip() for part in value.split("|" if "|" in value else ";")]
    matches = [_PART.fullmatch(part) for part in parts]
    first = (matches[0]["name"] if matches[0] else parts[0]).strip().casefold()
    if first in _UNCLASSIFIED or all(part.casefold() in _NO_NAME for part in parts):
        return ""
    if len(parts) == 1 and not matches[0]:
        return None
    ranks, names = list(lineage.RANKS), {}
    for place, (part, match) in enumerate(zip(parts, matches, strict=True)):
        at = int(match["level"]) if match and match["level"] else place
        rank = _RANK_OF.get(match["letter"].lower()) if match and match["letter"] else ranks[min(at, len(ranks) - 1)]
        name = (match["name"] if match else part).strip()
        if rank and rank not in names and name.casefold() not in _NO_NAME | {"unassigned"}:
            names[rank] = name
    species, genus = names.get("species", ""), names.get("genus", "")
    if genus and species[:1].islower() and " " not in species and "_" not in species:
        names["species"] = f"{genus} {species}"
    return lineage.join(names)


def lineages_of(labels: Sequence[str], described: Sequence[Any] | None = None) -> tuple[list[str], np.ndarray, int]:
    """Lineage of every taxon, from its description where it has one; which are unclassified; how many have but a name."""
    parsed = [parse_lineage(d) for d in (labels if described is None else described)]
    bare = [found is None for found in parsed]
    found = [lineage.join({"species": name}) if p is None else p for name, p in zip(labels, parsed, strict=True)]
    return found, np.array([text == "" for text in found], dtype=bool), sum(bare)


def lowest_level(paths: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Which rows of a table of nested taxa have no row below them, (taxa,)."""
    above = {path[:depth] for path in paths for depth in range(1, len(path))}
    return np.array([path not in above for path in paths], dtype=bool)


def lines_of(row: InputRow, path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbered lines that are not blank, and the separator: a tab wherever there is one, else a comma."""
    with reading(row, path, "table", "it must be a .tsv or .csv text table."), open_text(path) as stream:
        lines = [(n, line.rstrip("\n")) for n, line in enumerate(stream, 1) if line.strip()]
    if not lines:
        raise fault(row, "the table is empty", "is this the right file?", file=path)
    return lines, "\t" if any("\t" in line for _, line in lines[:100]) else ","


def fields_of(line: str, separator: str) -> list[str]:
    if '"' in line:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return [cell.strip() for cell in line.split(separator)]


def _matrix(row: InputRow, lines: Iterable[tuple[int, Sequence[str]]], columns: Sequence[str]) -> csr_matrix:
    """Lines of numbers as CSR; line by line, so that what is zero is never held."""
    places, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for number, cells in lines:
        found = _numbers(row, number, cells, columns)
        places.append(np.flatnonzero(found))  # NaN counts as found
        values.append(found[places[-1]])
    indptr = np.cumsum([len(part) for part in places])
    return csr_matrix((np.concatenate(values), np.concatenate(places), indptr), shape=(len(indptr) - 1, len(columns)))


def _numbers(row: InputRow, line: int, cells: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    try:
        return np.array(cells, dtype=float)
    except ValueError:
        for column, cell in zip(columns, cells, strict=True):
            try:
                float(cell)
            except ValueError:
                hint = "write 0 for none; descriptions of samples belong into a table named in `metadata`."
                key = f"column {column!r}"
                raise fault(row, "a cell is not a number", hint, line=line, key=key, value=cell) from None
        raise fault(row, "a cell is not a plain number", "write the digits 0 to 9.", line=line) from None


def check_width(row: InputRow, line: int, found: int, expected: int) -> None:
    if found != expected:
        hint = "every line must have the same number of fields; is the file complete?"
        raise fault(row, f"{found} fields where {expected} are expected", hint, line=line)


def metadata_table(row: InputRow, path: Path) -> pd.DataFrame:
    """A table of samples: its first column names them, every value is text (empty where missing)."""
    lines, separator = lines_of(row, path)
    (at, head), *body = lines
    header = fields_of(head, separator)
    records = []
    for number, line in body:
        cells = fields_of(line, separator)
        if len(cells) != len(header):
            what = f"{len(cells)} fields where {len(header)} are expected"
            raise fault(row, what, "every line must have the same number of fields.", file=path, line=number)
        records.append(cells)
    table = pd.DataFrame([cells[1:] for cells in records], columns=header[1:], dtype=object)
    table.index = pd.Index([cells[0] for cells in records], dtype=object)
    for names, word, line in ((table.columns, "column", at), (table.index, "sample", None)):
        if not names.is_unique:
            value = names[names.duplicated()][0]
            raise fault(row, f"a {word} appears twice", "remove one.", file=path, line=line, value=value)
    return table.mask(table.isin(["NA", "N/A", "NaN", "nan"]), "")


def read_taxon_table(row: InputRow) -> TaxonTable:
    """Counts (or shares) as text, taxa in the rows or samples in the rows."""
    lines, separator = lines_of(row, row.path)
    leading = next((i for i, (_, line) in enumerate(lines) if not line.startswith("#")), len(lines))
    width = len(fields_of(lines[leading][1], separator)) if leading < len(lines) else 0
    titled = leading and len(fields_of(lines[leading - 1][1], separator)) in (width, width - 1) and width > 1
    start = leading if titled else leading + 1
    if start >= len(lines):
        raise fault(row, "the table has a header but no rows", "is the file complete?")
    at, head = lines[start - 1]
    header = fields_of(head, separator)
    if len(header) == width - 1:  # R's write.table leaves the row names without a title
        header = ["", *header]
    check_width(row, at, len(header), width)
    if width < 2:
        hint = "separate the columns by tabs or commas, the first column holding the names."
        raise fault(row, "no columns recognised", hint, line=at, value=head[:60])
    folded = [name.casefold() for name in header]
    described = next((folded.index(name, 1) for name in LINEAGE_COLUMNS if name in folded[1:]), None)
    numeric = [i for i in range(1, width) if i != described and folded[i] not in _ANNOTATIONS]
    columns = [header[i] for i in numeric]
    names, lineage_texts = [], []

    def rows() -> Iterator[tuple[int, list[str]]]:
        for number, line in lines[start:]:
            cells = fields_of(line, separator)
            check_width(row, number, len(cells), width)
            names.append(cells[0])
            lineage_texts.append("" if described is None else cells[described])
            yield number, [cells[i] for i in numeric]

    values = _matrix(row, rows(), columns)
    by_sample, notes = _samples_in_rows(row, header[0], described is not None, names, columns)
    taxa, samples = (columns, names) if by_sample else (names, columns)
    lineages, unclassified, bare = lineages_of(taxa, None if described is None else lineage_texts)
    table = TaxonTable(
        values=csr_matrix(values.T) if by_sample else values,
        taxa=taxa,
        samples=samples,
        lineages=lineages,
        unclassified=unclassified,
        profiler="taxon table",
        lines=[number for number, _ in lines[start:]],
        by_sample=by_sample,
        without_lineage=bare,
        notes=notes,
    )
    return _without_sums(table)


def _samples_in_rows(
    row: InputRow, corner: str, lineage_column: bool, rows: Sequence[str], columns: Sequence[str]
) -> tuple[bool, list[str]]:
    """Which way round a table lies, and why."""

    def said(by_sample: bool, why: str) -> tuple[bool, list[str]]:
        return by_sample, [f"samples are read from the {'rows' if by_sample else 'columns'} ({why})."]

    def most(names: Sequence[str], test: Callable[[str], Any]) -> bool:
        return sum(bool(test(name)) for name in names) * 2 > len(names)

    if lineage_column:
        return said(False, "a column holds lineages")
    for test, why in ((parse_lineage, "the names are lineages"), (_BINOMIAL.match, "the names are of species")):
        if most(rows, test) != most(columns, test):
            return said(most(columns, test), f"{why} in the {'columns' if most(columns, test) else 'rows'}")
    if row.metadata is not None:
        known = set(metadata_table(row, row.metadata).index)
        if (len(known & set(rows)) > 0) != (len(known & set(columns)) > 0):
            return said(bool(known & set(rows)), "as the metadata table names them")
    word = corner.casefold()
    if word in _TAXON_WORDS or word.removeprefix("#") in _SAMPLE_WORDS:
        return said(word not in _TAXON_WORDS, f"the first column is called {corner!r}")
    return said(False, "a guess: nothing in the table tells; title the first column `taxon` or `sample`")


def _without_sums(table: TaxonTable) -> TaxonTable:
    """Leave out the rows that hold the sum of those below them, as MetaPhlAn and Kraken's MetaPhlAn style write them.

    A table of sums is known by its highest rows: each holds at least what the lowest rows below it hold.
    """
    paths = [tuple(text.split(";")) for text in table.lineages]
    low = lowest_level(paths)
    totals = np.asarray(table.values.sum(axis=1)).ravel()
    top = np.array([len(path) == 1 for path in paths]) & ~low
    below = {path[0] for path in paths if len(path) > 1}
    covered = np.array([path[0] in below and len(path) > 1 for path in paths]) & low
    if not top.any() or {paths[i][0] for i in np.flatnonzero(top)} != below:
        return table
    if not totals[top].sum() >= 0.999 * totals[covered].sum():
        return table
    return _only(table, low, f"{int((~low).sum())} rows that hold the sums of others are left out.")


def _only(table: TaxonTable, rows: np.ndarray, note: str) -> TaxonTable:
    kept = np.flatnonzero(rows)
    return TaxonTable(
        **{
            **table.__dict__,
            "values": table.values[kept],
            "taxa": [table.taxa[i] for i in kept],
            "lineages": [table.lineages[i] for i in kept],
            "unclassified": table.unclassified[kept],
            "lines": table.lines if table.by_sample else [table.lines[i] for i in kept],
            "notes": [*table.notes, note],
        }
    )


def read_metaphlan(row: InputRow) -> TaxonTable:
    """MetaPhlAn's relative abundances, of one sample or merged, of any version; only its lowest taxa.

    Rows above or between the taxa that do not name one (``k__``, ``d__``, ``UNCLASSIFIED``) describe the samples:
    one of them names them.
    """
    lines, separator = lines_of(row, row.path)
    described: list[tuple[int, list[str]]] = []
    taxa: list[tuple[int, list[str]]] = []
    database = ""
    for number, line in lines:
        cells = fields_of(line, separator)
        if len(cells) == 1 or (line.startswith("#") and cells[0].startswith(("#/", "#mpa"))):
            database = cells[0].lstrip("#") if cells[0].startswith("#mpa") else database
            continue
        is_taxon = cells[0][:3] in ("k__", "d__") or cells[0].casefold() in _UNCLASSIFIED
        (taxa if is_taxon else described).append((number, cells))
    if not taxa:
        hint = "rows of taxa begin with `k__` or `d__`; is this another format? Set the column `format`."
        raise fault(row, "not a MetaPhlAn table: no row names a taxon", hint)
    width = max(len(cells) for _, cells in taxa)
    # `#SampleID  Metaphlan_Analysis` stands above the header of a single profile.
    described = [(n, cells) for n, cells in described if len(cells) == width or not cells[0].startswith("#")]
    names, rest = _sample_names(row, described)
    for number, cells in described + taxa:
        if len(cells) == width - 1 and names[-1] == "additional_species":  # left out where there are none
            cells.append("")
        check_width(row, number, len(cells), width)
    numeric = [i for i in range(1, width) if names[i].casefold() not in _ANNOTATIONS]
    samples = [names[i] for i in numeric]
    if len(samples) == 1 and samples[0].casefold() in _OF_ONE_SAMPLE:
        samples = [row.sample]
    values = _matrix(row, ((number, [cells[i] for i in numeric]) for number, cells in taxa), samples)
    labels = [cells[0] for _, cells in taxa]
    lineages, unclassified, _ = lineages_of(labels)
    paths = [tuple(label.split("|")) for label in labels]
    low = lowest_level(paths)
    table = TaxonTable(
        values=values,
        taxa=labels,
        samples=samples,
        lineages=lineages,
        unclassified=unclassified,
        profiler="MetaPhlAn",
        database=database,
        lines=[number for number, _ in taxa],
        metadata=pd.DataFrame({c[0]: [c[i] for i in numeric] for c in rest}, index=samples, dtype=object),
    )
    totals = np.asarray(values.sum(axis=1)).ravel()
    top = np.array([len(path) == 1 for path in paths])
    if top.all() or low.all():
        return table
    note = f"{int((~low).sum())} rows that hold the sums of others are left out."
    if (top & ~unclassified).any() and totals[low].sum() < 0.99 * totals[top].sum():
        note += f" The lowest taxa hold {totals[low].sum() / totals[top].sum():.1%} of what the highest do."
    return _only(table, low, note)


def _sample_names(row: InputRow, described: list[tuple[int, list[str]]]) -> tuple[list[str], list[list[str]]]:
    """The row of a MetaPhlAn table that names its samples, and the other rows that describe them."""
    titles = {"clade_name", "#clade_name", "id", "#sampleid", "sampleid", "sample_id", "sample", "taxonomy", "clade"}
    for _, cells in described:
        if cells[0].casefold() in titles and all(cells[1:]):
            return cells, [other for _, other in described if other is not cells]
    if len(described) == 1:
        return described[0][1], []
    hint = "the header, or a row called sampleID, must name every sample."
    raise fault(row, "no row names the samples", hint, line=described[0][0] if described else 1)
