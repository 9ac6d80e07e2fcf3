"""``profile``: which taxa are in a sample, by which database, on what evidence."""

from __future__ import annotations

from pydantic import Field

from latentomics.config.base import Section


class Profile(Section):
    databases: str = Field(
        "config/databases.tsv",
        min_length=1,
        description="Sheet of the reference databases, relative to the study's folder.",
    )
    database: str | None = Field(
        None, description="Name of the database to profile with; `null`: the first of the sheet."
    )
    min_abundance: float = Field(
        1e-4,
        ge=0,
        lt=1,
        description="Taxa of a smaller share of the sample's classified community are dropped (fraction).",
    )
    min_evidence: int = Field(
        10,
        ge=0,
        description="Taxa of which fewer distinct k-mers of their own (shared with no other detected species) are seen "
        "are dropped (sketched k-mers).",
    )
    min_evidence_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Taxa are dropped whose distinct k-mers fall below this share of what their abundance lets expect "
        "(fraction): many reads on few k-mers are a shared or contaminated region, not a genome. A strain at 93 % "
        "identity to its reference still shows 0.93^31 = 0.1 of the k-mers.",
    )
    min_relative_share: float = Field(
        0.005,
        ge=0,
        le=1,
        description="Taxa are dropped that are rarer than this share of their relatives in the sample, each weighted by how "
        "much of the taxon's evidence it can yield too (fraction): sequencing errors in the reads of a frequent genome "
        "imitate its relatives. Substitutions at 0.5 % per base, a third to each other base, reach a share of 0.0017.",
    )
