"""Differential abundance of taxa, between conditions and between clusters.

ANCOM-BC2 (Lin and Peddada 2024, Nat. Methods 21:83; scikit-bio's ``ancombc2``): a linear model of log abundance per taxon,
whose common shift between groups (the sampling fraction, and the push that one blooming taxon gives all others) is
estimated and removed. It uses nothing but ratios, so shares serve as well as counts.

How zeros are read decides more than the test does (the authors' own sensitivity analysis to pseudocounts): replaced, they
pull the group with fewer reads per taxon down; left out as missing, they push it up. Each taxon is therefore tested both
ways and counts as different only if both say so in the same direction: ``p`` is the larger of the two (1 where the
directions disagree) and the interval spans both. A taxon with too few observations for the second fit, as one that a whole
group lacks, is judged by the first alone. What remains: where one taxon takes nearly all reads of a group, others fall
below the detection limit there, and some of them still pass for different; so do a few where a fifth of all taxa rise
together in large groups.

Where the model cannot be fitted (too few taxa for its mixture) the centred log-ratios are compared by Welch's t test
instead, and ``method`` says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse import csc_matrix

from latentomics.cluster.markers import COLUMNS as MARKER_COLUMNS
from latentomics.cluster.markers import _natural, rank_sum
from latentomics.config.associations import Associations
from latentomics.io.store import CountsStore
from latentomics.metagenome.composition import default_delta, normalise, replace_zeros, to_shares
from latentomics.metagenome.diversity import alpha_diversity, group_tests, groups_of, large_groups
from latentomics.metagenome.ordination import distances, ordinate, permanova_table
from latentomics.problems import InputError, Problem

ASSOCIATION_COLUMNS = (
    "taxon",
    "lineage",
    "group",
    "reference",
    "effect",
    "low",
    "high",
    "p",
    "p_adjusted",
    "method",
    "note",
)
ANCOM_BC2 = "ANCOM-BC2"
CLR_WELCH = "CLR + Welch"


@dataclass(frozen=True)
class Difference:
    """Log fold changes (natural) of every taxon between two groups, arrays of shape (n_taxa,).

    ``low`` and ``high`` bound the 95 % interval; ``p`` is two-sided and not adjusted.
    """

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    method: str


def compare(counts, inside: np.ndarray) -> Difference:
    """Compare the taxa of two groups of samples.

    Parameters
    ----------
    counts
        Samples x taxa, dense; counts or shares; no taxon absent from every sample. Samples with none of them are
        left out.
    inside
        Boolean, shape (n_samples,): the group; the others are its reference.
    """
    some = counts.sum(axis=1) > 0
    shares, inside = to_shares(counts[some]), inside[some]
    replaced = replace_zeros(shares, default_delta(shares))
    first = _ancombc2(replaced, inside, np.full(shares.shape[1], len(shares)))
    if first is None or not np.isfinite(first.p).all():
        return _welch(replaced, inside)
    if (shares > 0).all():
        return first
    second = _ancombc2(shares, inside, (shares > 0).sum(axis=0))
    return first if second is None else _both(first, second)


def _ancombc2(table: np.ndarray, inside: np.ndarray, observed: np.ndarray) -> Difference | None:
    """One fit; zeros of ``table`` are missing values. None if the mixture of the bias cannot be estimated."""
    from skbio.stats.composition import ancombc2

    group = pd.DataFrame({"group": pd.Categorical(np.where(inside, "b", "a"), categories=["a", "b"])})
    try:
        # Features with a single observation divide by zero degrees of freedom: their NaN is handled below.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fitted = ancombc2(pd.DataFrame(table), group, "group", p_adjust=None).result
    except (ValueError, np.linalg.LinAlgError, FloatingPointError):
        return None
    fitted = fitted.xs("group[T.b]", level=1).reindex(range(table.shape[1]))
    effect, error, p = (fitted[name].to_numpy(dtype=float) for name in ("Log(FC)", "SE", "pvalue"))
    with np.errstate(invalid="ignore"):
        half = error * stats.t.ppf(0.975, np.where(observed > 2, observed - 2, np.nan))
    p = np.where(np.isfinite(effect) & np.isfinite(half), p, np.nan)
    return Difference(effect, effect - half, effect + half, p, ANCOM_BC2)


def _both(first: Difference, second: Difference) -> Difference:
    known = np.isfinite(second.p)
    agree = np.sign(first.effect) == np.sign(second.effect)
    p = np.where(known, np.where(agree, np.fmax(first.p, second.p), 1.0), first.p)
    return Difference(first.effect, np.fmin(first.low, second.low), np.fmax(first.high, second.high), p, ANCOM_BC2)


def _welch(replaced: np.ndarray, inside: np.ndarray) -> Difference:
    z = normalise(replaced, "clr", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant taxa: p is missing, set to 1 below
        result = stats.ttest_ind(z[inside], z[~inside], equal_var=False)
        interval = result.confidence_interval(0.95)
    effect = z[inside].mean(axis=0) - z[~inside].mean(axis=0)
    p = np.where(np.isfinite(result.pvalue), result.pvalue, 1.0)
    return Difference(effect, np.asarray(interval.low), np.asarray(interval.high), p, CLR_WELCH)


def condition_associations(counts, var: pd.DataFrame, condition: pd.Series, params: Associations) -> pd.DataFrame:
    """Taxa that differ between each condition and the reference.

    Parameters
    ----------
    counts
        Samples x taxa, dense or CSR; counts or shares.
    var
        Index: taxon; column ``lineage``.
    condition
        Condition of every sample; empty and missing are left out.

    Returns
    -------
    DataFrame
        Columns :data:`ASSOCIATION_COLUMNS`, sorted by group, then ``p``. ``effect`` (with ``low`` and ``high``, its 95 %
        interval) is the natural log fold change, ``group`` over ``reference``; ``p_adjusted`` after Benjamini and
        Hochberg within a group. With fewer than two conditions: one row whose ``note`` says what is missing.

    Raises
    ------
    InputError
        The configured reference is not a condition, or has too few samples.
    """
    kept, note = large_groups(groups_of(condition.reset_index(drop=True)), params.min_group)
    if note.startswith("not tested"):
        return pd.DataFrame([{"note": note}], columns=list(ASSOCIATION_COLUMNS))
    names = sorted(kept.unique())
    reference = names[0] if params.reference is None else params.reference
    if reference not in names:
        raise InputError(
            Problem(
                "config.yaml",
                f"no condition of that name with at least {params.min_group} samples",
                f"conditions that can be compared: {', '.join(names)}.",
                key="associations.reference",
                value=reference,
            )
        )
    tables = []
    for name in names:
        if name == reference:
            continue
        rows = kept.index[kept.isin([name, reference])].to_numpy()
        table = to_shares(counts[rows])
        tested = np.flatnonzero(_prevalent(table, params.min_prevalence))
        found = compare(table[:, tested], (kept[rows] == name).to_numpy())
        result = pd.DataFrame(
            {
                "taxon": var.index[tested],
                "lineage": var["lineage"].astype(str).to_numpy()[tested],
                "group": name,
                "reference": reference,
                "effect": found.effect,
                "low": found.low,
                "high": found.high,
                "p": found.p,
                "p_adjusted": stats.false_discovery_control(found.p),
                "method": found.method,
                "note": note,
            }
        )
        tables.append(result.sort_values(["p", "taxon"], kind="stable"))
    return pd.concat(tables, ignore_index=True)[list(ASSOCIATION_COLUMNS)]


def cluster_markers(counts, var: pd.DataFrame, clusters: pd.Series, min_prevalence: float = 0.1) -> pd.DataFrame:
    """Taxa that set each cluster apart from all other samples: what ``cluster.markers.find_markers`` is for cells.

    Parameters
    ----------
    counts
        Samples x taxa, dense or CSR; counts or shares.
    var
        Index: taxon; ``symbol`` where known.
    clusters
        Cluster of every sample.
    min_prevalence
        Taxa seen in a smaller fraction of every cluster are not tested.

    Returns
    -------
    DataFrame
        The columns of :data:`latentomics.cluster.markers.COLUMNS`. ``auroc`` is of the centred log-ratios (CLR),
        ``mean_in`` and ``mean_out`` are their means, ``log2_fold_change`` is the difference of those in bits; ``p`` is
        that of :func:`compare` (1 for a cluster of fewer than three samples, or all but fewer than three), adjusted
        within the cluster by Benjamini and Hochberg. The clusters were found in these data, so ``p`` ranks taxa, it does
        not prove clusters.
    """
    labels = clusters.astype(str).to_numpy()
    names = sorted(set(labels), key=_natural)
    if len(names) < 2:
        return pd.DataFrame(columns=list(MARKER_COLUMNS))
    shares = to_shares(counts)
    code = pd.Categorical(labels, categories=names).codes
    seen = np.array([(shares[code == i] > 0).mean(axis=0) for i in range(len(names))])
    tested = np.flatnonzero((seen >= min_prevalence).any(axis=0) & (shares > 0).any(axis=0))
    z = normalise(shares, "clr", seed=0)[:, tested]
    auroc, _ = rank_sum(csc_matrix(z), code, len(names))
    symbols = var["symbol"].astype(str).to_numpy() if "symbol" in var else var.index.to_numpy()
    tables = []
    for i, name in enumerate(names):
        inside = code == i
        enough = min(inside.sum(), (~inside).sum()) >= 3
        p = compare(shares[:, tested], inside).p if enough else np.ones(len(tested))
        mean_in, mean_out = z[inside].mean(axis=0), z[~inside].mean(axis=0)
        table = pd.DataFrame(
            {
                "cluster": name,
                "feature": var.index[tested],
                "symbol": symbols[tested],
                "auroc": auroc[i],
                "log2_fold_change": (mean_in - mean_out) / np.log(2),
                "fraction_in": seen[i, tested],
                "fraction_out": (shares[~inside][:, tested] > 0).mean(axis=0),
                "mean_in": mean_in,
                "mean_out": mean_out,
                "p": p,
                "p_adjusted": stats.false_discovery_control(p),
            }
        )
        table = table.sort_values(["auroc", "feature"], ascending=[False, True], kind="stable", ignore_index=True)
        table.insert(3, "rank", np.arange(1, len(table) + 1))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[list(MARKER_COLUMNS)]


def study_tables(
    store: CountsStore, clusters: pd.Series, params: Associations, delta: float | None, seed: int
) -> dict[str, pd.DataFrame]:
    """All that is said about a study's samples: diversity, ordination, and how both differ between groups.

    Parameters
    ----------
    store
        Samples x taxa; ``obs`` may have ``condition`` and ``batch``, ``var`` has ``lineage``.
    clusters
        Cluster of every sample, by its id.
    delta
        Share that replaces a zero in Aitchison distances (``composition.delta``).

    Returns
    -------
    dict
        ``diversity`` and ``ordination`` (index ``sample``), ``diversity_tests``, ``permanova``, ``associations``.
    """
    counts, obs = store.select(), store.obs
    known = obs[[name for name in ("condition", "batch") if name in obs]]
    factors = known.assign(cluster=clusters.reindex(obs.index))
    diversity = alpha_diversity(counts, obs.index, store.values)
    condition = obs["condition"] if "condition" in obs else pd.Series("", index=obs.index)
    return {
        "diversity": diversity,
        "diversity_tests": group_tests(diversity, known),
        "ordination": ordinate(counts, obs.index, delta),
        "permanova": permanova_table(
            distances(counts, "aitchison", delta), factors, seed, params.n_permutations, chosen_on_data=["cluster"]
        ),
        "associations": condition_associations(counts, store.var, condition, params),
    }


def _prevalent(shares: np.ndarray, at_least: float) -> np.ndarray:
    seen = (shares > 0).mean(axis=0)
    return (seen >= at_least) & (seen > 0)
