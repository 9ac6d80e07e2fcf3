"""Alpha diversity of every sample, and whether it differs between groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from latentomics.metagenome.composition import Values, to_shares

#: Faith's diversity needs a tree, Chao's richness counts of singletons: neither is certain to be there.
MEASURES = ("richness", "shannon", "simpson", "evenness")
GROUP_TEST_COLUMNS = (
    "factor",
    "measure",
    "groups",
    "n_samples",
    "statistic",
    "effect",
    "p",
    "p_adjusted",
    "note",
)
#: A group of fewer samples says nothing about its spread.
MIN_GROUP = 3


def alpha_diversity(counts, samples: Sequence[str], values: Values = "counts") -> pd.DataFrame:
    """Diversity within each sample (scikit-bio).

    Parameters
    ----------
    counts
        Samples x taxa, dense or sparse; counts or shares.
    samples
        Sample ids.
    values
        What the table holds. Shannon, Simpson and evenness are functions of the shares and the same for both.

    Returns
    -------
    DataFrame
        Index ``sample``; ``depth`` (counts of the sample, missing for shares), ``richness`` (taxa seen; grows with
        depth, so compare it beside ``depth``), ``shannon`` (nats), ``simpson`` (1 - sum of squared shares),
        ``evenness`` (Pielou: Shannon over its maximum at that richness; missing for a single taxon).
    """
    from skbio.diversity import alpha

    shares = to_shares(counts)
    depth = np.asarray(counts.sum(axis=1), dtype=float).ravel() if values == "counts" else np.nan
    richness = (shares > 0).sum(axis=1)
    shannon = np.array([alpha.shannon(row) for row in shares], dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        evenness = np.where(richness > 1, shannon / np.log(richness), np.nan)
    return pd.DataFrame(
        {
            "depth": depth,
            "richness": richness,
            "shannon": shannon,
            "simpson": [float(alpha.simpson(row)) for row in shares],
            "evenness": evenness,
        },
        index=pd.Index(samples, name="sample"),
    )


def group_tests(diversity: pd.DataFrame, factors: pd.DataFrame) -> pd.DataFrame:
    """Kruskal-Wallis test of every measure between the groups of every factor.

    Depth is tested too: where it differs between groups, so does richness, whatever the biology.

    Parameters
    ----------
    diversity
        From :func:`alpha_diversity`.
    factors
        One column per factor (condition, batch), the same index; empty text and missing values are no group.

    Returns
    -------
    DataFrame
        Columns :data:`GROUP_TEST_COLUMNS`. ``effect`` is epsilon squared, H / (n - 1), between 0 and 1 (Tomczak and
        Tomczak 2014, Trends Sport Sci. 1:19); ``p`` adjusted within a factor by Benjamini and Hochberg. A test that
        cannot be done is a row without figures whose ``note`` says why.
    """
    tables = [_test_factor(diversity, str(name), groups_of(factors[name])) for name in factors]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(GROUP_TEST_COLUMNS))


def groups_of(values: pd.Series) -> pd.Series:
    """Group of every sample as text; missing for empty text and missing values."""
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    return text.where(text != "")


def large_groups(group: pd.Series, at_least: int = MIN_GROUP) -> tuple[pd.Series, str]:
    """Only the samples of groups that are large enough, and a note that says what was left out or what is missing."""
    sizes = group.value_counts()
    large = sorted(sizes.index[sizes >= at_least])
    small = sorted(sizes.index[sizes < at_least])
    kept = group[group.isin(large)]
    left_out = f"left out, fewer than {at_least} samples: {', '.join(small)}" if small else ""
    if len(large) < 2:
        found = f"groups with at least {at_least} samples: {', '.join(large) or 'none'}"
        return kept, f"not tested: two groups are needed; {found}"
    return kept, left_out


def _test_factor(diversity: pd.DataFrame, factor: str, group: pd.Series) -> pd.DataFrame:
    kept, note = large_groups(group)
    names = sorted(kept.unique())
    rows = []
    for measure in ("depth", *MEASURES):
        values = diversity.loc[kept.index, measure].astype(float)
        row = {"factor": factor, "measure": measure, "groups": ", ".join(names), "n_samples": len(kept), "note": note}
        parts = [values[kept == name].dropna() for name in names]
        if note.startswith("not tested"):
            pass
        elif any(len(part) == 0 for part in parts):
            row["note"] = "not tested: the table does not hold this measure"
        elif values.nunique() < 2:
            row["note"] = "not tested: every sample has the same value"
        else:
            statistic, p = stats.kruskal(*parts)
            row |= {"statistic": statistic, "effect": statistic / (sum(map(len, parts)) - 1), "p": p}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(GROUP_TEST_COLUMNS))
    return adjusted(table)


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """Fill ``p_adjusted`` by Benjamini and Hochberg over the rows that have a ``p``."""
    p = table["p"].astype(float)
    table["p_adjusted"] = np.nan
    if p.notna().any():
        table.loc[p.notna(), "p_adjusted"] = stats.false_discovery_control(p.dropna())
    return table
