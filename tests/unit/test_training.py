"""How long networks train, on what, and what is refused."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.embed.data import TrainingError
from latentomics.embed.training import TrainingParams, check_history, schedule, training_summary, use_device

PARAMS = st.builds(
    TrainingParams,
    batch_size=st.integers(16, 4096),
    max_epochs=st.integers(1, 1000),
    min_steps=st.integers(1, 100_000),
    max_steps=st.integers(1, 1_000_000),
)


def history(train: list[float], held_out: list[float]) -> pd.DataFrame:
    epochs = range(1, len(train) + 1)
    return pd.DataFrame({"epoch": epochs, "step": [3 * e for e in epochs], "train": train, "held_out": held_out})


@given(PARAMS, st.integers(1, 10_000_000))
@settings(max_examples=300, deadline=None)
def test_the_floor_is_reached_and_the_limits_hold_above_it(params: TrainingParams, n_train: int) -> None:
    steps = math.ceil(n_train / params.batch_size)
    least, most = schedule(params, n_train)
    assert 1 <= least <= most
    assert least * steps >= params.min_steps > (least - 1) * steps, "just enough epochs for the fewest steps"
    if most > least:
        assert most <= params.max_epochs
        assert most * steps <= params.max_steps or most == 1


@pytest.mark.parametrize(
    ("n_train", "expected"),
    [
        (100, (2000, 2000)),  # one step per epoch: the floor overrides max_epochs
        (1280, (200, 400)),  # ten steps: 400 epochs are 4,000 steps
        (128_000, (2, 60)),  # a thousand: max_steps allows 60 epochs
        (12_800_000, (1, 1)),  # one epoch is more than max_steps
    ],
)
def test_schedules_worked_out_by_hand(n_train: int, expected: tuple[int, int]) -> None:
    params = TrainingParams(batch_size=128, max_epochs=400, min_steps=2000, max_steps=60_000)
    assert schedule(params, n_train) == expected


def test_without_a_gpu_the_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    try:
        assert use_device(2) == ("cpu", "cpu (2 threads)")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_with_a_gpu_its_name_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    assert use_device(1) == ("gpu", "gpu (Some GPU)")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", ["train", "held_out"])
def test_a_loss_that_is_not_finite_is_refused_with_its_first_epoch(bad: float, column: str) -> None:
    losses = history([3.0, 2.0, 1.0, 1.0], [3.0, 2.0, 1.0, 1.0])
    losses.loc[2:, column] = bad
    with pytest.raises(TrainingError, match=r"(?s)scvi: .*in epoch 3\..*Hint: lower `embeddings\.scvi\.learning_rate`"):
        check_history(losses, "scvi")


def test_a_training_without_any_epoch_is_refused_and_no_epoch_invented() -> None:
    with pytest.raises(TrainingError, match=r"autoencoder: the loss is not a finite number\.\n"):
        check_history(history([], []), "autoencoder")


def test_finite_losses_pass() -> None:
    check_history(history([1e30, -5.0], [0.0, -1e30]), "scvi")


def test_the_summary_names_the_best_epoch_and_the_reason_to_stop() -> None:
    losses = history([5.0, 4.0, 3.0, 2.0], [5.0, 2.5, 3.0, 4.0])
    early, full = training_summary(losses, 10, "loss"), training_summary(losses, 4, "loss")
    assert (early["best_epoch"], early["held_out_loss"]) == (2, 2.5)
    assert (early["n_epochs"], early["n_steps"], early["loss_name"]) == (4, 12, "loss")
    assert early["stopped"].startswith("early")
    assert full["stopped"] == "at the limit of epochs"
