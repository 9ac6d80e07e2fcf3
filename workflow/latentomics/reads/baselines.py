"""What the networks must beat: the majority class, and logistic regression on k-mers.

Both are kept like a network: ``model.json`` and ``weights.npz``, without pickle.
"""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from latentomics.problems import InputError, Problem
from latentomics.reads.calibration import (
    choose_threshold,
    confidences,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
)
from latentomics.reads.kmer_regression import fit_regression, kmer_columns, kmer_logits
from latentomics.reads.models.registry import BASELINES
from latentomics.reads.store import TRAIN, VALIDATION, ReadStore

FORMAT = 1
#: Validation reads that choose the penalty.
MAX_VALIDATION = 50_000


@dataclass(frozen=True)
class LoadedBaseline:
    """A fitted baseline; called like a network.

    Attributes
    ----------
    facts
        What ``model.json`` says.
    weights
        float32, (k-mers, classes): change of the logits by one k-mer; no rows for the majority class.
    intercept
        float32, (classes,).
    """

    facts: dict[str, Any]
    weights: np.ndarray
    intercept: np.ndarray
    columns: np.ndarray = field(repr=False)

    @property
    def classes(self) -> list[str]:
        """Names, in the order of the logits."""
        return self.facts["classes"]

    def logits(self, codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Logits of coded reads, float32 (n, classes); ``lengths`` is for the interface, codes say where a read ends."""
        if not len(self.weights):
            return np.tile(self.intercept, (len(codes), 1))
        return kmer_logits(codes, self.facts["params"]["k"], self.columns, self.weights, self.intercept)

    def probabilities(self, codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities, float32 (n, classes): the softmax of logits / temperature."""
        return probabilities(self.logits(codes, lengths), self.facts["temperature"])


def fit_baseline(
    name: str,
    store: ReadStore,
    kmer: int,
    seed: int,
    folder: Path,
    rows: np.ndarray | None = None,
    precision: float | None = None,
) -> dict[str, Any]:
    """Fit one baseline on the training reads and save it.

    Parameters
    ----------
    name
        ``majority`` or ``kmer``.
    kmer
        Length of the k-mers (bases).
    seed
        Of the sample of reads where there are too many.
    folder
        Gets ``model.json`` and ``weights.npz``, when all is fitted.
    rows
        Row numbers of the training reads to use, of the store; by default all.
    precision
        Wanted of the reads above the threshold of confidence (fraction). None: no threshold is sought, all reads pass.

    Returns
    -------
    dict
        The facts in ``model.json``.

    Raises
    ------
    InputError
        Fewer than two classes among the training reads, or no validation reads.
    """
    started = time.perf_counter()
    train = store.rows(TRAIN) if rows is None else np.sort(rows)
    counts = np.bincount(store.labels[train], minlength=len(store.classes))
    if np.count_nonzero(counts) < 2:
        hint = "a classifier needs reads of two classes at least: give more, or a larger share for training."
        raise InputError(Problem(str(store.path), "the training reads are of fewer than two classes", hint))
    validation = store.rows(VALIDATION)[:MAX_VALIDATION]
    if not len(validation):
        hint = "give more reads, or a larger share in `classifier.split.validation`."
        raise InputError(Problem(str(store.path), "no validation reads", hint))
    # A class that was never seen in n reads is taken to be half a read of them.
    prior = np.log(np.maximum(counts, 0.5) / counts.sum()).astype(np.float32)
    if name == "majority":
        params: dict[str, Any] = {}
        weights, intercept = np.zeros((0, len(counts)), dtype=np.float32), prior
        search = {"epochs": 1, "best_epoch": 1, "stopped": "the frequencies of the classes were counted"}
    else:
        fitted = fit_regression(store, train, validation, kmer, seed, prior)
        params, weights, intercept = {"k": kmer, "C": fitted.c}, fitted.weights, fitted.intercept
        search = {**fitted.search, "n_held": fitted.n_held}
    columns = kmer_columns(kmer) if len(weights) else np.zeros(0, dtype=np.int32)
    model = LoadedBaseline({"classes": store.classes, "params": params}, weights, intercept, columns)
    logits, labels = _validation_logits(model, store, validation)
    temperature = fit_temperature(logits, labels)
    correct = logits.argmax(axis=1) == labels
    threshold = 0.0
    if precision is not None:
        threshold = choose_threshold(confidences(logits, temperature), correct, precision).value
    seconds = time.perf_counter() - started
    facts = {
        "format": FORMAT,
        "model": name,
        "params": params,
        "classes": store.classes,
        "width": store.width,
        "min_length": int(store.facts.get("min_length") or store.lengths[train].min()),
        "temperature": temperature,
        "threshold": threshold,
        "n_parameters": int(weights.size + intercept.size),
        "versions": {package: version(package) for package in ("numpy", "scikit-learn", "scipy")},
        "training": {
            "n_train": len(train),
            **search,
            "validation_loss": negative_log_likelihood(logits, labels),
            "validation_accuracy": float(correct.mean()),
            "seconds": round(seconds, 3),
            "reads_per_second": round(len(train) / max(seconds, 1e-9), 1),
            "device": "cpu (1 thread)",
            "seed": seed,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "weights.npz", weights=weights, intercept=intercept)
    (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return facts


def load_baseline(folder: Path) -> LoadedBaseline:
    """Open a saved baseline.

    Raises
    ------
    InputError
        The folder is damaged, or not a baseline of this format.
    """
    hint = "remove the folder and fit the baseline again."
    try:
        facts = json.loads((folder / "model.json").read_text("utf-8"))
        with np.load(folder / "weights.npz", allow_pickle=False) as saved:
            weights, intercept = saved["weights"], saved["intercept"]
        name, n_classes = facts["model"], len(facts["classes"])
        columns = kmer_columns(facts["params"]["k"]) if name == "kmer" else np.zeros(0, dtype=np.int32)
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(Problem(str(folder), f"not readable as a baseline ({error})", hint)) from error
    if facts.get("format") != FORMAT or name not in BASELINES:
        what = f"not a baseline that this version knows (format {facts.get('format')!r})"
        raise InputError(Problem(str(folder), what, hint, key="model", value=name))
    n_kmers = int(columns.max(initial=-1)) + 1
    if weights.shape != (n_kmers, n_classes) or intercept.shape != (n_classes,):
        what = f"weights of shape {weights.shape}, not {(n_kmers, n_classes)}"
        raise InputError(Problem(str(folder / "weights.npz"), what, hint))
    if weights.dtype != np.float32 or not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
        raise InputError(Problem(str(folder / "weights.npz"), "weights that are not finite numbers", hint))
    return LoadedBaseline(facts, weights, intercept, columns)


def _validation_logits(model: LoadedBaseline, store: ReadStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    batch = store.batch(rows)
    return model.logits(batch.codes, batch.lengths), batch.labels
