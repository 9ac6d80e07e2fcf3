"""Two cells in one droplet, found per sample by Scrublet (Wolock, Lopez, Klein 2019, Cell Systems 8:281).

Scrublet puts its threshold into the valley between the two modes of the scores of simulated doublets. Where there is
one mode (few cells, or cells of one type) it takes any dent for the valley. Its own estimate of the rate of doublets
tells: the share of cells above the threshold over the share of simulated doublets above it, since only that share of
the true ones can be seen. A rate of 1 or more is impossible: cells then look more like doublets than doublets do, and
the threshold is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.registry import DoubletCalls
from latentomics.scrna.doublets.untested import too_few, untested

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TITLE = "Scrublet"
GPU = False


def call_doublets(counts: csr_matrix, params: Doublets, seed: int, threads: int) -> DoubletCalls:
    """Score and call doublets among the cells of one sample that passed QC.

    Parameters
    ----------
    counts
        Raw counts, (cells, genes).
    threads
        Not used: numpy's threads are limited from outside.
    """
    import scanpy as sc
    from anndata import AnnData

    n_cells = counts.shape[0]
    if n_cells < params.min_cells:
        return too_few(n_cells, params.min_cells)
    work = AnnData(counts.astype(np.float32))
    try:
        sc.pp.scrublet(
            work,
            expected_doublet_rate=params.expected_rate,
            threshold=params.threshold,
            n_prin_comps=min(30, work.n_obs - 1),
            # Exact, by brute force, as scanpy does of itself for few cells: the search is for so many neighbours
            # (1.5 times the root of the cells) that the approximate one takes several times as long.
            use_approx_neighbors=False,
            random_state=seed,
            verbose=False,
        )
    except ValueError as error:
        # Scrublet keeps genes found in three cells and the highly variable ones of them: too few may be left.
        return untested(n_cells, f"Scrublet cannot score these cells, no doublet test ({str(error).splitlines()[0]})")
    # NaN, and so not called: cells in which Scrublet finds fewer than three of its genes.
    scores = work.obs["doublet_score"].to_numpy(dtype=float)
    threshold = work.uns["scrublet"].get("threshold")
    nobody = np.zeros(n_cells, dtype=bool)
    if threshold is None:
        note = "Scrublet found no valley between its two modes: scores are kept, nobody is called a doublet"
        return DoubletCalls(scores, nobody, None, note)
    called = scores > threshold
    seen = (work.uns["scrublet"]["doublet_scores_sim"] > threshold).mean()
    if params.threshold is None and called.any() and called.mean() >= seen:
        note = (
            f"Scrublet's threshold ({threshold:.2g}) does not separate doublets: {called.mean():.0%} of the cells lie "
            f"above it, and {seen:.0%} of the simulated doublets; scores are kept, nobody is called a doublet"
        )
        return DoubletCalls(scores, nobody, None, note)
    return DoubletCalls(scores, called, float(threshold))
