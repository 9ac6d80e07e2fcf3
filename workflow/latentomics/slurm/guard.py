"""No job is forgotten: what the executor plugin loses sight of while Slurm's controller is away.

Measured with snakemake-executor-plugin-slurm 2.8.0, on a controller that was restarted during a run: where every question
about the jobs' states fails, the plugin hands none of them back, and the run waits for ever for jobs that nobody looks at
any more. And a controller that died keeps a state some seconds old: a job submitted in between is unknown to it
afterwards, which the plugin takes for one that is still to appear. Both end an unattended run without a word.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from latentomics.slurm.queue import ask

#: Seconds for which Slurm must not know a job, though it answers, until the job counts as lost: far longer than a job takes
#: to appear in the queue.
LOST_AFTER = 180


class Guard:
    """Stands between Snakemake and the executor's look at its jobs.

    Parameters
    ----------
    executor
        An executor for remote jobs (``snakemake_interface_executor_plugins.executors.remote.RemoteExecutor``).
    say
        Receives lines for the user.
    known_jobs
        Gives the ids of all jobs that Slurm knows of this user, or None where it does not answer.
    clock
        Gives seconds.
    lost_after
        Seconds, see :data:`LOST_AFTER`.
    """

    def __init__(
        self,
        executor: Any,
        say: Callable[[str], None],
        known_jobs: Callable[[], set[str] | None],
        clock: Callable[[], float] = time.monotonic,
        lost_after: float = LOST_AFTER,
    ):
        self._executor = executor
        self._say = say
        self._known_jobs = known_jobs
        self._clock = clock
        self._lost_after = lost_after
        self._check = executor.check_active_jobs
        self._reported: set[int] = set()
        self._missing_since: dict[str, float] = {}
        self._away = False
        for name in ("report_job_success", "report_job_error"):
            setattr(executor, name, self._noting(getattr(executor, name)))
        executor.check_active_jobs = self.check_active_jobs

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        """As the executor's own, which gives back the jobs that are still active; here none is missing."""
        jobs = list(active_jobs)
        # While they are looked at, these jobs live, and their ids are theirs alone.
        self._reported.clear()
        kept = [job async for job in self._check(jobs)]
        forgotten = [job for job in jobs if job not in kept and id(job) not in self._reported]
        if bool(forgotten) != self._away:
            self._away = bool(forgotten)
            self._say(
                f"Slurm does not answer; its {len(jobs)} jobs are looked at again until it does."
                if self._away
                else "Slurm answers again."
            )
        lost = self._lost([*kept, *forgotten])
        for job in [*kept, *forgotten]:
            if job.external_jobid in lost:
                message = (
                    f"Slurm no longer knows job {job.external_jobid}: its controller came back without it. The job is "
                    "submitted again where attempts are left."
                )
                # Of jobs that share one of Slurm's, Snakemake does not print the message.
                self._say(message)
                self._executor.report_job_error(job, msg=message)
            else:
                yield job

    def _lost(self, jobs: list[Any]) -> set[str]:
        """Ids of the jobs that Slurm has not known for too long; a controller that does not answer counts nothing."""
        ids = {str(job.external_jobid) for job in jobs}
        known = self._known_jobs() if ids else set()
        if known is None:
            self._missing_since.clear()
            return set()
        # A task of an array may be listed by its array alone.
        missing = {each for each in ids if each not in known and each.split("_")[0] not in known}
        now = self._clock()
        self._missing_since = {each: self._missing_since.get(each, now) for each in missing}
        lost = {each for each, since in self._missing_since.items() if now - since >= self._lost_after}
        for each in lost:
            del self._missing_since[each]
        return lost

    def _noting(self, report: Callable[..., Any]) -> Callable[..., Any]:
        def noted(job_info: Any, *arguments: Any, **options: Any) -> Any:
            self._reported.add(id(job_info))
            return report(job_info, *arguments, **options)

        return noted


def known_to_slurm() -> set[str] | None:
    """Ids of the jobs in Slurm's queue, arrays also by the id of the whole; None if it does not answer."""
    listed = ask("squeue", "--me", "--states=all", "--noheader", "--format", "%i")
    if listed is None:
        return None
    ids = set(listed.split())
    return ids | {each.split("_")[0] for each in ids}


def guard(scheduler: Any, say: Callable[[str], None]) -> Guard | None:
    """Guard the jobs of a run, if Slurm runs them.

    Parameters
    ----------
    scheduler
        Snakemake's job scheduler.
    """
    executor = getattr(scheduler, "_executor", None)
    if not type(executor).__module__.startswith("snakemake_executor_plugin_slurm"):
        return None
    return Guard(executor, say, known_to_slurm)
