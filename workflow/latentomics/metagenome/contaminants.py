"""Contaminants: taxa that are more prevalent in negative controls than in samples.

The prevalence test of decontam: Davis NM, Proctor DM, Holmes SP, Relman DA, Callahan BJ (2018) Simple statistical
identification and removal of contaminant sequences in marker-gene and metagenomics data. Microbiome 6:226.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import hypergeom, norm

#: Below this expected count the chi-square approximation is not trusted (R's ``prop.test`` warns, decontam then takes
#: Fisher's exact test).
SMALL = 5


def contaminant_scores(presence: csr_matrix, control: np.ndarray, batch: np.ndarray | None = None) -> np.ndarray:
    """Score of every taxon; low: more prevalent in the negative controls than chance would have it.

    Parameters
    ----------
    presence
        Samples x taxa; an entry above zero means present. Samples in which nothing is present are left out.
    control
        Which samples are negative controls, (samples,).
    batch
        Tested one by one where given, (samples,); the lowest score counts (decontam's ``batch.combine="minimum"``).

    Returns
    -------
    ndarray
        Scores in [0, 1], (taxa,); NaN where the test cannot be done: taxa of fewer than two samples, or no batch that
        has both samples and controls.
    """
    present = csr_matrix(presence > 0)
    control = np.asarray(control, dtype=bool)
    filled = np.diff(present.indptr) > 0
    groups = np.full(len(control), "", dtype=object) if batch is None else np.asarray(batch, dtype=object)
    scores = np.full(present.shape[1], np.nan)
    for group in sorted(set(groups)):
        mine = filled & (groups == group)
        n_control, n_sample = int((mine & control).sum()), int((mine & ~control).sum())
        if not n_control or not n_sample:
            continue
        in_controls = np.asarray(present[mine & control].sum(axis=0), dtype=np.int64).ravel()
        in_samples = np.asarray(present[mine & ~control].sum(axis=0), dtype=np.int64).ravel()
        tested = in_controls + in_samples > 1
        found = prevalence_score(in_controls[tested], n_control, in_samples[tested], n_sample)
        scores[tested] = np.fmin(scores[tested], found)
    return scores


def prevalence_score(in_controls: np.ndarray, n_control: int, in_samples: np.ndarray, n_sample: int) -> np.ndarray:
    """One-sided test of 2 x 2 tables: is the taxon more prevalent in the controls?

    Chi-square with Yates' continuity correction, one-sided by its signed root; Fisher's exact test with the
    probability of the table itself halved (mid-p) where an expected count is below :data:`SMALL`; 0.5 for a taxon that
    is present everywhere.

    Parameters
    ----------
    in_controls, in_samples
        Number of controls and of samples in which each taxon is present, (taxa,).
    n_control, n_sample
        Number of controls and of samples.

    Returns
    -------
    ndarray
        Scores, (taxa,).
    """
    a, c = np.asarray(in_controls, dtype=np.int64), np.asarray(in_samples, dtype=np.int64)
    total, n = a + c, n_control + n_sample
    # Whole numbers are divided last: an expected count of exactly 5 is not below 5.
    expected = np.stack([k * of / n for k in (n_control, n_sample) for of in (total, n - total)])
    difference = a / n_control - c / n_sample
    # The correction never turns the sign: at most the whole difference, as in R's `prop.test`.
    correction = np.minimum(0.5, np.abs(difference) / (1 / n_control + 1 / n_sample))
    deviation = np.abs(a - n_control * total / n) - correction
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (deviation**2 / expected).sum(axis=0)
    chi_square = norm.sf(np.sign(difference) * np.sqrt(statistic))
    exact = hypergeom.sf(a, n, total, n_control) + hypergeom.pmf(a, n, total, n_control) / 2
    score = np.where((expected < SMALL).any(axis=0), exact, chi_square)
    return np.where(total == n, 0.5, score)


def best_attainable(n_control: int, n_sample: int) -> float:
    """Score of a taxon that is in every control and in no sample: the lowest that these numbers can give."""
    if n_control < 2:  # such a taxon is in one sample only and not tested: take one that is also in one sample
        return float(prevalence_score(np.array([n_control]), n_control, np.array([1]), n_sample)[0])
    return float(prevalence_score(np.array([n_control]), n_control, np.array([0]), n_sample)[0])
