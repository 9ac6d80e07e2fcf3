"""The two-dimensional pictures: UMAP as scanpy draws it, t-SNE that copes with few observations, both with many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from embedding_cases import as_scanpy_has_it, blobs
from openTSNE import TSNE
from openTSNE.affinity import PerplexityBasedNN
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from latentomics.cluster import layouts
from latentomics.cluster.graph import Graph, load_graph, neighbour_graph, save_graph
from latentomics.cluster.layouts import layout_table
from latentomics.config.layouts import Layouts

COLUMNS = ["umap1", "umap2", "tsne1", "tsne2"]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return blobs(50, np.array([[0.0, 0, 0, 0], [12, 0, 0, 0], [0, 12, 0, 0]]))


def layout(latent: np.ndarray, folder: Path, seed: int = 0, threads: int = 1, **params: float) -> pd.DataFrame:
    save_graph(neighbour_graph(latent, 15, seed), folder / "graph.npz")
    index = pd.Index([f"cell_{i}" for i in range(len(latent))], name="cell")
    return layout_table(latent, load_graph(folder / "graph.npz"), index, Layouts(**params), seed, threads)


@pytest.fixture(scope="module")
def table(data: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return layout(data[0], tmp_path_factory.mktemp("layout"))


def test_columns_and_index(table: pd.DataFrame) -> None:
    assert list(table) == COLUMNS
    assert (table.dtypes == np.float32).all()
    assert table.index.name == "cell"
    assert list(table.index) == [f"cell_{i}" for i in range(150)]
    assert np.isfinite(table.to_numpy()).all()


@pytest.mark.parametrize("kind", ["umap", "tsne"])
def test_blobs_stay_apart(table: pd.DataFrame, data: tuple[np.ndarray, np.ndarray], kind: str) -> None:
    assert silhouette_score(table[[f"{kind}1", f"{kind}2"]], data[1]) > 0.6


def test_the_umap_of_a_saved_graph_is_scanpys(table: pd.DataFrame, data: tuple[np.ndarray, np.ndarray]) -> None:
    holder = as_scanpy_has_it(data[0], neighbour_graph(data[0], 15, 0))
    sc.tl.umap(holder, min_dist=0.5, random_state=0)
    # The optimisation is chaotic: the graph's rounding to single precision is all that may differ.
    np.testing.assert_allclose(table[["umap1", "umap2"]], holder.obsm["X_umap"], atol=1e-4)


def test_the_same_seed_gives_the_same_picture(
    table: pd.DataFrame, data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pd.testing.assert_frame_equal(table, layout(data[0], tmp_path))


def test_the_parameters_reach_the_libraries(
    table: pd.DataFrame, data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    other = layout(data[0], tmp_path, umap_min_dist=0.0, tsne_perplexity=5)
    near, far = (np.median(nearest(t[["umap1", "umap2"]].to_numpy())) for t in (other, table))
    assert near < 0.7 * far, "a smaller smallest distance packs the points"
    assert not np.allclose(other[["tsne1", "tsne2"]], table[["tsne1", "tsne2"]], atol=0.5)


def nearest(points: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)


@pytest.mark.parametrize("n_obs", [3, 4, 10, 51])
def test_few_observations_are_drawn_too(data: tuple[np.ndarray, np.ndarray], tmp_path: Path, n_obs: int) -> None:
    table = layout(data[0][:n_obs], tmp_path)
    assert table.shape == (n_obs, 4)
    assert np.isfinite(table.to_numpy()).all()


@pytest.fixture
def from_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """150 observations count as many, and 60 of them are landmarks."""
    monkeypatch.setattr(layouts, "LARGE", 149)
    monkeypatch.setattr(layouts, "LANDMARKS", 60)


def test_up_to_the_limit_nothing_changes(
    table: pd.DataFrame, data: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "LARGE", 150)
    pd.testing.assert_frame_equal(table, layout(data[0], tmp_path))


@pytest.mark.usefixtures("from_landmarks")
@pytest.mark.parametrize("kind", ["umap", "tsne"])
def test_blobs_that_start_from_landmarks_stay_apart(
    table: pd.DataFrame, data: tuple[np.ndarray, np.ndarray], tmp_path: Path, kind: str
) -> None:
    large = layout(data[0], tmp_path)
    assert list(large) == COLUMNS
    assert (large.dtypes == np.float32).all()
    columns = [f"{kind}1", f"{kind}2"]
    assert silhouette_score(large[columns], data[1]) > 0.6
    assert not np.allclose(large[columns], table[columns], atol=0.5)
    # Neighbourhoods are drawn about as well as by the libraries' own schedules.
    long, short = (trustworthiness(data[0], t[columns], n_neighbors=10) for t in (table, large))
    assert short > long - 0.03


@pytest.mark.usefixtures("from_landmarks")
def test_the_picture_of_many_observations_hangs_on_the_seed_alone(
    data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    one, two, other = (layout(data[0], tmp_path, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert not np.allclose(one, other, atol=0.5)
    pd.testing.assert_frame_equal(one, layout(data[0], tmp_path, threads=2))


@pytest.mark.parametrize("n_obs", [150, 1200])  # neighbours are exact, and approximate
def test_a_tsne_is_the_librarys_with_any_number_of_threads(n_obs: int) -> None:
    latent = np.random.default_rng(0).normal(size=(n_obs, 8)).astype(np.float32)
    one, two = (layouts._tsne(latent, Layouts(), 0, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    own = TSNE(perplexity=30, initialization="pca", random_state=0, n_jobs=1).fit(latent.astype(np.float64))
    np.testing.assert_array_equal(one, own)


def test_a_tsne_of_landmarks_is_the_librarys_of_exact_neighbours() -> None:
    latent = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    found = layouts._tsne_of_landmarks(latent, Layouts(tsne_perplexity=20), 0)
    exact = PerplexityBasedNN(latent.astype(np.float64), 20, method="exact")
    own = TSNE(perplexity=20, initialization="pca", random_state=0).fit(latent.astype(np.float64), affinities=exact)
    # Its distances are in double precision; the optimisation lets the rounding grow.
    assert np.median(np.abs(found - own)) < 1e-2 * np.ptp(own)


def test_the_refined_tsne_is_the_same_with_any_number_of_threads(
    data: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "COARSE_ITERATIONS", 5)
    monkeypatch.setattr(layouts, "FINE_ITERATIONS", 2)
    connectivities = neighbour_graph(data[0], 15, 0).connectivities
    start = data[0][:, :2]
    one, two = (layouts._refined_tsne(start, connectivities, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, start, atol=0.5)


@pytest.mark.usefixtures("from_landmarks")
def test_the_graph_is_left_as_it_was(data: tuple[np.ndarray, np.ndarray]) -> None:
    graph = neighbour_graph(data[0], 15, 0).connectivities
    before = graph.copy()
    layout_table(data[0], Graph(graph, graph, 15, 1.0), pd.RangeIndex(150), Layouts(), 0, threads=1)
    assert abs(graph - before).max() == 0


def test_the_manual_says_from_how_many_observations_on_landmarks_come_first() -> None:
    description = Layouts.model_fields["tsne_perplexity"].description or ""
    assert f"{layouts.LARGE:,}" in description
    assert f"{layouts.LANDMARKS:,}" in description
