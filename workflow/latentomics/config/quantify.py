"""``quantify``: counts of genes from the reads of single cells."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from latentomics.config.base import Section

_FILE = Annotated[str, Field(min_length=1)]


class ReadLayout(Section):
    """What the files of a technology hold: ranges are (file, first base, end), files numbered from 0, end 0: the rest."""

    barcode: tuple[tuple[int, int, int], ...]
    umi: tuple[tuple[int, int, int], ...]
    cdna: tuple[tuple[int, int, int], ...]

    @property
    def n_files(self) -> int:
        return 1 + max(file for part in (self.barcode, self.umi, self.cdna) for file, _, _ in part)


#: Name for people -> name for kallisto | bustools, and the layout.
TECHNOLOGIES: dict[str, tuple[str, ReadLayout]] = {
    name: (known, ReadLayout(barcode=barcode, umi=umi, cdna=cdna))
    for name, known, barcode, umi, cdna in (
        ("10xv1", "10XV1", ((0, 0, 14),), ((1, 0, 10),), ((2, 0, 0),)),
        ("10xv2", "10XV2", ((0, 0, 16),), ((0, 16, 26),), ((1, 0, 0),)),
        ("10xv3", "10XV3", ((0, 0, 16),), ((0, 16, 28),), ((1, 0, 0),)),
        ("10xv4", "10XV4", ((0, 0, 16),), ((0, 16, 28),), ((1, 0, 0),)),
        ("celseq", "CELSEQ", ((0, 0, 8),), ((0, 8, 12),), ((1, 0, 0),)),
        ("celseq2", "CELSEQ2", ((0, 6, 12),), ((0, 0, 6),), ((1, 0, 0),)),
        ("dropseq", "DROPSEQ", ((0, 0, 12),), ((0, 12, 20),), ((1, 0, 0),)),
        ("indropsv2", "INDROPSV2", ((1, 0, 11), (1, 30, 38)), ((1, 42, 48),), ((0, 0, 0),)),
        ("scrubseq", "SCRUBSEQ", ((0, 0, 6),), ((0, 6, 16),), ((1, 0, 0),)),
    )
}
_CUSTOM = re.compile(r"\d+(,\d+){2}(,\d+,\d+,\d+)*(:\d+(,\d+){2}(,\d+,\d+,\d+)*){2}")


def technology_problem(value: str) -> str | None:
    """What is wrong with the name of a technology; None if nothing is."""
    if value.lower() in TECHNOLOGIES:
        return None
    if not _CUSTOM.fullmatch(value):
        return f"{value!r} is none of {', '.join(TECHNOLOGIES)} and no positions `barcode:UMI:cDNA` like 0,0,16:0,16,26:1,0,0"
    layout = read_layout(value)
    for name in ("barcode", "umi"):
        if any(end <= start for _, start, end in getattr(layout, name)):
            return f"{value!r}: a range of the {name} ends before it begins (file, first base from 0, end)"
    return f"{value!r} names more than three files" if layout.n_files > 3 else None


def read_layout(technology: str) -> ReadLayout:
    """Layout of a technology, by name or by its positions ``barcode:UMI:cDNA``, each ``file,start,end`` repeated."""
    if technology.lower() in TECHNOLOGIES:
        return TECHNOLOGIES[technology.lower()][1]
    parts = [[int(number) for number in part.split(",")] for part in technology.split(":")]
    ranges = [tuple(tuple(part[i : i + 3]) for i in range(0, len(part), 3)) for part in parts]
    return ReadLayout(barcode=ranges[0], umi=ranges[1], cdna=ranges[2])


class Quantify(Section):
    technology: str = Field(
        "10xv3",
        description=f"How the reads are built, unless the sheet says so in a column `technology`: {', '.join(TECHNOLOGIES)}, "
        "or positions `barcode:UMI:cDNA`, each as file,start,end (files from 0 in the order `path`, `path_2`, `path_3`; "
        "end 0: to the end of the read).",
    )
    genome: _FILE | None = Field(
        None, description="Genome (FASTA, plain or gzip), to build the index of; with `annotation`."
    )
    annotation: _FILE | None = Field(None, description="Annotation of the genome (GTF, plain or gzip).")
    transcripts: _FILE | None = Field(
        None, description="Transcripts (FASTA), to build the index of; with `transcripts_to_genes`."
    )
    transcripts_to_genes: _FILE | None = Field(
        None, description="Table without header: transcript, gene and, if known, symbol (tab-separated)."
    )
    index: _FILE | None = Field(None, description="A kallisto index that exists already; with `transcripts_to_genes`.")
    whitelist: str = Field(
        "auto",
        min_length=1,
        description="Barcodes that there can be: a file (one a line, plain or gzip), `auto` (the technology's, where it has "
        "one; else those that are frequent: no empty droplets are left then) or `none` (all are kept as they are).",
    )
    strand: Literal["auto", "unstranded", "forward", "reverse"] = Field(
        "auto", description="Strand of the reads that may map. `auto`: kallisto's default for the technology."
    )
    min_mapping_rate: float = Field(
        0.3, ge=0, le=1, description="Samples with a lower share of mapped reads get a warning (fraction)."
    )

    @field_validator("technology")
    @classmethod
    def _known(cls, value: str) -> str:
        if problem := technology_problem(value):
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _one_reference(self) -> Quantify:
        ways = [name for name in ("genome", "transcripts", "index") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are given: name one reference")
        if bool(self.genome) != bool(self.annotation):
            raise ValueError("`genome` and `annotation` go together")
        needs_table = bool(self.transcripts or self.index)
        if needs_table != bool(self.transcripts_to_genes):
            raise ValueError("`transcripts_to_genes` goes with `transcripts` or `index`")
        return self
