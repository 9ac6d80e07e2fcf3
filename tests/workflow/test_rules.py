"""The rules themselves: what reruns, what they ask the scheduler for, how many samples they bear."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rule_code import NAMES, RULES
from study import ROOT, Study, rules_of

from latentomics.embed import registry
from latentomics.resources.predict import read_needs


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code that a test may edit."""
    for name in ("workflow", "resources"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("cluster/markers.py", {"markers", "report_page"}),
        ("score/verdict.py", {"scores", "report_page"}),
        ("embed/autoencoder.py", {"embed_gpu", "cluster", "layout", "markers", "scores", "final_file", "report_page"}),
        ("report/words.py", {"quality_page", "report_page"}),
    ],
)
def test_editing_a_module_reruns_the_rules_that_use_it(
    finished: Study, checkout: Path, module: str, expected: set[str]
) -> None:
    study = Study(finished.folder, checkout)
    # The copy lies elsewhere, which is a change of input to Snakemake; what is asked here is what the code hash does.
    by_code = ("--dry-run", "--rerun-triggers", "params")
    before = study.run(*by_code)
    assert "Nothing to be done" in before.stdout + before.stderr
    path = checkout / "workflow/latentomics" / module
    path.write_text(path.read_text() + "\n# edited\n")
    after = study.run(*by_code)
    assert rules_of(after.stdout + after.stderr) == expected


def test_changed_setting_reruns_only_what_uses_it(finished: Study) -> None:
    done = finished.run("--dry-run", "--config", "markers={n_top: 3}")
    assert rules_of(done.stdout + done.stderr) == {"markers", "report_page"}


def test_key_on_the_command_line_keeps_its_neighbours(finished: Study) -> None:
    done = finished.run("--dry-run", "--config", "embeddings={scvi: {n_layers: 2}}")
    assert done.returncode == 0, done.stdout + done.stderr
    # Had the section been replaced, every embedding would have lost its small settings and been trained anew.
    assert "embedding by scvi" in done.stdout
    assert "embedding by pca" not in done.stdout
    assert "n_layers" not in (finished.folder / "config/config.yaml").read_text()


def test_edited_name_file_of_a_tenx_folder_reruns_its_sample(finished: Study) -> None:
    """The folder itself does not change when a file in it does; its three files are what the job depends on."""
    (barcodes,) = (finished.folder / "config/batch1_control").rglob("barcodes.tsv*")
    content, stat = barcodes.read_bytes(), barcodes.stat()
    barcodes.write_bytes(content + b"edited")
    try:
        done = finished.run("--dry-run")
    finally:
        barcodes.write_bytes(content)
        os.utime(barcodes, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "scrna_sample" in rules_of(done.stdout + done.stderr)


def test_every_rule_has_a_row_of_needs_and_every_row_its_rule() -> None:
    needs = set(read_needs())
    assert {job for job in needs if "." not in job} == NAMES - {"all"}
    assert {job.split(".")[0] for job in needs} <= NAMES


def test_rules_that_train_a_network_ask_for_a_gpu(finished: Study) -> None:
    deep = {method for method in registry.METHODS if registry.on_gpu(method)}
    assert deep == {"autoencoder", "scvi", "vae"}
    done = finished.run("--dry-run", "--quiet", "rules", "--forcerun", "embed", "embed_gpu")
    counted = dict(re.findall(r"^(embed\w*)\s+(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    of_cells = {method for method in registry.METHODS if "scrna" in registry.method(method).ASSAYS}
    assert counted == {"embed": str(len(of_cells - deep)), "embed_gpu": str(len(of_cells & deep))}
    rule = RULES.split("use rule embed as embed_gpu with:")[1].split("\nrule ")[0]
    assert re.search(r"^\s+gpu=1,$", rule, flags=re.MULTILINE)


def test_five_thousand_samples_make_a_dag(new_study: Callable[..., Study]) -> None:
    study = new_study("many")
    sheet = study.folder / "config/samples.tsv"
    header, row = sheet.read_text().splitlines()[:2]
    rows = ["\t".join([f"s{i:04d}", *row.split("\t")[1:]]) for i in range(5000)]
    sheet.write_text("\n".join([header, *rows]) + "\n")
    done = study.run("--dry-run", "--quiet", "rules")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"scrna_sample\s+5000", said)
