"""Trainings of read classifiers that are killed and resumed, and checkpoints that are not used."""

from __future__ import annotations

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
import pytest
import torch
from read_training_cases import (
    FIT,
    STEPS,
    PowerCut,
    cut_at_step,
    cut_when_saved,
    fitted,
    make_store,
    motif,
    outcome,
    store,
    undisturbed,
)

from latentomics.config.fingerprint import PACKAGE
from latentomics.embed.data import TrainingError
from latentomics.reads import loop, train
from latentomics.reads.models import registry
from latentomics.reads.store import TRAIN, VALIDATION, ReadStore

__all__ = ["motif", "store", "undisturbed"]


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
