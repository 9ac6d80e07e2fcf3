"""Fit one registered embedding on a counts store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.assays.normaliser import Normaliser
from latentomics.config.base import Section
from latentomics.embed.data import EmbeddingData, Fit, split_held_out
from latentomics.embed.registry import method
from latentomics.embed.stored import MEMORY, StoredCounts
from latentomics.io.store import CountsStore, batch_of

#: Share of the observations held out from training, the same ones for every method.
HELD_OUT = 0.1


def load_data(store: CountsStore, features: pd.DataFrame, normaliser: Normaliser, seed: int) -> EmbeddingData:
    """Read the counts of the selected features and what goes with them.

    Counts that would take more than :data:`latentomics.embed.stored.MEMORY` are left in the store.

    Parameters
    ----------
    features
        Table of features with a boolean column ``selected``, indexed as the store's ``var``.
    normaliser
        Of the store, from its assay.
    """
    obs = store.obs.copy()
    obs["batch"] = batch_of(obs)
    selected = np.flatnonzero(features["selected"].to_numpy(dtype=bool))
    counts = StoredCounts(store, selected)
    in_memory = counts.read(most=MEMORY)
    return EmbeddingData(
        counts=counts if in_memory is None else in_memory,
        normaliser=normaliser,
        obs=obs,
        features=features.index[selected],
        held_out=split_held_out(len(obs), HELD_OUT, seed),
    )


def fit_embedding(name: str, data: EmbeddingData, params: Section, seed: int, threads: int, folder: Path) -> Fit:
    """Fit the method ``name``; its model goes to ``folder``, with ``summary.json`` and ``history.tsv``.

    Raises
    ------
    TrainingError
        The training failed, or its latent space is not finite.
    """
    chosen = method(name)
    folder.mkdir(parents=True, exist_ok=True)
    fit = chosen.fit(data, params, seed, threads, folder)
    if fit.latent.shape[0] != len(data.obs) or not np.isfinite(fit.latent).all():
        raise ValueError(f"{name}: the latent space has missing rows or values")
    summary = {
        "method": name,
        "title": chosen.TITLE,
        "seed": seed,
        "n_train": int((~data.held_out).sum()),
        "n_held_out": int(data.held_out.sum()),
        "n_features": len(data.features),
        **fit.summary,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    if fit.history is not None:
        fit.history.to_csv(folder / "history.tsv", sep="\t", index=False, float_format="%.8g")
    return fit
