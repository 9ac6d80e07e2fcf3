"""The final ``.h5ad``: everything joined, the matrix streamed so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from latentomics.assays.normaliser import Normaliser
from latentomics.io.store import COUNTS, CountsStore

_CHUNK = 1 << 16


def join_results(
    store: CountsStore,
    features: pd.DataFrame,
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
    primary: str,
    normaliser: Normaliser,
    seed: int,
    ordinations: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, np.ndarray], dict[str, Any]]:
    """Everything but the matrix: what :func:`write_h5ad` takes after the store.

    Parameters
    ----------
    tables
        Per embedding its ``embeddings``, ``clusters`` and ``layouts``.
    normaliser
        That :func:`write_h5ad` will use.
    ordinations
        Coordinates that belong to no embedding, columns ``NAME1`` and ``NAME2``: they become ``X_pcoa_NAME``.
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
    if ordinations is not None:
        for name in (column[:-1] for column in ordinations if column.endswith("1")):
            obsm[f"X_pcoa_{name}"] = ordinations.loc[obs.index, [f"{name}1", f"{name}2"]].to_numpy(dtype=np.float32)
    obsm["X_umap"], obsm["X_tsne"] = obsm[f"X_umap_{primary}"], obsm[f"X_tsne_{primary}"]
    # What the store says of a feature (a taxon's rank) goes before what the selection says (its place in the order).
    var = store.var.join(features.drop(columns=features.columns.intersection(store.var.columns)))
    var["highly_variable"] = var.pop("selected")
    about = {"primary": primary, **normaliser.facts, "seed": seed, "embeddings": list(tables)}
    if store.layer != COUNTS:  # the layer that X and the embeddings were made of
        about["layer"] = store.layer
    uns: dict[str, Any] = {"latentomics": about}
    if normaliser.facts["normalisation"] == "log1p":
        # scanpy and viewers look here to learn that X is log1p with the natural base.
        uns["log1p"] = {}
    return obs, var, obsm, uns


def write_h5ad(
    path: Path,
    store: CountsStore,
    normaliser: Normaliser,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    obsm: Mapping[str, np.ndarray],
    uns: Mapping[str, Any],
) -> None:
    """Write the final file.

    Parameters
    ----------
    store
        Its raw counts become ``layers["counts"]``, its corrected ones, where there are any, ``layers["corrected"]``.
    normaliser
        Makes ``X`` of the counts that the store serves, float32.
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
        dtype = np.int32 if store.values == "counts" else np.float32
        served = _SparseWriter(file["layers"], store.layer, store.shape, store.n_nonzero, dtype)
        same, most = (served, store.n_nonzero) if normaliser.keeps_zeros else (None, store.shape[0] * store.shape[1])
        normalised = _SparseWriter(file, "X", store.shape, most, np.float32, like=same)
        for where, block in store.blocks():
            served.append(block)
            normalised.append(normaliser(block, where))
        served.close()
        normalised.close()
        if store.layer != COUNTS:
            raw = store.raw
            counts = _SparseWriter(file["layers"], COUNTS, raw.shape, raw.n_nonzero, dtype)
            for _, block in raw.blocks():
                counts.append(block)
            counts.close()


class _SparseWriter:
    """Append row blocks to a CSR matrix on disk whose number of entries is bounded.

    Parameters
    ----------
    most
        Entries at most.
    like
        A matrix with entries in the same places: the file has those once, under both names.
    """

    def __init__(
        self, parent: Any, name: str, shape: tuple[int, int], most: int, dtype: Any, like: _SparseWriter | None = None
    ):
        group = parent.create_group(name)
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array(shape, dtype=np.int64)
        self._like = like
        self._data = group.create_dataset("data", (most,), dtype, **_compressed(most, dtype))
        if like is None:
            self._indices = group.create_dataset("indices", (most,), np.int32, **_compressed(most, np.int32))
            self._indptr = group.create_dataset("indptr", (shape[0] + 1,), np.int64)
            self._indptr[0] = 0
        else:
            group["indices"], group["indptr"] = like._indices, like._indptr
        self._rows = self._at = 0

    def append(self, block: Any) -> None:
        n_rows, n_entries = block.shape[0], len(block.data)
        self._data[self._at : self._at + n_entries] = block.data
        if self._like is None:
            self._indices[self._at : self._at + n_entries] = block.indices
            self._indptr[self._rows + 1 : self._rows + n_rows + 1] = self._at + block.indptr[1:]
        self._rows += n_rows
        self._at += n_entries

    def close(self) -> None:
        if self._at < len(self._data):
            self._data.resize((self._at,))
            self._indices.resize((self._at,))


def _compressed(n_entries: int, dtype: Any) -> dict[str, Any]:
    """Options of a compressed dataset that may become shorter; every HDF5 library reads it."""
    if not n_entries:
        return {}
    options = {"chunks": (min(_CHUNK, n_entries),), "maxshape": (n_entries,), "compression": "gzip"}
    # Most bytes of a small whole number are zero: put apart, they take a third less room and half the time.
    return {**options, "compression_opts": 1, "shuffle": np.dtype(dtype).kind == "i"}
