"""Training of read classifiers: what is learnt and kept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
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

from latentomics.embed.data import TrainingError
from latentomics.reads import loop, train
from latentomics.reads.saved import load_model
from latentomics.reads.store import TRAIN, VALIDATION, ReadStore

__all__ = ["motif", "store", "undisturbed"]


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
