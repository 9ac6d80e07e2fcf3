"""``doublets``: two cells in one droplet."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentomics.config.base import Section


class Doublets(Section):
    method: Literal["scrublet", "none"] = Field(
        "scrublet", description="Doublet caller, run per sample (Scrublet: Wolock et al. 2019)."
    )
    expected_rate: float = Field(
        0.05, gt=0, lt=0.5, description="Expected share of doublets among the barcodes of a sample (fraction)."
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Fixed threshold of the doublet score. `null`: the valley that Scrublet finds between the two "
        "modes of the simulated doublets' scores.",
    )
    min_cells: int = Field(
        50,
        ge=30,
        description="Samples with fewer cells are not tested for doublets (said in the report).",
    )
    drop: bool = Field(True, description="Drop called doublets. `false` only annotates them.")
