"""How a rule's script runs: what it prints goes to its log, what it uses is recorded, failures say what to do."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


@contextmanager
def job(snakemake: Any, what: str) -> Iterator[None]:
    """Redirect output (also of libraries written in C) to the log; end a failed job with one clear paragraph.

    Under Slurm, GPUs that the rule did not ask for are hidden. What the job uses is recorded
    (:mod:`latentomics.resources.usage`).

    Parameters
    ----------
    snakemake
        What Snakemake gives a script. The folder of its log is made.
    what
        The rule and its wildcards, for the message.
    """
    log = str(snakemake.log[0])
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    _flush()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    # By its name, so that no rule's code hash covers it: how use is predicted and recorded changes no result.
    usage = import_module("latentomics.resources.usage")
    usage.hide_gpus(snakemake.resources)
    try:
        with usage.recorded(snakemake):
            yield
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
        # Lightning ends a training that is told to stop (SIGTERM) as if all were done.
        print(f"{what} was told to stop before it was done.", flush=True)
        sys.exit(1)
    except Exception as error:
        _flush()
        from latentomics.embed.data import TrainingError
        from latentomics.problems import InputError

        if isinstance(error, (InputError, TrainingError)):
            print(f"{what} failed.\n{error}", flush=True)
        else:
            traceback.print_exc()
            print(
                f"{what} failed: {type(error).__name__}: {error}\n"
                "    Hint: this is not a fault of the input that the workflow knows; the lines above say where it "
                "arose.",
                flush=True,
            )
        sys.exit(1)


def _flush() -> None:
    """Keep what was printed in its order: standard output waits in a buffer, errors do not."""
    sys.stdout.flush()
    sys.stderr.flush()
