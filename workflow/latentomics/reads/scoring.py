"""From a trained model to its scores: predictions of validation and test reads, all figures, the table of all models."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.problems import InputError, Problem
from latentomics.reads.calibration import choose_threshold, confidences, fit_temperature, negative_log_likelihood
from latentomics.reads.judge import Difference, interval_columns, judge, paired_difference
from latentomics.reads.store import TEST, VALIDATION, ReadStore

#: The baseline that the networks must beat.
REFERENCE = "kmer"
#: Columns of the table of all models.
COLUMNS = (
    "model",
    *("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "macro_f1_low", "macro_f1_high"),
    *("auroc", "auroc_low", "auroc_high", "nll", "nll_scaled", "ece", "ece_scaled", "temperature", "threshold"),
    *("share_classified", "precision_classified", "train_seconds", "reads_per_second", "predict_reads_per_second"),
    *("device", "n_parameters", "n_train", "n_test"),
    *("difference_to_kmer", "difference_to_kmer_low", "difference_to_kmer_high"),
)
#: Validation reads behind temperature and threshold: their error is then far below that of anything they are used for.
MAX_VALIDATION = 500_000
#: Sources with fewer test reads are left out of the range of accuracy by source.
READS_PER_SOURCE = 50
_BLOCK = 1 << 13


def logits_of(model: Any, store: ReadStore, rows: np.ndarray) -> np.ndarray:
    """Logits of some reads of a store, float32 (n, classes).

    Parameters
    ----------
    model
        What :func:`latentomics.reads.saved.load_any` gives.
    """
    out = np.empty((len(rows), len(model.classes)), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        batch = store.batch(rows[start : start + _BLOCK])
        out[start : start + _BLOCK] = model.logits(batch.codes, batch.lengths)
    return out


def evaluate(
    model: Any, store: ReadStore, precision: float, n_bootstrap: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Fit temperature and threshold on validation reads, judge on test reads, write it all to a folder.

    ``summary.json`` also has the temperature and the threshold that whoever applies the model uses.

    Parameters
    ----------
    model
        What :func:`latentomics.reads.saved.load_any` gives.
    precision
        Wanted of reads above the threshold (fraction).
    folder
        Gets ``summary.json``, ``predictions.npz`` and the tables as TSV; made last, when everything is known.

    Raises
    ------
    InputError
        The model has other classes than the data, or there are no validation or test reads.
    """
    validation, test = store.rows(VALIDATION), store.rows(TEST)
    _check(model, store, validation, test)
    # Rows are in the order of a hash: the first ones are a random sample.
    validation = validation[:MAX_VALIDATION]
    seen, labels = logits_of(model, store, validation), store.labels[validation].astype(np.int64)
    temperature = fit_temperature(seen, labels)
    right = seen.argmax(axis=1) == labels
    chosen = choose_threshold(confidences(seen, temperature), right, precision)
    started = time.perf_counter()
    logits = logits_of(model, store, test)
    seconds = time.perf_counter() - started
    truth, lengths = store.labels[test], store.lengths[test]
    found = judge(logits, truth.astype(np.int64), lengths, store.classes, temperature, chosen.value, n_bootstrap, seed)
    facts = {
        "model": model.facts["model"],
        "classes": store.classes,
        **found.summary,
        "threshold_why": chosen.why,
        "precision_wanted": precision,
        "n_validation": len(validation),
        "validation_accuracy": float(right.mean()),
        "validation_nll": negative_log_likelihood(seen, labels),
        "validation_nll_scaled": negative_log_likelihood(seen, labels, temperature),
        **_sources(store, test, logits.argmax(axis=1) == truth),
        "n_bootstrap": n_bootstrap,
        "n_parameters": model.facts["n_parameters"],
        "n_train": model.facts["training"]["n_train"],
        "train_seconds": model.facts["training"]["seconds"],
        "reads_per_second": model.facts["training"]["reads_per_second"],
        "validation_loss": model.facts["training"]["validation_loss"],
        "device": model.facts["training"]["device"],
        "predict_reads_per_second": round(len(test) / max(seconds, 1e-9), 1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", logits=logits, labels=truth, lengths=lengths, sources=store.sources[test])
    for name, table in found.tables.items():
        table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, float_format="%.8g")
    write_json(folder / "summary.json", facts)
    return facts


def join_scores(
    folders: Mapping[str, Path], networks: Sequence[str], n_bootstrap: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """The table of all models, the best network, and whether it beats k-mer regression.

    Parameters
    ----------
    folders
        What :func:`evaluate` wrote, by model, in the order of the table.
    networks
        Which of them are networks; the others are baselines.

    Returns
    -------
    scores
        Columns :data:`COLUMNS`. ``difference_to_kmer`` is that of the accuracies on the same test reads, with the interval
        of a paired bootstrap.
    best
        ``model why``: the network with the lowest validation loss, of equal ones the first.
    verdict
        ``best baseline beats_kmer difference difference_low difference_high only_best only_kmer n_test sentence``.
        ``beats_kmer`` is True, False, or None where the interval holds 0.

    Raises
    ------
    ValueError
        The models were not judged on the same reads.
    """
    summaries = {name: json.loads((folder / "summary.json").read_text("utf-8")) for name, folder in folders.items()}
    labels, reference = _correct(folders[REFERENCE])
    differences = {}
    for name, folder in folders.items():
        if name != REFERENCE:
            mine, correct = _correct(folder)
            if not np.array_equal(mine, labels):
                raise ValueError(f"{name} and {REFERENCE} were not judged on the same reads")
            differences[name] = paired_difference(correct, reference, n_bootstrap, seed)
    rows = []
    for name, summary in summaries.items():
        found = differences.get(name)
        limits = interval_columns("difference_to_kmer", found.value, found.low, found.high) if found else {}
        rows.append({**summary, **limits, "model": name})
    scores = pd.DataFrame(rows, columns=list(COLUMNS))
    best = min(networks, key=lambda name: summaries[name]["validation_loss"])
    losses = ", ".join(f"{name} {summaries[name]['validation_loss']:.4f}" for name in networks)
    why = f"lowest validation loss ({losses})" if len(networks) > 1 else "the only network"
    verdict = _verdict(best, differences[best], summaries[best], summaries[REFERENCE])
    return scores, {"model": best, "why": why}, verdict


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Facts as JSON; a figure that is not defined is null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in facts.items()
    }
    path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", "utf-8")


def _verdict(best: str, found: Difference, summary: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    beats = True if found.low > 0 else False if found.high < 0 else None
    word = {True: "beats", False: "is worse than", None: "cannot be told from"}[beats]
    return {
        "best": best,
        "baseline": REFERENCE,
        "beats_kmer": beats,
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "only_best": found.only_first,
        "only_kmer": found.only_second,
        "n_test": summary["n_test"],
        "sentence": (
            f"The best network ({best}) {word} k-mer logistic regression on {summary['n_test']:,} test reads: accuracy "
            f"{summary['accuracy']:.3f} against {reference['accuracy']:.3f}, difference {found.value:+.4f} (95 % interval "
            f"{found.low:+.4f} to {found.high:+.4f}, of reads of the same sources)."
        ),
    }


def _correct(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test reads, and whether each is predicted rightly."""
    with np.load(folder / "predictions.npz", allow_pickle=False) as found:
        labels = found["labels"]
        return labels, found["logits"].argmax(axis=1) == labels


def _check(model: Any, store: ReadStore, validation: np.ndarray, test: np.ndarray) -> None:
    if list(model.classes) != list(store.classes):
        what = "the model knows other classes than the data"
        hint = "train it on these data, or judge it on its own."
        raise InputError(Problem(str(store.path), what, hint, key="classes", value=list(model.classes)))
    for name, rows in (("validation", validation), ("test", test)):
        if not len(rows):
            hint = "give more reads, or a larger share in `classifier.split`."
            raise InputError(Problem(str(store.path), f"no {name} reads", hint, key=f"classifier.split.{name}"))


def _sources(store: ReadStore, test: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """How many sources the test reads are from, and the range of accuracy over those with enough reads."""
    reads = np.bincount(store.sources[test])
    right = np.bincount(store.sources[test], weights=correct)
    n = int((reads > 0).sum())
    facts: dict[str, Any] = {
        "n_sources": n,
        "interval": f"for other reads of the same {n:,} source(s) as the test reads; new sources may differ by more",
    }
    enough = np.flatnonzero(reads >= READS_PER_SOURCE)
    if len(enough) > 1:
        accuracy = right[enough] / reads[enough]
        ends = {"lowest": accuracy.argmin(), "highest": accuracy.argmax()}
        facts["accuracy_by_source"] = {"median": float(np.median(accuracy)), "sources": len(enough)} | {
            end: {"source": store.source_names[enough[i]], "accuracy": float(accuracy[i])} for end, i in ends.items()
        }
    return facts
