"""Cells made of real ones: depth, sparsity, noise and structure are kept, and all differ. How runs on them are compared."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from count_cases import MIRROR, ROOT, needs_mirror, tree
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, vstack
from scipy.stats import ks_2samp

sys.path.append(str(ROOT / "benchmarks"))

import large
import made_cells
from made_cells import RealCells, barcodes, blocks, make, nearest, read_real, sizes, write_store, write_study

from latentomics.config.load import load_config, read_yaml
from latentomics.config.sheet import read_sheet
from latentomics.io.preflight import check_inputs
from latentomics.io.readers import read_counts
from latentomics.io.store import CountsStore


def of_counts(counts, near=None) -> RealCells:
    counts = csr_matrix(counts, dtype=np.int32)
    names = [f"ENSG{i:011d}" for i in range(counts.shape[1])]
    genes = pd.DataFrame({"ensembl": names, "symbol": [f"G{i}" for i in range(counts.shape[1])]})
    return RealCells(counts, nearest(counts) if near is None else near, genes)


@pytest.fixture(scope="module")
def simulated() -> RealCells:
    """Four types of cells of different sizes, whose counts are Poisson given type and library size."""
    rng = np.random.default_rng(2)
    shares = rng.gamma(0.6, 1, 400) * rng.lognormal(0, 1.0, (4, 400)) ** (rng.random((4, 400)) < 0.2)
    kind = rng.choice(4, 800, p=[0.4, 0.3, 0.2, 0.1])
    library = rng.lognormal(np.log(1500) + 0.2 * kind, 0.4)
    return of_counts(rng.poisson(library[:, None] * (shares / shares.sum(axis=1, keepdims=True))[kind]))


@pytest.fixture(scope="module")
def real(request) -> RealCells:
    return request.getfixturevalue(request.param) if request.param == "simulated" else read_real(MIRROR)


either = pytest.mark.parametrize(
    "real", ["simulated", pytest.param("pbmc3k", marks=needs_mirror)], indirect=True, scope="module"
)


@pytest.fixture(scope="module")
def made(real) -> csr_matrix:
    return make(real, 4000, np.random.default_rng(0))


def depth(counts) -> np.ndarray:
    return np.asarray(counts.sum(axis=1)).ravel()


def correlations(counts, genes: np.ndarray) -> np.ndarray:
    """Of log-normalised counts, every pair of genes once."""
    values = counts[:, genes].toarray() / depth(counts)[:, None] * np.median(depth(counts))
    return np.corrcoef(np.log1p(values).T)[np.triu_indices(len(genes), 1)]


@either
def test_depth_and_sparsity_are_those_of_the_real_cells(real, made):
    assert ks_2samp(depth(made), depth(real.counts)).statistic < 0.05
    detected = [np.diff(counts.indptr) for counts in (made, real.counts)]
    assert np.median(detected[0]) == pytest.approx(np.median(detected[1]), rel=0.05)
    assert made.nnz / made.shape[0] == pytest.approx(real.counts.nnz / real.counts.shape[0], rel=0.05)
    shares = [np.asarray(counts.sum(axis=0)).ravel() / counts.sum() for counts in (made, real.counts)]
    assert np.abs(shares[0] - shares[1]).sum() < 0.1


@either
def test_genes_vary_together_as_in_the_real_cells(real, made):
    variable = np.asarray(real.counts.astype(float).power(2).mean(axis=0)).ravel()
    genes = np.argsort(-variable)[:200]
    ours, theirs = correlations(made, genes), correlations(real.counts, genes)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9
    # Noise that is doubled or averaged away would shrink or stretch all of them.
    assert np.polyfit(theirs, ours, 1)[0] == pytest.approx(1, abs=0.15)


@either
def test_no_two_cells_are_alike(real, made):
    def rows(counts):
        return {(c.indices.tobytes(), c.data.tobytes()) for c in (counts[i] for i in range(counts.shape[0]))}

    assert len(rows(made)) == made.shape[0]
    assert rows(made).isdisjoint(rows(real.counts))


def test_the_noise_is_poisson_neither_doubled_nor_smoothed():
    rng = np.random.default_rng(0)
    alike = rng.poisson(np.full(300, 4.0), (500, 300))
    near = np.stack([np.delete(rng.permutation(500), 0)[: made_cells.NEIGHBOURS] for _ in range(500)])
    counts = make(of_counts(alike, near), 6000, rng).toarray()
    assert counts.mean() == pytest.approx(4, rel=0.02)
    dispersion = counts.var(axis=0) / counts.mean(axis=0)
    assert dispersion.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.filterwarnings("ignore:.*normalized dispersions")
def test_a_made_cell_holds_only_molecules_of_its_neighbourhood():
    # Two kinds of cells with no gene in common, which never mix.
    counts = np.kron(np.eye(2, dtype=int), np.random.default_rng(0).poisson(3, (60, 40)) + 1)
    kinds = make(of_counts(counts), 500, np.random.default_rng(1)).toarray().reshape(500, 2, 40).sum(axis=2) > 0
    assert (kinds.sum(axis=1) == 1).all()
    assert kinds.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.1)


def test_the_same_seed_and_sample_give_the_same_cells(simulated, monkeypatch):
    monkeypatch.setattr(made_cells, "BLOCK", 64)

    def cells(seed, sample, n=150):
        return vstack(list(blocks(simulated, n, seed, sample)))

    assert (cells(0, 0) != cells(0, 0)).nnz == 0
    assert (cells(0, 0) != cells(0, 1)).nnz and (cells(0, 0) != cells(1, 0)).nnz
    assert {block.shape[0] for block in blocks(simulated, 150, 0, 0)} == {64, 22}
    assert (cells(0, 0)[:64] != cells(0, 0)[64:128]).nnz


def test_a_study_runs_as_it_is_and_its_store_holds_the_same_cells(simulated, tmp_path):
    write_study(simulated, tmp_path / "study", 301, 3, seed=5, processes=1, features={"n_top": 100})
    raw, problems = read_yaml(tmp_path / "study/config/config.yaml")
    config, found = load_config(raw, tmp_path / "study/config/config.yaml")
    problems += found
    sheet, found = read_sheet(tmp_path / "study/config/samples.tsv", tmp_path / "study")
    gene_sets = ROOT / "resources/gene_sets.tsv"
    found += check_inputs(sheet, config, gene_sets, tmp_path / "checked.json", workers=1, say=print)
    assert not [p for p in problems + found if p.severity == "error"]
    assert (config.seed, config.features.n_top, config.embeddings.methods) == (5, 100, ["pca"])
    parts = [read_counts(rows[0]) for rows in sheet.samples("scrna").values()]
    assert [part.n_obs for part in parts] == [101, 100, 100]
    for number, part in enumerate(parts):
        assert (vstack(list(blocks(simulated, part.n_obs, 5, number))) != part.X).nnz == 0
        assert list(part.var_names) == list(simulated.genes["ensembl"])
        assert list(part.var["symbol"]) == list(simulated.genes["symbol"])
    write_store(simulated, tmp_path / "counts.zarr", 301, 3, seed=5)
    store = CountsStore(tmp_path / "counts.zarr")
    assert (store.select() != vstack([part.X for part in parts])).nnz == 0
    assert list(store.obs["barcode"]) == [barcode for part in parts for barcode in part.obs_names]
    assert store.obs["sample"].value_counts().to_dict() == sizes(301, 3)
    np.testing.assert_array_equal(store.totals, depth(store.select()))
    assert store.obs.index.is_unique and store.var.index.is_unique


def test_scanpy_reads_the_files(simulated, tmp_path):
    write_study(simulated, tmp_path, 120, 1)
    adata = sc.read_10x_h5(tmp_path / "data/sample000.h5")
    assert (next(blocks(simulated, 120, 0, 0)) != adata.X).nnz == 0
    assert adata.var["gene_ids"].tolist() == simulated.genes["ensembl"].tolist()


def test_a_study_goes_on_where_it_stopped(simulated, tmp_path):
    write_study(simulated, tmp_path, 90, 3)
    whole = tree(tmp_path)
    (tmp_path / "data/sample001.h5").rename(tmp_path / "data/sample001.part")
    before = (tmp_path / "data/sample000.h5").stat().st_mtime_ns
    write_study(simulated, tmp_path, 90, 3)
    assert (tmp_path / "data/sample000.h5").stat().st_mtime_ns == before
    assert {path.name for path in (tmp_path / "data").iterdir()} == {f"sample00{i}.h5" for i in range(3)}
    with h5py.File(tmp_path / "data/sample001.h5") as file:
        assert file["matrix/shape"][:].tolist() == [400, 30]
    assert tree(tmp_path).keys() == whole.keys()


@given(st.integers(1, 2000), st.integers(1, 50))
def test_samples_are_as_equal_as_they_can_be(n_cells, n_samples):
    if n_samples > n_cells:
        with pytest.raises(ValueError, match="cannot make"):
            sizes(n_cells, n_samples)
        return
    found = list(sizes(n_cells, n_samples).values())
    assert sum(found) == n_cells and len(found) == n_samples and max(found) - min(found) <= 1


def test_barcodes_look_like_barcodes_and_are_unique():
    found = barcodes(70_000)
    assert len(set(found)) == 70_000
    assert all(set(barcode[:16]) <= set(b"ACGT") and barcode[16:] == b"-1" for barcode in found[:2000])


def test_spaces_agree_whatever_their_axes_and_origin():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 4))
    assert large.principal_cosines(scores, 3 + scores @ rng.normal(size=(4, 4))) == pytest.approx(1)
    # One axis in common, the other turned by 60 degrees.
    one, two, three = rng.normal(size=(3, 200))
    centred = np.linalg.qr(np.column_stack([v - v.mean() for v in (one, two, three)]))[0]
    turned = centred[:, 1] * np.cos(np.pi / 3) + centred[:, 2] * np.sin(np.pi / 3)
    found = large.principal_cosines(centred[:, :2], np.column_stack([centred[:, 0], turned]))
    assert found == pytest.approx([1, 0.5])


def test_agreement_is_of_the_same_cells(tmp_path):
    """Both sides order the cells differently, and each kept one that the other dropped."""
    rng = np.random.default_rng(1)
    names = np.array([f"sample000_{barcode.decode()}" for barcode in barcodes(300)])
    scores, kind = rng.normal(size=(300, 50)), np.arange(300) % 4
    for part in ("embeddings", "clusters"):
        (tmp_path / "results/scrna" / part).mkdir(parents=True)
    ours, theirs = np.arange(1, 300), rng.permutation(299)
    columns = [f"z{i}" for i in range(50)]
    pd.DataFrame(scores[ours], index=names[ours], columns=columns).to_parquet(
        tmp_path / "results/scrna/embeddings/pca.parquet"
    )
    clusters = pd.DataFrame({"cluster": kind[ours].astype(str), "r1": np.where(kind == 3, 2, kind)[ours].astype(str)})
    clusters.set_axis(names[ours]).to_parquet(tmp_path / "results/scrna/clusters/pca.parquet")
    (tmp_path / "recipe").mkdir()
    codes = np.array([2, 0, 3, 1])[kind[theirs]]
    found = {"pca": -scores, "same_genes": np.roll(scores, 25, axis=1)}
    found = {key: values[theirs] for key, values in found.items()} | {"leiden": codes, "again": codes}
    np.savez(tmp_path / "recipe/found.npz", names=names[theirs], **found)
    found = large.agreement(tmp_path)
    assert (found["cells of both"], found["cells of one alone"]) == (298, 2)
    assert (found["clusters, scanpy"], found["clusters, ours"]) == (4, 4)
    assert found["ARI, chosen clusters"] == 1 and 0.5 < found["ARI, resolution 1"] < 0.9
    assert [found[f"mean squared cosine, first {k} PCs"] for k in (5, 50)] == pytest.approx([1, 1])
    same_genes = "mean squared cosine, first {} PCs, of the genes that we chose"
    assert found[same_genes.format(5)] < 0.1 and found[same_genes.format(50)] == pytest.approx(1)


def test_the_exponent_is_that_of_a_power():
    sizes = [50, 100, 200, 400]
    assert large.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)
