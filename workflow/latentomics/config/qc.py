"""``qc``: which cells are kept."""

from __future__ import annotations

from pydantic import Field, model_validator

from latentomics.config.base import Section


class QC(Section):
    n_mads: float | None = Field(
        5.0,
        gt=0,
        description="Cells whose log1p total counts or log1p detected genes lie further than this many median "
        "absolute deviations (MADs) from their sample's median are dropped. `null` turns it off.",
    )
    n_mads_mito: float | None = Field(
        5.0,
        gt=0,
        description="The same for the mitochondrial share, upper side only. `null` turns it off.",
    )
    min_mito_excess: float = Field(
        5.0,
        ge=0,
        le=100,
        description="A cell is a mitochondrial outlier only if its mitochondrial share also exceeds the sample's "
        "median by this much (percentage points): in clean samples the MAD is tiny and would drop healthy cells.",
    )
    min_counts: int | None = Field(None, ge=0, description="Fixed lower limit of counts per cell.")
    max_counts: int | None = Field(None, ge=1, description="Fixed upper limit of counts per cell.")
    min_genes: int | None = Field(None, ge=0, description="Fixed lower limit of detected genes per cell.")
    max_genes: int | None = Field(None, ge=1, description="Fixed upper limit of detected genes per cell.")
    max_mito_percent: float | None = Field(
        None, ge=0, le=100, description="Fixed upper limit of the mitochondrial share (percent of counts)."
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> QC:
        crossed = []
        for low, high in (("min_counts", "max_counts"), ("min_genes", "max_genes")):
            a, b = getattr(self, low), getattr(self, high)
            if a is not None and b is not None and a > b:
                crossed.append(f"{low} ({a}) is above {high} ({b})")
        if crossed:
            raise ValueError(f"{' and '.join(crossed)}: no cell can pass")
        return self
