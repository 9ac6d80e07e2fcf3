"""Minibatches of counts that are never written out densely."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import embedding_bag, linear

#: Entries (cells x genes) of a block on a CPU. Twice as many no longer fit into the caches near the cores; half as many,
#: and the non-zeros among them, a tenth, are fewer than the 32,768 from which on torch shares work between threads.
BLOCK = 1 << 19


@dataclass(frozen=True)
class SparseCounts:
    """The non-zero counts of a minibatch of cells.

    It takes the place of a dense ``x`` in scvi-tools' encoders: the sum over genes, ``torch.log1p`` and a linear layer work
    on the non-zeros, any other function of torch is given the dense matrix.

    Attributes
    ----------
    shape
        Cells x genes.
    start
        (cells + 1,), int64: where each cell's entries begin.
    place
        (n,), int64: where the entries are in the flattened matrix, cell by cell.
    gene
        (n,), int64: their columns.
    value
        (n,): the counts, positive; floating point.
    """

    shape: tuple[int, int]
    start: torch.Tensor
    place: torch.Tensor
    gene: torch.Tensor
    value: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> SparseCounts:
        """Of cells x genes: a ``torch.sparse_csr`` tensor that stores no zeros, or a dense one."""
        if x.layout is not torch.sparse_csr:
            x = x.to_sparse_csr()
        return cls._of_parts((x.shape[0], x.shape[1]), x.crow_indices(), x.col_indices(), x.values())

    @classmethod
    def of_scipy(cls, x: Any) -> SparseCounts:
        """Of cells x genes, a ``scipy.sparse`` CSR matrix that stores no zeros."""
        return cls._of_parts(x.shape, *map(torch.from_numpy, (x.indptr, x.indices, x.data)))

    @classmethod
    def _of_parts(
        cls, shape: tuple[int, int], start: torch.Tensor, gene: torch.Tensor, value: torch.Tensor
    ) -> SparseCounts:
        start, gene = start.long(), gene.long()
        cells = torch.arange(shape[0], device=value.device)
        # Told how many there are, repeat_interleave need not wait for the device.
        cell = torch.repeat_interleave(cells, start.diff(), output_size=len(value))
        return cls(shape, start, cell.mul_(shape[1]).add_(gene), gene, value)

    @property
    def device(self) -> torch.device:
        return self.value.device

    def to(self, *args: Any, **options: Any) -> SparseCounts:
        """On another device, or with values of another type, as ``torch.Tensor.to`` has it."""
        value = self.value.to(*args, **options)
        return SparseCounts(self.shape, *(x.to(value.device) for x in (self.start, self.place, self.gene)), value)

    def dense(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """Cells x genes; written into ``out`` if it is given."""
        out = self.value.new_zeros(self.shape) if out is None else out.zero_()
        return out.put_(self.place, self.value)

    def blocks(self) -> Iterator[tuple[slice, SparseCounts]]:
        """The cells of a block, and its counts. On an accelerator one block is all."""
        n_cells, n_genes = self.shape
        step = max(BLOCK // n_genes, 1) if self.device.type == "cpu" else n_cells
        if step >= n_cells:
            yield slice(0, n_cells), self
            return
        bounds = [*range(0, n_cells, step), n_cells]
        for (first, end), (a, b) in zip(pairwise(bounds), pairwise(self.start[bounds].tolist()), strict=True):
            place = self.place[a:b] - first * n_genes
            start = self.start[first : end + 1] - a
            yield slice(first, end), SparseCounts((end - first, n_genes), start, place, self.gene[a:b], self.value[a:b])

    # What scvi-tools' encoders do with x.

    def dim(self) -> int:
        return 2

    def sum(self, dim: int) -> torch.Tensor:
        """Of every cell; ``dim`` must be 1."""
        if dim != 1:
            raise ValueError("counts are summed over genes only")
        return torch.segment_reduce(self.value, "sum", offsets=self.start, initial=0)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        options = options or {}
        if function is torch.log1p:
            x = args[0]
            return SparseCounts(x.shape, x.start, x.place, x.gene, torch.log1p(x.value))
        if function is torch.cat and len(args[0]) == 1:
            return args[0][0]
        if function is linear:
            return _Linear.apply(*args, **options)
        return function(*(_densified(arg) for arg in args), **options)


def _densified(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_densified, x))
    return x.dense() if isinstance(x, SparseCounts) else x


class _Linear(torch.autograd.Function):
    """x @ weight.T + bias, of sparse x: forward on the non-zeros, backward on dense blocks, each the faster way."""

    @staticmethod
    def forward(ctx: Any, x: SparseCounts, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.x, ctx.n_out = x, len(weight)
        by_gene = weight.T.contiguous()
        return bias + embedding_bag(
            x.gene, by_gene, x.start, mode="sum", per_sample_weights=x.value, include_last_offset=True
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        weight = upstream.new_zeros(ctx.n_out, ctx.x.shape[1])
        rows: Any = None
        for cells, block in ctx.x.blocks():
            rows = upstream.new_empty(block.shape) if rows is None else rows[: block.shape[0]]
            weight.addmm_(upstream[cells].T, block.dense(rows))
        return None, weight, upstream.sum(0)
