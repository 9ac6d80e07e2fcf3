"""The main job from end to end: what it leaves behind, twice the same, also after a kill."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from same_results import differences
from study import Study

from latentomics.io.store import CountsStore

METHODS = ("pca", "autoencoder", "scvi")


def test_leaves_the_files_of_the_contract(finished: Study) -> None:
    results = finished.folder / "results"
    expected = [
        "report.html",
        "resources.tsv",
        *(
            f"scrna/{name}"
            for name in ("counts.zarr/zarr.json", "features.parquet", "scores.tsv", "ledger.tsv", "scrna.h5ad")
        ),
        *(f"scrna/samples/batch{i}_control/{name}" for i in (1, 2) for name in ("counts.h5ad", "cells.parquet")),
        *(
            f"scrna/{pattern.format(method)}"
            for method in METHODS
            for pattern in (
                "embeddings/{}.parquet",
                "models/{}/summary.json",
                "graphs/{}.npz",
                "clusters/{}.parquet",
                "clusters/{}.selection.tsv",
                "layouts/{}.parquet",
                "markers/{}.parquet",
            )
        ),
    ]
    missing = [name for name in expected if not (results / name).exists()]
    assert not missing
    layout = pd.read_parquet(results / "scrna/layouts/scvi.parquet")
    assert list(layout.columns) == ["umap1", "umap2", "tsne1", "tsne2"]
    scores = pd.read_csv(results / "scrna/scores.tsv", sep="\t", index_col="embedding")
    assert list(scores.index) == list(METHODS)


def test_every_job_has_log_and_benchmark(finished: Study) -> None:
    results = finished.folder / "results"
    for kind, ending in (("logs", ".log"), ("benchmarks", ".tsv")):
        for rule in ("scrna_sample/batch1_control", "scrna_merge", "scrna/embed/scvi", "scrna/cluster/pca", "report"):
            assert (results / kind / (rule + ending)).exists(), (kind, rule)


def test_nothing_is_lost_between_reading_and_ledger(finished: Study) -> None:
    results = finished.folder / "results/scrna"
    cells = pd.concat(pd.read_parquet(path) for path in sorted(results.glob("samples/*/cells.parquet")))
    store = CountsStore(results / "counts.zarr")
    ledger = pd.read_csv(results / "ledger.tsv", sep="\t")
    dropped = set(ledger.loc[ledger["kind"] == "cell", "observation"])
    assert set(store.obs.index) | dropped == set(cells.index)
    assert not set(store.obs.index) & dropped
    assert ledger["reason"].ne("").all()


def test_final_file_joins_everything(finished: Study) -> None:
    results = finished.folder / "results/scrna"
    adata = ad.read_h5ad(results / "scrna.h5ad")
    raw = {name: ad.read_h5ad(results / f"samples/{name}/counts.h5ad") for name in ("batch1_control", "batch2_control")}
    cell = adata.obs_names[7]
    source = raw[adata.obs.loc[cell, "sample"]]
    counts = np.asarray(adata[cell].layers["counts"].todense()).ravel()
    assert np.array_equal(counts, np.asarray(source[cell, adata.var_names].X.todense()).ravel())
    expected = np.log1p(counts / counts.sum() * adata.uns["latentomics"]["target_sum"])
    assert np.allclose(np.asarray(adata[cell].X.todense()).ravel(), expected, rtol=1e-5)
    for column in ("sample", "batch", "condition", "label", "cluster", "cluster_pca"):
        assert column in adata.obs
    for key in ("X_pca", "X_autoencoder", "X_scvi", "X_umap", "X_tsne_scvi"):
        assert adata.obsm[key].shape[0] == adata.n_obs
    assert {"symbol", "ensembl", "highly_variable"} <= set(adata.var.columns)
    embedding = pd.read_parquet(results / "embeddings/scvi.parquet")
    assert np.array_equal(adata.obsm["X_scvi"], embedding.loc[adata.obs_names].to_numpy())


def test_models_open_in_their_own_libraries(finished: Study) -> None:
    import scvi

    from latentomics.embed.autoencoder import load

    results = finished.folder / "results/scrna"
    adata = ad.read_h5ad(results / "scrna.h5ad")
    counts = adata[:, adata.var["highly_variable"]].copy()
    counts.X = counts.layers["counts"].astype(np.float32)
    model = scvi.model.SCVI.load(results / "models/scvi", adata=counts, accelerator="cpu")
    assert np.allclose(model.get_latent_representation(), adata.obsm["X_scvi"], atol=1e-4)
    network, mean, features = load(results / "models/autoencoder")
    assert list(features) == list(counts.var_names)
    assert len(mean) == len(features)
    assert sum(type(layer).__name__ == "Linear" for layer in network.modules()) == 8


def test_second_run_has_nothing_to_do_in_a_study_that_was_moved(finished: Study) -> None:
    """The fixture moved the study after its run and copied it: paths of other folders are no reason to run again."""
    done = finished.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_run_says_where_the_report_is_and_what_was_dropped(new_study: Callable[..., Study], finished: Study) -> None:
    (finished.folder / "results/report.html").unlink()
    done = finished.run()
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert str(finished.folder / "results/report.html") in said
    assert "dropped" in said


def test_report_for_people_who_use_snakemake_reports(finished: Study, tmp_path: Path) -> None:
    path = tmp_path / "report.zip"
    done = finished.run("--report", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(path) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist() if name.endswith((".html", ".js"))).decode()
    for category in ("Report", "Scores", "Clusters", "Quality"):
        assert category in text
    assert "adjusted Rand" in text  # a caption


@pytest.fixture(scope="module")
def killed(new_study: Callable[..., Study]) -> Study:
    """A study whose run was killed while scVI trained, and then started again."""
    study = new_study("killed")
    process = study.start()
    log = study.folder / "results/logs/scrna/embed/scvi.log"
    deadline = time.monotonic() + 600
    while not log.exists() and process.poll() is None:
        assert time.monotonic() < deadline, "scVI never started"
        time.sleep(0.1)
    time.sleep(3)  # into the imports or the training, before its outputs are there
    assert not (study.folder / "results/scrna/embeddings/scvi.parquet").exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = study.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return study


def test_killed_run_resumes_to_the_same_bytes(finished: Study, killed: Study) -> None:
    """Determinism and resumption at once: another folder, another process, a kill -9 in between, the same results."""
    assert differences(finished, killed) == []


def test_failing_job_names_its_cause(new_study: Callable[..., Study]) -> None:
    study = new_study("failing", ingest={"join": "inner"})
    # Two samples without a common gene: each is sound, so only the job that joins them can tell.
    (genes,) = (study.folder / "config/batch1_control").rglob("features.tsv.gz")
    genes.write_bytes(gzip.compress(gzip.decompress(genes.read_bytes()).replace(b"ENSG000", b"ENSG555")))
    done = study.run()
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "samples.tsv, ingest.join: no gene is shared by all samples" in said
    assert "Hint: set `ingest.join` to outer" in said
    assert "start the same command" in said


def test_seed_of_the_config_reaches_the_models(finished: Study) -> None:
    for method in METHODS:
        summary = json.loads((finished.folder / f"results/scrna/models/{method}/summary.json").read_text())
        assert summary["seed"] == 0
