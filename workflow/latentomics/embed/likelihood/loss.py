"""Reconstruction losses that a network is trained with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from latentomics.embed.likelihood import compiled
from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.likelihood.terms import N_BUFFERS, Dispersion, Judged, terms


class Reconstruction(NamedTuple):
    """Negative log-likelihood of a minibatch.

    Attributes
    ----------
    mean
        Scalar, mean over the cells of what ``per_cell`` holds: the one to take the gradient of.
    per_cell
        (cells,), sum over the genes; without a gradient.
    """

    mean: torch.Tensor
    per_cell: torch.Tensor


def loss_of_means(
    counts: SparseCounts, mean: torch.Tensor, theta: torch.Tensor, dropout: torch.Tensor | None = None
) -> Reconstruction:
    """Negative log-likelihood: of scvi-tools' ``NegativeBinomial``, or with ``dropout`` the zero-inflated one.

    Parameters
    ----------
    counts
        Cells x genes.
    mean
        (cells, genes), in counts: mean of the negative binomial; not negative.
    theta
        Inverse dispersion, not negative: (genes,) where it is the gene's, (cells, genes) where it is the entry's.
    dropout
        (cells, genes): logit of the probability that a count was lost. None: no zero inflation.

    Raises
    ------
    ValueError
        Shapes do not fit each other.
    """
    _check(counts.shape, mean=mean, dropout=dropout)
    _check_theta(counts.shape, theta)
    return Reconstruction(*_LossOfMeans.apply(counts, mean, theta, dropout))


def loss_of_decoder(
    counts: SparseCounts,
    hidden: torch.Tensor,
    log_library: torch.Tensor,
    theta: torch.Tensor,
    scale: torch.nn.Linear,
    dropout: torch.nn.Linear | None = None,
) -> Reconstruction:
    """The same, of the last layer of scVI's decoder: mean = library x softmax(scale(hidden)), dropout(hidden).

    Layers, likelihood and their gradients are computed block by block of cells: nothing of the size of cells x genes
    is ever in memory, which is what most of the time of a training step on a CPU is spent on.

    Parameters
    ----------
    hidden
        (cells, units): what the last layer is applied to.
    log_library
        (cells, 1): logarithm of the sum of the means of a cell.
    theta
        As of :func:`loss_of_means`.
    scale, dropout
        Layers with ``units`` inputs, ``genes`` outputs and an intercept. None: no zero inflation.

    Raises
    ------
    ValueError
        Shapes do not fit each other.
    """
    _check((counts.shape[0], hidden.shape[1]), hidden=hidden)
    _check((counts.shape[0], 1), log_library=log_library)
    _check_theta(counts.shape, theta)
    layers = [
        None if layer is None else torch.cat([layer.weight, layer.bias[:, None]], 1) for layer in (scale, dropout)
    ]
    with_one = torch.cat([hidden, torch.ones_like(log_library)], 1)
    return Reconstruction(*_LossOfDecoder.apply(counts, with_one, log_library, theta, *layers))


def _check(expected: tuple[int, ...], **given: torch.Tensor | None) -> None:
    for name, x in given.items():
        if x is not None and x.shape != expected:
            raise ValueError(f"{name} is {tuple(x.shape)}, not {tuple(expected)}")


def _check_theta(shape: tuple[int, int], theta: torch.Tensor) -> None:
    _check(shape if theta.ndim == 2 else shape[1:], theta=theta)


class _LossOfMeans(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, counts: SparseCounts, mean: Any, theta: Any, dropout: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gradient, dispersion = any(ctx.needs_input_grad), Dispersion.of(theta)
        per_cell = mean.new_empty(len(mean))
        sums = [x if x is None else torch.zeros_like(x) for x in (mean, theta, dropout)] if gradient else []
        for cells, block, work in _blocks(counts, mean, N_BUFFERS):
            logits = None if dropout is None else dropout[cells]
            loss, *slopes = terms(block, mean[cells], dispersion.rows(cells), logits, work, gradient)
            torch.sum(loss, 1, out=per_cell[cells])
            for total, slope in zip(sums, slopes, strict=False):
                if slope is not None:
                    _add(total, slope, cells)
        return _finish(ctx, per_cell, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor, _: Any) -> tuple[Any, ...]:
        return None, *_scaled(ctx, upstream)


class _LossOfDecoder(torch.autograd.Function):
    """Of (counts, hidden, log_library, theta, scale, dropout), where hidden ends with a column of ones."""

    @staticmethod
    def forward(ctx: Any, counts: SparseCounts, hidden: Any, log_library: Any, *parameters: Any) -> tuple[Any, Any]:
        theta, scale, dropout = parameters
        gradient, dispersion = any(ctx.needs_input_grad), Dispersion.of(theta)
        per_cell, library = hidden.new_empty(len(hidden)), torch.exp(log_library)
        sums: list[Any] = []
        if gradient:
            sums = [x if x is None else torch.zeros_like(x) for x in (hidden, log_library, theta, scale, dropout)]
        fast = compiled.serves(hidden, theta)
        for cells, block, (logits, lost, *work) in _blocks(counts, hidden, 2 if fast else 4 + N_BUFFERS):
            torch.mm(hidden[cells], scale.T, out=logits)
            if dropout is not None:
                torch.mm(hidden[cells], dropout.T, out=lost)
            of_lost = None if dropout is None else lost
            given = block, logits, of_lost, library[cells], dispersion.rows(cells), gradient
            found = compiled.judge(*given) if fast else _judge(*given, work)
            per_cell[cells] = found.loss
            if not gradient:
                continue
            of_hidden, of_library, of_theta, of_scale, of_dropout = sums
            of_library[cells, 0] = found.log_library
            _add(of_theta, found.theta, cells)
            torch.mm(logits, scale, out=of_hidden[cells])
            of_scale.addmm_(logits.T, hidden[cells])
            if dropout is not None:
                of_hidden[cells].addmm_(lost, dropout)
                of_dropout.addmm_(lost.T, hidden[cells])
        return _finish(ctx, per_cell, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor, _: Any) -> tuple[Any, ...]:
        return None, *_scaled(ctx, upstream)


def _judge(
    counts: SparseCounts, logits: Any, dropout: Any, library: Any, dispersion: Dispersion, gradient: bool, work: Any
) -> Judged:
    """What :func:`latentomics.embed.likelihood.compiled.judge` does, of any precision and dispersion, on any device."""
    share, mean, *work = work
    torch.mul(torch.softmax(logits, 1, out=share), library, out=mean)
    found = terms(counts, mean, dispersion, dropout, work, gradient)
    per_cell = found.loss.sum(1)
    if not gradient:
        return Judged(per_cell)
    of_log_mean = found.mean.mul_(mean)
    of_library = of_log_mean.sum(1, keepdim=True)
    torch.addcmul(of_log_mean, share, of_library, value=-1, out=logits)
    if dropout is not None:
        dropout.copy_(found.dropout)
    return Judged(per_cell, of_library[:, 0], found.theta)


def _blocks(counts: SparseCounts, like: torch.Tensor, n_buffers: int) -> Any:
    """Cells and counts of each block, and buffers of its shape, which all blocks share."""
    buffers: Any = None
    for cells, block in counts.blocks():
        if buffers is None:
            buffers = like.new_empty(n_buffers, *block.shape)
        yield cells, block, buffers[:, : block.shape[0]]


def _add(total: torch.Tensor, slope: torch.Tensor, cells: slice) -> None:
    """To the gradient of a gene's parameter what a block's cells add, or to that of an entry's its own."""
    if total.ndim == 1:
        total += slope if slope.ndim == 1 else slope.sum(0)
    else:
        total[cells] = slope


def _finish(ctx: Any, per_cell: torch.Tensor, sums: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    ctx.sums, ctx.n_cells = sums, len(per_cell)
    ctx.mark_non_differentiable(per_cell)
    return per_cell.mean(), per_cell


def _scaled(ctx: Any, upstream: torch.Tensor) -> list[Any]:
    return [x if x is None else x * (upstream / ctx.n_cells) for x in ctx.sums]
