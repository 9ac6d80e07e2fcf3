"""A doublet caller with a rule of its own: from the files of a sample to its calls."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.decide import calls_table
from latentomics.scrna.doublets.registry import DoubletCalls, method
from latentomics.scrna.qc import DOUBLET


def run_caller(
    name: str, counts: Path, cells: Path, params: Doublets, seed: int, threads: int
) -> tuple[pd.DataFrame, DoubletCalls]:
    """Judge the cells of a sample that passed QC.

    Parameters
    ----------
    counts, cells
        The sample's ``counts.h5ad`` and ``cells.parquet``; those passed QC whose reason is none, or another doublet
        caller's.

    Returns
    -------
    table, calls
        The table of :func:`calls_table`, of the judged cells only, and what it was made of.
    """
    import anndata as ad

    reason = pd.read_parquet(cells, columns=["reason"])["reason"]
    adata = ad.read_h5ad(counts)
    passed = reason.reindex(adata.obs_names).isin(["", DOUBLET]).to_numpy()
    calls = method(name).call_doublets(adata.X[passed], params, seed, threads)
    return calls_table(calls, adata.obs_names[passed].rename("cell")), calls


def write_calls(name: str, table: pd.DataFrame, calls: DoubletCalls, to: dict[str, Path]) -> None:
    """Write the two files of a caller (keys ``calls``, ``facts``)."""
    table.to_parquet(to["calls"])
    facts = {
        "method": name,
        "threshold": calls.threshold,
        "note": calls.note,
        "n_tested": int(table["score"].notna().sum()),
        "n_called": int(calls.called.sum()),
    }
    to["facts"].write_text(json.dumps(facts, indent=1) + "\n")
