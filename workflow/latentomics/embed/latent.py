"""Latent coordinates on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def latent_table(latent: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """Latent coordinates as the contract has them: columns ``z0`` to ``zK``."""
    return pd.DataFrame(latent, index=index, columns=[f"z{i}" for i in range(latent.shape[1])])


def read_latent(path: Path | str) -> tuple[np.ndarray, pd.Index]:
    """What :func:`latent_table` was made of, read from a Parquet file of it.

    Returns
    -------
    latent, index
        Observations x latent dimensions, each observation's coordinates side by side in memory; observation ids.

    Notes
    -----
    Of the table nothing is left in memory. Arrow would keep twice what it read.
    """
    import pyarrow as pa

    table = pd.read_parquet(path)
    latent, index = np.ascontiguousarray(table.to_numpy()), table.index
    del table
    pa.default_memory_pool().release_unused()
    return latent, index
