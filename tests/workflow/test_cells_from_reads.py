"""Cells from sequencing reads to the page: a simulated genome, two libraries, every step of the raw inputs, a killed run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import adjusted_rand_score
from study import SMALL, Study, rules_of

from latentomics.io.store import CountsStore
from latentomics.simulate.files import write_files
from latentomics.simulate.transcripts import Library, LibraryParams, simulate_library

PARAMS = LibraryParams()
CONFIG: dict[str, object] = {
    **SMALL,
    "samples": "data/samples.tsv",
    "quantify": {
        "technology": "10xv2",
        "genome": "data/genome.fa.gz",
        "annotation": "data/genes.gtf.gz",
        "whitelist": "data/whitelist.txt",
    },
    "ambient": {"method": "decontx"},
    "embeddings": {**SMALL["embeddings"], "methods": ["pca"]},
}
SHEET = "sample\tassay\tpath\tpath_2\tbatch\n" + "".join(
    f"{name}\tscrna\t{name}_R1.fastq.gz\t{name}_R2.fastq.gz\t{name}\n" for name in PARAMS.samples
)


@pytest.fixture(scope="module")
def library() -> Library:
    return simulate_library(PARAMS)


@pytest.fixture(scope="module")
def make(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    def study(name: str, sheet: str = SHEET, **changes: object) -> Study:
        made = Study(tmp_path_factory.mktemp(name) / "study")
        write_files({**library.files, "samples.tsv": sheet.encode()}, made.folder / "data")
        (made.folder / "config").mkdir()
        (made.folder / "config/config.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
        return made

    return study


@pytest.fixture(scope="module")
def finished(make: Callable[..., Study]) -> Study:
    """A study whose run was killed while it counted reads, and that was run again to its end."""
    study = make("finished")
    index = study.folder / "results/scrna/reference/index.idx"
    run = study.start()
    while run.poll() is None and not index.exists():
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (study.folder / "results/report.html").exists()
    again = study.run()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "scrna_merge" in rules_of(again.stdout + again.stderr)
    return study


def of_samples(study: Study) -> Path:
    return study.folder / "results/scrna/samples"


def test_the_reads_become_the_counts_that_were_simulated(finished: Study, library: Library) -> None:
    for name, truth in library.truth.items():
        adata = ad.read_h5ad(of_samples(finished) / name / "counts.h5ad")
        barcodes = adata.obs_names.str.removeprefix(f"{name}_").str.removesuffix("-1")
        cells = truth.cell_type.index[truth.cell_type != ""]
        assert set(barcodes) == set(cells), "every cell is called, and nothing else"
        known = truth.counts.loc[barcodes].reindex(columns=adata.var_names, fill_value=0).to_numpy()
        assert np.corrcoef(adata.X.toarray().ravel(), known.ravel())[0, 1] > 0.999
        facts = json.loads((of_samples(finished) / name / "quantification.json").read_text())
        assert facts["n_reads"] == truth.n_reads
        assert facts["mapping_rate"] == pytest.approx(1 - PARAMS.intergenic, abs=0.03)


def test_the_page_and_the_final_file(finished: Study, library: Library) -> None:
    page = (finished.folder / "results/report.html").read_text()
    for words in ("Droplets and cells", "Reads to counts", "Ambient RNA"):
        assert words in page, words
    adata = ad.read_h5ad(finished.folder / "results/scrna/scrna.h5ad")
    assert {"counts", "corrected"} <= set(adata.layers)
    assert (adata.layers["corrected"] > adata.layers["counts"]).nnz == 0
    truth = pd.concat([t.cell_type.rename(lambda b, n=n: f"{n}_{b}") for n, t in library.truth.items()])
    kinds = truth[adata.obs_names.str.removesuffix("-1")]
    assert adjusted_rand_score(kinds, adata.obs["cluster"]) > 0.9
    store = CountsStore(finished.folder / "results/scrna/counts.zarr")
    assert store.n_nonzero == adata.layers["corrected"].nnz


def test_an_undisturbed_run_gives_the_same(finished: Study, make: Callable[..., Study]) -> None:
    other = make("undisturbed")
    done = other.run("results/scrna/cells.parquet")
    assert done.returncode == 0, done.stdout + done.stderr

    def hashes(study: Study) -> dict[str, str]:
        files = [p for p in of_samples(study).rglob("*") if p.is_file()]
        return {str(p.relative_to(study.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    assert hashes(other) == hashes(finished)


def test_a_second_run_has_nothing_to_do(finished: Study) -> None:
    assert not rules_of(finished.run("--dry-run").stdout)


def test_networks_of_the_raw_inputs_have_rules_of_their_own(make: Callable[..., Study]) -> None:
    study = make("gpu", doublets={"methods": ["scrublet", "solo"]}, ambient={"method": "cellbender"})
    done = study.run("--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"scrna_doublets", "scrna_ambient_gpu", "scrna_quantify"} <= rules_of(done.stdout + done.stderr)


def test_reads_that_are_swapped_are_found_before_the_first_job(make: Callable[..., Study]) -> None:
    swapped = SHEET.replace("library1_R1.fastq.gz\tlibrary1_R2.fastq.gz", "library1_R2.fastq.gz\tlibrary1_R1.fastq.gz")
    study = make("swapped", sheet=swapped, quantify={**CONFIG["quantify"], "annotation": "data/none.gtf"})
    done = study.run()
    output = done.stdout + done.stderr
    assert done.returncode and "library1" in output and "swapped" in output and "none.gtf" in output
    assert output.count("Hint:") >= 2
    assert not (study.folder / "results/scrna/reference").exists()
