"""The page on the samples and their quality: there before anything is made of them, and the same afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from make_metagenome_results import make_metagenome_results
from make_results import make_results
from report_pages import prose_of, sections_of

from latentomics.report.page import write_quality

#: What the rules before the page write, by assay.
OF_SAMPLES = {
    "scrna": (
        *("counts.zarr", "samples", "samples.tsv", "cells.parquet", "droplets.parquet"),
        *("quantification.tsv", "ambient.tsv", "warnings.tsv", "ledger.tsv"),
    ),
    "metagenome": ("counts.zarr", "samples.tsv", "samples", "warnings.tsv", "ledger.tsv"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("quality")
    return {
        "scrna": make_results(root / "scrna"),
        "metagenome": make_metagenome_results(root / "metagenome"),
    }


@pytest.mark.parametrize(
    ("assay", "sections"),
    [
        ("scrna", ["overview", "quantification", "droplets", "ambient", "quality", "ledger"]),
        ("metagenome", ["overview", "reads", "taxa", "ledger"]),
    ],
)
def test_needs_only_the_samples_and_says_only_what_they_say(
    results: dict[str, Path], tmp_path: Path, assay: str, sections: list[str]
) -> None:
    early = tmp_path / "early" / assay
    early.mkdir(parents=True)
    for name in OF_SAMPLES[assay]:
        source = results[assay] / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, early / name)
    for folder, out in ((early, tmp_path / "early.html"), (results[assay], tmp_path / "late.html")):
        write_quality({assay: folder}, out, "A <b>study</b>", {"qc": {"n_mads": 5}})
    page = (tmp_path / "early.html").read_text()
    assert sections_of(page) == sections
    assert page == (tmp_path / "late.html").read_text()
    assert "A <b>study</b>" in prose_of(page)
    assert "<b>study</b>" not in page
