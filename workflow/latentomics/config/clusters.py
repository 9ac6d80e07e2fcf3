"""``clusters``: Leiden over a grid of resolutions, the chosen one by its stability."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from latentomics.config.base import Section

Resolution = Annotated[float, Field(gt=0, le=20)]


class Clusters(Section):
    resolutions: list[Resolution] = Field(
        [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0],
        min_length=1,
        max_length=50,
        description="Leiden resolutions to try (modularity with a resolution parameter).",
    )
    resolution: Resolution | None = Field(
        None,
        description="Pin the resolution instead of choosing it: Leiden's clusters as they are, neither merged nor "
        "judged.",
    )
    n_resamples: int = Field(10, ge=3, le=100, description="Subsamples behind each stability figure.")
    fraction: float = Field(0.8, gt=0.5, lt=1, description="Share of the cells in each subsample (fraction).")
    min_stability: float = Field(
        0.85,
        ge=0,
        le=1,
        description="A resolution is stable if the mean adjusted Rand index between subsamples reaches this.",
    )
    min_separation: float = Field(
        4.65,
        ge=0,
        le=50,
        description="Clusters whose held-out cells lie closer than this along their linear discriminant are merged "
        "(standard deviations, d'; a cut through one Gaussian cloud gives up to 2.7; at 4.65 one cell in a hundred is "
        "on the wrong side). 0 turns merging off.",
    )
    max_cells: int = Field(
        20000, ge=500, description="Larger data sets are judged on a random draw of this many observations."
    )

    @field_validator("resolutions")
    @classmethod
    def _sorted_unique(cls, value: list[float]) -> list[float]:
        if len(set(value)) != len(value):
            raise ValueError("a resolution is listed twice")
        return sorted(value)
