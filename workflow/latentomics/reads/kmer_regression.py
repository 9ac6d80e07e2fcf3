"""Multinomial logistic regression on the k-mers of reads, with as many reads as there are.

A read's features are the counts of its canonical k-mers (the smaller of both strands), so that a read and its reverse
complement are the same to it.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from latentomics.reads.bases import kmers
from latentomics.reads.calibration import fit_temperature, negative_log_likelihood, probabilities
from latentomics.reads.store import ReadStore

#: Most training reads, and k-mers among them, that are held at once (8 bytes each). Of more, a uniform random sample is
#: fitted, and the fit goes on over all of them in minibatches.
MAX_READS, MAX_KMERS = 500_000, 60_000_000
#: Inverse penalties C of scikit-learn, tried upwards until the validation loss no longer falls.
PENALTIES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
#: Longest k-mer: 131,072 columns.
MAX_K = 9
#: Passes over the training reads where there are more of them.
PASSES = 3
_MAX_ITERATIONS = 300
_TOLERANCE = 1e-5
_MINIBATCH, _RATE, _BETAS = 1 << 12, 1e-3, (0.9, 0.999)
_BLOCK = 1 << 13


class Regression(NamedTuple):
    """A fitted regression.

    ``weights`` (k-mers, classes) are changes of the logits by one k-mer, ``intercept`` (classes,), both float32; ``c`` is the
    chosen inverse penalty of scikit-learn; ``search`` are facts of the fit; ``n_held`` reads were held at once.
    """

    weights: np.ndarray
    intercept: np.ndarray
    c: float
    search: dict[str, Any]
    n_held: int


def kmer_columns(k: int) -> np.ndarray:
    """Column of each k-mer word (two bits a base), int32 (4^k,); both strands have the same.

    Raises
    ------
    ValueError
        k is not from 1 to 9.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k-mers of {k!r} bases; the regression has room for 1 to {MAX_K}")
    words = np.arange(4**k)[:, None] >> np.arange(2 * (k - 1), -1, -2) & 3
    canonical = kmers(words.astype(np.uint8), k)[0][:, 0]
    return np.unique(canonical, return_inverse=True)[1].astype(np.int32)


def kmer_counts(codes: np.ndarray, k: int, columns: np.ndarray) -> csr_matrix:
    """How often each canonical k-mer occurs in each read.

    Parameters
    ----------
    codes
        uint8, (n, width).
    columns
        Of :func:`kmer_columns`.

    Returns
    -------
    csr_matrix
        float32, (n, k-mers); k-mers with an unknown base do not count. A k-mer that a read holds twice has two entries,
        which add up.
    """
    words, valid = kmers(codes, k)
    indices = columns[words[valid]]
    starts = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])
    entries = (np.ones(len(indices), dtype=np.float32), indices, starts.astype(np.int32))
    return csr_matrix(entries, shape=(len(codes), int(columns.max()) + 1))


def kmer_logits(
    codes: np.ndarray, k: int, columns: np.ndarray, weights: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """Logits of coded reads, float32 (n, classes)."""
    out = np.tile(intercept, (len(codes), 1))
    for start in range(0, len(codes), _BLOCK):
        rows = slice(start, start + _BLOCK)
        out[rows] += kmer_counts(codes[rows], k, columns) @ weights
    return out


def fit_regression(
    store: ReadStore, train: np.ndarray, validation: np.ndarray, k: int, seed: int, prior: np.ndarray
) -> Regression:
    """Multinomial logistic regression with an L2 penalty that is chosen on validation reads.

    What counts there is the likelihood once a temperature is fitted, as it is before the model is applied: a strong
    penalty makes a model too unsure, which the temperature mends, and it names the class better.

    Parameters
    ----------
    train, validation
        Rows of the store; those for training are of two classes at least.
    k
        Length of the k-mers (bases).
    seed
        Of the sample of reads where there are too many to be held at once.
    prior
        Logarithm of the classes' shares, (classes,): what a class without training reads is judged by.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.sparsefuncs import inplace_column_scale

    held = _sample(store, train, k, seed)
    columns = kmer_columns(k)
    x, y = _matrix(store, held, k, columns), store.labels[held].astype(np.int64)
    seen = np.unique(y)
    # A rare k-mer is scaled up: what it says is penalised no more than what a frequent one says.
    scale = _spread(x)
    inplace_column_scale(x, 1 / scale)
    model = LogisticRegression(solver="lbfgs", tol=_TOLERANCE, max_iter=_MAX_ITERATIONS, warm_start=True)
    judged = store.batch(validation)

    def loss_of(weights: np.ndarray, intercept: np.ndarray) -> float:
        logits = kmer_logits(judged.codes, k, columns, weights, intercept)
        return negative_log_likelihood(logits, judged.labels, fit_temperature(logits, judged.labels))

    best: tuple[float, np.ndarray, np.ndarray] | None = None
    tried: list[dict[str, Any]] = []
    for penalty in PENALTIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by the number of iterations
            model.set_params(C=penalty).fit(x, y)
        weights, intercept = _all_classes(model.coef_ / scale, model.intercept_, seen, prior)
        loss = loss_of(weights, intercept)
        tried.append({"C": penalty, "iterations": int(model.n_iter_[0]), "validation_loss_scaled": loss})
        print(f"kmer: {tried[-1]}", flush=True)
        if best is not None and loss >= best[0]:
            break
        best = (loss, weights, intercept)
    found = min(tried, key=lambda one: one["validation_loss_scaled"])
    stopped = "converged" if found["iterations"] < _MAX_ITERATIONS else "at the limit of iterations"
    if len(held) < len(train):
        del x
        weights, intercept = _stream(store, train, best[1], best[2], scale, found["C"], k, columns)
        loss = loss_of(weights, intercept)
        tried.append({"C": found["C"], "iterations": PASSES, "validation_loss_scaled": loss})
        print(f"kmer: all {len(train):,} reads, {tried[-1]}", flush=True)
        stopped = f"after {PASSES} passes over all reads, begun at the fit of {len(held):,} of them"
        if loss < best[0]:
            best = (loss, weights, intercept)
        else:
            stopped = f"at the fit of {len(held):,} reads, which passes over all of them did not improve"
    search = {
        "epochs": sum(one["iterations"] for one in tried),
        "best_epoch": found["iterations"],
        "stopped": stopped,
        "search": tried,
    }
    return Regression(best[1], best[2], found["C"], search, len(held))


def _stream(
    store: ReadStore,
    rows: np.ndarray,
    weights: np.ndarray,
    intercept: np.ndarray,
    scale: np.ndarray,
    penalty: float,
    k: int,
    columns: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Go on with a regression over reads that do not fit into memory: minibatches, Adam (Kingma and Ba 2015, ICLR).

    The same objective as scikit-learn's. Rows of a store are in random order, so that each stretch is a fair minibatch.
    """
    w = np.vstack([weights * scale[:, None], intercept])
    first, second = np.zeros_like(w), np.zeros_like(w)
    decay = np.full((len(w), 1), 1 / (penalty * len(rows)), dtype=np.float32)
    if w.shape[1] == 2:
        decay *= 2  # of two classes scikit-learn has one row of weights, twice those here
    decay[-1] = 0  # the intercept is not penalised
    starts = list(range(0, len(rows), _MINIBATCH)) * PASSES
    for step, start in enumerate(starts, 1):
        batch = store.batch(rows[start : start + _MINIBATCH])
        x = kmer_counts(batch.codes, k, columns)
        error = probabilities(x @ (w[:-1] / scale[:, None]) + w[-1])
        error[np.arange(len(error)), batch.labels] -= 1
        error /= len(error)
        gradient = np.vstack([(x.T @ error) / scale[:, None], error.sum(axis=0)]) + decay * w
        first += (1 - _BETAS[0]) * (gradient - first)
        second += (1 - _BETAS[1]) * (gradient**2 - second)
        rate = _RATE * (1 + math.cos(math.pi * step / len(starts))) / 2 * math.sqrt(1 - _BETAS[1] ** step)
        w -= rate / (1 - _BETAS[0] ** step) * first / (np.sqrt(second) + 1e-8)
    return w[:-1] / scale[:, None], w[-1]


def _sample(store: ReadStore, rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """As many of the rows, drawn uniformly, as fit into memory; ascending."""
    each = np.maximum(store.lengths[rows].astype(np.int64) - k + 1, 1)
    most = min(MAX_READS, int(MAX_KMERS / each.mean()))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size=most, replace=False))


def _matrix(store: ReadStore, rows: np.ndarray, k: int, columns: np.ndarray) -> csr_matrix:
    """:func:`kmer_counts` of rows of a store; their memory is taken once."""
    most = int(np.maximum(store.lengths[rows].astype(np.int64) - k + 1, 0).sum())
    indices, data = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.float32)
    starts = np.zeros(len(rows) + 1, dtype=np.int32)
    filled = 0
    for start in range(0, len(rows), _BLOCK):
        part = kmer_counts(store.batch(rows[start : start + _BLOCK]).codes, k, columns)
        part.sum_duplicates()
        indices[filled : filled + part.nnz], data[filled : filled + part.nnz] = part.indices, part.data
        starts[start + 1 : start + 1 + part.shape[0]] = part.indptr[1:] + filled
        filled += part.nnz
    return csr_matrix((data[:filled], indices[:filled], starts), shape=(len(rows), int(columns.max()) + 1))


def _spread(x: csr_matrix) -> np.ndarray:
    """Standard deviation of each column, float32; 1 for a k-mer that never varies."""
    from sklearn.utils.sparsefuncs import mean_variance_axis

    spread = np.sqrt(mean_variance_axis(x, axis=0)[1])
    return np.where(spread > 0, spread, 1).astype(np.float32)


def _all_classes(
    coef: np.ndarray, intercept: np.ndarray, seen: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k-mers, classes) and intercepts of all classes from those that scikit-learn fits, of the classes it saw."""
    if len(seen) == 2:  # one row, the log odds of the second class
        coef, intercept = np.vstack([-coef / 2, coef / 2]), np.concatenate([-intercept / 2, intercept / 2])
    weights = np.zeros((coef.shape[1], len(prior)), dtype=np.float32)
    weights[:, seen] = coef.T
    # Logits are known up to a constant: a class without reads lies below the others as its prior does.
    full = prior + np.float32(np.mean(intercept - prior[seen]))
    full[seen] = intercept
    return weights, full
