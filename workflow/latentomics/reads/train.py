"""Training of the networks: one loop for all, by Lightning; it can be killed at any time and goes on where it was.

The loss is the plain cross-entropy, classes unweighted: it makes the outputs probabilities at the class frequencies of the
training data, which temperature, threshold and the correction of a sample's shares build upon, and it is what the
baselines minimise. Weights by inverse frequency would distort all of these and be no way to a better macro-F1 either: rare
classes are then predicted far too often. (Classes of 90, 9 and 1 %, Gaussian with their means 2 standard deviations from
the origin on axes of their own, classified by the exact posterior: macro-F1 is 0.75 unweighted, 0.73 and 0.60 with
weights of the inverse square root and the inverse frequency.) Flexible networks end up nearly the same with any weights
(Byrd and Lipton 2019, ICML, "What is the effect of importance weighting in deep learning?"). Who wants rare classes to
count as much as frequent ones levels the data: ``max_reads_per_class``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.config.base import Section
from latentomics.config.fingerprint import fingerprint
from latentomics.embed.data import TrainingError
from latentomics.embed.training import use_device
from latentomics.reads.calibration import choose_threshold, confidences, fit_temperature
from latentomics.reads.loader import Loader, n_batches
from latentomics.reads.loop import run_training
from latentomics.reads.models.registry import MODELS, model
from latentomics.reads.saved import LoadedModel, save_model
from latentomics.reads.store import TRAIN, VALIDATION, ReadStore

#: Columns of ``history.tsv``; losses are mean cross-entropies (nats), ``accuracy`` is that of the validation reads.
HISTORY = ("epoch", "step", "train", "validation", "accuracy", "seconds")
#: Validation reads, at least, where a model is trained on a share of the training reads.
FEWEST_VALIDATION = 2000
#: Validation reads behind temperature and threshold, at most.
MOST_CALIBRATION = 500_000


def train_model(
    name: str,
    store: ReadStore,
    params: Section,
    fit: Any,
    seed: int,
    threads: int,
    folder: Path,
    checkpoints: Path,
    rows: np.ndarray | None = None,
    precision: float | None = None,
) -> dict[str, Any]:
    """Train a registered network and save it with the weights of the epoch of the lowest validation loss.

    On a CPU the result depends on nothing but the arguments, however often the training was interrupted.

    Parameters
    ----------
    params
        ``Params`` of the model.
    fit
        The config's ``classifier.fit``, a :class:`~latentomics.config.classifier.Training`.
    folder
        Gets ``model.json``, ``weights.npz`` and ``history.tsv`` when the training is done.
    checkpoints
        A folder that outlives a killed job. A checkpoint in it is of these very arguments and data, or not used. It is
        removed in the end.
    rows
        Training reads, rows of the store; all by default. With fewer of them there are fewer validation reads too: as
        large a share, but :data:`FEWEST_VALIDATION` if there are as many.
    precision
        Wanted of the reads above the threshold of confidence (fraction). None: no threshold is sought, all reads pass.

    Returns
    -------
    dict
        What ``model.json`` says.

    Raises
    ------
    TrainingError
        Fewer than two training reads, no validation reads, or a loss that is not finite.
    """
    import torch

    from latentomics.reads.models.strands import BothStrands

    accelerator, device = use_device(threads)
    everything = store.rows(TRAIN)
    rows = everything if rows is None else rows
    validation = _validation_rows(store, len(rows) / max(len(everything), 1))
    if len(rows) < 2 or not len(validation):
        raise TrainingError(
            f"{name}: {len(rows)} training and {len(validation)} validation reads, at least 2 and 1 are needed.\n"
            "    Hint: give more reads, or larger shares in `classifier.split` and `classifier.curve`."
        )
    torch.manual_seed(seed)
    network = BothStrands(model(name).build(params, len(store.classes)))
    fit = stretched(fit, len(rows))
    key = _key(name, network, store, rows, validation, params, fit, seed)
    checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoints / f"{name}-{key}.ckpt"
    pin = accelerator == "gpu"
    loaders = (
        Loader(store, rows, fit.batch_size, seed, pin=pin),
        # Without gradients, and both strands at once: memory allows as many reads.
        Loader(store, validation, fit.batch_size, pin=pin),
    )
    epochs = run_training(name, network, *loaders, fit, seed, accelerator, checkpoint)
    facts: dict[str, Any] = {
        "model": name,
        "params": params.model_dump(),
        "classes": store.classes,
        "width": store.width,
        "min_length": int(store.facts.get("min_length") or store.lengths[rows].min()),
        **_calibration(network, store, validation, precision, accelerator),
        "training": {"n_train": len(rows), **_summary(epochs, fit, len(rows)), "device": device, "seed": seed},
    }
    described = save_model(folder, network, facts)
    epochs[list(HISTORY)].to_csv(folder / "history.tsv", sep="\t", index=False)
    checkpoint.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others may have theirs in it
        checkpoints.rmdir()
    return described


def stretched(fit: Any, n_rows: int) -> Any:
    """The settings of a training for so many reads: with few of them more epochs, so that the network is trained at all.

    An epoch of a thousand reads is two steps, and a dozen epochs would hardly move a network from its initial weights: a
    learning curve would show that, and not what the reads are worth. Epochs and patience grow by the same factor: that
    which gives ``min_steps`` steps.
    """
    steps = fit.max_epochs * n_batches(n_rows, fit.batch_size)
    # Rounded up, in whole numbers.
    longer = {name: -(-getattr(fit, name) * max(fit.min_steps, steps) // steps) for name in ("max_epochs", "patience")}
    return fit.model_copy(update=longer)


def _validation_rows(store: ReadStore, share: float) -> np.ndarray:
    # The first rows of a split are a random sample of it.
    rows = store.rows(VALIDATION)
    return rows[: max(math.ceil(share * len(rows)), FEWEST_VALIDATION)]


def _key(
    name: str,
    network: Any,
    store: ReadStore,
    rows: np.ndarray,
    validation: np.ndarray,
    params: Section,
    fit: Any,
    seed: int,
) -> str:
    """Hash of all that a training depends on; rows are in the order of a hash, so the first ones tell other reads."""
    code = fingerprint(Path(__file__), [MODELS[name]])
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    said = [code, name, store.facts, params.model_dump(), fit.model_dump(), seed, shapes]
    digest = hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16)
    for array in (rows, validation, store.labels, store.bases[: 1 << 16], store.lengths[: 1 << 16]):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _calibration(
    network: Any, store: ReadStore, validation: np.ndarray, precision: float | None, accelerator: str
) -> dict[str, float | None]:
    """Temperature and threshold of confidence, from validation reads."""
    rows = validation[:MOST_CALIBRATION]
    if accelerator == "gpu":
        network.cuda()
    trained = LoadedModel(network, {"classes": store.classes, "width": store.width})
    blocks = (store.batch(rows[start : start + (1 << 14)]) for start in range(0, len(rows), 1 << 14))
    logits = np.concatenate([trained.logits(block.codes, block.lengths) for block in blocks])
    network.cpu()
    labels = store.labels[rows].astype(np.int64)
    temperature = fit_temperature(logits, labels)
    if precision is None:
        return {"temperature": temperature, "threshold": 0.0}
    correct = logits.argmax(axis=1) == labels
    return {
        "temperature": temperature,
        "threshold": choose_threshold(confidences(logits, temperature), correct, precision).value,
    }


def _summary(epochs: pd.DataFrame, fit: Any, n_train: int) -> dict[str, Any]:
    best = epochs.loc[epochs["validation"].idxmin()]
    training = max(float(epochs["training"].sum()), 1e-9)
    early = len(epochs) < fit.max_epochs
    return {
        "epochs": len(epochs),
        "best_epoch": int(best["epoch"]),
        "seconds": round(float(epochs["seconds"].sum()), 3),
        "stopped": "early: the validation loss no longer fell" if early else "at the limit of epochs",
        "validation_loss": float(best["validation"]),
        "validation_accuracy": float(best["accuracy"]),
        "reads_per_second": round(n_train * len(epochs) / training, 1),
        "share_waiting": round(float(epochs["waited"].sum()) / training, 4),
    }
