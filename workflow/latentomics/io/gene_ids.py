"""Which names are genes, of which kind, of which organism."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique

IdType = Literal["ensembl", "symbol"]
Organism = Literal["human", "mouse"]
Orientation = Literal["genes x cells", "cells x genes"]

#: Stable gene id of Ensembl, any vertebrate; a version and GENCODE's mark of the Y copy may follow.
#: https://www.ensembl.org/info/genome/stable_ids/index.html
_ENSEMBL = re.compile(r"(ENS[A-Z]{0,6}G\d{11})(\.\d+)?(_PAR_Y)?")
#: Genes that nearly every single-cell table holds and that no one calls a cell by. R turns "MT-CO1" into "MT.CO1".
_WELL_KNOWN = re.compile(
    r"(?i:MT[-.](?:ATP|CO|CYB|ND)[0-9L]*|RP[LS]\d+[AXYL]?\d*|RPLP[012]|RPSA|ACTB|ACTG1|GAPDH|B2M|MALAT1|XIST|EEF1A1"
    r"|EEF2|FTL1?|FTH1|TPT1|PTPRC|VIM|TMSB4X|TMSB10|HSP90AB1|UBC|UBB)"
)
_BARCODE = re.compile(r"(?:\w+[_#:])?[ACGTN]{8,}(?:[-_.]\w+)?")
_SYMBOL_COLUMNS = (
    "symbol", "symbols", "gene_symbol", "gene_symbols", "feature_name", "gene_name", "gene_names", "hgnc_symbol",
)  # fmt: skip
#: A longer axis this many times the shorter is taken as the genes if no name tells.
_CLEAR_RATIO = 3
_FEW = 10


class GeneIds(NamedTuple):
    """What :func:`gene_table` found.

    Attributes
    ----------
    var
        One row per feature; index: the feature id, columns ``ensembl`` and ``symbol`` (empty where unknown).
    id_type
        ``ensembl`` if at least half of the features have an Ensembl id.
    organism
        None where it cannot be told.
    renamed
        Number of features whose name was not unique and got a suffix ``-1``, ``-2``...
    notes
        What a person should know.
    """

    var: pd.DataFrame
    id_type: IdType
    organism: Organism | None
    renamed: int
    notes: list[str]


def ensembl_share(names: Sequence[str]) -> float:
    """Share of the names that are Ensembl gene ids (0 to 1; 0 for no names)."""
    return sum(bool(_ENSEMBL.fullmatch(name)) for name in names) / max(len(names), 1)


def gene_table(names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> GeneIds:
    """Ids, symbols and organism of the features of a matrix.

    Parameters
    ----------
    names
        First name of each feature, in the order of the matrix.
    columns
        Further names by column title. Ensembl ids are recognised by their form, symbols by the title.

    Returns
    -------
    GeneIds
        Feature ids are Ensembl ids where known, without version if that keeps them unique; else symbols, made unique.
        Ensembl ids that occur twice are left so: that is a fault of the input (see :mod:`latentomics.io.checks`).
    """
    candidates = {"": list(names), **{title: list(values) for title, values in columns.items()}}
    with_ensembl = [title for title, values in candidates.items() if ensembl_share(values) >= 0.5]
    id_type: IdType = "ensembl" if with_ensembl else "symbol"
    notes = []
    if not with_ensembl or with_ensembl[0]:
        symbols = list(names)
    else:
        titles = [title for title in _SYMBOL_COLUMNS if title in columns and title not in with_ensembl]
        symbols = list(columns[titles[0]]) if titles else [""] * len(names)
    source = candidates[with_ensembl[0]] if with_ensembl else symbols
    ensembl = [name if _ENSEMBL.fullmatch(name) else "" for name in source]
    bare = [_ENSEMBL.sub(r"\1\3", name) for name in ensembl]
    if bare != ensembl and len(set(bare)) < len(set(ensembl)):
        notes.append("Ensembl ids keep their version suffix: without it some would be the same.")
    else:
        ensembl = bare
    # Spike-ins and transgenes have no Ensembl id: in a table of Ensembl ids their own id serves.
    fallback = [symbol or name for symbol, name in zip(symbols, source, strict=True)]
    index, renamed = _unique_ids(ensembl, fallback, id_type)
    if renamed:
        notes.append(f"{renamed} gene names were not unique and got a suffix (-1, -2, ...).")
    var = pd.DataFrame({"ensembl": ensembl, "symbol": symbols}, index=index, dtype=object)
    return GeneIds(var, id_type, guess_organism(ensembl, symbols), renamed, notes)


def _unique_ids(ensembl: list[str], fallback: list[str], id_type: IdType) -> tuple[pd.Index, int]:
    """Feature ids; only names that are not Ensembl ids get a suffix where they repeat."""
    is_symbol = np.array([id_type == "symbol" or not name for name in ensembl], dtype=bool)
    ids = np.where(is_symbol, np.array(fallback, dtype=object), np.array(ensembl, dtype=object))
    with warnings.catch_warnings():
        # A gene that is called "A-1" already is passed over; that needs no warning.
        warnings.filterwarnings("ignore", message="Suffix used")
        unique = make_index_unique(pd.Index(ids[is_symbol], dtype=object)).to_numpy()
    renamed = int((unique != ids[is_symbol]).sum())
    ids[is_symbol] = unique
    return pd.Index(ids, dtype=object), renamed


def guess_organism(ensembl: Sequence[str], symbols: Sequence[str]) -> Organism | None:
    """Human or mouse, by Ensembl ids, else by the spelling of mitochondrial genes, else by capitals.

    HGNC writes human symbols in capitals (``MT-CO1``, ``ACTB``), MGI mouse symbols with one (``mt-Co1``, ``Actb``).
    Of a mixture, or of ids of another organism, None.
    """
    human = sum(name.startswith("ENSG") for name in ensembl)
    mouse = sum(name.startswith("ENSMUSG") for name in ensembl)
    known = sum(bool(name) for name in ensembl)
    if known >= max(_FEW, len(ensembl) / 2) or (known and not any(symbols)):
        return "human" if human > 0.9 * known else "mouse" if mouse > 0.9 * known else None
    mito_human = sum(bool(re.match(r"MT[-.][A-Z]", name)) for name in symbols)
    mito_mouse = sum(bool(re.match(r"mt[-.][A-Z][a-z]", name)) for name in symbols)
    if mito_human or mito_mouse:
        return None if mito_human and mito_mouse else "human" if mito_human else "mouse"
    words = [name for name in symbols if re.match(r"[A-Za-z]{2}", name)]
    if len(words) < _FEW:
        return None
    capitals = sum(name == name.upper() for name in words) / len(words)
    titled = sum(name[1:2].islower() and name[0].isupper() for name in words) / len(words)
    return "human" if capitals > 0.7 else "mouse" if titled > 0.7 else None


def table_orientation(rows: Sequence[str], columns: Sequence[str]) -> tuple[Orientation | None, str]:
    """Which axis of a table holds the genes, by its names, else by its length.

    Returns
    -------
    orientation, reason
        ``genes x cells`` if the rows are genes; None if nothing tells. The reason completes "taken as ..., because".
    """
    axes = (rows, columns)
    for reason, share, genes in (
        ("are Ensembl ids", ensembl_share, True),
        ("hold well-known gene symbols", _share_of(_WELL_KNOWN), True),
        ("are nucleotide barcodes", _share_of(_BARCODE), False),
    ):
        first, second = (share(names) for names in axes)
        # A few stray hits on the other axis (a cell type called "VIM") must not decide.
        if max(first, second) > 3 * min(first, second):
            of_rows = first > second
            side = "row" if of_rows else "column"
            return ("genes x cells" if of_rows == genes else "cells x genes"), f"its {side} names {reason}"
    if max(len(rows), len(columns)) >= _CLEAR_RATIO * min(len(rows), len(columns)):
        reason = f"of its {len(rows)} rows and {len(columns)} columns the longer side is taken as the genes"
        return ("genes x cells" if len(rows) > len(columns) else "cells x genes"), reason
    return None, ""


def _share_of(pattern: re.Pattern[str]) -> Callable[[Sequence[str]], float]:
    def share(names: Sequence[str]) -> float:
        return sum(bool(pattern.fullmatch(name)) for name in names) / max(len(names), 1)

    return share
