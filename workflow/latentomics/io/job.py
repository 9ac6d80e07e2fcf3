"""How a rule's script runs: everything it prints goes to its log, and expected failures say what to do."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def job(log: str, what: str) -> Iterator[None]:
    """Redirect output (also of libraries written in C) to ``log``; end a failed job with one clear paragraph.

    Parameters
    ----------
    log
        The rule's log file; its folder is made.
    what
        The rule and its wildcards, for the message.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    _flush()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
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
