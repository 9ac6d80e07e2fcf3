"""Leiden clusters of a neighbour graph (Traag, Waltman and van Eck 2019, Scientific Reports 9:5233), through igraph.

The partitions are those of ``scanpy.tl.leiden(flavor="igraph")`` (tested), which makes igraph's graph anew from Python
lists at every call, with each edge twice. Here it is made once, from arrays, with each edge once and twice its weight.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix

#: Edges given to igraph at a time, at least and at most: it makes Python objects of them, of some 150 bytes each. At every time
#: it sorts all anew: of many edges an eighth are given.
BLOCK_EDGES, MOST_EDGES = 1 << 17, 1 << 22


class CellGraph:
    """A neighbour graph as igraph has it, to be partitioned at any number of resolutions.

    Parameters
    ----------
    connectivities
        Symmetric weights, observations x observations.
    """

    def __init__(self, connectivities: csr_matrix):
        import igraph

        # By row, then column: Leiden takes up neighbours in the order of their edges.
        whole = csr_matrix(connectivities)
        if not whole.has_sorted_indices:
            whole = whole.sorted_indices()
        rows = np.repeat(np.arange(whole.shape[0], dtype=whole.indices.dtype), np.diff(whole.indptr))
        above = whole.indices > rows
        sources, targets = rows[above], whole.indices[above]
        # How freely Leiden refines depends on the scale of the weights: scanpy's graph has each edge twice.
        self._weights = 2.0 * whole.data[above].astype(np.float64)
        del whole, rows, above
        self._graph = igraph.Graph(n=connectivities.shape[0])
        width = min(max(BLOCK_EDGES, len(sources) // 8), MOST_EDGES)
        for start in range(0, len(sources), width):
            block = slice(start, start + width)
            self._graph.add_edges(zip(sources[block].tolist(), targets[block].tolist(), strict=True))

    def leiden(self, resolution: float, seed: int, n_iterations: int = 10) -> np.ndarray:
        """Partition by modularity with a resolution parameter.

        Returns
        -------
        numpy.ndarray
            Cluster of each observation, 0 to k - 1.
        """
        import igraph

        igraph.set_random_number_generator(_Stream(seed))
        try:
            found = self._graph.community_leiden(
                objective_function="modularity",
                weights=self._weights,
                resolution=resolution,
                n_iterations=n_iterations,
            )
        finally:
            igraph.set_random_number_generator(random)
        return np.array(found.membership)


class _Stream:
    """The random numbers that scanpy gives igraph, those of numpy's legacy generator, drawn many at a time.

    Leiden asks for two or three per observation and iteration; one by one they would take a third of its time.
    """

    def __init__(self, seed: int):
        self._next = _pairs(seed).__next__

    def getrandbits(self, k: int) -> int:
        return self._next()[0] & ((1 << k) - 1)

    def random(self) -> float:
        return self._next()[1]

    def randint(self, low: int, high: int) -> int:
        """Asked for by igraph, which makes whole numbers out of random bits."""
        raise NotImplementedError

    def gauss(self, mean: float, deviation: float) -> float:
        """Asked for by igraph, of which Leiden makes no use."""
        raise NotImplementedError


def _pairs(seed: int) -> Iterator[tuple[int, float]]:
    """What ``tomaxint()`` and what ``random_sample()`` of ``RandomState(seed)`` give next: each takes two words."""
    words = np.random.MT19937()
    words.state = np.random.RandomState(seed).get_state(legacy=False)
    while True:
        high, low = words.random_raw(1 << 15).reshape(-1, 2).T
        bits = ((high << np.uint64(32)) | low) >> np.uint64(1)
        fractions = ((high >> np.uint64(5)) * 67108864.0 + (low >> np.uint64(6))) / 9007199254740992.0
        yield from zip(bits.tolist(), fractions.tolist(), strict=True)
