"""Exact nearest neighbours in single precision, against brute force in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from latentomics.cluster import exact
from latentomics.cluster.exact import nearest_others


def apart(points: np.ndarray) -> np.ndarray:
    """Distances between all points; infinite to itself."""
    found = cdist(points, points)
    np.fill_diagonal(found, np.inf)
    return found


def assert_nearest(points: np.ndarray, k: int) -> None:
    """The k that are found are others, all different, and no other point is nearer."""
    found, distances = nearest_others(points, k), apart(points)
    assert found.shape == (len(points), k)
    assert (found != np.arange(len(points))[:, None]).all()
    assert all(len(set(row)) == k for row in found.tolist())
    true = np.sort(distances, axis=1)[:, :k]
    np.testing.assert_allclose(
        np.sort(np.take_along_axis(distances, found, axis=1), axis=1), true, rtol=1e-9, atol=1e-9
    )


@given(
    n=st.integers(2, 80),
    n_dimensions=st.integers(1, 12),
    share=st.floats(0, 1),
    spread=st.sampled_from([1e-6, 1e-3, 1.0, 1e4]),
    offset=st.sampled_from([0.0, 30.0, -1e4]),
    steps=st.sampled_from([0, 1, 5]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=150, deadline=None)
def test_no_other_point_is_nearer(
    n: int, n_dimensions: int, share: float, spread: float, offset: float, steps: int, seed: int
) -> None:
    points = np.random.default_rng(seed).normal(size=(n, n_dimensions))
    if steps:
        points = np.round(points * steps) / steps  # ties and duplicates
    assert_nearest(points * spread + offset, 1 + round(share * (n - 2)))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_neighbours_that_single_precision_cannot_tell_apart(scale: float) -> None:
    """Pairs that differ in the ninth digit of their distance, far from the centre, beside which a point lies far off."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(200, 6))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    shells = np.concatenate([directions * (1 + 1e-9 * rng.permutation(200))[:, None], [[1e3] * 6], np.zeros((1, 6))])
    points = shells * scale
    found, true = nearest_others(points, 20), apart(points).argsort(axis=1)[:, :20]
    np.testing.assert_array_equal(np.sort(found[-1]), np.sort(true[-1]))
    assert_nearest(points, 20)


def test_few_points_are_searched_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    points, twice = np.random.default_rng(0).normal(size=(2000, 20)), []
    search = exact.in_double_precision
    monkeypatch.setattr(exact, "in_double_precision", lambda *given: twice.append(len(given[1])) or search(*given))
    assert_nearest(points, 30)
    assert sum(twice) < 200


def test_blocks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).normal(size=(700, 5))
    whole = np.sort(nearest_others(points, 9), axis=1)
    monkeypatch.setattr(exact, "BLOCK_ROWS", 64)
    np.testing.assert_array_equal(np.sort(nearest_others(points, 9), axis=1), whole)
