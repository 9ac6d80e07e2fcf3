"""Reports of Kraken2 and Bracken: one sample each, lineages by indentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from latentomics.config.row import InputRow
from latentomics.io.tables import fault
from latentomics.metagenome import lineage
from latentomics.metagenome.taxon_formats import TaxonTable, check_width, fields_of, lines_of

#: Rank codes of Kraken's reports; numbered ones (``G1``) stand between the ranks.
_KRAKEN_RANKS = {"D": "domain", "K": "domain", "P": "phylum", "C": "class", "O": "order", "F": "family"} | {
    "G": "genus",
    "S": "species",
}
_KRAKEN_CODE = re.compile(r"-?|[URDKPCOFGS]\d*")


class _ReportLine(NamedTuple):
    number: int
    depth: int
    code: str
    name: str
    clade_reads: int
    reads: int
    distinct: int


def read_kraken_report(row: InputRow) -> TaxonTable:
    """A report of Kraken2, with or without minimiser data: every taxon with the reads given to it itself.

    Distinct minimisers are those of the whole clade, as Kraken2 reports them.
    """
    return _kraken_style(row, "Kraken2")


def _kraken_style(row: InputRow, profiler: str) -> TaxonTable:
    lines, _ = lines_of(row, row.path)
    width = len(lines[0][1].split("\t"))
    if width not in (6, 8):
        hint = "a report has 6 columns separated by tabs, or 8 with `--report-minimizer-data`."
        raise fault(row, f"not a Kraken2 report: {width} columns", hint, line=lines[0][0], value=lines[0][1][:60])
    found = [_report_line(row, number, line.split("\t"), width) for number, line in lines]
    codes = _all_codes(found)
    classified = sum(line.reads for line in found if line.code != "U")
    root = sum(line.clade_reads for line in found if line.code != "U" and line.depth == 0)
    if profiler == "Kraken2" and root != classified:
        what = f"the report is not whole: its lines hold {classified} classified reads, its root {root}"
        raise fault(row, what, "copy it again, or write it again with Kraken2.")
    stack: list[tuple[int, str, str]] = []
    lineages = []
    for line, code in zip(found, codes, strict=True):
        stack = [entry for entry in stack if entry[0] < line.depth] + [(line.depth, code, line.name)]
        lineages.append(_of_stack(stack))
    own = [at for at, line in enumerate(found) if line.reads]
    return TaxonTable(
        values=csr_matrix(np.array([found[at].reads for at in own], dtype=float)[:, None]),
        taxa=[found[at].name for at in own],
        samples=[row.sample],
        lineages=[lineages[at] for at in own],
        unclassified=np.array([found[at].code == "U" for at in own], dtype=bool),
        profiler=profiler,
        lines=[found[at].number for at in own],
        evidence=np.array([found[at].distinct for at in own], dtype=float) if width == 8 else None,
    )


def _report_line(row: InputRow, number: int, cells: Sequence[str], width: int) -> _ReportLine:
    check_width(row, number, len(cells), width)
    code, name = cells[-3].strip(), cells[-1].strip()
    if not _KRAKEN_CODE.fullmatch(code) or not name:
        hint = "column 4 (6 with minimiser data) holds codes such as D, P, G1 or S, the last one names."
        raise fault(row, "not a line of a Kraken2 report", hint, line=number, value="\t".join(cells)[:60])
    return _ReportLine(
        number,
        depth=len(cells[-1]) - len(cells[-1].lstrip(" ")),
        code=code,
        name=name,
        clade_reads=_whole(row, number, "reads of the clade", cells[1]),
        reads=_whole(row, number, "reads of the taxon", cells[2]),
        distinct=_whole(row, number, "distinct minimisers", cells[4]) if width == 8 else 0,
    )


def _all_codes(lines: Sequence[_ReportLine]) -> list[str]:
    """Rank codes, the missing ones filled in where only one set of ranks fits.

    Kraken2 2.1.2 leaves out the codes of the first taxa of a small database's taxonomy (its domains and phyla).
    """
    order = "DPCOFGS"
    codes = [line.code for line in lines]
    stack: list[int] = []
    for at, line in enumerate(lines):
        while stack and lines[stack[-1]].depth >= line.depth:
            stack.pop()
        stack.append(at)
        if line.code and line.code in order:
            blank = []
            for above in reversed(stack[:-1]):
                if lines[above].code or lines[above].depth == 0:
                    break
                blank.append(above)
            known = lines[stack[-len(blank) - 2]].code if len(stack) > len(blank) + 1 else ""
            start = order.index(known) + 1 if known and known in order else 0
            between = order[start : order.index(line.code)]
            if len(between) == len(blank):
                for above, code in zip(reversed(blank), between, strict=True):
                    codes[above] = code
    return codes


def _whole(row: InputRow, line: int, what: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise fault(row, f"{what}: not a whole number", "is this another format?", line=line, value=text)
    return int(text)


def _of_stack(stack: Sequence[tuple[int, str, str]]) -> str:
    """Lineage of the last taxon of a report, from those it is indented under."""
    names: dict[str, str] = {}
    for _, code, name in stack:
        rank = _KRAKEN_RANKS.get(code)
        if rank and rank not in names:  # a kingdom below a domain is no domain
            names[rank] = name
        elif code[:1] == "S" and code != "S":
            names["strain"] = name
    return lineage.join(names)


def read_bracken(row: InputRow) -> TaxonTable:
    """Bracken's re-estimated reads: its table, which has names without lineage, or its report, which has both."""
    lines, _ = lines_of(row, row.path)
    header = fields_of(lines[0][1], "\t")
    needed = ("name", "taxonomy_lvl", "kraken_assigned_reads", "new_est_reads")
    if not set(needed) <= set(header):
        return _kraken_style(row, "Bracken")
    at = {title: header.index(title) for title in needed}
    numbers, names, lineages, reads, plain = [], [], [], [], []
    for number, line in lines[1:]:
        cells = fields_of(line, "\t")
        check_width(row, number, len(cells), len(header))
        rank = _KRAKEN_RANKS.get(cells[at["taxonomy_lvl"]], "strain")
        numbers.append(number)
        names.append(cells[at["name"]])
        lineages.append(lineage.join({rank: cells[at["name"]]}))
        reads.append(_whole(row, number, "new_est_reads", cells[at["new_est_reads"]]))
        plain.append(_whole(row, number, "kraken_assigned_reads", cells[at["kraken_assigned_reads"]]))
    return TaxonTable(
        values=csr_matrix(np.array(reads, dtype=float)[:, None]),
        taxa=names,
        samples=[row.sample],
        lineages=lineages,
        unclassified=np.zeros(len(names), dtype=bool),
        profiler="Bracken",
        lines=numbers,
        without_lineage=len(names),
        plain=np.array(plain, dtype=float),
    )
