"""From classified reads to the composition of a sample: what the classifier's known errors do to the counts, undone.

The test reads tell how reads of each class are classified: rightly, as another class, or not at all. If that holds for
the sample too (what changes is how frequent classes are, not what their reads look like: label shift), the counts of a
sample are expected to be a known mixture of the test reads' rows, and its weights are the composition: the "adjusted
count" of Forman (2008, Data Mining and Knowledge Discovery 17:164), for many classes and with abstention.

The alternative, expectation-maximisation on the reads' probabilities (Saerens et al. 2002, Neural Computation 14:21), needs
all reads at once and takes the probabilities at their word. In simulated samples (20,000 reads of 10 classes; half the sum
of the absolute errors of the shares) it is better only while they are perfect: 0.010 against 0.023 (0.22 uncorrected), but
0.038 against 0.033 with a temperature 30 % too high and 0.12 against 0.05 where 30 % of the reads are of no class, as is usual.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.problems import InputError, Problem
from latentomics.reads.predict import Model, Predicted, decide, joined, predict_sample

#: Name of the row of the reads below the threshold of confidence.
UNCLASSIFIED = "unclassified"
COLUMNS = ("class", "reads", "share", "share_corrected", "low", "high")
#: Weight of the uncorrected shares: decides only between classes whose reads are classified alike.
_RIDGE = 1e-6
#: Condition number of the error rates from which the correction is said to be uncertain.
_NEARLY_SINGULAR = 30.0
#: Read lengths within this factor of the test reads' are taken for alike.
_ALIKE = 1.25
#: Excess of unclassified reads over what the classes' own reads would leave unclassified, from which it is told.
_FOREIGN = 0.05


@dataclass(frozen=True)
class Errors:
    """How test reads are classified at a threshold.

    Attributes
    ----------
    alone, pairs : (n_classes, n_classes + 1) int64
        Test reads, and pairs of test reads, of each class (rows) by the class they were given; the last column counts those
        that were not classified.
    mean_length
        Of the test reads (bases).
    """

    alone: np.ndarray
    pairs: np.ndarray
    mean_length: float

    def save(self, path: Path) -> None:
        """Write plain arrays, which :meth:`load` reads."""
        np.savez(path, alone=self.alone, pairs=self.pairs, mean_length=self.mean_length)

    @classmethod
    def load(cls, path: Path) -> Errors:
        """What :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["alone"], file["pairs"], float(file["mean_length"]))


@dataclass(frozen=True)
class Shares:
    """Composition of a sample.

    Attributes
    ----------
    table
        One row per class, in the model's order, and one named :data:`UNCLASSIFIED`. ``reads`` above (or, in that row,
        below) the threshold; ``share`` of the classified reads (in that row: of all reads that are long enough);
        ``share_corrected`` of the sample's reads that are of the model's classes; ``low`` and ``high``, the 95 % interval
        of ``share_corrected`` (in that row: of ``share``). Without a classified read the shares are NaN.
    notes
        What stands against the correction, in clauses.
    unclassified_expected
        Share of reads that would be unclassified if they all were of the model's classes, in these shares; None where the
        errors are unknown or nothing is classified.
    """

    table: pd.DataFrame
    notes: list[str]
    unclassified_expected: float | None = None


def apply_model(
    sample: str, reads: Path, model: Model, predictions: Path, n_bootstrap: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Classify a sample's reads and correct the shares of the classes.

    Parameters
    ----------
    reads
        Folder of the quality-controlled reads, see :func:`~latentomics.reads.predict.predict_sample`.
    predictions
        ``predictions.npz`` of the model's test reads.

    Returns
    -------
    table, facts
        The rows of ``shares.tsv``, see :class:`Shares`, and the content of ``shares.json``.
    """
    names = ("width", "min_length", "temperature", "threshold")
    facts = {name: model.facts[name] for name in names}
    errors = read_errors(predictions, len(model.classes), facts["temperature"], facts["threshold"], seed)
    predicted = predict_sample(sample, reads, model)
    shares = class_shares(model.classes, predicted, errors, n_bootstrap, seed)
    counts = predicted.counts
    return shares.table, {
        "sample": sample,
        "model": model.facts["model"],
        **facts,
        "reads": predicted.reads,
        "too_short": predicted.too_short,
        "cut": predicted.cut,
        "classified": int(counts[:-1].sum()),
        "unclassified": int(counts[-1]),
        "unclassified_expected": shares.unclassified_expected,
        "pairs": int(predicted.pairs.sum()),
        "overlapping_pairs": int(predicted.overlapping.sum()),
        "mean_length": round(predicted.mean_length, 2),
        "notes": shares.notes,
    }


def read_errors(predictions: Path, n_classes: int, temperature: float, threshold: float | None, seed: int) -> Errors:
    """Errors of a model, from the predictions of its test reads.

    Parameters
    ----------
    predictions
        ``predictions.npz``: ``logits`` (n, n_classes), ``labels``, ``lengths`` and ``sources`` (n,).
    seed
        Of the joining of reads to pairs.

    Raises
    ------
    InputError
        If the file is damaged or of another model.
    """
    hint = "give the scores of this very model, or score it again."
    names = ("logits", "labels", "lengths", "sources")
    try:
        with np.load(predictions, allow_pickle=False) as file:
            logits, labels, lengths, sources = (file[name] for name in names)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            Problem(str(predictions), f"not readable as predictions of test reads ({error})", hint)
        ) from error
    numbers = all(np.issubdtype(column.dtype, np.unsignedinteger) for column in (labels, lengths, sources))
    one_each = labels.shape == lengths.shape == sources.shape == logits.shape[:1]
    if not numbers or not one_each or logits.shape[1:] != (n_classes,) or labels.max(initial=0) >= n_classes:
        what = f"not the predictions of a model with {n_classes} classes (logits of shape {logits.shape})"
        raise InputError(Problem(str(predictions), what, hint))
    if not np.isfinite(logits).all():
        raise InputError(Problem(str(predictions), "logits that are no finite numbers", hint))
    first, second = _mates(labels, sources, seed)
    return Errors(
        _confusion(decide(logits, temperature, threshold), labels, n_classes),
        _confusion(decide(joined(logits[first], logits[second]), temperature, threshold), labels[first], n_classes),
        float(lengths.mean()) if len(lengths) else 0.0,
    )


def _mates(labels: np.ndarray, sources: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads of the same class and source, two and two at random; every read at most once."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    group = labels[shuffled].astype(np.int64) << 32 | sources[shuffled].astype(np.int64)
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    first_of_group = np.searchsorted(ranked, ranked)
    odd = (np.arange(len(ranked)) - first_of_group) % 2 == 1
    second = np.flatnonzero(odd)
    return shuffled[order[second - 1]], shuffled[order[second]]


def _confusion(chosen: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    flat = np.bincount(labels.astype(np.int64) * (n_classes + 1) + chosen, minlength=n_classes * (n_classes + 1))
    return flat.reshape(n_classes, n_classes + 1)


def correct(counts: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Shares of the classes whose reads are classified at known rates, from the counts of a sample.

    Minimises sum_c (n_c - sum_g x_g rates[g, c])^2 / (n_c + 1) over x >= 0, the reads of each class g, those included that
    were not classified; the shares are x / sum(x). Weights are those of counts (Poisson), so that rare classes count for
    what they are. Where classes are classified alike, the one solution nearest to the uncorrected shares.

    Parameters
    ----------
    counts : (n_classes,)
        Classified reads by the class they were given, not negative, at least one.
    rates : (n_classes, n_classes)
        Probability that a read of the class of the row is given the class of the column; rows sum to at most 1. The share
        of a class that is never classified (a row of zeros) is 0.

    Returns
    -------
    (n_classes,) float
        Not negative; they sum to 1, or are all 0 if no class yields the counts.
    """
    from scipy.optimize import nnls

    total = counts.sum()
    observed = counts / total
    weights = 1 / np.sqrt(observed + 1 / total)
    classified = rates.sum(axis=1)
    known = classified > 0
    plain = np.divide(observed, classified, out=np.zeros_like(observed), where=known)
    ridge = np.sqrt(_RIDGE)
    matrix = np.vstack([weights[:, None] * rates[known].T, ridge * np.eye(int(known.sum()))])
    wanted = np.concatenate([weights * observed, ridge * plain[known]])
    found = np.zeros(len(counts))
    if not known.any():
        return found
    # Lawson and Hanson's algorithm ends after finitely many steps; the default allows 3 per class.
    found[known] = nnls(matrix, wanted, maxiter=100 * len(counts))[0]
    return found / found.sum() if found.sum() > 0 else found


def class_shares(
    classes: Sequence[str], predicted: Predicted, errors: Errors | None, n_bootstrap: int, seed: int
) -> Shares:
    """Composition of a sample, corrected for the classifier's errors.

    Intervals are the 2.5th and 97.5th percentile of bootstrap samples, in which the sample's reads (pairs as one) and the
    test reads of each class are drawn again. They know nothing of reads that are of none of the classes,
    nor of genomes that are unlike those of the test: of a 7-mer regression's shares of 8 genomes, tested on other regions of
    them than the samples were drawn from, 90 to 94 % held the truth.

    Parameters
    ----------
    errors
        None where they are unknown: shares then stay uncorrected.
    """
    n, counts, expected = len(classes), predicted.counts, None
    looked_at, classified = int(counts.sum()), int(counts[:-1].sum())
    table = pd.DataFrame({"class": [*classes, UNCLASSIFIED], "reads": counts, **dict.fromkeys(COLUMNS[2:], np.nan)})
    if looked_at:
        table.loc[n, "share"] = counts[n] / looked_at
    if not classified:
        return Shares(
            table, ["no read reaches the threshold of confidence"] if looked_at else ["no read is long enough"]
        )
    paired = 2 * int(predicted.pairs.sum()) / looked_at
    rng = np.random.default_rng(seed)
    kinds = ((predicted.alone, 1), (predicted.overlapping, 2), (predicted.pairs, 2))
    redrawn = sum(reads * _redrawn(fragments, n_bootstrap, rng) for fragments, reads in kinds)
    if errors is None:
        notes = ["the errors of the classifier are unknown (no predictions of test reads): shares are not corrected"]
        corrected = counts[:n] / classified
        replicates = redrawn[:, :n] / np.maximum(redrawn[:, :n].sum(axis=1, keepdims=True), 1)
    else:
        rates = _rates(errors, paired)
        corrected = correct(counts[:n], rates)
        notes = _doubts(classes, predicted, errors, rates)
        expected = float(1 - corrected @ rates.sum(axis=1))
        if table.loc[n, "share"] > expected + _FOREIGN:
            notes.append(
                "more of its reads are unclassified than of test reads: it may hold reads of none of the model's classes, "
                "some of which are then counted for one"
            )
        again = zip(redrawn, _rates_redrawn(errors, paired, n_bootstrap, rng), strict=True)
        replicates = np.array([correct(drawn[:n], drawn_rates) for drawn, drawn_rates in again if drawn[:n].any()])
    table.loc[: n - 1, "share"] = counts[:n] / classified
    table.loc[: n - 1, "share_corrected"] = corrected
    table.loc[: n - 1, ["low", "high"]] = np.percentile(replicates, [2.5, 97.5], axis=0).T
    table.loc[n, ["low", "high"]] = np.percentile(redrawn[:, n] / looked_at, [2.5, 97.5])
    return Shares(table, notes, expected)


def _redrawn(counts: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap samples of counts, (n_bootstrap, len(counts))."""
    total = int(counts.sum())
    return (
        rng.multinomial(total, counts / max(total, 1), n_bootstrap)
        if total
        else np.zeros((n_bootstrap, len(counts)), int)
    )


def _rates(errors: Errors, paired: float) -> np.ndarray:
    """Rates, (n, n), as :func:`correct` wants them, of a sample of which the share ``paired`` was classified in pairs."""
    alone = _normalised(errors.alone)
    tested = errors.alone.any(axis=1)
    # Nothing is known of a class without test reads: it is taken for one without errors, as often classified as the others.
    usual = alone[tested].sum() / max(tested.sum(), 1)
    alone[~tested] = usual * np.eye(len(alone))[~tested]
    pairs = np.where(errors.pairs.any(axis=1)[:, None], _normalised(errors.pairs), alone)
    return (1 - paired) * alone + paired * pairs


def _normalised(confusion: np.ndarray) -> np.ndarray:
    """Shares of each row's reads, of those classified; rows without reads are zeros."""
    return confusion[:, :-1] / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def _rates_redrawn(errors: Errors, paired: float, n_bootstrap: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rates of bootstrap samples of the test reads of each class."""
    tables = [
        (table.sum(axis=1), table / np.maximum(table.sum(axis=1, keepdims=True), 1))
        for table in (errors.alone, errors.pairs)
    ]
    for total, shares in tables:
        # Without reads there is nothing to draw, but the probabilities must be some.
        shares[total == 0, -1] = 1
    for _ in range(n_bootstrap):
        yield _rates(Errors(*(rng.multinomial(*table) for table in tables), errors.mean_length), paired)


def _doubts(classes: Sequence[str], predicted: Predicted, errors: Errors, rates: np.ndarray) -> list[str]:
    """What stands against a correction by these rates."""
    notes = []
    names = np.array(classes, dtype=object)
    if len(untested := names[~errors.alone.any(axis=1)]):
        notes.append(f"no test reads of {_listed(untested)}: taken for classes without errors")
    classified = rates.sum(axis=1)
    if len(never := names[classified == 0]):
        notes.append(f"no test read of {_listed(never)} reaches the threshold of confidence: taken for absent")
    known = np.flatnonzero(classified)
    given = rates[known] / classified[known, None]
    if len(known) > 1 and np.linalg.cond(given) > _NEARLY_SINGULAR:
        unit = given / np.linalg.norm(given, axis=1, keepdims=True)
        alike = np.triu(unit @ unit.T, 1)
        one, other = names[known[list(np.unravel_index(alike.argmax(), alike.shape))]]
        notes.append(
            "the confusion matrix of the test reads is nearly singular: the classifier hardly tells "
            f"{one} from {other}, and neither can the corrected shares"
        )
    if not 1 / _ALIKE < predicted.mean_length / max(errors.mean_length, 1) < _ALIKE:
        other = "shorter" if predicted.mean_length < errors.mean_length else "longer"
        notes.append(
            f"its reads are {other} than the test reads ({errors.mean_length:.0f} bases on average): their errors may be "
            "others than those corrected for"
        )
    if predicted.pairs.any() and (tested := int(errors.pairs[:, :-1].sum())):
        precise = np.trace(errors.pairs) / tested
        notes.append(
            "errors on pairs are those of test reads of one source, joined two and two at random: "
            f"{tested / errors.pairs.sum():.1%} of them are classified, {precise:.1%} of these rightly"
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
