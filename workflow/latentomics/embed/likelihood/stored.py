"""Training scVI on counts that stay on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import lightning as L
import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from torch.utils.data import default_convert

from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.stored import Minibatch, StoredCounts, minibatches


class StoredCells(L.LightningDataModule):
    """Cells for ``SCVI.train(datamodule=...)``: their counts are read from the store.

    scvi-tools trains a model made without an AnnData on such a module, but then knows nothing of batches and covariates
    that it could save. So the model is made of an AnnData as ever, one with all annotations and no counts.

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
        super().__init__()
        if counts.dtype.kind != "i":
            raise ValueError(f"counts must be whole numbers, not {counts.dtype}")
        annotations = [key for key in registered.data_registry if key != REGISTRY_KEYS.X_KEY]
        self._annotations = registered.create_torch_dataset(data_and_attributes=annotations)
        self._counts, self._batch_size = counts, batch_size
        # What scvi-tools asks of a data splitter, and keeps with the model.
        self.train_idx, self.val_idx = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self.test_idx = np.zeros(0, dtype=np.int64)
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)
        self._train, self._held_out = minibatches(counts, held_out, batch_size, seed, _as_float, drop_last)

    def train_dataloader(self) -> Iterable[dict[str, Any]]:
        return _Tensors(self._annotations, self._train)

    def val_dataloader(self) -> Iterable[dict[str, Any]]:
        return _Tensors(self._annotations, self._held_out)

    def in_order(self) -> Iterator[dict[str, Any]]:
        """All cells, for methods of scvi-tools that take a ``dataloader``."""
        for where, counts in self._counts.blocks(_as_float):
            whole = Minibatch(counts, np.arange(where.start, where.stop))
            yield from _Tensors(self._annotations, list(whole.cut(self._batch_size)))


class _Tensors:
    """Minibatches as scvi-tools' loaders give them, counts as :class:`SparseCounts`."""

    def __init__(self, annotations: Any, batches: Any):
        self._annotations, self._batches = annotations, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values, rows in self._batches:
            tensors = default_convert(self._annotations[rows])
            yield {**tensors, REGISTRY_KEYS.X_KEY: SparseCounts.of_scipy(values)}


def _as_float(counts: Any, rows: Any) -> Any:
    return counts.astype(np.float32)
