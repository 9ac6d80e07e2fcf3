"""``ingest``: from the files of the sample sheet to one counts store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentomics.config.base import Section


class Ingest(Section):
    organism: Literal["auto", "human", "mouse"] = Field(
        "auto",
        description="Organism, for mitochondrial, ribosomal and haemoglobin genes. "
        "`auto` recognises it by the gene ids.",
    )
    join: Literal["outer", "inner"] = Field(
        "outer",
        description="How the gene sets of samples are joined: `outer` keeps every gene (missing counts as zero), "
        "`inner` keeps the genes that every sample has.",
    )
