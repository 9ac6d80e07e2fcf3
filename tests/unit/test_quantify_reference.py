"""What an index is built of: faults of genome, annotation, transcripts and tables, found before kb would fall over them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from latentomics.config.quantify import Quantify
from latentomics.problems import InputError, Problem
from latentomics.scrna.quantify.annotation import choose_k, read_table, sequence_lengths, transcript_lengths
from latentomics.scrna.quantify.kb import cause
from latentomics.scrna.quantify.reference import build_reference

GENOME = ">1 a chromosome\n" + "ACGTTGCA" * 50 + "\n>2\nACGT\n"


def exon(chromosome: str = "1", start: int = 1, end: int = 100, names: str | None = None) -> str:
    names = 'gene_id "g"; transcript_id "t";' if names is None else names
    return f"{chromosome}\tx\texon\t{start}\t{end}\t.\t+\t.\t{names}\n"


def fault(folder: Path, **files: str | bytes) -> Problem:
    """The one problem of a reference of these files (key of the config: content)."""
    for key, content in files.items():
        (folder / key).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        build_reference(Quantify(**{key: key for key in files}), folder, folder / "reference", 1)
    (problem,) = caught.value.problems
    assert list((folder / "reference").iterdir()) == [], "nothing is left behind"
    return problem


@pytest.mark.parametrize(
    ("gtf", "what", "hint"),
    [
        ("#!a comment\n", "no exon among the 0 lines", "type 'exon'"),
        ('1\tx\tgene\t1\t9\t.\t+\t.\tgene_id "g";\n', "no exon among the 1 lines", "type 'exon'"),
        (exon(names="ID=exon1;Parent=transcript:t"), "no exon has both", "gffread"),
        (exon("chr1"), "no chromosome of the annotation is in the genome", "like '1', the annotation like 'chr1'"),
        (exon() + exon(end=401), "an exon ends at 401, beyond the 400 bases of '1'", "same assembly"),
        (exon() + "1\tx\texon\n", "not a line of a GTF file", "nine fields"),
    ],
)
def test_faults_of_an_annotation(tmp_path: Path, gtf: str, what: str, hint: str) -> None:
    problem = fault(tmp_path, genome=GENOME, annotation=gtf)
    assert what in problem.what and hint in problem.hint and problem.key == "quantify.annotation"


@pytest.mark.parametrize(
    ("fasta", "what"),
    [
        ("chromosome one\n", "does not begin with '>'"),
        (">1\n>2\n", "holds no sequence"),
        (">1\nACGT\n>1 again\nACGT\n", "'1' comes twice"),
        (">\nACGT\n", "has no name"),
        (gzip.compress(GENOME.encode(), mtime=0)[:-10], "not a readable FASTA file"),
    ],
)
def test_faults_of_a_genome(tmp_path: Path, fasta: str | bytes, what: str) -> None:
    problem = fault(tmp_path, genome=fasta, annotation=exon())
    assert what in problem.what and problem.key == "quantify.genome"


@pytest.mark.parametrize(
    ("table", "what", "hint"),
    [
        ("1\tg\n", "1 of the 2 transcripts of transcripts are not in the table", "add a line"),
        ("1\tg\n2.4\tg\n", "1 of the 2 transcripts", "version"),
        ("1\n", "no transcript and gene", "separated by tabs"),
        ("1\tmy gene\n2\tg\n", "no transcript and gene", "no spaces"),
        ("1\tg\n2\tg\n1\th\n", "belongs to two genes, 'g' and 'h'", "keep one"),
        ("\n", "the table is empty", "line per transcript"),
    ],
)
def test_faults_of_a_table(tmp_path: Path, table: str, what: str, hint: str) -> None:
    problem = fault(tmp_path, transcripts=GENOME, transcripts_to_genes=table)
    assert what in problem.what and hint in problem.hint and problem.key == "quantify.transcripts_to_genes"


def test_transcripts_too_short_to_map_to(tmp_path: Path) -> None:
    problem = fault(tmp_path, transcripts=">1\nACGTACG\n", transcripts_to_genes="1\tg\n")
    assert "shorter than 11 bases" in problem.what and problem.key == "quantify.transcripts"


def test_an_index_that_is_none(tmp_path: Path) -> None:
    problem = fault(tmp_path, index="no index of kallisto at all", transcripts_to_genes="1\tg\n")
    assert "cannot read this index" in problem.what and "incompatible" in problem.what
    assert problem.key == "quantify.index"


def test_lengths_are_sums_of_exons(tmp_path: Path) -> None:
    other = 'gene_id "g"; transcript_id "u"; tag "basic";'
    lines = [exon(), exon(start=201, end=250), exon(end=7, names=other), exon("KI27"), "\n"]
    gtf = tmp_path / "genes.gtf.gz"
    gtf.write_bytes(gzip.compress("".join(lines).encode()))
    (tmp_path / "genome.fa").write_text(GENOME)
    chromosomes = sequence_lengths(tmp_path / "genome.fa", "genome")
    assert chromosomes == {"1": 400, "2": 4}
    lengths, notes = transcript_lengths(gtf, chromosomes, tmp_path / "genome.fa")
    assert lengths == [150, 7]
    assert notes == ["Genes on 1 sequence(s) that the genome lacks are left out: KI27."]


@pytest.mark.parametrize(
    ("lengths", "k", "notes"),
    [([500, 900], 31, 0), ([31], 31, 0), ([30], 29, 1), ([21, 22, 23], 21, 1), ([15, 500, 600], 31, 1), ([11], 11, 1)],
)
def test_k_fits_half_of_the_transcripts(lengths: list[int], k: int, notes: int) -> None:
    found, said = choose_k(lengths, Path("x"), "transcripts")
    assert (found, len(said)) == (k, notes)


def test_symbols_of_a_table_are_optional(tmp_path: Path) -> None:
    file = tmp_path / "t2g"
    file.write_text("t1\tg1\tSYM\tfurther\nt2\tg2\nt3\tg1\tSYM\n")
    assert {name: tuple(gene) for name, gene in read_table(file).items()} == {
        "t1": ("g1", "SYM"),
        "t2": ("g2", ""),
        "t3": ("g1", "SYM"),
    }


CALL = "Traceback\nsubprocess.CalledProcessError: Command 'x' "


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("[index] x\nError: kallisto index file not found\n" + CALL, "kallisto index file not found"),
        ("[~warn] no reads pseudoaligned.\n", "no reads pseudoaligned."),
        (CALL + "died with <Signals.SIGKILL: 9>.", "ended by SIGKILL (often for want of memory"),
        (CALL + "died with <Signals.SIGSEGV: 11>.", "ended by SIGSEGV"),
        ("usage: kb\nkb count: error: these arguments are required: -g", "these arguments are required: -g"),
        ("Traceback\nkb_python.config.UnsupportedOSError: no compatible kallisto", "no compatible kallisto"),
        ("all is well\n", ""),
    ],
)
def test_the_cause_of_a_failure_is_one_line(log: str, line: str) -> None:
    assert line in cause(log) and "\n" not in cause(log)
    assert bool(cause(log)) == bool(line)
