"""The profiles, read as Snakemake reads them: rules that exist, GPUs where networks are trained, few submissions."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import io
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from rule_code import NAMES, RULES, trains
from snakemake.profiles import ProfileConfigFileParser
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file
from snakemake_executor_plugin_slurm.utils import set_gres_string
from study import ROOT, SMALL, environment

from latentomics.resources.predict import HEADROOM, read_needs

SLURM = ROOT / "workflow/profiles/slurm/config.yaml"
#: Every way to fill in the variables of a site.
SITES = [
    {"gpus": gpus, "gpus_as": gpus_as, "partition_file": partitions, "account": account}
    for gpus, gpus_as, partitions, account in itertools.product(
        (True, False), ("gpu", "gres"), (None, "partitions.yaml"), (None, "core_facility", 4711)
    )
]  # fmt: skip


def read_profile(path: Path, text: str | None = None) -> dict:
    """A profile as Snakemake's own parser gives it, with ``key=value`` lists taken apart again."""
    stream = io.StringIO(path.read_text() if text is None else text)
    stream.name = str(path)
    parsed = dict(ProfileConfigFileParser().parse(stream))
    for key, value in parsed.items():
        if isinstance(value, list) and all(isinstance(item, str) and "=" in item for item in value):
            parsed[key] = dict(item.split("=", 1) for item in value)
    return parsed


def at_site(**variables: object) -> dict:
    """The Slurm profile of a site that says this of itself."""
    text = SLURM.read_text()
    for name, value in variables.items():
        text, n = re.subn(rf"^  {name}: .*$", f"  {name}: {json.dumps(value)}", text, flags=re.MULTILINE)
        assert n == 1, name
    return read_profile(ROOT / "slurm/config.yaml", text)


def resources_of(profile: dict, rule: str, own: dict | None = None) -> dict:
    """What a job of a rule asks for: the default, what its rule says, what the profile sets."""
    found = {key: ast.literal_eval(value) for key, value in quoted(profile["default-resources"]).items()} | (own or {})
    of_rule = {key: value for key, value in profile["set-resources"].items() if key.split(":")[0] == rule}
    return found | {key.split(":")[1]: ast.literal_eval(value) for key, value in quoted(of_rule).items()}


def quoted(values: dict[str, str]) -> dict[str, str]:
    """The same, `gpu:1` made a string of Python's as all others are."""
    return {key: repr(value) if key.endswith("gres") else value for key, value in values.items()}


def gpu_rules() -> set[str]:
    """Rules that say gpu=1."""
    found = set()
    for block in re.split(r"^\s*(?=(?:use )?rule \w)", RULES, flags=re.MULTILINE):
        name = re.match(r"(?:use rule \w+ as|rule) (\w+)", block)
        if name and re.search(r"^\s+gpu=1,$", block, re.MULTILINE):
            found.add(name.group(1))
    return found


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `--profile slurm` is found."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflow/profiles").glob("*/config.yaml")), ids=lambda path: path.parent.name
)
def test_profiles_name_only_rules_that_exist(path: Path) -> None:
    """Snakemake accepts a misspelt rule name in a profile without a word."""
    profile = read_profile(path)
    for key in ("set-resources", "set-threads", "groups"):
        assert {name.split(":")[0] for name in profile.get(key) or {}} <= NAMES
    assert set(profile.get("group-components") or {}) <= set((profile.get("groups") or {}).values())


def test_slurm_profile_is_reached_from_the_root() -> None:
    assert (ROOT / "slurm/config.yaml").samefile(SLURM)


def test_default_profile_leaves_the_site_alone() -> None:
    """What stands in the default profile overrides a site's profile, key by key."""
    profile = read_profile(ROOT / "workflow/profiles/default/config.yaml")
    assert not {"default-resources", "set-resources", "executor", "jobs", "groups", "retries"} & set(profile)


@pytest.mark.parametrize("site", SITES, ids=lambda site: "-".join(str(value) for value in site.values()))
def test_gpus_and_partitions_of_every_site(site: dict) -> None:
    profile = at_site(**site)
    assert {key.split(":")[0] for key in profile["set-resources"]} == gpu_rules()
    for rule in NAMES - {"all"}:
        own = {"gpu": 1} if rule in gpu_rules() else {}
        asked = resources_of(profile, rule, own)
        wants_gpu = site["gpus"] and rule in gpu_rules()
        expected = {"gpu": " --gpus=1", "gres": " --gres=gpu:1"}[site["gpus_as"]] if wants_gpu else ""
        assert set_gres_string(SimpleNamespace(resources=SimpleNamespace(get=asked.get, **asked))) == expected
        assert not (asked.get("gpu") and asked.get("gres"))
        if site["partition_file"]:
            assert "slurm_partition" not in asked
        else:
            assert asked["slurm_partition"] == ("gpu" if wants_gpu else "cpu")
        assert asked.get("slurm_account") == (str(site["account"]) if site["account"] else None)


@pytest.mark.parametrize("name", ["all", "input", "1080", "gpu-a100", "short,long"])
def test_partition_of_any_name_is_taken_as_it_is(name: str) -> None:
    """Snakemake evaluates resources of a profile as Python: unquoted, `all` is a function and 1080 a number."""
    profile = at_site(cpu_partition=name, gpu_partition=name, account=name)
    given = {profile["default-resources"][key] for key in ("slurm_partition", "slurm_account")}
    given |= {value for key, value in profile["set-resources"].items() if key.endswith(":slurm_partition")}
    assert given == {repr(name)}


def test_a_rule_gets_more_than_is_predicted() -> None:
    """As the message about a killed job says; a rule with a GPU keeps its partition."""
    place = "    more:\n"
    assert SLURM.read_text().count(place) == 1
    lines = ["scrna_merge: {mem_mb: 64000 * attempt, runtime: 240}", "embed_gpu: {mem_mb: 9000}"]
    text = SLURM.read_text().replace(place, place + "".join(f"      {line}\n" for line in lines))
    before, after = at_site()["set-resources"], read_profile(SLURM, text)["set-resources"]
    given = {"scrna_merge:mem_mb": "64000 * attempt", "scrna_merge:runtime": "240", "embed_gpu:mem_mb": "9000"}
    assert after == before | given


def test_samples_of_a_slurm_job_are_a_setting_of_the_site() -> None:
    assert set(at_site(samples_per_job=1)["group-components"].values()) == {"1"}


def test_partition_file_is_found_from_the_folder_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin opens it after `--directory` has led away."""
    path = at_site(partition_file="partitions.yaml")["slurm-partition-config"]
    elsewhere = tmp_path / "mine.yaml"
    assert at_site(partition_file=str(elsewhere))["slurm-partition-config"] == str(elsewhere)
    monkeypatch.chdir(tmp_path)
    assert read_partition_file(Path(path))
    assert "slurm-partition-config" not in at_site(partition_file=None)


def partition_of(**resources: object) -> str | None:
    """Where the plugin sends a job by the partition file of the profile."""
    threads = resources.pop("threads", 1)
    job = SimpleNamespace(name="job", threads=threads, resources=resources)
    return get_best_partition(read_partition_file(SLURM.with_name("partitions.yaml")), job, logging.getLogger("test"))


def test_partition_file_sends_every_job_where_it_fits() -> None:
    assert partition_of(gpu=1, gres="", mem_mb=8000, runtime=60, threads=2) == "gpu"
    assert partition_of(gpu=0, gres="gpu:1", mem_mb=8000, runtime=60, threads=2) == "gpu"
    assert partition_of(mem_mb=2000, runtime=10) == "short"
    assert partition_of(mem_mb=2000, runtime=5000) == "long"
    assert partition_of(mem_mb=900_000, runtime=600) == "highmem"
    assert partition_of(mem_mb=2_000_000, runtime=600) is None
    for rule, need in read_needs().items():
        gpu = int(rule.split(".")[0] in gpu_rules())
        found = partition_of(gpu=gpu, mem_mb=int(need.base_mb + HEADROOM), runtime=60, threads=4)
        assert (found == "gpu") == bool(gpu), rule


# -- which rules train networks, from the code that their jobs run --


def write_everything(folder: Path, ambient: str, profiler: str) -> None:
    """A study that uses nearly every rule, of files that are just enough for a dry run."""
    read = gzip.compress(b"@read\nACGTACGT\n+\nIIIIIIII\n")
    config = folder / "config"
    (config / "genomes").mkdir(parents=True)
    for name in (
        "r1.fastq.gz",
        "r2.fastq.gz",
        "genome.fa.gz",
        "genes.gtf.gz",
        "host.fa.gz",
        "genomes/one.fa.gz",
        "taxa.tsv",
    ):
        (config / name).write_bytes(read)
    tables = {
        "lineages.tsv": [["genome", "lineage"], ["one", "d__B;p__B;c__B;o__B;f__B;g__B;s__B b"]],
        "databases.tsv": [["name", "profiler", "path", "lineages"], ["one", profiler, "genomes", "lineages.tsv"]],
        "training.tsv": [["path", "kind", "label"], ["genome.fa.gz", "genome", "a"], ["host.fa.gz", "genome", "b"]],
        "samples.tsv": [
            ["sample", "assay", "path", "path_2", "format", "condition"],
            ["A", "scrna", "r1.fastq.gz", "r2.fastq.gz", "fastq", "x"],
            ["M", "metagenome", "r1.fastq.gz", "", "fastq", "x"],
            ["T", "metagenome", "taxa.tsv", "", "taxon_table", "y"],
        ],
    }
    for name, rows in tables.items():
        (config / name).write_text("".join("\t".join(row) + "\n" for row in rows))
    settings = {
        **SMALL,
        "quantify": {"technology": "10xv2", "genome": "config/genome.fa.gz", "annotation": "config/genes.gtf.gz"},
        "ambient": {"method": ambient},
        "doublets": {"methods": ["scrublet", "solo"]},
        "profile": {"databases": "config/databases.tsv"},
        "reads": {"hosts": ["config/host.fa.gz"]},
        "prediction": {"target": "condition"},
        "classifier": {"training": "config/training.tsv", "curve": [0.5]},
    }
    (config / "config.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Every job of two studies, and what it runs (`tests/fixtures/rule_code.py`)."""
    found = []
    for ambient, profiler in (("decontx", "sourmash"), ("cellbender", "kraken2")):
        folder = tmp_path_factory.mktemp(profiler) / "study"
        write_everything(folder, ambient, profiler)
        tool = ROOT / "tests/fixtures/rule_code.py"
        # A dry run asks whether Kraken2 is there, and does not start it.
        programs = folder / "programs"
        programs.mkdir()
        for name in ("kraken2", "kraken2-build"):
            (programs / name).touch(mode=0o755)
        env = environment() | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run([sys.executable, tool, folder], env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found += [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"rule"')]
    return found


def test_every_rule_has_a_job_in_these_studies(jobs: list[dict]) -> None:
    assert {job["rule"] for job in jobs} == NAMES - {"all"}


def test_jobs_that_train_a_network_and_no_others_ask_for_a_gpu(jobs: list[dict]) -> None:
    given_networks = {job["script"] for job in jobs if job["trains"] and job["modules"]}
    for job in jobs:
        # A script that trains whatever network it is given trains none where it is given none (baselines).
        deep = bool(job["trains"] and (job["modules"] or job["script"] not in given_networks))
        assert bool(job["gpu"]) == deep, job
    assert {job["rule"] for job in jobs if job["gpu"]} == gpu_rules()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("L.Trainer(max_epochs=3)", True),
        ("loss.backward()", True),
        ("model.train(max_epochs=3)", True),
        ("command = ['cellbender', 'remove-background']", True),
        ("network.train(False)", False),
        ("LogisticRegression().fit(x, y)", False),
    ],
)
def test_what_counts_as_training(source: str, expected: bool) -> None:
    assert trains(source) == expected


def test_training_is_seen_in_the_modules_that_train() -> None:
    package = ROOT / "workflow/latentomics"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if trains(path.read_text())}
    assert found >= {
        "embed/loop.py",
        "embed/scvi.py",
        "reads/loop.py",
        "scrna/doublets/solo.py",
        "scrna/ambient/cellbender.py",
    }


# -- how many Slurm jobs a study submits --


@pytest.fixture(scope="module")
def counting() -> ModuleType:
    """`benchmarks/submissions.py`, which counts the same for thousands of samples."""
    spec = importlib.util.spec_from_file_location("submissions", ROOT / "benchmarks/submissions.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("study", ["cells", "cells, ambient: decontx", "metagenomes, sourmash"])
def test_small_steps_share_a_slurm_job(counting: ModuleType, study: str, tmp_path: Path) -> None:
    """A rule in no group is submitted once per study or embedding, never once per sample."""
    assay, config = counting.STUDIES[study]
    counting.write_study(tmp_path, assay, 30, config)
    jobs, submitted = counting.submissions(counting.dry_run(tmp_path)[0])
    steps = 1 if study == "cells" else 2
    assert submitted["samples"] == 30 / 10
    assert submitted["clusters"] == 3
    assert jobs == 30 * steps + 3 * 3 + submitted["alone"]
    alone, each = counting.submissions(counting.dry_run(tmp_path, "--groups", "none=none")[0])
    assert alone == jobs and each.total() == jobs


def test_submissions_are_counted_in_what_a_dry_run_prints(counting: ModuleType) -> None:
    said = """[Sun Mar  1 12:00:00 2026] Group job samples (jobs in lexicogr. order):

    [Sun Mar  1 12:00:00 2026]
    Job 3: Sample Job 1: x
    Reason: Missing output files: Job 2: y

[Sun Mar  1 12:00:00 2026]
Job 2: Joining
[Sun Mar  1 12:00:00 2026]
localrule all:
"""
    assert counting.submissions(said) == (2, {"samples": 1, "alone": 1})


def test_sites_are_told_how_to_change_everything_that_is_theirs() -> None:
    """The page on clusters names every variable of the profile."""
    page = (ROOT / "docs/cluster.md").read_text()
    variables = re.findall(
        r"^  (\w+):", SLURM.read_text().split("__variables__:")[1].split("executor:")[0], re.MULTILINE
    )
    assert len(variables) == 8
    assert [name for name in variables if f"`{name}`" not in page] == []
