"""Calls of a method that could not test a sample."""

from __future__ import annotations

import numpy as np

from latentomics.scrna.doublets.registry import DoubletCalls


def untested(n_cells: int, note: str) -> DoubletCalls:
    """No scores, nobody called, and why."""
    return DoubletCalls(np.full(n_cells, np.nan), np.zeros(n_cells, dtype=bool), None, note)


def too_few(n_cells: int, min_cells: int) -> DoubletCalls:
    """The calls for a sample below ``doublets.min_cells``."""
    return untested(n_cells, f"{n_cells} cells passed QC, fewer than doublets.min_cells ({min_cells}): no doublet test")
