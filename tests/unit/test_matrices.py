"""A stack of sparse matrices is that of the dense ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from latentomics.io.matrices import stack

MATRICES = arrays(
    np.int32, st.tuples(st.integers(0, 6), st.just(5)), elements=st.sampled_from([0, 0, 0, 1, 7, 2**31 - 1])
)


@given(st.lists(MATRICES, min_size=1, max_size=4))
@settings(deadline=None)
def test_stacked(parts: list[np.ndarray]) -> None:
    matrices = [csr_matrix(part) for part in parts]
    stacked = stack(matrices)
    np.testing.assert_array_equal(stacked.toarray(), np.vstack(parts))
    assert stacked.dtype == np.int32
    assert stacked.indices.dtype == np.int32
    assert not matrices, "nothing holds the parts any more"
