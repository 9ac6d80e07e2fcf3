"""What every job used, recorded beside its log: ``results/usage/``, a file per job, a line of JSON per event.

A job notes its start and, whether it failed or not, its end. A job that was killed leaves a start without an end, which is
how attempts are counted. Nothing here makes a job fail: what cannot be recorded is said in its log.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from latentomics.resources.peak import PeakMemory
from latentomics.resources.predict import Prediction, need_of, predict
from latentomics.resources.quantities import sizes


def usage_file(log: str) -> Path:
    """Where the usage of the job with this log is recorded: ``usage`` instead of ``logs``, ``.jsonl`` instead of ``.log``."""
    path = Path(log).with_suffix(".jsonl")
    parts = list(path.parts)
    if "logs" not in parts[:-1]:
        return path.parent / "usage" / path.name
    last = len(parts) - 1 - parts[::-1].index("logs")
    return Path(*parts[:last], "usage", *parts[last + 1 :])


def asks_for_gpu(resources: Any) -> bool:
    """Whether a job asked the scheduler for a GPU."""
    try:
        wanted = int(resources.get("gpu", 0) or 0)
    except (TypeError, ValueError):
        wanted = 1
    return wanted > 0 or "gpu" in str(resources.get("gres", ""))


def hide_gpus(resources: Any) -> None:
    """Under Slurm, let a job see no GPU that it did not ask for: it belongs to another's job.

    On a machine without a scheduler all jobs share the GPUs. To be called before torch is imported.
    """
    if "SLURM_JOB_ID" in os.environ and not asks_for_gpu(resources):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextmanager
def recorded(snakemake: Any) -> Iterator[None]:
    """Record start and end of a rule's job, as long as the block runs."""
    path = usage_file(str(snakemake.log[0]))
    began = time.monotonic()
    _safely(_begin, path, snakemake)
    peak = PeakMemory()
    ok = False
    try:
        yield
        ok = True
    finally:
        used = {"ok": ok, "seconds": round(time.monotonic() - began, 3), "peak_mb": round(peak.stop(), 1)}
        if not _interrupted(sys.exc_info()[1]):
            _safely(_end, path, snakemake, used)


def _interrupted(error: BaseException | None) -> bool:
    """Whether a job was told to stop, which is no end: it is as good as killed.

    Lightning answers a scheduler's SIGTERM with ``SystemExit(0)``; no script of ours leaves early.
    """
    told = isinstance(error, SystemExit) and error.code in (None, 0)
    return told or isinstance(error, (KeyboardInterrupt, GeneratorExit))


def read_usage(folder: Path) -> list[dict[str, Any]]:
    """Records of the jobs that ended well, in the order of their files' names.

    Parameters
    ----------
    folder
        ``results/usage``.

    Returns
    -------
    list
        What start and end of a job say, without ``event``, and ``attempts``: how often it was started, the killed and the
        failed ones included. Lines that are no JSON (of a full disk) are passed over.
    """
    records = []
    for _, events in read_events(folder):
        starts = [event for event in events if event.get("event") == "start"]
        if starts and _ended_well(events):
            record = {**starts[-1], **events[-1], "attempts": len(starts)}
            records.append({key: value for key, value in record.items() if key != "event"})
    return records


def read_events(folder: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Log and events of every job that left a record below ``results/usage``, in the order of the files' names."""
    return [(_log_of(path, folder), _events(path)) for path in sorted(folder.rglob("*.jsonl"))]


def _log_of(path: Path, folder: Path) -> str:
    return str(folder.parent / "logs" / path.relative_to(folder).with_suffix(".log"))


def _begin(path: Path, snakemake: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if _ended_well(_events(path)):
        path.unlink()
    asked = snakemake.resources
    _append(
        path,
        {
            "event": "start",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "rule": snakemake.rule,
            "wildcards": dict(snakemake.wildcards.items()),
            "threads": snakemake.threads,
            "mem_mb": asked.get("mem_mb"),
            "runtime": asked.get("runtime"),
            "gpu": asks_for_gpu(asked),
            "host": socket.gethostname(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        },
    )


def _end(path: Path, snakemake: Any, used: dict[str, Any]) -> None:
    cpu = round(_cpu_seconds(), 3)
    _append(path, {"event": "end", **used, "cpu_seconds": cpu, "device": _device(), **_predicted(snakemake)})


def _cpu_seconds() -> float:
    """Of this process, of the children that ended, and of those that wait for more work."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                total += sum(child.cpu_times()[:4])  # its own and those of its ended children, user and system
    return total


def _predicted(snakemake: Any) -> dict[str, Any]:
    """Row of needs, size and prediction of a job; and its size in every other quantity, for other rows to be fitted."""
    need = need_of(snakemake.rule, dict(snakemake.wildcards.items()))
    try:
        inputs = [str(path) for path in snakemake.input]
        found = predict(need, inputs)._asdict() | {"sizes": sizes(inputs)}
    except (OSError, ValueError) as error:
        print(f"How large this job was is not recorded: {error}", flush=True)
        found = dict.fromkeys(Prediction._fields) | {"quantity": need.quantity, "sizes": {}}
    return {"job": need.job, **{key: _rounded(value) for key, value in found.items()}}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _device() -> str:
    """``cpu``, or the GPU on which torch computed, if the job imported torch at all."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized() or not torch.cuda.max_memory_allocated():
        return "cpu"
    return str(torch.cuda.get_device_name())


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _ended_well(events: list[dict[str, Any]]) -> bool:
    return bool(events) and events[-1].get("event") == "end" and bool(events[-1].get("ok"))


def _append(path: Path, event: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def _safely(act: Any, *arguments: Any) -> None:
    try:
        act(*arguments)
    except Exception as error:
        print(f"What this job uses is not recorded: {type(error).__name__}: {error}", flush=True)
