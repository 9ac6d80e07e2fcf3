"""Taking back the jobs of a killed run, from a queue that a fake `squeue` shows."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.slurm import queue
from latentomics.slurm.queue import parse_queue, take_back

RUN = "0b5f2a1c-9d3e-4f6a-8b7c-1d2e3f4a5b6c"
#: Prints the queue; fails while the file `down` holds a number of refusals.
SQUEUE = """#!/bin/sh
echo "squeue $*" >> {folder}/calls
env | grep -E '^(SQUEUE|SCANCEL)_' >> {folder}/filters
n=$(cat {folder}/down 2>/dev/null || echo 0)
if [ "$n" -gt 0 ]; then echo $((n - 1)) > {folder}/down; exit 1; fi
cat {folder}/queue
"""
#: Takes the jobs out of the queue, but those whose ids stand in `stubborn`; is deaf as often as `deaf` says.
SCANCEL = """#!/bin/sh
echo "scancel $*" >> {folder}/calls
n=$(cat {folder}/deaf 2>/dev/null || echo 0)
if [ "$n" -gt 0 ]; then echo $((n - 1)) > {folder}/deaf; exit 1; fi
for job in "$@"; do
  grep -qxF "$job" {folder}/stubborn 2>/dev/null && continue
  awk -F'|' -v job="$job" '$1 != job' {folder}/queue > {folder}/left; mv {folder}/left {folder}/queue
done
"""


class FakeSlurm:
    """A queue in a file, with `squeue` and `scancel` that work on it."""

    def __init__(self, folder: Path, study: Path):
        self.folder, self.study = folder, study
        folder.mkdir()
        for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
            (folder / name).write_text(text.format(folder=folder))
            (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
        (folder / "queue").touch()

    def queue(self, *lines: str) -> None:
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in lines))

    def job(
        self, id: str, *, name: str = RUN, comment: str = "rule_embed_wildcards_scvi", folder: Path | None = None
    ) -> str:
        return f"{id}|{id.split('_')[0]}|{name}|{comment}|{folder or self.study}"

    def set(self, name: str, value: str) -> None:
        (self.folder / name).write_text(value)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def left(self) -> list[str]:
        return [line.split("|")[0] for line in (self.folder / "queue").read_text().splitlines()]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


@pytest.fixture
def slurm(tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin", study)
    monkeypatch.setenv("PATH", str(fake.folder), prepend=os.pathsep)
    monkeypatch.setattr(queue, "PAUSE", 0.01)
    monkeypatch.setattr(queue, "_OWN", None)
    return fake


def line(job: str = "7", known_as: str = "7", name: str = RUN, comment: str = "rule_a", folder: object = "") -> str:
    return f"{job}|{known_as}|{name}|{comment}|{folder}"


@pytest.mark.parametrize("job", ["7", "123_4"])
@pytest.mark.parametrize("name", [RUN, f"core-facility_{RUN}"])
@pytest.mark.parametrize(
    "comment", ["rule_a", "rule_samples_scrna_sample", "group_samples", "rule_a_wildcards_s.1-b_c"]
)
def test_jobs_of_this_folder_are_found(study: Path, job: str, name: str, comment: str) -> None:
    assert parse_queue(line(job, name=name, comment=comment, folder=study), study) == [job]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "assembly"},
        {"name": RUN[:-1]},
        {"name": f"{RUN}x"},
        {"comment": ""},
        {"comment": "(null)"},
        {"comment": "my rule_a"},
        {"folder": "/somewhere/else"},
        {"folder": ""},
        {"folder": "."},
        {"folder": "study"},
    ],
)
def test_other_jobs_are_spared(study: Path, other: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    assert parse_queue(line(**{"folder": study, **other}), study) == []


def test_folders_above_and_below_are_spared(study: Path) -> None:
    listed = "\n".join(line(folder=folder) for folder in (study.parent, study / "inner", f"{study}2"))
    assert parse_queue(listed, study) == []


def test_folder_is_known_through_a_link_and_with_odd_characters(tmp_path: Path) -> None:
    real = tmp_path / "a|b (c) [d]*"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    assert parse_queue(line(folder=tmp_path / "link"), real) == ["7"]
    assert parse_queue(line(folder=real), tmp_path / "link") == ["7"]
    assert parse_queue(line(folder=tmp_path / "a|b"), real) == []


@pytest.mark.parametrize("own", ["9", "9_3"])
def test_the_head_of_the_run_is_spared_when_it_is_a_job_itself(study: Path, own: str) -> None:
    """Even if it is named like a job of Snakemake. A task of an array knows itself by another id than `squeue` shows."""
    listed = "\n".join([line("9_3", "9", folder=study), line("10", "10", folder=study)])
    assert parse_queue(listed, study, own) == ["10"]
    assert parse_queue(listed, study, "1") == ["9_3", "10"]


def test_ids_are_compared_as_they_are(study: Path) -> None:
    listed = "\n".join(line(job, job, folder=study) for job in ("1", "11", "1_1"))
    assert parse_queue(listed, study, "1") == ["11", "1_1"]
    assert parse_queue(listed, study, ".") == ["1", "11", "1_1"]


@given(st.text())
def test_whatever_the_queue_holds_nothing_foreign_is_taken(listed: str) -> None:
    assert parse_queue(listed, Path("/study")) == []


@given(st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), unique_by=lambda job: job[0]))
def test_exactly_the_own_jobs_are_found(jobs: list[tuple[int, bool]]) -> None:
    listed = "\n".join(line(str(job), str(job), folder="/study" if own else "/other") for job, own in jobs)
    assert parse_queue(listed, Path("/study")) == [str(job) for job, own in jobs if own]


def test_jobs_of_a_killed_run_are_cancelled_and_all_others_spared(slurm: FakeSlurm, study: Path) -> None:
    slurm.queue(
        slurm.job("3"),
        slurm.job("4_2", comment="rule_clusters_cluster_layout"),
        slurm.job("5", folder=study.parent),
        slurm.job("6", name="assembly"),
    )
    said: list[str] = []
    assert take_back(study, said.append) == ["3", "4_2"]
    assert slurm.left() == ["5", "6"]
    assert len(said) == 1 and "3, 4_2" in said[0]


def test_own_head_is_not_cancelled(slurm: FakeSlurm, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_OWN", "3")
    slurm.queue(slurm.job("3"), slurm.job("4"))
    assert take_back(study, lambda said: None) == ["4"]
    assert slurm.left() == ["3"]


def test_nothing_is_said_or_cancelled_where_nothing_is_left(slurm: FakeSlurm, study: Path) -> None:
    said: list[str] = []
    assert take_back(study, said.append) == [] and said == []
    assert not any(call.startswith("scancel") for call in slurm.calls())


def test_without_slurm_nothing_happens(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert take_back(study, pytest.fail) == []


def test_job_that_does_not_end_stops_the_run(slurm: FakeSlurm, study: Path) -> None:
    slurm.queue(slurm.job("3"), slurm.job("4"))
    slurm.set("stubborn", "4\n")
    with pytest.raises(TimeoutError, match=r"do not end: 4\n +Hint: .*squeue"):
        take_back(study, lambda said: None, patience=0.1)


def test_controller_that_did_not_hear_is_asked_again(slurm: FakeSlurm, study: Path) -> None:
    slurm.queue(slurm.job("3"))
    slurm.set("deaf", "2")
    said: list[str] = []
    assert take_back(study, said.append) == ["3"]
    assert [call for call in slurm.calls() if call.startswith("scancel")] == ["scancel 3"] * 3
    assert len(said) == 1


def test_no_answer_is_not_an_empty_queue(slurm: FakeSlurm, study: Path) -> None:
    """A controller that restarts while the jobs are ending."""
    slurm.queue(slurm.job("3"))
    slurm.set("deaf", "1")
    (study / ".snakemake/slurm_logs").mkdir(parents=True)
    slurm.set("down", "2")
    said: list[str] = []
    assert take_back(study, said.append) == ["3"]
    assert slurm.left() == []
    assert "does not answer" in said[0] and "cancelling" in said[1] and len(said) == 2


def test_without_an_answer_a_folder_with_jobs_waits_and_stops(slurm: FakeSlurm, study: Path) -> None:
    (study / ".snakemake/slurm_logs").mkdir(parents=True)
    slurm.set("down", "1000000")
    with pytest.raises(TimeoutError, match=r"does not answer.*\n +Hint: .*slurm_logs"):
        take_back(study, lambda said: None, patience=0.1)


def test_without_an_answer_a_folder_that_never_used_slurm_goes_on(slurm: FakeSlurm, study: Path) -> None:
    slurm.set("down", "1000000")
    assert take_back(study, pytest.fail) == []


def test_what_the_user_set_for_his_eyes_hides_no_job(
    slurm: FakeSlurm, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "COMPLETED")
    monkeypatch.setenv("SCANCEL_INTERACTIVE", "true")
    slurm.queue(slurm.job("3"))
    take_back(study, lambda said: None)
    assert (slurm.folder / "filters").read_text() == ""
    assert f"--user {os.getuid()}" in slurm.calls()[0]
