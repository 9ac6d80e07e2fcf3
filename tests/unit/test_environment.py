"""A lock is taken from a dead run only."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from latentomics.config.environment import drop_dead_lock, remember_run, share_cores, share_package


@pytest.fixture
def locked(tmp_path: Path) -> tuple[Path, Path]:
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "0.output.lock").touch()
    return tmp_path / "run.json", locks


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_lock_of_a_dead_run_is_removed(locked: tuple[Path, Path]) -> None:
    record, locks = locked
    record.write_text(json.dumps({"host": socket.gethostname(), "pid": dead_process(), "started": 1.0}))
    assert drop_dead_lock(record, locks)
    assert not list(locks.iterdir())


def test_lock_of_a_living_run_stays(locked: tuple[Path, Path]) -> None:
    record, locks = locked
    remember_run(record)
    assert not drop_dead_lock(record, locks)
    assert list(locks.iterdir())


def test_reused_process_id_is_not_the_same_run(locked: tuple[Path, Path]) -> None:
    record, locks = locked
    started = psutil.Process().create_time() - 3600
    record.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": started}))
    assert drop_dead_lock(record, locks)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"host": "elsewhere", "pid": 1, "started": 0}', '{"pid": "x"}'])
def test_unknown_run_keeps_its_lock(locked: tuple[Path, Path], content: str) -> None:
    record, locks = locked
    record.write_text(content)
    assert not drop_dead_lock(record, locks)
    assert list(locks.iterdir())


def test_package_of_the_checkout_comes_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/other", "/mine"]))
    share_package("/mine")
    share_package("/mine")
    assert os.environ["PYTHONPATH"] == os.pathsep.join(["/mine", "/other"])


def test_waiting_threads_soon_sleep_unless_the_site_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for said, expected in ((None, "5000"), ("7", "7")):
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
        if said:
            monkeypatch.setenv("GOMP_SPINCOUNT", said)
        share_cores()
        assert os.environ["GOMP_SPINCOUNT"] == expected
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
