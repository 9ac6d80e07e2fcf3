"""The demo through ``--profile slurm``: what ran where, with what, and that it came out as without a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from same_results import differences
from slurm_cluster import Cluster
from slurm_study import SlurmStudy, finish, site_profile
from study import ROOT, Study, environment

DEMO = ("--configfile", str(ROOT / "config/demo.yaml"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's simulated files, twice: to be run with and without the cluster."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [sys.executable, "-m", "latentomics.simulate", str(folder / "local/data/demo")],
        cwd=ROOT / "workflow", env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    shutil.copytree(folder / "local", folder / "slurm")
    return folder


@pytest.fixture(scope="module")
def done(demo: Path, cluster: Cluster) -> SlurmStudy:
    """The demo, as submitted."""
    study = SlurmStudy(demo / "slurm")
    head = study.begin(*DEMO)
    try:
        assert finish(head, study, 1800) == 0, study.said()[-5000:]
    finally:
        head.kill()
    return study


def test_rules_that_train_ran_on_gpus_and_no_other_did(done: SlurmStudy, cluster: Cluster) -> None:
    """From what the controller knows of the jobs, and from what the jobs themselves saw."""
    (run,) = done.run_ids()
    jobs = {job["JOBID"]: cluster.show(job["JOBID"]) for job in cluster.jobs(run)}
    on_gpu = {job for job, known in jobs.items() if known["Partition"] == "gpu"}
    assert on_gpu == {job for job, known in jobs.items() if known.get("JOB_GRES", "(null)") == "gpu:1"}
    assert all(known["NodeList"] == ("gpu1" if job in on_gpu else "cpu1") for job, known in jobs.items())
    records = [
        json.loads(line)
        for path in sorted((done.folder / "results/usage").rglob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    starts = [record for record in records if record["event"] == "start"]
    assert {record["slurm_job"] for record in starts} == set(jobs)
    trained = {record["slurm_job"] for record in starts if record["gpu"]}
    assert trained == on_gpu
    train = set(yaml.safe_load((ROOT / "slurm/config.yaml").read_text())["__variables__"]["gpu_rules"])
    rules = {record["rule"] for record in starts}
    assert {record["rule"] for record in starts if record["slurm_job"] in on_gpu} == rules & train >= {"embed_gpu"}
    assert len(rules - train) > 10


def test_results_are_those_of_a_local_run(done: SlurmStudy, demo: Path) -> None:
    local = Study(demo / "local")
    run = local.run(*DEMO)
    assert run.returncode == 0, run.stdout + run.stderr
    assert differences(done, local) == []


@pytest.mark.parametrize(
    ("facts", "partition", "gres"),
    [
        ({"gpus": "false"}, "cpu", "(null)"),
        ({"gpus_as": "gres"}, "gpu", "gpu:1"),
        ({"partition_file": "{site}/partitions.yaml"}, "gpu", "gpu:1"),
    ],
    ids=["no GPUs", "gres", "partition file"],
)
def test_a_site_says_how_gpus_are_asked_for(
    cluster: Cluster,
    new_study: Callable[..., Study],
    tmp_path: Path,
    facts: dict[str, str],
    partition: str,
    gres: str,
) -> None:
    # Beside a profile that is not the checkout's own, the file is named by its whole path.
    profile = site_profile(
        tmp_path / "site", **{key: value.format(site=tmp_path / "site") for key, value in facts.items()}
    )
    (profile / "partitions.yaml").write_text(
        "partitions:\n  cpu:\n    max_mem_mb: 9000\n  gpu:\n    max_mem_mb: 9000\n    max_gpu: 2\n"
    )
    study = SlurmStudy(new_study("site").folder, profile)
    head = study.begin("results/scrna/embeddings/autoencoder.parquet", "results/scrna/embeddings/pca.parquet")
    try:
        assert finish(head, study) == 0, study.said()[-5000:]
    finally:
        head.kill()
    (run,) = study.run_ids()
    jobs = {job["COMMENT"]: cluster.show(job["JOBID"]) for job in cluster.jobs(run)}
    placed = {comment: (job["Partition"], job.get("JOB_GRES", "(null)")) for comment, job in jobs.items()}
    trained = [comment for comment in placed if "embed_gpu" in comment]
    assert len(trained) == 1
    assert placed.pop(trained[0]) == (partition, gres)
    assert set(placed.values()) == {("cpu", "(null)")}
