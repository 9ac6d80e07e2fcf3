"""Joining large sparse matrices without second copies in memory."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


def stack(parts: list[csr_matrix]) -> csr_matrix:
    """Matrices of one width below each other; the list is emptied, so that never two copies of all are in memory."""
    if len(parts) == 1:
        return parts.pop()
    shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])
    indptr = np.cumsum(np.concatenate([[0], *(np.diff(part.indptr) for part in parts)]), dtype=np.int64)
    data, indices = np.concatenate([part.data for part in parts]), [part.indices for part in parts]
    parts.clear()
    return csr_matrix((data, np.concatenate(indices), indptr), shape=shape)
