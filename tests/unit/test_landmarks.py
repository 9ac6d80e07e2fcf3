"""Landmarks, and how their positions spread to all others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix, csr_matrix

from latentomics.cluster.landmarks import draw_landmarks, spread_positions


def joined(n_obs: int, *edges: tuple[int, int, float]) -> csr_matrix:
    """A symmetric graph of the edges (one, other, weight)."""
    one, other, weight = map(np.array, zip(*edges, strict=True))
    half = coo_matrix((weight, (one, other)), shape=(n_obs, n_obs))
    return csr_matrix(half + half.T)


def test_landmarks_are_distinct_and_in_order() -> None:
    rows = draw_landmarks(1_000, 200, seed=0)
    assert len(rows) == 200
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, draw_landmarks(1_000, 200, seed=0))
    assert (rows != draw_landmarks(1_000, 200, seed=1)).any()


def test_all_are_landmarks_where_there_are_few() -> None:
    np.testing.assert_array_equal(draw_landmarks(5, 10, seed=0), np.arange(5))


def test_a_chain_between_two_landmarks_is_spaced_evenly() -> None:
    chain = joined(5, (0, 1, 0.5), (1, 2, 0.5), (2, 3, 0.5), (3, 4, 0.5))
    ends = np.array([[0.0, 0.0], [40.0, 80.0]])
    spread = spread_positions(ends, np.array([0, 4]), np.zeros((5, 3)), chain, seed=0)
    np.testing.assert_allclose(spread, np.linspace(*ends, 5), atol=0.05)
    assert spread.dtype == np.float32


def test_a_heavier_neighbour_draws_more() -> None:
    graph = joined(3, (0, 2, 1.0), (1, 2, 0.25))
    spread = spread_positions(np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([0, 1]), np.zeros((3, 2)), graph, seed=0)
    np.testing.assert_allclose(spread[2], [2.0, 0.0], atol=0.01)


def test_who_is_joined_to_no_landmark_starts_at_the_nearest() -> None:
    latent = np.array([[0.0, 0.0], [9.0, 9.0], [8.0, 9.0], [1.0, 0.0]])
    graph = joined(4, (2, 3, 1.0))
    positions = np.array([[-5.0, 0.0], [5.0, 0.0]])
    spread = spread_positions(positions, np.array([0, 1]), latent, graph, seed=0)
    np.testing.assert_allclose(spread, positions[[0, 1, 1, 0]], atol=0.01)
    assert len(np.unique(spread, axis=0)) == 4, "no two at the same place"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 1_000))
def test_positions_lie_among_the_landmarks_in_any_unit(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    n_obs, rows = 40, draw_landmarks(40, 6, seed)
    edges = zip(rng.integers(0, n_obs, 90), rng.integers(0, n_obs, 90), rng.uniform(0.01, 1, 90), strict=True)
    graph, latent, positions = joined(n_obs, *edges), rng.normal(size=(n_obs, 4)), rng.normal(size=(6, 2))
    spread = spread_positions(positions, rows, latent, graph, seed)
    slack = 1e-3 * np.ptp(positions)
    assert (spread >= positions.min(axis=0) - slack).all()
    assert (spread <= positions.max(axis=0) + slack).all()
    np.testing.assert_allclose(spread[rows], positions, atol=slack)
    scaled = spread_positions(factor * positions, rows, latent, graph, seed)
    np.testing.assert_allclose(scaled, factor * spread, rtol=1e-4, atol=factor * slack)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_graph_is_left_as_it_was(dtype: type) -> None:
    graph = joined(3, (0, 2, 1.0), (1, 2, 0.25)).astype(dtype)
    before = graph.copy()
    spread_positions(np.eye(2), np.array([0, 1]), np.zeros((3, 2)), graph, seed=0)
    assert abs(graph - before).max() == 0
