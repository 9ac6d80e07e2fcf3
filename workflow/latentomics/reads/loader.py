"""Minibatches from a store of reads, for training and for everything that is computed over many reads.

Rows lie on disk in the order of a hash of their bases: every stretch is a random sample already. To show the reads in
another order in every epoch it is therefore enough to shuffle long blocks of rows, to read many blocks as one window into
memory (still packed: 40 bytes a read), each in one run, and to shuffle the reads within the window. A store that fits into
one window is permuted completely by the very same steps, so that there is one way for both; a larger one is read at the
speed of sequential access, where a full permutation would fetch one page of the disk per read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from latentomics.reads.bases import unpack
from latentomics.reads.store import Batch, ReadStore

T = TypeVar("T")
#: Consecutive rows that stay together until their window is shuffled: 370 kB of bases of 90 base reads.
BLOCK = 1 << 14
#: Reads of a window, at most (more only if one batch is larger).
WINDOW = 1 << 19
#: Batches made in advance.
DEPTH = 8
_END = object()


def n_batches(n_rows: int, batch_size: int) -> int:
    return -(-n_rows // batch_size)


def batches(
    store: ReadStore, rows: np.ndarray, batch_size: int, seed: int | None = None, epoch: int = 0, start: int = 0
) -> Iterator[Batch]:
    """Batches of some reads, each as wide as its longest read.

    All batches of a pass have the same number of reads, but for one: no read is left out, and no small last batch disturbs
    batch normalisation or the mean of the losses.

    Parameters
    ----------
    rows
        Row numbers, (n,); ascending ones are read fastest.
    batch_size
        Most reads of a batch.
    seed
        Of the order of the reads; None keeps the order of ``rows``.
    epoch
        Every epoch has its own order, which depends on nothing but ``seed``, ``epoch``, ``rows`` and ``batch_size``.
    start
        Batches to pass over: those that an interrupted epoch has seen.
    """
    n = n_batches(len(rows), batch_size)
    edges = np.arange(n + 1) * len(rows) // max(n, 1)
    in_window = max(WINDOW // batch_size, 1)
    layout = _Blocks(len(rows), seed, epoch)
    for first in range(start - start % in_window, n, in_window):
        bounds = edges[first : first + in_window + 1]
        chosen = rows[layout.positions(bounds[0], bounds[-1])]
        # Copies in memory: what follows touches the disk no more.
        bases, unknown, lengths, labels = (
            np.asarray(array.take(chosen, axis=0))
            for array in (store.bases, store.unknown, store.lengths, store.labels)
        )
        order = np.arange(len(chosen))
        if seed is not None:
            np.random.default_rng([seed, epoch, 1, first]).shuffle(order)
        for a, b in list(pairwise(bounds - bounds[0]))[max(start - first, 0) :]:
            which = order[a:b]
            bases_long = lengths[which].astype(np.int64)
            width = int(bases_long.max(initial=1))
            codes = unpack(bases.take(which, axis=0), unknown.take(which, axis=0), bases_long, width)
            yield Batch(codes, bases_long, labels[which].astype(np.int64))


class _Blocks:
    """The blocks of n positions in the order of an epoch."""

    def __init__(self, n: int, seed: int | None, epoch: int):
        blocks = np.arange(-(-n // BLOCK))
        if seed is not None:
            np.random.default_rng([seed, epoch, 0]).shuffle(blocks)
        self.first = blocks * BLOCK
        sizes = np.minimum(n - self.first, BLOCK)
        self.end = np.cumsum(sizes)
        self.begin = self.end - sizes

    def positions(self, low: int, high: int) -> np.ndarray:
        """The positions that stand from ``low`` to ``high`` in the epoch's order of blocks, sorted."""
        touched = np.flatnonzero((self.end > low) & (self.begin < high))
        pieces = [
            self.first[block]
            + np.arange(max(low - self.begin[block], 0), min(high, self.end[block]) - self.begin[block])
            for block in touched[np.argsort(self.first[touched])]
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def prefetch(items: Iterator[T], depth: int = DEPTH) -> Iterator[T]:
    """The same items, made in advance by one background thread; what it raises is raised here.

    A thread is enough, and costs no copies between processes: NumPy and torch release the interpreter's lock while they
    work on arrays.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    try:
        waiting = deque(pool.submit(next, items, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, items, _END))
            yield item
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Loader:
    """What Lightning iterates over once per epoch: tensors ``(codes, lengths, labels)`` of :func:`batches`.

    It goes on where it stopped: its position, part of a checkpoint, is that of the next batch.

    Parameters
    ----------
    seed
        None: the order of ``rows``, the same in every epoch.
    pin
        Put the batches into page-locked memory, from which a GPU fetches them while it computes.

    Attributes
    ----------
    waited
        Seconds that whoever iterates has waited for batches.
    """

    def __init__(self, store: ReadStore, rows: np.ndarray, batch_size: int, seed: int | None = None, pin: bool = False):
        self.store, self.rows, self.batch_size, self.seed, self.pin = store, rows, batch_size, seed, pin
        self.epoch = self.done = 0
        self.waited = 0.0

    def __len__(self) -> int:
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        made = batches(self.store, self.rows, self.batch_size, self.seed, self.epoch, self.done)
        source = prefetch(map(self._tensors, made))
        while True:
            began = time.perf_counter()
            batch = next(source, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            self.done += 1
            if self.done == len(self):
                # Lightning counts batches and does not come back for the end of the iteration.
                self.epoch, self.done = self.epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.done = state["epoch"], state["done"]

    def _tensors(self, batch: Batch) -> tuple[Any, Any, Any]:
        import torch

        tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in batch]
        codes, lengths, labels = (tensor.pin_memory() for tensor in tensors) if self.pin else tensors
        return codes, lengths, labels
