"""Work on an embedding that two processes share: when, and that nothing is lost or done twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from shared_tasks import fail, note

from latentomics.cluster import layouts
from latentomics.cluster.threads import share, threads_of_cluster, threads_of_layout


@pytest.mark.parametrize(
    ("of", "n_obs", "threads"),
    [
        (threads_of_cluster, 2700, 1),
        (threads_of_cluster, 5000, 1),
        (threads_of_cluster, 5001, 2),
        (threads_of_layout, layouts.LARGE, 1),
        (threads_of_layout, layouts.LARGE + 1, 2),
    ],
)
def test_a_second_thread_is_for_large_data(of: Callable[..., int], n_obs: int, threads: int, tmp_path: Path) -> None:
    embedding = tmp_path / "pca.parquet"
    assert of({}, [str(embedding)]) == 1, "not made yet"
    pd.DataFrame({"z0": np.zeros(n_obs, dtype=np.float32)}).to_parquet(embedding)
    assert of({}, [str(embedding), str(tmp_path / "graph.npz")]) == threads


@pytest.mark.parametrize("n_tasks", [0, 1, 2, 9])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_task_is_done_once_and_results_keep_their_order(n_tasks: int, threads: int, tmp_path: Path) -> None:
    found = share([partial(note, tmp_path, number, 0.01) for number in range(n_tasks)], threads)
    assert [number for number, _ in found] == list(range(n_tasks))
    assert sorted(int(file.stem) for file in tmp_path.iterdir()) == list(range(n_tasks))
    if threads == 1:
        assert {process for _, process in found} <= {os.getpid()}


def test_this_process_works_too(tmp_path: Path) -> None:
    # The first task outlasts all others, which the second process does.
    found = share([partial(note, tmp_path, number, 0 if number else 3) for number in range(6)], 2)
    assert found[0][1] == os.getpid()
    assert {process for _, process in found[1:]} - {os.getpid()}


@pytest.mark.parametrize("failing", [0, 1, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_a_task_is_raised(failing: int, threads: int, tmp_path: Path) -> None:
    tasks = [partial(fail, n) if n == failing else partial(note, tmp_path, n, 0) for n in range(5)]
    with pytest.raises(ValueError, match=f"task {failing}"):
        share(tasks, threads)


def test_after_an_error_what_waits_is_left_undone(tmp_path: Path) -> None:
    tasks = [partial(fail, 0), *(partial(note, tmp_path, number, 0.1) for number in range(24))]
    with pytest.raises(ValueError, match="task 0"):
        share(tasks, 2)
    get_reusable_executor(max_workers=1).shutdown(wait=True)
    # The other process ends what it has in its queue, whose length goes by the most processes that any test before this had.
    assert len(list(tmp_path.iterdir())) < 12


def test_a_helping_process_loads_neither_pandas_nor_scikit_learn() -> None:
    """They are 140 MB of every process that shares the clusters of large data."""
    code = """
import sys
import numpy as np
from latentomics.cluster.clusterings import subsample_clusterings
from latentomics.config.clusters import Clusters
latent = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
found = subsample_clusterings(latent, 15, [0.5, 1.0], Clusters(), 0, 2)
assert len(found) == 2 and len(found[0].codes) == 500
print(sorted({"pandas", "sklearn"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
