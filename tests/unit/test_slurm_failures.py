"""Which jobs of a run failed, and why, from records and logs like those of a real cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.slurm.failures import Failure, failures, sentence

SINCE = datetime(2026, 3, 1, 12, 0, 0, 400_000, tzinfo=UTC)
HEAD, NODE = "login1", "cpu1"
LOG = "results/logs/scrna_sample/A.log"
#: As Slurm 22.05 writes them, and as others do.
MEMORY = """srun: cluster configuration lacks support for cpu binding
slurmstepd-cpu1: error: StepId=6.0 exceeded memory limit (319455232 > 299892736), being killed
slurmstepd-cpu1: error: *** STEP 6.0 ON cpu1 CANCELLED AT 2026-03-01T12:46:02 ***
srun: Job step aborted: Waiting up to 5 seconds for job step to finish.
slurmstepd-cpu1: error: Exceeded job memory limit
srun: error: cpu1: task 0: Killed
"""
CGROUP = (
    "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=6.batch. Some of your processes may have been killed by the "
    "cgroup out-of-memory handler.\n"
)
CANCELLED = "slurmstepd: error: *** JOB 6 ON cpu1 CANCELLED AT 2026-03-01T12:46:02 ***\n"
TIME = "slurmstepd: error: *** STEP 6.0 ON cpu1 CANCELLED AT 2026-03-01T12:46:02 DUE TO TIME LIMIT ***\n"
NODE_LOST = (
    "slurmstepd: error: *** JOB 6 ON cpu1 CANCELLED AT 2026-03-01T12:46:02 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***\n"
)
PREEMPTED = "slurmstepd: error: *** JOB 6 ON cpu1 CANCELLED AT 2026-03-01T12:46:02 DUE TO PREEMPTION ***\n"


def start(seconds: float = 10, host: str = NODE, job: str | None = "6", **given: object) -> dict:
    time = (SINCE + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    asked = {"mem_mb": 800, "runtime": 10, "slurm_job": job}
    return {
        "event": "start",
        "time": time,
        "rule": "scrna_sample",
        "wildcards": {"sample": "A"},
        "host": host,
        **asked,
        **given,
    }


def end(ok: bool = False) -> dict:
    return {"event": "end", "ok": ok, "seconds": 3.0}


@pytest.fixture
def slurm_log(tmp_path: Path):
    def write(text: str, job: str = "6", kind: str = "rule_scrna_sample", wildcards: str = "A") -> Path:
        path = tmp_path / "slurm_logs" / kind / wildcards / f"{job}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def found(tmp_path: Path, *events: dict, log: str = LOG) -> list[Failure]:
    return failures([(log, list(events))], tmp_path / "slurm_logs", SINCE, HEAD)


def test_finished_jobs_and_empty_records_are_no_failures(tmp_path: Path) -> None:
    assert found(tmp_path, start(), end(True)) == []
    assert found(tmp_path) == []
    assert found(tmp_path, end()) == []
    assert found(tmp_path, start(), start(), end(), start(), end(True)) == []


def test_everything_about_a_failure(tmp_path: Path, slurm_log) -> None:
    slurm_log(MEMORY)
    (failure,) = found(tmp_path, start(5, mem_mb=400), start(10))
    assert failure == Failure("scrna_sample", {"sample": "A"}, "memory", 2, 800, 10, LOG)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (MEMORY, "memory"),
        (CGROUP, "memory"),
        ("srun: error: cpu1: task 0: Out Of Memory\n", "memory"),
        ("slurmstepd: error: Exceeded job memory limit\n", "memory"),
        (TIME, "time"),
        (PREEMPTED, "preempted"),
        (NODE_LOST, "node"),
        (CANCELLED, "cancelled"),
        ("slurmstepd: error: *** STEP 6.0 ON cpu1 CANCELLED AT 2026-03-01T12:46:02 DUE TO SIGNAL Terminated ***", "cancelled"),
        ("", "killed"),
        # What the job itself says is no word of Slurm's.
        ("RuntimeError: CUDA out of memory. DUE TO TIME LIMIT CANCELLED AT\n", "killed"),
        # A requeued job goes on in the same log: what happened last counts; a plain CANCELLED says less than a reason.
        (NODE_LOST + MEMORY, "memory"),
        (MEMORY + NODE_LOST, "node"),
        (TIME + CANCELLED, "time"),
        # Whatever the job printed before, also without an end of its line.
        ("\x00\xff epoch 10" + TIME, "time"),
    ],
)  # fmt: skip
def test_cause_of_a_killed_job(tmp_path: Path, slurm_log, text: str, cause: str) -> None:
    slurm_log(text)
    assert [failure.cause for failure in found(tmp_path, start())] == [cause]


@pytest.mark.parametrize("job", [None, "", "7", "*", "..", "6.log", "/etc/passwd", ["6"], "123_4"])
def test_without_a_log_of_slurm_nobody_says_why(tmp_path: Path, slurm_log, job: object) -> None:
    slurm_log(MEMORY)
    assert [failure.cause for failure in found(tmp_path, start(job=job))] == ["killed"]


def test_where_no_slurm_was_no_log_is_missed(tmp_path: Path) -> None:
    assert [failure.cause for failure in found(tmp_path, start(host=HEAD, job=None), end())] == ["error"]


def test_script_that_failed_is_an_error_whatever_happened_before(tmp_path: Path, slurm_log) -> None:
    slurm_log(TIME)
    (failure,) = found(tmp_path, start(1), start(2), end())
    assert failure.cause == "error" and failure.attempts == 2


def test_program_of_a_script_that_was_killed_for_memory(tmp_path: Path, slurm_log) -> None:
    """The script itself lives on and reports that its program failed."""
    slurm_log(CGROUP)
    assert [failure.cause for failure in found(tmp_path, start(), end())] == ["memory"]


def test_of_jobs_that_share_a_slurm_job_each_is_judged_by_its_own_record(tmp_path: Path, slurm_log) -> None:
    slurm_log(CGROUP, kind="group_samples_scrna_sample", wildcards="")
    records = [
        ("a.log", [start(wildcards={"sample": "A"}), end(True)]),
        ("b.log", [start(wildcards={"sample": "B"})]),
        ("c.log", [start(wildcards={"sample": "C"}), end()]),
    ]
    judged = failures(records, tmp_path / "slurm_logs", SINCE, HEAD)
    assert [(f.wildcards["sample"], f.cause, f.shared) for f in judged] == [("B", "memory", True), ("C", "error", True)]
    assert "samples_per_job: 1" in sentence(judged[0]) and "samples_per_job" not in sentence(judged[1])


def test_failure_of_an_earlier_run_is_not_told_again(tmp_path: Path) -> None:
    assert found(tmp_path, start(-3600), end()) == []
    assert found(tmp_path, start(-30, host=HEAD), end()) == []


def test_attempts_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    (failure,) = found(tmp_path, start(-4000), end(), start(-3000), start(5), start(9), end())
    assert failure.attempts == 2


def test_clock_of_a_node_may_be_behind(tmp_path: Path) -> None:
    assert len(found(tmp_path, start(-60), end())) == 1
    assert len(found(tmp_path, start(-0.4, host=HEAD), end())) == 1, "records know whole seconds"


@pytest.mark.parametrize(
    ("time", "belongs"),
    [
        ("2026-03-01T12:00:10", True),  # without a zone: UTC
        ("2026-03-01T13:00:10+01:00", True),
        ("2026-03-01T12:00:10+01:00", False),
        ("yesterday", False),
        (None, False),
        (12, False),
    ],
)
def test_times_of_every_form(tmp_path: Path, time: object, belongs: bool) -> None:
    assert bool(found(tmp_path, {**start(), "time": time})) == belongs


def test_damaged_record_is_still_a_failure(tmp_path: Path) -> None:
    broken = start(wildcards=["A"], mem_mb="much", runtime=None, rule=None)
    (failure,) = found(tmp_path, broken)
    assert failure[:6] == ("None", {}, "killed", 1, None, None)
    assert "what the site gives" in sentence(failure)


def test_sentences_say_what_who_and_what_to_do() -> None:
    failure = Failure("scrna_sample", {"sample": "A"}, "memory", 3, 3200, 40, LOG)
    assert sentence(failure) == (
        "scrna_sample of sample A was killed for its memory, the last of 3 attempts, with 3,200 MB. "
        f"Log: {LOG}\n"
        "    Hint: give it more, in slurm/config.yaml, `more` under set-resources: `scrna_sample: {mem_mb: 6400}`; then start "
        "the same command again; what is finished is kept."
    )
    late = sentence(failure._replace(cause="time", attempts=1))
    assert "was killed at its time limit, after 40 min" in late and "`scrna_sample: {runtime: 80}`" in late
    error = sentence(failure._replace(cause="error", wildcards={}))
    assert error == f"scrna_sample failed, the last of 3 attempts; its log says why: {LOG}"


CAUSES = ("error", "memory", "time", "preempted", "node", "cancelled", "killed")


@given(st.sampled_from(CAUSES), st.text(), st.text(), st.booleans(), st.one_of(st.none(), st.integers(1, 10**9)))
def test_no_name_breaks_a_line(cause: str, sample: str, log: str, shared: bool, amount: int | None) -> None:
    said = sentence(Failure("embed", {"sample": sample}, cause, 2, amount, amount, log, shared))
    first, *hint = said.splitlines()
    assert first.startswith("embed of sample ") and len(hint) == (cause != "error")
    assert all(line.startswith("    Hint: ") for line in hint)
    assert all(line.isprintable() for line in (first, *hint))
    if sample.isprintable():
        assert sample in first


EVENT = st.one_of(
    st.just(end(True)),
    st.just(end()),
    st.builds(start, st.integers(-(10**4), 10**4)),
    st.just({}),
    st.just({"event": "noise"}),
)


@given(st.lists(EVENT, max_size=8))
def test_a_job_is_told_once_and_only_if_it_did_not_end_well(events: list[dict]) -> None:
    told = failures([(LOG, events)], Path("/nowhere"), SINCE, HEAD)
    began = [event for event in events if event.get("event") == "start"]
    if told:
        assert events[-1] != end(True)
        assert 1 <= told[0].attempts <= len(began)
    elif began and datetime.fromisoformat(began[-1]["time"]) > SINCE:
        assert events[-1] == end(True)
    assert len(told) <= 1
