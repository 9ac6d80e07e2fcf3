"""Leiden on a graph made once against scanpy, which makes it at every call, each edge twice."""

from __future__ import annotations

import random

import igraph
import numpy as np
import pytest
import scanpy as sc
from embedding_cases import as_scanpy_has_it, blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.cluster.graph import neighbour_graph
from latentomics.cluster.leiden import CellGraph, _Stream

CENTRES = np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0], [60, 60, 60]])


def cells(kind: str) -> np.ndarray:
    rng = np.random.default_rng(2)
    if kind == "cloud":
        return rng.normal(size=(700, 8)).astype(np.float32)
    if kind == "duplicates":
        return np.repeat(rng.normal(size=(150, 4)), 3, axis=0).astype(np.float32)
    return blobs(120, CENTRES)[0]


@pytest.mark.parametrize("kind", ["cloud", "duplicates", "blobs"])
@pytest.mark.parametrize("seed", [0, 11])
def test_partitions_are_scanpys(kind: str, seed: int) -> None:
    latent = cells(kind)
    neighbours = neighbour_graph(latent, 15, seed)
    holder, graph = as_scanpy_has_it(latent, neighbours), CellGraph(neighbours.connectivities)
    for resolution, n_iterations in ((0.1, 10), (1.0, 10), (1.0, 2), (3.0, -1)):
        sc.tl.leiden(holder, resolution, flavor="igraph", n_iterations=n_iterations, directed=False, random_state=seed)
        theirs = holder.obs["leiden"].astype(int).to_numpy()
        np.testing.assert_array_equal(graph.leiden(resolution, seed, n_iterations), theirs)
    assert theirs.max() > 2


def test_what_was_partitioned_before_does_not_matter() -> None:
    connectivities = neighbour_graph(cells("cloud"), 15, 0).connectivities
    graph = CellGraph(connectivities)
    first = graph.leiden(1.0, 0)
    graph.leiden(0.3, 5)
    np.testing.assert_array_equal(graph.leiden(1.0, 0), first)
    np.testing.assert_array_equal(CellGraph(connectivities).leiden(1.0, 0), first)
    assert (graph.leiden(1.0, 1) != first).any(), "another seed, other random numbers"


def test_edges_given_in_pieces_make_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    connectivities = neighbour_graph(cells("cloud"), 15, 0).connectivities
    whole = CellGraph(connectivities).leiden(1.0, 0)
    monkeypatch.setattr("latentomics.cluster.leiden.BLOCK_EDGES", 997)
    np.testing.assert_array_equal(CellGraph(connectivities).leiden(1.0, 0), whole)


def test_igraph_draws_from_python_again_afterwards_even_after_a_failure() -> None:
    graph = CellGraph(neighbour_graph(cells("blobs"), 15, 0).connectivities)
    graph.leiden(1.0, 0)
    with pytest.raises(TypeError):
        graph.leiden("coarse", 0)  # type: ignore[arg-type]
    before = random.getstate()
    igraph.Graph.Erdos_Renyi(50, 0.5)
    assert random.getstate() != before


@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_random_numbers_are_those_of_numpys_legacy_generator(seed: int, runs: list[tuple[bool, int]]) -> None:
    mine, theirs = _Stream(seed), np.random.RandomState(seed)
    for bits, length in runs:
        for _ in range(length):
            if bits:
                assert mine.getrandbits(32) == theirs.tomaxint() & 0xFFFFFFFF
            else:
                assert mine.random() == theirs.random_sample()


def test_random_numbers_go_on_where_one_draw_ends() -> None:
    mine, theirs = _Stream(1), np.random.RandomState(1)
    for expected in theirs.tomaxint(40_000):
        assert mine.getrandbits(63) == expected
