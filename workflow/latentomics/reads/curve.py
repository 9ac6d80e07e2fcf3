"""Learning curves: how good a model is with fewer training reads, judged on the same test reads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.reads.judge import bootstrap_rates, confusion_matrix
from latentomics.reads.saved import BASELINES, load_any
from latentomics.reads.scoring import logits_of
from latentomics.reads.store import TEST, TRAIN, ReadStore

COLUMNS = ("model", "share", "n_train", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "seconds")
#: Test reads, at most: intervals of accuracy are then at most 0.5 percentage points wide.
MOST_TEST = 200_000


def learning_curve(
    name: str,
    store: ReadStore,
    shares: Sequence[float],
    params: Any,
    fit: Any,
    kmer: int,
    n_bootstrap: int,
    seed: int,
    threads: int,
    checkpoints: Path,
) -> pd.DataFrame:
    """Train one network or baseline on growing shares of the training reads.

    The subsets are nested: the first rows of the training split, whose order is that of a hash.

    Parameters
    ----------
    shares
        Fractions of the training reads. One that leaves reads of fewer than two classes is left out.
    params, fit
        As in :func:`~latentomics.reads.train.train_model`; not looked at for a baseline.
    kmer
        Length of the baseline's k-mers (bases).
    checkpoints
        As in :func:`~latentomics.reads.train.train_model`: each point of the curve has its own.

    Returns
    -------
    DataFrame
        One row per share: :data:`COLUMNS`; the limits are those of the 95 % bootstrap interval over test reads, ``seconds``
        those of the training.
    """
    everything, test = store.rows(TRAIN), store.rows(TEST)[:MOST_TEST]
    labels = store.labels[test].astype(np.int64)
    points = []
    for share in shares:
        rows = subset(everything, share)
        if len(np.unique(store.labels[rows])) < 2:
            print(f"{name}: {share:g} of the training reads are of fewer than two classes: left out", flush=True)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if name in BASELINES:
                from latentomics.reads.baselines import fit_baseline

                facts = fit_baseline(name, store, kmer, seed, folder, rows)
            else:
                from latentomics.reads.train import train_model

                facts = train_model(name, store, params, fit, seed, threads, folder, checkpoints, rows)
            logits = logits_of(load_any(folder), store, test)
        found = bootstrap_rates(confusion_matrix(logits, labels), n_bootstrap, seed)
        values = (*map(float, found["accuracy"]), float(found["macro_f1"][0]), facts["training"]["seconds"])
        points.append((name, share, len(rows), *values))
        print(f"{name}: {len(rows):,} reads, accuracy {values[0]:.4f}", flush=True)
    return pd.DataFrame(points, columns=list(COLUMNS))


def subset(rows: np.ndarray, share: float) -> np.ndarray:
    """The first rows, at least one; a smaller share is part of every larger one."""
    return rows[: max(round(share * len(rows)), 1)]
