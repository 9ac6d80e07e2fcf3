"""What every embedding method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from latentomics.assays.normaliser import Normaliser
from latentomics.embed.stored import StoredCounts

#: Observations that any latent space needs: two to fit, one to hold out.
FEWEST = 3


@dataclass(frozen=True)
class EmbeddingData:
    """Counts of the selected features, and all that a method may condition on.

    Attributes
    ----------
    counts
        Observations x selected features: CSR, int32; or, of more observations than memory holds, left in their store.
    normaliser
        Of the assay; ``counts`` are rows 0 to n_obs of its store.
    obs
        Annotations; ``batch`` is always there (one level if the sheet names none).
    features
        Ids of the selected features.
    held_out
        Boolean mask of the observations that no method may train on when it measures its held-out loss. The same for
        every method, so that their held-out figures can be compared.
    """

    counts: Any
    normaliser: Normaliser
    obs: pd.DataFrame
    features: pd.Index
    held_out: np.ndarray

    @property
    def stored(self) -> bool:
        """Whether the counts were left in their store."""
        return isinstance(self.counts, StoredCounts)

    @property
    def counts_in_memory(self) -> Any:
        """``counts``, CSR, whatever memory they take."""
        return self.counts.read() if self.stored else self.counts

    @cached_property
    def normalised(self) -> Any:
        """Normalised expression or abundance (log1p, CLR...), CSR, float32, in memory like :attr:`counts_in_memory`."""
        return self.normaliser(self.counts_in_memory, slice(None))

    def normalised_blocks(self, n_rows: int) -> Iterator[tuple[slice, Any]]:
        """The same, ``n_rows`` observations at a time, in order, each block made when it is due.

        Returns
        -------
        rows, values
            Which they are, and their values (CSR).
        """
        if not self.stored:
            for start in range(0, len(self.obs), n_rows):
                rows = slice(start, min(start + n_rows, len(self.obs)))
                yield rows, self.normaliser(self.counts[rows], rows)
            return
        for where, values in self.counts.blocks(self.normaliser):
            for start in range(0, values.shape[0], n_rows):
                part = values[start : start + n_rows]
                yield slice(where.start + start, where.start + start + part.shape[0]), part


@dataclass(frozen=True)
class Fit:
    """An embedding.

    Attributes
    ----------
    latent
        Observations x latent dimensions, float32.
    summary
        JSON-able facts about the model and its training, for log and report.
    history
        Loss per epoch (columns ``epoch step train held_out``); None for methods without epochs.
    """

    latent: np.ndarray
    summary: dict[str, Any]
    history: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)


class TrainingError(RuntimeError):
    """Training failed for a reason that a user can act on."""


def split_held_out(n_obs: int, fraction: float, seed: int) -> np.ndarray:
    """Boolean mask of held-out observations, shape (n_obs,); at least one is held out, at least two are not.

    Raises
    ------
    TrainingError
        There are fewer than three observations.
    """
    check_enough(n_obs)
    n_held_out = min(max(round(n_obs * fraction), 1), n_obs - 2)
    mask = np.zeros(n_obs, dtype=bool)
    mask[np.random.default_rng(seed).choice(n_obs, n_held_out, replace=False)] = True
    return mask


def check_enough(n_obs: int, noun: str = "observation") -> None:
    """Refuse a study that is too small for any latent space.

    Raises
    ------
    TrainingError
        There are fewer than three observations.
    """
    if n_obs < FEWEST:
        raise TrainingError(
            f"{n_obs} {noun}{'' if n_obs == 1 else 's'} left to embed, at least {FEWEST} are needed.\n"
            "    Hint: the ledger says which were removed and why, and results/quality.html shows them all; relax those "
            "filters or add samples."
        )
