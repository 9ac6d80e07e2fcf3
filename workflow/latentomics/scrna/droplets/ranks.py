"""Barcodes ranked by their counts: the knee and the inflection of that curve, and the curve itself for a plot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

#: Ranks whose slopes are too uneven to look at, and the droplets above `lower` that a curve needs beyond them.
EXCLUDE_FROM = 50
ENOUGH = 2 * EXCLUDE_FROM


class Bends(NamedTuple):
    """Counts at the knee and at the inflection of the barcode ranks (barcodes with as many or more are above)."""

    knee: float
    inflection: float


def find_bends(totals: np.ndarray, lower: int) -> Bends | None:
    """Knee and inflection of the curve of log counts on log ranks, above ``lower`` counts.

    As ``DropletUtils::barcodeRanks`` of Bioconductor 3.20 and later: the inflection is where the curve falls most steeply
    after the first 50 ranks; the knee is the point furthest above the line from the flattest part before the inflection
    to the inflection. (Releases before took the most negative curvature of a spline, which the authors gave up as
    unstable.) A curve of fewer than 100 barcodes above ``lower`` has no plateau to speak of: there both are the last
    barcode before the steepest fall (:func:`steepest_fall`).

    Parameters
    ----------
    totals
        Counts per barcode, (n_barcodes,).
    lower
        Barcodes with as many counts or fewer are not looked at.

    Returns
    -------
    Bends or None
        None where all barcodes that have counts, or none of them, are above ``lower``, or too few differ in their counts.
    """
    if np.count_nonzero(totals > lower) < ENOUGH:
        fall = steepest_fall(totals, lower)
        return None if fall is None else Bends(fall, fall)
    values, lengths = np.unique(totals, return_counts=True)
    values, lengths = values[::-1].astype(float), lengths[::-1]
    middles = np.cumsum(lengths) - (lengths - 1) / 2
    keep = values > lower
    if keep.sum() < 3:
        return None
    x, y = np.log10(middles[keep]), np.log10(values[keep])
    slopes = np.diff(y) / np.diff(x)
    skip = min(len(slopes) - 1, int((x <= np.log10(EXCLUDE_FROM)).sum()))
    right = skip + int(slopes[skip:].argmin())
    left = skip + int(slopes[skip : right + 1].argmax())
    if right - left < 3:
        return Bends(float(values[left]), float(values[right]))
    x, y = x[left : right + 1], y[left : right + 1]
    above = y - (y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0]))
    # The distance from the line is the height above it times a constant.
    return Bends(float(values[left + int(above.argmax())]), float(values[right]))


def steepest_fall(totals: np.ndarray, lower: int) -> float | None:
    """Counts of the barcode after which the curve of log counts on log ranks falls most steeply.

    That barcode has more than ``lower`` counts; the next one may have any. For plates of few wells, where the wells stand
    well above what sequencing errors leave. None where no barcode, or every one that has counts, is above ``lower``.
    """
    ordered = np.sort(totals[totals > 0])[::-1].astype(float)
    n_above = int((ordered > lower).sum())
    if n_above in (0, len(ordered)):
        return None
    heights, ranks = np.log(ordered[: n_above + 1]), np.log(np.arange(1, n_above + 2))
    return float(ordered[int((np.diff(heights) / np.diff(ranks)).argmin())])


def rank_curve(totals: np.ndarray, called: np.ndarray, points: int = 500) -> pd.DataFrame:
    """The barcode-rank curve, thinned evenly on the logarithm of the rank; barcodes without a count are left out.

    Parameters
    ----------
    totals, called
        Counts, and whether it is a cell, of each barcode, (n_barcodes,).
    points
        The most rows.

    Returns
    -------
    DataFrame
        ``rank`` (mean of those that a row stands for), ``total`` (their mean counts) and ``called`` (share of them that
        are cells; barcodes of the same counts, whose order says nothing, share theirs).
    """
    present = np.flatnonzero(totals > 0)
    order = present[np.argsort(-totals[present].astype(np.int64), kind="stable")]
    ranked = totals[order].astype(float)
    _, run = np.unique(-ranked, return_inverse=True)
    share = np.bincount(run, weights=called[order])[run] / np.bincount(run)[run] if len(order) else np.zeros(0)
    edges = np.unique(np.geomspace(1, len(order) + 1, points + 1).astype(np.int64)) - 1
    starts, lengths = edges[:-1], np.diff(edges)
    if not len(order):
        return pd.DataFrame({"rank": np.zeros(0), "total": np.zeros(0), "called": np.zeros(0)})
    return pd.DataFrame(
        {
            "rank": starts + (lengths + 1) / 2,
            "total": np.add.reduceat(ranked, starts) / lengths,
            "called": np.add.reduceat(share, starts) / lengths,
        }
    )
