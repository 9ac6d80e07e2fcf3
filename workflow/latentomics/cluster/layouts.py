"""Two-dimensional pictures of a latent space: UMAP (McInnes et al. 2018) and t-SNE (openTSNE; Policar et al. 2024).

Up to :data:`LARGE` observations both libraries run as they are. Above, where their own starts and schedules take too long,
:data:`LANDMARKS` observations, drawn at random, are laid out in that same way, all others start among them, and a short
optimisation on the neighbour graph of all observations puts the neighbourhoods in order. How the pictures compare is measured
by ``benchmarks/layouts.py``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.cluster.graph import Graph, as_scanpy_has_it, neighbour_graph
from latentomics.cluster.landmarks import draw_landmarks, spread_positions
from latentomics.config.layouts import Layouts

#: Up to this many observations the layouts are the libraries' own.
LARGE = 20_000
#: Observations that are laid out first where there are more than :data:`LARGE`.
LANDMARKS = 5_000
#: Passes over all observations that follow: UMAP's epochs, and t-SNE's iterations on a coarse grid and then on a fine one.
EPOCHS = 50
COARSE_ITERATIONS, FINE_ITERATIONS = 130, 10
#: The width of a t-SNE of n observations grows about as n to this power (200 to 20,000 cells: a factor of 4).
ROOM = 0.25


def layout_table(
    latent: np.ndarray,
    graph: Graph,
    index: pd.Index,
    params: Layouts,
    seed: int,
    threads: int,
) -> pd.DataFrame:
    """Columns ``umap1 umap2 tsne1 tsne2``, float32, indexed by observation id.

    Parameters
    ----------
    latent
        Observations x latent dimensions.
    graph
        Of the observations, from :func:`~latentomics.cluster.graph.load_graph`.
    index
        Observation ids, (observations,).
    params
        Settings of both layouts.
    seed
        The same seed gives the same coordinates, whatever the number of threads.
    threads
        Of t-SNE; UMAP, and openTSNE's search for neighbours, are the same twice only with one.
    """
    n_landmarks = LANDMARKS if len(latent) > LARGE else 0
    umap = umap_layout(latent, graph, params, seed, n_landmarks)
    tsne = tsne_layout(latent, graph.connectivities, params, seed, n_landmarks, threads)
    coordinates = np.hstack([umap, tsne]).astype(np.float32)
    return pd.DataFrame(coordinates, index=index, columns=["umap1", "umap2", "tsne1", "tsne2"])


def umap_layout(latent: np.ndarray, graph: Graph, params: Layouts, seed: int, n_landmarks: int) -> np.ndarray:
    """UMAP, (observations, 2): as the library draws it, or (``n_landmarks`` above 0) from so many that it has drawn."""
    if not n_landmarks:
        # The spectral start solves for eigenvectors that tiny graphs do not have.
        return _umap(latent, graph, params, seed, "spectral" if len(latent) > 50 else "random")
    rows = draw_landmarks(len(latent), n_landmarks, seed)
    landmark_graph = neighbour_graph(latent[rows], graph.n_neighbors, seed)
    landmarks = umap_layout(latent[rows], landmark_graph, params, seed, 0)
    start = spread_positions(landmarks, rows, latent, graph.connectivities, seed)
    return _umap(latent, graph, params, seed, start, EPOCHS)


def tsne_layout(
    latent: np.ndarray, connectivities: csr_matrix, params: Layouts, seed: int, n_landmarks: int, threads: int
) -> np.ndarray:
    """t-SNE, (observations, 2): as the library draws it, or (``n_landmarks`` above 0) from so many that it has drawn."""
    if not n_landmarks:
        return _tsne(latent, params, seed, threads)
    rows = draw_landmarks(len(latent), n_landmarks, seed)
    landmarks = _tsne(latent[rows], params, seed, threads)
    start = spread_positions(landmarks, rows, latent, connectivities, seed)
    return _refined_tsne((len(latent) / len(rows)) ** ROOM * start, connectivities, threads)


def _umap(
    latent: np.ndarray,
    graph: Graph,
    params: Layouts,
    seed: int,
    start: str | np.ndarray,
    epochs: int | None = None,
) -> np.ndarray:
    """UMAP, (observations, 2); ``epochs`` None: as many as the library takes."""
    import scanpy as sc

    # umap-learn sets weak weights of its argument to zero.
    own = graph._replace(connectivities=graph.connectivities.copy())
    holder = as_scanpy_has_it(latent.astype(np.float32), own)
    sc.tl.umap(holder, min_dist=params.umap_min_dist, init_pos=start, random_state=seed, maxiter=epochs)
    return holder.obsm["X_umap"]


def _tsne(latent: np.ndarray, params: Layouts, seed: int, threads: int) -> np.ndarray:
    """t-SNE as the library draws it, (observations, 2); the same with any number of threads."""
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN

    latent = latent.astype(np.float64)
    # openTSNE wants three neighbours per unit of perplexity.
    perplexity = min(params.tsne_perplexity, max((len(latent) - 1) / 3 - 1, 1))
    # Trees of the approximate search are other ones in every thread.
    affinities = PerplexityBasedNN(latent, perplexity, random_state=seed, n_jobs=1)
    model = TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=threads)
    return np.asarray(model.fit(latent, affinities=affinities))


def _refined_tsne(start: np.ndarray, connectivities: csr_matrix, threads: int) -> np.ndarray:
    """t-SNE from positions that are already about right, with the neighbour graph's weights as affinities.

    Three neighbours per unit of perplexity would be 90 per observation; those of the graph, 15, draw the same picture.
    Early exaggeration, which finds the large structure, is left out: the landmarks have it. Repulsion is interpolated on a
    grid, most of the time on one of twice the usual width: a quarter of the time of an iteration, for an error of some 7 %
    (median over observations) of the repulsion in place of 0.7 %. The last iterations, on the usual grid, correct it.

    Parameters
    ----------
    start
        Where the observations are, in t-SNE's own unit, (observations, 2).
    connectivities
        Weights of the neighbours, (observations, observations), symmetric.
    threads
        The result is the same with any number.

    Returns
    -------
    numpy.ndarray
        (observations, 2).

    References
    ----------
    Boehm JN, Berens P, Kobak D (2022). Attraction-repulsion spectrum in neighbor embeddings. Journal of Machine Learning
    Research 23(95):1-32: t-SNE with UMAP's weights, or equal ones, of 15 neighbours looks as it does with perplexity 30.

    Linderman GC, Rachh M, Hoskins JG, Steinerberger S, Kluger Y (2019). Fast interpolation-based t-SNE for improved
    visualization of single-cell RNA-seq data. Nature Methods 16:243-245: the grid.
    """
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PrecomputedAffinities

    # The library divides its argument in place.
    affinities = PrecomputedAffinities(connectivities.astype(np.float64))
    embedding = TSNEEmbedding(start.astype(np.float64), affinities, negative_gradient_method="fft", n_jobs=threads)
    embedding = embedding.optimize(n_iter=COARSE_ITERATIONS, ints_in_interval=2)
    return np.asarray(embedding.optimize(n_iter=FINE_ITERATIONS))
