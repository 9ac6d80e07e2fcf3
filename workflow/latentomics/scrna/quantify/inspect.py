"""A look at the first reads of cells: are the files whole, in the right columns, and of the technology that is said?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Literal

import numpy as np

from latentomics.config.quantify import TECHNOLOGIES, Quantify, ReadLayout, read_layout
from latentomics.config.quantify_study import (
    FILE_COLUMNS,
    layout_problems,
    read_files,
    technology_of,
    whitelist_file,
)
from latentomics.config.row import InputRow
from latentomics.metagenome.fastq import open_reads, read_chunks
from latentomics.problems import InputError, Problem
from latentomics.scrna.quantify import whitelist as whitelists
from latentomics.scrna.quantify.annotation import K

#: Reads of each file that are looked at.
READS = 10_000
#: Below this share of barcodes on the list, the list cannot be the right one (real libraries: 0.6 to 0.95; another
#: technology's: below 0.1).
MIN_ON_LIST = 0.05
#: From this share on, a list may be named as the one that fits better.
_FITS = 0.2
_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
#: Barcode reads longer than this were sequenced as long as the RNA; their length says nothing.
_CUT_TO_MEASURE = 40
#: Which file stands in for which: the order of the columns that kallisto's files are taken from.
_Order = tuple[int, ...]


@dataclass(frozen=True)
class _Sample:
    """First reads of a row: sequences per file, in the order of the columns."""

    row: InputRow
    technology: str
    layout: ReadLayout
    reads: tuple[list[bytes], ...]

    def length(self, file: int) -> int:
        """Median length of a file's reads (bases)."""
        return int(np.median([len(read) for read in self.reads[file]]))

    def is_constant(self, file: int) -> bool:
        return len({len(read) for read in self.reads[file]}) == 1

    def problem(self, what: str, hint: str, column: int, warning: bool = False) -> Problem:
        key = FILE_COLUMNS[column]
        file = str(getattr(self.row, key))
        severity: Literal["error", "warning"] = "warning" if warning else "error"
        return Problem(file, f"sample {self.row.sample!r}: {what}", hint, key=key, severity=severity)


def check_reads(row: InputRow, quantify: Quantify, study: Path) -> list[Problem]:
    """What is wrong with the reads of a row, by the first 10,000 of each file.

    Parameters
    ----------
    row
        A row of FASTQ reads of cells.
    study
        Folder that a relative ``quantify.whitelist`` is relative to.
    """
    if problems := layout_problems(row, quantify, str(row.path)):
        return problems
    technology = technology_of(row, quantify)
    try:
        reads = _first_reads(row)
    except InputError as error:
        return error.problems
    sample = _Sample(row, technology, read_layout(technology), reads)
    listed = whitelist_file(quantify, study)
    if listed is None and quantify.whitelist == "auto":
        listed = whitelists.bundled(technology)
    same = tuple(range(len(reads)))
    if not _fits(sample, sample.layout, same):
        return [_wrong_lengths(sample)]
    if listed is not None:
        return _check_barcodes(sample, listed)
    return _maybe_another(sample)


def _first_reads(row: InputRow) -> tuple[list[bytes], ...]:
    """Sequences of each file; the files must hold the same reads (an InputError otherwise)."""
    first, *others = read_files(row)
    pairs = [replace(row, path=first, path_2=other) for other in others] or [replace(row, path_2=None)]
    found: list[list[bytes]] = []
    for pair in pairs:
        mates: list[list[bytes]] = [[] for _ in read_files(replace(pair, path_3=None))]
        with closing(read_chunks(pair)) as chunks:
            for chunk in chunks:
                for sequences, records in zip(mates, chunk.mates, strict=True):
                    sequences += [record.sequence.encode() for record in records]
                if len(mates[0]) >= READS:
                    break
        found += mates[1:] if found else mates
    return tuple(found)


def _needed(layout: ReadLayout) -> dict[int, int]:
    """Bases that the barcode and the UMI take of each file that holds them."""
    needed: dict[int, int] = {}
    for file, _, end in (*layout.barcode, *layout.umi):
        needed[file] = max(needed.get(file, 0), end)
    return needed


def _fits(sample: _Sample, layout: ReadLayout, order: _Order) -> bool:
    """Whether most reads are long enough for a layout, were kallisto's file i taken from column ``order[i]``."""
    if layout.n_files != len(order):
        return False
    long_enough = all(sample.length(order[file]) >= bases for file, bases in _needed(layout).items())
    return long_enough and all(sample.length(order[file]) - start >= K for file, start, _ in layout.cdna)


def _orders(sample: _Sample) -> Iterator[_Order]:
    same = tuple(range(len(sample.reads)))
    return (order for order in permutations(same) if order != same)


def _exactly(sample: _Sample, order: _Order) -> list[str]:
    """Technologies whose barcode and UMI take a file's reads to the last base."""
    found = []
    for name, (_, layout) in TECHNOLOGIES.items():
        if name != sample.technology.lower() and _fits(sample, layout, order):
            needed = _needed(layout)
            if all(sample.is_constant(order[f]) and sample.length(order[f]) == n for f, n in needed.items()):
                found.append(name)
    return found


def _swapped(sample: _Sample, order: _Order, because: str, also: Sequence[str] = ()) -> Problem:
    names = [getattr(sample.row, FILE_COLUMNS[column]).name for column in order]
    what = f"the files look swapped: {because}"
    if len(order) == 2:
        hint = f"exchange `path` and `path_2` ({sample.technology} has {names[0]!r} first, {names[1]!r} second)"
    else:
        hint = "set " + ", ".join(f"`{c}` to {n!r}" for c, n in zip(FILE_COLUMNS, names, strict=False))
    hint += f"; and `technology` to {' or '.join(also)}." if also else "."
    return sample.problem(what, hint, 0)


def _wrong_lengths(sample: _Sample) -> Problem:
    """The reads are too short for the layout: swapped, of another technology, or trimmed."""
    needed = _needed(sample.layout)
    lengths = [sample.length(file) for file in range(len(sample.reads))]
    shown = ", ".join(f"{getattr(sample.row, FILE_COLUMNS[i]).name}: {n}" for i, n in enumerate(lengths))
    takes = " and ".join(f"{n} bases of `{FILE_COLUMNS[file]}`" for file, n in sorted(needed.items()))
    because = f"barcode and UMI of {sample.technology} take {takes}, the RNA the rest (bases of the reads: {shown})"
    for order in _orders(sample):
        if _fits(sample, sample.layout, order):
            return _swapped(sample, order, because)
    same = tuple(range(len(sample.reads)))
    if others := _exactly(sample, same):
        hint = f"set `technology` to {' or '.join(others)}: their barcode and UMI are as long as these reads."
        return sample.problem(f"the reads do not look like {sample.technology}: {because}", hint, min(needed))
    for order in _orders(sample):
        if others := _exactly(sample, order):
            return _swapped(sample, order, because, others)
    short = [file for file, n in sorted(needed.items()) if sample.length(file) < n]
    if short:
        hint = "name the right `technology`, or take the reads as they came from the machine: these may be trimmed."
        return sample.problem(f"the reads are too short: {because}", hint, short[0])
    column = sample.layout.cdna[0][0]
    hint = f"reads of RNA below {K} bases map only to an index of shorter k-mers; is this the right file?"
    return sample.problem(f"the reads of RNA are very short: {because}", hint, column, warning=True)


def _maybe_another(sample: _Sample) -> list[Problem]:
    """Without a list of barcodes only lengths tell: a barcode read that fits another technology to the base."""
    others = _exactly(sample, tuple(range(len(sample.reads))))
    for file, bases in sorted(_needed(sample.layout).items()):
        found = sample.length(file)
        if others and bases < found <= _CUT_TO_MEASURE and sample.technology.lower() in TECHNOLOGIES:
            what = f"{sample.technology} uses {bases} bases of reads that all have {found}"
            hint = f"is it {' or '.join(others)}? Then set `technology`; else nothing needs to be done."
            return [sample.problem(what, hint, file, warning=True)]
    return []


def _barcodes(sample: _Sample, layout: ReadLayout, order: _Order) -> list[bytes]:
    """Barcode of each read; cut short where the read is."""
    files = [sample.reads[order[file]] for file, _, _ in layout.barcode]
    cut = [slice(start, end) for _, start, end in layout.barcode]
    return [b"".join(read[where] for read, where in zip(reads, cut, strict=True)) for reads in zip(*files, strict=True)]


def _shares(candidates: Mapping[object, list[bytes]], listed: Path) -> dict[object, float]:
    """Share of the reads of each candidate whose barcode is on the list; the list is read once."""
    wanted = frozenset(barcode for barcodes in candidates.values() for barcode in barcodes)
    found = whitelists.on_list(wanted, listed)
    return {name: sum(b in found for b in barcodes) / len(barcodes) for name, barcodes in candidates.items()}


def _check_barcodes(sample: _Sample, listed: Path) -> list[Problem]:
    """Whether the barcodes are on the list that they should be on, and what would explain it if not."""
    layout, same = sample.layout, tuple(range(len(sample.reads)))
    column = layout.barcode[0][0]
    length = sum(end - start for _, start, end in layout.barcode)
    if (other := whitelists.barcode_length(listed)) != length:
        what = f"barcodes of {sample.technology} have {length} bases, those of the list {listed} {other}"
        return [sample.problem(what, "name the list or the `technology` that belongs to the reads.", column)]
    barcodes = _barcodes(sample, layout, same)
    candidates: dict[object, list[bytes]] = {
        same: barcodes,
        "reverse": [b.translate(_COMPLEMENT)[::-1] for b in barcodes],
    }
    candidates |= {order: _barcodes(sample, layout, order) for order in _orders(sample)}
    shares = _shares(candidates, listed)
    share = shares[same]
    if share >= _FITS:
        return []
    what = f"only {share:.1%} of the first {len(barcodes)} barcodes are on the list {listed.name}"
    swapped = max(_orders(sample), key=lambda order: shares[order], default=None)
    if swapped is not None and shares[swapped] >= max(_FITS, 3 * share):
        return [_swapped(sample, swapped, f"{what}, and {shares[swapped]:.1%} once they are exchanged")]
    if shares["reverse"] >= max(_FITS, 3 * share):
        hint = (
            f"{shares['reverse']:.1%} of their reverse complements are: name a list of the reverse complements in "
            "`quantify.whitelist`."
        )
        return [sample.problem(what, hint, column)]
    better = _better_list(sample, listed, max(_FITS, 3 * share))
    if better:
        name, fitting = better
        hint = f"{fitting:.1%} are on that of {name}: set `technology` to {name}."
        return [sample.problem(what, hint, column)]
    if share < MIN_ON_LIST:
        hint = (
            "is it the right `technology`, and the right list in `quantify.whitelist`? Their reverse complements are "
            "not on it either. (`none` keeps every barcode as it is.)"
        )
        return [sample.problem(what, hint, column)]
    return []


def _better_list(sample: _Sample, listed: Path, above: float) -> tuple[str, float] | None:
    """The technology that fits these reads and whose own list holds the largest share of them, above a limit."""
    best: tuple[str, float] | None = None
    same = tuple(range(len(sample.reads)))
    for name, (_, layout) in TECHNOLOGIES.items():
        own = whitelists.bundled(name)
        if own is not None and own != listed and _fits(sample, layout, same):
            share = _shares({same: _barcodes(sample, layout, same)}, own)[same]
            if share >= above:
                best, above = (name, share), share
    return best


def count_reads(row: InputRow, file: Path) -> int:
    """Number of reads of a whole file, every byte unpacked: kallisto stops without a word where a gzip file is cut short.

    Raises
    ------
    InputError
        Naming file and sample: cut short, damaged, or ending within a read.
    """

    def fault(what: str) -> InputError:
        hint = f"copy or download it again; `gzip -t {file.name}` tests a gzip file."
        return InputError(Problem(str(file), f"sample {row.sample!r}: {what}", hint, row=lines + 1))

    lines, tail = 0, b""
    try:
        with open_reads(file) as stream:
            while block := stream.read(1 << 22):
                lines += block.count(b"\n")
                tail = (tail + block)[-8:]
    except (EOFError, OSError) as error:
        raise fault(f"the file is cut short or damaged after about {lines // 4} reads ({error})") from error
    lines += bool(tail) and not tail.endswith(b"\n")
    blank = len(tail) - len(tail.rstrip(b"\n")) - 1
    if lines % 4 and lines % 4 > blank:
        raise fault(f"the file ends within read {lines // 4 + 1}: it is cut short")
    return lines // 4
