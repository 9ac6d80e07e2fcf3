"""Latent coordinates on disk, and normalised values block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import random as random_sparse

from latentomics.assays.normaliser import size_log
from latentomics.embed.data import EmbeddingData
from latentomics.embed.latent import latent_table, read_latent


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    latent = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    index = pd.Index([f"007_{i:03}" for i in range(30)], name="cell")
    latent_table(latent, index).to_parquet(tmp_path / "pca.parquet")
    found, names = read_latent(tmp_path / "pca.parquet")
    np.testing.assert_array_equal(found, latent)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    pd.testing.assert_index_equal(names, index)


@pytest.mark.parametrize("n_rows", [1, 7, 25, 100])
def test_blocks_of_counts_in_memory_are_normalised_as_the_whole_is(n_rows: int) -> None:
    counts = random_sparse(25, 12, 0.4, "csr", random_state=0, data_rvs=lambda n: 1 + np.arange(n) % 5).astype(np.int32)
    totals = np.arange(1.0, 26) * 10  # another factor for every row: a block must take its own
    normaliser = size_log(totals, 100.0)
    data = EmbeddingData(counts, normaliser, pd.DataFrame(index=range(25)), pd.RangeIndex(12), np.arange(25) < 3)
    blocks = list(data.normalised_blocks(n_rows))
    assert [rows.start for rows, _ in blocks] == list(range(0, 25, n_rows))
    found = np.vstack([values.toarray() for _, values in blocks])
    np.testing.assert_array_equal(found, data.normalised.toarray())
    np.testing.assert_allclose(found, np.log1p(counts.toarray() / totals[:, None] * 100), rtol=1e-6)
