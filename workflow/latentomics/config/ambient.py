"""``ambient``: RNA of broken cells in every droplet."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentomics.config.base import Section


class Cellbender(Section):
    """CellBender remove-background (Fleming et al. 2023, Nature Methods 20:1323)."""

    epochs: int = Field(150, ge=1, le=1000, description="Passes over the data.")
    fpr: float = Field(0.01, gt=0, lt=1, description="Nominal false positive rate of the removal (fraction).")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Learning rate.")


class Decontx(Section):
    """DecontX (Yang et al. 2020, Genome Biology 21:57)."""

    max_iterations: int = Field(500, ge=1, description="Most iterations of the variational inference.")
    tolerance: float = Field(
        0.001, gt=0, description="It ends when no cell's share of ambient counts changes by more (fraction)."
    )


class Ambient(Section):
    method: Literal["none", "decontx", "cellbender"] = Field(
        "none",
        description="Removal of ambient RNA: `decontx` (CPU), `cellbender` (GPU; needs raw matrices), `none`. Corrected "
        "counts are what embeddings, clusters and markers are made of; the raw ones are kept beside.",
    )
    cellbender: Cellbender = Field(Cellbender(), description="Parameters of CellBender.")
    decontx: Decontx = Field(Decontx(), description="Parameters of DecontX.")
