"""The analysis-ready reads of a sample, as fragments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from latentomics.problems import InputError, Problem

PAIRS = ("reads_1.fastq.gz", "reads_2.fastq.gz")
SINGLE = "reads.fastq.gz"


def fragments(sample: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Sequences of a sample, the mates of a pair joined by one N (which no k-mer spans), and their number of reads.

    Raises
    ------
    InputError
        If the folder holds no reads or a file is damaged; names sample and file.
    """
    import dnaio

    mates, single = [folder / name for name in PAIRS], folder / SINGLE
    if not single.exists() and not all(path.exists() for path in mates):
        hint = f"it must hold {' and '.join(PAIRS)}, or {SINGLE}."
        raise InputError(Problem(str(folder), f"sample {sample!r}: no reads", hint))
    try:
        if all(path.exists() for path in mates):
            with dnaio.open(*mates) as pairs:
                for first, second in pairs:
                    yield f"{first.sequence}N{second.sequence}", 2
        if single.exists():
            with dnaio.open(single) as records:
                for record in records:
                    yield record.sequence, 1
    except (dnaio.FileFormatError, EOFError, OSError) as error:
        hint = "remove the sample's reads and run its quality control again."
        raise InputError(Problem(str(folder), f"sample {sample!r}: not readable ({error})", hint)) from error
