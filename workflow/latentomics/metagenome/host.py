"""Which reads are a host's (or a spike-in's): by minimap2 (Li 2018, Bioinformatics 34:3094) or by shared k-mers.

An index tells by its first bytes which of the two made it, so that every sample of a study is treated alike.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import dnaio
import numpy as np

from latentomics.metagenome import kmers
from latentomics.metagenome.fastq import Chunk, open_reads
from latentomics.problems import InputError, Problem

Tool = Literal["minimap2", "kmers"]
#: Tells which reads or pairs of a chunk are the host's: booleans, shape (len(chunk),).
Judge = Callable[[Chunk], np.ndarray]
_MINIMAP2_MAGIC = b"MMI\2"
_MATCHED = re.compile(r"(\d+)[M=X]")
_UNMAPPED, _SECONDARY, _SUPPLEMENTARY = 0x4, 0x100, 0x800


def choose_tool(wanted: Literal["auto", "minimap2", "kmers"]) -> Tool:
    """The tool to use.

    Raises
    ------
    InputError
        minimap2 is asked for and not installed.
    """
    installed = shutil.which("minimap2") is not None
    if wanted == "minimap2" and not installed:
        hint = "install it (conda, bioconda channel), or set `kmers`, which needs no further program."
        raise InputError(Problem("minimap2", "not installed", hint, key="reads.host_tool", value=wanted))
    return wanted if wanted != "auto" else "minimap2" if installed else "kmers"


def tool_of(index: Path) -> Tool:
    """The tool that made an index."""
    with index.open("rb") as stream:
        start = stream.read(len(kmers.MAGIC))
    if start.startswith(_MINIMAP2_MAGIC):
        return "minimap2"
    if start == kmers.MAGIC:
        return "kmers"
    hint = "remove the file; the next run makes it anew."
    raise InputError(Problem(str(index), "not an index of host reads", hint))


def tool_version(tool: Tool) -> str:
    """Version of a tool, for the record of a run."""
    if tool == "kmers":
        return f"canonical {kmers.K}-mers"
    return subprocess.run(["minimap2", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def build_index(fasta: Path, to: Path, tool: Tool, threads: int = 1) -> int:
    """Index a host's FASTA file; appears under its name only when complete.

    Returns
    -------
    int
        Bases of the host.

    Raises
    ------
    InputError
        The file is not FASTA, or holds no sequence.
    """
    bases = _check_fasta(fasta)
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.partial")
    try:
        if tool == "kmers":
            kmers.build_index(fasta, partial)
        else:
            # Absolute, so that no file's name is taken for an option.
            # -I: one part, whatever the genome's size; an index in parts would report each read once per part.
            command = [
                "minimap2",
                "-x",
                "sr",
                "-t",
                str(threads),
                "-I",
                "1000G",
                "-d",
                partial.absolute(),
                fasta.absolute(),
            ]
            _run(command, fasta)
        os.replace(partial, to)
    finally:
        partial.unlink(missing_ok=True)
    return bases


def _run(command: Sequence[str | Path], fasta: Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"minimap2 failed on {fasta} (exit {done.returncode}): {_tail(done.stderr)}")


def _tail(raw: bytes) -> str:
    return raw.decode(errors="replace").strip()[-500:]


def _check_fasta(fasta: Path) -> int:
    bases = 0
    hint = "name a FASTA file (plain or gzip) with the host's sequences."
    try:
        with open_reads(fasta) as stream, dnaio.open(stream, fileformat="fasta", open_threads=0) as records:
            for record in records:
                bases += len(record)
    except (dnaio.FileFormatError, OSError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problem = Problem(str(fasta), f"not a readable FASTA file ({reason})", hint, key="reads.hosts")
        raise InputError(problem) from error
    if not bases:
        raise InputError(Problem(str(fasta), "the FASTA file holds no sequence", hint, key="reads.hosts"))
    return bases


@contextmanager
def open_judge(index: Path, reads: Sequence[Path], min_share: float, threads: int = 1) -> Iterator[Judge]:
    """Open a host's index for the reads of one sample.

    Parameters
    ----------
    index
        As :func:`build_index` wrote it.
    reads
        The FASTQ file or the two of the mates, whose chunks will be asked for, in order and complete.
    min_share
        A read or pair is the host's if at least this share of its bases is aligned to it (minimap2), or if it has as
        many k-mers of the host as one matching stretch of that length (k-mers). Both mates count together, so that
        one good mate is enough.
    """
    if tool_of(index) == "kmers":
        loaded = kmers.load_index(index)
        yield lambda chunk: _sharing(chunk, loaded, min_share)
        return
    choose_tool("minimap2")
    with minimap2(index, reads, threads) as aligned_bases:
        yield lambda chunk: _aligned(chunk, aligned_bases, min_share)


def _sharing(chunk: Chunk, index: kmers.KmerIndex, min_share: float) -> np.ndarray:
    shared, looked_up = kmers.shared_kmers(chunk, index)
    lengths = np.array([[len(record) for record in mate] for mate in chunk.mates])
    n_kmers = np.maximum(lengths - kmers.K + 1, 0).sum(axis=0)
    # A stretch of n bases has n - K + 1 k-mers, of which a sampled index looks up its share.
    stretch = min_share * lengths.sum(axis=0) - kmers.K + 1
    return shared >= np.maximum(1, stretch * looked_up / np.maximum(n_kmers, 1))


def _aligned(chunk: Chunk, aligned_bases: Iterator[tuple[str, int]], min_share: float) -> np.ndarray:
    host = np.empty(len(chunk), dtype=bool)
    for i, records in enumerate(zip(*chunk.mates, strict=True)):
        aligned = 0
        for record in records:
            name, bases = next(aligned_bases, (None, 0))
            # minimap2 takes /1 and /2 off the names of pairs.
            if name is None or not record.name.startswith(name):
                raise RuntimeError(f"minimap2 and the reads are out of step: {record.name!r} against {name!r}")
            aligned += bases
        host[i] = aligned > 0 and aligned >= min_share * sum(map(len, records))
    return host


@contextmanager
def minimap2(index: Path, reads: Sequence[Path], threads: int) -> Iterator[Iterator[tuple[str, int]]]:
    """Align reads and stream the result.

    Yields
    ------
    iterator
        Per read, in the order of the file (of pairs: mate 1, mate 2, ...): name, and number of its bases in the
        primary alignment, 0 if there is none.
    """
    files = [path.absolute() for path in (index, *reads)]
    command = ["minimap2", "-ax", "sr", "--secondary=no", "-t", str(threads), *files]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, text=True, encoding="ascii"
        )
        assert process.stdout is not None
        try:
            yield _primary(process.stdout)
            process.stdout.read()
            if process.wait():
                messages.seek(0)
                raise RuntimeError(f"minimap2 failed (exit {process.returncode}): {_tail(messages.read())}")
        finally:
            process.stdout.close()
            process.kill()
            process.wait()


def _primary(sam: Iterator[str]) -> Iterator[tuple[str, int]]:
    for line in sam:
        name, flag, rest = line.split("\t", 2)
        # Names of reads may begin with '@' as lines of the header do.
        if flag.isdigit() and not int(flag) & (_SECONDARY | _SUPPLEMENTARY):
            cigar = rest.split("\t", 4)[3]
            yield name, 0 if int(flag) & _UNMAPPED else sum(map(int, _MATCHED.findall(cigar)))
