"""``doublets``: two cells in one droplet."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from latentomics.config.base import Section
from latentomics.scrna.doublets import registry

MethodName = Literal[tuple(registry.METHODS)]  # type: ignore[valid-type]


class Doublets(Section):
    methods: list[MethodName] = Field(
        ["scrublet"],
        description="Doublet callers, run per sample: `scrublet` (Wolock et al. 2019), `solo` (Bernstein et al. 2020; GPU). "
        "`[]`: none. The scores of each are kept."
        " SOLO's average precision was below Scrublet's on all data tried (benchmarks/doublets.md).",
    )
    call: Literal["auto", "vote", "none", *registry.METHODS] = Field(  # type: ignore[valid-type]
        "auto",
        description="Who decides: one of the methods, `vote` (more than half of them), `auto` (the first of them) or `none` "
        "(scores only).",
    )
    given: str | None = Field(
        None,
        min_length=1,
        description="Column of the sheet (its value may be `obs:NAME`) with calls of another kind, such as sample hashing or "
        "genotypes: doublet, dbl, true, yes or 1 is a doublet, anything else is not; cells without a value are left to the "
        "methods.",
    )
    expected_rate: float = Field(
        0.05, gt=0, lt=0.5, description="Expected share of doublets among the barcodes of a sample (fraction)."
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Fixed threshold of Scrublet's score. `null`: the valley that Scrublet finds between the two "
        "modes of the simulated doublets' scores.",
    )
    min_cells: int = Field(
        50,
        ge=30,
        description="Samples with fewer cells are not tested for doublets (said in the report).",
    )
    drop: bool = Field(True, description="Drop called doublets. `false` only annotates them.")

    @model_validator(mode="after")
    def _consistent(self) -> Doublets:
        if len(set(self.methods)) != len(self.methods):
            raise ValueError("a method is listed twice")
        if self.call in registry.METHODS and self.call not in self.methods:
            raise ValueError(f"call is {self.call!r}, which is not among methods {list(self.methods)}")
        return self
