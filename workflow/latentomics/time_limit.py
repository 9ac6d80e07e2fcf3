"""Networks on a CPU: they train there too, unless that takes longer than anyone would wait.

A training that cannot end in time is refused in its first minute, with an estimate. Before early stopping nobody knows
how long a training takes; it is refused if already the least that it will do is too long.

``LATENTOMICS_CPU_HOURS`` in the environment of the jobs sets the limit (hours; ``inf``: none). It is a fact of the site,
which its profile or the user's shell knows, and no part of the config: it changes no result.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from latentomics.embed.data import TrainingError

#: Longest training on a CPU (hours) where the site says nothing.
LONGEST_ON_CPU_HOURS = 12.0
VARIABLE = "LATENTOMICS_CPU_HOURS"
#: The first steps allocate and compile: they are not timed.
WARM_UP_STEPS = 5
#: Steps and seconds that are timed, at least.
TIMED_STEPS, TIMED_SECONDS = 20, 10.0


def longest_on_cpu() -> float:
    """The limit of this site (hours).

    Raises
    ------
    TrainingError
        The variable holds no positive number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return LONGEST_ON_CPU_HOURS
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not hours > 0:
        raise TrainingError(
            f"{VARIABLE} is {text!r} in the environment, not a positive number of hours.\n"
            f"    Hint: unset it (the limit is then {LONGEST_ON_CPU_HOURS:g}), or set a number or `inf`."
        )
    return hours


def refuse_if_too_long(what: str, hours: float, hint: str) -> None:
    """Refuse what would take longer on this CPU than the site's limit.

    Parameters
    ----------
    what
        Method, and sample where there is one; begins the message.
    hours
        Estimate of the whole time (hours).
    hint
        How to make it shorter, a clause such as ``lower `embeddings.scvi.max_epochs```.

    Raises
    ------
    TrainingError
        With the estimate, the limit, and what can be done.
    """
    limit = longest_on_cpu()
    if hours > limit:
        raise TrainingError(
            f"{what}: there is no GPU here, and on this CPU it takes at least {_words(hours)}; the limit is "
            f"{_words(limit)}.\n"
            f"    Hint: run it on a node with a GPU (on a cluster: `--profile slurm`), {hint}, or raise the limit by "
            f"setting {VARIABLE}."
        )


def cpu_time_limit(what: str, epochs: tuple[int, int], hint: str, clock: Callable[[], float] = time.monotonic) -> Any:
    """A Lightning callback that times the first steps on a CPU, and refuses a training that is too long.

    Nothing happens on a GPU. A training that goes on from a checkpoint is judged by what is left of it.

    Parameters
    ----------
    what, hint
        As of :func:`refuse_if_too_long`.
    epochs
        Epochs that the training does at least, before early stopping may end it, and at most.
    clock
        Seconds, from any origin.

    Returns
    -------
    lightning.pytorch.callbacks.Callback
        It raises :class:`TrainingError` out of the training.
    """
    from lightning.pytorch.callbacks import Callback

    class CpuTimeLimit(Callback):
        def __init__(self) -> None:
            self.steps, self.began, self.judged = 0, 0.0, False

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if self.judged or trainer.strategy.root_device.type != "cpu":
                return
            self.steps += 1
            if self.steps <= WARM_UP_STEPS:
                self.began = clock()
                return
            timed, seconds = self.steps - WARM_UP_STEPS, clock() - self.began
            if timed < TIMED_STEPS or seconds < TIMED_SECONDS:
                return
            self.judged = True
            least, most = (
                max(n * trainer.num_training_batches - trainer.global_step, 0) * seconds / timed / 3600 for n in epochs
            )
            print(f"{what}: {seconds / timed:.2g} s per step, {_words(least)} to {_words(most)} to go", flush=True)
            refuse_if_too_long(what, least, hint)

    return CpuTimeLimit()


def _words(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} seconds"
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:.1f} hours" if hours < 10 else f"{hours:,.0f} hours"
