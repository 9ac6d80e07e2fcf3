"""Gene sets that say something about the quality of a cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

#: Set name in ``resources/gene_sets.tsv`` -> column of the per-cell metrics.
SETS = {"mitochondrial": "mito_percent", "ribosomal": "ribo_percent", "haemoglobin": "hb_percent"}


def flag_genes(var: pd.DataFrame, organism: str | None, table: Path) -> pd.DataFrame:
    """Mark the genes of each quality set.

    Parameters
    ----------
    var
        Genes, with columns ``ensembl`` and ``symbol`` (empty where unknown).
    organism
        ``human`` or ``mouse``; None if it could not be recognised: then nothing is marked.
    table
        Table with columns ``organism``, ``set``, ``ensembl``, ``symbol``.

    Returns
    -------
    DataFrame
        Boolean columns ``mitochondrial``, ``ribosomal``, ``haemoglobin``, indexed as ``var``. A gene belongs to a set
        if its Ensembl id or its symbol does.
    """
    known = pd.read_csv(table, sep="\t", dtype=str)
    known = known[known["organism"] == organism]
    flags = {}
    for name in SETS:
        members = known[known["set"] == name]
        flags[name] = var["ensembl"].isin(members["ensembl"]) | var["symbol"].isin(members["symbol"])
    return pd.DataFrame(flags, index=var.index)
