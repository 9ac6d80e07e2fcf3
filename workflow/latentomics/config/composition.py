"""``composition``: how taxon tables are normalised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentomics.config.base import Section


class Composition(Section):
    method: Literal["relative", "clr", "rclr", "rarefy"] = Field(
        "clr",
        description="Normalisation of taxa: shares (`relative`), centred log-ratio with multiplicative replacement of "
        "zeros (`clr`), the same over the taxa present only (`rclr`), or counts drawn to one depth (`rarefy`; needs "
        "counts).",
    )
    delta: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share that replaces a zero before the centred log-ratio (fraction of a sample). `null`: 65 % of "
        "the smallest share seen in the table, so that no absent taxon overtakes a present one.",
    )
    depth: int | None = Field(
        None,
        ge=1,
        description="Counts drawn per sample by `rarefy`; shallower samples are an error. `null`: those of the "
        "shallowest sample.",
    )
