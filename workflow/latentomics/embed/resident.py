"""Values that stay on the device which trains: minibatches are gathered there instead of being sent.

On a CPU there is nothing to gain: there they are sliced from what is in memory or read from the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from latentomics.embed.likelihood.counts import SparseCounts

#: Share of a device's memory that the data may take: the network and its gradients want the rest. Not of what is free: the
#: order of the minibatches, and so the model, must not depend on who else is there.
SHARE = 0.5
#: What a non-zero value takes on the device (bytes): the value and its column.
_ENTRY = 8


def resident_rows(blocks: Iterable[Any], accelerator: str) -> ResidentRows | None:
    """Rows on the device of an accelerator (Lightning's name); None on a CPU, and where the device has no room for them.

    Parameters
    ----------
    blocks
        CSR matrices of rows in order, float32.
    """
    device = device_of(accelerator)
    if device is None:
        return None
    try:
        return ResidentRows(blocks, device, room(device))
    except NoRoomError as error:
        print(f"the device has room for {error}: minibatches are sent to it", flush=True)
    return None


def device_of(accelerator: str) -> str | None:
    """The device that data may stay on, as torch names it."""
    return "cuda" if accelerator == "gpu" else None


def room(device: str) -> float:
    """Bytes that data may take on a device."""
    return SHARE * torch.cuda.mem_get_info(device)[1]


class NoRoomError(Exception):
    """The data would take more of a device's memory than they may."""


class ResidentRows:
    """Rows of values, compressed, on a device.

    Parameters
    ----------
    blocks
        CSR matrices of rows in order, float32; one after the other is moved there.
    device
        As torch names it.
    most
        Bytes they may take there.

    Raises
    ------
    NoRoomError
        They would take more.
    """

    def __init__(self, blocks: Iterable[Any], device: str, most: float = np.inf):
        lengths, columns, values, n_entries, self.width = [], [], [], 0, 0
        for block in blocks:
            n_entries += block.nnz
            if n_entries * _ENTRY > most:
                raise NoRoomError(f"no more than {most / 1e9:.1f} GB of values")
            lengths.append(np.diff(block.indptr))
            columns.append(torch.from_numpy(block.indices.astype(np.int32, copy=False)).to(device))
            values.append(torch.from_numpy(block.data.astype(np.float32, copy=False)).to(device))
            self.width = block.shape[1]
        # What the host knows of the sizes spares it to wait for the device.
        self._lengths = np.concatenate(lengths).astype(np.int64)
        self._first = torch.from_numpy(np.cumsum(self._lengths) - self._lengths).to(device)
        self._columns = torch.cat(columns)
        columns.clear()  # on the device they would be there twice
        self._values = torch.cat(values)
        self.device = self._values.device

    def __len__(self) -> int:
        return len(self._lengths)

    def take(self, rows: np.ndarray) -> SparseCounts:
        """Some rows, in any order."""
        lengths = self._lengths[rows]
        start = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).to(self.device)
        number = torch.arange(len(rows), device=self.device)
        number = torch.repeat_interleave(number, start.diff(), output_size=int(lengths.sum()))
        shift = self._first[torch.from_numpy(rows).to(self.device)] - start[:-1]
        entry = shift[number] + torch.arange(len(number), device=self.device)
        gene = self._columns[entry].long()
        return SparseCounts((len(rows), self.width), start, number * self.width + gene, gene, self._values[entry])


class RowOrder:
    """Minibatches of row numbers in a random order, another one in every pass; of one seed always the same.

    Parameters
    ----------
    rows
        The numbers to draw from.
    seed
        None: in their own order, always.
    drop_last
        Leave out the last minibatch if it is smaller.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None, drop_last: bool = False):
        self._rows, self._batch_size, self._seed, self._drop_last = rows, batch_size, seed, drop_last
        self._passes = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self._rows), self._batch_size)
        return whole + bool(rest and not self._drop_last)

    def __iter__(self) -> Iterator[np.ndarray]:
        order = self._rows
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self._passes]).permutation(order)
            self._passes += 1
        for start in range(0, len(self) * self._batch_size, self._batch_size):
            yield order[start : start + self._batch_size]


class Minibatches:
    """What is made of each minibatch of row numbers."""

    def __init__(self, numbers: Any, make: Any):
        self._numbers, self._make = numbers, make

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, self._numbers)
