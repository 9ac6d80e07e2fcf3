"""How large a job is, read from what its inputs say of themselves."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from run_job import WORKFLOW
from scipy.io import mmwrite
from scipy.sparse import csr_matrix, random

from latentomics.embed import autoencoder, scvi
from latentomics.embed.training import TrainingParams, schedule
from latentomics.io import store
from latentomics.io.store import CountsWriter
from latentomics.resources import quantities
from latentomics.resources.quantities import BLOCK, QUANTITIES, TRAINED, Matrix, matrices, measure, sizes

N_OBS, N_VARS = 40, 25


@pytest.fixture
def counts() -> csr_matrix:
    matrix = random(N_OBS, N_VARS, 0.3, format="csr", random_state=0)
    matrix.data = np.ceil(matrix.data * 9)
    return matrix


def write_store(path: Path, counts: csr_matrix) -> Path:
    writer = CountsWriter(path, *counts.shape, counts.nnz)
    writer.append(counts.astype(np.int32))
    names = (pd.Index([f"{i}" for i in range(n)]) for n in counts.shape)
    writer.close(*(pd.DataFrame(index=name) for name in names))
    return path


def write_tenx(path: Path, counts: csr_matrix) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["barcodes"] = counts.data, np.arange(counts.shape[0])
    return path


def write_mtx(path: Path, counts: csr_matrix) -> Path:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    mmwrite(plain, counts.T.tocoo(), comment=" two lines\n of comment")
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


def of(*paths: Path) -> list[Matrix]:
    return list(matrices(map(str, paths)))


def test_matrices_of_every_format_say_their_entries(tmp_path, counts):
    sparse, dense = tmp_path / "sparse.h5ad", tmp_path / "dense.h5ad"
    ad.AnnData(counts).write_h5ad(sparse)
    ad.AnnData(counts.toarray()).write_h5ad(dense)
    exact = Matrix(N_OBS, counts.nnz)
    assert of(sparse) == [exact]
    assert of(dense) == [Matrix(N_OBS, N_OBS * N_VARS)]
    assert of(write_tenx(tmp_path / "tenx.h5", counts)) == [exact]
    assert of(write_mtx(tmp_path / "matrix.mtx.gz", counts)) == [exact]
    assert of(write_mtx(tmp_path / "plain.mtx", counts)) == [exact]
    assert of(write_store(tmp_path / "counts.zarr", counts)) == [exact._replace(in_blocks=True)]


def test_the_largest_slot_of_a_file_counts(tmp_path, counts):
    path = tmp_path / "a.h5ad"
    ad.AnnData(counts[:, :5], raw=ad.AnnData(counts)).write_h5ad(path)
    assert of(path) == [Matrix(N_OBS, counts.nnz)]
    layered = ad.AnnData(csr_matrix(counts.shape), layers={"counts": counts})
    layered.write_h5ad(path)
    assert of(path) == [Matrix(N_OBS, counts.nnz)]


def test_tables_of_text_are_measured_unpacked(tmp_path, counts):
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    pd.DataFrame(counts.toarray().astype(int)).to_csv(plain, index=False, header=False)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert of(plain) == of(packed) == [Matrix(0, plain.stat().st_size // 2)]
    # Digits and separators: no value takes less than two bytes.
    assert of(plain)[0].entries >= N_OBS * N_VARS


def test_names_beside_a_matrix_are_no_matrices(tmp_path):
    for name in ("barcodes.tsv.gz", "features.tsv.gz", "genes.tsv", "x_barcodes.txt", "summary.json", "cells.parquet"):
        (tmp_path / name).write_bytes(b"something")
        assert of(tmp_path / name) == []


@pytest.mark.parametrize("name", ["a.h5ad", "a.h5", "a.mtx", "a.mtx.gz", "a.zarr"])
def test_a_damaged_matrix_is_measured_by_its_size(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not what it seems" * 100)
    assert of(path) == [Matrix(0, 850)]


@pytest.mark.parametrize(
    ("quantity", "name", "begun"),
    [
        *(("million_entries", name, False) for name in ("a.h5ad", "a.h5", "a.mtx.gz", "a.csv", "counts.zarr")),
        ("million_entries", "counts.zarr", True),
        ("megabytes", "a", False),
        ("thousand_observations", "a.parquet", False),
        ("million_values", "features.parquet", False),
        ("thousand_reads", "data", False),
        ("thousand_reads", "data", True),
    ],
)
def test_what_does_not_exist_yet_is_said(tmp_path, quantity, name, begun):
    """Snakemake asks again where the file that is missing is an input, not a part of one."""
    path = tmp_path / name
    if begun:
        path.mkdir()
    with pytest.raises(FileNotFoundError) as error:
        measure(quantity, [path])
    assert error.value.filename == str(path)


def test_a_file_that_changes_is_read_again(tmp_path, counts):
    path = tmp_path / "a.h5ad"
    ad.AnnData(counts).write_h5ad(path)
    first = of(path)
    ad.AnnData(counts[:10]).write_h5ad(path)
    os.utime(path, ns=(1, 1))
    assert of(path) != first
    assert of(path)[0].observations == 10


def test_sums_and_products(tmp_path, counts):
    kept = write_store(tmp_path / "counts.zarr", counts)
    features = tmp_path / "features.parquet"
    pd.DataFrame({"selected": np.arange(N_VARS) < 10, "mean": 0.0}).to_parquet(features)
    embedding = tmp_path / "pca.parquet"
    pd.DataFrame({"z0": np.zeros(7)}).to_parquet(embedding)
    graph = tmp_path / "pca.npz"
    graph.write_bytes(b"x" * 1000)
    inputs = [kept, features, graph]
    assert measure("million_entries", inputs) == counts.nnz / 1e6
    assert measure("thousand_observations", inputs) == N_OBS / 1e3
    assert measure("million_values", inputs) == pytest.approx(N_OBS * 10 / 1e6)
    assert measure("million_trained_values", inputs) == pytest.approx(N_OBS * 10 / 1e6)
    # Without a matrix, the first table; with one, the matrix.
    assert measure("thousand_observations", [graph, embedding]) == 7 / 1e3
    assert measure("thousand_observations", [embedding, kept, kept]) == 2 * N_OBS / 1e3
    assert measure("thousand_observations", [graph]) == 0
    on_disk = sum(f.stat().st_size for f in kept.rglob("*") if f.is_file())
    assert measure("megabytes", [kept, graph]) == pytest.approx((on_disk + 1000) / 1e6)


def test_labelled_reads_are_counted_where_their_data_is(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/data.json").write_text(json.dumps({"reads": 2500}))
    assert measure("thousand_reads", [tmp_path / "data", tmp_path / "other"]) == 2.5
    assert measure("thousand_reads", [tmp_path / "other"]) == 0


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], 0),
        # A store is read a block at a time, a sample's file whole, the largest of several decides.
        ([Matrix(0, BLOCK * 10, in_blocks=True)], BLOCK * 8 / 1e6),
        ([Matrix(0, BLOCK * 10)], BLOCK * 80 / 1e6),
        ([Matrix(0, 1000), Matrix(0, 3000), Matrix(0, 2000)], 0.024),
        ([Matrix(1000, 0), Matrix(1000, 0)], 1.0),
    ],
)
def test_what_is_streamed_is_a_block_and_the_rows(monkeypatch, found, expected):
    monkeypatch.setattr(quantities, "matrices", lambda paths: iter(found))
    assert measure("streamed_megabytes", []) == pytest.approx(expected)


def test_a_block_is_that_of_the_store():
    assert store.CountsStore.blocks.__defaults__ == (BLOCK,)


@pytest.mark.parametrize("params", [TrainingParams(), autoencoder.Params(), scvi.Params()])
def test_training_takes_no_longer_beyond_the_size_that_is_said(params):
    """Steps, not cells, are what takes time."""

    def steps(n: int) -> int:
        return schedule(params, n)[1] * -(-n // params.batch_size)

    assert steps(100 * TRAINED) <= 1.05 * params.max_steps
    assert steps(TRAINED) >= 0.7 * params.max_steps


def test_values_trained_on_are_no_more_than_the_steps_allow(monkeypatch):
    monkeypatch.setattr(quantities, "matrices", lambda paths: iter([Matrix(1_300_000, 0)]))
    monkeypatch.setattr(quantities, "_known", lambda read, path: 2000 if path == "features.parquet" else 0)
    inputs = ["counts.zarr", "features.parquet", "clusters.parquet"]
    assert measure("million_values", inputs) == pytest.approx(2600)
    assert measure("million_trained_values", inputs) == pytest.approx(51.2)


def test_sizes_are_those_that_a_job_has(tmp_path, counts):
    kept = write_store(tmp_path / "counts.zarr", counts)
    found = sizes([str(kept)])
    assert set(found) == set(QUANTITIES) - {"million_values", "million_trained_values", "thousand_reads"}
    assert found["million_entries"] == pytest.approx(counts.nnz / 1e6, rel=1e-5)


def test_a_quantity_that_is_none_is_refused():
    with pytest.raises(KeyError, match="cellls"):
        measure("cellls", [])


def test_the_rules_import_nothing_heavy():
    code = (
        "import sys, latentomics.resources.predict as p; p.memory('features');"
        "print(*(m for m in ('numpy', 'pandas', 'h5py', 'pyarrow', 'torch', 'psutil') if m in sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(WORKFLOW)}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == ""
