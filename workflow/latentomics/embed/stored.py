"""Counts of the selected features that stay on disk: in order, and as minibatches in a shuffled order.

An embedding that cannot have all counts in memory reads them from the store, every pass anew: memory is then fixed, whatever
the number of observations. Reading runs in a thread beside the work on what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latentomics.io.ahead import ahead

if TYPE_CHECKING:
    from latentomics.io.store import CountsStore

#: Memory for the counts of the selected features (bytes). More than that stays on disk.
MEMORY = 1 << 30

#: Rows that are read in one go where the order does not matter: neighbours on disk, dealt out over a pool.
RUN = 2048

#: Memory of a pool of rows to shuffle (bytes), if all features were selected. Two exist at a time, one in use and one that
#: is made, and copies of the latter while it is shuffled.
POOL = 1 << 29

#: What a non-zero count takes in memory (bytes): the count and its column.
_ENTRY = 8

#: Counts (CSR) of some rows, and which they are -> values (CSR).
Transform = Callable[[Any, Any], Any]


class StoredCounts:
    """Counts of some features of a store, left there.

    Parameters
    ----------
    store
        Counts of all features.
    columns
        Numbers of the chosen features, ascending.

    Attributes
    ----------
    shape
        Observations x chosen features.
    dtype
        Of the counts.
    """

    def __init__(self, store: CountsStore, columns: np.ndarray):
        self._store = store
        self._column = np.full(store.shape[1], -1, dtype=np.int32)
        self._column[columns] = np.arange(len(columns))
        self.shape: tuple[int, int] = (store.shape[0], len(columns))
        self.dtype = np.dtype(np.int32 if store.values == "counts" else np.float32)

    def rows(self, start: int, stop: int) -> Any:
        """Rows ``start`` to ``stop``, CSR."""
        return self._chosen(self._store.block(start, stop))

    def blocks(self, transform: Transform | None = None) -> Iterator[tuple[slice, Any]]:
        """All rows in order, block by block: which they are, and their counts, or what they are transformed to, CSR."""

        def chosen(part: tuple[slice, Any]) -> tuple[slice, Any]:
            counts = self._chosen(part[1])
            return part[0], counts if transform is None else transform(counts, part[0])

        return ahead(chosen, self._store.blocks())

    def read(self, keep: np.ndarray | None = None, most: float = np.inf) -> Any:
        """Some rows in memory, CSR; None where they would take more than ``most`` bytes.

        Parameters
        ----------
        keep
            Boolean mask of the rows, (n_obs,); all if None.
        """
        from scipy.sparse import csr_matrix

        from latentomics.io.matrices import stack

        parts, size = [], 0
        for where, block in self.blocks():
            parts.append(block if keep is None else block[keep[where]])
            size += parts[-1].nnz * _ENTRY
            if size > most:
                return None
        return stack(parts) if parts else csr_matrix((0, self.shape[1]), dtype=self.dtype)

    @property
    def n_pools(self) -> int:
        """In how many parts, each as large as a pool, the rows are read."""
        return max(-(-self._store.n_nonzero * _ENTRY // POOL), 1)

    def _chosen(self, block: Any) -> Any:
        """The chosen columns of a block: a look-up, several times faster than scipy's indexing."""
        from scipy.sparse import csr_matrix

        column = self._column[block.indices]
        chosen = np.flatnonzero(column >= 0)
        starts = np.searchsorted(chosen, block.indptr)
        return csr_matrix((block.data[chosen], column[chosen], starts), shape=(block.shape[0], self.shape[1]))


class Minibatch(NamedTuple):
    """Some observations.

    Attributes
    ----------
    values
        Observations x features, CSR.
    rows
        Their numbers.
    """

    values: Any
    rows: np.ndarray

    def of(self, which: Any) -> Minibatch:
        return Minibatch(self.values[which], self.rows[which])

    def cut(self, size: int) -> Iterator[Minibatch]:
        """Into minibatches of that many observations; the last one may be smaller."""
        return (self.of(slice(start, start + size)) for start in range(0, len(self.rows), size))


class Shuffled:
    """Minibatches of stored observations in a random order, another one in every pass.

    A pass draws the order of the runs of rows, reads so many of them as a pool holds, shuffles its rows, and cuts them into
    minibatches; what is left over goes to the next pool. An observation thus meets those of some hundred places of the
    store, not of all. ``benchmarks/loader.py`` measures what that does to the training.

    Parameters
    ----------
    counts
        What is on disk.
    keep
        Boolean mask of the observations to take, (n_obs,).
    batch_size
        Observations in a minibatch, fewer in the last one.
    seed
        Of the orders.
    transform
        Applied to the counts (CSR) of some rows (their numbers), once per pool, in the thread that reads.
    drop_last
        Leave out the last minibatch if it is smaller.
    """

    def __init__(
        self,
        counts: StoredCounts,
        keep: np.ndarray,
        batch_size: int,
        seed: int,
        transform: Transform,
        drop_last: bool = False,
    ):
        self._counts, self._keep, self._batch_size = counts, keep, batch_size
        self._seed, self._transform, self._drop_last = seed, transform, drop_last
        self._passes = count()

    def __len__(self) -> int:
        n_kept = int(self._keep.sum())
        return n_kept // self._batch_size if self._drop_last else -(-n_kept // self._batch_size)

    def __iter__(self) -> Iterator[Minibatch]:
        rng = np.random.default_rng([self._seed, next(self._passes)])
        starts = rng.permutation(np.arange(0, self._counts.shape[0], RUN))
        pools = np.array_split(starts, min(self._counts.n_pools, len(starts)))
        left: list[Minibatch] = []

        def shuffled(number: int) -> Minibatch:
            """Whole minibatches; the rest of the rows is left for the next pool, if there is one."""
            found = _joined(left + [self._run(start) for start in pools[number]])
            n_rows = len(found.rows)
            if number < len(pools) - 1 or self._drop_last:
                n_rows -= n_rows % self._batch_size
            order = rng.permutation(len(found.rows))
            left[:] = [found.of(order[n_rows:])]
            now = found.of(order[:n_rows])
            return Minibatch(self._transform(*now), now.rows)

        for pool in ahead(shuffled, range(len(pools))):
            yield from pool.cut(self._batch_size)

    def _run(self, start: int) -> Minibatch:
        rows = np.arange(start, min(start + RUN, self._counts.shape[0]))
        kept = self._keep[rows]
        return Minibatch(self._counts.rows(start, start + len(rows))[kept], rows[kept])


def minibatches(
    counts: StoredCounts,
    held_out: np.ndarray,
    batch_size: int,
    seed: int,
    transform: Transform,
    drop_last: bool = False,
) -> tuple[Shuffled, Shuffled | list[Minibatch]]:
    """Those of the training, and of the held-out observations, which are kept in memory if they fit.

    Parameters
    ----------
    held_out
        Boolean mask, (n_obs,).
    """
    train = Shuffled(counts, ~held_out, batch_size, seed, transform, drop_last)
    judged = counts.read(held_out, most=MEMORY)
    if judged is None:
        return train, Shuffled(counts, held_out, batch_size, seed, transform)
    rows = np.flatnonzero(held_out)
    return train, list(Minibatch(transform(judged, rows), rows).cut(batch_size))


def _joined(parts: list[Minibatch]) -> Minibatch:
    from latentomics.io.matrices import stack

    return Minibatch(stack([part.values for part in parts]), np.concatenate([part.rows for part in parts]))
