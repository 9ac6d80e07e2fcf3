"""What in a read speaks for its class: integrated gradients of a trained network, summarised as sequence logos.

Integrated gradients (Sundararajan et al. 2017, ICML, equation 1; by captum) divide the difference between what the network
says of a read and what it says of a baseline among the bases of the read, completely: the attributions of a read add up
to that difference.

What is explained is the contrast of the read's true class: its logit minus the mean logit of the other classes. Softmax
ignores whatever is added to all logits alike, so only differences of logits mean anything; this one is linear in them,
does not saturate like a probability, and with two classes is the log odds.

The baseline has all four bases in equal parts (0.25 each) at every known position. Then the attribution of a position is
the path's mean gradient for the base that stands there minus the mean of those for all four: the part of a gradient that
points out of the simplex of one-hot vectors, which is noise, cancels (the correction of Majdandzic et al. 2023, Genome
Biology 24:109), and completeness holds nevertheless. Shuffled reads as baseline would need many of them per read and an
answer that depends on how they fell; all zeros is no distribution over bases and lets that noise in. An unknown base
stays as it is on the whole path and gets nothing, and so does the length of the read, which the baseline shares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.problems import InputError, Problem
from latentomics.reads.bases import LETTERS, N, reverse_complement
from latentomics.reads.motifs import ALPHA, Motif, find_motifs
from latentomics.reads.store import TEST, Batch, ReadStore

#: Bases shown from each end of the reads.
ANCHORED = 15
#: Points of the Gauss-Legendre rule: reads whose attributions do not add up are done again with the next number.
STEPS = (16, 64, 256)
#: Attributions add up when they miss the difference by at most this share of it, or this many logits if it is below 1.
#: What is missed is mostly scale: relative to each other, bases are attributed alike long before.
TOLERANCE = 0.1
#: Bases that go through the network at once.
_BASES_AT_ONCE = 16384
#: Most reads of other classes that motifs are compared with.
_MOST_OTHERS = 200_000


@dataclass(frozen=True)
class Attributions:
    """Integrated gradients of n reads.

    Attributes
    ----------
    values
        Attribution of each position, logits, float32, (n, width); zero where no known base stands.
    contrast, baseline
        Contrast of the true class for the read and for its baseline, logits, float64, (n,).
    steps
        Points of the path that were used, int64, (n,).
    """

    values: np.ndarray
    contrast: np.ndarray
    baseline: np.ndarray
    steps: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """By how much the attributions miss completeness, relative to what :data:`TOLERANCE` is relative to; (n,)."""
        difference = self.contrast - self.baseline
        missed = np.abs(self.values.sum(axis=1, dtype=np.float64) - difference)
        return missed / np.maximum(np.abs(difference), 1)


def contrast(logits: Any, labels: Any) -> Any:
    """Logit of a class minus the mean of the others, (n,), from logits (n, classes) and labels (n,); torch tensors."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - (logits.sum(dim=1) - own) / (logits.shape[1] - 1)


def integrated_gradients(network: Any, reads: Batch) -> Attributions:
    """Attribute the contrast of each read's class to its bases.

    Parameters
    ----------
    network
        A :class:`~latentomics.reads.models.strands.BothStrands` of at least two classes, in evaluation mode; it computes
        where its weights are.
    reads
        Reads and their true classes. Memory beyond the result does not grow with their number.
    """
    rows = max(_BASES_AT_ONCE // reads.codes.shape[1], 1)
    blocks = [
        _attribute(network, Batch(*(part[start : start + rows] for part in reads)), rows)
        for start in range(0, len(reads.codes), rows)
    ]
    fields = ("values", "contrast", "baseline", "steps")
    return Attributions(*(np.concatenate([getattr(block, field) for block in blocks]) for field in fields))


def _attribute(network: Any, reads: Batch, rows: int) -> Attributions:
    """Attributions of a block of at most ``rows`` reads, which is what goes through the network at once."""
    import torch
    from captum.attr import IntegratedGradients
    from torch import nn

    from latentomics.reads.models.strands import to_onehot

    device = next(network.parameters()).device
    codes, lengths, labels = (torch.from_numpy(part).to(device) for part in reads)
    onehot, mask = to_onehot(codes, lengths)
    baseline = onehot.sum(dim=1, keepdim=True).expand_as(onehot) / 4

    def target(onehot: Any, mask: Any, labels: Any) -> Any:
        return contrast(network.from_onehot(onehot, mask), labels)

    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    # cuDNN has no gradients of recurrent layers in evaluation mode; reduced precision would break completeness.
    with torch.backends.cudnn.flags(enabled=not recurrent, deterministic=True, allow_tf32=False):
        with torch.no_grad():
            ends = [target(point, mask, labels).double().cpu().numpy() for point in (onehot, baseline)]
        done = Attributions(np.zeros(codes.shape, dtype=np.float32), *ends, np.zeros(len(codes), dtype=np.int64))
        todo = np.arange(len(codes))
        for steps in STEPS:
            which = torch.from_numpy(todo).to(device)
            per_base = IntegratedGradients(target).attribute(
                onehot[which],
                baselines=baseline[which],
                additional_forward_args=(mask[which], labels[which]),
                n_steps=steps,
                method="gausslegendre",
                internal_batch_size=rows,
            )
            done.values[todo] = per_base.sum(dim=1).float().cpu().numpy()
            done.steps[todo] = steps
            todo = np.flatnonzero(done.error > TOLERANCE)
            if not len(todo):
                break
    return done


@dataclass(frozen=True)
class Anchored:
    """Sums over reads seen from the 5' end of both of their strands, for the first :data:`ANCHORED` bases.

    A stored read may be either strand of its molecule, so each read is counted twice, as stored and as its reverse
    complement: both ends of a read are the 5' end of one strand. Seen from the 3' ends everything is the mirror image:
    the last bases of one strand are the complements of the first bases of the other.

    Attributes
    ----------
    values
        Sum of attributions per position and base, float64, (ANCHORED, 4).
    bases
        How often each base stands there, int64, (ANCHORED, 4).
    strands
        Strands that are long enough to have the position, int64, (ANCHORED,).
    """

    values: np.ndarray
    bases: np.ndarray
    strands: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean attribution x base over all strands that reach the position, logits, (ANCHORED, 4).

        A row adds up to the mean attribution of its position: a base counts by its effect and by how often it stands
        there.
        """
        return self.values / np.maximum(self.strands, 1)[:, None]


def anchored(reads: Batch, values: np.ndarray) -> Anchored:
    """Add up attributions, (n, width), by their distance from the reads' ends, over both strands."""
    codes, lengths, _ = reads
    width = min(ANCHORED, codes.shape[1])
    mirrored = np.maximum(lengths[:, None] - 1 - np.arange(width), 0)
    first = np.concatenate([codes[:, :width], reverse_complement(codes, lengths)[:, :width]])
    scores = np.concatenate([values[:, :width], np.take_along_axis(values, mirrored, axis=1)]).astype(np.float64)
    sums, counts = np.zeros((ANCHORED, 4)), np.zeros((ANCHORED, 4), dtype=np.int64)
    for base in range(4):
        here = first == base
        sums[:width, base] = np.where(here, scores, 0).sum(axis=0)
        counts[:width, base] = here.sum(axis=0)
    strands = np.zeros(ANCHORED, dtype=np.int64)
    strands[:width] = 2 * (lengths[:, None] > np.arange(width)).sum(axis=0)
    return Anchored(sums, counts, strands)


def attribute_model(model: Any, store: ReadStore, n_reads: int, seed: int, folder: Path) -> None:
    """Explain a model on test reads; writes ``logos.tsv`` and ``summary.json``.

    ``logos.tsv`` has one row per class, anchor, position and base. Anchor ``start``: positions 1, 2, ... from the 5' end;
    ``end``: ..., -2, -1 to the 3' end (both over both strands, :class:`Anchored`); ``value`` is the mean attribution x
    base, ``frequency`` and ``frequency_others`` the share of the base in the reads of the class and of the others.
    ``motif1`` to ``motif3``: columns of the motifs (:mod:`~latentomics.reads.motifs`); value and frequency are over the
    stretches of reads that were aligned, ``frequency_others`` is empty.

    Parameters
    ----------
    model
        As :func:`latentomics.reads.saved.load_model` gives it.
    store
        The reads that the model was trained and is judged on.
    n_reads
        Test reads per class, at least 1; drawn without replacement. A class without test reads is left out.
    seed
        Of the draw and of the motifs' null distribution.
    folder
        Is made.

    Raises
    ------
    InputError
        The classes of the store are not those of the model, or there are no test reads.
    """
    classes = list(model.classes)
    if classes != store.classes:
        raise InputError(
            Problem(
                str(store.path / "data.json"),
                f"the reads have the classes {_few(store.classes)}, the model has {_few(classes)}",
                "explain a model on the data that it was trained on.",
                key="classes",
            )
        )
    rows = _draw(store, n_reads, np.random.default_rng(seed))
    if not any(map(len, rows)):
        raise InputError(
            Problem(
                str(store.path / "data.json"),
                "there are no test reads to explain",
                "raise `classifier.split.test`, or name sources that have reads in `classifier.split.test_sources`.",
            )
        )
    ends: dict[int, Anchored] = {}
    motifs: dict[int, list[Motif]] = {}
    facts: dict[int, dict] = {}
    for c in np.flatnonzero([len(r) for r in rows]):
        reads = store.batch(rows[c])
        found = integrated_gradients(model.network, reads)
        ends[c] = anchored(reads, found.values)
        motifs[c] = find_motifs(reads.codes, found.values, _others(store, rows, c), len(classes), seed)
        facts[c] = _facts(reads, found, motifs[c])
        print(f"{classes[c]}: {len(reads.codes)} reads, {len(motifs[c])} motif(s)", flush=True)
    summary = {
        "format": 1,
        "method": "integrated gradients",
        "target": "logit of the true class minus the mean logit of the others",
        "baseline": "each base 0.25 at every known position",
        "seed": seed,
        "positions": ANCHORED,
        "tolerance": TOLERANCE,
        "alpha": ALPHA,
        "classes": {classes[c]: facts[c] for c in facts},
    }
    logos = pd.concat(list(_logos(classes, ends, motifs)), ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    logos.to_csv(folder / "logos.tsv", sep="\t", index=False, float_format="%.6g")
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")


def _draw(store: ReadStore, n_reads: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of at most ``n_reads`` test reads of each class, ascending."""
    test = store.rows(TEST)
    labels = store.labels[test]
    drawn = []
    for c in range(len(store.classes)):
        mine = test[labels == c]
        drawn.append(np.sort(rng.choice(mine, min(n_reads, len(mine)), replace=False)))
    return drawn


def _others(store: ReadStore, rows: list[np.ndarray], c: int) -> np.ndarray:
    """Codes of the drawn reads of all classes but one, equally many of each; rows of a store are in random order."""
    most = -(-_MOST_OTHERS // max(len(rows) - 1, 1))
    others = np.concatenate([r[:most] for i, r in enumerate(rows) if i != c])
    return store.codes(others) if len(others) else np.zeros((0, store.width), dtype=np.uint8)


def _facts(reads: Batch, found: Attributions, motifs: list[Motif]) -> dict:
    """What ``summary.json`` says of a class; attributions in logits."""
    steps, n_steps = np.unique(found.steps, return_counts=True)
    return {
        "reads": len(reads.codes),
        "contrast": _rounded(found.contrast.mean()),
        "contrast_baseline": _rounded(found.baseline.mean()),
        "error_median": _rounded(np.median(found.error)),
        "error_max": _rounded(found.error.max()),
        "incomplete": int((found.error > TOLERANCE).sum()),
        "steps": {str(s): int(n) for s, n in zip(steps, n_steps, strict=True)},
        "strength": _strength(reads, found.values),
        "motifs": [
            {
                "name": f"motif{i}",
                "consensus": motif.consensus,
                "seqlets": motif.seqlets,
                "reads": motif.reads,
                "reads_tested": motif.reads_tested,
                "share": _rounded(motif.share),
                "share_others": _rounded(motif.share_others),
                "p_value": float(f"{motif.p_value:.3g}"),
            }
            for i, motif in enumerate(motifs, 1)
        ],
    }


def _strength(reads: Batch, values: np.ndarray) -> dict:
    """Mean absolute attribution of a base by its distance from the nearer end: the first positions, and further in."""
    position = np.arange(reads.codes.shape[1])
    distance = np.minimum(position, reads.lengths[:, None] - 1 - position)
    known = reads.codes < N
    # Bases further in share the last bin.
    bins = np.minimum(distance, ANCHORED)[known]
    total = np.bincount(bins, weights=np.abs(values[known]), minlength=ANCHORED + 1)
    mean = total / np.maximum(np.bincount(bins, minlength=ANCHORED + 1), 1)
    return {"ends": [_rounded(m) for m in mean[:ANCHORED]], "middle": _rounded(mean[ANCHORED])}


def _logos(classes: list[str], ends: dict[int, Anchored], motifs: dict[int, list[Motif]]) -> Iterator[pd.DataFrame]:
    """The tables of all logos, class by class."""
    every = sum(end.bases for end in ends.values())
    for c, end in ends.items():
        mean, own, others = end.mean, _shares(end.bases), _shares(every - end.bases)
        steps = np.arange(1, ANCHORED + 1)
        yield _logo(classes[c], "start", steps, mean, own, others)
        # A 0, C 1, G 2, T 3: the complement of a base is its mirror image among the four.
        yield _logo(classes[c], "end", -steps[::-1], *(table[::-1, ::-1] for table in (mean, own, others)))
        for i, motif in enumerate(motifs[c], 1):
            columns = np.arange(1, len(motif.weights) + 1)
            unknown = np.full(motif.weights.shape, np.nan)
            yield _logo(classes[c], f"motif{i}", columns, motif.weights, motif.frequencies, unknown)


def _logo(
    label: str, anchor: str, positions: np.ndarray, value: np.ndarray, frequency: np.ndarray, others: np.ndarray
) -> pd.DataFrame:
    """One logo as a long table; the arrays are (positions, 4)."""
    return pd.DataFrame(
        {
            "class": label,
            "anchor": anchor,
            "position": np.repeat(positions, 4),
            "base": np.tile([chr(letter) for letter in LETTERS[:4]], len(positions)),
            "value": value.ravel(),
            "frequency": frequency.ravel(),
            "frequency_others": others.ravel(),
        }
    )


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts, (positions, 4), as shares of their row; NaN where there are none."""
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
