"""What scvi-tools asks of those who feed a training."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from torch.utils.data import default_convert


class Cells(L.LightningDataModule):
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
