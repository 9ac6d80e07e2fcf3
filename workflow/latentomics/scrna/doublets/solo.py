"""Two cells in one droplet, found per sample by SOLO (Bernstein et al. 2020, Cell Systems 11:95) of scvi-tools.

scVI is trained on the cells of the sample; sums of random pairs of them are doublets of known kind; a classifier learns
to tell cells from doublets in scVI's latent space, library size included. The score is what scvi-tools gives: the
probability p of being one of the simulated doublets.

The call. The classifier saw two simulated doublets per cell, and a share r of the cells it took for singlets are doublets
themselves. Its odds are therefore p / (1 - p) = 2 f_d(x) / f(x), with the density of doublets f_d and that of all cells f;
of a cell like x the probability of being a doublet is r f_d(x) / f(x) = (r / 2) p / (1 - p) (learning from positive and
unlabelled examples; Elkan and Noto 2008, KDD, p. 213). It is above one half where p > 1 / (1 + r): that is the threshold,
with r from ``doublets.expected_rate``. SOLO's first version corrected for the simulated doublets too, with a rate that it
estimated itself; where doublets cannot be told (cells of one type) that estimate calls everybody a doublet.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.registry import DoubletCalls
from latentomics.scrna.doublets.untested import too_few, untested

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TITLE = "SOLO"
GPU = True

#: Most variable genes that scVI sees, as in scvi-tools' tutorials.
N_GENES = 2000
#: With fewer variable genes than latent dimensions there is nothing to compress.
FEWEST_GENES = 10
#: Optimiser steps before early stopping may end a training: a sample is small, and more of them only overfit.
FEWEST_STEPS = 400
_LOGGERS = ("scvi", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


def call_doublets(counts: csr_matrix, params: Doublets, seed: int, threads: int) -> DoubletCalls:
    """Score and call doublets among the cells of one sample that passed QC.

    Parameters
    ----------
    counts
        Raw counts, (cells, genes).
    threads
        Of the CPU. The same seed and threads give the same scores on a CPU.

    Returns
    -------
    DoubletCalls
        Cells without a count in the genes that SOLO is trained on have no score.

    Raises
    ------
    TrainingError
        There is no GPU, and the training would take longer than the site's limit.
    """
    n_cells = counts.shape[0]
    if n_cells < params.min_cells:
        return too_few(n_cells, params.min_cells)
    genes = variable_genes(counts)
    if len(genes) < FEWEST_GENES:
        note = f"{len(genes)} genes vary between the cells, SOLO needs {FEWEST_GENES}: no doublet test"
        return untested(n_cells, note)
    chosen = counts[:, genes]
    tested = np.asarray(chosen.sum(axis=1)).ravel() > 0
    if tested.sum() < params.min_cells:
        note = f"{tested.sum()} cells have counts in variable genes, fewer than doublets.min_cells ({params.min_cells})"
        return untested(n_cells, f"{note}: no doublet test")
    scores = np.full(n_cells, np.nan)
    with _quiet():
        scores[tested] = _probabilities(chosen[tested], seed, threads)
    if not np.isfinite(scores[tested]).all():
        return untested(n_cells, "SOLO's training diverged: no doublet test")
    threshold = 1 / (1 + params.expected_rate)
    return DoubletCalls(scores, scores > threshold, threshold)


@dataclass(frozen=True)
class _InMemory:
    """As much of a counts store as the selection of genes asks for."""

    counts: csr_matrix

    @property
    def shape(self) -> tuple[int, int]:
        return self.counts.shape

    @property
    def var(self) -> Any:
        import pandas as pd

        return pd.DataFrame({"symbol": ""}, index=range(self.shape[1]))

    def blocks(self) -> Iterator[tuple[slice, csr_matrix]]:
        yield slice(0, self.shape[0]), self.counts


def variable_genes(counts: csr_matrix) -> np.ndarray:
    """Columns of the most variable genes, found in three cells or more; in the order of the columns."""
    from latentomics.features.hvg import select_features

    common = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= 3)
    varies = common[_variance(counts[:, common]) > 0] if len(common) else common
    if len(varies) <= N_GENES:
        return varies
    table = select_features(_InMemory(counts[:, varies]), np.zeros(counts.shape[0]), N_GENES, 0.3)
    return varies[table["selected"].to_numpy()]


def _variance(counts: csr_matrix) -> np.ndarray:
    mean = np.asarray(counts.mean(axis=0)).ravel()
    return np.asarray(counts.astype(np.float64).power(2).mean(axis=0)).ravel() - mean**2


def _probabilities(counts: csr_matrix, seed: int, threads: int) -> np.ndarray:
    """Probability of each cell to be one of the simulated doublets, (n_cells,); NaN where the training diverged."""
    import anndata as ad
    import scvi
    from scipy.special import expit

    from latentomics.embed.training import TrainingParams, refusal, schedule, use_device

    accelerator, _ = use_device(threads)
    scvi.settings.seed = seed
    scvi.settings.dl_num_workers = 0
    adata = ad.AnnData(counts.astype(np.float32))
    adata.obs_names = adata.obs_names.astype(str)
    params = TrainingParams(min_steps=FEWEST_STEPS)

    def train(model: Any, step: str) -> None:
        # scvi-tools holds a tenth out.
        least, most = schedule(params, int(0.9 * model.adata.n_obs))
        model.train(
            max_epochs=most,
            accelerator=accelerator,
            devices=1,
            early_stopping=True,
            early_stopping_patience=params.patience,
            early_stopping_warmup_epochs=least,
            enable_progress_bar=False,
            callbacks=[refusal(f"SOLO ({step})", params, least, most, "take `solo` out of `doublets.methods`")],
        )

    scvi.model.SCVI.setup_anndata(adata)
    latent = scvi.model.SCVI(adata)
    try:
        train(latent, "latent space")
        classifier = scvi.external.SOLO.from_scvi_model(latent)
        train(classifier, "classifier")
    except ValueError as error:
        # scvi-tools' distributions refuse NaN parameters before the loss shows them.
        if "nan" not in str(error).lower() and "constraint" not in str(error):
            raise
        return np.full(adata.n_obs, np.nan)
    logits = classifier.predict(return_logits=True)
    # From the logits, because single precision knows no probabilities between 0.99999994 and 1.
    return expit((logits["doublet"] - logits["singlet"]).to_numpy(dtype=np.float64))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither scvi-tools' nor Lightning's advice to programmers."""
    import scvi  # noqa: F401  # on import it sets levels of its own

    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
