"""``report``: the page that a user shows."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Report(Section):
    title: str = Field("latentomics report", min_length=1, max_length=200, description="Title of the page.")
    max_points: int = Field(
        20000, ge=500, le=100000, description="Most cells drawn; a larger data set is sampled, and the page says so."
    )
    max_genes: int = Field(150, ge=1, le=500, description="Most marker genes offered for colouring.")
