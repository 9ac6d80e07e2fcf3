"""What every assay's normalisation is: a function from rows of counts to rows of expression or abundance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Normalise rows of a counts store.

    Attributes
    ----------
    sentence
        What it does, for the methods text.
    facts
        JSON-able settings as used, for ``uns`` of the final file.
    keeps_zeros
        Whether a zero stays zero, so that the result is as sparse as the counts.
    """

    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)
    keeps_zeros: bool = True

    def __call__(self, counts: Any, rows: slice | np.ndarray) -> Any:
        """Normalised values, CSR, float32, of the shape of ``counts``.

        Parameters
        ----------
        counts
            Some rows of the store, CSR: all features or, where ``keeps_zeros``, any choice of them.
        rows
            Which rows of the store they are.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SizeLog(Normaliser):
    """``log1p(counts / total * target_sum)``, the total over all features of the store.

    Attributes
    ----------
    totals
        Counts of each observation of the store, (n_obs,).
    target_sum
        Counts per observation after size normalisation.
    """

    totals: np.ndarray
    target_sum: float

    @property
    def factors(self) -> np.ndarray:
        """What the counts of each observation are multiplied with, (n_obs,)."""
        return self.target_sum / np.maximum(self.totals, 1)

    def __call__(self, counts: Any, rows: slice | np.ndarray) -> Any:
        from scipy.sparse import csr_matrix

        per_entry = np.repeat(self.factors[rows], np.diff(counts.indptr))
        values = np.log1p(counts.data * per_entry).astype(np.float32)
        # Not counts.astype(): that sorts the entries of its copy, and the values would go to other genes.
        return csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def size_log(totals: np.ndarray, target_sum: float | None) -> SizeLog:
    """The usual normalisation of single cells.

    Parameters
    ----------
    totals
        Counts of each observation, (n_obs,).
    target_sum
        Counts per observation after it; None: the median of the totals.
    """
    totals = np.asarray(totals, dtype=np.float64)
    target = float(np.median(totals)) if target_sum is None else float(target_sum)
    return SizeLog(
        totals=totals,
        target_sum=target,
        sentence=f"log1p of counts scaled to {target:,.0f} per cell",
        facts={"normalisation": "log1p", "target_sum": target},
    )


def normalised_columns(store: Any, normaliser: Normaliser, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Normalised values of some rows and columns of a store, dense, float32."""
    if normaliser.keeps_zeros:
        return normaliser(store.select(rows, columns), rows).toarray()
    return normaliser(store.select(rows), rows)[:, columns].toarray()
