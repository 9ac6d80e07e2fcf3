"""Training scVI on counts that are on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from latentomics.embed.likelihood.cells import Cells
from latentomics.embed.resident import Minibatches, ResidentRows, RowOrder


class ResidentCells(Cells):
    """Cells for ``SCVI.train(datamodule=...)`` whose counts and annotations are on the device already.

    Parameters
    ----------
    registered
        Of the AnnData of the cells; its counts are not looked at.
    counts
        Those of the same cells.
    held_out, batch_size, seed, drop_last
        As of :class:`~latentomics.embed.likelihood.stored.StoredCells`.
    """

    def __init__(
        self,
        registered: AnnDataManager,
        counts: ResidentRows,
        held_out: np.ndarray,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
    ):
        super().__init__(registered, held_out)
        whole = self.annotations(np.arange(len(counts)))
        self._whole = {key: value.to(counts.device) for key, value in whole.items()}
        self._counts, self._batch_size = counts, batch_size
        self._train = RowOrder(self.train_idx, batch_size, seed, drop_last)
        self._held_out = RowOrder(self.val_idx, batch_size, None)

    def train_dataloader(self) -> Minibatches:
        return Minibatches(self._train, self._tensors)

    def val_dataloader(self) -> Minibatches:
        return Minibatches(self._held_out, self._tensors)

    def in_order(self) -> Iterator[tuple[slice, Minibatches]]:
        rows = np.arange(len(self._counts))
        yield slice(0, len(rows)), Minibatches(RowOrder(rows, self._batch_size, None), self._tensors)

    def _tensors(self, rows: np.ndarray) -> dict[str, Any]:
        which = torch.from_numpy(rows).to(self._counts.device)
        annotations = {key: value[which] for key, value in self._whole.items()}
        return {**annotations, REGISTRY_KEYS.X_KEY: self._counts.take(rows)}
