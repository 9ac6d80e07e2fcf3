"""Genomes, annotations and tables of transcripts: what must hold before an index is built of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from latentomics.io.tables import open_text
from latentomics.metagenome.fastq import open_reads
from latentomics.problems import InputError, Problem

#: kallisto's longest k-mer, and its default.
K = 31
#: Below this, k-mers of an index say nothing about where a read comes from.
_SMALLEST_K = 11
_GENE_ID, _TRANSCRIPT_ID = (re.compile(rf'(?:^|[;\s]){name} "?([^";]+)"?') for name in ("gene_id", "transcript_id"))


class Gene(NamedTuple):
    """Gene of a transcript; the symbol is empty where unknown."""

    gene: str
    symbol: str


@contextmanager
def _reading(file: Path, key: str, kind: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, UnicodeDecodeError, ValueError) as error:
        hint = f"name a {kind}, plain or gzip; `gzip -t {file.name}` tests whether a gzip file is whole."
        raise _fault(file, key, f"not a readable {kind} ({error})", hint) from error


def _fault(file: Path, key: str, what: str, hint: str, *, row: int | None = None, value: object = None) -> InputError:
    return InputError(Problem(str(file), what, hint, row=row, key=f"quantify.{key}", value=value))


def sequence_lengths(file: Path, key: str) -> dict[str, int]:
    """Length of each sequence of a FASTA file, by the first word of its title (bases).

    Parameters
    ----------
    key
        Key of the section ``quantify`` that names the file, for messages.

    Raises
    ------
    InputError
        Not FASTA, cut short, no sequences, or a name that comes twice.
    """
    lengths: dict[str, int] = {}
    name = None
    with _reading(file, key, "FASTA file"), open_reads(file) as stream:
        for line in stream:
            if line.startswith(b">"):
                name = (line[1:].split() or [b""])[0].decode("utf-8")
                if not name or name in lengths:
                    what = f"sequence name {name!r} comes twice" if name else "a sequence has no name"
                    raise _fault(file, key, what, "each sequence needs a name of its own (first word of its title).")
                lengths[name] = 0
            elif name is None:
                if line.strip():
                    raise _fault(file, key, "not a FASTA file: it does not begin with '>'", "name a FASTA file.")
            else:
                lengths[name] += len(line.strip())
    if not any(lengths.values()):
        raise _fault(file, key, "the FASTA file holds no sequence", "was its copy complete?")
    return lengths


def transcript_lengths(file: Path, chromosomes: dict[str, int], genome: Path) -> tuple[list[int], list[str]]:
    """Lengths of the transcripts of a GTF file (sums of their exons), checked against the genome.

    Parameters
    ----------
    chromosomes
        Length of each sequence of the genome.

    Returns
    -------
    lengths, notes
        Bases per transcript; what a person should know.

    Raises
    ------
    InputError
        Not GTF (GFF3 has another form of attributes), no exon, no exon of a gene and transcript, no chromosome in
        common with the genome, exons beyond a chromosome's end.
    """
    key = "annotation"
    lengths: dict[str, int] = {}
    absent: set[str] = set()
    n_exons = n_lines = 0
    with _reading(file, key, "GTF file"), open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("#") or not line.strip():
                continue
            n_lines += 1
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 9 or not (fields[3].isdigit() and fields[4].isdigit()):
                hint = "lines of GTF have nine fields separated by tabs, the fourth and fifth whole numbers."
                raise _fault(file, key, "not a line of a GTF file", hint, row=number, value=line.strip()[:60])
            if fields[2] != "exon":
                continue
            n_exons += 1
            gene, transcript = _GENE_ID.search(fields[8]), _TRANSCRIPT_ID.search(fields[8])
            if not (gene and transcript):
                continue
            if fields[0] not in chromosomes:
                absent.add(fields[0])
            elif int(fields[4]) > chromosomes[fields[0]]:
                what = f"an exon ends at {fields[4]}, beyond the {chromosomes[fields[0]]} bases of {fields[0]!r}"
                hint = f"genome and annotation must be of the same assembly; the genome is {genome}."
                raise _fault(file, key, what, hint, row=number)
            else:
                name = transcript[1]
                lengths[name] = lengths.get(name, 0) + int(fields[4]) - int(fields[3]) + 1
    if not n_exons:
        hint = "name a GTF with lines of the type 'exon', as Ensembl and GENCODE have them."
        raise _fault(file, key, f"no exon among the {n_lines} lines of the annotation", hint)
    if not lengths and not absent:
        hint = "GFF3 must be turned into GTF first (`gffread -T`)."
        raise _fault(file, key, "no exon has both a gene_id and a transcript_id", hint)
    if not lengths:
        ours, theirs = next(iter(chromosomes)), min(absent)
        hint = f"take both from one source; {genome.name} has names like {ours!r}, the annotation like {theirs!r}."
        raise _fault(file, key, "no chromosome of the annotation is in the genome", hint)
    notes = []
    if absent:
        some = ", ".join(sorted(absent)[:5]) + (", ..." if len(absent) > 5 else "")
        notes.append(f"Genes on {len(absent)} sequence(s) that the genome lacks are left out: {some}.")
    return list(lengths.values()), notes


def read_table(file: Path) -> dict[str, Gene]:
    """Read a table of transcript, gene and, if known, symbol (tab-separated, no header; further columns are ignored).

    Raises
    ------
    InputError
        A line without a gene, a name with a space (bustools would cut it there), a transcript of two genes.
    """
    key = "transcripts_to_genes"
    found: dict[str, Gene] = {}
    with _reading(file, key, "table of transcripts and genes"), open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            fields = [field.strip() for field in line.rstrip("\n").split("\t")]
            if len(fields) < 2 or not all(fields[:2]) or any(" " in field for field in fields[:2]):
                hint = "each line holds transcript, gene and, if known, symbol, separated by tabs; ids have no spaces."
                raise _fault(file, key, "no transcript and gene", hint, row=number, value=line.strip()[:60])
            gene = Gene(fields[1], fields[2] if len(fields) > 2 else "")
            if found.setdefault(fields[0], gene).gene != gene.gene:
                what = f"transcript {fields[0]!r} belongs to two genes, {found[fields[0]].gene!r} and {gene.gene!r}"
                raise _fault(file, key, what, "keep one of the two lines.", row=number)
    if not found:
        raise _fault(file, key, "the table is empty", "write a line per transcript: transcript, gene, symbol.")
    return found


def check_covered(names: list[str], table: dict[str, Gene], file: Path, source: Path) -> None:
    """Every transcript of the index needs a gene: bustools does not come to an end otherwise.

    Raises
    ------
    InputError
        Naming how many are missing, and whether it is for the version (``.1``) of their ids.
    """
    missing = [name for name in names if name not in table]
    if not missing:
        return
    bare = {name.rsplit(".", 1)[0] for name in table}
    hint = f"add a line for each transcript of {source}."
    if missing[0].rsplit(".", 1)[0] in bare:
        hint = "the ids differ in their version (.1, .2, ...): write them alike in both files."
    what = f"{len(missing)} of the {len(names)} transcripts of {source.name} are not in the table"
    raise _fault(file, "transcripts_to_genes", what, hint, value=missing[0])


def choose_k(lengths: list[int], file: Path, key: str) -> tuple[int, list[str]]:
    """Length of the index's k-mers: 31, or an odd number that half of the transcripts reach if those are very short.

    Raises
    ------
    InputError
        Half of the transcripts are shorter than 11 bases.
    """
    k = min(K, int(median(lengths)))
    k -= 1 - k % 2
    if k < _SMALLEST_K:
        what = f"half of the {len(lengths)} transcripts are shorter than {_SMALLEST_K} bases: no read can map to them"
        raise _fault(file, key, what, "name whole transcripts.")
    notes = [] if k == K else [f"k-mers of {k} bases instead of {K}, as the transcripts are short."]
    if short := sum(length < k for length in lengths):
        notes.append(f"{short} of {len(lengths)} transcripts are shorter than a k-mer of {k} bases and get no reads.")
    return k, notes
