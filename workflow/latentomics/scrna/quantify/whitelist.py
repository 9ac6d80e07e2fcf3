"""Which barcodes there can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from latentomics.config.quantify import TECHNOLOGIES
from latentomics.metagenome.fastq import open_reads
from latentomics.problems import InputError, Problem

#: Bases and ends of lines.
_LETTERS = b"ACGT\r\n"
_BLOCK = 1 << 22


def bundled(technology: str) -> Path | None:
    """The list of barcodes that kb-python carries for a technology; None where it has none."""
    from kb_python.config import TECHNOLOGIES_MAPPING

    if technology.lower() not in TECHNOLOGIES:
        return None
    chemistry = TECHNOLOGIES_MAPPING[TECHNOLOGIES[technology.lower()][0]].chemistry
    return Path(chemistry.whitelist_path) if chemistry.has_whitelist else None


def _blocks(whitelist: Path) -> Iterator[bytes]:
    """Whole lines of a list, plain or gzip, many at a time: four times as fast as one by one."""
    rest = b""
    with open_reads(whitelist) as stream:
        while block := stream.read(_BLOCK):
            whole, end, rest = (rest + block).rpartition(b"\n")
            yield whole + end
    yield rest


def on_list(barcodes: frozenset[bytes], whitelist: Path) -> set[bytes]:
    """Which of some barcodes are on a list, of whose millions of lines one block is in memory at a time."""
    found: set[bytes] = set()
    for block in _blocks(whitelist):
        found.update(barcodes.intersection(block.split()))
    return found


def barcode_length(whitelist: Path) -> int:
    """Length of the first barcode of a list; 0 for an empty list."""
    with open_reads(whitelist) as stream:
        return len(stream.readline().strip())


def stage(whitelist: Path, length: int, to: Path) -> int:
    """Copy a list to a plain file for bustools, each barcode checked.

    Parameters
    ----------
    length
        Bases of a barcode.

    Returns
    -------
    int
        Number of barcodes.

    Raises
    ------
    InputError
        A line that is no barcode of this length, or no line at all.
    """
    key, n, lines = "quantify.whitelist", 0, 0
    try:
        with to.open("wb") as out:
            for block in _blocks(whitelist):
                barcodes = block.split()
                if not set(map(len, barcodes)) <= {length} or block.translate(None, _LETTERS):
                    number, barcode = _first_bad(block, length)
                    hint = f"write one barcode of {length} bases (A, C, G, T) a line, without a suffix such as -1."
                    what, value = f"not a barcode of {length} bases", barcode[:60].decode(errors="replace")
                    raise InputError(Problem(str(whitelist), what, hint, row=lines + number, key=key, value=value))
                out.write(b"\n".join([*barcodes, b""]))
                n += len(barcodes)
                lines += block.count(b"\n")
    except (OSError, EOFError) as error:
        hint = "name a list of barcodes, one a line, plain or gzip."
        raise InputError(Problem(str(whitelist), f"not readable ({error})", hint, key=key)) from error
    if not n:
        raise InputError(Problem(str(whitelist), "the list holds no barcode", "write one barcode a line.", key=key))
    return n


def _first_bad(block: bytes, length: int) -> tuple[int, bytes]:
    """Number (from 1) and text of the first line that is not empty and no barcode."""
    lines = enumerate(block.split(b"\n"), 1)
    return next(
        (number, line.rstrip(b"\r"))
        for number, line in lines
        if line.strip() and (len(line.rstrip(b"\r")) != length or line.translate(None, _LETTERS))
    )
