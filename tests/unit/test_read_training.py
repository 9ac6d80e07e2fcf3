"""Training of read classifiers: what is learnt and kept, killed and resumed trainings, what is refused, learning curves."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentomics.config.classifier import Training
from latentomics.config.fingerprint import PACKAGE
from latentomics.embed.data import TrainingError
from latentomics.reads import curve, loop, train
from latentomics.reads.loader import n_batches
from latentomics.reads.loop import learning_rate
from latentomics.reads.models import registry
from latentomics.reads.saved import load_model
from latentomics.reads.store import TEST, TRAIN, VALIDATION, ReadStore, ReadStoreWriter
from latentomics.reads.train import train_model

#: All that a resumed training could get wrong: random strands, dropout, and statistics that are no weights.
NETWORK = """
from torch import nn
from latentomics.config.base import Section

TITLE = "Motif"

class Params(Section):
    channels: int = 8
    scale: float = 1.0

class Motif(nn.Module):
    def __init__(self, params, n_classes):
        super().__init__()
        self.scan, self.norm = nn.Conv1d(4, params.channels, 8), nn.BatchNorm1d(params.channels)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(params.channels, n_classes)
        self.scale = params.scale

    def forward(self, onehot, mask):
        found = self.norm(self.scan(onehot)).relu().amax(dim=2)
        return self.scale * self.head(self.drop(found))

def build(params, n_classes):
    return Motif(params, n_classes)
"""
MOTIFS = ("ACGTTGCA", "GGATCCAT", "TTAACCGG")
FIT = Training(batch_size=64, learning_rate=0.02, max_epochs=6, min_steps=1, patience=6)
STEPS = 10  # per epoch, of 600 reads


@pytest.fixture(autouse=True)
def motif(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Registers the network; the folder of its module."""
    folder = tmp_path_factory.getbasetemp() / "network"
    folder.mkdir(exist_ok=True)
    (folder / "motif_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(registry.MODELS, "motif", "motif_network")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return folder


def make_store(folder: Path, seed: int, n_classes: int = 3, learnable: bool = True) -> ReadStore:
    """1,000 reads of 30 to 50 bases: 600 to train, 200 each to validate and test.

    A class is a motif, on either strand; one label in ten is drawn at random.
    """
    rng = np.random.default_rng(seed)
    n, width = 1000, 50
    labels = rng.integers(0, n_classes, n)
    lengths = rng.integers(30, width + 1, n)
    codes = rng.integers(0, 4, (n, width)).astype(np.uint8)
    for row, label in enumerate(labels if learnable else rng.integers(0, n_classes, n)):
        word = np.array(["ACGT".index(base) for base in MOTIFS[label]])
        at = rng.integers(0, lengths[row] - 8)
        codes[row, at : at + 8] = word if rng.random() < 0.5 else 3 - word[::-1]
    codes[np.arange(width) >= lengths[:, None]] = 5
    labels = np.where(rng.random(n) < 0.1, rng.integers(0, n_classes, n), labels)
    writer = ReadStoreWriter(folder, n, width)
    writer.append(
        codes, lengths, labels, np.zeros(n, dtype=int), rng.permutation(np.repeat([0, 1, 2], [600, 200, 200]))
    )
    writer.close([f"class {i}" for i in range(n_classes)], ["s"], {"min_length": 30})
    return ReadStore(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ReadStore:
    return make_store(tmp_path_factory.mktemp("data"), seed=0)


def fitted(store: ReadStore, folder: Path, fit: Training = FIT, seed: int = 3, **more: Any) -> dict[str, Any]:
    params = registry.model("motif").Params(**more.pop("params", {}))
    more.setdefault("checkpoints", folder.parent / "checkpoints")
    return train_model("motif", store, params, fit, seed, 1, folder, **more)


def outcome(folder: Path) -> tuple[Any, ...]:
    """All that a training leaves behind, without the time it took."""
    described = json.loads((folder / "model.json").read_text())
    for timing in ("seconds", "reads_per_second", "share_waiting"):
        del described["training"][timing]
    history = pd.read_csv(folder / "history.tsv", sep="\t").drop(columns="seconds")
    return (folder / "weights.npz").read_bytes(), described, history.to_csv(float_format="%.17g")


@pytest.fixture(scope="module")
def undisturbed(store: ReadStore, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    made: list[Path] = []

    def run() -> Path:
        if not made:
            folder = tmp_path_factory.mktemp("undisturbed") / "model"
            fitted(store, folder, precision=0.9)
            made.append(folder)
        return made[0]

    return run


def test_it_learns_the_motifs_and_says_how_well(store: ReadStore, undisturbed: Callable[[], Path]) -> None:
    folder = undisturbed()
    described = json.loads((folder / "model.json").read_text())
    training, history = described["training"], pd.read_csv(folder / "history.tsv", sep="\t")
    assert training["validation_accuracy"] > 0.85, "a third by chance"
    assert list(history) == ["epoch", "step", "train", "validation", "accuracy", "seconds"]
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history["step"].tolist() == [STEPS * epoch for epoch in history["epoch"]]
    best = history.loc[history["validation"].idxmin()]
    assert training["best_epoch"] == best["epoch"]
    assert training["validation_loss"] == pytest.approx(best["validation"])
    assert {key: training[key] for key in ("n_train", "epochs", "seed", "stopped")} == {
        "n_train": 600,
        "epochs": 6,
        "seed": 3,
        "stopped": "at the limit of epochs",
    }
    assert "cpu" in training["device"] and training["reads_per_second"] > 0 and 0 <= training["share_waiting"] <= 1
    assert (described["model"], described["params"], described["width"], described["min_length"]) == (
        "motif",
        {"channels": 8, "scale": 1.0},
        50,
        30,
    )
    assert not (folder.parent / "checkpoints").exists(), "removed when all is done"


def test_temperature_and_threshold_are_those_of_the_validation_reads(
    store: ReadStore, undisturbed: Callable[[], Path], tmp_path: Path
) -> None:
    loaded = load_model(undisturbed())
    judged = store.batch(store.rows(VALIDATION))
    logits = loaded.logits(judged.codes, judged.lengths).astype(float)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(scaled)), judged.labels]).mean())

    temperature = loaded.facts["temperature"]
    assert loss(temperature) <= min(loss(temperature * 1.02), loss(temperature / 1.02))
    confidence = loaded.probabilities(judged.codes, judged.lengths).max(axis=1)
    passes = confidence >= loaded.facts["threshold"]
    assert (logits.argmax(axis=1) == judged.labels)[passes].mean() >= 0.9
    facts = fitted(store, tmp_path / "model", FIT.model_copy(update={"max_epochs": 1}))
    assert facts["threshold"] == 0, "none was asked for"


def test_another_seed_is_another_training(store: ReadStore, undisturbed: Callable[[], Path], tmp_path: Path) -> None:
    fitted(store, tmp_path / "same", precision=0.9)
    assert outcome(tmp_path / "same") == outcome(undisturbed())
    fitted(store, tmp_path / "other", seed=4, precision=0.9)
    assert outcome(tmp_path / "other")[0] != outcome(undisturbed())[0]


class PowerCut(BaseException):
    """Nothing catches it."""


def cut_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = loop._step_seed

    def seed_of(seed: int, now: int) -> int:
        if now == step:
            raise PowerCut
        return whole(seed, now)

    monkeypatch.setattr(loop, "_step_seed", seed_of)


def cut_when_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        raise PowerCut

    monkeypatch.setattr(train, "save_model", save)


@pytest.mark.parametrize(
    ("seconds", "step"),
    [
        (math.inf, 3),  # before the first checkpoint
        (math.inf, 2 * STEPS + 7),  # back to the end of the second epoch
        (0.0, 1),
        (0.0, 3 * STEPS),  # after an epoch and its validation
        (0.0, 4 * STEPS - 1),  # before the last step of one
        (0.0, 6 * STEPS - 1),
    ],
)
def test_killed_and_resumed_is_as_if_run_through(
    store: ReadStore,
    undisturbed: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    step: int,
) -> None:
    expected = outcome(undisturbed())
    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_SECONDS", seconds)
        cut_at_step(patched, step)
        with pytest.raises(PowerCut):
            fitted(store, tmp_path / "model", precision=0.9)
    assert not (tmp_path / "model").exists(), "nothing half-trained"
    begun = step if seconds == 0 else step // STEPS * STEPS
    assert resumed(store, tmp_path / "model", monkeypatch) == list(range(begun, 6 * STEPS)), "goes on at the checkpoint"
    assert outcome(tmp_path / "model") == expected
    assert not (tmp_path / "checkpoints").exists()


def test_killed_twice(
    store: ReadStore, undisturbed: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (STEPS + 4, 4 * STEPS + 2):
        with monkeypatch.context() as patched:
            patched.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
            cut_at_step(patched, step)
            with pytest.raises(PowerCut):
                fitted(store, tmp_path / "model", precision=0.9)
    fitted(store, tmp_path / "model", precision=0.9)
    assert outcome(tmp_path / "model") == outcome(undisturbed())


def test_killed_in_a_validation(
    store: ReadStore, undisturbed: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is that before the epoch's last step: Lightning would take one after it for a validated epoch."""
    whole, judged = torch.nn.functional.cross_entropy, []

    def loss(logits: torch.Tensor, labels: torch.Tensor, **more: Any) -> torch.Tensor:
        if more:
            judged.append(len(labels))
            if sum(judged) > 450:  # 200 reads in an epoch
                raise PowerCut
        return whole(logits, labels, **more)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        patched.setattr(torch.nn.functional, "cross_entropy", loss)
        with pytest.raises(PowerCut):
            fitted(store, tmp_path / "model", precision=0.9)
    assert resumed(store, tmp_path / "model", monkeypatch) == list(range(3 * STEPS - 1, 6 * STEPS))
    assert outcome(tmp_path / "model") == outcome(undisturbed())


def test_killed_between_training_and_saving(
    store: ReadStore, undisturbed: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        cut_when_saved(patched)
        with pytest.raises(PowerCut):
            fitted(store, tmp_path / "model", precision=0.9)
    assert resumed(store, tmp_path / "model", monkeypatch) == [], "not one step is left"
    assert outcome(tmp_path / "model") == outcome(undisturbed())


KILLED = """
import os, signal, sys
from pathlib import Path
from latentomics.config.classifier import Training
from latentomics.reads import loop, train
from latentomics.reads.models import registry
from latentomics.reads.store import ReadStore

registry.MODELS["motif"] = "motif_network"
whole = loop._step_seed
def seed_of(seed, step):
    if step == 23:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(seed, step)
loop._step_seed = seed_of
loop.CHECKPOINT_SECONDS = 0
store, folder, checkpoints, fit = sys.argv[1:]
train.train_model("motif", ReadStore(store), registry.model("motif").Params(), Training.model_validate_json(fit), 3, 1,
    Path(folder), Path(checkpoints), precision=0.9)
"""


def resumed(store: ReadStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train to the end; the steps that this took."""
    steps: list[int] = []
    whole = loop._step_seed
    monkeypatch.setattr(loop, "_step_seed", lambda seed, now: steps.append(now) or whole(seed, now))
    torch.manual_seed(99)  # another process has another state
    fitted(store, folder, precision=0.9)
    return steps


def test_a_killed_process(
    store: ReadStore, undisturbed: Callable[[], Path], motif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(store.path), str(tmp_path / "model"), str(tmp_path / "checkpoints"), FIT.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": f"{PACKAGE.parent}{os.pathsep}{motif}", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "model").exists()
    assert resumed(store, tmp_path / "model", monkeypatch) == list(range(23, 6 * STEPS))
    assert outcome(tmp_path / "model") == outcome(undisturbed())


def test_told_to_end(
    store: ReadStore, undisturbed: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM is what a scheduler sends before it kills: the step is finished and kept, even between two checkpoints."""
    whole = loop._step_seed

    def seed_of(seed: int, now: int) -> int:
        if now == 23:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(seed, now)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "_step_seed", seed_of)
            with pytest.raises(
                TrainingError, match=r"told to end \(SIGTERM\) in epoch 3.\n *Hint: run the workflow again"
            ):
                fitted(store, tmp_path / "model", precision=0.9)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert resumed(store, tmp_path / "model", monkeypatch) == list(range(24, 6 * STEPS))
    assert outcome(tmp_path / "model") == outcome(undisturbed())


def test_early_stopping_and_the_weights_of_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to learn, so that what is learnt by heart makes later epochs worse. Killed when it had stopped."""
    noise = make_store(tmp_path / "noise", seed=1, learnable=False)
    fit = FIT.model_copy(update={"max_epochs": 40, "patience": 3})
    with monkeypatch.context() as patched:
        cut_when_saved(patched)
        with pytest.raises(PowerCut):
            fitted(noise, tmp_path / "model", fit)
    monkeypatch.setattr(loop, "_step_seed", None)  # patience is at an end: no further step
    training = fitted(noise, tmp_path / "model", fit)["training"]
    assert training["epochs"] == training["best_epoch"] + 3 < 40
    assert training["stopped"].startswith("early")
    judged = noise.batch(noise.rows(VALIDATION))
    logits = load_model(tmp_path / "model").logits(judged.codes, judged.lengths).astype(float)
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), judged.labels]
    assert training["validation_loss"] == pytest.approx(loss.mean(), rel=1e-5)
    assert training["validation_accuracy"] == pytest.approx((logits.argmax(axis=1) == judged.labels).mean())


def interrupted(store: ReadStore, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int = 35, **more: Any) -> Path:
    """The checkpoint that an interrupted training leaves."""
    with monkeypatch.context() as patched:
        cut_at_step(patched, step)
        with pytest.raises(PowerCut):
            fitted(store, folder, **more)
    (checkpoint,) = (folder.parent / "checkpoints").iterdir()
    return checkpoint


def test_a_checkpoint_of_another_training_is_not_used(
    store: ReadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    fit = FIT.model_copy(update={"max_epochs": 2})
    checkpoint = interrupted(store, tmp_path / "one" / "model", monkeypatch, 15, fit=fit)
    fitted(store, tmp_path / "one" / "other", fit=fit, params={"scale": 2.0})
    fitted(store, tmp_path / "two" / "other", fit=fit, params={"scale": 2.0})
    assert outcome(tmp_path / "one" / "other") == outcome(tmp_path / "two" / "other")
    assert checkpoint.exists(), "it may still be wanted"


def test_what_makes_a_training_another_one(store: ReadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, rows, judged = registry.model("motif").Params(), store.rows(TRAIN), store.rows(VALIDATION)

    def key(**changes: Any) -> str:
        chosen = {
            "store": store,
            "rows": rows,
            "validation": judged,
            "params": params,
            "fit": FIT,
            "seed": 3,
            "n_classes": 3,
        } | changes
        network = registry.model("motif").build(chosen["params"], chosen.pop("n_classes"))
        return train._key("motif", network, **chosen)

    altered = make_store(tmp_path / "altered", seed=0)
    assert key(store=altered) == key(), "where the data lies does not matter"
    bases = np.load(altered.path / "bases.npy", mmap_mode="r+")
    bases[0, 0] ^= 0xFF
    bases.flush()
    keys = [
        key(),
        key(store=altered),
        key(rows=rows[1:]),
        key(validation=judged[1:]),
        key(params=params.model_copy(update={"scale": 2.0})),
        key(fit=FIT.model_copy(update={"weight_decay": 0.5})),
        key(seed=4),
        key(n_classes=4),
    ]
    monkeypatch.setattr(train, "fingerprint", lambda *_: "edited code")
    keys.append(key())
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "pickle"])
def test_a_damaged_checkpoint_is_left_aside(
    store: ReadStore,
    undisturbed: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    checkpoint = interrupted(store, tmp_path / "model", monkeypatch, precision=0.9)
    made = tmp_path / "made by a pickle"
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    else:
        whole = checkpoint.read_bytes()
        checkpoint.write_bytes(
            whole[: len(whole) // 2] if damage == "truncated" else pickle.dumps(Malicious(str(made)), 2)
        )
    fitted(store, tmp_path / "model", precision=0.9)
    assert outcome(tmp_path / "model") == outcome(undisturbed())
    assert not made.exists()
    assert (checkpoint.name in capfd.readouterr().out) == (damage != "foreign")


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_loss_that_is_no_number(store: ReadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    if when == "later":  # noticed within a long epoch, not at its end
        monkeypatch.setattr(loop, "_LOOK", 3)
        cut_at_step(monkeypatch, 5)
    with pytest.raises(TrainingError, match=r"motif: .*not a finite number in epoch 1(.|\n)*Hint: .*learning_rate"):
        fitted(store, tmp_path / "model", params={"scale": 1e38})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("n_train", [0, 1])
def test_too_few_reads(store: ReadStore, tmp_path: Path, n_train: int) -> None:
    with pytest.raises(TrainingError, match=f"{n_train} training(.|\n)*Hint"):
        fitted(store, tmp_path / "model", rows=store.rows(TRAIN)[:n_train])
    assert not (tmp_path / "model").exists()


def test_fewer_reads_are_validated_on_fewer(store: ReadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "FEWEST_VALIDATION", 30)
    every = store.rows(VALIDATION)
    np.testing.assert_array_equal(train._validation_rows(store, 1.0), every)
    np.testing.assert_array_equal(train._validation_rows(store, 0.4), every[:80])
    np.testing.assert_array_equal(train._validation_rows(store, 0.01), every[:30])
    facts = fitted(store, tmp_path / "model", FIT.model_copy(update={"max_epochs": 1}), rows=store.rows(TRAIN)[:240])
    judged = store.batch(every[:80])
    logits = load_model(tmp_path / "model").logits(judged.codes, judged.lengths)
    assert facts["training"]["validation_accuracy"] == pytest.approx((logits.argmax(axis=1) == judged.labels).mean())
    assert facts["training"]["n_train"] == 240


@given(st.integers(1, 30_000))
def test_the_learning_rate_rises_and_falls(n_steps: int) -> None:
    rates = np.array([learning_rate(step, n_steps) for step in range(n_steps)])
    top = int(rates.argmax())
    assert rates.max() == pytest.approx(1) and rates.min() > 0
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert top < max(0.1 * n_steps, 1) and top < 2000
    assert learning_rate(n_steps, n_steps) == pytest.approx(0, abs=1e-12), "what the scheduler sets after the last step"


def test_learning_rates_worked_out_by_hand() -> None:
    assert [learning_rate(step, 100) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(9 + 45, 99 + 1) == pytest.approx(0.5 + 0.5 * math.cos(math.pi * 45 / 91))
    assert learning_rate(0, 1) == 1


@given(st.integers(1, 5000), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_subsets_are_nested(n: int, one: float, other: float) -> None:
    rows = np.arange(n) * 3
    small, large = curve.subset(rows, min(one, other)), curve.subset(rows, max(one, other))
    np.testing.assert_array_equal(small, large[: len(small)])
    assert len(small) >= 1 and abs(len(large) - max(one, other) * n) <= 1


@pytest.mark.parametrize(
    ("n_rows", "epochs", "patience"),
    [
        (100_000, 15, 3),  # 196 steps per epoch: 2,940 in all, enough
        (10_000, 50, 10),  # 20 per epoch: 300, to 1,000 by 10/3
        (100, 1000, 200),  # one
    ],
)
def test_few_reads_are_trained_as_long(n_rows: int, epochs: int, patience: int) -> None:
    longer = train.stretched(Training(batch_size=512, max_epochs=15, patience=3), n_rows)
    assert (longer.max_epochs, longer.patience) == (epochs, patience)
    assert longer.max_epochs * n_batches(n_rows, 512) >= 1000


def test_a_learning_curve(store: ReadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    whole = train.train_model

    def spied(name: str, store: ReadStore, params: Any, fit: Any, *rest: Any) -> dict[str, Any]:
        used.append(rest[-1])
        return whole(name, store, params, fit, *rest)

    monkeypatch.setattr(train, "train_model", spied)
    params, fit = registry.model("motif").Params(), FIT.model_copy(update={"max_epochs": 3})
    arguments = (store, [0.001, 0.01, 0.9], params, fit, 4, 200, 3, 1, tmp_path / "checkpoints")
    table = curve.learning_curve("motif", *arguments)
    assert list(table) == [
        *("model", "share", "n_train", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "seconds")
    ]
    assert table["n_train"].tolist() == [6, 540], "one read is of one class: left out"
    for rows, n in zip(used, (6, 540), strict=True):
        np.testing.assert_array_equal(rows, store.rows(TRAIN)[:n])
    assert (table["accuracy_low"] < table["accuracy"]).all() and (table["accuracy"] < table["accuracy_high"]).all()
    assert table["accuracy"].iloc[1] > table["accuracy"].iloc[0] + 0.2, "more reads, more learnt"
    assert not (tmp_path / "checkpoints").exists()
    majority = curve.learning_curve("majority", *arguments)
    labels = store.labels[store.rows(TEST)]
    expected = [
        (labels == np.bincount(store.labels[store.rows(TRAIN)[:n]], minlength=3).argmax()).mean() for n in (6, 540)
    ]
    assert majority["accuracy"].tolist() == pytest.approx(expected)
    assert (majority["model"] == "majority").all()
