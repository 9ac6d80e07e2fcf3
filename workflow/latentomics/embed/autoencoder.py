"""A dense autoencoder on normalised counts: four encoding and four decoding layers, the bottleneck as latent space.

The classical construction (Hinton and Salakhutdinov 2006, Science 313:504) with the same objective as PCA, squared
error about the mean, so that the two can be compared on held-out observations dimension for dimension.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from latentomics.embed.data import EmbeddingData, Fit
from latentomics.embed.loop import batches_of, train_network
from latentomics.embed.training import TrainingParams, training_summary, use_device

TITLE = "Autoencoder"
ASSAYS = ("scrna", "metagenome")
NEEDS_COUNTS = False
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
    from torch.nn.functional import mse_loss

    accelerator, device = use_device(threads)
    L.seed_everything(seed, workers=True)
    mean = torch.from_numpy(_training_mean(data))
    network = build(data.counts.shape[1], params)

    def loss(net: Any, batch: Any, which: Any, epoch: int) -> Any:
        centred = batch - mean.to(batch.device)
        return mse_loss(net["decoder"](net["encoder"](centred)), centred)

    batches = batches_of(data, params.batch_size, seed, accelerator)
    history, max_epochs = train_network("autoencoder", network, loss, batches, params, accelerator, params.weight_decay)
    latent, reconstruction_error, about_mean = _apply(network, data, mean)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "weights.pt")
    np.save(folder / "mean.npy", mean.numpy())
    described = {"params": params.model_dump(), "features": list(map(str, data.features))}
    (folder / "model.json").write_text(json.dumps(described, indent=1) + "\n")
    summary = {
        "n_parameters": sum(p.numel() for p in network.parameters()),
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
        The network of :func:`build` in evaluation mode, the mean to subtract from normalised rows, and the
        feature ids in the order of its inputs.
    """
    import torch

    described = json.loads((folder / "model.json").read_text())
    network = build(len(described["features"]), Params(**described["params"]))
    network.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    return network.eval(), np.load(folder / "mean.npy", allow_pickle=False), described["features"]


def encode(folder: Path, data: EmbeddingData) -> np.ndarray:
    """Latent coordinates of observations that the saved model has not seen, (n_obs, n_latent)."""
    import torch

    network, mean, _ = load(folder)
    return _apply(network, data, torch.from_numpy(mean))[0]


def _training_mean(data: EmbeddingData, block: int = 65536) -> np.ndarray:
    """Mean of the training observations, (n_features,), float32."""
    total = np.zeros(data.counts.shape[1])
    for where, values in data.normalised_blocks(block):
        total += np.asarray(values[~data.held_out[where]].sum(axis=0, dtype=np.float64)).ravel()
    return (total / (~data.held_out).sum()).astype(np.float32)


def _apply(network: Any, data: EmbeddingData, mean: Any, block: int = 4096) -> tuple[np.ndarray, float, float]:
    """Latent of every row, and the summed squares of the held-out rows: what is not reconstructed, and about the mean."""
    import torch

    error, about_mean = 0.0, 0.0
    # Written where they stay: many small results would keep the memory between them from being used again.
    latent = np.empty((len(data.obs), network["encoder"][-1].out_features), dtype=np.float32)
    with torch.inference_mode():
        for where, values in data.normalised_blocks(block):
            centred = torch.from_numpy(values.toarray()) - mean
            z = network["encoder"](centred)
            latent[where] = z.numpy()
            mine = torch.from_numpy(data.held_out[where])
            if mine.any():
                judged = centred[mine]
                error += float(((network["decoder"](z[mine]) - judged) ** 2).sum(dtype=torch.float64))
                about_mean += float((judged**2).sum(dtype=torch.float64))
    return latent, error, about_mean
