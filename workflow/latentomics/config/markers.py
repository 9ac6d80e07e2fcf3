"""``markers``: which features set each cluster apart."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Markers(Section):
    max_cells_per_cluster: int = Field(
        3000,
        ge=50,
        description="Cells drawn per cluster for the rank test; fractions and means always use every cell.",
    )
    min_fraction: float = Field(
        0.05, ge=0, lt=1, description="Features expressed in a smaller fraction of every cluster are not tested."
    )
    n_top: int = Field(5, ge=1, le=20, description="Markers per cluster in the report's dot plot.")
