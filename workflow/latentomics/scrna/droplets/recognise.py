"""Raw or filtered: whether a matrix still holds its empty droplets, by the counts of its barcodes."""

from __future__ import annotations

import numpy as np

#: Share of the barcodes that must be low in a raw matrix. Real ones have 95 % and more; this leaves room for ambient RNA
#: that reaches above `lower`, and for a plate whose few wells stand beside a few barcodes of sequencing errors.
_SOME = 0.1
#: The largest barcode of a raw matrix over the median one; in filtered 10x and plate samples it is 3 to 10.
_RANGE = 20.0
#: Half of the barcodes with no more counts than this are not cells, whatever the others are.
_NEXT_TO_NOTHING = 10
#: How far the smallest well stands above the largest error barcode.
_GAP = 10.0


def looks_raw(totals: np.ndarray, lower: int) -> tuple[bool, str]:
    """Whether barcodes without a cell are among these.

    A matrix is raw if a tenth of its barcodes or more have at most ``lower`` counts, and (1) the median barcode has at most
    10 counts, or (2) the largest has at least 20 times as many as the median, or (3) a gap of a factor of 10 separates the
    low barcodes from all others. Shallow cells or panels of few genes have many cells below ``lower``, but neither the
    range nor the gap.

    Parameters
    ----------
    totals
        Counts per barcode, (n_barcodes,).
    lower
        Droplets with this many counts or fewer are taken as empty.

    Returns
    -------
    raw
        The verdict.
    why
        The evidence, in a sentence.
    """
    n, low = len(totals), totals <= lower
    n_low = int(low.sum())
    counted = f"{n_low:,} of {n:,} barcodes have at most {lower:,} counts"
    if n_low < max(1, _SOME * n):
        return False, f"{counted}: {'too few for a raw matrix' if n_low else 'no empty droplets are among them'}."
    median, largest = float(np.median(totals)), int(totals.max())
    shape = f"the median is {median:,.0f} and the largest {largest:,}"
    if median <= _NEXT_TO_NOTHING or largest >= _RANGE * median:
        return True, f"{counted}; {shape}: most barcodes hold no cell."
    rest, top = totals[~low], int(totals[low].max())
    if len(rest) and rest.min() >= _GAP * max(top, 1):
        return True, f"{counted}, none of them more than {top:,}, while all others have {int(rest.min()):,} or more."
    return False, f"{counted}, but {shape}, and no gap is between: cells of few counts."
