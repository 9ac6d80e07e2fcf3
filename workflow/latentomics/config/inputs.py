"""Which format an input has, and which files belong to it, by their names alone."""

from __future__ import annotations

import re
from pathlib import Path

FORMATS = ("10x_dir", "10x_h5", "h5ad", "dense", "mtx")
_SUFFIXES = (
    ("10x_h5", (".h5",)),
    ("h5ad", (".h5ad",)),
    ("mtx", (".mtx", ".mtx.gz")),
    ("dense", (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")),
)
_MATRIX_NAMES = ("matrix.mtx.gz", "matrix.mtx")
_FEATURE_NAMES = ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv")
_BARCODE_NAMES = ("barcodes.tsv.gz", "barcodes.tsv")


def recognise(path: Path) -> str | None:
    """The format of an input, by its name; a folder is one of 10x."""
    if path.is_dir():
        return "10x_dir"
    lowered = path.name.lower()
    return next((form for form, endings in _SUFFIXES if lowered.endswith(endings)), None)


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
