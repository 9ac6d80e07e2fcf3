"""``reads``: quality control of shotgun reads and removal of host reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from latentomics.config.base import Section

AdapterSequence = Annotated[str, Field(pattern=r"^[ACGTRYSWKMBDHVNacgtryswkmbdhvn]{5,200}$")]
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FASTA = re.compile(r"\.(fasta|fa|fna|fas)(\.gz)?$", re.IGNORECASE)


class Reads(Section):
    adapters: Literal["auto"] | list[AdapterSequence] = Field(
        "auto",
        description="3' adapters to cut (sequences, IUPAC letters), or `auto`: those of resources/adapters.tsv that "
        "the first reads of each run contain. `[]` cuts none.",
    )
    adapters_2: list[AdapterSequence] = Field(
        [], description="Adapters of the mates (`path_2`), where they differ from `adapters`. Not with `auto`."
    )
    min_quality: int = Field(
        20,
        ge=0,
        le=50,
        description="3' ends are cut where the base quality falls below this (Phred; BWA's algorithm). 0 turns it off.",
    )
    poly_g: Literal["auto", True, False] = Field(
        "auto",
        description="Cut poly-G tails, which two-colour sequencers (NextSeq, NovaSeq) write where the signal ended. "
        "`auto`: where the first reads of a run end in G runs far more often than in C runs.",
    )
    min_length: int = Field(
        35, ge=1, le=10000, description="Shorter reads are dropped (bases), with their mates; 35 is Kraken 2's k-mer."
    )
    max_ambiguous: float | None = Field(
        None, ge=0, le=1, description="Reads with a larger share of N are dropped (fraction). `null` turns it off."
    )
    min_complexity: float | None = Field(
        0.5,
        gt=0,
        lt=1,
        description="Reads with less normalised entropy of their base triplets are dropped (0: one base repeated, "
        "1: all triplets alike). Repeats of up to five bases have at most 0.46, random DNA of 20 % GC at least 0.6; "
        "at 0.7 half the reads of a genome of 13.5 % GC (the least known) would go. `null` turns it off.",
    )
    deduplicate: bool = Field(
        False,
        description="Drop exact copies of a read or pair (after trimming). Needs about 140 bytes of memory per read "
        "or pair kept; everything else needs the same memory for any number of reads.",
    )
    hosts: list[str] = Field(
        [],
        max_length=20,
        description="FASTA files (plain or gzip) whose reads are removed: host genomes, spike-ins such as phiX. Each "
        "is counted under its own name (the file's name without ending).",
    )
    host_tool: Literal["auto", "minimap2", "kmers"] = Field(
        "auto",
        description="How host reads are found: `minimap2` (aligned), `kmers` (25-mers shared with the host; needs no "
        "further program), `auto`: minimap2 where it is installed.",
    )
    min_host_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="A read or pair is the host's if at least this share of its bases is aligned to it (minimap2), or "
        "if it has as many k-mers of the host as one matching stretch of that length (kmers) (fraction).",
    )

    @field_validator("adapters_2")
    @classmethod
    def _mates_need_adapters(cls, value: list[str], info) -> list[str]:
        if value and info.data.get("adapters") == "auto":
            raise ValueError("`adapters` is `auto`: leave `adapters_2` empty, or name the adapters of both mates")
        return value

    @field_validator("hosts")
    @classmethod
    def _names_differ(cls, value: list[str]) -> list[str]:
        names = [host_name(path) for path in value]
        for path, name in zip(value, names, strict=True):
            if not HOST_NAME.fullmatch(name):
                raise ValueError(f"{path!r}: the file's name must consist of letters, digits, '.', '_' and '-'")
            if [other.casefold() for other in names].count(name.casefold()) > 1:
                raise ValueError(f"two files named {name!r}: their reads could not be told apart in the table")
        return value


def host_name(path: str) -> str:
    """Name of a host in tables and files: the file's name without its ending.

    >>> host_name("refs/phix174.fasta.gz")
    'phix174'
    """
    return _FASTA.sub("", PurePath(path).name)


def host_names(paths: Sequence[str]) -> list[str]:
    """Names of several hosts, in order."""
    return [host_name(path) for path in paths]
