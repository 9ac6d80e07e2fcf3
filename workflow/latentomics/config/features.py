"""``features``: which features enter the embeddings, and how counts are normalised."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Features(Section):
    n_top: int = Field(
        2000,
        ge=50,
        description="Number of highly variable genes (seurat_v3 on counts, ranked within each batch, then combined).",
    )
    span: float = Field(0.3, gt=0, le=1, description="Span of the loess fit of variance on mean (fraction).")
    target_sum: float | None = Field(
        None,
        gt=0,
        description="Counts per cell after size normalisation. `null`: the median over all kept cells.",
    )
