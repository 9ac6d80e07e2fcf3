"""Lay out a sample of the observations with care, and let all others start beside them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

#: Rounds in which positions spread over the graph. Where one observation in a hundred is a landmark, three reach all others
#: (pbmc3k); the rest even the positions out.
ROUNDS = 30


def draw_landmarks(n_obs: int, n_landmarks: int, seed: int) -> np.ndarray:
    """Rows of the landmarks, drawn at random, in rising order, (min(n_landmarks, n_obs),)."""
    drawn = np.random.default_rng(seed).choice(n_obs, min(n_landmarks, n_obs), replace=False)
    return np.sort(drawn)


def spread_positions(
    positions: np.ndarray, rows: np.ndarray, latent: np.ndarray, connectivities: csr_matrix, seed: int
) -> np.ndarray:
    """Positions of all observations from those of the landmarks.

    Each round puts every other observation at the mean of its neighbours that have a position, weighted with their
    connectivity; the landmarks stay. Observations that the graph does not join to any landmark start at the nearest
    landmark of the latent space. A little noise (a ten-thousandth of the picture) parts those that fell together.

    Parameters
    ----------
    positions
        Of the landmarks, (landmarks, 2), in any unit.
    rows
        Rows of the landmarks, (landmarks,).
    latent
        Observations x latent dimensions.
    connectivities
        Weights of the neighbours, (observations, observations).
    seed
        Of the noise.

    Returns
    -------
    numpy.ndarray
        Float32, (observations, 2), in the unit of ``positions``.

    References
    ----------
    Kobak D, Berens P (2019). The art of using t-SNE for single-cell transcriptomics. Nature Communications 10:5416: a
    sample is drawn first, and every other cell starts at its nearest sampled neighbour.

    Zhu X, Ghahramani Z, Lafferty J (2003). Semi-supervised learning using Gaussian fields and harmonic functions. ICML:
    the positions that the rounds approach.
    """
    weights = csr_matrix(connectivities, dtype=np.float32)
    # The third column is 1 where there is a position: its weighted sum is the divisor of the mean.
    placed = np.zeros((len(latent), 3), dtype=np.float32)
    fixed = np.column_stack([positions, np.ones(len(rows))]).astype(np.float32)
    placed[rows] = fixed
    for _ in range(ROUNDS):
        placed = weights @ placed
        np.divide(placed, placed[:, 2:], out=placed, where=placed[:, 2:] > 0)
        placed[rows] = fixed
    apart = placed[:, 2] == 0
    if apart.any():
        placed[apart] = fixed[_nearest_landmark(latent[rows], latent[apart])]
    noise = np.random.default_rng(seed).normal(scale=1e-4 * np.ptp(positions), size=(len(latent), 2))
    return placed[:, :2] + noise.astype(np.float32)


def _nearest_landmark(landmarks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of the others, the landmark that is nearest to it (Euclidean)."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(others, landmarks)
