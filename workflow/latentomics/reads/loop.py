"""The Lightning loop behind a training: steps, checkpoints, early stopping, the best weights.

Every step draws from a generator seeded by its number, so that a training that was killed ends with the same weights.
"""

from __future__ import annotations

import math
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentomics.embed.data import TrainingError
from latentomics.reads.loader import Loader
from latentomics.time_limit import cpu_time_limit

#: Within an epoch a checkpoint is written this often.
CHECKPOINT_SECONDS = 300.0
#: The learning rate rises over this share of all steps, at most over so many; then it falls as a cosine.
WARM_UP, MOST_WARM_UP_STEPS = 0.1, 2000
#: Gradients are scaled to this norm where theirs is larger.
CLIP = 1.0
#: Steps between two looks at whether the loss is still a number.
_LOOK = 200
_STATE = "latentomics"


def learning_rate(step: int, n_steps: int) -> float:
    """Learning rate of a step (from 0), relative to the highest: linear warm-up, then a cosine down to zero.

    Loshchilov and Hutter 2017 (ICLR, "SGDR"), without restarts.
    """
    warm = min(math.ceil(WARM_UP * n_steps), MOST_WARM_UP_STEPS)
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm + 1) / (n_steps - warm + 1))


def run_training(
    name: str, network: Any, train: Loader, validation: Loader, fit: Any, seed: int, accelerator: str, checkpoint: Path
) -> pd.DataFrame:
    """Train a network in place, from a checkpoint if there is one; it ends with the best weights, on the CPU.

    Returns
    -------
    DataFrame
        The columns of ``history.tsv``, and per epoch ``training`` (seconds without validation) and ``waited`` (seconds
        spent waiting for training reads).

    Raises
    ------
    TrainingError
        The loss is not finite, a CPU would take longer than the site's limit, or the training was told to end.
    """
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.utilities.exceptions import SIGTERMException
    from torch.nn.functional import cross_entropy

    n_steps = fit.max_epochs * len(train)

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network
            self.history: list[dict[str, float]] = []
            self.best: tuple[float, dict[str, Any]] = (math.inf, {})
            #: Summed loss and number of reads; with correct predictions in between for the validation.
            self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))
            self.register_buffer("judged", torch.zeros(3, dtype=torch.float64), persistent=False)
            self.spent = self.began = self.training_ended = 0.0

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(
                self.network.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay
            )
            rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, n_steps))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

        def on_train_start(self):
            self.began = time.monotonic()

        def on_train_batch_start(self, batch, index):
            # Every step has its own stream of random strands and dropout: nothing to remember but the step's number.
            torch.manual_seed(_step_seed(seed, self.global_step))

        def training_step(self, batch, index):
            codes, lengths, labels = batch
            loss = cross_entropy(self.network(codes, lengths), labels)
            self.seen[0] += loss.detach() * len(labels)
            self.seen[1] += len(labels)
            if index % _LOOK == _LOOK - 1:
                self.check(float(self.seen[0]))
            return loss

        def on_validation_epoch_start(self):
            self.training_ended = time.monotonic()
            self.judged.zero_()

        def validation_step(self, batch, index):
            codes, lengths, labels = batch
            logits = self.network(codes, lengths)
            self.judged[0] += cross_entropy(logits.float(), labels, reduction="sum")
            self.judged[1] += (logits.argmax(dim=1) == labels).sum()
            self.judged[2] += len(labels)

        def on_validation_epoch_end(self):
            self.log("validation", self.judged[0] / self.judged[2])

        def on_train_epoch_end(self):
            loss, right, judged = self.judged.tolist()
            total, reads = self.seen.tolist()
            now = time.monotonic()
            row = {
                "epoch": len(self.history) + 1,
                "step": self.global_step,
                "train": total / reads,
                "validation": loss / judged,
                "accuracy": right / judged,
                "seconds": round(self.spent + now - self.began, 3),
                "training": self.spent + self.training_ended - self.began,
                "waited": train.waited,
            }
            self.check(row["train"])
            self.check(row["validation"])
            self.history.append(row)
            if row["validation"] < self.best[0]:
                weights = {key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()}
                self.best = (row["validation"], weights)
            self.seen.zero_()
            self.spent, self.began, train.waited = 0.0, now, 0.0
            print(
                f"{name}: epoch {row['epoch']} of at most {fit.max_epochs}, train {row['train']:.4f}, "
                f"validation {row['validation']:.4f}, accuracy {row['accuracy']:.4f}, "
                f"{reads / max(row['training'], 1e-9):,.0f} reads/s",
                flush=True,
            )

        def check(self, loss: float) -> None:
            if not math.isfinite(loss):
                raise TrainingError(
                    f"{name}: the loss is not a finite number in epoch {len(self.history) + 1}.\n"
                    "    Hint: lower `classifier.fit.learning_rate`."
                )

        def on_save_checkpoint(self, state):
            state[_STATE] = {
                "history": self.history,
                "best": self.best,
                "loader": train.state_dict(),
                "spent": self.spent + time.monotonic() - self.began,
                "waited": train.waited,
                "stop": self.trainer.should_stop,
            }

        def on_load_checkpoint(self, state):
            mine = state[_STATE]
            self.history, self.best, self.spent = mine["history"], mine["best"], mine["spent"]
            train.load_state_dict(mine["loader"])
            train.waited = mine["waited"]
            # Early stopping is not asked again about an epoch that was judged before the interruption.
            self.trainer.should_stop = mine["stop"]
            print(
                f"{name}: goes on after {len(self.history)} epochs and {train.done} of {len(train)} steps", flush=True
            )

    class Keeper(Checkpoint):
        """One checkpoint: the latest. Whole at any time, because it is written beside and then moved."""

        def __init__(self):
            self.written = time.monotonic()

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            late = time.monotonic() - self.written >= CHECKPOINT_SECONDS
            # The end of an epoch has its own, after the validation.
            if (late or trainer.received_sigterm) and train.done:
                self.write(trainer)
                print(f"{name}: epoch {len(module.history) + 1}, step {train.done} of {len(train)}", flush=True)

        def on_train_epoch_end(self, trainer, module):
            self.write(trainer)

        def write(self, trainer):
            partial = checkpoint.with_suffix(".partial")
            trainer.save_checkpoint(partial, weights_only=False)
            os.replace(partial, checkpoint)
            self.written = time.monotonic()

    module = Module()
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=_precision(accelerator),
        max_epochs=fit.max_epochs,
        gradient_clip_val=CLIP,
        callbacks=[
            EarlyStopping("validation", patience=fit.patience, check_on_train_epoch_end=True),
            Keeper(),
            cpu_time_limit(
                name,
                (min(fit.patience + 1, fit.max_epochs), fit.max_epochs),
                "train it less (`max_epochs`, `min_steps` and `patience` of `classifier.fit`)",
            ),
        ],
        # One process, whatever a scheduler's variables say; resubmission is the workflow's.
        plugins=[LightningEnvironment()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    resumed = checkpoint if _readable(checkpoint) else None
    try:
        trainer.fit(module, train, validation, ckpt_path=resumed, weights_only=True)
    except SIGTERMException as error:
        # Lightning would end the process as if all were done.
        raise TrainingError(
            f"{name}: the training was told to end (SIGTERM) in epoch {len(module.history) + 1}.\n"
            "    Hint: run the workflow again, with more time if that was what lacked; the training goes on where it was."
        ) from error
    network.load_state_dict(module.best[1])
    network.cpu().eval()
    return pd.DataFrame(module.history)


def _precision(accelerator: str) -> str:
    import torch

    if accelerator != "gpu":
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def _readable(checkpoint: Path) -> bool:
    """Whether there is a whole checkpoint; a damaged one is said and left aside."""
    import torch

    if not checkpoint.is_file():
        return False
    try:
        return _STATE in torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        print(f"{checkpoint.name} is damaged ({type(error).__name__}); the training begins anew", flush=True)
        return False


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
