"""A dense autoencoder on log-normalised counts: four encoding and four decoding layers, the bottleneck as latent space.

The classical construction (Hinton and Salakhutdinov 2006, Science 313:504) with the same objective as PCA, squared
error about the mean, so that the two can be compared on held-out observations dimension for dimension.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from latentomics.embed.data import EmbeddingData, Fit
from latentomics.embed.training import TrainingParams, check_history, schedule, training_summary, use_device

TITLE = "Autoencoder"
GPU = True


class Params(TrainingParams):
    n_latent: int = Field(20, ge=2, le=200, description="Units of the bottleneck: the latent dimensions.")
    hidden: list[int] = Field(
        [512, 256, 128],
        min_length=3,
        max_length=3,
        description="Units of the three layers before the bottleneck; the decoder mirrors them.",
    )
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="Dropout of the input (fraction).")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Step size of AdamW.")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of AdamW.")


def build(n_features: int, params: Params) -> Any:
    """The network: ``encoder`` (n_features -> n_latent) and ``decoder`` (back), four dense layers each."""
    from torch import nn

    widths = [n_features, *params.hidden]

    def layers(sizes: list[int]) -> list[nn.Module]:
        return [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ELU())]

    encoder = [nn.Dropout(params.dropout_rate), *layers(widths), nn.Linear(widths[-1], params.n_latent)]
    decoder = [*layers([params.n_latent, *widths[:0:-1]]), nn.Linear(widths[1], n_features)]
    return nn.ModuleDict({"encoder": nn.Sequential(*encoder), "decoder": nn.Sequential(*decoder)})


def fit(data: EmbeddingData, params: Params, seed: int, threads: int, folder: Path) -> Fit:
    """Train the autoencoder; the weights with the lowest held-out loss are kept.

    Returns
    -------
    Fit
        ``latent`` is the bottleneck (n_obs x n_latent); ``history`` the mean squared error per entry;
        ``summary["held_out_r2"]`` the share of the held-out observations' variance that is reconstructed.

    Raises
    ------
    TrainingError
        The loss became NaN or infinite.
    """
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
    from torch.nn.functional import mse_loss
    from torch.utils.data import DataLoader

    accelerator, device = use_device(threads)
    L.seed_everything(seed, workers=True)
    rows = data.lognorm
    train, held_out = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
    mean = torch.from_numpy(np.asarray(rows[train].mean(axis=0), dtype=np.float32).ravel())

    class Rows(torch.utils.data.Dataset):
        """Minibatches densified from CSR: one slice per batch, never a dense copy of the data."""

        def __init__(self, which: np.ndarray):
            self.which = which

        def __len__(self) -> int:
            return len(self.which)

        def __getitems__(self, index: list[int]) -> torch.Tensor:
            return torch.from_numpy(rows[self.which[index]].toarray())

    def loader(which: np.ndarray, shuffle: bool) -> DataLoader:
        # Batch normalisation needs more than one observation in every training batch.
        odd_one = shuffle and len(which) > params.batch_size and len(which) % params.batch_size == 1
        return DataLoader(
            Rows(which), batch_size=params.batch_size, shuffle=shuffle, drop_last=odd_one, collate_fn=lambda rows: rows
        )

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = build(rows.shape[1], params)
            self.register_buffer("mean", mean)
            self.losses: list[dict] = []
            self.best: tuple[float, dict] = (np.inf, {})
            self.sums = np.zeros(2)

        def _loss(self, batch):
            centred = batch - self.mean
            return mse_loss(self.net["decoder"](self.net["encoder"](centred)), centred)

        def training_step(self, batch):
            loss = self._loss(batch)
            self.sums += loss.item() * len(batch), len(batch)
            return loss

        def validation_step(self, batch):
            self.log("held_out", self._loss(batch), on_epoch=True, batch_size=len(batch))

        def on_train_epoch_end(self):
            held_out = float(self.trainer.callback_metrics["held_out"])
            epoch = self.current_epoch + 1
            train_loss = float(self.sums[0] / self.sums[1])
            self.sums = np.zeros(2)
            self.losses.append({"epoch": epoch, "step": self.global_step, "train": train_loss, "held_out": held_out})
            if held_out < self.best[0]:
                self.best = (held_out, {k: v.detach().clone() for k, v in self.net.state_dict().items()})
            if epoch % 10 == 0:
                print(f"autoencoder: epoch {epoch}, train {train_loss:.5f}, held-out {held_out:.5f}", flush=True)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)

    module = Module()
    min_epochs, max_epochs = schedule(params, len(train))

    class Patience(EarlyStopping):
        """Lightning's, but a plateau before ``min_epochs`` that was overcome by then does not end the training."""

        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.current_epoch + 1 < min_epochs:
                trainer.should_stop = self.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC

    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=max_epochs,
        callbacks=[Patience("held_out", patience=params.patience, check_on_train_epoch_end=True)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader(train, shuffle=True), loader(held_out, shuffle=False))
    history = pd.DataFrame(module.losses)
    check_history(history, "autoencoder")
    module.net.load_state_dict(module.best[1])
    latent, reconstruction_error = _apply(module.net.cpu().eval(), rows, mean, held_out)
    about_mean = _squares_about(rows[held_out], mean.numpy())
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(module.net.state_dict(), folder / "weights.pt")
    np.save(folder / "mean.npy", mean.numpy())
    described = {"params": params.model_dump(), "features": list(map(str, data.features))}
    (folder / "model.json").write_text(json.dumps(described, indent=1) + "\n")
    summary = {
        "n_parameters": sum(p.numel() for p in module.net.parameters()),
        "n_latent": params.n_latent,
        "device": device,
        "held_out_r2": round(1 - reconstruction_error / about_mean, 8),
        **training_summary(history, max_epochs, "mean squared error per entry"),
    }
    return Fit(latent, summary, history)


def load(folder: Path) -> tuple[Any, np.ndarray, list[str]]:
    """Open a saved model without unpickling code.

    Returns
    -------
    network, mean, features
        The network of :func:`build` in evaluation mode, the mean to subtract from log-normalised rows, and the
        feature ids in the order of its inputs.
    """
    import torch

    described = json.loads((folder / "model.json").read_text())
    network = build(len(described["features"]), Params(**described["params"]))
    network.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    return network.eval(), np.load(folder / "mean.npy", allow_pickle=False), described["features"]


def _apply(network: Any, rows: Any, mean: Any, held_out: np.ndarray, block: int = 4096) -> tuple[np.ndarray, float]:
    """Latent of every row, and the summed squared error of the held-out rows."""
    import torch

    latent, error = [], 0.0
    is_held_out = np.zeros(rows.shape[0], dtype=bool)
    is_held_out[held_out] = True
    with torch.inference_mode():
        for start in range(0, rows.shape[0], block):
            centred = torch.from_numpy(rows[start : start + block].toarray()) - mean
            z = network["encoder"](centred)
            latent.append(z.numpy())
            mine = torch.from_numpy(is_held_out[start : start + block])
            if mine.any():
                error += float(((network["decoder"](z[mine]) - centred[mine]) ** 2).sum(dtype=torch.float64))
    return np.vstack(latent), error


def _squares_about(rows: Any, mean: np.ndarray) -> float:
    """Summed squares of sparse rows about a mean, without densifying them."""
    squares = float(rows.multiply(rows).sum())
    return squares - 2 * float(np.asarray(rows.sum(axis=0)).ravel() @ mean) + rows.shape[0] * float(mean @ mean)
