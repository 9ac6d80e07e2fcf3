"""What every job leaves of its use."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from run_job import run_job

from latentomics.resources.usage import asks_for_gpu, read_usage, usage_file

LOG = Path("results/logs/features/A.log")


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    (tmp_path / "in.txt").write_bytes(b"\0" * 3_000_000)
    monkeypatch.chdir(tmp_path)
    return LOG


def run(body: str, log: Path, **given):
    return run_job(body, log, inputs=given.pop("inputs", ("in.txt",)), **given)


def events(log: Path = LOG) -> list[dict]:
    return [json.loads(line) for line in usage_file(str(log)).read_text().splitlines()]


@pytest.mark.parametrize(
    ("log", "usage"),
    [
        ("results/logs/scrna/embed/scvi.log", "results/usage/scrna/embed/scvi.jsonl"),
        ("results/logs/report.log", "results/usage/report.jsonl"),
        ("/logs/study/results/logs/a.b.log", "/logs/study/results/usage/a.b.jsonl"),
        ("elsewhere/logs.log", "elsewhere/usage/logs.jsonl"),
    ],
)
def test_usage_lies_beside_the_log(log, usage):
    assert usage_file(log) == Path(usage)


def test_a_job_leaves_its_start_and_its_end(log):
    body = "held = bytearray(300 << 20)\nimport time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    run(body, log, resources="{'mem_mb': 800, 'runtime': 10, 'gpu': 0}", SLURM_JOB_ID="17")
    start, end = events()
    assert start.pop("time").endswith("+00:00") and start.pop("host")
    assert start == {
        "event": "start",
        "rule": "features",
        "wildcards": {"sample": "A"},
        "threads": 2,
        "mem_mb": 800,
        "runtime": 10,
        "gpu": False,
        "slurm_job": "17",
    }
    assert end["event"] == "end" and end["ok"] is True and end["device"] == "cpu" and end["job"] == "features"
    assert 300 < end["peak_mb"] < 450
    assert end["cpu_seconds"] >= 0.3 and end["seconds"] >= 0.3
    assert end["sizes"]["megabytes"] == 3.0
    assert end["size"] == end["sizes"][end["quantity"]]
    assert end["predicted_mb"] > 0 and end["predicted_s"] > 0


@pytest.mark.parametrize("last_words", ["", "sys.stdin.read()"], ids=["ended", "waiting"])
def test_the_work_of_children_counts(log, last_words):
    code = f"import sys, time\nwhile time.process_time() < 0.6: pass\nprint(flush=True)\n{last_words}"
    body = f"child = subprocess.Popen([sys.executable, '-c', {code!r}], stdin=-1, stdout=-1)\nchild.stdout.readline()\n"
    run(body + ("" if last_words else "child.wait()"), log)
    assert 0.6 <= events()[1]["cpu_seconds"] < 5


def test_memory_of_children_counts_once_and_only_theirs(log):
    """What the kernel keeps of an ended child begins with the parent's own memory."""
    run("held = bytearray(300 << 20)\nsubprocess.run(['true'])", log)
    assert events()[1]["peak_mb"] < 450
    code = "x = bytearray(600 << 20)"
    run(f"held = bytearray(100 << 20)\nsubprocess.run([sys.executable, '-c', {code!r}])", log)
    # Its own 100 MB and a little, and the child's 600.
    assert 700 < events()[1]["peak_mb"] < 850


def test_a_child_smaller_than_its_parent_is_seen_while_it_lives(log):
    code = "x = bytearray(200 << 20); import time; time.sleep(1)"
    before = "import latentomics.resources.peak as peak\npeak.INTERVAL = 0.1"
    run(f"held = bytearray(400 << 20)\nsubprocess.run([sys.executable, '-c', {code!r}])", log, before=before)
    assert 600 < events()[1]["peak_mb"] < 750


@pytest.mark.parametrize("body", ["1 / 0", "sys.exit(3)", "raise MemoryError"])
def test_a_job_that_fails_leaves_an_end_too(log, body):
    assert run(body, log).returncode != 0
    assert [event.get("ok") for event in events()] == [None, False]
    assert read_usage(Path("results/usage")) == []


def test_a_job_that_is_told_to_stop_leaves_no_end(log):
    assert run("sys.exit(0)", log).returncode == 1
    assert [event["event"] for event in events()] == ["start"]


def test_attempts_are_counted_until_one_ends_well(log):
    killed = run("os.kill(os.getpid(), 9)", log)
    assert killed.returncode == -signal.SIGKILL
    run("1 / 0", log)
    run("pass", log)
    assert [event["event"] for event in events()] == ["start", "start", "end", "start", "end"]
    (record,) = read_usage(Path("results/usage"))
    assert record["attempts"] == 3 and record["ok"] is True and record["rule"] == "features"
    assert "event" not in record
    # What is made anew begins anew.
    run("pass", log)
    assert [event["event"] for event in events()] == ["start", "end"]
    assert read_usage(Path("results/usage"))[0]["attempts"] == 1


def test_a_job_that_runs_is_not_finished(log):
    run("pass", log)
    run("os.kill(os.getpid(), 9)", log)
    assert read_usage(Path("results/usage")) == []


def test_interrupted_jobs_have_no_end(log):
    run("raise KeyboardInterrupt", log)
    assert [event["event"] for event in events()] == ["start"]


def test_records_of_many_jobs_and_broken_lines(log):
    run("pass", log)
    other = Path("results/logs/scrna/embed/pca.log")
    run("pass", other)
    path = usage_file(str(other))
    path.write_text('{"event": "sta\n[1]\n' + path.read_text())
    records = read_usage(Path("results/usage"))
    assert len(records) == 2 and [record["attempts"] for record in records] == [1, 1]
    assert read_usage(Path("nowhere")) == []


def test_usage_that_cannot_be_written_fails_no_job(log):
    Path("results").mkdir()
    Path("results/usage").write_text("in the way")
    done = run("print('made')", log)
    assert done.returncode == 0
    assert "made" in log.read_text() and "What this job uses is not recorded" in log.read_text()


def test_an_input_that_is_gone_fails_no_job(log):
    done = run("os.remove('in.txt')", log)
    assert done.returncode == 0
    end = events()[1]
    assert end["ok"] is True and end["size"] is None and end["predicted_mb"] is None and end["sizes"] == {}
    assert "How large this job was is not recorded" in log.read_text()
    assert len(read_usage(Path("results/usage"))) == 1


def test_a_rule_without_a_row_fails_no_job(log):
    assert run("pass", log, rule="not_a_rule").returncode == 0
    assert "not recorded" in log.read_text()


@pytest.mark.parametrize(
    ("resources", "asks"),
    [
        ({}, False),
        ({"gpu": 0}, False),
        ({"gpu": 1}, True),
        ({"gpu": 2, "gres": "gpu:2"}, True),
        ({"gpu": "a100"}, True),
        ({"gres": "gpu:a100:1"}, True),
        ({"gres": "scratch:1"}, False),
        ({"gpu": None}, False),
    ],
)
def test_jobs_that_ask_for_a_gpu(resources, asks):
    assert asks_for_gpu(resources) is asks


def test_the_device_is_the_one_that_torch_computed_on(log):
    fake = (
        "from types import SimpleNamespace as N\n"
        "sys.modules['torch'] = N(cuda=N(is_initialized=lambda: True, max_memory_allocated=lambda: {used},"
        " get_device_name=lambda: 'Some GPU'))"
    )
    for used, device in ((1, "Some GPU"), (0, "cpu")):
        run("pass", log, before=fake.format(used=used))
        assert events()[1]["device"] == device


def test_snakemake_itself_gives_what_is_recorded():
    """Its classes, not only dicts in their place."""
    from snakemake.iocontainers import InputFiles, ResourceList, Wildcards

    resources = ResourceList(fromdict={"gpu": 1, "mem_mb": 5})
    assert asks_for_gpu(resources) and resources.get("mem_mb") == 5
    assert dict(Wildcards(fromdict={"sample": "A"}).items()) == {"sample": "A"}
    assert list(InputFiles(fromdict={"a": "x", "b": "y"})) == ["x", "y"]
