"""The likelihood of scVI's last layer on a CPU: cell after cell, compiled.

The same arithmetic as in :mod:`latentomics.embed.likelihood.terms`, of which torch makes dozens of passes over a block of
cells x genes. Here the numbers of a cell stay in the caches next to the core from the first pass to the last. Exponential and
logarithm are those of Cephes (Moshier 1989, Methods and Programs for Mathematical Functions), within two units in the last
place, because a compiler can turn them, unlike those of the system's library, into instructions for many numbers at a time.

For single precision and a dispersion per gene: what scVI is trained with. Cells are dealt out to threads in parts of
:data:`PART`, whatever the number of threads, so that the sums do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numba import njit

from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.likelihood.terms import EPS, TABULATED, Dispersion, Judged, exact_gamma_terms

#: Cells whose sums over cells are added up first.
PART = 32

#: Sums may be taken in any order; that a number is not one (NaN) must not be optimised away.
_SUMS = {"reassoc", "contract", "nsz"}
_ENTRIES = {"contract", "nsz"}

_f32, _i32 = np.float32, np.int32
_LOG2E, _LN2_HIGH, _LN2_LOW = _f32(1.4426950408889634), _f32(0.693359375), _f32(-2.12194440e-4)
_MANTISSA, _ONE_EXPONENT, _ROOT_HALF = _i32(23), _i32(127), _i32(0x3F3504F3)


def serves(hidden: torch.Tensor, theta: torch.Tensor) -> bool:
    """Whether the likelihood can be computed here."""
    return hidden.device.type == "cpu" and hidden.dtype == theta.dtype == torch.float32 and theta.ndim == 1


def judge(
    counts: SparseCounts,
    logits: torch.Tensor,
    dropout: torch.Tensor | None,
    library: torch.Tensor,
    dispersion: Dispersion,
    gradient: bool,
) -> Judged:
    """Negative log-likelihood of some cells; its gradient takes the place of ``logits`` and ``dropout``.

    Parameters
    ----------
    logits
        (cells, genes), of the softmax.
    dropout
        (cells, genes): logit of the probability that a count was lost. None: no zero inflation.
    library
        (cells, 1): sum of the means of a cell.
    dispersion
        Of a theta per gene.
    gradient
        Otherwise ``logits`` and ``dropout`` are left as they are.
    """
    n_cells, n_genes = counts.shape
    large = (counts.value > TABULATED).nonzero()[:, 0]
    exact = torch.stack(exact_gamma_terms(counts.value[large].double(), dispersion.of_entries(counts)[large]))
    n_parts = -(-n_cells // PART)
    per_cell = np.empty((2, n_cells), np.float32)
    of_theta = np.zeros((n_parts, n_genes), np.float32)
    work = partial(
        _parts,
        logits.numpy(),
        logits.numpy() if dropout is None else dropout.numpy(),
        library.ravel().numpy(),
        (counts.start.numpy(), counts.gene.numpy(), counts.value.numpy()),
        (dispersion.theta.numpy(), dispersion.inverse.numpy(), dispersion.share.numpy()),
        dispersion.table.numpy(),
        torch.searchsorted(large, counts.start).numpy(),
        exact.numpy(),
        (per_cell[0], per_cell[1], of_theta),
        dropout is not None,
        gradient,
    )
    _share_out(work, min(torch.get_num_threads(), n_parts))
    if not np.isfinite(dispersion.theta.sum().item()):
        per_cell[:] = np.nan
    loss, of_library = map(torch.from_numpy, per_cell)
    return Judged(loss, of_library, torch.from_numpy(of_theta).sum(0)) if gradient else Judged(loss)


def _share_out(work: Callable[[int, int], None], threads: int) -> None:
    """``work(first, threads)`` for each first part, in this thread and in others: compiled code leaves the interpreter free."""
    others = [_pool(threads).submit(work, first, threads) for first in range(1, threads)]
    work(0, threads)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work."""
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="likelihood")


@njit(inline="always", error_model="numpy", fastmath=_ENTRIES)
def _exp(x: Any) -> Any:
    """Of -87 to 88, where it is a normal number; of anything beyond, that of the nearer end."""
    x = min(max(x, _f32(-87)), _f32(88))
    whole = np.floor(x * _LOG2E + _f32(0.5))
    x = x - whole * _LN2_HIGH - whole * _LN2_LOW
    y = _f32(1.9875691500e-4)
    y = y * x + _f32(1.3981999507e-3)
    y = y * x + _f32(8.3334519073e-3)
    y = y * x + _f32(4.1665795894e-2)
    y = y * x + _f32(1.6666665459e-1)
    y = y * x + _f32(5.0000001201e-1)
    y = y * x * x + x + _f32(1)
    return y * _i32(_i32(_i32(whole) + _ONE_EXPONENT) << _MANTISSA).view(np.float32)


@njit(inline="always", error_model="numpy", fastmath=_ENTRIES)
def _log(x: Any) -> Any:
    """Of a positive normal number."""
    bits = _f32(x).view(np.int32)
    exponent = _i32(_i32(bits - _ROOT_HALF) >> _MANTISSA)
    x = _i32(bits - _i32(exponent << _MANTISSA)).view(np.float32) - _f32(1)
    y = _f32(7.0376836292e-2)
    y = y * x + _f32(-1.1514610310e-1)
    y = y * x + _f32(1.1676998740e-1)
    y = y * x + _f32(-1.2420140846e-1)
    y = y * x + _f32(1.4249322787e-1)
    y = y * x + _f32(-1.6668057665e-1)
    y = y * x + _f32(2.0000714765e-1)
    y = y * x + _f32(-2.4999993993e-1)
    y = y * x + _f32(3.3333331174e-1)
    power, square = _f32(exponent), x * x
    return x + (x * square * y + power * _LN2_LOW - _f32(0.5) * square) + power * _LN2_HIGH


@njit(inline="always", error_model="numpy", fastmath=_ENTRIES)
def _log_64(x: Any) -> Any:
    """Of a positive normal number in double precision, as FreeBSD's library has it (Ng 1993), within one unit."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    f = np.int64(bits - (exponent << np.int64(52))).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332))
    even = 0.6666666666666735130 + w * (0.2857142874366239149 + w * (0.1818357216161805012 + w * 0.1479819860511658591))
    half = 0.5 * f * f
    return f - (half - s * (half + odd + z * even)) + float(exponent) * 0.6931471805599453


@njit(inline="always", error_model="numpy", fastmath=_ENTRIES)
def _log1p(x: Any) -> Any:
    """Of a number that is not negative: what rounding takes from 1 + x is given back."""
    more = x + _f32(1)
    return _log(more) + (x - (more - _f32(1))) / more


@njit(error_model="numpy", fastmath=_SUMS)
def _softmax(logits: Any, share: Any) -> Any:
    """Write the softmax of a row; returns the sum of the logits, which is not finite if one of them is not."""
    largest, total, plain_sum = logits[0], _f32(0), _f32(0)
    for g in range(len(logits)):
        largest = max(largest, logits[g])
        plain_sum += logits[g]
    for g in range(len(logits)):
        share[g] = _exp(logits[g] - largest)
        total += share[g]
    for g in range(len(logits)):
        share[g] /= total
    return plain_sum


@njit(error_model="numpy", fastmath=_SUMS)
def _sum(x: Any) -> Any:
    total = _f32(0)
    for g in range(len(x)):
        total += x[g]
    return total


@njit(error_model="numpy", fastmath=_ENTRIES)
def _of_zeros(mean: Any, theta: Any, inverse: Any, share: Any, loss: Any, of_mean: Any, of_theta: Any) -> None:
    """What every entry of a row would add if its count were zero, without zero inflation."""
    for g in range(len(mean)):
        ratio = mean[g] * inverse[g]
        log_ratio, slope = _log1p(ratio), share[g] / (ratio + _f32(1))
        loss[g] = log_ratio * theta[g]
        of_mean[g] = slope
        of_theta[g] = log_ratio - ratio * slope


@njit(error_model="numpy", fastmath=_ENTRIES)
def _inflate(dropout: Any, loss: Any, of_mean: Any, of_theta: Any, of_dropout: Any) -> None:
    """The same with zero inflation: softplus(-pi) - softplus(n - pi), where -n is the loss without."""
    for g in range(len(dropout)):
        lost, not_lost = -dropout[g], -dropout[g] - loss[g]
        e, f = _exp(lost), _exp(not_lost)
        e_1, f_1 = e + _f32(1), f + _f32(1)
        slope = f / f_1
        loss[g] = max(_log(e_1), lost) - max(_log(f_1), not_lost)
        of_mean[g] *= slope
        of_theta[g] *= slope
        of_dropout[g] = slope - e / e_1


@njit(error_model="numpy", fastmath=_ENTRIES)
def _of_nonzeros(
    gene: Any, value: Any, mean: Any, theta: Any, dropout: Any, table: Any, exact: Any, inflated: bool,
    wide: Any, loss: Any, of_mean: Any, of_theta: Any, of_dropout: Any,
) -> None:  # fmt: skip
    """Put what the non-zero counts of a row add in the place of what zeros would, in double precision (``wide``)."""
    n, at = len(gene), 0
    x, mu, t, gamma, slope = wide[0, :n], wide[1, :n], wide[2, :n], wide[3, :n], wide[4, :n]
    for k in range(n):
        g = gene[k]
        x[k], mu[k], t[k] = value[k], mean[g], theta[g]
        if value[k] > TABULATED:
            gamma[k], slope[k] = exact[0, at], exact[1, at]
            at += 1
        else:
            place = int(value[k]) - 1
            gamma[k], slope[k] = table[0, place, g], table[1, place, g]
    entry, of_mu, of_t = wide[5, :n], wide[6, :n], wide[7, :n]
    for k in range(n):
        t_eps, mu_eps = t[k] + EPS, mu[k] + EPS
        total = t_eps + mu[k]
        log_ratio = _log_64(total / t_eps)
        entry[k] = t[k] * log_ratio - x[k] * _log_64(mu_eps / total) + gamma[k]
        of_mu[k] = t[k] / total * (1 - x[k] / mu_eps)
        of_t[k] = log_ratio + (t[k] + x[k]) / total - t[k] / t_eps + slope[k]
    for k in range(n):
        g = gene[k]
        loss[g], of_mean[g], of_theta[g] = entry[k], of_mu[k], of_t[k]
        if inflated:
            lost = _exp(-abs(dropout[g]))
            loss[g] += max(dropout[g], _f32(0)) + _log1p(lost)
            of_dropout[g] = (_f32(1) if dropout[g] >= 0 else lost) / (_f32(1) + lost)


@njit(error_model="numpy", fastmath=_ENTRIES)
def _multiply(x: Any, factor: Any, out: Any) -> None:
    for g in range(len(x)):
        out[g] = x[g] * factor


@njit(error_model="numpy", fastmath=_ENTRIES)
def _add(total: Any, x: Any) -> None:
    for g in range(len(x)):
        total[g] += x[g]


@njit(error_model="numpy", fastmath=_SUMS)
def _of_logits(of_mean: Any, mean: Any, share: Any, out: Any) -> Any:
    """Of a row, from its derivatives with respect to the means; returns that with respect to the logarithm of the library."""
    total = _f32(0)
    for g in range(len(mean)):
        of_mean[g] *= mean[g]
        total += of_mean[g]
    for g in range(len(mean)):
        out[g] = of_mean[g] - share[g] * total
    return total


@njit(nogil=True, error_model="numpy", fastmath=_ENTRIES)
def _parts(
    logits: Any, dropout: Any, library: Any, counts: Any, dispersion: Any, table: Any, large: Any, exact: Any, out: Any,
    inflated: bool, gradient: bool, first: int, step: int,
) -> None:  # fmt: skip
    """Cells of the parts ``first``, ``first + step``..."""
    (start, gene, value), (theta, inverse, share_of_theta) = counts, dispersion
    per_cell, of_library, of_theta = out
    n_cells, n_genes = logits.shape
    # Not unpacked: of rows that it takes from an iterator the compiler does not know that their numbers lie side by side.
    row = np.empty((6, n_genes), np.float32)
    share, mean, loss, of_mean, of_dispersion, of_dropout = row[0], row[1], row[2], row[3], row[4], row[5]
    wide = np.empty((8, n_genes))
    for part in range(first, len(of_theta), step):
        for c in range(part * PART, min((part + 1) * PART, n_cells)):
            unsound = _softmax(logits[c], share) + library[c]
            _multiply(share, library[c], mean)
            _of_zeros(mean, theta, inverse, share_of_theta, loss, of_mean, of_dispersion)
            if inflated:
                unsound += _sum(dropout[c])
                _inflate(dropout[c], loss, of_mean, of_dispersion, of_dropout)
            here = slice(start[c], start[c + 1])
            _of_nonzeros(
                gene[here], value[here], mean, theta, dropout[c], table, exact[:, large[c] : large[c + 1]], inflated,
                wide, loss, of_mean, of_dispersion, of_dropout,
            )  # fmt: skip
            per_cell[c] = _sum(loss) + (unsound - unsound)
            if not gradient:
                continue
            of_library[c] = _of_logits(of_mean, mean, share, logits[c])
            _add(of_theta[part], of_dispersion)
            if inflated:
                _multiply(of_dropout, _f32(1), dropout[c])  # assigned as an array it would take seconds more to compile
