"""The distance between clusters against what is known of Gaussians, and the merging against statistics made anew."""

from __future__ import annotations

import numpy as np
import pytest
from embedding_cases import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from latentomics.cluster.separation import MIN_HALF, Halves, merge_unseparated


def cut(latent: np.ndarray, direction: np.ndarray, share: float) -> np.ndarray:
    along = latent @ direction
    return (along > np.quantile(along, 1 - share)).astype(int)


@given(st.integers(1, 20), st.floats(0.05, 0.95), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_cut_through_one_cloud_is_no_gap_wherever_it_falls(width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Any Gaussian: the discriminant must not be fooled by unequal spreads.
    latent = rng.normal(size=(1500, width)) @ rng.normal(size=(width, width))
    code = cut(latent, rng.normal(size=width), share)
    separation = Halves(latent, code, seed).separation(0, 1)
    assert 1.4 < separation < 2.9


def test_a_cut_through_the_middle_gives_what_the_theory_says() -> None:
    latent = np.random.default_rng(0).normal(size=(100_000, 3))
    separation = Halves(latent, (latent[:, 0] > 0).astype(int), 0).separation(0, 1)
    assert separation == pytest.approx(2 * np.sqrt(2 / np.pi) / np.sqrt(1 - 2 / np.pi), abs=0.02)


@given(st.integers(2, 12), st.floats(0, 9), st.floats(0.15, 0.85), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_two_gaussians_have_their_distance(width: int, distance: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    code = (rng.random(6000) < share).astype(int)
    direction = rng.normal(size=width)
    latent = rng.normal(size=(6000, width)) + np.outer(code, distance * direction / np.linalg.norm(direction))
    # Mahalanobis distance: a linear map of the whole space changes nothing.
    latent = latent @ (np.eye(width) + 0.3 * rng.normal(size=(width, width)) / np.sqrt(width)) + 100
    assert Halves(latent, code, seed).separation(0, 1) == pytest.approx(distance, abs=0.18 + 0.04 * distance)


def test_labels_without_meaning_are_at_distance_zero_though_there_are_many_dimensions() -> None:
    rng = np.random.default_rng(0)
    found = [
        Halves(rng.normal(size=(60, 40)), rng.permutation(np.repeat([0, 1], 30)), seed).separation(0, 1)
        for seed in range(40)
    ]
    # The same cells for fitting and judging would give well above 2.
    assert abs(np.mean(found)) < 0.3


def test_separation_is_symmetric() -> None:
    latent, code = blobs(40, np.array([[0.0, 0], [2, 1], [5, 0]]))
    halves = Halves(latent, code, 0)
    assert halves.separation(0, 2) == pytest.approx(halves.separation(2, 0))


def test_clusters_too_small_to_judge_have_no_separation() -> None:
    latent = np.random.default_rng(0).normal(size=(20, 2))
    for n_small in (1, 2 * MIN_HALF - 1):
        assert np.isnan(Halves(latent, (np.arange(20) < n_small).astype(int), 0).separation(0, 1))
    assert np.isfinite(Halves(latent, (np.arange(20) < 2 * MIN_HALF).astype(int), 0).separation(0, 1))


def test_identical_cells_do_not_divide_by_zero() -> None:
    latent = np.repeat([[0.0, 0.0], [1.0, 0.0]], 10, axis=0)
    code, separation = merge_unseparated(latent, np.repeat([0, 1], 10), 4.0, 0)
    assert len(set(code)) == 2
    assert separation > 1000


class Remade:
    """Sizes, means and scatter of a merged cluster, from its cells."""

    def __init__(self, latent: np.ndarray, code: np.ndarray, seed: int, groups: list[list[int]]):
        rng = np.random.default_rng(seed)
        halves: list[list[np.ndarray]] = [[], []]
        for level in range(code.max() + 1):
            rows = rng.permutation(np.flatnonzero(code == level))
            for half in (0, 1):
                halves[half].append(rows[half::2])
        self.cells = [[latent[np.concatenate([half[i] for i in group])] for group in groups] for half in halves]

    def scatter(self, half: int, group: int) -> np.ndarray:
        cells = self.cells[half][group]
        return np.cov(cells.T, bias=True) * len(cells)


@given(st.lists(st.integers(0, 5), min_size=30, max_size=80), st.integers(0, 1000))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_merged_statistics_are_those_of_the_merged_cells(labels: list[int], seed: int) -> None:
    code = np.unique(labels, return_inverse=True)[1]
    k = code.max() + 1
    latent = np.random.default_rng(seed).normal(size=(len(code), 3)) + code[:, None] * [1, -2, 0.5] + 10
    halves = Halves(latent, code, seed)
    if k < 3:
        return
    halves.merge(0, 2)
    halves.merge(0, k - 1) if k > 3 else None
    groups = [[0, 2, k - 1] if k > 3 else [0, 2], [1]]
    remade = Remade(latent, code, seed, groups)
    for half in (0, 1):
        for level, cells in enumerate(remade.cells[half]):
            assert halves.size[half, level] == len(cells)
            if len(cells) > 1:
                np.testing.assert_allclose(halves.mean[half, level], cells.mean(axis=0))
                np.testing.assert_allclose(halves.scatter[half, level], remade.scatter(half, level), atol=1e-8)
    assert halves.size[:, 2].sum() == 0


def test_separated_blobs_stay_and_their_pieces_are_put_together() -> None:
    centres = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])
    latent, truth = blobs(300, centres)
    pieces = 2 * truth + (latent[:, 2] > 0)  # each blob cut in two where there is no gap
    code, separation = merge_unseparated(latent, pieces, 4.65, 0)
    assert adjusted_rand_score(truth, code) == 1
    assert 8.5 < separation < 11, "the smallest distance that remains, ten"


def test_a_cloud_cut_into_bands_ends_in_one() -> None:
    # The outer bands are far from each other: only distances measured anew after every merge see that none is a gap.
    latent = np.random.default_rng(3).normal(size=(1200, 3))
    bands = np.searchsorted([-1.5, -0.5, 0.5, 1.5], latent[:, 0])
    assert Halves(latent, bands, 0).separation(0, 3) > 5
    assert set(merge_unseparated(latent, bands, 4.65, 0)[0]) == {0}


def test_nothing_is_merged_that_is_far_enough_apart() -> None:
    latent, truth = blobs(200, np.array([[0.0, 0], [6, 0]]))
    assert len(set(merge_unseparated(latent, truth, 5.0, 0)[0])) == 2
    code, separation = merge_unseparated(latent, truth, 7.0, 0)
    assert set(code) == {0}
    assert np.isnan(separation)


def test_a_tiny_cluster_joins_its_nearest() -> None:
    latent, truth = blobs(100, np.array([[0.0, 0], [30, 0]]))
    tiny = np.array([[22, 1], [21, 0], [23, 0]], dtype=np.float32)
    latent, code = np.vstack([latent, tiny]), np.append(truth, [2, 2, 2])
    merged, _ = merge_unseparated(latent, code, 4.65, 0)
    assert len(set(merged)) == 2
    assert set(merged[-3:]) == set(merged[:-3][truth == 1])


def test_only_tiny_clusters_end_in_one() -> None:
    latent = np.random.default_rng(0).normal(size=(9, 2)) * 100
    merged, separation = merge_unseparated(latent, np.repeat([0, 1, 2], 3), 1.0, 0)
    assert len(set(merged)) == 1 or np.bincount(merged).min() >= 2 * MIN_HALF
    assert merged.shape == (9,)
    assert np.isnan(separation) or separation >= 1.0


def test_zero_turns_merging_off_even_of_tiny_and_overlapping_clusters() -> None:
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(203, 2))
    code = np.append(rng.integers(0, 6, 200), [6, 6, 6])
    merged, separation = merge_unseparated(latent, code, 0, 0)
    assert adjusted_rand_score(code, merged) == 1
    halves = Halves(latent, code, 0)
    assert separation == pytest.approx(min(halves.separation(a, b) for a in range(6) for b in range(a)))
    assert separation < 0.5


def test_one_cluster_stays_one() -> None:
    code, separation = merge_unseparated(np.random.default_rng(0).normal(size=(10, 2)), np.zeros(10, int), 4.0, 0)
    assert set(code) == {0}
    assert np.isnan(separation)


@given(st.lists(st.integers(0, 4), min_size=10, max_size=60), st.integers(0, 100))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_numbers_go_by_falling_size_without_gaps(labels: list[int], seed: int) -> None:
    code = np.unique(labels, return_inverse=True)[1]
    latent = np.random.default_rng(seed).normal(size=(len(code), 2)) + 20.0 * code[:, None]
    merged, _ = merge_unseparated(latent, code, 4.0, 0)
    sizes = np.bincount(merged)
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    # Clusters are only ever joined.
    assert all(len(set(merged[code == level])) == 1 for level in set(code))


@given(st.permutations(range(5)), st.integers(0, 100))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_how_the_clusters_were_numbered_does_not_matter(order: list[int], seed: int) -> None:
    latent, truth = blobs(80, np.array([[0.0, 0], [9, 0], [0, 9], [9.5, 1], [40, 40]]), seed)
    first, _ = merge_unseparated(latent, truth, 4.65, 0)
    second, _ = merge_unseparated(latent, np.array(order)[truth], 4.65, 0)
    assert adjusted_rand_score(first, second) == 1
    assert len(set(first)) == 4, "the second and the fourth are too close"


def test_a_pair_that_is_cut_though_its_centroids_are_far_apart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # A stripe cut in two, beside each half three blobs: nearer to it than its other half, but separated from it.
    rng = np.random.default_rng(0)
    stripe = np.column_stack([rng.uniform(-100, 100, 2000), rng.normal(size=2000)])
    corners = np.array([[x + dx, dy] for x in (-50, 50) for dx, dy in ((0, 20), (10, 30), (-10, 30))])
    blob, truth = blobs(60, corners)
    latent, code = np.vstack([stripe, blob]), np.append(stripe[:, 0] > 0, truth + 2).astype(int)
    whole = merge_unseparated(latent, code, 4.65, 0)
    monkeypatch.setattr("latentomics.cluster.separation.NEAREST", 2)
    halves = Halves(latent, code, 0)
    assert 1 not in halves.nearest(0, np.arange(1, 8))[:2]
    merged, separation = merge_unseparated(latent, code, 4.65, 0)
    np.testing.assert_array_equal(merged, whole[0])
    assert separation == whole[1] > 4.65
    assert len(set(merged)) == 7
    assert len(set(merged[:2000])) == 1


def test_clusters_by_the_distance_of_their_centroids() -> None:
    latent, truth = blobs(50, np.array([[0.0, 0], [9, 0], [-4, 0], [30, 0]]))
    assert list(Halves(latent, truth, 0).nearest(0, np.array([1, 2, 3]))) == [2, 1, 3]
