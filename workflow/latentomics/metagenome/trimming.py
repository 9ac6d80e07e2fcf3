"""Adapters, low-quality ends and poly-G tails, cut by cutadapt (Martin 2011, EMBnet.journal 17:10).

In cutadapt's own order: first quality, then adapters. The settings are cutadapt's defaults (error rate 0.1, overlap of
at least 3 bases, one adapter per read), so that its command line gives the same reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd
from cutadapt.adapters import BackAdapter
from cutadapt.modifiers import AdapterCutter, ModificationInfo, NextseqQualityTrimmer, QualityTrimmer
from dnaio import SequenceRecord

from latentomics.config.reads import Reads
from latentomics.config.row import InputRow
from latentomics.metagenome.fastq import Chunk, read_chunks

#: Reads of a run (of each mate) that are looked at for adapters and poly-G tails.
SURVEYED = 100_000
#: Bases of an adapter that must appear in a read to count it: a chance hit in 100,000 reads of 150 bases: 0.3 %.
PROBE = 16
#: Share of the reads that makes an adapter, or poly-G, present.
PRESENT = 0.001
_TAIL = 10


@dataclass(frozen=True)
class Plan:
    """What to cut from the reads of one run.

    Attributes
    ----------
    adapters
        For each mate: names and sequences.
    poly_g
        Whether to cut poly-G tails.
    shares
        Share of the surveyed reads that hold an adapter, by mate (from 0) and name; empty if none were looked for.
    """

    adapters: tuple[Mapping[str, str], ...]
    poly_g: bool
    shares: Mapping[tuple[int, str], float]


def read_adapters(path: Path) -> dict[str, str]:
    """Names and sequences of the known adapters (columns ``name`` and ``sequence``)."""
    table = pd.read_csv(path, sep="\t", dtype=str)
    return dict(zip(table["name"], table["sequence"], strict=True))


def plan_run(row: InputRow, params: Reads, known: Mapping[str, str]) -> Plan:
    """Decide what to cut from a run, where the config says ``auto`` after looking at its first reads.

    Parameters
    ----------
    row
        The run.
    known
        Adapters to look for, as :func:`read_adapters` returns them.
    """
    n_mates = 1 if row.path_2 is None else 2
    shares: dict[tuple[int, str], float] = {}
    poly_g = params.poly_g is True
    if params.adapters == "auto" or params.poly_g == "auto":
        n_reads, hits, tails = survey(row, known)
        if params.adapters == "auto":
            shares = {(m, name): hits[m, name] / n_reads for m in range(n_mates) for name in known}
        if params.poly_g == "auto":
            # Either strand is read, so genomes give as many C runs as G runs.
            poly_g = tails["G"] >= max(2, PRESENT * n_reads * n_mates) and tails["G"] >= 10 * tails["C"]
    if params.adapters == "auto":
        found = tuple({n: known[n] for n in known if shares[m, n] >= PRESENT} for m in range(n_mates))
    else:
        given = [params.adapters, params.adapters_2 or params.adapters][:n_mates]
        found = tuple({sequence.upper(): sequence.upper() for sequence in adapters} for adapters in given)
    return Plan(found, poly_g, shares)


def survey(row: InputRow, known: Mapping[str, str]) -> tuple[int, Counter[tuple[int, str]], Counter[str]]:
    """Look at the first reads of a run.

    Returns
    -------
    n_reads, hits, tails
        Number of reads (or pairs) looked at; occurrences of the first bases of an adapter, by mate and name; reads
        that end in a run of ``G`` and of ``C``.
    """
    probes = {name: sequence[:PROBE] for name, sequence in known.items()}
    n_reads = 0
    hits: Counter[tuple[int, str]] = Counter()
    tails: Counter[str] = Counter()
    for chunk in read_chunks(row):
        taken = min(len(chunk), SURVEYED - n_reads)
        n_reads += taken
        for m, mate in enumerate(chunk.mates):
            text = "\n".join([record.sequence for record in islice(mate, taken)]).upper() + "\n"
            for name, probe in probes.items():
                hits[m, name] += text.count(probe)
            for base in "GC":
                tails[base] += text.count(base * _TAIL + "\n")
        if n_reads >= SURVEYED:
            break
    return n_reads, hits, tails


class Trimmer:
    """Cuts the reads of one run; holds cutadapt's modifiers for each mate."""

    def __init__(self, plan: Plan, min_quality: int):
        self._quality: NextseqQualityTrimmer | QualityTrimmer | None = None
        if plan.poly_g:
            self._quality = NextseqQualityTrimmer(min_quality)
        elif min_quality:
            self._quality = QualityTrimmer(0, min_quality)
        self._plan = plan
        self._cutters = [
            AdapterCutter([BackAdapter(sequence, max_errors=0.1, min_overlap=3, name=name) for name, sequence in a])
            if (a := list(adapters.items()))
            else None
            for adapters in plan.adapters
        ]

    def cut_quality(self, chunk: Chunk) -> Chunk:
        """Cut the 3' ends of low quality, and poly-G tails."""
        if self._quality is None:
            return chunk
        # These modifiers only look at the read; making a ModificationInfo for each would double their cost.
        cut, nothing = self._quality, ModificationInfo(SequenceRecord("", "", ""))
        return Chunk(tuple([cut(record, nothing) for record in mate] for mate in chunk.mates))

    def cut_adapters(self, chunk: Chunk) -> Chunk:
        """Cut the adapters of each mate, with all that follows them."""
        return Chunk(
            tuple(
                mate if cutter is None else [cutter(record, ModificationInfo(record)) for record in mate]
                for cutter, mate in zip(self._cutters, chunk.mates, strict=True)
            )
        )

    def found(self) -> list[dict[str, object]]:
        """Per mate and adapter: name, sequence, reads it was cut from, share of the surveyed reads (None: not looked)."""
        report = []
        for m, cutter in enumerate(self._cutters):
            statistics = {} if cutter is None else cutter.adapter_statistics
            for adapter, counts in statistics.items():
                report.append(
                    {
                        "name": adapter.name,
                        "sequence": adapter.sequence,
                        "mate": m + 1,
                        "cut_from": sum(n for by_error in counts.end.errors.values() for n in by_error.values()),
                        "surveyed_share": self._plan.shares.get((m, adapter.name)),
                    }
                )
        return report


def ambiguous_share(records: Sequence[SequenceRecord]) -> list[float]:
    """Share of N in each read; 0 for an empty one."""
    return [
        (record.sequence.count("N") + record.sequence.count("n")) / len(record) if len(record) else 0.0
        for record in records
    ]
