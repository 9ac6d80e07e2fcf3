"""Two-dimensional pictures of a latent space: UMAP (McInnes et al. 2018) and t-SNE (openTSNE; Policar et al. 2024).

Up to :data:`LARGE` observations both libraries run as they are. Above, where their own starts and schedules take too long,
:data:`LANDMARKS` observations, drawn at random, are laid out in that same way, all others start among them, and a short
optimisation on the neighbour graph of all observations puts the neighbourhoods in order. How the pictures compare is measured
by ``benchmarks/layouts.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.cluster.graph import Graph, neighbour_graph
from latentomics.cluster.landmarks import draw_landmarks, spread_positions
from latentomics.cluster.neighbours import nearest
from latentomics.cluster.threads import share
from latentomics.config.layouts import Layouts

if TYPE_CHECKING:
    from openTSNE.affinity import Affinities

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
        Of t-SNE, and processes that share what is drawn of landmarks; UMAP, and openTSNE's search for neighbours, are the same
        twice only with one thread.
    """
    if len(latent) > LARGE:
        umap, tsne = _from_landmarks(latent, graph, params, seed, threads)
    else:
        umap, tsne = umap_layout(latent, graph, params, seed), _tsne(latent, params, seed, threads)
    coordinates = np.hstack([umap, tsne]).astype(np.float32)
    return pd.DataFrame(coordinates, index=index, columns=["umap1", "umap2", "tsne1", "tsne2"])


def _from_landmarks(
    latent: np.ndarray, graph: Graph, params: Layouts, seed: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """UMAP and t-SNE, (observations, 2) each, from landmarks that the libraries have drawn."""
    rows = draw_landmarks(len(latent), LANDMARKS, seed)
    # UMAP runs in one thread; the t-SNE of the landmarks takes about as long, and needs little memory beside it.
    umap, landmarks = share(
        [
            partial(_umap_from_landmarks, latent, graph, rows, params, seed),
            partial(_tsne_of_landmarks, latent[rows], params, seed),
        ],
        threads,
    )
    start = spread_positions(landmarks, rows, latent, graph.connectivities, seed)
    return umap, _refined_tsne((len(latent) / len(rows)) ** ROOM * start, graph.connectivities, threads)


def _umap_from_landmarks(latent: np.ndarray, graph: Graph, rows: np.ndarray, params: Layouts, seed: int) -> np.ndarray:
    landmarks = umap_layout(latent[rows], neighbour_graph(latent[rows], graph.n_neighbors, seed), params, seed)
    start = spread_positions(landmarks, rows, latent, graph.connectivities, seed)
    return _umap(latent, graph, params, seed, start, EPOCHS)


def umap_layout(latent: np.ndarray, graph: Graph, params: Layouts, seed: int) -> np.ndarray:
    """UMAP as the library draws it, (observations, 2)."""
    # The spectral start solves for eigenvectors that tiny graphs do not have.
    start = "spectral" if len(latent) > 50 else "random"
    return _umap(latent, graph, params, seed, start, 500 if len(latent) <= 10_000 else 200)


def _umap(
    latent: np.ndarray, graph: Graph, params: Layouts, seed: int, start: str | np.ndarray, epochs: int
) -> np.ndarray:
    """UMAP, (observations, 2), as ``scanpy.tl.umap`` has it (tested), whose import would take 2 s and 60 MB."""
    from sklearn.utils import check_random_state
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(1.0, params.umap_min_dist)
    coordinates, _ = simplicial_set_embedding(
        data=latent.astype(np.float32),
        # It sets weak weights of its argument to zero.
        graph=graph.connectivities.tocoo(copy=True),
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=epochs,
        init=start,
        random_state=check_random_state(seed),
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
    )
    return coordinates


def _tsne(latent: np.ndarray, params: Layouts, seed: int, threads: int) -> np.ndarray:
    """t-SNE as the library draws it, (observations, 2); the same with any number of threads."""
    from openTSNE.affinity import PerplexityBasedNN

    # Trees of the approximate search are other ones in every thread.
    affinities = PerplexityBasedNN(latent.astype(np.float64), _perplexity(latent, params), random_state=seed, n_jobs=1)
    return _drawn_tsne(latent, affinities, seed, threads)


def _tsne_of_landmarks(latent: np.ndarray, params: Layouts, seed: int) -> np.ndarray:
    """The same of exact neighbours, which spares the process the libraries of the approximate search: 200 MB, 4 seconds."""
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    perplexity = _perplexity(latent, params)
    near = nearest(latent, min(int(3 * perplexity), len(latent) - 1) + 1, seed)
    affinities = PerplexityBasedNN(
        perplexity=perplexity, knn_index=PrecomputedNeighbors(near.indices, near.distances), n_jobs=1
    )
    return _drawn_tsne(latent, affinities, seed, 1)


def _perplexity(latent: np.ndarray, params: Layouts) -> float:
    """As in the settings; lower where there are few observations: openTSNE wants three neighbours per unit."""
    return min(params.tsne_perplexity, max((len(latent) - 1) / 3 - 1, 1))


def _drawn_tsne(latent: np.ndarray, affinities: Affinities, seed: int, threads: int) -> np.ndarray:
    from openTSNE import TSNE

    model = TSNE(perplexity=affinities.perplexity, initialization="pca", random_state=seed, n_jobs=threads)
    return np.asarray(model.fit(latent.astype(np.float64), affinities=affinities))


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
