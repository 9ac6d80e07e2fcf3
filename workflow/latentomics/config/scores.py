"""``scores``: how embeddings are judged."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Scores(Section):
    max_cells: int = Field(
        5000, ge=200, description="Scores whose cost grows with the square of the cells use a sample of this size."
    )
    tie: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Two embeddings whose scores differ by no more than this are called a tie (score units, 0 to 1).",
    )
