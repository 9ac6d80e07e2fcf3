"""Diversity, ordination and PERMANOVA against closed forms and textbook definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.spatial.distance import pdist, squareform

from latentomics.metagenome.composition import normalise
from latentomics.metagenome.diversity import MEASURES, alpha_diversity, group_tests, groups_of
from latentomics.metagenome.ordination import PERMANOVA_COLUMNS, distances, ordinate, permanova_table


def _two_groups(seed: int, shift: float, n: int = 12, taxa: int = 30, spread: float = 0.3) -> tuple:
    rng = np.random.default_rng(seed)
    logs = rng.normal(0, 1, taxa) + rng.normal(0, spread, (2 * n, taxa))
    logs[n:, : taxa // 2] += shift
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    counts = np.array([rng.multinomial(5000, row) for row in shares])
    return counts, pd.Series(["a"] * n + ["b"] * n)


def test_alpha_diversity_closed_forms():
    table = alpha_diversity(csr_matrix(np.array([[5, 5, 5, 5], [10, 0, 0, 0], [8, 2, 0, 0]])), ["even", "one", "two"])
    assert table["depth"].tolist() == [20, 10, 10]
    assert table["richness"].tolist() == [4, 1, 2]
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    np.testing.assert_allclose(table["shannon"], [np.log(4), 0, entropy], atol=1e-12)
    np.testing.assert_allclose(table["simpson"], [0.75, 0, 0.32], atol=1e-12)
    np.testing.assert_allclose(table["evenness"], [1, np.nan, entropy / np.log(2)])


def test_evenness_is_scikit_bios_pielou():
    from skbio.diversity import alpha

    counts = np.random.default_rng(0).poisson(3, (6, 20))
    expected = [alpha.pielou_e(row) for row in counts]
    np.testing.assert_allclose(alpha_diversity(counts, list("abcdef"))["evenness"], expected)


def test_shares_give_the_same_but_no_depth():
    counts = np.random.default_rng(0).poisson(3, (4, 20))
    ids = list("abcd")
    relative = alpha_diversity(counts / counts.sum(axis=1, keepdims=True), ids, values="relative")
    pd.testing.assert_frame_equal(relative[list(MEASURES)], alpha_diversity(counts, ids)[list(MEASURES)])
    assert relative["depth"].isna().all()


def test_kruskal_wallis_by_hand():
    diversity = pd.DataFrame({m: np.arange(1.0, 7) for m in ("depth", *MEASURES)}, index=list("abcdef"))
    factors = pd.DataFrame({"condition": ["x"] * 3 + ["y"] * 3}, index=diversity.index)
    table = group_tests(diversity, factors)
    # complete separation of 3 and 3: H = 12 / (6 * 7) * (36 / 3 + 225 / 3) - 3 * 7
    h = 12 / 42 * (36 / 3 + 225 / 3) - 21
    np.testing.assert_allclose(table["statistic"], h)
    np.testing.assert_allclose(table["effect"], h / 5)
    np.testing.assert_allclose(table["p"], stats.chi2.sf(h, 1))
    np.testing.assert_allclose(table["p_adjusted"], stats.chi2.sf(h, 1))


def test_what_cannot_be_tested_has_a_row_that_says_why():
    diversity = alpha_diversity(np.random.default_rng(0).poisson(3, (8, 9)) / 2, range(8), values="relative")
    factors = pd.DataFrame({"condition": ["a"] * 8, "batch": ["1"] * 4 + ["2"] * 4, "none": [None, ""] * 4})
    table = group_tests(diversity, factors).set_index(["factor", "measure"])
    assert "two groups are needed; groups with at least 3 samples: a" in table.loc[("condition", "shannon"), "note"]
    assert table.loc[("none", "shannon"), "note"].endswith("none")
    assert "does not hold this measure" in table.loc[("batch", "depth"), "note"]
    assert table.loc[("batch", "shannon"), "p"] <= 1 and table.loc[("batch", "shannon"), "note"] == ""


def test_small_groups_are_left_out_and_named():
    diversity = alpha_diversity(np.random.default_rng(0).poisson(3, (7, 9)), range(7))
    table = group_tests(diversity, pd.DataFrame({"condition": list("aaabbbc")}))
    assert (table["n_samples"] == 6).all()
    assert table["note"].str.contains("fewer than 3 samples: c").all()


def test_groups_of_knows_what_is_no_group():
    assert groups_of(pd.Series(["a", "", " ", None, np.nan, 1])).fillna("-").tolist() == ["a", "-", "-", "-", "-", "1"]


def test_distances_by_definition():
    counts = np.random.default_rng(0).poisson(3, (5, 8)) + 1
    z = np.log(counts) - np.log(counts).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(distances(counts, "aitchison"), squareform(pdist(z)), atol=1e-9)
    np.testing.assert_allclose(distances(counts * 7, "aitchison"), distances(counts, "aitchison"), atol=1e-9)
    p, q = counts[0] / counts[0].sum(), counts[1] / counts[1].sum()
    assert distances(counts, "braycurtis")[0, 1] == pytest.approx(np.abs(p - q).sum() / 2)
    with pytest.raises(ValueError, match="unifrac"):
        distances(counts, "unifrac")


def test_pcoa_on_aitchison_is_pca_of_clr():
    counts, _ = _two_groups(0, 1.0)
    table = ordinate(counts, [f"s{i}" for i in range(len(counts))])
    z = normalise(counts, "clr", 0)
    z = z - z.mean(axis=0)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    for axis in (0, 1):
        expected = u[:, axis] * s[axis]
        np.testing.assert_allclose(np.abs(table[f"aitchison{axis + 1}"]), np.abs(expected), atol=1e-6)
        np.testing.assert_allclose(table[f"aitchison{axis + 1}_explained"], s[axis] ** 2 / (s**2).sum())
    assert list(table.columns[:4]) == ["aitchison1", "aitchison2", "braycurtis1", "braycurtis2"]
    assert table.index.name == "sample"
    pd.testing.assert_frame_equal(table, ordinate(csr_matrix(counts), table.index))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_samples_are_no_failure(n):
    counts = np.random.default_rng(0).poisson(5, (n, 6)) + 1
    table = ordinate(counts, list(range(n)))
    assert table["aitchison1"].notna().all() == (n == 3)
    assert "two groups" in permanova_table(distances(counts, "aitchison"), pd.DataFrame({"x": ["a"] * n}), 0)["note"][0]


def test_identical_samples_are_no_failure():
    counts = np.tile([3, 2, 1], (6, 1))
    assert ordinate(counts, list("abcdef"))["braycurtis1"].isna().all()
    table = permanova_table(distances(counts, "aitchison"), pd.DataFrame({"x": list("aaabbb")}), 0)
    assert table["note"][0] == "not tested: all samples are alike" and np.isnan(table["p"][0])


def test_permanova_by_anderson_2001():
    counts, group = _two_groups(2, 0.5)
    d = distances(counts, "aitchison")
    row = permanova_table(d, pd.DataFrame({"condition": group}), seed=3).iloc[0]
    n, total = len(d), (d[np.triu_indices(len(d), 1)] ** 2).sum() / len(d)
    within = 0.0
    for name in "ab":
        block = d[np.ix_(group == name, group == name)]
        within += (block[np.triu_indices(len(block), 1)] ** 2).sum() / len(block)
    assert row["pseudo_f"] == pytest.approx((total - within) / (within / (n - 2)))
    assert row["r_squared"] == pytest.approx(1 - within / total)
    assert row["p"] == pytest.approx(1 / 1000) and row["n_permutations"] == 999
    assert row["dispersion_p"] > 0.05 and row["note"] == ""


def test_permanova_and_dispersion_are_uniform_under_the_null():
    rng = np.random.default_rng(1)
    factor = pd.DataFrame({"condition": ["a"] * 8 + ["b"] * 8})
    rows = [permanova_table(squareform(pdist(rng.normal(size=(16, 4)))), factor, i, 99) for i in range(80)]
    for column in ("p", "dispersion_p"):
        assert stats.kstest([row[column][0] for row in rows], "uniform").pvalue > 0.01


def test_permutations_follow_the_seed_and_not_the_other_factors():
    counts, group = _two_groups(3, 0.1)
    d, factor = distances(counts, "aitchison"), pd.DataFrame({"condition": group})
    one = permanova_table(d, factor, 1, 199)
    pd.testing.assert_frame_equal(one, permanova_table(d, factor, 1, 199))
    assert one["p"][0] != permanova_table(d, factor, 2, 199)["p"][0]
    both = permanova_table(d, pd.DataFrame({"batch": list("ab") * 12, "condition": group}), 1, 199)
    assert both["p"][1] == one["p"][0]


def test_dispersion_is_found_and_said():
    rng = np.random.default_rng(0)
    logs = rng.normal(0, 1, 30) + np.vstack([rng.normal(0, 0.1, (15, 30)), rng.normal(0, 1.2, (15, 30))])
    counts = np.array([rng.multinomial(20000, np.exp(row) / np.exp(row).sum()) for row in logs])
    table = permanova_table(distances(counts, "aitchison"), pd.DataFrame({"x": ["a"] * 15 + ["b"] * 15}), 0)
    assert table["dispersion_p"][0] < 0.01
    assert "may mean that, not different centres" in table["note"][0]


def test_clusters_are_marked_as_found_in_the_data():
    counts, group = _two_groups(0, 1.0)
    factors = pd.DataFrame({"cluster": group, "batch": list("xyz") * 8})
    table = permanova_table(distances(counts, "aitchison"), factors, 0, 99, chosen_on_data=["cluster"])
    assert tuple(table.columns) == PERMANOVA_COLUMNS
    assert "found in the same data" in table["note"][0] and table["note"][1] == ""
    assert np.isnan(table["p_adjusted"][0]) and table["p_adjusted"][1] == table["p"][1]
