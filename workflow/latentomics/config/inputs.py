"""Which format an input has, and which files belong to it, by their names alone."""

from __future__ import annotations

import re
from pathlib import Path

#: Formats that each assay reads.
FORMATS = {
    "scrna": ("fastq", "10x_dir", "10x_h5", "h5ad", "dense", "mtx"),
    "metagenome": ("fastq", "biom", "taxon_table", "metaphlan", "kraken_report", "bracken"),
}
#: Formats whose rows may name a file of mates.
PAIRED = ("fastq",)
#: Formats that hold relative abundances.
RELATIVE = ("metaphlan",)
_FASTQ = (".fastq.gz", ".fq.gz", ".fastq", ".fq")
_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
#: The first ending that fits decides.
_SUFFIXES = {
    "scrna": (
        ("fastq", _FASTQ),
        ("10x_h5", (".h5",)),
        ("h5ad", (".h5ad",)),
        ("mtx", (".mtx", ".mtx.gz")),
        ("dense", _TEXT),
    ),
    "metagenome": (
        ("fastq", _FASTQ),
        ("biom", (".biom", ".biom.gz")),
        ("kraken_report", (".kreport", ".kreport.txt", ".k2report", ".kraken2.report.txt", ".kraken.report.txt")),
        ("bracken", (".bracken", ".bracken.tsv", ".bracken.txt")),
        ("metaphlan", (".metaphlan", ".metaphlan.tsv", ".metaphlan.txt", "_profile.txt", ".mpa.tsv", ".mpa.txt")),
        ("taxon_table", _TEXT),
    ),
}
_MATRIX_NAMES = ("matrix.mtx.gz", "matrix.mtx")
_FEATURE_NAMES = ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv")
_BARCODE_NAMES = ("barcodes.tsv.gz", "barcodes.tsv")


def recognise(path: Path, assay: str) -> str | None:
    """The format of an input, by its name; a folder of cells is one of 10x."""
    if path.is_dir():
        return "10x_dir" if assay == "scrna" else None
    lowered = path.name.lower()
    return next((form for form, endings in _SUFFIXES[assay] if lowered.endswith(endings)), None)


def tenx_files(folder: Path) -> list[Path]:
    """The matrix, feature and barcode files of a 10x folder (v2 or v3 names); shorter where one is missing."""
    found = []
    for names in (_MATRIX_NAMES, _FEATURE_NAMES, _BARCODE_NAMES):
        found += [folder / name for name in names if (folder / name).is_file()][:1]
    return found


def mtx_names(path: Path) -> tuple[Path | None, Path | None]:
    """The files of barcodes and of features beside a ``.mtx`` file; None where there is none.

    Of ``GSM1_matrix.mtx``, in this order: ``GSM1_matrix.barcodes.tsv``, ``GSM1_matrix_barcodes.tsv``,
    ``GSM1_barcodes.tsv``, ``barcodes.tsv``; likewise ``features`` and ``genes``; ``.tsv`` or ``.txt``, plain or
    ``.gz``.
    """
    stem = re.sub(r"\.mtx(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    starts = [f"{stem}.", f"{stem}_", *([stem.removesuffix("matrix")] if stem.endswith("matrix") else []), ""]

    def first(*words: str) -> Path | None:
        names = (f"{s}{w}{e}" for s in starts for w in words for e in (".tsv.gz", ".tsv", ".txt.gz", ".txt"))
        return next((path.parent / name for name in names if (path.parent / name).is_file()), None)

    return first("barcodes"), first("features", "genes")
