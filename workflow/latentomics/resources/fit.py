"""Fit the table of needs to jobs that ran.

Each row becomes a line, base and slope, that lies on or above every observed job and as little above them as it can. What
the observations cannot tell, how a need grows beyond their sizes, is taken from a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from latentomics.resources.predict import Need
from latentomics.resources.quantities import QUANTITIES

#: Memory written into the table, as a multiple of the line through the largest jobs: the next run is not the same to the MB.
MEMORY_MARGIN = 1.12
#: Sizes whose largest is less than this multiple of the smallest say nothing of a slope.
SPREAD = 2.0
#: Share of the largest observed need in which a slope may hide unseen, by sizes that differ little and by those that do.
HIDDEN_ALIKE, HIDDEN = 0.5, 0.1
#: Columns of the table of observations. ``job``: the rule, and behind a dot its method, classifier or caller.
FACTS = ("run", "rule", "job", "threads", "device", "peak_mb", "seconds", "cpu_seconds")
OBSERVED = (*FACTS, *QUANTITIES)
#: Wildcards that choose what a job does, not what it is done to.
CHOICES = ("method", "classifier", "caller")


def observation(run: str, record: dict[str, Any]) -> dict[str, Any]:
    """A line of the table of observations, of a job's record (:func:`latentomics.resources.usage.read_usage`)."""
    chosen = [value for name, value in record["wildcards"].items() if name in CHOICES]
    facts = {**record, "run": run, "job": ".".join([record["rule"], *chosen])}
    return {name: facts[name] for name in FACTS} | {name: record["sizes"].get(name, 0.0) for name in QUANTITIES}


def fit_line(sizes: Sequence[float], used: Sequence[float], guess: float) -> tuple[float, float]:
    """The lowest line that no observation exceeds.

    Parameters
    ----------
    sizes, used
        Size (0 or more) and need (more than 0) of every observed job, (n,), n at least 1.
    guess
        Slope to fall back on, 0 or more.

    Returns
    -------
    base, slope
        Both 0 or more; ``base + slope x size`` is at least ``used`` everywhere. Among such lines the one whose excesses,
        as shares of what was used, have the smallest sum (a linear programme). Jobs of about the same size count together
        as one: otherwise a line that fits the many small ones would ask for several times what the few large ones need.

    Notes
    -----
    Sizes that differ by less than :data:`SPREAD` determine no slope: it is the guess, but no more than leaves half of the
    largest need to the base. Where sizes differ and the fitted slope is smaller than the guess, it is at least as much of
    the guess as would hide in a tenth of the largest need: small studies must not make large ones look free.

    Raises
    ------
    ValueError
        There is nothing to fit, or a size or need is not such a number.
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(used, dtype=float)
    if not len(x) or len(x) != len(y) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("sizes and needs must be finite, as many of the one as of the other, and at least one")
    if x.min() < 0 or y.min() <= 0 or guess < 0:
        raise ValueError("a size or a slope is negative, or a need is not positive")
    if x.max() < SPREAD * x.min() or x.max() == 0:
        slope = _at_most(guess, HIDDEN_ALIKE, x, y)
    else:
        # In units of the largest size and need, which keeps the programme well scaled.
        ones = np.column_stack([np.ones_like(x), x / x.max()])
        scaled = y / y.max()
        found = linprog(
            (ones / (scaled * _alike(x))[:, None]).sum(axis=0),
            A_ub=-ones,
            b_ub=-scaled,
            bounds=(0, None),
            method="highs",
        )
        if not found.success:
            raise ValueError(f"no line was found: {found.message}")
        slope = max(float(found.x[1]) * y.max() / x.max(), _at_most(guess, HIDDEN, x, y))
    return max(float((y - slope * x).max()), 0.0), slope


def _alike(x: np.ndarray) -> np.ndarray:
    """For each size, how many there are between the same powers of two."""
    with np.errstate(divide="ignore"):
        octaves = np.floor(np.log2(x))
    _, octave, number = np.unique(octaves, return_inverse=True, return_counts=True)
    return number[octave]


def _at_most(guess: float, share: float, x: np.ndarray, y: np.ndarray) -> float:
    """The guess, but not more than makes this share of the largest need."""
    return min(guess, share * float(y.max()) / float(x.max())) if x.max() else guess


def fit_needs(guesses: dict[str, Need], observed: pd.DataFrame) -> dict[str, Need]:
    """Every row of a table of guesses, fitted where jobs were observed.

    Parameters
    ----------
    guesses
        The rows: quantities are kept, slopes where nothing is known of them.
    observed
        Columns :data:`OBSERVED`. A job belongs to the row ``rule.value`` if there is one. The row of the bare rule covers
        all jobs of the rule: it serves methods that have no row of their own.

    Notes
    -----
    Time is fitted to jobs that ran on CPUs alone, as far as it is known: a rule that asks for a GPU may run at a site
    that has none.

    Raises
    ------
    ValueError
        An observed rule has no row.
    """
    unknown = set(observed["rule"]) - set(guesses)
    if unknown:
        raise ValueError(f"no row of needs for {', '.join(sorted(unknown))}")
    return {
        job: _fit_row(need, observed[observed["job" if "." in job else "rule"] == job]) for job, need in guesses.items()
    }


def _fit_row(need: Need, jobs: pd.DataFrame) -> Need:
    if jobs.empty:
        return need._replace(n_jobs=0, largest=0.0, source="guess")
    line = fit_line(jobs[need.quantity], jobs["peak_mb"], need.mb_per_unit)
    base_mb, mb_per_unit = (_round_up(MEMORY_MARGIN * value) for value in line)
    base_s, s_per_unit, runs = need.base_s, need.s_per_unit, ", ".join(sorted(set(jobs["run"])))
    on_cpu = jobs[(jobs["device"] == "cpu") & jobs["seconds"].notna()]
    if len(on_cpu):
        line = fit_line(on_cpu[need.s_quantity], on_cpu["seconds"], need.s_per_unit)
        base_s, s_per_unit = (_round_up(value) for value in line)
    return need._replace(
        base_mb=base_mb,
        mb_per_unit=mb_per_unit,
        base_s=base_s,
        s_per_unit=s_per_unit,
        n_jobs=len(jobs),
        largest=float(f"{jobs[need.quantity].max():.4g}"),
        source=runs if len(on_cpu) else f"{runs}; time: guess",
    )


def _round_up(value: float) -> float:
    """Three digits, never less: what covered an observation still does."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(round(value / unit, 6)) * unit:.3g}")


def write_needs(needs: dict[str, Need], path: Path) -> None:
    """Write a table of needs, in the order given."""
    lines = ["\t".join(Need._fields)]
    for need in needs.values():
        lines.append("\t".join(f"{v:g}" if isinstance(v, float) else str(v) for v in need))
    path.write_text("\n".join(lines) + "\n", "utf-8")
