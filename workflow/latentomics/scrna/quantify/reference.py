"""The index that reads are mapped to, and which gene each of its transcripts belongs to. Built once for all samples."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentomics.config.quantify import Quantify
from latentomics.metagenome.fastq import open_reads
from latentomics.problems import InputError, Problem
from latentomics.scrna.quantify.annotation import (
    Gene,
    check_covered,
    choose_k,
    read_table,
    sequence_lengths,
    transcript_lengths,
)
from latentomics.scrna.quantify.kb import KbFailed, cause, kallisto, run_kb, versions

INDEX, TABLE, FACTS = "index.idx", "t2g.txt", "reference.json"


@contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """A folder for what is only needed on the way, inside ``folder``; that of a run that was killed is removed first."""
    work = folder.absolute() / ".quantify"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def build_reference(quantify: Quantify, study: Path, folder: Path, threads: int) -> None:
    """Write ``index.idx``, ``t2g.txt`` (transcript, gene, symbol) and ``reference.json``.

    From a genome and its annotation ``kb ref`` cuts the transcripts, and k-mers that also occur elsewhere in the genome
    are marked, so that reads from between the genes do not map (the "D-list", Hjörleifsson et al. 2022, bioRxiv
    2022.12.02.518832).

    Parameters
    ----------
    study
        Folder that relative paths of ``quantify`` are relative to.

    Raises
    ------
    InputError
        Files that are not what they should be, or do not fit each other.
    """
    with working_folder(folder) as work:
        if quantify.genome:
            kind, source = "genome", study / quantify.genome
            table, notes = _from_genome(source, study / str(quantify.annotation), work, threads)
        elif quantify.transcripts:
            kind, source = "transcripts", study / quantify.transcripts
            table, notes = _from_transcripts(source, study / str(quantify.transcripts_to_genes), work, threads)
        else:
            kind, source = "index", study / str(quantify.index)
            # A copy: the results stay what they are when the user's file changes.
            shutil.copyfile(source, work / INDEX)
            table, notes = read_table(study / str(quantify.transcripts_to_genes)), []
        names, facts = _look_into(work / INDEX, source, kind, work)
        if kind == "index":
            check_covered(names, table, study / str(quantify.transcripts_to_genes), source)
        genes = {name: table[name] for name in names}
        facts = {
            "kind": kind,
            "n_targets": len(names),
            "n_genes": len({gene.gene for gene in genes.values()}),
            **facts,
            "versions": versions(),
            "notes": notes,
        }
        lines = ("\t".join((name, *gene)) + "\n" for name, gene in genes.items())
        (work / TABLE).write_text("".join(lines), "utf-8")
        (work / FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        for name in (INDEX, TABLE, FACTS):
            os.replace(work / name, folder / name)


def _tame(file: Path, work: Path, name: str) -> Path:
    """A link whose name kb takes for a single local file: it splits names at commas."""
    with file.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    link = work / (name + ".gz" * packed)
    link.symlink_to(file.absolute())
    return link


def _from_genome(genome: Path, annotation: Path, work: Path, threads: int) -> tuple[dict[str, Gene], list[str]]:
    chromosomes = sequence_lengths(genome, "genome")
    lengths, notes = transcript_lengths(annotation, chromosomes, genome)
    k, more = choose_k(lengths, annotation, "annotation")
    wanted: list[str | Path] = [
        "-i",
        work / INDEX,
        "-g",
        work / "kb.t2g",
        "-f1",
        work / "cdna.fa",
        "--tmp",
        work / "tmp",
    ]
    files = [_tame(genome, work, "genome.fa"), _tame(annotation, work, "genes.gtf")]
    _build(["ref", *wanted, "-k", str(k), "-t", str(threads), *files], work, genome)
    return read_table(work / "kb.t2g"), notes + more


def _from_transcripts(fasta: Path, table: Path, work: Path, threads: int) -> tuple[dict[str, Gene], list[str]]:
    lengths = sequence_lengths(fasta, "transcripts")
    genes = read_table(table)
    check_covered(list(lengths), genes, table, fasta)
    k, notes = choose_k(list(lengths.values()), fasta, "transcripts")
    wanted: list[str | Path] = ["--workflow", "custom", "-i", work / INDEX, "--tmp", work / "tmp"]
    _build(["ref", *wanted, "-k", str(k), "-t", str(threads), _tame(fasta, work, "transcripts.fa")], work, fasta)
    return genes, notes


def _build(arguments: list[str | Path], work: Path, source: Path) -> None:
    try:
        run_kb(arguments)
    except KbFailed as error:
        raise KbFailed(f"the index of {source} was not built: {error}") from error
    if not (work / INDEX).is_file():
        raise KbFailed(f"the index of {source} was not built: kb made no file and gave no reason")


def _look_into(index: Path, source: Path, kind: str, work: Path) -> tuple[list[str], dict[str, Any]]:
    """Names of the transcripts of an index, and what kallisto says of it.

    kallisto has no command that lists the transcripts; it writes them when it maps reads, here one that maps nowhere.
    """
    read, out = work / "nothing.fastq", work / "nothing"
    read.write_text(f"@nothing\n{'N' * 40}\n+\n{'#' * 40}\n")
    said = kallisto("bus", "-i", index, "-o", out, "-x", "0,0,16:0,16,26:1,0,0", read, read).stdout
    facts, names = out / "run_info.json", out / "transcripts.txt"
    if not (facts.is_file() and names.is_file()):
        if kind != "index":
            raise KbFailed(f"the index of {source} cannot be used: {cause(said)}")
        hint = "name an index that this kallisto made, or `quantify.transcripts` to have one made."
        what = f"kallisto {versions()['kallisto']} cannot read this index ({cause(said) or 'it gives no reason'})"
        raise InputError(Problem(str(source), what, hint, key="quantify.index"))
    info = json.loads(facts.read_text("utf-8"))
    with open_reads(names) as stream:
        found = [line.decode("utf-8").strip() for line in stream]
    return found, {"k": info["k-mer length"], "index_version": info["index_version"]}
