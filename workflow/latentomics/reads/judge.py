"""How good a read classifier is: figures with intervals from logits and labels of reads that it was not trained on.

Intervals are 95 %. Those of accuracy, precision, recall and F1 are percentiles of a plain bootstrap of the test reads
(Efron and Tibshirani 1993, chapter 13): resampling reads changes a confusion matrix as a multinomial draw of its cells
does, so that millions of reads cost no more than a thousand. The area under the ROC curve needs every read's rank; its
interval is that of DeLong et al. (1988, Biometrics 44:837), which the bootstrap tends to with many samples.

Reads of one source are alike: these intervals say how the figures would vary with other reads of the same sources, not
with new sources.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from latentomics.reads.calibration import (
    abstention,
    calibration_error,
    chance_error,
    confidences,
    negative_log_likelihood,
    reliability,
)

_Z = 1.959964
_LENGTH_BINS = 10
_CELLS = 1 << 22


class Judgement(NamedTuple):
    """``summary``: single figures, JSON-able; ``tables``: by name, what is more than a figure."""

    summary: dict[str, Any]
    tables: dict[str, pd.DataFrame]


class Areas(NamedTuple):
    """Areas under the ROC curve with standard errors: of each class against the rest, (classes,), and their mean.

    NaN for a class without reads, or without others.
    """

    value: np.ndarray
    error: np.ndarray
    macro: float
    macro_error: float


class Difference(NamedTuple):
    """Accuracy of one model less that of another on the same reads, and on how many reads only one is right."""

    value: float
    low: float
    high: float
    only_first: int
    only_second: int


def confusion_matrix(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Reads by true (rows) and predicted class (columns), int64 (classes, classes)."""
    n = logits.shape[1]
    cells = labels.astype(np.int64) * n + logits.argmax(axis=1)
    return np.bincount(cells, minlength=n * n).reshape(n, n)


def rates(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, macro-F1 and per-class precision, recall and F1 of confusion matrices.

    Parameters
    ----------
    confusion
        (..., classes, classes), true classes in rows.

    Returns
    -------
    dict
        ``accuracy macro_f1`` (...), ``precision recall f1`` (..., classes). Precision of a class that is never predicted
        and recall of a class without reads are NaN; macro-F1 is the mean over the classes that have reads.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        precision, recall, f1 = right / predicted, right / true, 2 * right / (true + predicted)
    present = true > 0
    return {
        "accuracy": right.sum(axis=-1) / true.sum(axis=-1),
        "macro_f1": np.where(present, f1, 0).sum(axis=-1) / present.sum(axis=-1),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def bootstrap_rates(
    confusion: np.ndarray, n_bootstrap: int, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """:func:`rates` of one confusion matrix, each as value, lower and upper limit.

    Parameters
    ----------
    confusion
        (classes, classes), at least one read.
    n_bootstrap
        Bootstrap samples.
    """
    rng = np.random.default_rng(seed)
    total = int(confusion.sum())
    shares = confusion.ravel() / total
    block = max(_CELLS // confusion.size, 1)
    drawn = [
        rates(rng.multinomial(total, shares, size=min(block, n_bootstrap - start)).reshape(-1, *confusion.shape))
        for start in range(0, n_bootstrap, block)
    ]
    return {
        name: (value, *_percentiles(np.concatenate([part[name] for part in drawn])))
        for name, value in rates(confusion).items()
    }


def areas(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> Areas:
    """Area under the ROC curve of each class against the rest, by its probability; DeLong's standard errors.

    A read's contribution to an area is its placement: the share of the other side's reads that it is ranked correctly
    against, ties half. The mean over classes has the mean of a read's contributions, so that its error takes into account
    that all classes are judged on the same reads.
    """
    from scipy.stats import rankdata

    n, n_classes = logits.shape
    odds = _odds(logits, temperature)
    value, error = np.full(n_classes, np.nan), np.full(n_classes, np.nan)
    summed, used = np.zeros(n), 0
    for c in range(n_classes):
        mine = labels == c
        m = int(mine.sum())
        if m in (0, n):
            continue
        rank = rankdata(odds[:, c])
        placement = np.empty(n)
        placement[mine] = (rank[mine] - rankdata(odds[mine, c])) / (n - m)
        placement[~mine] = 1 - (rank[~mine] - rankdata(odds[~mine, c])) / m
        value[c] = placement[mine].mean()
        contribution = (placement - value[c]) / np.where(mine, m, n - m)
        error[c] = np.sqrt(contribution @ contribution)
        summed += contribution
        used += 1
    if not used:
        return Areas(value, error, np.nan, np.nan)
    return Areas(value, error, float(np.nanmean(value)), float(np.sqrt(summed @ summed)) / used)


def paired_difference(first: np.ndarray, second: np.ndarray, n_bootstrap: int, seed: int) -> Difference:
    """Difference of two accuracies on the same reads, with the interval of a paired bootstrap.

    Parameters
    ----------
    first, second
        Whether each model is right about each read, bool (n,).
    """
    n, one, other = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    shares = np.array([one, other, n - one - other]) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=n_bootstrap)
    low, high = _percentiles((drawn[:, 0] - drawn[:, 1]) / n)
    return Difference((one - other) / n, float(low), float(high), one, other)


def judge(
    logits: np.ndarray,
    labels: np.ndarray,
    lengths: np.ndarray,
    classes: Sequence[str],
    temperature: float,
    threshold: float | None,
    n_bootstrap: int,
    seed: int,
) -> Judgement:
    """Everything about one model on its test reads.

    Parameters
    ----------
    logits, labels, lengths
        (n, classes), (n,) and (n,), n at least 1; lengths in bases.
    temperature, threshold
        From validation reads; without a threshold no read is classified.

    Returns
    -------
    Judgement
        Tables ``confusion by_length calibration abstention per_class``.

    Raises
    ------
    ValueError
        Logits that are not finite, or arrays of different lengths.
    """
    if not len(logits) == len(labels) == len(lengths) > 0:
        raise ValueError(f"{len(logits)} rows of logits, {len(labels)} labels and {len(lengths)} lengths")
    if not np.isfinite(logits).all():
        raise ValueError("the model gives logits that are not finite numbers")
    correct = logits.argmax(axis=1) == labels
    confusion = confusion_matrix(logits, labels)
    found = bootstrap_rates(confusion, n_bootstrap, seed)
    roc = areas(logits, labels, temperature)
    confidence = confidences(logits, temperature)
    raw, scaled = reliability(confidences(logits), correct), reliability(confidence, correct)
    passes = confidence >= (np.inf if threshold is None else threshold)
    summary = {
        "n_test": len(labels),
        **interval_columns("accuracy", *found["accuracy"]),
        **interval_columns("macro_f1", *found["macro_f1"]),
        **interval_columns("auroc", roc.macro, *_logit_interval(roc.macro, roc.macro_error)),
        "nll": negative_log_likelihood(logits, labels),
        "nll_scaled": negative_log_likelihood(logits, labels, temperature),
        "ece": calibration_error(raw),
        "ece_scaled": calibration_error(scaled),
        "ece_by_chance": chance_error(scaled),
        "temperature": temperature,
        "threshold": threshold,
        "share_classified": float(passes.mean()),
        "precision_classified": float(correct[passes].mean()) if passes.any() else None,
    }
    by_class = {"class": list(classes), "reads": confusion.sum(axis=1), "predicted": confusion.sum(axis=0)}
    for name in ("precision", "recall", "f1"):
        by_class |= interval_columns(name, *found[name])
    by_class |= interval_columns("auroc", roc.value, *_logit_interval(roc.value, roc.error))
    named = pd.DataFrame(confusion, index=pd.Index(classes, name="class"), columns=list(classes))
    tables = {
        "confusion": named.reset_index(allow_duplicates=True),  # a class may be called "class"
        "by_length": accuracy_by_length(correct, lengths, n_bootstrap, seed),
        "calibration": pd.concat([raw.assign(scaled=False), scaled.assign(scaled=True)], ignore_index=True),
        "abstention": abstention(confidence, correct),
        "per_class": pd.DataFrame(by_class),
    }
    return Judgement(summary, tables)


def accuracy_by_length(correct: np.ndarray, lengths: np.ndarray, n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Accuracy in up to ten bins of about equally many reads: ``shortest longest reads accuracy accuracy_low accuracy_high``.

    Bases in the first two columns; a length is wholly in one bin.
    """
    edges = np.quantile(lengths, np.arange(1, _LENGTH_BINS) / _LENGTH_BINS, method="inverted_cdf")
    of_bin = np.searchsorted(edges, lengths)
    rng = np.random.default_rng(seed)
    rows = []
    for b in np.unique(of_bin):
        mine = of_bin == b
        n, share = int(mine.sum()), float(correct[mine].mean())
        limits = _percentiles(rng.binomial(n, share, size=n_bootstrap) / n)
        here = lengths[mine]
        rows.append(
            {"shortest": here.min(), "longest": here.max(), "reads": n, **interval_columns("accuracy", share, *limits)}
        )
    return pd.DataFrame(rows)


def _odds(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Odds of each class, float64 (n, classes): in the order of its probability, and not rounded off near 1."""
    scaled = logits.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    rows, first = np.arange(len(scaled)), scaled.argmax(axis=1)
    scaled[rows, first] = 0
    rest = scaled.sum(axis=1)
    with np.errstate(divide="ignore"):
        odds = scaled / (1 + rest[:, None] - scaled)
        odds[rows, first] = 1 / rest
    return odds


def _logit_interval(value: Any, error: Any) -> tuple[Any, Any]:
    """95 % limits of areas, normal on the scale of log(a / (1 - a)), which keeps them within [0, 1]."""
    value, error = np.asarray(value, dtype=np.float64), np.asarray(error, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = _Z * error / (value * (1 - value))
        odds = value / (1 - value)
        low, high = odds * np.exp(-half), odds * np.exp(half)
        limits = [np.where(error > 0, limit / (1 + limit), value) for limit in (low, high)]
    return tuple(limit if limit.ndim else float(limit) for limit in limits)


def _percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % limits over the first axis; samples in which a figure is not defined do not count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that is never predicted: no sample defines it
        low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return low, high


def interval_columns(name: str, value: Any, low: Any, high: Any) -> dict[str, Any]:
    """``{name} {name}_low {name}_high``: single figures as float, arrays as they are."""
    keyed = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: float(v) if np.ndim(v) == 0 else v for key, v in keyed.items()}
