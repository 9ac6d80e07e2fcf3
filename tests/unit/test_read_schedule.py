"""How long and how fast read classifiers learn: learning rates, few reads, learning curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_training_cases import FIT, motif, store

from latentomics.config.classifier import Training
from latentomics.reads import curve, train
from latentomics.reads.loader import n_batches
from latentomics.reads.loop import learning_rate
from latentomics.reads.models import registry
from latentomics.reads.store import TEST, TRAIN, ReadStore

__all__ = ["motif", "store"]


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
