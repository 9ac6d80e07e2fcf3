"""Normalisation of taxon tables: a sample says how its taxa share it, not how many there were.

The defaults follow Aitchison's geometry (1982, J. R. Stat. Soc. B 44:139): centred log-ratios, whose Euclidean distance
does not change when every count of a sample is multiplied by the same number, as sequencing depth does.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.sparse import issparse

from latentomics.problems import InputError, Problem

Method = Literal["relative", "clr", "rclr", "rarefy"]
Values = Literal["counts", "relative"]

#: Part of the detection limit that stands for a zero: Martin-Fernandez, Barcelo-Vidal, Pawlowsky-Glahn 2003, Math. Geol.
#: 35:253, found the least distortion of the covariances there.
OF_DETECTION_LIMIT = 0.65


def normalise(
    counts,
    method: Method,
    seed: int,
    depth: int | None = None,
    delta: float | None = None,
    values: Values = "counts",
) -> np.ndarray:
    """Normalise a taxon table.

    Parameters
    ----------
    counts
        Samples x taxa, dense or sparse, finite and not negative; counts or, if ``values`` says so, shares in any unit.
    method
        ``relative``: shares, each sample sums to 1. ``clr``: centred log-ratio after :func:`replace_zeros`. ``rclr``:
        log-ratio to the geometric mean of the taxa present (Martino 2019, mSystems 4:e00016-19); absent taxa, which
        that leaves undefined, get 0, the sample's own centre. ``rarefy``: counts drawn without replacement.
    seed
        For ``rarefy``.
    depth
        Counts drawn per sample by ``rarefy``; those of the shallowest sample if None.
    delta
        Share that replaces a zero in ``clr``; :func:`default_delta` of this table if None.
    values
        What the table holds.

    Returns
    -------
    ndarray
        Samples x taxa, float64.

    Raises
    ------
    InputError
        The method needs counts and these are none, or a sample has fewer than ``depth``.
    ValueError
        A value is negative or not finite, a sample is empty, or ``delta`` leaves nothing for the taxa present.
    """
    if method == "rarefy":
        return _rarefied(counts, depth, seed, values).astype(np.float64)
    shares = to_shares(counts)
    if method == "relative":
        return shares
    if method == "clr":
        from skbio.stats.composition import clr

        return np.asarray(clr(replace_zeros(shares, default_delta(shares) if delta is None else delta)))
    if method == "rclr":
        from skbio.stats.composition import rclr

        return np.nan_to_num(np.asarray(rclr(shares)), nan=0.0)
    raise ValueError(f"normalisation {method!r} is not known: relative, clr, rclr or rarefy")


def to_shares(counts) -> np.ndarray:
    """Share of every taxon in its sample (closure), samples x taxa, float64; each row sums to 1."""
    dense = np.asarray(counts.toarray() if issparse(counts) else counts, dtype=np.float64)
    if dense.ndim != 2:
        raise ValueError(f"a table has two dimensions, this one {dense.ndim}")
    if not np.isfinite(dense).all() or (dense < 0).any():
        raise ValueError("abundances must be finite and not negative")
    totals = dense.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        raise ValueError(f"sample {int(np.flatnonzero(totals == 0)[0])} (from 0) has no counts: it has no composition")
    return dense / totals


def default_delta(shares: np.ndarray) -> float:
    """Share that replaces a zero: one for the whole table, 65 % of the smallest share seen in it.

    A zero is a taxon below the detection limit, for which the smallest share stands. scikit-bio's own default, 1 / taxa
    squared, knows nothing of depth: with 15 taxa it is 0.4 %, more than many taxa that were seen, and absent taxa would
    rank above present ones. One value for all samples, not one per sample, so that the depth of a sample does not
    return as the level of its zeros. At most half of a composition is ever made up (1 / (2 taxa)).

    Parameters
    ----------
    shares
        Samples x taxa, rows sum to 1.
    """
    present = shares[shares > 0]
    smallest = float(present.min()) if len(present) else 1.0
    return min(OF_DETECTION_LIMIT * smallest, 0.5 / shares.shape[1])


def replace_zeros(shares: np.ndarray, delta: float) -> np.ndarray:
    """Multiplicative replacement (Martin-Fernandez 2003): zeros become ``delta``, the others shrink to make room.

    Ratios between taxa that are present do not change.
    """
    from skbio.stats.composition import multi_replace

    if delta * (shares == 0).sum(axis=1).max(initial=0) >= 1:
        raise ValueError(f"delta {delta:g} for every zero leaves nothing for the taxa present: give a smaller one")
    # One sample comes back from scikit-bio as a vector.
    return np.asarray(multi_replace(shares, delta=delta)).reshape(shares.shape)


def _rarefied(counts, depth: int | None, seed: int, values: Values) -> np.ndarray:
    from skbio.stats import subsample_counts

    table = np.asarray(counts.toarray() if issparse(counts) else counts)
    if values == "relative" or not np.array_equal(table, np.floor(table)):
        raise _refused(
            "rarefaction draws reads, and a table of relative abundances does not say how many there were",
            "use 'clr', 'rclr' or 'relative', or give counts.",
            "method",
            "rarefy",
        )
    totals = table.sum(axis=1)
    shallowest = int(totals.min()) if len(totals) else 0
    depth = shallowest if depth is None else depth
    if depth < 1 or shallowest < depth:
        raise _refused(
            f"{int((totals < max(depth, 1)).sum())} sample(s) have fewer counts, the shallowest {shallowest}",
            "lower the depth, leave it out, or remove the shallow samples.",
            "depth",
            depth,
        )
    rng = np.random.default_rng(seed)
    return np.vstack([subsample_counts(row.astype(np.int64), depth, seed=rng) for row in table])


def _refused(what: str, hint: str, key: str, value: object) -> InputError:
    return InputError(Problem("config.yaml", what, hint, key=f"composition.{key}", value=value))
