"""``taxa``: which samples and taxa of the profiles enter the counts store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentomics.config.base import Section


class Taxa(Section):
    rank: Literal["domain", "phylum", "class", "order", "family", "genus", "species", "strain"] = Field(
        "species",
        description="Taxa are summed at this rank. What is not resolved to it stays, as `NAME (unclassified RANK)` of "
        "the lowest rank that is known.",
    )
    min_reads: int = Field(
        100,
        ge=0,
        description="Samples with fewer classified reads, after the filters of evidence and contaminants, are dropped. "
        "Has no use for tables of relative abundances.",
    )
    min_prevalence: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Taxa present in a smaller share of the samples are dropped (fraction of the kept samples).",
    )
    min_abundance: float = Field(
        0.0001,
        ge=0,
        lt=1,
        description="A taxon counts as present in a sample, for `min_prevalence`, from this relative abundance on "
        "(fraction of the sample's classified reads).",
    )
    contaminant_threshold: float | None = Field(
        0.1,
        gt=0,
        le=1,
        description="Taxa whose prevalence score against the negative controls is below this are dropped as "
        "contaminants (decontam; probability). 0.5 drops all that are more prevalent in controls than in samples. "
        "`null` turns the test off; negative controls are left out of the observations all the same.",
    )
    contaminants_by_batch: bool = Field(
        False,
        description="Test each batch against its own negative controls; the lowest score of a taxon counts. Batches "
        "without controls are not tested.",
    )
