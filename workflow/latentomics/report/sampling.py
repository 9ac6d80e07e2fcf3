"""Which observations are drawn when there are more than a browser can show."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Every stratum shows at least this many of its observations, or a rare cluster would vanish.
MIN_PER_STRATUM = 10


def stratified_sample(strata: pd.DataFrame, n: int, seed: int) -> np.ndarray:
    """Draw rows at random, each combination of strata in proportion to its size.

    Parameters
    ----------
    strata
        One row per observation; rows that agree in every column form a stratum. Without columns, one stratum.
    n
        Most rows to draw.
    seed
        Seed of the draw; the same seed and input give the same rows.

    Returns
    -------
    numpy.ndarray
        Row numbers, ascending: all of them if there are at most ``n``, else exactly ``n``.
    """
    total = len(strata)
    if total <= n:
        return np.arange(total)
    if strata.shape[1]:
        keys = strata.astype(str)
        group = keys.groupby(list(keys.columns), sort=True).ngroup().to_numpy()
    else:
        group = np.zeros(total, dtype=np.int64)
    size = np.bincount(group)
    least = np.minimum(size, MIN_PER_STRATUM)
    quota = np.maximum(size * n // total, least)
    # The minimum overshoots and rounding down undershoots.
    while (excess := int(quota.sum()) - n) != 0:
        above = np.maximum(quota - least, 0)
        # With more strata than observations to draw, even the minimum gives way.
        spare = size - quota if excess < 0 else above if above.any() else quota
        change = np.minimum(spare, abs(excess) * spare // spare.sum())
        if not change.any():
            change[np.argsort(-spare, kind="stable")[: abs(excess)]] = 1
        quota += -change if excess > 0 else change
    shuffled = np.random.default_rng(seed).permutation(total)
    rank = pd.Series(group[shuffled]).groupby(group[shuffled]).cumcount().to_numpy()
    return np.sort(shuffled[rank < quota[group[shuffled]]])
