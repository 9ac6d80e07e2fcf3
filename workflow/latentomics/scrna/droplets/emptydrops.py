"""The EmptyDrops test: does a droplet's RNA differ from the ambient RNA?

A. T. L. Lun et al. (2019) "EmptyDrops: distinguishing cells from empty droplets in droplet-based single-cell RNA sequencing
data", Genome Biology 20:63; what the paper leaves open is done as in ``DropletUtils::emptyDrops``.

What it does not see: the statistic is the probability of a droplet's counts, not a ratio of likelihoods, so shallow droplets
whose counts lie on genes abundant in the ambient RNA (an erythrocyte's haemoglobin) are as probable as empty ones.

Why our own: the package ``emptydrops`` on PyPI (0.0.5, 2020) is Cell Ranger 3.0.2's code and neither the paper's test
(multinomial, so overdispersed ambient RNA is called a cell; the ambient pool is fixed at ranks 45,000 to 90,000; no knee)
nor kept, seeded or fast (one Python step per molecule and iteration); others are scripts without releases or, as pegasus',
left out of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix
from scipy.special import gammaln

#: Entries of the matrix looked at in one go: bounds memory.
_BLOCK = 1 << 22
#: Range of the overdispersion (``DropletUtils::estimate_alpha``); at the upper end a droplet is a multinomial draw.
ALPHA_RANGE = (0.01, 10000.0)


def row_blocks(counts: csr_matrix) -> Iterator[slice]:
    """Consecutive rows of about four million entries together, at least one."""
    start = 0
    while start < counts.shape[0]:
        stop = int(np.searchsorted(counts.indptr, counts.indptr[start] + _BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), counts.shape[0])
        yield slice(start, stop)
        start = stop


def _entries(counts: csr_matrix, block: slice, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, gene and count of the positive entries of a block, in the rows of a boolean mask."""
    pointers = counts.indptr[block.start : block.stop + 1]
    of = slice(int(pointers[0]), int(pointers[-1]))
    row = np.repeat(np.arange(block.start, block.stop, dtype=np.int32), np.diff(pointers))
    kept = rows[row] & (counts.data[of] > 0)
    return row[kept], counts.indices[of][kept], counts.data[of][kept]


def pool(counts: csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Counts of every gene in the rows of a boolean mask together, (n_genes,) int64."""
    sums = np.zeros(counts.shape[1])
    for block in row_blocks(counts):
        _, gene, count = _entries(counts, block, rows)
        sums += np.bincount(gene, weights=count, minlength=len(sums))
    return sums.astype(np.int64)


def estimate_alpha(counts: csr_matrix, totals: np.ndarray, empty: np.ndarray, profile: np.ndarray) -> float:
    """Overdispersion of the ambient RNA among empty droplets, by maximum likelihood.

    The log likelihood of the Dirichlet-multinomial with parameters ``alpha * profile``, summed over the droplets. It
    depends on the entries only through how often each gene has each count, which is what is kept in memory.

    Parameters
    ----------
    counts
        Droplets x genes.
    totals, empty
        Counts of each droplet, and whether it is empty, (n_droplets,).
    profile
        Share of each gene in the ambient RNA, (n_genes,), positive where a gene has counts.
    """
    width = int(totals[empty].max()) + 1
    keys, times = [], []
    for block in row_blocks(counts):
        _, gene, count = _entries(counts, block, empty)
        key, n = np.unique(gene.astype(np.int64) * width + count, return_counts=True)
        keys.append(key)
        times.append(n)
    key, where = np.unique(np.concatenate(keys), return_inverse=True)
    times = np.bincount(where, weights=np.concatenate(times))
    share, count = profile[key // width], key % width
    sums, droplets = np.unique(totals[empty], return_counts=True)

    def minus_log_likelihood(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        of_droplets = (droplets * (gammaln(alpha) - gammaln(sums + alpha))).sum()
        of_genes = (times * (gammaln(count + alpha * share) - gammaln(alpha * share))).sum()
        return -(of_droplets + of_genes)

    bounds = tuple(np.log(ALPHA_RANGE))
    return float(np.exp(minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded").x))


def log_probabilities(counts: csr_matrix, rows: np.ndarray, profile: np.ndarray, alpha: float) -> np.ndarray:
    """Dirichlet-multinomial log probability of each row of a boolean mask, given its total, (n_rows,).

    The part that depends on the total alone is left out (:func:`of_total`): it cancels in the p value.
    """
    sums = np.zeros(counts.shape[0])
    for block in row_blocks(counts):
        row, gene, count = _entries(counts, block, rows)
        prior = alpha * profile[gene]
        terms = gammaln(prior + count) - gammaln(prior) - gammaln(count + 1.0)
        sums[block] = np.bincount(row - block.start, weights=terms, minlength=block.stop - block.start)
    return sums[rows]


def of_total(totals: np.ndarray, alpha: float) -> np.ndarray:
    """The part of the Dirichlet-multinomial log probability that depends on the total alone, (n,)."""
    return gammaln(totals + 1.0) + gammaln(alpha) - gammaln(totals + alpha)


def monte_carlo_p_values(
    totals: np.ndarray,
    log_probs: np.ndarray,
    profile: np.ndarray,
    alpha: float,
    n_iterations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Share of simulated ambient droplets that are no more probable than each droplet, with the droplet itself counted.

    Each iteration grows one droplet to the largest total and compares it, at every total on the way, with the droplets of
    that total. A molecule is drawn from a Polya urn, which is the Dirichlet-multinomial in sequence: from the profile with
    probability ``alpha / (alpha + n)``, else a copy of one of the n molecules so far.

    Parameters
    ----------
    totals, log_probs
        Counts of each droplet and what :func:`log_probabilities` says, (n_droplets,).
    profile, alpha
        Of the ambient RNA, (n_genes,).
    n_iterations
        Simulated droplets; the smallest p value is ``1 / (n_iterations + 1)``.
    rng
        A generator in the same state gives the same values.

    Returns
    -------
    ndarray
        p values, (n_droplets,) (Phipson and Smyth 2010).
    """
    if not len(totals):
        return np.zeros(0)
    order = np.lexsort((log_probs, totals))
    distinct, starts = np.unique(totals[order], return_index=True)
    # Sums of the same terms in another order differ in their last digits: equal probabilities must stay equal.
    limits = log_probs[order] + 1e-9 * np.maximum(1.0, np.abs(log_probs[order]))
    genes = np.flatnonzero(profile > 0)
    shares = profile[genes] / profile[genes].sum()
    keep, other = _alias_table(shares)
    n_below = _simulate(
        distinct.astype(np.int64),
        np.append(starts, len(totals)).astype(np.int64),
        limits,
        alpha * shares,
        keep,
        other,
        alpha,
        n_iterations,
        rng,
    )
    p_values = np.empty(len(totals))
    p_values[order] = (n_below + 1) / (n_iterations + 1)
    return p_values


@njit
def _alias_table(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walker's alias method (Vose 1991): column i is gene i with probability ``keep[i]``, else gene ``other[i]``."""
    n = len(shares)
    scaled, keep, other = shares * n, np.ones(n), np.arange(n)
    small, large = np.empty(n, np.int64), np.empty(n, np.int64)
    n_small = n_large = 0
    for i in range(n):
        if scaled[i] < 1.0:
            small[n_small] = i
            n_small += 1
        else:
            large[n_large] = i
            n_large += 1
    while n_small and n_large:
        n_small -= 1
        less, more = small[n_small], large[n_large - 1]
        keep[less], other[less] = scaled[less], more
        scaled[more] -= 1.0 - scaled[less]
        if scaled[more] < 1.0:
            n_large -= 1
            small[n_small] = more
            n_small += 1
    return keep, other


@njit
def _simulate(totals, starts, limits, prior, keep, other, alpha, n_iterations, rng):
    """How many simulated droplets have a log probability of at most ``limits``, (n_droplets,).

    ``totals`` are distinct and ascending; the droplets of ``totals[i]`` are ``starts[i]:starts[i + 1]``, by ascending limit.
    """
    n_genes = len(prior)
    n_below = np.zeros(len(limits), np.int64)
    seen = np.zeros(n_genes, np.int64)
    urn = np.empty(totals[-1], np.int32)
    for _ in range(n_iterations):
        log_prob, product, n = 0.0, 1.0, 0
        for i in range(len(totals)):
            while n < totals[i]:
                at = rng.random() * (alpha + n)
                if at < alpha:
                    at *= n_genes / alpha
                    gene = min(int(at), n_genes - 1)
                    if at - gene >= keep[gene]:
                        gene = other[gene]
                else:
                    gene = urn[min(int(at - alpha), n - 1)]
                # The ratio of the gamma functions and of the factorials as a gene's count grows by one; logarithms are
                # taken of products, as late as they can be.
                product *= (prior[gene] + seen[gene]) / (seen[gene] + 1.0)
                if product < 1e-200 or product > 1e200:
                    log_prob += np.log(product)
                    product = 1.0
                seen[gene] += 1
                urn[n] = gene
                n += 1
            log_prob += np.log(product)
            product = 1.0
            first = starts[i] + np.searchsorted(limits[starts[i] : starts[i + 1]], log_prob)
            if first < starts[i + 1]:
                n_below[first] += 1
        for j in range(n):
            seen[urn[j]] = 0
    # Whoever has a higher limit is above the same simulated droplets, and more.
    for i in range(len(totals)):
        for j in range(starts[i] + 1, starts[i + 1]):
            n_below[j] += n_below[j - 1]
    return n_below
