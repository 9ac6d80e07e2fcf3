"""Distances between samples: principal coordinates and PERMANOVA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist, squareform

from latentomics.metagenome.composition import normalise
from latentomics.metagenome.diversity import adjusted, groups_of, large_groups

DISTANCES = ("aitchison", "braycurtis")
PERMANOVA_COLUMNS = (
    "factor",
    "groups",
    "n_samples",
    "r_squared",
    "pseudo_f",
    "p",
    "p_adjusted",
    "n_permutations",
    "dispersion_f",
    "dispersion_p",
    "note",
)
#: Below this, groups are taken to differ in spread.
ALPHA = 0.05


def distances(counts, metric: str, delta: float | None = None) -> np.ndarray:
    """Distances between samples, shape (n_samples, n_samples).

    ``aitchison`` is the Euclidean distance of centred log-ratios (Aitchison 1982), ``braycurtis`` that of Bray and
    Curtis (1957) between shares, so that depth plays no part.

    Parameters
    ----------
    counts
        Samples x taxa, dense or sparse; counts or shares.
    delta
        Share that replaces a zero under ``aitchison``.
    """
    if metric == "aitchison":
        return squareform(pdist(normalise(counts, "clr", seed=0, delta=delta)))
    if metric == "braycurtis":
        return squareform(pdist(normalise(counts, "relative", seed=0), "braycurtis"))
    raise ValueError(f"distance {metric!r} is not known: {' or '.join(DISTANCES)}")


def ordinate(counts, samples: Sequence[str], delta: float | None = None) -> pd.DataFrame:
    """Principal coordinates of both distances (scikit-bio's ``pcoa``, exact eigendecomposition).

    Returns
    -------
    DataFrame
        Index ``sample``; ``aitchison1 aitchison2 braycurtis1 braycurtis2``, and for each its share of the variation,
        the same in every row, as ``aitchison1_explained`` and so on. Signs are fixed (the largest coordinate is
        positive). Missing where the samples span fewer dimensions, as two of them do.
    """
    coordinates, explained = {}, {}
    for metric in DISTANCES:
        axes, shares = _pcoa(distances(counts, metric, delta))
        for i in (0, 1):
            coordinates[f"{metric}{i + 1}"] = axes[:, i]
            explained[f"{metric}{i + 1}_explained"] = shares[i]
    return pd.DataFrame(coordinates | explained, index=pd.Index(samples, name="sample"))


def _pcoa(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates (n_samples x 2) and their shares of the variation; missing where there is no such axis."""
    from skbio import DistanceMatrix
    from skbio.stats.ordination import pcoa

    n = len(matrix)
    coordinates, explained = np.full((n, 2), np.nan), np.full(2, np.nan)
    if n < 3 or not matrix.any():
        return coordinates, explained
    # Bray-Curtis is not Euclidean: small negative eigenvalues belong to it and need no warning.
    result = pcoa(DistanceMatrix(matrix), method="eigh", dimensions=n, warn_neg_eigval=False)
    axes = result.samples.to_numpy()[:, :2]
    shares = result.proportion_explained.to_numpy()[:2]
    real = shares > 1e-12
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    coordinates[:, : axes.shape[1]] = np.where(real, axes, np.nan)
    explained[: len(shares)] = np.where(real, shares, np.nan)
    return coordinates, explained


def permanova_table(
    matrix: np.ndarray, factors: pd.DataFrame, seed: int, n_permutations: int = 999, chosen_on_data: Sequence[str] = ()
) -> pd.DataFrame:
    """Does composition differ between groups? PERMANOVA with its dispersion check, one factor at a time.

    Parameters
    ----------
    matrix
        Distances, n_samples x n_samples.
    factors
        One column per factor (condition, batch, cluster), rows as in ``matrix``; empty and missing values are no group.
    seed
        Of the permutations; every factor starts from it, so that its row does not depend on the others.
    chosen_on_data
        Factors that were found in these very data (clusters): their p is no evidence, it is not adjusted with the
        others, and the note says so.

    Returns
    -------
    DataFrame
        Columns :data:`PERMANOVA_COLUMNS`: pseudo-F and p of Anderson (2001, Austral Ecol. 26:32), ``r_squared`` the
        share of squared distances between groups, ``dispersion_f`` and ``dispersion_p`` of Anderson (2006, Biometrics
        62:245; distances to the group's centroid, permuted), ``p`` adjusted over factors by Benjamini and Hochberg. A
        factor that cannot be tested has a row whose ``note`` says why.
    """
    rows = []
    for name in factors:
        group = groups_of(factors[name].reset_index(drop=True))
        kept, note = large_groups(group)
        names = sorted(kept.unique())
        row = {"factor": name, "groups": ", ".join(names), "n_samples": len(kept), "note": note}
        if not note.startswith("not tested"):
            row |= _permanova(matrix[np.ix_(kept.index, kept.index)], kept.to_numpy(str), seed, n_permutations)
            row["note"] = "; ".join(filter(None, [note, _warning(row, name in chosen_on_data)]))
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(PERMANOVA_COLUMNS))
    evidence = adjusted(table[~table["factor"].isin(list(chosen_on_data))].copy())
    table["p_adjusted"] = evidence["p_adjusted"].reindex(table.index)
    return table


def _permanova(matrix: np.ndarray, group: np.ndarray, seed: int, n_permutations: int) -> dict[str, float]:
    from skbio import DistanceMatrix
    from skbio.stats.distance import permanova, permdisp

    if not matrix.any():
        return {}
    distance, n, k = DistanceMatrix(matrix), len(matrix), len(np.unique(group))
    # The engine is named: the default depends on whether numba is there, and with it the order of the permutations.
    exact = {"permutations": n_permutations, "seed": seed, "engine": "cython"}
    location = permanova(distance, group, **exact)
    spread = permdisp(distance, group, test="centroid", dimensions=n, warn_neg_eigval=False, **exact)
    pseudo_f = float(location["test statistic"])
    ratio = pseudo_f * (k - 1) / (n - k)
    return {
        "r_squared": ratio / (1 + ratio),
        "pseudo_f": pseudo_f,
        "p": float(location["p-value"]),
        "n_permutations": n_permutations,
        "dispersion_f": float(spread["test statistic"]),
        "dispersion_p": float(spread["p-value"]),
    }


def _warning(row: dict, chosen_on_data: bool) -> str:
    if "p" not in row:
        return "not tested: all samples are alike"
    parts = []
    if row["dispersion_p"] < ALPHA:
        parts.append(
            "groups differ in their spread (dispersion): a significant PERMANOVA may mean that, not different centres"
        )
    if chosen_on_data:
        parts.append("these groups were found in the same data: their p says nothing new, r_squared describes them")
    return "; ".join(parts)
