"""What a cluster does to a run, and that the run survives it or says clearly why not."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import pytest
from same_results import differences
from slurm_cluster import Cluster
from slurm_study import SlurmStudy, finish
from study import Study


@pytest.fixture
def submitted(new_study: Callable[..., Study]) -> Callable[..., SlurmStudy]:
    def make(name: str, **config: object) -> SlurmStudy:
        return SlurmStudy(new_study(name, **config).folder)

    return make


def running(cluster: Cluster, of: str) -> list[str]:
    """Ids of the running jobs of a rule."""
    return [job["JOBID"] for job in cluster.jobs() if job["STATE"] == "RUNNING" and of in job["COMMENT"]]


def test_lost_node_cancelled_job_and_restarted_controller(
    cluster: Cluster, submitted: Callable[..., SlurmStudy], finished: Study
) -> None:
    """One run suffers all three, goes on by itself, and ends like an undisturbed one that no cluster ran."""
    study = submitted("disturbed")
    head = study.begin()
    try:
        cluster.wait_for(lambda: running(cluster, "scrna_sample"), "the samples", 120)
        cluster.run("scancel", *running(cluster, "scrna_sample"))
        cluster.wait_for(lambda: running(cluster, "embed_gpu"), "the networks", 240)
        jobs = running(cluster, "embed_gpu")
        cluster.lose_node("gpu1")
        cluster.return_node("gpu1")
        for job in jobs:
            # A requeued job waits two minutes by default.
            cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        cluster.wait_for(lambda: running(cluster, "clusters"), "the clusters", 240)
        # As an administrator restarts it: it saves its state. Long enough for the head to ask in vain.
        cluster.stop_controller()
        with pytest.raises(TimeoutError):
            cluster.wait_for(lambda: head.poll() is not None, "the head", 25)
        cluster.start_controller()
        assert finish(head, study) == 0, study.said()[-5000:]
    finally:
        head.kill()
    assert all(int(cluster.show(job)["Restarts"]) == 1 for job in jobs)
    said = study.said()
    assert "Trying to restart" in said, "the cancelled job was tried again"
    assert "Slurm does not answer" in said
    assert "Slurm answers again" in said
    assert differences(study, finished) == []


def test_killed_head_is_resumed(cluster: Cluster, submitted: Callable[..., SlurmStudy], finished: Study) -> None:
    study = submitted("beheaded")
    head = study.begin()
    try:
        cluster.wait_for(lambda: running(cluster, "embed_gpu"), "the networks", 300)
        left = running(cluster, "embed")
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
    assert set(left) <= set(running(cluster, "embed")), "its jobs outlive it"
    again = study.begin()
    try:
        assert finish(again, study) == 0, study.said()[-5000:]
    finally:
        again.kill()
    assert re.search(rf"Slurm jobs of the killed run are still there; cancelling them: .*{left[0]}", study.said())
    assert all(cluster.show(job)["JobState"] == "CANCELLED" for job in left)
    # No job of the second run began before the last of the first had ended.
    first, second = study.run_ids()
    ends = [cluster.show(job["JOBID"])["EndTime"] for job in cluster.jobs(first)]
    starts = [cluster.show(job["JOBID"])["StartTime"] for job in cluster.jobs(second)]
    assert max(ends) <= min(starts)
    assert differences(study, finished) == []


def test_job_killed_for_its_memory_is_tried_again_with_more(
    cluster: Cluster, submitted: Callable[..., SlurmStudy]
) -> None:
    study = submitted("more")
    until = ("results/scrna/counts.zarr", "--set-resources", "scrna_merge:mem_mb=150 * attempt ** 3")
    head = study.begin(*until)
    try:
        assert finish(head, study) == 0, study.said()[-5000:]
    finally:
        head.kill()
    tries = [cluster.show(job["JOBID"]) for job in cluster.jobs(study.run_ids()[0]) if "merge" in job["COMMENT"]]
    asked = sorted(int(job["Mem"]) for job in tries)
    assert asked in ([150, 1200], [150, 1200, 4050])
    assert [job["JobState"] for job in sorted(tries, key=lambda job: int(job["Mem"]))][-1] == "COMPLETED"


def test_job_that_never_has_enough_memory_is_named(cluster: Cluster, submitted: Callable[..., SlurmStudy]) -> None:
    study = submitted("starved", doublets={"methods": ["solo"]})
    calls = "results/scrna/samples/batch1_control/doublets/solo.parquet"
    # Enough for Snakemake and the start of the script, not for the libraries that it imports.
    head = study.begin(
        calls, "--set-resources", "scrna_doublets:mem_mb=500 + attempt", "scrna_doublets:slurm_partition=gpu"
    )
    try:
        assert finish(head, study) != 0
    finally:
        head.kill()
    said = study.said()
    assert re.search(
        r"scrna_doublets of sample batch1_control, caller solo was killed for its memory, the last of 3 attempts, with "
        r"503 MB\. Log: results/logs/scrna_doublets/batch1_control\.solo\.log",
        said,
    ), said[-3000:]
    assert "set-resources: `scrna_doublets: {mem_mb: 1006}`" in said
    # With enough, the same folder goes on.
    again = study.begin(calls)
    try:
        assert finish(again, study) == 0, study.said()[-5000:]
    finally:
        again.kill()
    assert (study.folder / calls).exists()


def test_failing_sample_is_told_from_those_that_share_its_job(
    cluster: Cluster, submitted: Callable[..., SlurmStudy]
) -> None:
    study = submitted("shared", cells={"lower": 1_000_000})
    sheet = study.folder / "config/samples.tsv"
    header, bad, good = sheet.read_text().splitlines()
    others = [good.replace("batch2_control", name, 1) for name in ("first", "second", "third", "fourth")]

    def write(droplets: str) -> None:
        rows = [f"{header}\tdroplets", f"{bad}\t{droplets}", *(f"{row}\tfiltered" for row in others)]
        sheet.write_text("\n".join(rows) + "\n")

    # Of a raw matrix whose droplets all have fewer counts than an empty one may have, none is a cell.
    write("raw")
    head = study.begin("results/scrna/counts.zarr", "--retries", "0")
    try:
        assert finish(head, study) != 0
    finally:
        head.kill()
    (run,) = study.run_ids()
    assert len([job for job in cluster.jobs(run) if "scrna_sample" in job["COMMENT"]]) == 1
    said = study.said()
    assert "scrna_sample of sample batch1_control failed; its log says why" in said
    assert "none of 138 droplets holds a cell" in said
    assert not re.search(r"scrna_sample of sample (first|second|third|fourth) (failed|was)", said)
    kept = {path: path.stat().st_mtime_ns for path in (study.folder / "results/scrna/samples").glob("*/counts.h5ad")}
    write("filtered")
    again = study.begin("results/scrna/counts.zarr")
    try:
        assert finish(again, study) == 0, study.said()[-5000:]
    finally:
        again.kill()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was finished is not made again"


def test_job_at_its_time_limit_is_named(cluster: Cluster, submitted: Callable[..., SlurmStudy]) -> None:
    # Some minutes of training: more than Slurm's least time limit, less than what a CPU is refused for.
    fit = {"n_hidden": 64, "max_epochs": 20_000, "min_steps": 60_000, "patience": 20_000}
    study = submitted("late", embeddings={"pca": {"n_components": 10}, "scvi": fit})
    # On the command line `--set-resources` takes the place of the profile's, partitions and all.
    less = ("embed_gpu:runtime=1", "embed_gpu:slurm_partition=gpu")
    head = study.begin("results/scrna/embeddings/scvi.parquet", "--retries", "0", "--set-resources", *less)
    try:
        assert finish(head, study) != 0
    finally:
        head.kill()
    said = study.said()
    assert "embed_gpu of assay scrna, method scvi was killed at its time limit, after 1 min" in said, said[-3000:]
    assert "set-resources: `embed_gpu: {runtime: 2}`" in said
