"""What scvi-tools asks of those who feed a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import lightning as L
import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from torch.utils.data import default_convert


class Cells(L.LightningDataModule, ABC):
    """Cells for ``SCVI.train(datamodule=...)`` without their counts.

    scvi-tools trains a model made without an AnnData on such a module, but then knows nothing of batches and covariates
    that it could save. So the model is made of an AnnData as ever, one with all annotations, whose counts are not used.

    Parameters
    ----------
    registered
        Of the AnnData that stands for the cells.
    held_out
        Boolean mask of the cells that the training is judged by, (n_obs,).
    """

    def __init__(self, registered: AnnDataManager, held_out: np.ndarray):
        super().__init__()
        keys = [key for key in registered.data_registry if key != REGISTRY_KEYS.X_KEY]
        self._annotations = registered.create_torch_dataset(data_and_attributes=keys)
        # What scvi-tools asks of a data splitter, and keeps with the model.
        self.train_idx, self.val_idx = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self.test_idx = np.zeros(0, dtype=np.int64)
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)

    def annotations(self, rows: np.ndarray) -> dict[str, Any]:
        """Batches and covariates of some cells, as tensors."""
        return default_convert(self._annotations[rows])

    @abstractmethod
    def in_order(self) -> Iterator[tuple[slice, Iterable[dict[str, Any]]]]:
        """All cells, part by part: which they are, and minibatches for methods of scvi-tools that take a ``dataloader``."""

    def latent(self, model: Any) -> np.ndarray:
        """What ``model.get_latent_representation()`` gives, float32, (n_obs, n_latent).

        Asked for part by part: it gathers small results, and each keeps the memory next to it, where a minibatch's
        intermediate values were, from being used for those of another size. Over 1.3 million cells that was 3 GB.
        """
        latent = np.empty((self.n_train + self.n_val, model.module.n_latent), dtype=np.float32)
        for rows, minibatches in self.in_order():
            latent[rows] = model.get_latent_representation(dataloader=minibatches)
        return latent
