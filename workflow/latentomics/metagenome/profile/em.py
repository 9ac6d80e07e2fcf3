"""How much of each genome explains ambiguous evidence: one maximum-likelihood mixture for every profiler.

A unit of evidence (a k-mer, a read) falls into one of several classes, such as "k-mers shared by these three genomes" or
"reads that Kraken2 assigns to this node". Each genome yields the classes with known probabilities; the shares of the
genomes follow by expectation-maximisation (Xia et al. 2011, GRAMMy, PLoS ONE 6:e27992, equations 4 and 5; for
equivalence classes of k-mers Schaeffer et al. 2017, Bioinformatics 33:2082, after kallisto, Bray et al. 2016, Nature
Biotechnology 34:525).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, spmatrix

#: Largest distance to the maximum of the log-likelihood, per unit of evidence.
TOLERANCE = 1e-8
MAX_ITERATIONS = 20_000


@dataclass(frozen=True)
class Mixture:
    """Maximum-likelihood shares of the genomes.

    Attributes
    ----------
    shares : (n_genomes,) float
        Share of the explained evidence that each genome yielded; sums to 1 (all 0 where nothing is explained).
    explained
        Evidence in classes that at least one genome can yield.
    log_likelihood : (iterations,) float
        Of the explained evidence, before each update; never falls.
    gap
        Upper bound on what the log-likelihood per unit of evidence still lacks.
    """

    shares: np.ndarray
    explained: float
    log_likelihood: np.ndarray
    gap: float

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached within the allowed iterations."""
        return self.gap <= TOLERANCE


def mixture(counts: np.ndarray, likelihood: np.ndarray | spmatrix) -> Mixture:
    """Maximum-likelihood shares of genomes, given counts of evidence per class.

    Parameters
    ----------
    counts : (n_classes,)
        Evidence per class, not negative.
    likelihood : (n_classes, n_genomes)
        Probability that evidence of a genome falls into a class. Classes without counts may be left out; the columns
        must not be rescaled then, as what a genome should have yielded but did not speaks against it.

    Returns
    -------
    Mixture
        Genomes that no evidence tells apart share equally, because every genome starts with the same share.

    Raises
    ------
    ValueError
        For shapes that do not match, values that are negative or not finite, or columns whose sum exceeds 1.

    Notes
    -----
    Stops by a bound, not by small steps: the log-likelihood is concave in the shares, so with gradient
    d_g = sum_c n_c P(c|g) / p_c / N it lies at most max_g d_g - 1 per unit of evidence below its maximum
    (Lindsay 1983, Annals of Statistics 11:86, theorem 4.1). The update is share_g <- share_g d_g; after every two, a step
    is extrapolated from them and taken if it is better (SQUAREM, Varadhan and Roland 2008, Scandinavian Journal of
    Statistics 35:335), since plain updates crawl where genomes are alike.
    """
    matrix = csr_matrix(likelihood, dtype=np.float64)
    counts = np.asarray(counts, dtype=np.float64)
    if counts.shape != (matrix.shape[0],):
        raise ValueError(f"{counts.shape} counts for {matrix.shape[0]} classes")
    for name, values in (("counts", counts), ("likelihood", matrix.data)):
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{name} must be finite and not negative")
    if (np.asarray(matrix.sum(axis=0)) > 1 + 1e-6).any():
        raise ValueError("the probabilities of a genome's classes sum to more than 1")
    used = (counts > 0) & (np.asarray(matrix.sum(axis=1)).ravel() > 0)
    counts, matrix = counts[used], matrix[used]
    total = float(counts.sum())
    n_genomes = matrix.shape[1]
    if not total:
        return Mixture(np.zeros(n_genomes), 0.0, np.empty(0), 0.0)
    transposed = csr_matrix(matrix.T)
    # A genome that could have yielded none of the evidence starts, and stays, at nothing.
    possible = np.asarray(matrix.sum(axis=0)).ravel() > 0
    shares = possible / possible.sum()

    def look(at: np.ndarray) -> tuple[float, np.ndarray]:
        class_probability = matrix @ at
        gradient = transposed @ (counts / class_probability) / total
        return float(counts @ np.log(class_probability)), gradient

    history: list[float] = []
    gap = np.inf
    recent = [shares]
    for _ in range(MAX_ITERATIONS):
        value, gradient = look(shares)
        history.append(value)
        gap = float(gradient.max() - 1)
        if gap <= TOLERANCE:
            break
        shares = shares * gradient
        shares /= shares.sum()
        recent.append(shares)
        if len(recent) == 3:
            further = _extrapolated(*recent)
            if look(further)[0] > look(shares)[0]:
                shares = further
            recent = [shares]
    return Mixture(shares, total, np.array(history), max(gap, 0.0))


def _extrapolated(start: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where three successive updates lead to; shares that would vanish at once shrink a hundredfold."""
    step = first - start
    bend = second - first - step
    norm = float(np.linalg.norm(bend))
    if not norm:
        return second
    length = max(float(np.linalg.norm(step)) / norm, 1.0)
    reached = np.maximum(start + 2 * length * step + length**2 * bend, second / 100)
    return reached / reached.sum()
