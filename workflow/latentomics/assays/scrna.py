"""Single-cell RNA-seq: cells x genes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from latentomics.assays.normaliser import SizeLog, size_log

TITLE = "Single-cell RNA-seq"
OBSERVATION, OBSERVATIONS = "cell", "cells"
FEATURE, FEATURES = "gene", "genes"
#: Imported by name, so that editing one reruns its own rule only.
CHOOSER, MARKER_TEST = "latentomics.features.hvg", "latentomics.cluster.markers"
#: What the normalised values are called.
VALUE = "expression"
#: Settings of a results folder that does not tell its own.
DEFAULT_NORMALISATION = {"target_sum": None}


def normalisation(config: Any) -> dict[str, Any]:
    return {"target_sum": config.features.target_sum}


def normaliser(store: Any, settings: dict[str, Any]) -> SizeLog:
    return size_log(store.totals, settings["target_sum"])


def choice(config: Any) -> dict[str, Any]:
    return {"n_top": config.features.n_top, "span": config.features.span}


def select_features(store: Any, settings: dict[str, Any]) -> Any:
    """Highly variable genes."""
    from latentomics.io.store import batch_of

    return import_module(CHOOSER).select_features(store, batch_of(store.obs), settings["n_top"], settings["span"])


def find_markers(store: Any, clusters: Any, params: Any, normaliser: SizeLog, seed: int) -> Any:
    """Wilcoxon rank-sum test of each cluster against the rest."""
    return import_module(MARKER_TEST).find_markers(store, clusters, params, normaliser.target_sum, seed)
