"""The doublet callers. Adding one is one module in this folder and one line here.

A caller's module is imported by the rules, so its top level imports nothing heavier than numpy and pydantic; it offers

``TITLE``
    Name for people.
``GPU``
    Whether it has a rule of its own, which asks the scheduler for one GPU; the others run where the sample is read.
``call_doublets(counts, params, seed, threads)``
    Judge the cells of one sample that passed QC, from their raw counts (CSR, (cells, genes)), by the config's section
    ``doublets``; returns :class:`DoubletCalls`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

METHODS: dict[str, str] = {
    "scrublet": "latentomics.scrna.doublets.scrublet",
    "solo": "latentomics.scrna.doublets.solo",
}


@dataclass(frozen=True)
class DoubletCalls:
    """Doublet scores (shape (n_cells,), NaN if not tested), calls, the threshold used and a note for people."""

    scores: np.ndarray
    called: np.ndarray
    threshold: float | None
    note: str = ""


def method(name: str) -> ModuleType:
    """The module of a registered caller."""
    return importlib.import_module(METHODS[name])
