"""Genomes from which databases are built: their files, lineages and sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentomics.config.databases import genome_files, lineage_for, read_lineages
from latentomics.problems import InputError, Problem

#: Upper case, and N for whatever is not one of the four bases.
_BASES = bytes.maketrans(bytes(range(256)), bytes(c if c in b"ACGT" else ord("N") for c in bytes(range(256)).upper()))


@dataclass(frozen=True)
class Genome:
    """A reference genome: its name, FASTA file and lineage (text of :mod:`latentomics.metagenome.lineage`)."""

    name: str
    path: Path
    lineage: str


def read_genomes(folder: Path, lineages: Path) -> list[Genome]:
    """The genomes of a folder with their lineages, sorted by name.

    Raises
    ------
    InputError
        For every genome without a lineage, and every fault of the table.
    """
    known, problems = read_lineages(lineages)
    found = []
    for name, path in genome_files(folder).items():
        text = lineage_for(name, known)
        if text is None:
            hint = f"add a line for {name!r} to {lineages}."
            problems.append(Problem(str(path), "genome without a lineage", hint, value=name))
        else:
            found.append(Genome(name, path, text))
    if problems:
        raise InputError(problems)
    return found


def sequences(path: Path) -> Iterator[str]:
    """Contigs of a FASTA file (plain or gzip) in upper case, every other character than ACGT as N.

    Raises
    ------
    InputError
        For a file that is damaged, not FASTA or without a base.
    """
    import dnaio

    bases = 0
    try:
        with dnaio.open(path) as records:
            for record in records:
                text = record.sequence.encode("latin-1", "replace").translate(_BASES).decode("ascii")
                bases += len(text) - text.count("N")
                yield text
    except (dnaio.FileFormatError, EOFError, OSError, ValueError) as error:
        hint = "give a FASTA file, plain or gzip; download it again if it is cut short."
        raise InputError(Problem(str(path), f"not a readable genome: {error}", hint)) from error
    if not bases:
        raise InputError(Problem(str(path), "genome without any base", "remove the file or download it again."))


def tiles(contig: str, read_length: int, fragment_length: int, step: int) -> tuple[list[str], list[str]]:
    """Error-free reads and pairs that cover a contig evenly.

    Parameters
    ----------
    contig
        Sequence.
    read_length, fragment_length, step
        In base pairs; a fragment is as long as both mates and what lies between, ``step`` the distance of starts.

    Returns
    -------
    reads, pairs
        Mates are joined by one N, as no k-mer spans it. A contig shorter than a fragment gives one shorter one.
    """

    def cut(length: int) -> list[str]:
        return [contig[start : start + length] for start in range(0, max(len(contig) - length, 0) + 1, step)]

    pairs = [f"{fragment[:read_length]}N{fragment[-read_length:]}" for fragment in cut(fragment_length)]
    return cut(read_length), pairs


def auto_scaled(lengths: np.ndarray) -> int:
    """Fraction of k-mers to sketch (one in ``scaled``): some 20,000 k-mers of the smallest genome, 1 to 1000."""
    return int(np.clip(lengths.min() // 20_000, 1, 1000))
