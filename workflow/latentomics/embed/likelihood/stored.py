"""Training scVI on counts that stay on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from latentomics.embed.likelihood.cells import Cells
from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.stored import Minibatch, StoredCounts, minibatches


class StoredCells(Cells):
    """Cells for ``SCVI.train(datamodule=...)``: their counts are read from the store.

    Parameters
    ----------
    registered
        Of the AnnData that stands for the cells; its counts are not looked at.
    counts
        Those of the same cells.
    held_out
        Boolean mask of the cells that the training is judged by, (n_obs,).
    seed
        Of the order of the cells.
    drop_last
        Leave out the last minibatch if it is smaller.

    Raises
    ------
    ValueError
        The counts are no whole numbers.
    """

    def __init__(
        self,
        registered: AnnDataManager,
        counts: StoredCounts,
        held_out: np.ndarray,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
    ):
        if counts.dtype.kind != "i":
            raise ValueError(f"counts must be whole numbers, not {counts.dtype}")
        super().__init__(registered, held_out)
        self._counts, self._batch_size = counts, batch_size
        self._train, self._held_out = minibatches(counts, held_out, batch_size, seed, _as_float, drop_last)

    def train_dataloader(self) -> Iterable[dict[str, Any]]:
        return _Tensors(self.annotations, self._train)

    def val_dataloader(self) -> Iterable[dict[str, Any]]:
        return _Tensors(self.annotations, self._held_out)

    def in_order(self) -> Iterator[tuple[slice, Iterable[dict[str, Any]]]]:
        for where, counts in self._counts.blocks(_as_float):
            whole = Minibatch(counts, np.arange(where.start, where.stop))
            yield where, _Tensors(self.annotations, list(whole.cut(self._batch_size)))


class _Tensors:
    """Minibatches as scvi-tools' loaders give them, counts as :class:`SparseCounts`."""

    def __init__(self, annotations: Any, batches: Any):
        self._annotations, self._batches = annotations, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values, rows in self._batches:
            yield {**self._annotations(rows), REGISTRY_KEYS.X_KEY: SparseCounts.of_scipy(values)}


def _as_float(counts: Any, rows: Any) -> Any:
    return counts.astype(np.float32)
