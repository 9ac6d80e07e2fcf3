"""Shares of genes in a pool of RNA from sparse counts, by simple Good-Turing (Gale and Sampson 1995).

W. A. Gale and G. Sampson (1995) "Good-Turing frequency estimation without tears", Journal of Quantitative Linguistics
2:217-237. Genes that were never counted in the pool get a share, so that a droplet which has one of them is unlikely and
not impossible.
"""

from __future__ import annotations

import numpy as np

#: Standard errors by which Turing's estimate must differ from the smooth one to be used: edgeR's, and so DropletUtils'.
#: The paper has 1.65.
CONFIDENCE = 1.96


def simple_good_turing(
    counts: np.ndarray, frequencies: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, float]:
    """Expected counts of what was counted ``counts`` times, and the probability of all that was never counted.

    Parameters
    ----------
    counts
        Distinct positive counts r, ascending, (n,).
    frequencies
        Number of genes with each of them, (n,).
    confidence
        Turing's estimates are used up to the first that lies within so many standard errors of the smooth one.

    Returns
    -------
    expected
        The r* of the paper, (n,), scaled so that they and the rest sum to the number of counts.
    unseen
        P0: the number of genes counted once, over the number of counts.
    """
    r, n = counts.astype(float), frequencies.astype(float)
    total = (r * n).sum()
    unseen = n[0] / total if r[0] == 1 else 0.0
    smooth = r * (1 + 1 / r) ** (1 + _slope(r, n))
    consecutive = np.append(r[1:] == r[:-1] + 1, False)
    following = np.append(n[1:], 1.0)
    turing = (r + 1) * following / n
    far = np.abs(turing - smooth) > confidence * turing * np.sqrt(1 / following + 1 / n)
    switch = np.flatnonzero(~(far & consecutive))[0]
    expected = np.where(np.arange(len(r)) < switch, turing, smooth)
    return expected * (1 - unseen) * total / (expected * n).sum(), float(unseen)


def _slope(r: np.ndarray, n: np.ndarray) -> float:
    """Slope of the logarithm of the frequencies, each spread over the gap to its neighbours, on that of the counts."""
    if len(r) == 1:
        return -1.0
    below, above = np.append(0.0, r[:-1]), np.append(r[1:], 2 * r[-1] - r[-2])
    x, y = np.log(r), np.log(2 * n / (above - below))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def good_turing_shares(counts: np.ndarray) -> np.ndarray:
    """Share of every gene in the pool, (n_genes,), all positive and summing to 1.

    As ``DropletUtils::ambientProfileEmpty`` does it: genes without a count divide P0 among them. Where P0 is zero, or all
    of it, a pseudo-count of 1 is divided among the genes that would have no share (of a single count, half of it).

    Parameters
    ----------
    counts
        Counts of each gene in the pool, (n_genes,), whole and not all zero.
    """
    values, where, frequencies = np.unique(counts, return_inverse=True, return_counts=True)
    seen = values > 0
    expected, unseen = simple_good_turing(values[seen], frequencies[seen])
    total = float(counts.sum())
    per_value = expected / total
    if not seen[0]:
        per_value = np.append(unseen / frequencies[0], per_value)
    shares = per_value[where]
    absent = shares <= 0
    if absent.any():
        pseudo = min(1 / total, 0.5)
        shares[~absent] *= 1 - pseudo
        shares[absent] = pseudo / absent.sum()
    return shares / shares.sum()
