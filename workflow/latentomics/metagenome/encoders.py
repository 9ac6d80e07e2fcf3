"""The registered embeddings as encoders of a cross-validation: fitted on the training fold, applied to the test fold."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.assays.metagenome import Composition
from latentomics.config.base import Section
from latentomics.embed.data import EmbeddingData, split_held_out
from latentomics.embed.registry import method
from latentomics.embed.run import HELD_OUT
from latentomics.metagenome.prediction import Encoder, clr_of_fold


def registered_encoder(name: str, params: Section, threads: int = 1) -> Encoder:
    """An encoder that trains the embedding ``name`` anew in every fold.

    Early stopping judges a tenth of the *training* samples. Batches are not told to it: a fold may lack one.

    Parameters
    ----------
    params
        The method's own.
    """

    def encode(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        z_train, z_test = clr_of_fold(train, test)
        module = method(name)
        with TemporaryDirectory() as folder:
            seen = _fold(train, z_train, split_held_out(len(train), HELD_OUT, seed))
            fitted = module.fit(seen, params, seed, threads, Path(folder))
            return fitted.latent, module.encode(Path(folder), _fold(test, z_test, np.zeros(len(test), dtype=bool)))

    return encode


def _fold(table: np.ndarray, clr: np.ndarray, held_out: np.ndarray) -> EmbeddingData:
    whole = bool((table == np.rint(table)).all())
    return EmbeddingData(
        counts=csr_matrix(table.astype(np.int64 if whole else np.float32)),
        normaliser=Composition(values=clr.astype(np.float32), keeps_zeros=False, sentence="", facts={}),
        obs=pd.DataFrame({"batch": "all"}, index=range(len(table))),
        features=pd.RangeIndex(table.shape[1]),
        held_out=held_out,
    )
