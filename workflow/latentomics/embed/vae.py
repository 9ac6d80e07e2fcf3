"""A variational autoencoder for taxon counts, with a Dirichlet-multinomial likelihood and batch correction.

The construction is scVI's (Lopez et al. 2018, Nature Methods 15:1053): counts are explained by a latent variable and the
batch. The likelihood is that of compositional counts whose shares vary between samples beyond multinomial noise
(Mosimann 1962, Biometrika 49:65; for microbiomes Holmes, Harris and Quince 2012, PLoS ONE 7:e30126): with shares p(z, batch)
and concentration c, alpha = c p, and N counts in all,

    log P(x | z) = lgamma(c) - lgamma(c + N) + sum_j [ lgamma(alpha_j + x_j) - lgamma(alpha_j) ] + const(x).

The encoder sees CLR values, so that depth says nothing. Its defaults are for tens to hundreds of samples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from latentomics.embed.data import EmbeddingData, Fit, TrainingError
from latentomics.embed.loop import batches_of, train_network
from latentomics.embed.training import TrainingParams, training_summary, use_device

TITLE = "VAE"
ASSAYS = ("metagenome",)
NEEDS_COUNTS = True
GPU = True


class Params(TrainingParams):
    batch_size: int = Field(32, ge=16, le=65536, description="Observations per optimiser step.")
    max_epochs: int = Field(400, ge=1, description="Most passes over the data.")
    min_steps: int = Field(400, ge=1, description="Fewest optimiser steps before early stopping may end the training.")
    patience: int = Field(40, ge=1, description="Epochs without a better held-out loss after which the training stops.")
    n_latent: int = Field(8, ge=2, le=100, description="Latent dimensions.")
    n_hidden: int = Field(64, ge=8, le=4096, description="Units of the hidden layer of encoder and decoder.")
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="Dropout of the input and the hidden layers (fraction).")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Step size of AdamW.")
    weight_decay: float = Field(1e-3, ge=0, description="Weight decay of AdamW.")
    kl_warmup_epochs: int = Field(
        50, ge=1, description="Epochs over which the weight of the latent prior grows from 0 to 1."
    )


def build(n_features: int, n_batches: int, params: Params) -> Any:
    """The network: ``encoder`` (CLR and one-hot batch -> mean and log variance), ``decoder`` (back to logits), ``log_c``."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, drop = params.n_hidden, params.dropout_rate
            self.encoder = nn.Sequential(
                nn.Dropout(drop),
                nn.Linear(n_features + n_batches, width),
                nn.LayerNorm(width),
                nn.ELU(),
                nn.Linear(width, 2 * params.n_latent),
            )
            self.decoder = nn.Sequential(
                nn.Linear(params.n_latent + n_batches, width),
                nn.LayerNorm(width),
                nn.ELU(),
                nn.Dropout(drop),
                nn.Linear(width, n_features),
            )
            self.log_c = nn.Parameter(torch.tensor(4.0))

        def encode(self, rows: Any, batch: Any) -> tuple[Any, Any]:
            mean, log_variance = self.encoder(torch.cat([rows, batch], dim=1)).chunk(2, dim=1)
            return mean, log_variance.clamp(-10, 10)

        def decode(self, z: Any, batch: Any) -> Any:
            return self.decoder(torch.cat([z, batch], dim=1))

    return Network()


def log_likelihood(counts: Any, logits: Any, log_c: Any) -> Any:
    """Dirichlet-multinomial log likelihood of each row without the multinomial coefficient, (n_rows,).

    Parameters
    ----------
    counts
        Observations x taxa.
    logits
        Their softmax is the expected shares; observations x taxa.
    log_c
        Logarithm of the concentration; scalar.
    """
    import torch

    # A floor keeps lgamma's argument away from zero, where its gradient is not finite.
    alpha = torch.exp(log_c) * torch.softmax(logits, dim=1) + 1e-6
    total, n = alpha.sum(dim=1), counts.sum(dim=1)
    per_taxon = torch.lgamma(alpha + counts) - torch.lgamma(alpha)
    return torch.lgamma(total) - torch.lgamma(total + n) + per_taxon.sum(dim=1)


def fit(data: EmbeddingData, params: Params, seed: int, threads: int, folder: Path) -> Fit:
    """Train the network; the weights with the lowest held-out loss are kept.

    Returns
    -------
    Fit
        ``latent`` is the mean of the approximate posterior (n_obs x n_latent); ``history`` holds the negative ELBO per
        observation without its constant; ``summary["held_out_r2"]`` is the share of the held-out observations' CLR
        variance that is reconstructed, as for the other embeddings.

    Raises
    ------
    TrainingError
        The data are no counts, or the loss became NaN or infinite.
    """
    import lightning as L
    import torch

    if data.counts.dtype.kind not in "iu":
        raise TrainingError(
            "vae: the Dirichlet-multinomial likelihood needs counts, and these are relative abundances.\n"
            "    Hint: leave `vae` out of `embeddings.methods`, or give tables of read counts."
        )
    accelerator, device = use_device(threads)
    L.seed_everything(seed, workers=True)
    levels, code = np.unique(data.obs["batch"].astype(str), return_inverse=True)
    rows = data.normalised
    one_hot = torch.eye(len(levels))[torch.from_numpy(code)]
    counts = data.counts_in_memory
    network = build(rows.shape[1], len(levels), params)

    def loss(net: Any, clr: Any, which: Any, epoch: int) -> Any:
        batch = one_hot[which.cpu()].to(clr.device)
        observed = torch.from_numpy(counts[which.cpu().numpy()].toarray().astype(np.float32)).to(clr.device)
        mean, log_variance = net.encode(clr, batch)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance) if net.training else mean
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1)
        # Held-out losses of different epochs are compared: they carry the whole weight from the first.
        weight = min(1.0, (epoch + 1) / params.kl_warmup_epochs) if net.training else 1.0
        return (weight * divergence - log_likelihood(observed, net.decode(z, batch), net.log_c)).mean()

    history, max_epochs = train_network(
        "vae",
        network,
        loss,
        batches_of(data, params.batch_size, seed, accelerator),
        params,
        accelerator,
        params.weight_decay,
    )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "weights.pt")
    described = {"params": params.model_dump(), "features": list(map(str, data.features)), "batches": list(levels)}
    (folder / "model.json").write_text(json.dumps(described, indent=1) + "\n")
    dense = torch.from_numpy(rows.toarray())
    with torch.inference_mode():
        latent, _ = network.encode(dense, one_hot)
        logits = network.decode(latent, one_hot)
    summary = {
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "n_latent": params.n_latent,
        "device": device,
        "n_batches": len(levels),
        "held_out_r2": _held_out_r2(dense.numpy(), logits.numpy(), data.held_out),
        **training_summary(history, max_epochs, "negative ELBO per observation, without its constant"),
    }
    return Fit(latent.numpy().astype(np.float32), summary, history)


def _held_out_r2(clr: np.ndarray, logits: np.ndarray, held_out: np.ndarray) -> float:
    """Share of the held-out observations' CLR variance about the training mean that the decoded shares explain."""
    truth, mean = clr[held_out], clr[~held_out].mean(axis=0)
    decoded = logits[held_out] - logits[held_out].mean(axis=1, keepdims=True)
    about = float(((truth - mean) ** 2).sum())
    return round(1 - float(((truth - decoded) ** 2).sum()) / about, 8) if about else 0.0


def load(folder: Path) -> tuple[Any, list[str], list[str]]:
    """Open a saved model without unpickling code: network in evaluation mode, features, batches."""
    import torch

    described = json.loads((folder / "model.json").read_text())
    network = build(len(described["features"]), len(described["batches"]), Params(**described["params"]))
    network.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    return network.eval(), described["features"], described["batches"]


def encode(folder: Path, data: EmbeddingData) -> np.ndarray:
    """Latent coordinates of observations that the saved model has not seen, (n_obs, n_latent).

    Of an unknown batch, the network is told the mean of the known ones.
    """
    import torch

    network, _, batches = load(folder)
    code = np.array([batches.index(b) if b in batches else -1 for b in data.obs["batch"].astype(str)])
    one_hot = torch.full((len(code), len(batches)), 1 / len(batches))
    one_hot[code >= 0] = torch.eye(len(batches))[torch.from_numpy(code[code >= 0])]
    with torch.inference_mode():
        mean, _ = network.encode(torch.from_numpy(data.normalised.toarray()), one_hot)
    return mean.numpy()
