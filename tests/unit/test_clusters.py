"""The choice of clusters: planted structure is found, its absence is said, and the evidence is what it claims to be."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from embedding_cases import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from latentomics.cluster.graph import fuzzy_connectivities, load_graph, neighbour_graph, save_graph
from latentomics.cluster.leiden import CellGraph
from latentomics.cluster.select import (
    NO_STRUCTURE,
    Clustering,
    Selection,
    _agreement,
    _subsamples,
    choose,
    select_clusters,
)
from latentomics.config.clusters import Clusters

QUICK = {"resolutions": [0.05, 0.3, 1.0], "n_resamples": 4, "min_separation": 4.65, "min_stability": 0.85}
SIZES = (200, 120, 60, 30)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    centres = np.array([[0.0, 0, 0, 0], [12, 0, 0, 0], [0, 12, 0, 0], [0, 0, 12, 0]])
    latent, truth = blobs(max(SIZES), centres)
    rows = np.concatenate([np.flatnonzero(truth == i)[:n] for i, n in enumerate(SIZES)])
    rows = np.random.default_rng(0).permutation(rows)
    return latent[rows], truth[rows]


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(350, 6)).astype(np.float32)


def select(latent: np.ndarray, seed: int = 0, **changes: object) -> Selection:
    index = pd.Index([f"cell_{i}" for i in range(len(latent))], name="cell")
    return select_clusters(latent, index, Clusters(**(QUICK | changes)), 15, seed)


@pytest.fixture(scope="module")
def found(planted: tuple[np.ndarray, np.ndarray]) -> Selection:
    return select(planted[0])


@pytest.fixture(scope="module")
def nothing(cloud: np.ndarray) -> Selection:
    return select(cloud)


# The neighbour graph


def test_the_graph_is_scanpys_and_survives_the_disk_without_pickle(cloud: np.ndarray, tmp_path: Path) -> None:
    reference = ad.AnnData(cloud)
    sc.pp.neighbors(reference, n_neighbors=15, use_rep="X", random_state=3)
    save_graph(neighbour_graph(cloud, 15, 3), tmp_path / "graph.npz")
    distances, connectivities, n_neighbors, _ = load_graph(tmp_path / "graph.npz")
    assert n_neighbors == 15
    for mine, theirs in ((distances, reference.obsp["distances"]), (connectivities, reference.obsp["connectivities"])):
        np.testing.assert_allclose(mine.toarray(), theirs.toarray(), atol=5e-5)
    with np.load(tmp_path / "graph.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "if" for name in file.files)


@pytest.mark.parametrize("kind", ["triplets", "wide scales"])
def test_connectivities_are_umaps_where_distances_are_odd(kind: str) -> None:
    from umap.umap_ import fuzzy_simplicial_set

    rng = np.random.default_rng(1)
    points = rng.normal(size=(60, 5))
    latent = np.repeat(points, 3, axis=0) if kind == "triplets" else points * np.exp(4 * rng.normal(size=(60, 1)))
    distances, indices = NearestNeighbors(n_neighbors=9).fit(latent).kneighbors()
    itself = np.arange(len(latent))[:, None]
    theirs, _, _ = fuzzy_simplicial_set(
        latent,
        10,
        0,
        "euclidean",
        knn_indices=np.hstack([itself, indices]).astype(np.int32),
        knn_dists=np.hstack([np.zeros(itself.shape), distances]).astype(np.float32),
    )
    mine = fuzzy_connectivities(indices, distances)
    np.testing.assert_allclose(mine.toarray(), theirs.toarray(), atol=1e-4)
    assert (mine != mine.T).nnz == 0


def test_the_graph_holds_the_nearest_neighbours(cloud: np.ndarray) -> None:
    distances = neighbour_graph(cloud[:80], 10, 0).distances.toarray()
    true = np.linalg.norm(cloud[:80, None] - cloud[None, :80], axis=2)
    np.fill_diagonal(true, np.inf)
    for mine, row in zip(distances, true, strict=True):
        np.testing.assert_allclose(np.sort(mine[mine > 0]), np.sort(row)[:9], rtol=1e-3)


@pytest.mark.parametrize("n_obs", [2, 3, 12])
def test_fewer_observations_than_neighbours(cloud: np.ndarray, n_obs: int) -> None:
    graph = neighbour_graph(cloud[:n_obs], 15, 0)
    assert graph.connectivities.shape == (n_obs, n_obs)
    assert graph.n_neighbors == max(n_obs - 1, 2), "all others"


# What is found


def test_planted_blobs_are_recovered_exactly(found: Selection, planted: tuple[np.ndarray, np.ndarray]) -> None:
    assert adjusted_rand_score(planted[1], found.clusters["cluster"]) == 1
    chosen = found.evidence[found.evidence["chosen"]]
    assert len(chosen) == 1
    assert chosen["n_clusters"].item() == 4
    assert chosen["smallest_cluster"].item() == 30
    assert chosen["stability"].item() == pytest.approx(1, abs=0.02)
    assert 10 < chosen["separation"].item() < 14
    assert "gives the most clusters (4)" in chosen["verdict"].item()


def test_clusters_are_named_by_size(found: Selection, planted: tuple[np.ndarray, np.ndarray]) -> None:
    by_truth = found.clusters["cluster"].groupby(planted[1]).unique()
    assert [list(names) for names in by_truth] == [["0"], ["1"], ["2"], ["3"]]


def test_the_table_has_a_column_of_strings_per_resolution(found: Selection) -> None:
    table = found.clusters
    assert list(table) == ["r0.05", "r0.3", "r1", "cluster"]
    assert table.index.name == "cell"
    assert list(table.index[:2]) == ["cell_0", "cell_1"]
    assert all(isinstance(value, str) for value in table.to_numpy().ravel())
    chosen = found.evidence.loc[found.evidence["chosen"], "resolution"].item()
    assert (table["cluster"] == table[f"r{chosen:g}"]).all()


def test_evidence_describes_the_columns(found: Selection) -> None:
    evidence = found.evidence
    assert list(evidence["resolution"]) == [0.05, 0.3, 1.0]
    for row in evidence.itertuples():
        sizes = found.clusters[f"r{row.resolution:g}"].value_counts()
        assert (row.n_clusters, row.smallest_cluster) == (len(sizes), sizes.min())
        assert row.n_leiden >= row.n_clusters
        assert row.stability_low <= row.stability <= row.stability_high
        assert row.stable == (row.n_clusters > 1 and row.stability >= 0.85)
    assert evidence["n_leiden"].iloc[-1] > 4, "the finest resolution must have something to merge"


def test_a_featureless_cloud_is_one_cluster(nothing: Selection) -> None:
    assert set(nothing.clusters["cluster"]) == {"0"}
    assert not nothing.evidence["chosen"].any()
    assert not nothing.evidence["stable"].any()
    assert (nothing.evidence["n_leiden"].iloc[-1]) > 3, "Leiden itself cuts the cloud"
    assert nothing.evidence["verdict"].str.startswith(f"{NO_STRUCTURE}: at no resolution are two clusters").all()


def test_without_merging_a_cloud_is_still_not_stable(cloud: np.ndarray) -> None:
    selection = select(cloud, min_separation=0, resolutions=[1.0])
    assert selection.evidence["n_clusters"].item() == selection.evidence["n_leiden"].item() > 3
    assert selection.evidence["stability"].item() < 0.85
    assert set(selection.clusters["cluster"]) == {"0"}
    assert "the best adjusted Rand index between subsamples is 0." in selection.evidence["verdict"].item()


def test_a_pinned_resolution_is_leidens_own_and_joins_the_grid(cloud: np.ndarray) -> None:
    selection = select(cloud, resolution=0.7)
    assert list(selection.evidence["resolution"]) == [0.05, 0.3, 0.7, 1.0]
    pinned = selection.evidence[selection.evidence["chosen"]].iloc[0]
    assert pinned["resolution"] == 0.7
    assert pinned["n_clusters"] == pinned["n_leiden"]
    reference = CellGraph(neighbour_graph(cloud, 15, 0).connectivities).leiden(0.7, 0)
    assert adjusted_rand_score(reference, selection.clusters["cluster"]) == 1
    assert "pinned" in pinned["verdict"]
    assert "NOT stable" in pinned["verdict"]
    assert (selection.evidence.loc[~selection.evidence["chosen"], "n_clusters"] <= 1).all(), "the others are merged"


def test_a_pinned_resolution_keeps_tiny_clusters() -> None:
    # A clique of four cells that no other cell names as a neighbour, in a graph of five neighbours.
    rng = np.random.default_rng(0)
    latent = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(4, 2)) * 0.01 + 50]).astype(np.float32)
    index = pd.RangeIndex(64).astype(str)
    selection = select_clusters(latent, index, Clusters(**(QUICK | {"resolution": 0.3})), 4, 0)
    clusters = selection.clusters["cluster"].to_numpy()
    assert len(set(clusters[60:])) == 1
    assert set(clusters[60:]).isdisjoint(clusters[:60])
    evidence = selection.evidence.set_index("resolution")
    assert evidence.loc[0.3, "smallest_cluster"] == 4
    assert evidence.loc[0.3, "n_clusters"] == evidence.loc[0.3, "n_leiden"]


def test_the_same_input_gives_the_same_table(found: Selection, planted: tuple[np.ndarray, np.ndarray]) -> None:
    again = select(planted[0])
    pd.testing.assert_frame_equal(found.clusters, again.clusters)
    pd.testing.assert_frame_equal(found.evidence, again.evidence)


def test_two_processes_give_the_same_tables_as_one(found: Selection, planted: tuple[np.ndarray, np.ndarray]) -> None:
    latent = planted[0]
    shared = select_clusters(latent, found.clusters.index, Clusters(**QUICK), 15, 0, threads=2)
    pd.testing.assert_frame_equal(shared.clusters, found.clusters)
    pd.testing.assert_frame_equal(shared.evidence, found.evidence)
    assert (shared.graph.connectivities != found.graph.connectivities).nnz == 0


@pytest.mark.parametrize("n_obs", [2, 3, 4, 9])
def test_a_handful_of_observations_is_one_cluster(cloud: np.ndarray, n_obs: int) -> None:
    selection = select(cloud[:n_obs])
    assert set(selection.clusters["cluster"]) == {"0"}
    assert len(selection.clusters) == n_obs


# Stability


@given(st.integers(2, 900), st.floats(0.51, 0.99), st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_subsamples(n_obs: int, fraction: float, seed: int) -> None:
    params = Clusters(fraction=fraction, n_resamples=5, max_cells=500)
    samples = _subsamples(n_obs, params, seed)
    assert len(samples) == 5
    for rows in samples:
        assert len(rows) == max(int(min(n_obs, 500) * fraction), min(n_obs, 4))
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= 0
        assert rows[-1] < n_obs
    assert len(np.unique(np.concatenate(samples))) <= 500, "all from one base, so that they share cells"


def test_large_data_are_judged_on_a_sample_but_clustered_whole(
    planted: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Clusters.model_construct(**(Clusters(**QUICK).model_dump() | {"max_cells": 150, "resolutions": [0.05]}))
    built = []
    for module in ("select", "clusterings"):
        monkeypatch.setattr(
            f"latentomics.cluster.{module}.neighbour_graph",
            lambda *a: (built.append(len(a[0])), neighbour_graph(*a))[1],
        )
    latent, truth = planted
    selection = select_clusters(latent, pd.RangeIndex(len(latent)), params, 15, 0)
    assert built == [len(latent), *[120] * 4]
    assert len(selection.clusters) == len(latent)
    assert adjusted_rand_score(truth, selection.clusters["cluster"]) == 1


def test_only_large_data_are_iterated_less(cloud: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    iterated = []

    partition = CellGraph.leiden

    def leiden(graph: CellGraph, resolution: float, seed: int, n_iterations: int) -> np.ndarray:
        iterated.append(n_iterations)
        return partition(graph, resolution, seed, n_iterations)

    monkeypatch.setattr(CellGraph, "leiden", leiden)
    select(cloud, resolutions=[0.3])
    assert iterated == [10] * 5
    iterated.clear()
    monkeypatch.setattr("latentomics.cluster.select.ITERATED_UP_TO", 300)
    select(cloud, resolutions=[0.3])
    assert iterated == [2] * 5, "the subsamples of 280 cells too"


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_agreement_is_the_rand_index_on_shared_cells(data: st.DataObject) -> None:
    samples = [np.sort(data.draw(st.permutations(range(12)))[:9]) for _ in range(3)]
    runs = [np.array(data.draw(st.lists(st.integers(0, 2), min_size=9, max_size=9))) for _ in samples]
    runs[0][0] = 1  # never one cluster only
    expected = []
    for i, j in combinations(range(3), 2):
        first, second = (dict(zip(samples[x], runs[x], strict=True)) for x in (i, j))
        shared = sorted(first.keys() & second.keys())
        alike = runs[i].max() == runs[j].max() == 0
        expected.append(0 if alike else adjusted_rand_score([first[c] for c in shared], [second[c] for c in shared]))
    np.testing.assert_allclose(_agreement(samples, runs, trivial=0), expected)


def test_clusters_that_subsamples_do_not_show_are_not_stable() -> None:
    rows, one, two = np.arange(6), np.zeros(6, dtype=int), np.array([0, 0, 0, 1, 1, 1])
    assert _agreement([rows] * 3, [one] * 3, trivial=0) == [0, 0, 0]
    assert _agreement([rows] * 3, [one] * 3, trivial=1) == [1, 1, 1]
    assert _agreement([rows] * 2, [one, two], trivial=1) == [0]
    assert _agreement([rows] * 2, [two, 1 - two], trivial=0) == [1]


def test_clusters_that_only_the_whole_data_show_are_not_chosen(
    cloud: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merged(latent: np.ndarray, *_: object) -> list[Clustering]:
        whole = len(latent) == len(cloud)
        return [Clustering(np.arange(len(latent)) % 2 if whole else np.zeros(len(latent), dtype=int), 2, 5.0)]

    monkeypatch.setattr("latentomics.cluster.clusterings._merged", merged)
    selection = select(cloud, resolutions=[0.5])
    assert selection.evidence["n_clusters"].item() == 2
    assert selection.evidence["stability"].item() == 0
    assert set(selection.clusters["cluster"]) == {"0"}


# The choice


def table(*rows: tuple[float, int, float]) -> pd.DataFrame:
    """Resolution, clusters and stability."""
    found = pd.DataFrame(rows, columns=["resolution", "n_clusters", "stability"])
    found["stable"] = (found["n_clusters"] > 1) & (found["stability"] >= 0.85)
    return found.assign(separation=5.04)


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([(0.1, 2, 1.0), (0.5, 5, 0.9), (1.0, 8, 0.7)], 0.5),  # the finest that is stable
        ([(0.1, 5, 0.90), (0.5, 5, 0.95), (1.0, 5, 0.92)], 0.5),  # among equals the most stable
        ([(0.1, 2, 0.9), (0.5, 5, 0.9), (1.0, 5, 0.9)], 0.5),  # then the lowest resolution
        ([(0.1, 1, 1.0), (0.5, 2, 0.85)], 0.5),  # one cluster proves nothing
        ([(0.1, 1, 1.0), (0.5, 2, 0.84)], None),
        ([(0.1, 1, 1.0)], None),
    ],
)
def test_the_choice(rows: list[tuple[float, int, float]], chosen: float | None) -> None:
    assert choose(table(*rows), Clusters())[0] == chosen


def test_the_reasons_are_given_in_figures() -> None:
    params = Clusters(min_stability=0.85)
    _, good = choose(table((0.1, 2, 1.0), (0.5, 5, 0.904)), params)
    assert good == (
        "resolution 0.5 gives the most clusters (5) that are stable (adjusted Rand index 0.90 between subsamples, at least "
        "0.85 asked) and separated (d' of at least 5.0)"
    )
    _, bad = choose(table((0.1, 1, 1.0), (0.5, 5, 0.7), (1.0, 6, 0.3)), params)
    assert bad.startswith(f"{NO_STRUCTURE}: the best adjusted Rand index between subsamples is 0.70, below 0.85;")
    pinned, words = choose(table((0.1, 2, 1.0), (0.5, 5, 0.3)), Clusters(resolution=0.5))
    assert pinned == 0.5
    assert words.startswith("resolution 0.5 is pinned by the config: 5 clusters, NOT stable")
    assert ", stable (" in choose(table((0.1, 2, 1.0)), Clusters(resolution=0.1))[1]


def test_a_resolution_listed_twice_is_refused_and_the_rest_sorted() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        Clusters(resolutions=[0.5, 0.5])
    assert Clusters(resolutions=[1.0, 0.5]).resolutions == [0.5, 1.0]
