"""The methods that remove ambient RNA. Adding one is one module in this folder and one line here.

A method's module is imported by the rules, so its top level imports nothing heavier than numpy and pydantic; it offers

``TITLE``
    Name for people.
``GPU``
    Whether its rule asks the scheduler for one GPU.
``NEEDS_RAW``
    Whether it reads the raw matrix of a sample, empty droplets and all.
``correct(sample, params, seed, threads)``
    Correct the called cells of one sample (:class:`AmbientSample`) by the config's section ``ambient``; returns
    :class:`Correction`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anndata as ad
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_matrix

METHODS: dict[str, str] = {
    "decontx": "latentomics.scrna.ambient.decontx",
    "cellbender": "latentomics.scrna.ambient.cellbender",
}


@dataclass(frozen=True, eq=False)
class AmbientSample:
    """What is known of a sample.

    Attributes
    ----------
    name
        Of the sample.
    counts
        Raw counts of the called cells, (cells, genes), CSR, int32, at most one entry per cell and gene.
    barcodes, genes
        Of the rows and columns of ``counts``, as the raw matrix has them.
    passed
        Whether a cell passed QC, (cells,).
    profile
        Share of each gene in the empty droplets, (genes,), summing to 1; None where the input was filtered.
    curve
        Barcode ranks, as :func:`latentomics.scrna.droplets.ranks.rank_curve` makes them.
    raw
        Reads the raw matrix (barcodes x genes, CSR, whole counts).
    folder
        For files of the method's own; it stays where a job fails, so that the next one can go on from there.
    """

    name: str
    counts: csr_matrix
    barcodes: np.ndarray
    genes: np.ndarray
    passed: np.ndarray
    profile: np.ndarray | None
    curve: pd.DataFrame
    raw: Callable[[], ad.AnnData]
    folder: Path


@dataclass(frozen=True, eq=False)
class Correction:
    """What a method found.

    Attributes
    ----------
    counts
        Own counts of the cells, CSR, int32, of the shape of the raw ones and nowhere above them.
    share
        Estimated share of ambient RNA in the raw counts of each cell (fraction), (cells,); NaN where there is none.
    facts
        JSON-able, about the fit.
    notes
        For people.
    """

    counts: csr_matrix
    share: np.ndarray
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def method(name: str) -> ModuleType:
    """The module of a registered method."""
    return importlib.import_module(METHODS[name])
