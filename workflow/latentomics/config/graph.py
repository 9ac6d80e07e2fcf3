"""``graph``: the k-nearest-neighbour graph of every embedding."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Graph(Section):
    n_neighbors: int = Field(
        15,
        ge=3,
        le=200,
        description="Neighbours per observation, itself included.",
    )
