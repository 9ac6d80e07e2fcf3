"""Real runs of Snakemake on a small simulated study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from study import ROOT, Study

from latentomics.simulate.cells import CellParams, simulate
from latentomics.simulate.files import write_study


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of two simulated samples and their sheet."""
    folder = tmp_path_factory.mktemp("simulated")
    write_study(
        simulate(CellParams(conditions=("control",), cells_per_sample=150, n_genes=300, n_types=3, seed=3)), folder
    )
    return folder


@pytest.fixture(scope="session")
def new_study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    """Make a study of the simulated samples: a folder with its own copy of the data."""

    def make(name: str, root: Path = ROOT, **config: object) -> Study:
        study = Study(tmp_path_factory.mktemp(name) / "study", root)
        shutil.copytree(data, study.folder / "config")
        study.configure(**config)
        return study

    return make


@pytest.fixture(scope="session")
def finished(new_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that ran to its end, undisturbed; run by the first process that asks, copied by the others."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-once"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            study = new_study("first")
            done = study.run()
            assert done.returncode == 0, done.stdout + done.stderr
            study.folder.rename(shared)
    own = Study(tmp_path_factory.mktemp("finished") / "study")
    shutil.copytree(shared, own.folder)
    return own
