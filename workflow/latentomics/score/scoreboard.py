"""Judge embeddings: agreement with known labels, mixing of batches, and what can be said without either.

Silhouette and batch mixing come from scib-metrics (Luecken et al. 2022, Nature Methods 19:41). Scores are better when larger,
but for ``batch_mixing_expected``, which says what ``batch_mixing`` would be without any batch effect. 1 is the best value and
0 means none; ARI, neighbour prediction and stability fall slightly below 0 where there is less than none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from latentomics.config.scores import Scores
from latentomics.score.catalogue import SCORES

NEIGHBOURS = 15


@dataclass(frozen=True)
class Judged:
    """What is judged: one embedding with its chosen clusters and their stability."""

    latent: np.ndarray
    clusters: np.ndarray
    stability: float


def score_embeddings(
    embeddings: dict[str, Judged],
    normalised: Callable[[np.ndarray], np.ndarray],
    obs: pd.DataFrame,
    held_out: np.ndarray,
    params: Scores,
    seed: int,
) -> pd.DataFrame:
    """The scoreboard.

    Parameters
    ----------
    embeddings
        By method name; rows as in ``obs``.
    normalised
        Gives the normalised values of the selected features for ascending row numbers, dense, for the scores that compare
        with expression: only those of the cells that are judged are read.
    obs
        May have ``batch`` and ``label`` (empty or missing: unknown). Cells whose batch or label is unknown take no part
        in the scores of batches or labels.
    held_out
        Mask of the observations that no embedding was trained on.

    Returns
    -------
    DataFrame
        One row per embedding, columns of :data:`SCORES` and ``n_clusters``; NaN where a score does not apply.
    """
    rng = np.random.default_rng(seed)
    n_obs = len(obs)
    rows = (
        np.arange(n_obs) if n_obs <= params.max_cells else np.sort(rng.choice(n_obs, params.max_cells, replace=False))
    )
    batch = _codes(obs, "batch", rows)
    label = _codes(obs, "label", rows)
    in_batch = batch >= 0 if batch is not None else None
    shuffled = rng.permutation(batch[in_batch]) if batch is not None else None
    neighbours = {name: _neighbours(item.latent[rows]) for name, item in embeddings.items()}
    dense = normalised(rows)
    table = {}
    for name, item in embeddings.items():
        index, distance = neighbours[name]
        scores = dict.fromkeys(SCORES, np.nan)
        scores["stability"] = item.stability
        scores["trustworthiness"] = _trustworthiness(dense, index)
        scores["neighbour_prediction"] = _neighbour_prediction(dense, item.latent[rows], held_out[rows])
        if "pca" in neighbours:
            scores["neighbour_overlap_pca"] = _overlap(index, neighbours["pca"][0])
        if batch is not None:
            near = (index, distance) if in_batch.all() else _neighbours(item.latent[rows][in_batch])
            scores["batch_mixing"] = _lisi(*near, batch[in_batch])
            scores["batch_mixing_expected"] = _lisi(*near, shuffled)
        if label is not None:
            scores |= _label_scores(item, obs["label"], label, rows, index)
        table[name] = {**scores, "n_clusters": len(set(item.clusters))}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("embedding")


def chosen_stability(evidence: pd.DataFrame) -> float:
    """Stability of the chosen resolution; NaN where no structure was found: one cluster is stable by definition."""
    chosen = evidence.loc[evidence["chosen"] & (evidence["n_clusters"] > 1), "stability"]
    return float(chosen.iloc[0]) if len(chosen) else np.nan


def _codes(obs: pd.DataFrame, column: str, rows: np.ndarray) -> np.ndarray | None:
    """Integer codes of a column (-1: unknown); None unless it has two known values among the rows."""
    if column not in obs:
        return None
    values = obs[column].astype(str).to_numpy()[rows]
    known = _known(obs[column])[rows]
    codes = np.full(len(rows), -1)
    codes[known] = np.unique(values[known], return_inverse=True)[1]
    return codes if codes.max(initial=-1) >= 1 else None


def _known(values: pd.Series) -> np.ndarray:
    return (values.notna() & ~values.astype(str).isin(["", "nan"])).to_numpy()


def _neighbours(latent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k = min(NEIGHBOURS, len(latent) - 1)
    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(latent).kneighbors()
    return index, distance


def _overlap(index: np.ndarray, reference: np.ndarray) -> float:
    shared = (index[:, :, None] == reference[:, None, :]).any(axis=2)
    return float(shared.mean())


def _trustworthiness(dense: np.ndarray, index: np.ndarray) -> float:
    """Venna and Kaski 2001, with the neighbours already found: ranks in expression of the latent neighbours.

    Defined for fewer neighbours than half the cells: with few cells, for as many as that allows.
    """
    n = len(index)
    k = min(index.shape[1], (n - 1) // 2)
    if k < 1:
        return np.nan
    index = index[:, :k]
    penalty = 0.0
    squares = (dense**2).sum(axis=1)
    for start in range(0, n, 512):
        rows = slice(start, min(start + 512, n))
        distances = squares[rows, None] + squares[None, :] - 2 * dense[rows] @ dense.T
        distances[np.arange(rows.stop - start), np.arange(start, rows.stop)] = -np.inf
        mine = np.take_along_axis(distances, index[rows], axis=1)
        ranks = (distances[:, None, :] < mine[:, :, None]).sum(axis=2)
        penalty += np.maximum(ranks - k, 0).sum()
    return float(1 - 2 * penalty / (n * k * (2 * n - 3 * k - 1)))


def _neighbour_prediction(dense: np.ndarray, latent: np.ndarray, held_out: np.ndarray) -> float:
    """R squared of held-out cells' expression, predicted as the mean of their nearest training cells in latent space."""
    if held_out.sum() < 5 or (~held_out).sum() <= NEIGHBOURS:
        return np.nan
    index = (
        NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute")
        .fit(latent[~held_out])
        .kneighbors(latent[held_out], return_distance=False)
    )
    train, truth = dense[~held_out], dense[held_out]
    residual = sum(float(((truth[i] - train[near].mean(axis=0)) ** 2).sum()) for i, near in enumerate(index))
    return 1 - residual / float(((truth - train.mean(axis=0)) ** 2).sum())


def _lisi(index: np.ndarray, distance: np.ndarray, batch: np.ndarray) -> float:
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    # Its perplexity is a third of the neighbours (the cell counted); at one, the index is not defined.
    if index.shape[1] + 1 < 6:
        return np.nan
    # scib-metrics expects each cell as its own first neighbour.
    own = np.arange(len(index))[:, None]
    found = NeighborsResults(
        indices=np.hstack([own, index]), distances=np.hstack([np.zeros_like(distance[:, :1]), distance])
    )
    return float(scib_metrics.ilisi_knn(found, batch))


def _label_scores(
    item: Judged, labels: pd.Series, codes: np.ndarray, rows: np.ndarray, index: np.ndarray
) -> dict[str, float]:
    import scib_metrics
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    everyone = labels.astype(str).to_numpy()
    known_all = _known(labels)
    known = codes >= 0
    same = (codes[index] == codes[:, None])[known]
    judged = (codes[index] >= 0)[known]
    return {
        "label_ari": adjusted_rand_score(everyone[known_all], item.clusters[known_all]),
        "label_nmi": normalized_mutual_info_score(everyone[known_all], item.clusters[known_all]),
        "label_silhouette": float(scib_metrics.silhouette_label(item.latent[rows][known], codes[known])),
        "label_purity": float(same.sum() / judged.sum()) if judged.any() else np.nan,
    }
