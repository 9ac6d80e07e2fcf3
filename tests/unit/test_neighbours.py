"""Nearest neighbours of large data, and whether their recall is what it claims to be."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.cluster import graph, neighbours
from latentomics.cluster.graph import fuzzy_connectivities, neighbour_graph, save_graph
from latentomics.cluster.neighbours import nearest, recall


@pytest.fixture(scope="module")
def latent() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)
    found[700:703] = found[700]  # duplicates: none is its own neighbour
    return found


def test_large_data_find_most_of_the_nearest_neighbours_and_say_how_many(
    latent: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exact = nearest(latent, 15, 0)
    assert exact.recall == 1
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(neighbours, "JUDGED", 1500)
    near = nearest(latent, 15, 0)
    assert near.indices.shape == near.distances.shape == (1500, 14)
    assert (near.indices != np.arange(1500)[:, None]).all()
    assert (np.diff(near.distances, axis=1) >= 0).all()
    true = np.linalg.norm(latent[:, None] - latent[near.indices], axis=2)
    np.testing.assert_allclose(near.distances, true, rtol=1e-4, atol=1e-4)
    shared = [np.intersect1d(a, b).size / 14 for a, b in zip(near.indices, exact.indices, strict=True)]
    assert 0.99 < near.recall <= 1
    assert near.recall == pytest.approx(np.mean(shared), abs=1e-4)  # of duplicates either may count

    save_graph(neighbour_graph(latent, 15, 0), tmp_path / "graph.npz")
    with np.load(tmp_path / "graph.npz", allow_pickle=False) as file:
        assert file["recall"] == near.recall


def test_the_number_of_threads_does_not_change_the_neighbours(
    latent: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 1000)
    before, found = faiss.omp_get_max_threads(), []
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        found.append(nearest(latent, 15, 0))
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    np.testing.assert_array_equal(found[0].distances, found[1].distances)


def test_many_duplicates_have_neighbours_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 100)
    latent = np.repeat(np.random.default_rng(0).normal(size=(30, 4)), 40, axis=0).astype(np.float32)
    found = nearest(latent, 15, 0)
    assert found.indices.min() >= 0
    assert found.indices.max() < len(latent)
    assert (found.indices != np.arange(len(latent))[:, None]).all()
    np.testing.assert_allclose(found.distances, 0, atol=1e-5)
    np.testing.assert_array_equal(found.indices // 40, np.repeat(np.arange(30), 40)[:, None].repeat(14, axis=1))


def test_what_the_graph_does_not_reach_is_searched_exactly(latent: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = nearest(latent, 15, 0)
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 1000)
    search = faiss.IndexHNSWFlat.search

    def forgetful(index: faiss.IndexHNSWFlat, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        squares, indices = search(index, points, k)
        squares[5, 3:], indices[5, 3:] = np.finfo(np.float32).max, -1
        return squares, indices

    monkeypatch.setattr(faiss.IndexHNSWFlat, "search", forgetful)
    found = nearest(latent, 15, 0)
    np.testing.assert_array_equal(found.indices[5], exact.indices[5])
    np.testing.assert_allclose(found.distances[5], exact.distances[5], rtol=1e-3)


@given(st.integers(0, 9), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_recall_is_the_share_of_true_neighbours(n_wrong: int, seed: int) -> None:
    cells = np.random.default_rng(seed).normal(size=(120, 5)).astype(np.float32)
    order = np.linalg.norm(cells[:, None] - cells, axis=2).argsort(axis=1)
    claimed = order[:, 1:10].copy()
    claimed[:, 9 - n_wrong :] = order[:, 60 : 60 + n_wrong]
    claimed = np.random.default_rng(seed).permuted(claimed, axis=1)  # their order does not matter
    assert recall(cells, claimed, seed) == pytest.approx(1 - n_wrong / 9)


def test_recall_is_measured_on_a_draw_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    claimed = np.linalg.norm(cells[:, None] - cells, axis=2).argsort(axis=1)[:, 1:6]
    claimed[::2] = claimed[::2, :1]  # of every other cell one true neighbour out of five
    monkeypatch.setattr(neighbours, "JUDGED", 200)
    drawn = [recall(cells, claimed, seed) for seed in range(6)]
    assert len(set(drawn)) > 1
    assert recall(cells, claimed, 0) == drawn[0]
    assert np.mean(drawn) == pytest.approx(0.6, abs=0.06)


def test_connectivities_computed_in_blocks_are_the_same(latent: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    indices, distances, _ = nearest(latent[:720], 10, 0)
    whole = fuzzy_connectivities(indices, distances)
    monkeypatch.setattr(graph, "BLOCK_ROWS", 77)
    pieces = fuzzy_connectivities(indices, distances)
    assert (whole != pieces).nnz == 0
    assert whole.nnz == pieces.nnz
