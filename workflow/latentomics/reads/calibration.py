"""Do the probabilities mean what they say? Temperature, calibration error, the threshold of confidence, abstention.

Confidence is the largest class probability of a read. Binned figures use bins of equal mass (Nixon et al. 2019, CVPR
workshops): most reads have a confidence near 1, where bins of equal width would be one crowded bin and many noisy ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

#: Bins of the reliability table (Guo et al. 2017 use as many).
N_BINS = 15
#: Limits of the temperature: beyond them every probability is 0 or 1, or all are alike.
TEMPERATURES = (0.05, 20.0)
#: At the precision asked for, the validation reads that pass must be enough to expect this many wrong ones among them.
EXPECTED_ERRORS = 5
_CURVE_POINTS = 100


class Threshold(NamedTuple):
    """``value`` of confidence that a read must reach, or None where no value gives the precision; ``why`` in words."""

    value: float | None
    why: str


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Class probabilities, float32 (n, classes): the softmax of logits divided by the temperature."""
    scaled = np.exp(_below_largest(logits) / np.float32(temperature))
    return scaled / scaled.sum(axis=1, keepdims=True)


def confidences(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The largest class probability of each read, float64 (n,)."""
    return 1 / np.exp(_below_largest(logits) / np.float32(temperature)).sum(axis=1, dtype=np.float64)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean of -log of the true class's probability (nats)."""
    return _loss(*_centred(logits, labels), temperature)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the negative log likelihood of validation reads (Guo et al. 2017, ICML, section 4.2).

    The likelihood is convex in 1/T, so that it has one minimum; it is sought within :data:`TEMPERATURES`. Dividing by T
    changes no prediction.

    Parameters
    ----------
    logits, labels
        (n, classes) and (n,), n at least 1.
    """
    from scipy.optimize import minimize_scalar

    below, true = _centred(logits, labels)
    found = minimize_scalar(
        lambda log_t: _loss(below, true, math.exp(log_t)),
        bounds=tuple(map(math.log, TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    # Logits that say nothing (all equal) have the same likelihood at every temperature.
    return math.exp(found.x) if found.fun < _loss(below, true, 1.0) - 1e-9 else 1.0


def reliability(confidence: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """How often reads of a confidence are right.

    Parameters
    ----------
    confidence, correct
        (n,): fractions, and whether the prediction is right.
    n_bins
        Bins of equally many reads; reads of equal confidence share one, so that there may be fewer.

    Returns
    -------
    DataFrame
        Ascending, one row per bin: ``low high`` (least and largest confidence), ``confidence`` (mean), ``accuracy``,
        ``reads``.
    """
    edges = np.quantile(confidence, np.arange(1, n_bins) / n_bins, method="inverted_cdf")
    table = pd.DataFrame({"confidence": confidence, "correct": correct, "bin": np.searchsorted(edges, confidence)})
    grouped = table.groupby("bin", sort=True)
    return pd.DataFrame(
        {
            "low": grouped["confidence"].min(),
            "high": grouped["confidence"].max(),
            "confidence": grouped["confidence"].mean(),
            "accuracy": grouped["correct"].mean(),
            "reads": grouped.size(),
        }
    ).reset_index(drop=True)


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error of a :func:`reliability` table: mean of |accuracy - confidence|, by reads."""
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["reads"]))


def chance_error(table: pd.DataFrame) -> float:
    """The calibration error that a perfectly calibrated model is expected to show on as many reads.

    Within a bin the mean of |normal| with the binomial's standard deviation: sqrt(2 / pi) sqrt(c (1 - c) / reads). With
    few reads this is what the expected calibration error consists of.
    """
    spread = np.sqrt(table["confidence"] * (1 - table["confidence"]).clip(lower=0) / table["reads"])
    return float(np.average(math.sqrt(2 / math.pi) * spread, weights=table["reads"]))


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, precision: float) -> Threshold:
    """The lowest confidence at which validation reads that pass are right often enough.

    A handful of the most confident reads may be right by luck. Only thresholds that so many reads pass are considered that
    :data:`EXPECTED_ERRORS` of them would be wrong at the precision asked for: 100 reads at 0.95.

    Parameters
    ----------
    confidence, correct
        (n,), of validation reads.
    precision
        Share of right predictions among the reads that pass, within (0, 1).

    Returns
    -------
    Threshold
        Its value lies half way to the next lower confidence seen, so that rounding moves no read across; 0 where all reads
        may pass.
    """
    # Rounded before it is rounded up: 5 / (1 - 0.95) is a little more than 100 in binary fractions.
    least = math.ceil(round(EXPECTED_ERRORS / (1 - precision), 6))
    if len(confidence) < least:
        return Threshold(None, f"only {len(confidence):,} validation reads; {least:,} are needed to choose a threshold")
    value, passing, right = _passing(confidence, correct)
    good = np.flatnonzero((right >= precision * passing) & (passing >= least))
    if not len(good):
        return Threshold(
            None, f"no {least:,} most confident validation reads or more are right {precision:.1%} of the time"
        )
    last = good[-1]
    share, reached = passing[last] / len(confidence), right[last] / passing[last]
    why = f"{share:.1%} of the validation reads pass, and {reached:.2%} of them are right"
    if last == len(value) - 1:
        return Threshold(0.0, why)
    return Threshold(float((value[last] + value[last + 1]) / 2), why)


def abstention(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Precision against the share of reads that are classified.

    Returns
    -------
    DataFrame
        ``threshold share reads precision``, at most 100 rows, from the most confident reads to all: the reads whose
        confidence is at least ``threshold``.
    """
    value, passing, right = _passing(confidence, correct)
    wanted = np.ceil(np.arange(1, _CURVE_POINTS + 1) / _CURVE_POINTS * len(confidence))
    at = np.unique(np.searchsorted(passing, wanted))
    return pd.DataFrame(
        {
            "threshold": value[at],
            "share": passing[at] / len(confidence),
            "reads": passing[at],
            "precision": right[at] / passing[at],
        }
    )


def _passing(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct confidences, descending, and of the reads at or above each how many there are and how many are right."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ranked[last], last + 1, np.cumsum(correct[order])[last]


def _below_largest(logits: np.ndarray) -> np.ndarray:
    return logits - logits.max(axis=1, keepdims=True)


def _centred(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    below = _below_largest(logits)
    return below, below[np.arange(len(labels)), labels].astype(np.float64)


def _loss(below: np.ndarray, true: np.ndarray, temperature: float) -> float:
    total = np.exp(below / np.float32(temperature)).sum(axis=1, dtype=np.float64)
    return float(np.mean(np.log(total) - true / temperature))
