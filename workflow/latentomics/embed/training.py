"""How long networks are trained, on which device, and what is kept of the training."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from pydantic import Field

from latentomics.config.base import Section
from latentomics.embed.data import TrainingError
from latentomics.time_limit import cpu_time_limit


class TrainingParams(Section):
    """Parameters that every trained method shares."""

    batch_size: int = Field(128, ge=16, le=65536, description="Observations per optimiser step.")
    max_epochs: int = Field(300, ge=1, description="Most passes over the data.")
    min_steps: int = Field(
        1000,
        ge=1,
        description="Fewest optimiser steps before early stopping may end the training: with little data an epoch is "
        "a handful of steps, with much data the usual epoch heuristic is a fraction of one.",
    )
    max_steps: int = Field(
        60000, ge=1, description="Most optimiser steps (but at least one epoch): large data converge within few epochs."
    )
    patience: int = Field(30, ge=1, description="Epochs without a better held-out loss after which the training stops.")


def schedule(params: TrainingParams, n_train: int) -> tuple[int, int]:
    """Number of epochs, at least and at most.

    Returns
    -------
    min_epochs, max_epochs
        Enough epochs for ``min_steps``; no more than ``max_epochs`` or ``max_steps`` allow, but never fewer than
        ``min_epochs``: the floor wins, so that small data is trained to convergence too.
    """
    steps = max(math.ceil(n_train / params.batch_size), 1)
    least = math.ceil(params.min_steps / steps)
    most = max(min(params.max_epochs, params.max_steps // steps), least, 1)
    return least, most


def use_device(threads: int) -> tuple[str, str]:
    """Choose the accelerator.

    Returns
    -------
    accelerator, device
        Lightning's name (``gpu`` or ``cpu``) and a description for people.
    """
    import torch

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return "gpu", f"gpu ({torch.cuda.get_device_name(0)})"
    return "cpu", f"cpu ({threads} threads)"


def refusal(name: str, params: TrainingParams, min_epochs: int, max_epochs: int, hint: str | None = None) -> Any:
    """A Lightning callback that refuses a training if it would take too long on a CPU; ``hint`` if no embedding's."""
    least = min(max(min_epochs, params.patience + 1), max_epochs)
    hint = hint or f"train it less (`max_epochs`, `min_steps` and `patience` of `embeddings.{name}`)"
    return cpu_time_limit(name, (least, max_epochs), hint)


def check_history(history: pd.DataFrame, method: str) -> None:
    """Refuse a training whose loss is not finite.

    Raises
    ------
    TrainingError
        Names the epoch where one was recorded, and what usually helps.
    """
    losses = history[["train", "held_out"]]
    bad = history.loc[~losses.map(math.isfinite).all(axis=1), "epoch"]
    if len(bad) or history.empty:
        where = f" in epoch {int(bad.iloc[0])}" if len(bad) else ""
        raise TrainingError(
            f"{method}: the loss is not a finite number{where}.\n"
            f"    Hint: lower `embeddings.{method}.learning_rate`, and look in the QC table for cells with "
            "extreme counts."
        )


def training_summary(history: pd.DataFrame, max_epochs: int, loss_name: str) -> dict:
    """Facts about a finished training, for the report."""
    best = int(history["held_out"].idxmin())
    ended_early = len(history) < max_epochs
    return {
        "n_epochs": len(history),
        "n_steps": int(history["step"].iloc[-1]),
        "best_epoch": int(history.loc[best, "epoch"]),
        "held_out_loss": round(float(history.loc[best, "held_out"]), 8),
        "loss_name": loss_name,
        "stopped": "early: the held-out loss no longer fell" if ended_early else "at the limit of epochs",
    }
