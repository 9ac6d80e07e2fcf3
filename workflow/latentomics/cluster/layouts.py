"""Two-dimensional pictures of a latent space: UMAP (McInnes et al. 2018) and t-SNE (openTSNE; Policar et al. 2024)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.cluster.graph import as_scanpy_has_it
from latentomics.config.layouts import Layouts


def layout_table(
    latent: np.ndarray,
    graph: tuple[csr_matrix, csr_matrix, int],
    index: pd.Index,
    params: Layouts,
    seed: int,
    threads: int,
) -> pd.DataFrame:
    """Columns ``umap1 umap2 tsne1 tsne2``, float32, indexed by observation id."""
    umap = _umap(latent, graph, params, seed)
    tsne = _tsne(latent, params, seed, threads)
    coordinates = np.hstack([umap, tsne]).astype(np.float32)
    return pd.DataFrame(coordinates, index=index, columns=["umap1", "umap2", "tsne1", "tsne2"])


def _umap(latent: np.ndarray, graph: tuple[csr_matrix, csr_matrix, int], params: Layouts, seed: int) -> np.ndarray:
    import scanpy as sc

    holder = as_scanpy_has_it(latent.astype(np.float32), *graph)
    # The spectral start solves for eigenvectors that tiny graphs do not have.
    start = "spectral" if len(latent) > 50 else "random"
    sc.tl.umap(holder, min_dist=params.umap_min_dist, init_pos=start, random_state=seed)
    return holder.obsm["X_umap"]


def _tsne(latent: np.ndarray, params: Layouts, seed: int, threads: int) -> np.ndarray:
    from openTSNE import TSNE

    # openTSNE wants three neighbours per unit of perplexity.
    perplexity = min(params.tsne_perplexity, max((len(latent) - 1) / 3 - 1, 1))
    model = TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=threads)
    return np.asarray(model.fit(latent.astype(np.float64)))
