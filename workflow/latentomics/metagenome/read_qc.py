"""Quality control of one sample's reads, streamed: memory does not grow with their number (but for exact copies).

Every run is read, trimmed and filtered chunk by chunk; then one pass per layout (single, pairs) takes the hosts' reads
out. The result appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from dnaio import SequenceRecord

from latentomics.config.reads import Reads, host_names
from latentomics.config.row import InputRow
from latentomics.metagenome.complexity import Copies, is_complex
from latentomics.metagenome.fastq import Chunk, open_writers, read_chunks, stored_chunks, write_chunk
from latentomics.metagenome.host import Judge, open_judge, tool_of, tool_version
from latentomics.metagenome.trimming import SURVEYED, Plan, Trimmer, ambiguous_share, plan_run, read_adapters
from latentomics.problems import InputError, Problem

#: Names of the analysis-ready files, for single-end reads and for pairs.
SINGLE = ("reads.fastq.gz",)
PAIRED = ("reads_1.fastq.gz", "reads_2.fastq.gz")
_HOST = "host: {}"


class Cleaned(NamedTuple):
    """The account of a sample's reads.

    Attributes
    ----------
    steps
        Columns ``step``, ``reads``, ``bases``: what remains after each step (both mates of a pair count). First
        ``raw``, last ``clean``.
    summary
        JSON-able facts: adapters and poly-G per run, host tools, mean length, notes for people.
    """

    steps: pd.DataFrame
    summary: dict[str, Any]


class Tally:
    """Reads and bases that remain after each step, in the order of the steps."""

    def __init__(self, steps: Sequence[str]):
        self._remaining = {step: [0, 0] for step in steps}

    def add(self, step: str, chunk: Chunk) -> None:
        remaining = self._remaining[step]
        remaining[0] += chunk.n_reads
        remaining[1] += chunk.n_bases

    def reads(self, step: str) -> int:
        return self._remaining[step][0]

    def table(self) -> pd.DataFrame:
        rows = [(step, *remaining) for step, remaining in self._remaining.items()]
        return pd.DataFrame(rows, columns=["step", "reads", "bases"])


def step_names(params: Reads) -> list[str]:
    """The steps that a config asks for, in order; the same for every sample of a study."""
    asked = {
        "raw": True,
        "quality": params.min_quality > 0 or params.poly_g is not False,
        "adapters": bool(params.adapters),
        "length": True,
        "ambiguous": params.max_ambiguous is not None,
        "complexity": params.min_complexity is not None,
        "duplicates": params.deduplicate,
        **{_HOST.format(name): True for name in host_names(params.hosts)},
        "clean": True,
    }
    return [step for step, wanted in asked.items() if wanted]


def clean(
    rows: Sequence[InputRow], params: Reads, adapters: Path, hosts: Mapping[str, Path], to: Path, threads: int = 1
) -> Cleaned:
    """Clean the reads of one sample.

    Parameters
    ----------
    rows
        Its runs: single-end, pairs (``path_2``), or both.
    adapters
        Table of known adapters (resources/adapters.tsv).
    hosts
        Index of each host of ``params.hosts`` by name, as :func:`~latentomics.metagenome.host.build_index` wrote it.
    to
        Folder for the analysis-ready reads: :data:`PAIRED` if any run has mates, :data:`SINGLE` if any has none.
        Replaced as a whole; untouched if anything fails.
    threads
        Used by minimap2.

    Raises
    ------
    InputError
        A file is damaged or no FASTQ, mates do not match, or no read is left.
    """
    tally = Tally(step_names(params))
    with _complete_or_absent(to) as folder:
        runs = _filter_runs(rows, params, read_adapters(adapters), folder, tally)
        if hosts:
            for names in _layouts(rows):
                _remove_hosts([folder / name for name in names], hosts, params.min_host_share, threads, tally)
        if not tally.reads("clean"):
            funnel = ", ".join(
                f"{step} {reads}" for step, reads in tally.table()[["step", "reads"]].itertuples(index=False)
            )
            hint = "loosen the limits under `reads` in the config, or take the sample out of the sheet."
            what = f"sample {rows[0].sample!r}: no reads left (reads after each step: {funnel})"
            raise InputError(Problem(str(rows[0].path), what, hint, key="reads"))
    return Cleaned(tally.table(), _summary(rows, runs, hosts, tally))


def _layouts(rows: Sequence[InputRow]) -> list[tuple[str, ...]]:
    wanted = {PAIRED if row.path_2 else SINGLE for row in rows}
    return [names for names in (PAIRED, SINGLE) if names in wanted]


@contextmanager
def _complete_or_absent(to: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``to`` at the end and vanishes if anything fails."""
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if to.exists():
            shutil.rmtree(to)
        os.replace(partial, to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _filter_runs(
    rows: Sequence[InputRow], params: Reads, known: Mapping[str, str], folder: Path, tally: Tally
) -> list[dict[str, Any]]:
    """Trim and filter all runs into the files of their layout; what was found in each run."""
    copies = Copies() if params.deduplicate else None
    runs = []
    with ExitStack() as stack:
        writers = {n: stack.enter_context(open_writers([folder / name for name in n])) for n in _layouts(rows)}
        for row in rows:
            plan = plan_run(row, params, known)
            trimmer = Trimmer(plan, params.min_quality)
            for chunk in read_chunks(row):
                kept = filter_chunk(chunk, trimmer, params, copies, tally)
                write_chunk(kept, writers[PAIRED if row.path_2 else SINGLE])
                if not params.hosts:
                    tally.add("clean", kept)
            runs.append(_run_summary(row, plan, trimmer))
    return runs


def filter_chunk(chunk: Chunk, trimmer: Trimmer, params: Reads, copies: Copies | None, tally: Tally) -> Chunk:
    """Trim and filter some reads; a pair goes if either mate fails."""
    tally.add("raw", chunk)
    steps = step_names(params)
    if "quality" in steps:
        chunk = trimmer.cut_quality(chunk)
        tally.add("quality", chunk)
    if "adapters" in steps:
        chunk = trimmer.cut_adapters(chunk)
        tally.add("adapters", chunk)
    chunk = chunk.keep(_all_mates(chunk, lambda mate: np.array([len(r) for r in mate]) >= params.min_length))
    tally.add("length", chunk)
    if params.max_ambiguous is not None:
        limit = params.max_ambiguous
        chunk = chunk.keep(_all_mates(chunk, lambda mate: np.array(ambiguous_share(mate)) <= limit))
        tally.add("ambiguous", chunk)
    if params.min_complexity is not None:
        chunk = chunk.keep(is_complex(chunk, params.min_complexity))
        tally.add("complexity", chunk)
    if copies is not None:
        chunk = chunk.keep(copies.is_new(chunk))
        tally.add("duplicates", chunk)
    return chunk


def _all_mates(chunk: Chunk, test: Callable[[Sequence[SequenceRecord]], np.ndarray]) -> np.ndarray:
    return np.logical_and.reduce([test(mate) for mate in chunk.mates])


def _remove_hosts(
    files: Sequence[Path], hosts: Mapping[str, Path], min_share: float, threads: int, tally: Tally
) -> None:
    """Take the reads of all hosts out of a file (or the two of mates), in place; count what is left after each."""
    before = [file.with_name(f"with_hosts.{file.name}") for file in files]
    for file, source in zip(files, before, strict=True):
        os.replace(file, source)
    with ExitStack() as stack:
        judges: dict[str, Judge] = {
            name: stack.enter_context(open_judge(index, before, min_share, threads)) for name, index in hosts.items()
        }
        writers = stack.enter_context(open_writers(files))
        for chunk in stored_chunks(before):
            # Each host is asked for all reads: minimap2 streams them in step. A read counts for the first it belongs to.
            verdicts = {name: judge(chunk) for name, judge in judges.items()}
            foreign = np.zeros(len(chunk), dtype=bool)
            for name, verdict in verdicts.items():
                foreign |= verdict
                tally.add(_HOST.format(name), chunk.keep(~foreign))
            rest = chunk.keep(~foreign)
            tally.add("clean", rest)
            write_chunk(rest, writers)
    for source in before:
        source.unlink()


def _run_summary(row: InputRow, plan: Plan, trimmer: Trimmer) -> dict[str, Any]:
    files = [str(path) for path in (row.path, row.path_2) if path is not None]
    return {"files": files, "poly_g": plan.poly_g, "surveyed": bool(plan.shares), "adapters": trimmer.found()}


def _summary(
    rows: Sequence[InputRow], runs: list[dict[str, Any]], hosts: Mapping[str, Path], tally: Tally
) -> dict[str, Any]:
    table = tally.table().set_index("step")
    notes = []
    for run in runs:
        name = Path(run["files"][0]).name
        if run["poly_g"]:
            notes.append(f"{name}: poly-G tails cut")
        if run["surveyed"] and not run["adapters"]:
            notes.append(f"{name}: none of the known adapters is in the first {SURVEYED} reads: none cut")
    before = table["reads"].shift()
    found = [
        {
            "name": name,
            "tool": tool_of(index),
            "version": tool_version(tool_of(index)),
            "reads": int(before[_HOST.format(name)] - table.loc[_HOST.format(name), "reads"]),
        }
        for name, index in hosts.items()
    ]
    reads, bases = (int(value) for value in table.loc["clean"])
    return {
        "sample": rows[0].sample,
        "layout": "mixed" if len(_layouts(rows)) == 2 else "paired" if rows[0].path_2 else "single",
        "runs": runs,
        "hosts": found,
        "n_raw": int(table.loc["raw", "reads"]),
        "n_clean": reads,
        "mean_length": bases / reads,
        "versions": {name: version(name) for name in ("cutadapt", "dnaio")},
        "notes": notes,
    }


def write_cleaned(cleaned: Cleaned, steps: Path, summary: Path) -> None:
    """Write the table of steps (TSV) and the summary (JSON)."""
    cleaned.steps.to_csv(steps, sep="\t", index=False)
    summary.write_text(json.dumps(cleaned.summary, indent=1) + "\n")
