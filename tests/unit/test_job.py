"""A rule's script: all output in its log, and an end that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_job import WORKFLOW, run_job

from latentomics.config.fingerprint import fingerprint


def run(
    body: str, log: Path, before: str = "", resources: str = "{}", **env: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a script whose job has this body; the second value is its log."""
    done = run_job(body, log, before, resources, **env)
    return done, log.read_text("utf-8") if log.is_file() else ""


def in_order(text: str, *words: str) -> None:
    at = [text.index(word) for word in words]
    assert at == sorted(at), text


def test_all_output_is_in_the_log(tmp_path):
    done, log = run(
        "print('printed')\nsys.stderr.write('to stderr\\n')\nos.write(1, b'raw 1\\n')\nos.write(2, b'raw 2\\n')\n"
        "subprocess.run(['sh', '-c', 'echo from a child; echo its errors >&2'])\n"
        "import warnings, logging\nwarnings.warn('a warning')\nlogging.warning('logged é')",
        tmp_path / "logs/deep/a.log",
        before="print('before the job')",
    )
    assert done.returncode == 0
    for words in (
        "printed",
        "to stderr",
        "raw 1",
        "raw 2",
        "from a child",
        "its errors",
        "a warning",
        "logged é",
        "after",
    ):
        assert words in log
    assert log.endswith("after the job\n")
    assert "before" not in log
    assert (done.stdout, done.stderr) == ("before the job\n", "")


def test_an_old_log_is_replaced(tmp_path):
    (tmp_path / "a.log").write_text("of the last run, and longer than this one's\n")
    assert run("print('new')", tmp_path / "a.log")[1] == "new\nafter the job\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "from latentomics.problems import InputError, Problem\n"
            "raise InputError([Problem('a.h5ad', 'no counts', 'give counts.'), Problem('b', 'none', 'give some.')])",
            ["a.h5ad: no counts", "Hint: give counts.", "b: none", "Hint: give some."],
        ),
        (
            "from latentomics.embed.data import TrainingError\n"
            "raise TrainingError('the loss became NaN.\\n    Hint: slower.')",
            ["the loss became NaN.", "Hint: slower."],
        ),
    ],
)
def test_expected_failures_say_what_to_do(tmp_path, error, message):
    done, log = run(f"print('progress')\n{error}", tmp_path / "a.log")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", "")
    in_order(log, "progress", "Sample A failed.", *message)
    assert "Traceback" not in log
    assert "after the job" not in log


@pytest.mark.parametrize(
    ("raised", "shown"),
    [("raise KeyError('x')", "KeyError: 'x'"), ("1 / 0", "ZeroDivisionError"), ("raise MemoryError", "MemoryError: ")],
)
def test_other_failures_keep_their_traceback(tmp_path, raised, shown):
    done, log = run(f"print('progress')\ndef inner():\n    {raised}\ninner()", tmp_path / "a.log")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", "")
    in_order(log, "progress", "Traceback (most recent call last)", "in inner", f"Sample A failed: {shown}", "Hint: ")
    assert log.count("Traceback") == 1


def test_a_script_may_end_itself(tmp_path):
    done, log = run("sys.exit(3)", tmp_path / "a.log")
    assert (done.returncode, log) == (3, "")


def test_an_exit_that_looks_well_is_a_failure(tmp_path):
    """What Lightning does with a training that a scheduler tells to stop."""
    done, log = run("sys.exit(0)", tmp_path / "a.log")
    assert done.returncode == 1
    assert log.strip().endswith("was told to stop before it was done.")


def test_nothing_heavy_before_the_log_is_open():
    code = "import sys, latentomics.io.job; print(*(m for m in ('numpy', 'pandas', 'torch') if m in sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(WORKFLOW)}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("resources", "slurm", "seen"),
    [
        ("{}", True, ""),
        ("{'gpu': 0}", True, ""),
        ("{'gpu': 1}", True, "0,1"),
        ("{'gres': 'gpu:a100:1'}", True, "0,1"),
        ("{}", False, "0,1"),
    ],
)
def test_under_slurm_a_job_sees_only_gpus_that_it_asked_for(tmp_path, resources, slurm, seen):
    env = {"CUDA_VISIBLE_DEVICES": "0,1", **({"SLURM_JOB_ID": "7"} if slurm else {})}
    body = "print(repr(os.environ['CUDA_VISIBLE_DEVICES']), 'torch' in sys.modules)"
    log = run(body, tmp_path / "a.log", resources=resources, **env)[1]
    assert log == f"{seen!r} False\nafter the job\n"


def test_how_usage_is_recorded_is_in_no_code_hash(tmp_path, monkeypatch):
    """Another prediction of memory must not make anything anew."""
    script = tmp_path / "rule.py"
    script.write_text("from latentomics.io.job import job")
    reached = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reached.append(path) or read(path))
    fingerprint(script)
    assert WORKFLOW / "latentomics/io/job.py" in reached
    assert not [path for path in reached if "resources" in path.parts]
