"""Which jobs of a run failed, and why, in words: from what they recorded, their logs and Slurm's.

Snakemake says that a job failed; of a job that shared its Slurm job with others it says that all failed. The record of
usage (:mod:`latentomics.resources.usage`) tells them apart: a job that ended well has an end.
"""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

#: Who writes Slurm's own lines into a job's log, which also holds what the job printed.
_OF_SLURM = re.compile(r"(?:slurmstepd|slurmd|srun)[^\s:]*: error:(.*)")
#: What such a line says, and what it means. The last line that says why counts: a requeued job may go on in the same log.
CAUSES = (
    ("memory", re.compile(r"exceeded (?:\w+ )?memory limit|oom[-_ ]kill|out[-_ ]of[-_ ]memory", re.IGNORECASE)),
    ("time", re.compile(r"DUE TO TIME LIMIT")),
    ("preempted", re.compile(r"DUE TO PREEMPTION")),
    ("node", re.compile(r"DUE TO (?:NODE FAILURE|JOB REQUEUE)")),
)
_CANCELLED = re.compile(r"CANCELLED AT|DUE TO SIGNAL Terminated", re.IGNORECASE)
#: Clocks of nodes differ: what began on another host so long before the run may still belong to it.
SKEW = timedelta(minutes=2)


class Failure(NamedTuple):
    """A job that did not end well.

    Attributes
    ----------
    rule, wildcards
        Which job.
    cause
        ``error`` (its script failed and said why), ``memory``, ``time``, ``preempted``, ``node``, ``cancelled`` or
        ``killed`` (no word of why).
    attempts
        How often it was started.
    mem_mb, runtime
        Memory (MB) and minutes that it had in the last attempt, if known.
    log
        The rule's log.
    shared
        Whether other jobs shared its Slurm job.
    """

    rule: str
    wildcards: dict[str, str]
    cause: str
    attempts: int
    mem_mb: int | None
    runtime: int | None
    log: str
    shared: bool = False


def failures(
    records: list[tuple[str, list[dict[str, Any]]]], slurm_logs: Path, since: datetime, host: str | None = None
) -> list[Failure]:
    """The jobs of a run that did not end well.

    Parameters
    ----------
    records
        Per job its log and the events that it recorded.
    slurm_logs
        Folder of the logs that Slurm wrote, ``{rule or group}/{wildcards}/{id}.log``; it removes those of jobs that ended
        well.
    since
        Start of the run, with its time zone.
    host
        Where the run's clock is; by default this host.
    """
    host = host or socket.gethostname()
    logs: dict[str, Path] | None = None
    found = []
    for log, events in records:
        starts = [event for event in events if event.get("event") == "start"]
        if not starts or not _belongs(starts[-1], since, host):
            continue
        ended = events[-1].get("event") == "end"
        if ended and events[-1].get("ok"):
            continue
        if logs is None:
            logs = {path.stem: path for path in slurm_logs.rglob("*.log")}
        start = starts[-1]
        own = logs.get(str(start.get("slurm_job")))
        shared = own is not None and own.relative_to(slurm_logs).parts[0].startswith("group_")
        cause = _cause(own)
        # A script that ended with an error may have called a program that was killed for memory.
        if ended and (shared or cause != "memory"):
            cause = "error"
        wildcards = start.get("wildcards")
        found.append(
            Failure(
                str(start.get("rule")),
                {str(key): str(value) for key, value in wildcards.items()} if isinstance(wildcards, dict) else {},
                cause,
                sum(_belongs(other, since, host) for other in starts),
                _number(start.get("mem_mb")),
                _number(start.get("runtime")),
                log,
                shared,
            )
        )
    return found


def sentence(failure: Failure) -> str:
    """What happened to a job, to which sample, and what to do."""
    of = ", ".join(f"{_on_one_line(key)} {_on_one_line(value)}" for key, value in failure.wildcards.items())
    log = _on_one_line(failure.log)
    who = f"{failure.rule}{f' of {of}' if of else ''}"
    tries = "" if failure.attempts < 2 else f", the last of {failure.attempts} attempts"
    if failure.cause == "error":
        return f"{who} failed{tries}; its log says why: {log}"
    memory, minutes = _amount(failure.mem_mb, "MB"), _amount(failure.runtime, "min")
    had = {
        "memory": f"was killed for its memory{tries}, with {memory}",
        "time": f"was killed at its time limit{tries}, after {minutes}",
        "preempted": f"was preempted{tries}",
        "node": f"was lost with its node{tries}",
        "cancelled": f"was cancelled{tries}",
        "killed": f"was killed{tries} (it had {memory} and {minutes}); neither it nor Slurm says why",
    }[failure.cause]
    more = {
        "memory": f"mem_mb: {2 * failure.mem_mb}" if failure.mem_mb else "",
        "time": f"runtime: {2 * failure.runtime}" if failure.runtime else "",
    }.get(failure.cause, "")
    hint = "start the same command again; what is finished is kept."
    if more:
        hint = (
            f"give it more, in slurm/config.yaml, `more` under set-resources: `{failure.rule}: {{{more}}}`; then "
            + hint
        )
    if failure.shared:
        hint += (
            " Other jobs shared its Slurm job, and one of them may be the cause: `samples_per_job: 1` separates them."
        )
    return f"{who} {had}. Log: {log}\n    Hint: {hint}"


def _amount(value: int | None, unit: str) -> str:
    return f"{value:,} {unit}" if value else "what the site gives"


def _on_one_line(text: str) -> str:
    """A name as it is, unless it holds what would break a line or a terminal."""
    return text if text.isprintable() else ascii(text)


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _belongs(start: dict[str, Any], since: datetime, host: str) -> bool:
    try:
        began = datetime.fromisoformat(str(start.get("time")))
    except ValueError:
        return False
    # Records know whole seconds.
    skew = timedelta(seconds=1) if start.get("host") == host else SKEW
    return (began if began.tzinfo else began.replace(tzinfo=UTC)) >= since - skew


def _cause(log: Path | None) -> str:
    try:
        text = log.read_text("utf-8", errors="replace") if log else ""
    except OSError:
        text = ""
    said = [line.group(1) for line in _OF_SLURM.finditer(text)]
    for line in reversed(said):
        for cause, sign in CAUSES:
            if sign.search(line):
                return cause
    return "cancelled" if any(_CANCELLED.search(line) for line in said) else "killed"
