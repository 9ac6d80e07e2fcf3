"""The final ``.h5ad``: everything joined, the matrix streamed so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from latentomics.io.store import CountsStore

_CHUNK = 1 << 16


def join_results(
    store: CountsStore,
    features: pd.DataFrame,
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
    primary: str,
    target_sum: float,
    seed: int,
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame, dict[str, np.ndarray], dict[str, Any]]:
    """Everything but the matrix: what :func:`write_h5ad` takes after the store.

    Parameters
    ----------
    tables
        Per embedding its ``embeddings``, ``clusters`` and ``layouts``.
    primary
        Embedding whose clusters and layouts also get the plain names ``cluster``, ``X_umap`` and ``X_tsne``.

    Raises
    ------
    ValueError
        If a table and the store name different observations or features.
    """
    if not features.index.equals(store.var.index):
        raise ValueError("the table of features and the counts store name different features")
    obs = store.obs.copy()
    obsm: dict[str, np.ndarray] = {}
    for name, table in tables.items():
        for kind, found in table.items():
            if not found.index.equals(obs.index):
                raise ValueError(f"{kind}/{name} and the counts store name different observations")
        obs[f"cluster_{name}"] = pd.Categorical(table["clusters"]["cluster"]).rename_categories(str)
        obsm[f"X_{name}"] = table["embeddings"].to_numpy()
        for layout in ("umap", "tsne"):
            obsm[f"X_{layout}_{name}"] = table["layouts"][[f"{layout}1", f"{layout}2"]].to_numpy()
    obs["cluster"] = obs[f"cluster_{primary}"]
    obsm["X_umap"], obsm["X_tsne"] = obsm[f"X_umap_{primary}"], obsm[f"X_tsne_{primary}"]
    var = store.var.join(features.drop(columns="symbol", errors="ignore"))
    var["highly_variable"] = var.pop("selected")
    factors = target_sum / np.maximum(store.obs["total_counts"].to_numpy(dtype=float), 1)
    uns = {
        "latentomics": {"primary": primary, "target_sum": target_sum, "seed": seed, "embeddings": list(tables)},
        # scanpy and viewers look here to learn that X is log1p with the natural base.
        "log1p": {},
    }
    return factors, obs, var, obsm, uns


def write_h5ad(
    path: Path,
    store: CountsStore,
    factors: np.ndarray,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    obsm: Mapping[str, np.ndarray],
    uns: Mapping[str, Any],
) -> None:
    """Write the final file.

    Parameters
    ----------
    store
        Raw counts: they become ``layers["counts"]``.
    factors
        Per observation: ``X`` is ``log1p(counts * factor)``, float32.
    obs, var, obsm, uns
        As AnnData has them.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("obsp", "varm", "varp", "layers"):
            ad.io.write_elem(file, name, {})
        ad.io.write_elem(file, "obs", obs)
        ad.io.write_elem(file, "var", var)
        ad.io.write_elem(file, "obsm", dict(obsm))
        ad.io.write_elem(file, "uns", dict(uns))
        counts = _SparseWriter(file["layers"], "counts", store, np.int32)
        normalised = _SparseWriter(file, "X", store, np.float32)
        for where, block in store.blocks():
            counts.append(block.data, block)
            per_entry = np.repeat(factors[where], np.diff(block.indptr))
            normalised.append(np.log1p(block.data * per_entry), block)


class _SparseWriter:
    """Append row blocks to a CSR matrix on disk whose number of entries is known."""

    def __init__(self, parent: Any, name: str, store: CountsStore, dtype: type):
        group = parent.create_group(name)
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array(store.shape, dtype=np.int64)
        size = store.n_nonzero
        options: dict[str, Any] = (
            {"chunks": (min(_CHUNK, size),), "compression": "gzip", "compression_opts": 2} if size else {}
        )
        self._data = group.create_dataset("data", (size,), dtype, **options)
        self._indices = group.create_dataset("indices", (size,), np.int32, **options)
        self._indptr = group.create_dataset("indptr", (store.shape[0] + 1,), np.int64)
        self._indptr[0] = 0
        self._rows = self._at = 0

    def append(self, data: np.ndarray, block: Any) -> None:
        n_rows, n_entries = block.shape[0], len(block.data)
        self._data[self._at : self._at + n_entries] = data
        self._indices[self._at : self._at + n_entries] = block.indices
        self._indptr[self._rows + 1 : self._rows + n_rows + 1] = self._at + block.indptr[1:]
        self._rows += n_rows
        self._at += n_entries
