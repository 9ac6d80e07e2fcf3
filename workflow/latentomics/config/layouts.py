"""``layouts``: two-dimensional pictures of every embedding."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Layouts(Section):
    umap_min_dist: float = Field(0.5, ge=0, le=1, description="UMAP: smallest distance between drawn points.")
    tsne_perplexity: float = Field(
        30.0,
        ge=2,
        description="t-SNE: effective number of neighbours; lowered where there are too few observations. Where there are more "
        "than 20,000, it holds for the 5,000 that are laid out first.",
    )
