"""``associations``: do conditions differ in their taxa, their diversity, their composition?"""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Associations(Section):
    reference: str | None = Field(
        None,
        min_length=1,
        description="Condition that the others are compared with. `null`: the first in alphabetical order.",
    )
    min_prevalence: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Taxa seen in a smaller fraction of the samples compared are not tested (fraction).",
    )
    min_group: int = Field(5, ge=3, description="Groups of fewer samples are not tested for differing taxa.")
    n_permutations: int = Field(
        999, ge=99, le=99999, description="Permutations of PERMANOVA and of its dispersion check."
    )
