"""Ambient RNA of one sample: read what its earlier jobs wrote, correct, check, write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentomics.config.ambient import Ambient
from latentomics.problems import InputError, Problem
from latentomics.scrna.ambient.registry import AmbientSample, Correction, method


def remove_ambient(
    sample: str,
    source: str,
    files: Mapping[str, Path],
    raw: Callable[[], ad.AnnData],
    params: Ambient,
    seed: int,
    threads: int,
    to: Mapping[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Correct the counts of one sample's called cells.

    Parameters
    ----------
    source
        The sample's file of counts, as the sheet names it.
    files
        ``counts`` (counts.h5ad), ``cells`` (cells.parquet) and ``droplets`` (droplets.parquet).
    raw
        Reads the raw matrix as the sheet names it; called only by methods that need it.
    to
        ``corrected`` (.h5ad), ``facts`` (.json) and ``shares`` (.parquet).
    folder
        For a method's own files: made where it is wanted, and removed once the results are written.

    Returns
    -------
    dict
        What ``facts`` holds: ``method``, ``share`` and ``median`` (over the cells that passed QC; fractions), ``removed``
        (share of their counts that was taken out), ``notes``, and the method's own facts.

    Raises
    ------
    InputError
        The method needs empty droplets, and the sample's input has none.
    TrainingError
        There is no GPU, and without one the method takes too long; or its training failed.
    """
    module = method(params.method)
    counts, cells = ad.read_h5ad(files["counts"]), pd.read_parquet(files["cells"])
    profile = counts.var["ambient"].to_numpy(dtype=float) if "ambient" in counts.var else None
    if module.NEEDS_RAW and profile is None:
        raise InputError(_no_empty_droplets(sample, source, params.method, module.TITLE))
    given = AmbientSample(
        name=sample,
        counts=csr_matrix(counts.X, dtype=np.int32),
        barcodes=cells["barcode"].to_numpy(dtype=object),
        genes=counts.var_names.to_numpy(dtype=object),
        passed=cells["keep"].to_numpy(dtype=bool),
        profile=profile,
        curve=pd.read_parquet(files["droplets"]),
        raw=raw,
        folder=folder,
    )
    found = module.correct(given, params, seed, threads)
    check_correction(given.counts, found.counts)
    facts = _facts(params.method, given, found)
    corrected = ad.AnnData(found.counts, obs=counts.obs, var=counts.var)
    corrected.write_h5ad(to["corrected"], compression="gzip", compression_opts=1)
    pd.DataFrame({"ambient_share": found.share}, index=cells.index).to_parquet(to["shares"])
    Path(to["facts"]).write_text(json.dumps(facts, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    return facts


def check_correction(raw: csr_matrix, corrected: csr_matrix) -> None:
    """Refuse corrected counts that are no counts, or above the raw ones.

    Raises
    ------
    ValueError
        Says what is wrong: a fault of the method, not of the input.
    """
    if corrected.shape != raw.shape:
        raise ValueError(f"corrected counts have the shape {corrected.shape}, the raw ones {raw.shape}")
    if corrected.dtype != np.int32:
        raise ValueError(f"corrected counts are {corrected.dtype}, not int32")
    if len(corrected.data) and corrected.data.min() < 0:
        raise ValueError("corrected counts below zero")
    if (corrected > raw).nnz:
        raise ValueError("corrected counts above the raw ones")


def _facts(name: str, given: AmbientSample, found: Correction) -> dict[str, Any]:
    known = found.share[given.passed & np.isfinite(found.share)]
    before, after = (int(matrix[given.passed].sum()) for matrix in (given.counts, found.counts))
    return {
        "method": name,
        "share": float(known.mean()) if len(known) else None,
        "median": float(np.median(known)) if len(known) else None,
        "removed": (before - after) / max(before, 1),
        "notes": found.notes,
        **found.facts,
    }


def _no_empty_droplets(sample: str, source: str, name: str, title: str) -> Problem:
    what = f"sample {sample!r} has no empty droplets, or they have next to no counts; {title} learns the ambient RNA from them"
    hint = "name the raw matrix in the sheet (of Cell Ranger: raw_feature_bc_matrix), say `raw` in its column `droplets` if "
    hint += "it is one, or set `ambient.method` to `decontx` or `none`."
    return Problem(source, what, hint, key="ambient.method", value=name)
