"""A private Slurm for the tests of this folder; without one they are skipped.

One process only (``-n 0``): there is one cluster, and two runs on it would wait for each other.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulated_studies import data, finished, new_study
from slurm_cluster import Cluster, missing

__all__ = ["data", "finished", "new_study"]

WHY_NOT = missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WHY_NOT:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=WHY_NOT))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("the Slurm tests want one process: pytest -n 0 tests/slurm")
    # Not pytest's own folder: every user must be able to reach munge's socket.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    cluster = Cluster(folder, cores=16)
    try:
        yield cluster.start()
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
