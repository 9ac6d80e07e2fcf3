"""Work on one piece while the next is being read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Piece = TypeVar("Piece")


def ahead(make: Callable[[Key], Piece], keys: Iterable[Key]) -> Iterator[Piece]:
    """``make(key)`` of every key in order, each made in a thread while the caller works on the one before.

    Reading and decompressing leave the interpreter free, so that both go on at once. Two pieces are in memory: the caller's,
    and the next.

    Parameters
    ----------
    make
        Called from one thread, in the order of the keys. What it raises is raised where its piece was due.
    """
    remaining = iter(keys)
    with ThreadPoolExecutor(1) as pool:

        def start() -> Future[Piece] | None:
            return next((pool.submit(make, key) for key in remaining), None)

        upcoming = start()
        while upcoming is not None:
            piece = upcoming.result()
            upcoming = start()
            yield piece
