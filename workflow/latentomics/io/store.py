"""The counts store: one sparse matrix, written once, read in chunks.

The store is an AnnData group in Zarr v3 (CSR ``X``, ``obs``, ``var``), so ``anndata.io.read_zarr`` opens it too. It is
written sample by sample and never held whole in memory, neither by its writer nor by its readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from scipy.sparse import csr_matrix, vstack

#: Non-zeros per chunk and chunks per shard: a chunk is what a random read costs, a shard is one file.
CHUNK = 1 << 17
CHUNKS_PER_SHARD = 64


class CountsWriter:
    """Write a counts store row block by row block.

    Parameters
    ----------
    path
        Folder of the store; replaced if it exists.
    n_obs, n_vars
        Shape of the whole matrix.
    n_nonzero
        Number of stored entries over all blocks, known beforehand so that arrays are laid out once.
    dtype
        ``int32`` for counts, ``float32`` for relative abundances (shares of an observation).
    """

    def __init__(
        self, path: Path, n_obs: int, n_vars: int, n_nonzero: int, dtype: Literal["int32", "float32"] = "int32"
    ):
        self._dtype = np.dtype(dtype)
        self._root = zarr.open_group(path, mode="w", zarr_format=3)
        self._root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        if self._dtype.kind == "f":  # counts are what a store holds unless it says otherwise
            self._root.attrs["values"] = "relative"
        matrix = self._root.create_group("X")
        matrix.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [int(n_obs), int(n_vars)]}
        )
        chunk = min(CHUNK, max(n_nonzero, 1))
        shard = chunk * min(CHUNKS_PER_SHARD, -(-max(n_nonzero, 1) // chunk))
        self._arrays = {
            name: matrix.create_array(name, shape=(n_nonzero,), dtype=kind, chunks=(chunk,), shards=(shard,))
            for name, kind in (("data", str(self._dtype)), ("indices", "int32"))
        }
        self._shard = shard
        self._indptr = np.zeros(n_obs + 1, dtype=np.int64)
        self._n_vars = n_vars
        self._rows = 0
        self._flushed = 0
        self._pending: dict[str, list[np.ndarray]] = {"data": [], "indices": []}

    def append(self, block: csr_matrix) -> None:
        """Append rows (``n x n_vars`` non-negative values: whole numbers, or shares if the store is relative)."""
        if block.shape[1] != self._n_vars:
            raise ValueError(f"block has {block.shape[1]} columns, the store {self._n_vars}")
        block = block.tocsr()
        block.sum_duplicates()
        block.eliminate_zeros()
        n = block.shape[0]
        self._indptr[self._rows + 1 : self._rows + n + 1] = self._indptr[self._rows] + block.indptr[1:]
        self._rows += n
        self._pending["data"].append(block.data.astype(self._dtype))
        self._pending["indices"].append(block.indices.astype(np.int32))
        if sum(map(len, self._pending["data"])) >= self._shard:
            self._flush(whole_shards=True)

    def _flush(self, whole_shards: bool) -> None:
        # Whole shards only: a shard is rewritten entire, so partial writes would cost it twice.
        for name, parts in self._pending.items():
            joined = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
            cut = len(joined) // self._shard * self._shard if whole_shards else len(joined)
            if cut:
                self._arrays[name][self._flushed : self._flushed + cut] = joined[:cut]
            self._pending[name] = [joined[cut:]]
        self._flushed += cut

    def close(self, obs: pd.DataFrame, var: pd.DataFrame) -> None:
        """Write what is pending and the annotations; the store is complete only now."""
        if self._rows != len(self._indptr) - 1:
            raise ValueError(f"{self._rows} rows were appended, {len(self._indptr) - 1} were promised")
        self._flush(whole_shards=False)
        if self._flushed != self._arrays["data"].shape[0]:
            raise ValueError(f"{self._flushed} entries were appended, {self._arrays['data'].shape[0]} were promised")
        self._root["X"].create_array("indptr", data=self._indptr)
        # Annotations are small: one chunk each. (Said aloud, because anndata is about to change its default.)
        with ad.settings.override(auto_shard_zarr_v3=False):
            ad.io.write_elem(self._root, "obs", obs)
            ad.io.write_elem(self._root, "var", var)
            for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
                ad.io.write_elem(self._root, name, {})


class CountsStore:
    """A counts store, open for reading.

    Attributes
    ----------
    shape
        Observations x features.
    values
        ``counts`` (int32) or ``relative`` (float32): what the entries are.
    obs, var
        Annotations, read on first use.
    """

    def __init__(self, path: Path | str):
        self._root = zarr.open_group(path, mode="r")
        self._matrix = self._root["X"]
        self._indptr = self._matrix["indptr"][:]
        self.shape: tuple[int, int] = tuple(self._matrix.attrs["shape"])
        self.values: Literal["counts", "relative"] = self._root.attrs.get("values", "counts")
        self._obs: pd.DataFrame | None = None
        self._var: pd.DataFrame | None = None

    @property
    def obs(self) -> pd.DataFrame:
        if self._obs is None:
            self._obs = ad.io.read_elem(self._root["obs"])
        return self._obs

    @property
    def var(self) -> pd.DataFrame:
        if self._var is None:
            self._var = ad.io.read_elem(self._root["var"])
        return self._var

    @property
    def n_nonzero(self) -> int:
        return int(self._indptr[-1])

    def block(self, start: int, stop: int) -> csr_matrix:
        """Rows ``start`` to ``stop`` as CSR (int32 counts, float32 shares)."""
        low, high = self._indptr[start], self._indptr[stop]
        return csr_matrix(
            (self._matrix["data"][low:high], self._matrix["indices"][low:high], self._indptr[start : stop + 1] - low),
            shape=(stop - start, self.shape[1]),
        )

    def blocks(self, max_nonzero: int = 1 << 24) -> Iterator[tuple[slice, csr_matrix]]:
        """Row blocks in order, each of at most ``max_nonzero`` entries (a single denser row stands alone)."""
        for where in row_blocks(self._indptr, max_nonzero):
            yield where, self.block(where.start, where.stop)

    def select(self, rows: Sequence[int] | np.ndarray | None = None, columns: np.ndarray | None = None) -> csr_matrix:
        """Some rows and columns as one CSR matrix (int32 counts, float32 shares), read block by block.

        Parameters
        ----------
        rows
            Row numbers, ascending; all if None.
        columns
            Column numbers; all if None.

        Raises
        ------
        ValueError
            If the rows are no such numbers (a mask, negative, beyond the last, in another order).
        """
        wanted = None if rows is None else np.asarray(rows, dtype=np.int64 if len(rows) == 0 else None)
        if wanted is not None and not _ascending(wanted, self.shape[0]):
            raise ValueError(f"rows must be ascending row numbers below {self.shape[0]}")
        parts = []
        for where, block in self.blocks():
            if wanted is not None:
                block = block[wanted[(wanted >= where.start) & (wanted < where.stop)] - where.start]
            if columns is not None:
                block = block[:, columns]
            parts.append(block)
        width = self.shape[1] if columns is None else len(columns)
        return vstack(parts, format="csr") if parts else csr_matrix((0, width), dtype=self._matrix["data"].dtype)


def row_blocks(indptr: np.ndarray, max_nonzero: int) -> Iterator[slice]:
    """Cut the rows of a CSR matrix into blocks of at most ``max_nonzero`` entries; a single denser row stands alone."""
    start, n_rows = 0, len(indptr) - 1
    while start < n_rows:
        stop = int(np.searchsorted(indptr, indptr[start] + max_nonzero, side="right")) - 1
        stop = min(max(stop, start + 1), n_rows)
        yield slice(start, stop)
        start = stop


def _ascending(numbers: np.ndarray, below: int) -> bool:
    if numbers.dtype.kind not in "iu":
        return False
    return not len(numbers) or bool(numbers[0] >= 0 and numbers[-1] < below and (np.diff(numbers) >= 0).all())


def batch_of(obs: pd.DataFrame) -> np.ndarray:
    """Batch of every observation, as text; one batch ``all`` where none is named."""
    if "batch" not in obs or (obs["batch"].astype(str) == "").all():
        return np.full(len(obs), "all", dtype=object)
    return obs["batch"].astype(str).to_numpy()


def size_target(obs: pd.DataFrame, target_sum: float | None) -> float:
    """Counts per observation after size normalisation: as configured, else the median of ``total_counts``."""
    return float(obs["total_counts"].median()) if target_sum is None else float(target_sum)
