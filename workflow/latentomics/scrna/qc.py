"""Which cells are kept: outliers by median absolute deviation within a sample, and fixed limits on request.

The thresholds follow Germain et al. 2020 (pipeComp, Genome Biology 21:227) and "Single-cell best practices" (Heumos et
al. 2023, Nature Reviews Genetics 24:550): deviations from the sample's own median rather than one cut for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from latentomics.config.qc import QC
from latentomics.scrna.genes import SETS

#: Metric, side and reason, in the order in which a cell's first reason is reported.
RULES = (
    ("total_counts", "low", "low counts"),
    ("n_genes", "low", "low genes"),
    ("mito_percent", "high", "high mitochondrial share"),
    ("total_counts", "high", "high counts"),
    ("n_genes", "high", "high genes"),
)
DOUBLET = "doublet"
REASONS = (*(reason for _, _, reason in RULES), DOUBLET)


@dataclass(frozen=True)
class Limit:
    """Closed interval that a metric must lie in; infinite where there is no limit."""

    low: float = -np.inf
    high: float = np.inf


def cell_metrics(adata: AnnData, flags: pd.DataFrame) -> pd.DataFrame:
    """Per-cell metrics of a raw count matrix (scanpy).

    Returns
    -------
    DataFrame
        ``total_counts``, ``n_genes`` (detected) and the percentages ``mito_percent``, ``ribo_percent``, ``hb_percent``
        of the counts; a percentage is NaN where the sample has no gene of that set.
    """
    import scanpy as sc

    bare = AnnData(adata.X, obs=pd.DataFrame(index=adata.obs_names), var=flags)
    per_cell, _ = sc.pp.calculate_qc_metrics(bare, qc_vars=list(SETS), percent_top=None, log1p=False)
    metrics = pd.DataFrame(
        {
            "total_counts": per_cell["total_counts"].astype(np.float64),
            "n_genes": per_cell["n_genes_by_counts"].astype(np.int64),
        }
    )
    for name, column in SETS.items():
        share = per_cell[f"pct_counts_{name}"].astype(np.float64) if flags[name].any() else np.nan
        metrics[column] = share
    return metrics


def find_limits(metrics: pd.DataFrame, qc: QC) -> dict[str, Limit]:
    """Limits of each metric in one sample, in the metric's own unit.

    Counts and genes are judged on the ``log1p`` scale, both sides; the mitochondrial share on its own, upper side.
    A fixed limit replaces the one by deviations. A metric whose deviation is zero gets no limit by deviations.
    Barcodes without a count never pass, and say nothing about the median of the cells.
    """
    limits = {}
    cells = metrics[metrics["total_counts"] > 0]
    for metric, fixed_low, fixed_high in (
        ("total_counts", qc.min_counts, qc.max_counts),
        ("n_genes", qc.min_genes, qc.max_genes),
    ):
        low, high = -np.inf, np.inf
        if qc.n_mads is not None and len(cells):
            logged = np.log1p(cells[metric].to_numpy(dtype=float))
            centre, deviation = _median_and_mad(logged)
            if deviation > 0:
                low, high = np.expm1(centre - qc.n_mads * deviation), np.expm1(centre + qc.n_mads * deviation)
        low = low if fixed_low is None else float(fixed_low)
        limits[metric] = Limit(max(low, 1.0), high if fixed_high is None else float(fixed_high))
    high = np.inf
    mito = metrics["mito_percent"].to_numpy(dtype=float)
    if qc.max_mito_percent is not None:
        high = qc.max_mito_percent
    elif qc.n_mads_mito is not None and np.isfinite(mito).any():
        centre, deviation = _median_and_mad(mito[np.isfinite(mito)])
        high = centre + max(qc.n_mads_mito * deviation, qc.min_mito_excess)
    limits["mito_percent"] = Limit(high=float(high))
    return limits


def _median_and_mad(values: np.ndarray) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, float(np.median(np.abs(values - centre)))


def judge(metrics: pd.DataFrame, limits: dict[str, Limit]) -> pd.DataFrame:
    """First reason why each cell is dropped.

    Returns
    -------
    DataFrame
        ``reason`` (empty if the cell is kept), ``value`` of the metric at fault and the ``limit`` it broke.
    """
    verdict = pd.DataFrame({"reason": "", "value": np.nan, "limit": np.nan}, index=metrics.index)
    for metric, side, reason in RULES:
        bound = getattr(limits[metric], side)
        values = metrics[metric]
        outside = (values < bound) if side == "low" else (values > bound)
        first = outside & (verdict["reason"] == "")
        verdict.loc[first, "reason"] = reason
        verdict.loc[first, "value"] = values[first].astype(float)
        verdict.loc[first, "limit"] = bound
    return verdict
