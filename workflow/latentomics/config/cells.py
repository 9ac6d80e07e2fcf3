"""``cells``: which droplets hold a cell."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentomics.config.base import Section


class Cells(Section):
    method: Literal["emptydrops", "knee", "none"] = Field(
        "emptydrops",
        description="How cells are called in raw matrices, those that hold empty droplets: `emptydrops` (Lun et al. 2019), "
        "`knee` (all above the knee of the barcode ranks), `none` (every barcode is a cell). Filtered matrices are "
        "recognised, or named in the sheet's column `droplets` (`raw`, `filtered`), and passed on.",
    )
    fdr: float = Field(
        0.001, gt=0, lt=1, description="False discovery rate at which a droplet is called a cell (fraction)."
    )
    lower: int = Field(
        100,
        ge=1,
        description="Droplets with this many counts or fewer are taken as empty: they make the ambient profile.",
    )
    retain: int | None = Field(
        None,
        ge=1,
        description="Droplets with this many counts or more are cells in any case. `null`: those at the knee.",
    )
    n_iterations: int = Field(
        10000,
        ge=1000,
        le=1000000,
        description="Simulated droplets behind the p values; the smallest is 1 / (n + 1). Where that is too large for the "
        "false discovery rate, more are simulated (up to a million) for the droplets concerned.",
    )
