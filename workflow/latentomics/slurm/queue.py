"""Jobs that a killed run left in Slurm's queue.

A run that dies without a word (its node lost, ``kill -9``) leaves its jobs running. The run that resumes it would submit
the same jobs again, and two jobs would write one file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: The executor plugin names all jobs of a run by one UUID, after the site's prefix if there is one, and says in the
#: comment which rule or group they are of.
_RUN = re.compile(r"(?:[A-Za-z0-9_-]{1,50}_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COMMENT = re.compile(r"(?:rule|group)_\w")
#: Id as `scancel` takes it (of an array's task 12_3), id as the job itself knows it, name, comment, working directory.
_FORMAT = "%i|%A|%j|%k|%Z"
#: The job that this process runs in, if any. Read early: the executor plugin removes Slurm's variables when it starts.
_OWN = os.environ.get("SLURM_JOB_ID")
#: How long to wait until cancelled jobs have ended (seconds): Slurm gives them some time between TERM and KILL.
PATIENCE = 180
#: Between two looks at the queue (seconds).
PAUSE = 2.0


def parse_queue(listed: str, study: Path, own: str | None = None) -> list[str]:
    """Ids of Snakemake's jobs of a study in what ``squeue`` prints.

    Parameters
    ----------
    listed
        Lines of id, own id, name, comment and working directory, with ``|`` between them.
    study
        The study's folder.
    own
        Id of the job that asks, if it runs in one: the head of a run may be a job itself, and is spared.
    """
    found = []
    for line in listed.splitlines():
        fields = line.split("|", 4)
        if len(fields) != 5:
            continue
        job, known_as, name, comment, folder = fields
        of_snakemake = _RUN.fullmatch(name) and _COMMENT.match(comment)
        if of_snakemake and own not in (job, known_as) and _same_folder(folder, study):
            found.append(job)
    return found


def left_behind(study: Path) -> list[str] | None:
    """Ids of the jobs that earlier runs in this folder left in the queue; None if Slurm gives no answer."""
    user = ("--user", str(os.getuid()))
    listed = ask("squeue", "--noheader", "--array", *user, "--format", _FORMAT)
    return None if listed is None else parse_queue(listed, study, _OWN)


def take_back(study: Path, say: Callable[[str], None], patience: float = PATIENCE) -> list[str]:
    """Cancel what a killed run left in the queue, and wait until it has ended.

    To be called only while no other run works in the folder: its jobs would be taken back too. Does nothing where there is
    no Slurm. Where Slurm gives no answer, it is waited for only if jobs were submitted from this folder before.

    Parameters
    ----------
    say
        Receives a line about what is done.
    patience
        Seconds to wait for the end of the jobs.

    Returns
    -------
    list of str
        Ids of the cancelled jobs.

    Raises
    ------
    TimeoutError
        Jobs do not end, or Slurm does not say whether they have: they would write beside the new ones.
    """
    if not shutil.which("squeue"):
        return []
    submitted = study / ".snakemake/slurm_logs"
    cancelled: list[str] = []
    waiting = False
    end = time.monotonic() + patience
    while (jobs := left_behind(study)) != []:
        if jobs is None and not cancelled and not submitted.is_dir():
            break
        if jobs is None and not waiting:
            waiting = True
            say("Slurm does not answer (squeue). Waiting for it: jobs of an earlier run may still be in its queue.")
        if new := [job for job in jobs or [] if job not in cancelled]:
            say(f"Slurm jobs of the killed run are still there; cancelling them: {', '.join(new)}")
            cancelled += new
        if jobs:
            # Again with every look: a controller that restarts may not have heard it.
            ask("scancel", *jobs)
        if time.monotonic() > end:
            raise TimeoutError(_unfinished(jobs, submitted))
        time.sleep(min(PAUSE, patience))
    return cancelled


def _unfinished(jobs: list[str] | None, submitted: Path) -> str:
    if jobs is None:
        return (
            "Slurm does not answer, so that nobody knows whether jobs of a killed run still write into this folder.\n"
            "    Hint: see `squeue`, and start the same command again once it answers; where no Slurm is used any more, "
            f"remove {submitted}."
        )
    return (
        f"Slurm jobs of a killed run do not end: {', '.join(jobs)}\n"
        "    Hint: see `squeue`; once they are gone, start the same command again."
    )


def ask(*command: str) -> str | None:
    """What a command of Slurm prints; None if it fails or gives no answer in time."""
    # A user's own filters and questions ("really cancel?") are for his eyes.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SCANCEL_"))}
    try:
        return subprocess.run(
            command, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=True, env=environment
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def _same_folder(folder: str, study: Path) -> bool:
    """Whether both name one folder, however it is mounted or linked."""
    if not os.path.isabs(folder):
        return False
    try:
        return os.path.samefile(folder, study)
    except OSError:
        return Path(folder).resolve() == study.resolve()
