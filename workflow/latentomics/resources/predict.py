"""What a job is asked of the scheduler: memory and time, predicted from how large its inputs are.

``needs.tsv`` beside this module holds a line per rule, of a quantity (:mod:`latentomics.resources.quantities`): memory in
MB and time in seconds, each a base and a slope. Where a method, a classifier or a caller changes the need, a row
``rule.method`` holds its own. The table is fitted to jobs that ran (:mod:`latentomics.resources.fit`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from latentomics.resources.quantities import measure

TABLE = Path(__file__).with_name("needs.tsv")
#: Memory of the processes that every cluster job holds besides its own: two of Snakemake, of about 130 MB each (MB).
HEADROOM = 300
#: Time asked for, as a multiple of that predicted: a node is slower than the machine that the table was measured on, and
#: shared; a job that is killed for its time costs all of it, an hour too many asked for costs a place in the queue.
MARGIN = 3
#: Least time asked for (minutes): the start of a job on a busy file system alone takes minutes.
LEAST = 10


class Need(NamedTuple):
    """A row of the table: what a job needs of its machine.

    Attributes
    ----------
    job
        Rule, or ``rule.value`` for jobs with this value of a wildcard.
    quantity, base_mb, mb_per_unit
        What decides the memory; memory without any of it (MB), and per unit.
    s_quantity, base_s, s_per_unit
        What decides the time; likewise, in seconds on two cores.
    n_jobs
        Number of observed jobs behind the row; 0: a guess.
    largest
        Largest ``quantity`` observed; beyond it the row extrapolates.
    source
        Where the numbers are from.
    """

    job: str
    quantity: str
    base_mb: float
    mb_per_unit: float
    s_quantity: str
    base_s: float
    s_per_unit: float
    n_jobs: int
    largest: float
    source: str


class Prediction(NamedTuple):
    """What a job is predicted to use: ``size`` of its quantity, peak memory in MB, time in seconds."""

    quantity: str
    size: float
    predicted_mb: float
    predicted_s: float


def read_needs(path: Path = TABLE) -> dict[str, Need]:
    """The table of needs, by job.

    Raises
    ------
    ValueError
        A job has two rows.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    needs = {}
    for row in rows:
        if row["job"] in needs:
            raise ValueError(f"{path}: two rows for {row['job']}")
        needs[row["job"]] = Need._make(kind(row[name]) for name, kind in get_type_hints(Need).items())
    return needs


@cache
def _needs() -> dict[str, Need]:
    return read_needs()


def need_of(rule: str, wildcards: Mapping[str, str] | None = None) -> Need:
    """The row of a rule, or of the rule with one of these wildcards if it has a row of its own.

    Raises
    ------
    KeyError
        The rule has no row.
    """
    needs = _needs()
    own = (f"{rule}.{value}" for value in (wildcards or {}).values())
    return needs[next((job for job in own if job in needs), rule)]


def predict(need: Need, inputs: Iterable[str]) -> Prediction:
    """Peak memory and time of a job with these inputs.

    Raises
    ------
    FileNotFoundError
        An input does not exist yet.
    """
    inputs = list(inputs)
    size = measure(need.quantity, inputs)
    s_size = size if need.s_quantity == need.quantity else measure(need.s_quantity, inputs)
    return Prediction(
        need.quantity, size, need.base_mb + need.mb_per_unit * size, need.base_s + need.s_per_unit * s_size
    )


def memory(rule: str, before: Callable[..., Iterable[str]] | None = None) -> Callable[..., int]:
    """Function for a rule's ``mem_mb``: twice as much with every attempt.

    Parameters
    ----------
    rule
        Name of the rule.
    before
        Gives files by the wildcards that are measured as long as the rule's inputs do not exist, for rules that share a
        Slurm job with those that make their inputs: the job is submitted before.

    Raises
    ------
    KeyError
        The rule has no row.
    """
    need_of(rule)

    def mem_mb(wildcards: Any, input: Iterable[str], attempt: int) -> int:
        predicted = _predicted(rule, wildcards, input, before).predicted_mb
        return math.ceil(predicted + HEADROOM) * 2 ** (attempt - 1)

    return mem_mb


def minutes(rule: str, before: Callable[..., Iterable[str]] | None = None) -> Callable[..., int]:
    """Function for a rule's ``runtime``: twice as much with every attempt; parameters as of :func:`memory`.

    Raises
    ------
    KeyError
        The rule has no row.
    """
    need_of(rule)

    def runtime(wildcards: Any, input: Iterable[str], attempt: int) -> int:
        predicted = _predicted(rule, wildcards, input, before).predicted_s
        return max(LEAST, math.ceil(MARGIN * predicted / 60)) * 2 ** (attempt - 1)

    return runtime


def _predicted(rule: str, wildcards: Any, inputs: Iterable[str], before: Callable[..., Iterable[str]] | None) -> Any:
    need = need_of(rule, dict(wildcards.items()))
    try:
        return predict(need, inputs)
    except FileNotFoundError as missing:
        try:
            if before is not None:
                return predict(need, before(wildcards))
        except FileNotFoundError:
            pass
        # Snakemake waits for a file only if it is an input of the rule.
        raise missing
