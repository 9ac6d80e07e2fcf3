"""The training loop that the house's own networks share: Lightning, minibatches from sparse rows, the best weights kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from latentomics.embed.data import EmbeddingData
from latentomics.embed.stored import minibatches
from latentomics.embed.training import TrainingParams, check_history, refusal, schedule

#: Rows that are moved to an accelerator at a time.
BLOCK_ROWS = 1 << 16

#: Loss of a minibatch, mean over its observations: network, dense rows, their numbers, epoch (from 0) -> scalar tensor.
Loss = Callable[[Any, Any, Any, int], Any]


class Batches(NamedTuple):
    """Minibatches, each of dense rows and their numbers.

    Attributes
    ----------
    train
        In another order in every pass.
    held_out
        What the training is judged by.
    n_train
        Observations trained on.
    """

    train: Any
    held_out: Any
    n_train: int


def batches_of(data: EmbeddingData, batch_size: int, seed: int, accelerator: str) -> Batches:
    """Minibatches of the normalised observations, densified one by one: never a dense copy of the data.

    Parameters
    ----------
    seed
        Of the order of observations that are on an accelerator or are read from their store; of others it is torch's.
    accelerator
        Lightning's name. On a GPU all values stay there if there is room.
    """
    from latentomics.embed.resident import resident_rows

    n_train = int((~data.held_out).sum())
    # Batch normalisation needs more than one observation in every training batch.
    odd_one = n_train > batch_size and n_train % batch_size == 1
    resident = resident_rows((values for _, values in data.normalised_blocks(BLOCK_ROWS)), accelerator)
    if resident is not None:
        return Batches(*_gathered(resident, data.held_out, batch_size, seed, odd_one), n_train)
    if data.stored:
        parts = minibatches(data.counts, data.held_out, batch_size, seed, data.normaliser, odd_one)
        return Batches(*map(_Dense, parts), n_train)
    return Batches(
        _loader(data.normalised, ~data.held_out, batch_size=batch_size, shuffle=True, drop_last=odd_one),
        _loader(data.normalised, data.held_out, batch_size=batch_size),
        n_train,
    )


def _gathered(resident: Any, held_out: np.ndarray, batch_size: int, seed: int, drop_last: bool) -> tuple[Any, Any]:
    """Minibatches of the observations to train on, and of the others, gathered on their device."""
    import torch

    from latentomics.embed.resident import Minibatches, RowOrder

    def dense(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return resident.take(rows).dense(), torch.from_numpy(rows).to(resident.device)

    train = RowOrder(np.flatnonzero(~held_out), batch_size, seed, drop_last)
    return Minibatches(train, dense), Minibatches(RowOrder(np.flatnonzero(held_out), batch_size, None), dense)


class _Dense:
    """Stored minibatches, densified."""

    def __init__(self, batches: Any):
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        import torch

        for values, rows in self._batches:
            yield torch.from_numpy(values.toarray()), torch.from_numpy(rows)


def _loader(rows: Any, keep: np.ndarray, **options: Any) -> Any:
    """torch's loader of some rows (CSR), one slice of them for each minibatch."""
    import torch

    kept = np.flatnonzero(keep)

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(kept)

        def __getitems__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            which = kept[index]
            return torch.from_numpy(rows[which].toarray()), torch.from_numpy(which)

    return torch.utils.data.DataLoader(Rows(), collate_fn=lambda batch: batch, **options)


def train_network(
    name: str,
    network: Any,
    loss: Loss,
    batches: Batches,
    params: TrainingParams,
    accelerator: str,
    weight_decay: float,
) -> tuple[pd.DataFrame, int]:
    """Train a network on the observations that are not held out; afterwards it has the weights of the best epoch.

    Parameters
    ----------
    network
        A torch module; moved to the accelerator for the training and back.
    batches
        What it sees; the loss of the held-out ones decides when to stop and which weights are kept.
    params
        Also has ``learning_rate``.

    Returns
    -------
    history, max_epochs
        Columns ``epoch step train held_out``; and the limit of epochs that was set.

    Raises
    ------
    TrainingError
        The loss became NaN or infinite, or a CPU would take longer than the site's limit.
    """
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network
            self.losses: list[dict] = []
            self.best: tuple[float, dict] = (np.inf, {})
            self.total, self.seen = 0.0, 0

        def training_step(self, batch):
            value = loss(self.net, *batch, self.current_epoch)
            # Added up where it is: to ask for the value would make an accelerator wait at every step.
            self.total = self.total + value.detach().double() * len(batch[0])
            self.seen += len(batch[0])
            return value

        def validation_step(self, batch):
            value = loss(self.net, *batch, self.current_epoch)
            self.log("held_out", value, on_epoch=True, batch_size=len(batch[0]))

        def on_train_epoch_end(self):
            held = float(self.trainer.callback_metrics["held_out"])
            epoch = self.current_epoch + 1
            mean = float(self.total) / self.seen
            self.total, self.seen = 0.0, 0
            self.losses.append({"epoch": epoch, "step": self.global_step, "train": mean, "held_out": held})
            if held < self.best[0]:
                self.best = (held, {k: v.detach().clone() for k, v in self.net.state_dict().items()})
            if epoch % 10 == 0:
                print(f"{name}: epoch {epoch}, train {mean:.5f}, held-out {held:.5f}", flush=True)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=params.learning_rate, weight_decay=weight_decay, fused=True)

    module = Module()
    min_epochs, max_epochs = schedule(params, batches.n_train)

    class Patience(EarlyStopping):
        """Lightning's, but a plateau before ``min_epochs`` that was overcome by then does not end the training."""

        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.current_epoch + 1 < min_epochs:
                trainer.should_stop = self.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC

    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=max_epochs,
        callbacks=[
            Patience("held_out", patience=params.patience, check_on_train_epoch_end=True),
            refusal(name, params, min_epochs, max_epochs),
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, batches.train, batches.held_out)
    history = pd.DataFrame(module.losses)
    check_history(history, name)
    network.load_state_dict(module.best[1])
    network.cpu().eval()
    return history, max_epochs
