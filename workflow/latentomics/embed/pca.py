"""Principal component analysis of normalised counts: the baseline that every deep method must beat.

Of cells these are log1p values; of metagenomes centred log-ratios, which makes it Aitchison's PCA.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from latentomics.config.base import Section
from latentomics.embed.data import EmbeddingData, Fit

TITLE = "PCA"
ASSAYS = ("scrna", "metagenome")
NEEDS_COUNTS = False
GPU = False

#: Rows densified at a time: bounds memory to rows x features whatever the number of cells.
BLOCK_ROWS = 2048


class Params(Section):
    n_components: int = Field(50, ge=2, le=200, description="Principal components kept.")


def fit(data: EmbeddingData, params: Params, seed: int, threads: int, folder: Path) -> Fit:
    """Fit by eigendecomposition of the exact covariance, accumulated block by block.

    One pass over the rows for the covariance and one for the scores, memory of features squared whatever the number of
    rows. Exact and free of random numbers: of 100,000 cells a randomised solver is no faster, and, because the spectrum of
    cells is flat, its last components are other ones (``benchmarks/pca.md``). Products are summed in float64: in float32 they are
    no faster, because blocks are small. The held-out figures come from a second decomposition that saw only the training
    observations.

    Returns
    -------
    Fit
        ``latent`` holds the scores (n_obs x n_components, centred). ``summary`` holds ``explained_variance_ratio``
        and ``held_out_r2``: the share of the held-out observations' variance that the first 1..n_components
        components of the training observations reconstruct.
    """
    n_obs, width = data.counts.shape
    n_components = min(params.n_components, width, n_obs - 1, int((~data.held_out).sum()) - 1)
    train, held = _moments(data)
    whole = tuple(a + b for a, b in zip(train, held, strict=True))
    mean, variances, axes = _decompose(*whole, n_components)
    latent = _scores(data, mean, axes)
    total = _covariance(*whole).trace()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "pca.npz", mean=mean, components=axes.T, variances=variances, features=data.features.to_numpy(str)
    )
    summary = {
        "n_parameters": int(axes.size + mean.size),
        "n_latent": int(n_components),
        "explained_variance_ratio": [round(float(v), 8) for v in variances / total],
        "held_out_r2": _held_out_r2(train, held, n_components),
        "device": f"cpu ({threads} threads)",
        "stopped": "closed form: nothing to train",
        "loss_name": "squared error",
    }
    return Fit(latent, summary)


def encode(folder: Path, data: EmbeddingData) -> np.ndarray:
    """Scores of observations that the saved model has not seen, (n_obs, n_components)."""
    with np.load(folder / "pca.npz", allow_pickle=False) as model:
        mean, axes = model["mean"], model["components"].T
    return _scores(data, mean, axes)


def _scores(data: EmbeddingData, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates along the axes (features x components) about the mean, (n_obs, n_components), float32."""
    found, centre = np.empty((len(data.obs), axes.shape[1]), dtype=np.float32), mean @ axes
    for where, block in data.normalised_blocks(BLOCK_ROWS):
        found[where] = block.toarray() @ axes - centre
    return found


def _moments(data: EmbeddingData) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Number of rows, sum and sum of outer products, in float64: of the training rows and of those held out."""
    from scipy.linalg.blas import dsyrk

    width = data.counts.shape[1]
    masks = (~data.held_out, data.held_out)
    totals, outers = np.zeros((2, width)), [np.zeros((width, width), order="F") for _ in masks]
    for where, block in data.normalised_blocks(BLOCK_ROWS):
        dense = block.toarray().astype(np.float64)
        for mask, total, outer in zip(masks, totals, outers, strict=True):
            rows = dense[mask[where]]
            if len(rows):
                total += rows.sum(axis=0)
                dsyrk(1, rows.T, beta=1, c=outer, overwrite_c=True)  # adds to its upper triangle, in place
    whole = [np.triu(outer) + np.triu(outer, 1).T for outer in outers]
    return [(int(mask.sum()), total, outer) for mask, total, outer in zip(masks, totals, whole, strict=True)]


def _covariance(n: int, total: np.ndarray, outer: np.ndarray) -> np.ndarray:
    mean = total / n
    return (outer - n * np.outer(mean, mean)) / (n - 1)


def _decompose(n: int, total: np.ndarray, outer: np.ndarray, n_components: int):
    """Mean, variances (descending) and axes (features x components) with a fixed sign."""
    from scipy.linalg import eigh

    width = len(total)
    variances, axes = eigh(_covariance(n, total, outer), subset_by_index=[width - n_components, width - 1])
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return total / n, variances, axes * np.where(largest < 0, -1.0, 1.0)


def _held_out_r2(train: tuple, held: tuple, n_components: int) -> list[float]:
    mean, _, axes = _decompose(*train, n_components)
    n, total, outer = held
    # Second moments of the held-out rows about the training mean: what the mean alone would leave unexplained.
    about = outer - np.outer(mean, total) - np.outer(total, mean) + n * np.outer(mean, mean)
    explained = np.einsum("fk,fg,gk->k", axes, about, axes, optimize=True)
    return [round(float(v), 8) for v in np.cumsum(explained) / about.trace()]
