"""Markers against scipy's rank test, scanpy's, and genes that were planted."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from embedding_cases import cells, write_store
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.sparse import csc_matrix, csr_matrix

from latentomics.cluster import markers
from latentomics.cluster.markers import COLUMNS, _draw, find_markers, rank_sum
from latentomics.config.markers import Markers
from latentomics.io.store import CountsStore

TARGET = 1500.0
ALL = Markers(min_fraction=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CountsStore:
    simulated = cells()
    return write_store(tmp_path_factory.mktemp("store") / "counts.zarr", simulated.counts, simulated.obs, simulated.var)


@pytest.fixture(scope="module")
def clusters(store: CountsStore) -> pd.Series:
    """Names as the clustering gives them, eleven of them for the order, in no relation to the order of the cells."""
    kind = store.obs["label"].astype(str).str.removeprefix("type").astype(int).to_numpy()
    return pd.Series(np.where(kind == 6, 10, kind - 1).astype(str), index=store.obs.index)


@pytest.fixture(scope="module")
def table(store: CountsStore, clusters: pd.Series) -> pd.DataFrame:
    return find_markers(store, clusters, ALL, TARGET, seed=0)


def lognorm(store: CountsStore) -> np.ndarray:
    counts = store.select().toarray().astype(np.float64)
    return np.log1p(counts * (TARGET / counts.sum(axis=1, keepdims=True)))


# The rank test


@given(st.data(), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_rank_sum_is_scipys_with_heavy_ties(data: st.DataObject, n: int) -> None:
    n_obs = data.draw(st.integers(n + 1, 30))
    values = data.draw(arrays(np.float64, (n_obs, 3), elements=st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 2.5, -0.5])))
    code = np.append(np.arange(n), data.draw(st.lists(st.integers(0, n - 1), min_size=n_obs - n, max_size=n_obs - n)))
    auroc, p = rank_sum(csc_matrix(values), code, n)
    for group in range(n):
        for gene in range(3):
            inside, outside = values[code == group, gene], values[code != group, gene]
            pairs = inside[:, None] - outside[None, :]
            assert auroc[group, gene] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
            if len(set(values[:, gene])) == 1:
                assert p[group, gene] == 1
                assert auroc[group, gene] == 0.5
            else:
                options = {"method": "asymptotic", "use_continuity": False}
                expected = stats.mannwhitneyu(inside, outside, alternative="two-sided", **options)
                assert p[group, gene] == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 3.25])
def test_a_gene_without_differences_says_nothing(value: float) -> None:
    auroc, p = rank_sum(csc_matrix(np.full((10, 2), value)), np.arange(10) % 2, 2)
    np.testing.assert_array_equal(auroc, 0.5)
    np.testing.assert_array_equal(p, 1)


def test_a_perfect_gene_has_the_p_of_the_book() -> None:
    # Ten against ten without ties: U = 100, mean 50, variance 10 * 10 * 21 / 12 = 175.
    auroc, p = rank_sum(csc_matrix(np.arange(20.0)[:, None]), np.repeat([0, 1], 10), 2)
    np.testing.assert_array_equal(auroc[:, 0], [0, 1])
    np.testing.assert_allclose(p[:, 0], 2 * stats.norm.sf(50 / np.sqrt(175)))


def test_stored_zeros_are_zeros() -> None:
    values = csc_matrix(np.random.default_rng(0).poisson(0.5, size=(40, 11)).astype(float))
    stored = values.copy()
    stored.data[::3] = 0
    without = stored.copy()
    without.eliminate_zeros()
    code = np.arange(40) % 3
    for one, other in zip(rank_sum(stored, code, 3), rank_sum(without, code, 3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (rank_sum(values, code, 3)[0] != rank_sum(stored, code, 3)[0]).any()


# The table


def test_p_values_and_order_are_scanpys(store: CountsStore, clusters: pd.Series, table: pd.DataFrame) -> None:
    adata = ad.AnnData(lognorm(store), obs=pd.DataFrame({"cluster": pd.Categorical(clusters)}, index=clusters.index))
    adata.var_names = store.var.index
    adata.uns["log1p"] = {"base": None}
    sc.tl.rank_genes_groups(adata, "cluster", method="wilcoxon", tie_correct=True)
    assert set(table["cluster"]) == {"0", "1", "2", "3", "4", "10"}
    for name, mine in table.groupby("cluster"):
        theirs = sc.get.rank_genes_groups_df(adata, name).set_index("names")
        mine = mine.set_index("feature")
        np.testing.assert_allclose(mine["p"], theirs["pvals"].reindex(mine.index), rtol=1e-6, atol=1e-300)
        np.testing.assert_allclose(mine["p_adjusted"], theirs["pvals_adj"].reindex(mine.index), rtol=1e-6, atol=1e-300)
        # Scanpy orders by z, which ties make different from the order by AUROC; the sign is the same.
        sign = np.sign(theirs["scores"].reindex(mine.index))
        np.testing.assert_array_equal(np.sign((mine["auroc"] - 0.5).round(12)), sign)
        assert set(mine.index[:10]) & set(theirs.index[:10]), "the top must overlap"
        assert stats.spearmanr(mine["auroc"], theirs["scores"].reindex(mine.index)).statistic > 0.98


def test_fractions_means_and_fold_changes_are_direct(
    store: CountsStore, clusters: pd.Series, table: pd.DataFrame
) -> None:
    logged = lognorm(store)
    normalised = np.expm1(logged)
    for name, mine in table.groupby("cluster"):
        inside = (clusters == name).to_numpy()
        mine = mine.set_index("feature").loc[store.var.index]
        np.testing.assert_allclose(mine["fraction_in"], (logged[inside] > 0).mean(axis=0))
        np.testing.assert_allclose(mine["fraction_out"], (logged[~inside] > 0).mean(axis=0))
        np.testing.assert_allclose(mine["mean_in"], logged[inside].mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(mine["mean_out"], logged[~inside].mean(axis=0), atol=1e-12)
        ratio = (normalised[inside].mean(axis=0) + 1e-9) / (normalised[~inside].mean(axis=0) + 1e-9)
        np.testing.assert_allclose(mine["log2_fold_change"], np.log2(ratio), atol=1e-6)


def test_blocks_of_the_store_do_not_matter(
    store: CountsStore, clusters: pd.Series, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountsStore.blocks, "__defaults__", (1000,))
    assert len(list(store.blocks())) > 5
    pd.testing.assert_frame_equal(find_markers(store, clusters, ALL, TARGET, seed=0), table)


def test_the_genes_ranked_at_a_time_do_not_matter(
    store: CountsStore, clusters: pd.Series, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markers, "BLOCK_ENTRIES", 1000)
    calls = []
    monkeypatch.setattr(markers, "rank_sum", lambda *given: calls.append(given) or rank_sum(*given))
    pd.testing.assert_frame_equal(find_markers(store, clusters, ALL, TARGET, seed=0), table, check_exact=True)
    assert len(calls) > 5


def test_the_store_is_read_once(store: CountsStore, clusters: pd.Series, monkeypatch: pytest.MonkeyPatch) -> None:
    read, block = [], CountsStore.block
    monkeypatch.setattr(CountsStore, "block", lambda self, *rows: read.append(rows) or block(self, *rows))
    find_markers(store, clusters, ALL, TARGET, seed=0)
    assert read == [(0, store.shape[0])]


def test_the_table_is_ordered(table: pd.DataFrame, store: CountsStore) -> None:
    assert list(table) == list(COLUMNS)
    assert list(dict.fromkeys(table["cluster"])) == ["0", "1", "2", "3", "4", "10"], "10 comes after 4"
    for _, mine in table.groupby("cluster"):
        assert list(mine["rank"]) == list(range(1, len(store.var) + 1))
        assert mine["auroc"].is_monotonic_decreasing
        assert mine["feature"].is_unique
    symbols = store.var["symbol"].astype(str).to_dict()
    assert (table["symbol"] == table["feature"].map(symbols)).all()
    assert list(table.index) == list(range(len(table)))


def planted(n: int = 90, n_genes: int = 30) -> csr_matrix:
    """Three clusters of ``n``; genes 0, 1 and 2 are three times as high in one of them each."""
    rng = np.random.default_rng(2)
    mean = np.full((3, n_genes), 4.0)
    mean[[0, 1, 2], [0, 1, 2]] = 12
    return csr_matrix(rng.poisson(np.repeat(mean, n, axis=0)).astype(np.int32))


def write(path: Path, counts: csr_matrix, **var: object) -> CountsStore:
    obs = pd.DataFrame(index=[f"c{i}" for i in range(counts.shape[0])])
    return write_store(path, counts, obs, pd.DataFrame(var, index=[f"g{i:02d}" for i in range(counts.shape[1])]))


def test_planted_markers_rank_first_and_alone_are_significant(tmp_path: Path) -> None:
    found = find_markers(
        write(tmp_path / "s", planted()), pd.Series(np.repeat(["a", "b", "c"], 90)), Markers(), 130.0, seed=0
    )
    first = found[found["rank"] == 1].set_index("cluster")
    assert list(first["feature"]) == ["g00", "g01", "g02"]
    assert (first["auroc"] > 0.95).all()
    assert (first["p_adjusted"] < 1e-20).all()
    np.testing.assert_allclose(first["log2_fold_change"], np.log2(3), atol=0.2)
    null = found[~found["feature"].isin(["g00", "g01", "g02"])]
    assert (null["p_adjusted"] < 0.01).sum() <= 1
    assert (found["symbol"] == found["feature"]).all(), "without symbols the ids stand in"


def test_a_single_cluster_has_no_markers_but_the_columns(tmp_path: Path) -> None:
    found = find_markers(write(tmp_path / "s", planted(5)), pd.Series(["0"] * 15), Markers(), 100.0, seed=0)
    assert found.empty
    assert list(found) == list(COLUMNS)


def test_rare_features_are_not_tested_unless_a_cluster_has_them(tmp_path: Path) -> None:
    counts = np.zeros((200, 3), dtype=np.int32)
    counts[:, 0] = 5
    counts[:8, 1] = 1  # in 8 % of the first cluster
    counts[::25, 2] = 1  # in 4 % of both
    found = find_markers(
        write(tmp_path / "s", csr_matrix(counts)), pd.Series(np.repeat(["0", "1"], 100)), Markers(), 5.0, seed=0
    )
    assert set(found["feature"]) == {"g00", "g01"}
    none = find_markers(
        CountsStore(tmp_path / "s"), pd.Series(np.repeat(["0", "1"], 100)), Markers(min_fraction=0.99), 5.0, seed=0
    )
    assert set(none["feature"]) == {"g00"}


def test_nothing_to_test_gives_an_empty_table(tmp_path: Path) -> None:
    counts = csr_matrix(np.eye(60, 4, dtype=np.int32))
    found = find_markers(
        write(tmp_path / "s", counts), pd.Series(np.repeat(["0", "1"], 30)), Markers(min_fraction=0.5), 5.0, seed=0
    )
    assert found.empty
    assert list(found) == list(COLUMNS)


def test_only_the_rank_test_uses_the_drawn_cells(tmp_path: Path) -> None:
    store, clusters = write(tmp_path / "s", planted(300)), pd.Series(np.repeat(["0", "1", "2"], 300))
    whole = find_markers(store, clusters, Markers(), 130.0, seed=0).set_index(["cluster", "feature"])
    drawn = find_markers(store, clusters, Markers(max_cells_per_cluster=60), 130.0, seed=0)
    again = find_markers(store, clusters, Markers(max_cells_per_cluster=60), 130.0, seed=0)
    pd.testing.assert_frame_equal(drawn, again)
    drawn = drawn.set_index(["cluster", "feature"]).loc[whole.index]
    same = ["fraction_in", "fraction_out", "mean_in", "mean_out", "log2_fold_change"]
    pd.testing.assert_frame_equal(drawn[same], whole[same])
    np.testing.assert_allclose(drawn["auroc"], whole["auroc"], atol=0.15)
    assert (drawn["p"] != whole["p"]).any()

    rows = _draw(np.repeat([0, 1, 2], 300), 3, 60, seed=0)
    logged = np.log1p(store.select().toarray() * (130.0 / store.obs["total_counts"].to_numpy())[:, None])[rows]
    code = np.repeat([0, 1, 2], 60)
    expected = stats.mannwhitneyu(
        logged[code == 1], logged[code != 1], method="asymptotic", use_continuity=False
    ).pvalue
    np.testing.assert_allclose(drawn.loc["1", "p"].loc[store.var.index], expected, rtol=1e-6)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_draw_takes_at_most_so_many_of_each(labels: list[int], most: int, seed: int) -> None:
    code = np.array(labels)
    rows = _draw(code, 4, most, seed)
    assert (np.diff(rows) > 0).all()
    expected = np.minimum(np.bincount(code, minlength=4), most)
    np.testing.assert_array_equal(np.bincount(code[rows], minlength=4), expected)
