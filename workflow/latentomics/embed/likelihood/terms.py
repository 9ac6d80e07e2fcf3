"""Negative binomial and zero-inflated negative binomial likelihood, and its gradient worked out by hand.

Both are as scvi-tools defines them (``log_nb_positive`` and ``log_zinb_positive``; Lopez et al. 2018, Nature Methods
15:1053), with mean mu, inverse dispersion theta, dropout logit pi and a constant eps that keeps logarithms finite. Nine
tenths of a count matrix are zeros, and of a zero

    log NB(0)   = theta log((theta + eps) / (theta + mu + eps)) = -theta log1p(mu / (theta + eps)) =: n
    log ZINB(0) = softplus(n - pi) - softplus(-pi)

is all there is: log-gamma and digamma functions cancel. So every entry is first taken for a zero; then what belongs to the
non-zeros is put in its place. That is computed in float64, because the terms of a large count nearly cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.functional import logsigmoid

from latentomics.embed.likelihood.counts import SparseCounts

#: scvi-tools' constant of numerical stability.
EPS = 1e-8

#: Buffers of a block's shape that `terms` works in.
N_BUFFERS = 7

#: Counts up to this are looked up: nineteen in twenty of the non-zeros.
TABULATED = 16

#: The exponential of more overflows in float32; the softplus of as much is its argument, to the last bit.
_LARGEST_EXPONENT = 80.0


class Terms(NamedTuple):
    """What entries add to the negative log-likelihood, and its derivative with respect to the three parameters.

    Attributes
    ----------
    loss, mean, theta, dropout
        Cells x genes. The last is None without zero inflation, the last three where no gradient is asked for.
    """

    loss: Any
    mean: Any = None
    theta: Any = None
    dropout: Any = None


class Judged(NamedTuple):
    """Negative log-likelihood of cells whose means are a library times a softmax, and what its gradient is made of.

    Attributes
    ----------
    loss
        Sum over the genes, (cells,).
    log_library
        Its derivative with respect to the logarithm of the library, (cells,).
    theta
        That of the sum over all cells, (genes,); or that of every entry, where the dispersion is the entry's. This and the one
        before are None where no gradient is asked for.
    """

    loss: Any
    log_library: Any = None
    theta: Any = None


@dataclass(frozen=True)
class Dispersion:
    """The inverse dispersion theta, and what follows from it alone.

    Attributes
    ----------
    theta
        (genes,) where it is the gene's, (cells, genes) where it is the entry's; not negative.
    inverse, share
        1 / (theta + eps) and theta / (theta + eps).
    table
        (2, ``TABULATED``, genes), float64: :meth:`gamma_terms` of the counts 1, 2...; None where it would not pay.
    """

    theta: torch.Tensor
    inverse: torch.Tensor
    share: torch.Tensor
    table: torch.Tensor | None

    @classmethod
    def of(cls, theta: torch.Tensor) -> Dispersion:
        table = None
        # To look up small counts only, the others must be found, for which a GPU would have to be waited for.
        if theta.ndim == 1 and theta.device.type == "cpu":
            k = torch.arange(TABULATED, dtype=torch.float64)[:, None]
            rising = theta.double() + k
            table = torch.stack([torch.log((k + 1) / rising), -1 / rising]).cumsum(1)
        inverse = 1 / (theta + EPS)
        return cls(theta, inverse, theta * inverse, table)

    def rows(self, cells: slice) -> Dispersion:
        """Of some cells."""
        if self.theta.ndim == 1:
            return self
        return Dispersion(self.theta[cells], self.inverse[cells], self.share[cells], None)

    def of_entries(self, counts: SparseCounts) -> torch.Tensor:
        """(n,), float64: theta of the non-zero entries."""
        if self.theta.ndim == 1:
            return self.theta.index_select(0, counts.gene).double()
        return self.theta.take(counts.place).double()

    def gamma_terms(
        self, x: torch.Tensor, theta: torch.Tensor, gene: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """log(x! gamma(theta) / gamma(x + theta)) and its derivative with respect to theta, of counts, (n,) each.

        Of a small count x they are sums, over k = 0 to x - 1, of log((k + 1) / (theta + k)) and of -1 / (theta + k).
        """
        if self.table is None:
            return exact_gamma_terms(x, theta)
        place = (x - 1).long().clamp_(max=TABULATED - 1).mul_(len(self.theta)).add_(gene)
        value, slope = (table.take(place) for table in self.table)
        large = (x > TABULATED).nonzero()[:, 0]
        exact = exact_gamma_terms(x[large], theta[large])
        return value.index_copy_(0, large, exact[0]), slope.index_copy_(0, large, exact[1])


def exact_gamma_terms(x: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value = torch.lgamma(x + 1) + torch.lgamma(theta) - torch.lgamma(x + theta)
    return value, torch.digamma(theta) - torch.digamma(x + theta)


def terms(
    counts: SparseCounts, mean: torch.Tensor, dispersion: Dispersion, dropout: Any, work: torch.Tensor, gradient: bool
) -> Terms:
    """Of every entry of a block.

    Parameters
    ----------
    mean
        (cells, genes), in counts: mean of the negative binomial; not negative.
    dropout
        (cells, genes): logit of the probability that a count was lost. None: no zero inflation.
    work
        (``N_BUFFERS``, cells, genes) to work in; what is returned lies in it.
    """
    found = _of_zeros(mean, dispersion, dropout, work, gradient)
    for everywhere, here in zip(found, _of_nonzeros(counts, mean, dispersion, dropout, gradient), strict=True):
        if here is not None:
            everywhere.put_(counts.place, here.to(mean.dtype))
    return found


def _of_zeros(mean: Any, dispersion: Dispersion, dropout: Any, work: torch.Tensor, gradient: bool) -> Terms:
    """What every entry would add if its count were zero."""
    ratio, log_ratio, spare, loss, slope, slope_of_dropout, logit = work
    torch.mul(mean, dispersion.inverse, out=ratio)
    torch.log1p(ratio, out=log_ratio)
    torch.mul(log_ratio, dispersion.theta, out=loss)
    if dropout is not None:  # softplus(-pi) - softplus(n - pi)
        torch.neg(dropout, out=logit)
        _softplus(torch.sub(logit, loss, out=loss), slope, spare)
        _softplus(logit, slope_of_dropout, spare)
        torch.sub(logit, loss, out=loss)
    if not gradient:
        return Terms(loss)
    torch.add(ratio, 1, out=spare)
    of_theta = log_ratio.addcmul_(ratio.div_(spare), dispersion.share, value=-1)
    of_mean = torch.div(dispersion.share, spare, out=spare)
    if dropout is None:
        return Terms(loss, of_mean, of_theta)
    return Terms(loss, of_mean.mul_(slope), of_theta.mul_(slope), slope.sub_(slope_of_dropout))


def _softplus(x: torch.Tensor, slope: torch.Tensor, spare: torch.Tensor) -> None:
    """Replace ``x`` by its softplus, log(1 + exp(x)), and write the derivative, the sigmoid, into ``slope``."""
    torch.clamp(x, max=_LARGEST_EXPONENT, out=slope).exp_()
    torch.add(slope, 1, out=spare)
    slope.div_(spare)
    torch.maximum(spare.log_(), x, out=x)


def _of_nonzeros(counts: SparseCounts, mean: Any, dispersion: Dispersion, dropout: Any, gradient: bool) -> Terms:
    """What the non-zero counts add, (n,) each."""
    x, mu, theta = counts.value.double(), mean.take(counts.place).double(), dispersion.of_entries(counts)
    value, slope = dispersion.gamma_terms(x, theta, counts.gene)
    theta_eps, mu_eps = theta + EPS, mu + EPS
    total = theta_eps + mu
    log_ratio = torch.log(total / theta_eps)
    loss = theta * log_ratio - x * torch.log(mu_eps / total) + value
    of_dropout = None
    if dropout is not None:
        logit = dropout.take(counts.place)
        loss -= logsigmoid(-logit)
        of_dropout = torch.sigmoid(logit)
    if not gradient:
        return Terms(loss)
    of_mean = theta / total * (1 - x / mu_eps)
    of_theta = log_ratio + (theta + x) / total - theta / theta_eps + slope
    return Terms(loss, of_mean, of_theta, of_dropout)
