"""Shotgun metagenomes: samples x taxa."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from latentomics.assays.normaliser import Normaliser

TITLE = "Metagenomes"
OBSERVATION, OBSERVATIONS = "sample", "samples"
FEATURE, FEATURES = "taxon", "taxa"
#: Imported by name, so that editing it reruns its own rule only; the taxa are chosen here.
CHOOSER, MARKER_TEST = __name__, "latentomics.metagenome.associations"
#: What the normalised values are called.
VALUE = "abundance"
#: Settings of a results folder that does not tell its own.
DEFAULT_NORMALISATION = {"method": "clr", "seed": 0, "depth": None, "delta": None}
SENTENCES = {
    "relative": "the share of each taxon in its sample",
    "clr": "the centred log-ratio (natural logarithm), zeros replaced multiplicatively",
    "rclr": "the robust centred log-ratio over the taxa present; absent taxa stand at 0",
    "rarefy": "counts drawn to one depth",
}


@dataclass(frozen=True, kw_only=True)
class Composition(Normaliser):
    """Normalised abundances of every sample: there are few, so they are computed once, and looked up.

    Attributes
    ----------
    values
        Samples x taxa, float32.
    """

    values: np.ndarray

    def __call__(self, counts: Any, rows: slice | np.ndarray) -> Any:
        from scipy.sparse import csr_matrix

        chosen = self.values[rows]
        if counts.shape != chosen.shape:
            raise ValueError(f"a composition needs all of its {self.values.shape[1]} taxa, got {counts.shape[1]}")
        n, width = chosen.shape
        # Every entry is stored, zeros too: the mean of a CLR row is zero, its entries rarely are.
        indices, starts = np.tile(np.arange(width), n), np.arange(0, n * width + 1, width)
        return csr_matrix((chosen.ravel(), indices, starts), shape=chosen.shape)


def normalisation(config: Any) -> dict[str, Any]:
    return {**config.composition.model_dump(mode="json"), "seed": config.seed}


def normaliser(store: Any, settings: dict[str, Any]) -> Composition:
    from latentomics.metagenome.composition import normalise

    values = normalise(
        store.select(), settings["method"], settings["seed"], settings["depth"], settings["delta"], store.values
    )
    return Composition(
        values=np.asarray(values, dtype=np.float32),
        keeps_zeros=False,
        sentence=SENTENCES[settings["method"]],
        facts={"normalisation": settings["method"]},
    )


def choice(config: Any) -> dict[str, Any]:
    return normalisation(config)


def select_features(store: Any, settings: dict[str, Any]) -> Any:
    """Every taxon: the filters of prevalence and abundance were applied when the samples were joined.

    Returns
    -------
    DataFrame
        Indexed by taxon: ``symbol``, ``mean`` (relative abundance), ``variance`` (of the normalised values), ``rank`` by it
        (0: the largest) and ``selected`` (all).
    """
    import pandas as pd

    counts = store.select().toarray().astype(np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
    variance = normaliser(store, settings).values.astype(np.float64).var(axis=0, ddof=1)
    rank = np.empty(len(variance))
    rank[np.argsort(-variance, kind="stable")] = np.arange(len(variance))
    return pd.DataFrame(
        {
            "symbol": store.var["symbol"].astype(str).to_numpy(),
            "mean": shares.mean(axis=0),
            "variance": variance,
            "rank": rank,
            "selected": True,
        },
        index=store.var.index,
    )


def find_markers(store: Any, clusters: Any, params: Any, normaliser: Composition, seed: int) -> Any:
    """Differential abundance of each cluster against the rest."""
    return import_module(MARKER_TEST).cluster_markers(store.select(), store.var, clusters)
