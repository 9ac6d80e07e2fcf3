"""The largest memory that a job held: of its process exactly, of the processes it started closely."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import psutil

#: Seconds between two looks at the processes that a job started.
INTERVAL = 2.0


class PeakMemory:
    """Watch a job's memory from its begin.

    The kernel keeps the peak of every living process. That of one that ended is lost: what it keeps of ended children
    (``ru_maxrss``) starts, for each, with the parent's own memory. So living children are looked at every two seconds.
    """

    def __init__(self) -> None:
        self._children = 0.0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="peak-memory")
        self._watcher.start()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(INTERVAL):
            self._look(me)

    def _look(self, me: psutil.Process) -> None:
        try:
            living = me.children(recursive=True)
        except psutil.Error:
            return
        self._children = max(self._children, sum(_peak(str(child.pid)) for child in living))

    def stop(self) -> float:
        """End the watch; the peak in MB: of the process and of the children that lived at a time."""
        self._ended.set()
        self._watcher.join()
        self._look(psutil.Process())
        own = _peak("self")
        # More than the parent ever held was held by a child itself, even by one that no look caught.
        short = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return own + max(self._children, short if short > own else 0.0)


def _peak(pid: str) -> float:
    """Largest resident memory of a living process (MB); 0 where there is none of that number any more."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) / 1024 if line else 0.0
