"""What jobs were predicted to need against what they used: per job, and per rule with flags in words.

A prediction too low kills jobs or makes them wait for a second attempt; one far too high keeps a cluster's memory from
others. So the bounds are not the same on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

#: A prediction is under where more than this many times it was used.
UNDER = 1.2
#: A prediction is over where it is more than this many times what was used.
OVER = 4.0
#: Time is judged only where predicted or used is at least this many seconds: schedulers count minutes.
LEAST_SECONDS = 60.0

#: What is predicted and used, by name: columns of predicted, used, and their ratio.
MEASURES: dict[str, tuple[str, str, str]] = {
    "memory": ("predicted_mb", "used_mb", "memory_ratio"),
    "time": ("predicted_s", "used_s", "time_ratio"),
}

JOB_COLUMNS: tuple[str, ...] = (
    *("rule", "job", "threads", "gpu", "device", "attempts", "quantity", "size"),
    *("asked_mb", "predicted_mb", "used_mb", "memory_ratio", "memory"),
    *("asked_minutes", "predicted_s", "used_s", "time_ratio", "time"),
)
RULE_COLUMNS: tuple[str, ...] = (
    *("rule", "jobs", "gpu", "device", "attempts"),
    *("asked_mb", "predicted_mb", "used_mb", "memory_ratio"),
    *("asked_minutes", "predicted_s", "used_s", "time_ratio", "flags"),
)

#: Numbers of a job, by the key of its record.
_NUMBERS = {
    "threads": "threads",
    "attempts": "attempts",
    "size": "size",
    "mem_mb": "asked_mb",
    "predicted_mb": "predicted_mb",
    "peak_mb": "used_mb",
    "runtime": "asked_minutes",
    "predicted_s": "predicted_s",
    "seconds": "used_s",
}


def job_table(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per job that succeeded.

    Parameters
    ----------
    records
        As of :func:`latentomics.resources.usage.read_usage`. What a record lacks, or holds as something else than a
        number, is missing in the table.

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`JOB_COLUMNS`, by rule and job. ``*_mb`` in MB, ``*_s`` in seconds, ``asked_minutes`` in
        minutes: what the scheduler was asked for. ``*_ratio`` is used over predicted. ``memory`` and ``time`` are
        ``within``, ``under``, ``over`` or ``not judged``: without a prediction, and of times also where both are
        below :data:`LEAST_SECONDS` or where the job ran on a GPU, because times are predicted for CPUs.
    """
    rows = [_row(record) for record in records if record.get("rule") and record.get("ok", True)]
    table = pd.DataFrame(
        rows, columns=[c for c in JOB_COLUMNS if c not in ("memory_ratio", "memory", "time_ratio", "time")]
    )
    timed = table["device"].eq("cpu") & (table[["predicted_s", "used_s"]].max(axis=1) >= LEAST_SECONDS)
    everywhere = pd.Series(True, index=table.index)
    for name, judged in (("memory", everywhere), ("time", timed)):
        predicted, used, ratio = MEASURES[name]
        known = (table[predicted] > 0) & (table[used] > 0)
        table[ratio] = (table[used] / table[predicted]).where(known)
        table[name] = np.select(
            [~(known & judged), table[used] > UNDER * table[predicted], table[predicted] > OVER * table[used]],
            ["not judged", "under", "over"],
            "within",
        )
    return table[list(JOB_COLUMNS)].sort_values(["rule", "job"], kind="stable", ignore_index=True)


def rule_table(jobs: pd.DataFrame) -> pd.DataFrame:
    """One row per rule.

    Parameters
    ----------
    jobs
        As of :func:`job_table`.

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`RULE_COLUMNS`, by rule. Memory (asked, predicted, used) is that of the job that used
        most, time that of the job that took longest; the ratios (used over predicted) are those of the jobs that came
        closest to a bound or went farthest beyond it (:func:`strain`), missing where no job was judged. ``gpu``:
        whether any job asked for one; ``device``: where the jobs ran; ``attempts``: the most that a job took;
        ``flags``: in words, empty where every prediction held.
    """
    rows = []
    for rule, part in jobs.groupby("rule", sort=True):
        row: dict[str, Any] = {
            "rule": rule,
            "jobs": len(part),
            "gpu": bool(part["gpu"].any()),
            "device": ", ".join(sorted(part["device"].unique())),
            "attempts": part["attempts"].max(),
            "flags": "; ".join(flags(part)),
        }
        for name, (predicted, used, ratio) in MEASURES.items():
            asked = "asked_mb" if name == "memory" else "asked_minutes"
            largest = part.sort_values(used, ascending=False, kind="stable").iloc[0]
            row |= {column: largest[column] for column in (asked, predicted, used)}
            worst = strain(part.loc[part[name] != "not judged", ratio]).sort_values(ascending=False, kind="stable")
            row[ratio] = part.loc[worst.index[0], ratio] if len(worst) else math.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=list(RULE_COLUMNS))


def strain(ratio: pd.Series) -> pd.Series:
    """How far used over predicted has gone from 1 towards its bound, on a log scale: more than 1 is beyond the bound."""
    logs = np.log(ratio)
    return (logs / np.log(UNDER)).where(logs > 0, -logs / np.log(OVER))


def flags(jobs: pd.DataFrame) -> list[str]:
    """What went beyond a bound, in words, each with the job that went farthest.

    >>> flags(job_table([{"rule": "a", "wildcards": {"sample": "x"}, "predicted_mb": 100, "peak_mb": 131}]))
    ['memory under by 31 %: sample x']
    """
    said = []
    for name, (_, _, ratio) in MEASURES.items():
        for side in ("under", "over"):
            found = jobs[jobs[name] == side].sort_values(ratio, ascending=side == "over", kind="stable")
            if len(found):
                said.append(f"{name} {amount(found[ratio].iloc[0])}{_named(found['job'])}")
    return said


def amount(ratio: float) -> str:
    """How far a prediction missed.

    >>> amount(1.31), amount(0.19)
    ('under by 31 %', 'over by a factor of 5.3')
    """
    return f"under by {100 * (ratio - 1):.0f} %" if ratio > 1 else f"over by a factor of {float(f'{1 / ratio:.2g}'):g}"


def _named(names: pd.Series) -> str:
    more = len(names) - 1
    others = f" (and {more:,} more)" if more else ""
    return f": {names.iloc[0]}{others}" if names.iloc[0] else others


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    wildcards = record.get("wildcards")
    named = wildcards.items() if isinstance(wildcards, Mapping) else ()
    return {
        "rule": str(record["rule"]),
        "job": ", ".join(f"{name} {value}" for name, value in named),
        "gpu": record.get("gpu") is True,
        # A job that never imported torch has no device of its own.
        "device": str(record.get("device") or "cpu"),
        "quantity": str(record.get("quantity") or ""),
        **{column: _number(record.get(key)) for key, column in _NUMBERS.items()},
    }


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
