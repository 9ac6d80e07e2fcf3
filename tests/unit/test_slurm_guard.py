"""Jobs of a controller that goes away: the plugin's own class, with its questions to Slurm answered by hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.slurm.guard import Guard, guard


class Executor:
    """What the guard needs of an executor; like the plugin's, it hands back nothing where Slurm gives no states."""

    def __init__(self, states: list[dict[str, str] | None]):
        self.states = states
        self.succeeded: list[str] = []
        self.failed: dict[str, str] = {}

    def report_job_success(self, job: Any) -> None:
        self.succeeded.append(job.external_jobid)

    def report_job_error(self, job: Any, msg: str = "") -> None:
        self.failed[job.external_jobid] = msg

    async def check_active_jobs(self, active_jobs: list[Any]):
        states = self.states.pop(0)
        if states is None:
            return
        for job in active_jobs:
            state = states.get(job.external_jobid)
            if state == "COMPLETED":
                self.report_job_success(job)
            elif state == "FAILED":
                self.report_job_error(job, msg="failed")
            else:
                yield job


def jobs(*ids: str) -> list[Any]:
    return [SimpleNamespace(external_jobid=each) for each in ids]


def look(executor: Executor, active: list[Any]) -> list[Any]:
    async def collected() -> list[Any]:
        return [job async for job in executor.check_active_jobs(active)]

    return asyncio.run(collected())


def test_jobs_survive_a_controller_that_does_not_answer() -> None:
    said: list[str] = []
    executor = Executor([None, None, {"1": "COMPLETED", "2": "RUNNING", "3": "FAILED"}])
    Guard(executor, said.append, lambda: None)
    active = jobs("1", "2", "3")
    assert look(executor, active) == active
    assert look(executor, active) == active
    assert [job.external_jobid for job in look(executor, active)] == ["2"]
    assert (executor.succeeded, executor.failed) == (["1"], {"3": "failed"})
    assert said == ["Slurm does not answer; its 3 jobs are looked at again until it does.", "Slurm answers again."]


def test_job_that_slurm_lost_fails_after_a_while_and_is_so_tried_again() -> None:
    now = [0.0]
    answers: list[set[str] | None] = [{"1"}, None, {"1"}, {"1"}, {"1"}]
    executor = Executor([{"1": "RUNNING"}] * 5)
    Guard(executor, print, lambda: answers.pop(0), clock=lambda: now[0], lost_after=100)
    active = jobs("1", "2")
    for seconds, expected in ((0, 2), (90, 2), (110, 2), (200, 2), (211, 1)):
        # At 90 s nobody answered, so that the wait began anew at 110 s.
        now[0] = seconds
        active = look(executor, active)
        assert len(active) == expected, seconds
    assert "no longer knows job 2" in executor.failed["2"]
    assert executor.succeeded == []


def test_job_that_comes_late_into_the_queue_is_not_lost() -> None:
    now = [0.0]
    answers: list[set[str]] = [set(), {"7"}, set()]
    executor = Executor([{}] * 3)
    Guard(executor, print, lambda: answers.pop(0), clock=lambda: now[0], lost_after=100)
    active = jobs("7")
    for seconds in (0, 90, 120):
        now[0] = seconds
        assert look(executor, active) == active
    assert not executor.failed


def test_task_of_an_array_is_known_by_its_array() -> None:
    now = [0.0]
    executor = Executor([{}] * 2)
    Guard(executor, print, lambda: {"12", "12_[4-9]"}, clock=lambda: now[0], lost_after=1)
    active = jobs("12_5", "13_5")
    assert look(executor, active) == active
    now[0] = 2
    assert look(executor, active) == active[:1]
    assert list(executor.failed) == ["13_5"]


@given(
    st.lists(
        st.one_of(
            st.none(), st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["RUNNING", "COMPLETED", "FAILED"]))
        ),
        max_size=8,
    )
)
def test_every_job_is_active_or_reported_once(states: list[dict[str, str] | None]) -> None:
    reported: list[str] = []
    executor = Executor(states)
    executor.report_job_success = lambda job: reported.append(job.external_jobid)  # type: ignore[method-assign]
    executor.report_job_error = lambda job, msg="": reported.append(job.external_jobid)  # type: ignore[method-assign]
    Guard(executor, lambda line: None, lambda: set("abcd"))
    active = jobs(*"abcd")
    while states:
        active = look(executor, active)
        assert sorted([*reported, *(job.external_jobid for job in active)]) == list("abcd")


def test_other_executors_are_left_alone() -> None:
    executor = Executor([])
    before = executor.report_job_error
    assert guard(SimpleNamespace(_executor=executor), print) is None
    assert executor.report_job_error == before
    assert guard(None, print) is None


def test_the_plugin_has_what_the_guard_takes_hold_of() -> None:
    """A new version of the plugin that renames these must fail here and not in a run."""
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm")
    for name in ("check_active_jobs", "report_job_success", "report_job_error"):
        assert callable(getattr(plugin.Executor, name))
