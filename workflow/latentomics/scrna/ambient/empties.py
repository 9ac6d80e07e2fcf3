"""How many counts an empty droplet has: read from the barcode ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

#: Droplets within this factor of the typical empty one are taken as such, and its spread is looked for within them.
_WITHIN = 2.0
#: Least and most coefficient of variation between empty droplets: a profile of a plateau may show none at all, and junk
#: barcodes more than any soup has.
_LEAST_CV, _MOST_CV = 0.1, 1.0


@dataclass(frozen=True)
class EmptyDroplets:
    """Counts of an empty droplet: their mean, and their coefficient of variation beyond that of sampling."""

    mean: float
    cv: float


def empty_droplets(curve: pd.DataFrame) -> EmptyDroplets | None:
    """Find the typical empty droplet among the barcodes that are no cells.

    Barcodes of one or few counts that sequencing errors made may outnumber the droplets. As CellBender does for its
    prior (Fleming et al. 2023, Nature Methods 20:1323), the search therefore starts at the counts where the curve of log
    counts on log ranks is flattest, the plateau; from there it climbs to the nearest mode of the log counts (mean shift).

    Parameters
    ----------
    curve
        ``rank``, ``total`` and ``called`` of :func:`latentomics.scrna.droplets.ranks.rank_curve`.

    Returns
    -------
    EmptyDroplets or None
        None where every barcode is a cell.
    """
    lengths = _barcodes_of(curve["rank"].to_numpy(dtype=float))
    share = 1 - curve["called"].to_numpy(dtype=float)
    within = share > 0
    if not within.any():
        return None
    totals, empty = curve["total"].to_numpy(dtype=float)[within], (share * lengths)[within]
    last = np.cumsum(lengths)
    stretch = (share * np.log(last / np.maximum(last - lengths, 0.5)))[within]
    logs = np.log(totals)
    half = np.log(_WITHIN) / 2
    density = (stretch[:, None] * (np.abs(logs[:, None] - logs) <= half)).sum(axis=0)
    centre = logs[int(density.argmax())]
    for _ in range(1000):
        near = np.abs(logs - centre) <= np.log(_WITHIN)
        moved = float(np.average(logs[near], weights=empty[near]))
        if abs(moved - centre) < 1e-6:
            break
        centre = moved
    near = np.abs(logs - centre) <= np.log(_WITHIN)
    mean = float(np.average(totals[near], weights=empty[near]))
    variance = float(np.average((totals[near] - mean) ** 2, weights=empty[near]))
    cv = np.sqrt(max(variance - mean, 0.0)) / mean
    return EmptyDroplets(mean, float(np.clip(cv, _LEAST_CV, _MOST_CV)))


def _barcodes_of(ranks: np.ndarray) -> np.ndarray:
    """Barcodes that each row stands for, from the mean of their ranks: rank = barcodes before + (barcodes + 1) / 2."""
    lengths, before = np.empty(len(ranks)), 0.0
    for i, rank in enumerate(ranks):
        lengths[i] = 2 * (rank - before) - 1
        before += lengths[i]
    return lengths
