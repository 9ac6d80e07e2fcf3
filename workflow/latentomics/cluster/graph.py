"""The k-nearest-neighbour graph of a latent space, as scanpy builds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix


def neighbour_graph(latent: np.ndarray, n_neighbors: int, seed: int) -> Any:
    """Neighbours (scanpy; exact for small data, by descent for large) and their fuzzy connectivities (UMAP).

    Parameters
    ----------
    latent
        Observations x latent dimensions.

    Returns
    -------
    AnnData
        With ``obsp["distances"]`` and ``obsp["connectivities"]`` and scanpy's own record of them, so that every scanpy
        function that needs neighbours works on it.
    """
    import anndata as ad
    import scanpy as sc

    holder = ad.AnnData(np.ascontiguousarray(latent, dtype=np.float32))
    k = min(n_neighbors, max(latent.shape[0] - 1, 2))
    sc.pp.neighbors(holder, n_neighbors=k, use_rep="X", random_state=seed)
    return holder


def save_graph(holder: Any, path: Path) -> None:
    """Write both sparse matrices of :func:`neighbour_graph` to one ``.npz`` (plain arrays, no pickle)."""
    arrays = {}
    for name in ("distances", "connectivities"):
        matrix = csr_matrix(holder.obsp[name])
        matrix.sort_indices()
        arrays |= {
            f"{name}_data": matrix.data.astype(np.float32),
            f"{name}_indices": matrix.indices.astype(np.int32),
            f"{name}_indptr": matrix.indptr.astype(np.int64),
        }
    np.savez(path, **arrays, n_neighbors=holder.uns["neighbors"]["params"]["n_neighbors"])


def load_graph(path: Path) -> tuple[csr_matrix, csr_matrix, int]:
    """Distances, connectivities and the number of neighbours that :func:`save_graph` wrote."""
    with np.load(path, allow_pickle=False) as file:
        matrices = []
        for name in ("distances", "connectivities"):
            n = len(file[f"{name}_indptr"]) - 1
            parts = tuple(file[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
            matrices.append(csr_matrix(parts, shape=(n, n)))
        return matrices[0], matrices[1], int(file["n_neighbors"])
