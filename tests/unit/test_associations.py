"""Differential abundance: planted truth, null data, the bloom of one taxon, and the shape of both tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.sparse import csr_matrix

from latentomics.cluster.markers import COLUMNS
from latentomics.config.associations import Associations
from latentomics.io.store import CountsStore, CountsWriter
from latentomics.metagenome import associations
from latentomics.metagenome.associations import (
    ANCOM_BC2,
    ASSOCIATION_COLUMNS,
    CLR_WELCH,
    cluster_markers,
    compare,
    study_tables,
)
from latentomics.metagenome.associations import condition_associations as associate
from latentomics.metagenome.composition import normalise
from latentomics.problems import InputError

PARAMS = Associations()


def _community(seed: int, effects: dict[int, float], n: int = 20, taxa: int = 60, ratio: float = 1, depth: int = 50000):
    """Counts of two groups of ``n``; taxa sorted by abundance, the rarest first; log fold changes of some."""
    rng = np.random.default_rng(seed)
    base = np.sort(rng.normal(0, 2, taxa))
    logs = base + rng.normal(0, 1, (2 * n, taxa))
    for taxon, effect in effects.items():
        logs[n:, taxon] += effect
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    depths = depth * rng.lognormal(0, 0.5, 2 * n) * np.repeat([1, ratio], n)
    counts = np.array([rng.multinomial(int(d), row) for d, row in zip(depths, shares, strict=True)])
    var = pd.DataFrame({"lineage": [f"d__Bacteria;s__taxon {i}" for i in range(taxa)]}, index=_names(taxa))
    var["symbol"] = var.index
    return counts, var, pd.Series(["a"] * n + ["b"] * n)


def _names(taxa: int) -> list[str]:
    return [f"taxon {i}" for i in range(taxa)]


def test_planted_taxa_are_found_and_little_else():
    planted = {30: 2.5, 36: -2.5, 42: 2.5, 48: -2.5, 54: 2.5, 33: 2.5}
    found, false = 0, 0
    for seed in range(4):
        counts, var, group = _community(seed, planted)
        table = associate(csr_matrix(counts), var, group, PARAMS)
        assert tuple(table.columns) == ASSOCIATION_COLUMNS
        hits = table[table["p_adjusted"] < 0.05]
        true = hits["taxon"].isin([f"taxon {i}" for i in planted])
        found, false = found + true.sum(), false + (~true).sum()
        by_taxon = table.set_index("taxon")
        for i, effect in planted.items():
            row = by_taxon.loc[f"taxon {i}"]
            assert np.sign(row["effect"]) == np.sign(effect)
            assert row["low"] < row["effect"] < row["high"]
    assert found >= 0.9 * 4 * len(planted)
    assert false <= 0.1 * (found + false)


def test_intervals_cover_the_truth():
    covered = []
    for seed in range(5):
        counts, var, group = _community(seed, {40: 1.5, 50: -1.5}, depth=2_000_000)
        table = associate(counts, var, group, PARAMS).set_index("taxon")
        truth = pd.Series(0.0, table.index)
        truth[["taxon 40", "taxon 50"]] = [1.5, -1.5]
        covered += ((table["low"] <= truth) & (truth <= table["high"])).tolist()
    assert np.mean(covered) > 0.9


@pytest.mark.parametrize("ratio", [1, 4])
def test_null_data_have_no_differences_even_if_one_group_is_sequenced_deeper(ratio):
    small, any_found = [], 0
    for seed in range(6):
        counts, var, group = _community(seed, {}, ratio=ratio, depth=10000)
        table = associate(counts, var, group, PARAMS)
        small.append((table["p"] < 0.05).mean())
        any_found += (table["p_adjusted"] < 0.05).any()
    assert np.mean(small) <= 0.06 and any_found <= 1


def test_the_bloom_of_one_taxon_is_not_the_decline_of_all_others():
    false, fooled = [], []
    for seed in range(4):
        counts, var, group = _community(seed, {59: 4.0}, depth=500_000)
        table = associate(counts, var, group, PARAMS)
        hits = table[table["p_adjusted"] < 0.05]["taxon"]
        assert "taxon 59" in set(hits)
        false.append(len(hits) - 1)
        shares = counts / counts.sum(axis=1, keepdims=True)
        naive = stats.ttest_ind(shares[group == "a"], shares[group == "b"], equal_var=False).pvalue
        fooled.append((stats.false_discovery_control(naive) < 0.05).sum() - 1)
    assert np.mean(false) <= 1 < 10 <= np.mean(fooled)


def test_shares_give_what_counts_give():
    counts, var, group = _community(0, {50: 2.5})
    first = associate(counts, var, group, PARAMS)
    shares = counts / counts.sum(axis=1, keepdims=True)
    pd.testing.assert_frame_equal(first, associate(shares * 100, var, group, PARAMS), rtol=1e-6)


def test_p_and_interval_are_those_of_scikit_bio_where_nothing_is_zero():
    from skbio.stats.composition import ancombc2

    counts, _, group = _community(1, {10: 1.0}, depth=10_000_000)
    counts = counts + 1
    inside = (group == "b").to_numpy()
    found = compare(counts, inside)
    expected = ancombc2(pd.DataFrame(counts), pd.DataFrame({"g": group}), "g", p_adjust=None).result
    expected = expected.xs("g[T.b]", level=1)
    assert found.method == ANCOM_BC2
    np.testing.assert_allclose(found.effect, expected["Log(FC)"], atol=1e-4)
    np.testing.assert_allclose(found.p, expected["pvalue"], atol=1e-3)
    # the interval belongs to the same t: it excludes 0 exactly where p < 0.05
    np.testing.assert_array_equal((found.low > 0) | (found.high < 0), found.p < 0.05)


def test_p_and_interval_agree_with_zeros_too():
    counts, _, group = _community(2, {40: 2.0, 20: -2.0}, depth=3000)
    counts = counts[:, (counts > 0).mean(axis=0) > 0.1]
    found = compare(counts, (group == "b").to_numpy())
    assert (counts == 0).mean() > 0.1
    outside = (found.low > 0) | (found.high < 0)
    np.testing.assert_array_equal(outside, found.p < 0.05)


def test_a_taxon_that_one_group_lacks_is_found():
    counts, var, group = _community(3, {})
    counts[:20, 45] = 0
    row = associate(counts, var, group, PARAMS).set_index("taxon").loc["taxon 45"]
    assert row["p_adjusted"] < 0.01 and row["effect"] > 0 and row["low"] > 0


def test_the_fallback_says_so(monkeypatch):
    counts, var, group = _community(0, {50: 3.0})
    monkeypatch.setattr(associations, "_ancombc2", lambda *_: None)
    table = associate(counts, var, group, PARAMS)
    assert set(table["method"]) == {CLR_WELCH}
    row = table.set_index("taxon").loc["taxon 50"]
    seen = (counts > 0).mean(axis=0) >= 0.1
    z = normalise(counts[:, seen], "clr", 0)[:, list(np.flatnonzero(seen)).index(50)]
    result = stats.ttest_ind(z[20:], z[:20], equal_var=False)
    assert row["p"] == pytest.approx(result.pvalue)
    assert row["low"] == pytest.approx(result.confidence_interval().low)


@pytest.mark.parametrize("taxa", [1, 2, 3])
def test_very_few_taxa_are_no_failure(taxa):
    counts, var, group = _community(0, {}, taxa=taxa)
    table = associate(counts, var, group, PARAMS)
    assert len(table) == taxa and table["p"].between(0, 1).all()


def test_three_conditions_against_the_reference():
    counts, var, _ = _community(0, {50: 2.5})
    group = pd.Series(["b"] * 10 + ["c"] * 10 + ["a"] * 20)
    assert set(associate(counts, var, group, PARAMS)["group"]) == {"b", "c"}
    table = associate(counts, var, group, Associations(reference="c"))
    assert set(table["reference"]) == {"c"} and list(table["group"].unique()) == ["a", "b"]
    within = table[table["group"] == "a"]
    np.testing.assert_allclose(within["p_adjusted"], stats.false_discovery_control(within["p"]))


def test_an_unknown_reference_is_an_error_that_lists_the_conditions():
    counts, var, group = _community(0, {})
    with pytest.raises(InputError, match=r"associations\.reference.*'healthy'(.|\n)*compared: a, b"):
        associate(counts, var, group, Associations(reference="healthy"))


@pytest.mark.parametrize("group", [["a"] * 40, [""] * 40, ["a"] * 37 + ["b"] * 3, [None] * 40])
def test_one_group_is_no_failure(group):
    counts, var, _ = _community(0, {})
    table = associate(counts, var, pd.Series(group), PARAMS)
    assert len(table) == 1 and table["note"][0].startswith("not tested: two groups are needed")


def test_samples_without_a_condition_do_not_matter():
    counts, var, group = _community(0, {50: 2.5})
    more = np.vstack([counts, np.random.default_rng(0).poisson(5, (4, 60))])
    with_blanks = pd.Series([*group, "", None, "", np.nan])
    pd.testing.assert_frame_equal(associate(counts, var, group, PARAMS), associate(more, var, with_blanks, PARAMS))


def test_cluster_markers():
    counts, var, group = _community(0, {50: 3.0, 40: -3.0})
    clusters = group.map({"a": "0", "b": "10"})
    table = cluster_markers(csr_matrix(counts), var, clusters)
    assert tuple(table.columns) == COLUMNS
    assert list(table["cluster"].unique()) == ["0", "10"]
    top = table[table["rank"] == 1].set_index("cluster")
    assert top["feature"].to_dict() == {"0": "taxon 40", "10": "taxon 50"}
    assert (top["p_adjusted"] < 0.01).all() and (top["auroc"] > 0.9).all()
    z = normalise(counts, "clr", 0)
    row = table[(table["cluster"] == "10") & (table["feature"] == "taxon 50")].iloc[0]
    assert row["mean_in"] == pytest.approx(z[20:, 50].mean())
    assert row["mean_out"] == pytest.approx(z[:20, 50].mean())
    assert row["log2_fold_change"] == pytest.approx((z[20:, 50].mean() - z[:20, 50].mean()) / np.log(2))
    assert row["fraction_in"] == (counts[20:, 50] > 0).mean()
    u = stats.mannwhitneyu(z[20:, 50], z[:20, 50]).statistic
    assert row["auroc"] == pytest.approx(u / 400)


def test_cluster_markers_of_one_and_of_tiny_clusters():
    counts, var, _ = _community(0, {})
    assert cluster_markers(counts, var, pd.Series(["0"] * 40)).empty
    table = cluster_markers(counts, var, pd.Series(["0"] * 39 + ["1"]))
    assert (table["p"] == 1).all() and table["auroc"].between(0, 1).all()


def _store(path, counts, var, obs, dtype="int32") -> CountsStore:
    matrix = csr_matrix(counts)
    writer = CountsWriter(path, *matrix.shape, matrix.nnz, dtype=dtype)
    writer.append(matrix)
    writer.close(obs, var)
    return CountsStore(path)


@pytest.mark.parametrize("values", ["counts", "relative"])
def test_study_tables(tmp_path, values):
    counts, var, group = _community(0, {50: 2.5})
    if values == "relative":
        counts = counts / counts.sum(axis=1, keepdims=True)
    ids = pd.Index([f"s{i}" for i in range(40)])
    obs = pd.DataFrame({"condition": pd.Categorical(group), "batch": ["x", "y"] * 20}, index=ids)
    store = _store(tmp_path / "s.zarr", counts, var, obs, "int32" if values == "counts" else "float32")
    clusters = pd.Series(["0"] * 20 + ["1"] * 20, index=ids)[::-1]
    tables = study_tables(store, clusters, Associations(n_permutations=99), None, 0)
    assert list(tables) == ["diversity", "diversity_tests", "ordination", "permanova", "associations"]
    assert list(tables["diversity"].index) == list(tables["ordination"].index) == list(ids)
    assert tables["diversity"]["depth"].isna().all() == (values == "relative")
    permanova = tables["permanova"].set_index("factor")
    assert list(permanova.index) == ["condition", "batch", "cluster"]
    assert permanova.loc["cluster", "pseudo_f"] == permanova.loc["condition", "pseudo_f"]  # joined by id
    assert permanova.loc["condition", "p"] < permanova.loc["batch", "p"]
    top = tables["associations"].iloc[0]
    assert top["taxon"] == "taxon 50" and top["p_adjusted"] < 0.05
    assert set(tables["diversity_tests"]["factor"]) == {"condition", "batch"}


def test_study_without_conditions_or_batches(tmp_path):
    counts, var, _ = _community(0, {}, n=2)
    ids = pd.Index(list("abcd"))
    store = _store(tmp_path / "s.zarr", counts, var, pd.DataFrame({"sample": ids}, index=ids))
    tables = study_tables(store, pd.Series("0", index=ids), PARAMS, None, 0)
    assert tables["diversity_tests"].empty
    for name in ("permanova", "associations"):
        assert len(tables[name]) == 1 and tables[name]["note"][0].startswith("not tested")


def test_deterministic():
    counts, var, group = _community(0, {50: 2.5})
    pd.testing.assert_frame_equal(associate(counts, var, group, PARAMS), associate(counts, var, group, PARAMS))
