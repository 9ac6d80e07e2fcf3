"""What runs share: the package with their jobs, and the study's folder with runs that died in it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path


def share_package(folder: str) -> None:
    """Let every job's Python find the package of this checkout first, installed or not."""
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *inherited])


def share_cores() -> None:
    """Let threads of a job that wait for each other soon go to sleep, unless the site says otherwise.

    By default GNU's OpenMP lets them spin for milliseconds. Where a core has another job too, a network then trains at a
    tenth of the speed. Some microseconds cost nothing on idle cores, where sleeping at once (``OMP_WAIT_POLICY=PASSIVE``)
    would cost a fifth of the speed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def remember_run(record: Path) -> None:
    """Note which process holds the lock of the study's folder."""
    import psutil

    record.parent.mkdir(parents=True, exist_ok=True)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}
    record.write_text(json.dumps(me) + "\n")


def drop_dead_lock(record: Path, locks: Path) -> bool:
    """Remove Snakemake's lock if the run that :func:`remember_run` noted is dead, so that the same command resumes it.

    A run that was killed cannot remove its lock, and a lock does not say whose it is. Nothing is removed if the run was on
    another host, if its process lives, or if nothing is known of it.

    Returns
    -------
    bool
        Whether a lock was removed.
    """
    import psutil

    try:
        run = json.loads(record.read_text())
        host, pid, started = run["host"], int(run["pid"]), float(run["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if host != socket.gethostname() or not locks.is_dir():
        return False
    try:
        # A process id is given out again in time; the start time tells the two apart.
        alive = abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.Error:
        alive = False
    held = list(locks.glob("*.lock"))
    if alive or not held:
        return False
    for lock in held:
        lock.unlink(missing_ok=True)
    return True
