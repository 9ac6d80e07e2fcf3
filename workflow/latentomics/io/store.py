"""The counts store: one sparse matrix, written once, read in chunks.

The store is an AnnData group in Zarr v3 (CSR ``X``, ``obs``, ``var``), so ``anndata.io.read_zarr`` opens it too. It is
written sample by sample and never held whole in memory, neither by its writer nor by its readers.

Where ambient RNA was removed there is a second matrix, ``layers/corrected``: it is what all that follows is made of, and
the raw counts stay in ``X``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from scipy.sparse import csr_matrix

from latentomics.io.ahead import ahead
from latentomics.io.matrices import stack

#: Non-zeros per chunk and chunks per shard: a chunk is what a random read costs, a shard is one file.
CHUNK = 1 << 17
CHUNKS_PER_SHARD = 64
#: Zarr's default, zstd, makes stores a twentieth smaller and takes 2.8 times as long to write, 1.3 times to read
#: (``benchmarks/store_formats.md``): most of the bits of small whole numbers are zero, and it need not search for them.
COMPRESSOR = zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")

#: Entries of a block of rows (some 5,000 cells), where rows are read in order: two blocks, and what is made of one, are in
#: memory.
BLOCK = 1 << 22

#: The matrices of a store: raw counts, and those without ambient RNA.
COUNTS, CORRECTED = "counts", "corrected"


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
    n_corrected
        Number of stored entries of the corrected counts; None: there are none.
    """

    def __init__(
        self,
        path: Path,
        n_obs: int,
        n_vars: int,
        n_nonzero: int,
        dtype: Literal["int32", "float32"] = "int32",
        n_corrected: int | None = None,
    ):
        self._root = zarr.open_group(path, mode="w", zarr_format=3)
        self._root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        if np.dtype(dtype).kind == "f":  # counts are what a store holds unless it says otherwise
            self._root.attrs["values"] = "relative"
        self._counts = _MatrixWriter(self._root, "X", (n_obs, n_vars), n_nonzero, dtype)
        self._corrected: _MatrixWriter | None = None
        if n_corrected is not None:  # the raw counts are what a store serves unless it says otherwise
            self._root.attrs["served"] = CORRECTED
            layers = self._root.create_group("layers")
            layers.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
            self._corrected = _MatrixWriter(layers, CORRECTED, (n_obs, n_vars), n_corrected, dtype)

    def append(self, block: csr_matrix, corrected: csr_matrix | None = None) -> None:
        """Append rows (``n x n_vars`` non-negative values: whole numbers, or shares if the store is relative).

        Parameters
        ----------
        corrected
            The same rows without ambient RNA; for stores with corrected counts, and only for them.

        Raises
        ------
        ValueError
            The block has another width than the store, or a corrected count is larger than the raw one.
        """
        if (corrected is None) != (self._corrected is None):
            raise ValueError("corrected counts go with every block of a store, or with none")
        if corrected is not None and self._corrected is not None:
            if corrected.shape != block.shape:
                raise ValueError(f"raw counts are {block.shape}, corrected ones {corrected.shape}")
            if min((block - corrected).data.min(initial=0), corrected.data.min(initial=0)) < 0:
                raise ValueError("a corrected count is negative, or larger than the raw one")
            self._corrected.append(corrected)
        self._counts.append(block)

    def close(self, obs: pd.DataFrame, var: pd.DataFrame) -> None:
        """Write what is pending and the annotations; the store is complete only now."""
        self._counts.close()
        if self._corrected is not None:
            self._corrected.close()
        # Annotations are small: one chunk each. (Said aloud, because anndata is about to change its default.)
        with ad.settings.override(auto_shard_zarr_v3=False):
            ad.io.write_elem(self._root, "obs", obs)
            ad.io.write_elem(self._root, "var", var)
            for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
                if name not in self._root:
                    ad.io.write_elem(self._root, name, {})


class _MatrixWriter:
    """Append row blocks to a CSR matrix of a store, whose number of entries is known."""

    def __init__(self, parent: zarr.Group, name: str, shape: tuple[int, int], n_nonzero: int, dtype: str):
        self._dtype = np.dtype(dtype)
        self._group = parent.create_group(name)
        self._group.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [int(n) for n in shape]}
        )
        chunk = min(CHUNK, max(n_nonzero, 1))
        self._shard = chunk * min(CHUNKS_PER_SHARD, -(-max(n_nonzero, 1) // chunk))
        self._arrays = {
            part: self._group.create_array(
                part, shape=(n_nonzero,), dtype=kind, chunks=(chunk,), shards=(self._shard,), compressors=COMPRESSOR
            )
            for part, kind in (("data", str(self._dtype)), ("indices", "int32"))
        }
        self._indptr = np.zeros(shape[0] + 1, dtype=np.int64)
        self._n_vars = shape[1]
        self._rows = 0
        self._flushed = 0
        self._pending: dict[str, list[np.ndarray]] = {"data": [], "indices": []}

    def append(self, block: csr_matrix) -> None:
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

    def close(self) -> None:
        if self._rows != len(self._indptr) - 1:
            raise ValueError(f"{self._rows} rows were appended, {len(self._indptr) - 1} were promised")
        self._flush(whole_shards=False)
        if self._flushed != self._arrays["data"].shape[0]:
            raise ValueError(f"{self._flushed} entries were appended, {self._arrays['data'].shape[0]} were promised")
        self._group.create_array("indptr", data=self._indptr)


class CountsStore:
    """A counts store, open for reading.

    Parameters
    ----------
    path
        Folder of the store.
    layer
        ``counts`` (raw) or ``corrected``. None: what embeddings, clusters and markers are made of, the corrected counts
        where there are any.

    Attributes
    ----------
    layer
        Which matrix it is.
    shape
        Observations x features.
    values
        ``counts`` (int32) or ``relative`` (float32): what the entries are.
    obs, var
        Annotations, read on first use.

    Raises
    ------
    KeyError
        There is no such matrix, or the store is not complete.
    """

    def __init__(self, path: Path | str, layer: str | None = None):
        self._path = path
        self._root = zarr.open_group(path, mode="r")
        self.layer: str = layer or self._root.attrs.get("served", COUNTS)
        self._matrix = self._root["X" if self.layer == COUNTS else f"layers/{self.layer}"]
        self._indptr = self._matrix["indptr"][:]
        self.shape: tuple[int, int] = tuple(self._matrix.attrs["shape"])
        self.values: Literal["counts", "relative"] = self._root.attrs.get("values", "counts")
        self._obs: pd.DataFrame | None = None
        self._var: pd.DataFrame | None = None

    @property
    def raw(self) -> CountsStore:
        """The raw counts of the same store."""
        return self if self.layer == COUNTS else CountsStore(self._path, COUNTS)

    @property
    def totals(self) -> np.ndarray:
        """Counts of every observation in this matrix, (n_obs,): what size normalisation divides by."""
        column = "total_counts" if self.layer == COUNTS else "corrected_counts"
        return self.obs[column].to_numpy(dtype=float)

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
        block = csr_matrix(
            (self._matrix["data"][low:high], self._matrix["indices"][low:high], self._indptr[start : stop + 1] - low),
            shape=(stop - start, self.shape[1]),
        )
        block.has_canonical_format = True  # as it was written: nobody needs to look
        return block

    def blocks(self, max_nonzero: int = BLOCK) -> Iterator[tuple[slice, csr_matrix]]:
        """Row blocks in order, each of at most ``max_nonzero`` entries (a single denser row stands alone).

        The next block is read while the caller works on one: two are in memory.
        """
        return ahead(lambda rows: (rows, self.block(rows.start, rows.stop)), row_blocks(self._indptr, max_nonzero))

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
                block = block[wanted[slice(*np.searchsorted(wanted, (where.start, where.stop)))] - where.start]
            parts.append(block if columns is None else block[:, columns])
        width = self.shape[1] if columns is None else len(columns)
        return stack(parts) if parts else csr_matrix((0, width), dtype=self._matrix["data"].dtype)


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
