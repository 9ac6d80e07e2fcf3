"""The simulator against its own model, and its files against its counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latentomics.simulate.__main__ import main
from latentomics.simulate.cells import MITOCHONDRIAL, CellParams, Simulated, bcv, simulate, type_shares
from latentomics.simulate.files import FORMATS, render, write_study

SMALL = {"n_genes": 200, "cells_per_sample": 40}
# Every cell of a type has the same expected counts: no spread of libraries, of mitochondrial shares, one sample.
PLAIN = {
    "batches": ("b",),
    "conditions": ("c",),
    "library_scale": 0.0,
    "mito_scale": 0.0,
    "doublet_rate": 0.0,
    "low_rate": 0.0,
    "mito_rate": 0.0,
}


@pytest.fixture(scope="module")
def small() -> Simulated:
    return simulate(CellParams(**SMALL))


@pytest.fixture(scope="module")
def many() -> Simulated:
    return simulate(CellParams(n_genes=60, cells_per_sample=2000))


def expected(simulated: Simulated, kind: int) -> np.ndarray:
    params, profiles = simulated.params, simulated.profiles
    share = (1 - params.mito_share) * profiles.nuclear[0, kind] + params.mito_share * profiles.mito
    return params.library_median * share


def test_the_same_seed_gives_the_same_bytes(small: Simulated) -> None:
    again = simulate(CellParams(**SMALL))
    assert (small.counts != again.counts).nnz == 0
    pd.testing.assert_frame_equal(small.obs, again.obs)
    assert render(small) == render(again)


def test_another_seed_gives_other_counts(small: Simulated) -> None:
    other = simulate(CellParams(seed=1, **SMALL))
    assert set(small.obs["barcode"]).isdisjoint(other.obs["barcode"])
    assert not np.array_equal(small.profiles.nuclear, other.profiles.nuclear)
    n = min(small.counts.shape[0], other.counts.shape[0])
    assert (small.counts[:n] != other.counts[:n]).nnz > 1000


@pytest.mark.parametrize(("n_types", "kind"), [(1, 0), (3, 1)])
def test_mean_and_variance_follow_the_gamma_poisson_model(n_types: int, kind: int) -> None:
    simulated = simulate(CellParams(n_genes=300, cells_per_sample=6000, n_types=n_types, **PLAIN))
    counts = simulated.counts[(simulated.obs["label"] == f"type{kind + 1}").to_numpy()].toarray()
    mean = expected(simulated, kind)
    noise = simulated.profiles.noise
    variance = mean + bcv(mean, noise, simulated.params) ** 2 * mean**2

    z = (counts.mean(axis=0) - mean) / np.sqrt(variance / len(counts))
    assert np.abs(z).max() < 5
    assert 0.8 < z.std() < 1.2

    enough = mean > 1
    ratio = counts.var(axis=0, ddof=1)[enough] / variance[enough]
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    # The noise of each gene is in its counts: the excess over Poisson, relative to the trend, follows its square.
    excess = (counts.var(axis=0, ddof=1) - mean)[enough] / (bcv(mean, 1.0, simulated.params) * mean)[enough] ** 2
    assert np.corrcoef(excess, noise[enough] ** 2)[0, 1] > 0.6


def test_a_mixed_doublet_is_the_sum_of_two_cells() -> None:
    params = CellParams(n_genes=300, cells_per_sample=3000, n_types=2, rare_share=0.5, **PLAIN | {"doublet_rate": 0.5})
    simulated = simulate(params)
    mixed = ((simulated.obs["partner"] != "") & (simulated.obs["partner"] != simulated.obs["label"])).to_numpy()
    assert mixed.mean() == pytest.approx(0.25, abs=0.04)
    means = [expected(simulated, kind) for kind in (0, 1)]
    noise = simulated.profiles.noise
    variance = sum(mean + bcv(mean, noise, params) ** 2 * mean**2 for mean in means)
    z = (np.asarray(simulated.counts[mixed].mean(axis=0)).ravel() - sum(means)) / np.sqrt(variance / mixed.sum())
    assert np.abs(z).max() < 5


def test_a_doublet_is_labelled_by_its_larger_cell() -> None:
    changed = {"doublet_rate": 1.0, "library_scale": 1.0}
    simulated = simulate(CellParams(n_genes=300, cells_per_sample=2000, n_types=2, rare_share=0.5, **PLAIN | changed))
    chosen = ((simulated.obs["label"] == "type1") & (simulated.obs["partner"] == "type2")).to_numpy()
    profile = np.asarray(simulated.counts[chosen].sum(axis=0)).ravel()
    one, two = (expected(simulated, kind) / simulated.params.library_median for kind in (0, 1))
    difference = one - two
    share = difference @ (profile / profile.sum() - two) / (difference @ difference)
    assert 0.6 < share < 0.9


def test_doublets_have_larger_and_low_quality_cells_smaller_libraries(many: Simulated) -> None:
    total = pd.Series(np.asarray(many.counts.sum(axis=1)).ravel(), index=many.obs.index)
    by = total.groupby([many.obs["label_doublet"], many.obs["label_quality"]]).median()
    good = by["singlet", "good"]
    assert good == pytest.approx(many.params.library_median, rel=0.1)
    assert 1.8 < by["doublet", "good"] / good < 2.5
    assert 0.03 < by["singlet", "low"] / good < 0.1
    assert set(by.index) == {("singlet", "good"), ("doublet", "good"), ("singlet", "low"), ("singlet", "mito")}


def test_truth_shares_match_the_parameters(many: Simulated) -> None:
    params, obs = many.params, many.obs
    shares = type_shares(params)
    assert shares.sum() == pytest.approx(1)
    assert shares[-1] == params.rare_share == shares.min()
    seen = obs.loc[obs["label_doublet"] == "singlet", "label"].value_counts().sort_index()
    assert list(seen.index) == [f"type{i}" for i in range(1, 7)]
    assert stats.chisquare(seen, shares * seen.sum()).pvalue > 1e-3
    kinds = [(obs["label_doublet"] == "doublet").sum(), *((obs["label_quality"] == k).sum() for k in ("low", "mito"))]
    for found, rate in zip(kinds, (params.doublet_rate, params.low_rate, params.mito_rate), strict=True):
        assert stats.binomtest(int(found), len(obs), rate).pvalue > 1e-3


def test_mitochondrial_share(many: Simulated) -> None:
    mito = many.var["symbol"].str.startswith("MT-").to_numpy()
    assert mito.sum() == len(MITOCHONDRIAL) == 13
    total = np.asarray(many.counts.sum(axis=1)).ravel()
    share = np.asarray(many.counts[:, mito].sum(axis=1)).ravel() / np.maximum(total, 1)
    quality = many.obs["label_quality"].to_numpy()
    assert np.median(share[quality == "good"]) == pytest.approx(many.params.mito_share, rel=0.1)
    low, high = many.params.high_mito
    assert np.median(share[quality == "mito"]) == pytest.approx((low + high) / 2, rel=0.1)


def test_batches_differ_and_conditions_do_not() -> None:
    simulated = simulate(CellParams(n_types=1, n_genes=200, cells_per_sample=2000))
    sample = simulated.obs["sample"].to_numpy()
    means = {name: np.asarray(simulated.counts[sample == name].mean(axis=0)).ravel() for name in samples()}
    enough = np.min(list(means.values()), axis=0) > 1

    def distance(one: str, other: str) -> float:
        return float(np.std(np.log(means[one][enough] / means[other][enough])))

    between = distance("batch1_control", "batch2_control")
    assert between == pytest.approx(np.sqrt(2) * simulated.params.batch_scale, rel=0.25)
    assert distance("batch1_control", "batch1_treated") < between / 3


def samples() -> list[str]:
    return ["batch1_control", "batch1_treated", "batch2_control", "batch2_treated"]


def test_similar_types_are_the_closest_and_one_type_has_no_structure() -> None:
    nuclear = simulate(CellParams(cells_per_sample=1)).profiles.nuclear[0]
    logs = np.log(nuclear[:, nuclear.min(axis=0) > 0])
    distances = {(i, j): np.std(logs[i] - logs[j]) for i in range(6) for j in range(i)}
    assert min(distances, key=distances.get) == (2, 1)

    def strength(n_types: int) -> float:
        simulated = simulate(CellParams(cells_per_sample=500, n_types=n_types, n_genes=400, **PLAIN))
        dense = np.log1p(simulated.counts.toarray())
        dense = dense[:, dense.std(axis=0) > 0]
        rng = np.random.default_rng(0)
        shuffled = rng.permuted(dense, axis=0)
        top, null = (np.linalg.eigvalsh(np.corrcoef(x, rowvar=False))[-1] for x in (dense, shuffled))
        return top / null

    assert strength(1) < 1.1
    assert strength(6) > 1.5


def test_files_read_back_as_the_counts_in_memory(small: Simulated, tmp_path: Path) -> None:
    import anndata
    import scanpy

    write_study(small, tmp_path)
    sheet = pd.read_csv(tmp_path / "samples.tsv", sep="\t", keep_default_na=False)
    assert list(sheet["sample"]) == samples()
    assert list(sheet["format"]) == ["10x_dir", "10x_dir", "10x_h5", "h5ad"]
    assert list(sheet["layer"]) == ["", "", "", "counts"]
    assert set(pd.crosstab(sheet["batch"], sheet["condition"]).to_numpy().ravel()) == {1}
    assert len(FORMATS) == len(sheet)
    for row in sheet.itertuples():
        path = tmp_path / row.path
        if row.format == "10x_dir":
            read = scanpy.read_10x_mtx(path, var_names="gene_ids")
        elif row.format == "10x_h5":
            read = scanpy.read_10x_h5(path)
            assert list(read.var_names) == list(small.var["symbol"])
            read.var_names = read.var["gene_ids"]
        else:
            read = anndata.read_h5ad(path)
            total = np.asarray(read.layers["counts"].sum(axis=1)).ravel()
            assert np.allclose(np.expm1(read.X.toarray()).sum(axis=1)[total > 0], 1e4, rtol=1e-3)
            read.X = read.layers["counts"]
        obs = small.obs[small.obs["sample"] == row.sample]
        assert list(read.obs_names) == list(obs["barcode"])
        assert list(read.var_names) == list(small.var["ensembl"])
        counts = small.counts[(small.obs["sample"] == row.sample).to_numpy()]
        assert np.array_equal(read.X.toarray(), counts.toarray())
        cells = pd.read_csv(tmp_path / row.metadata, sep="\t")
        assert cells.columns[0] == "barcode"
        for column in ("label", "label_doublet", "label_quality"):
            assert getattr(row, column) == f"obs:{column}"
            assert list(cells[column]) == list(obs[column])


def test_a_second_run_rewrites_only_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--assay", "scrna"]) == 0
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(before) == 13
    assert main([str(tmp_path), "--assay", "scrna"]) == 0
    assert "0 files written" in capsys.readouterr().out
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.rglob("*") if p.is_file()}

    damaged = tmp_path / "samples.tsv"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-9])
    assert main([str(tmp_path), "--assay", "scrna"]) == 0
    assert damaged.read_bytes() == whole
    after = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p in after if after[p] != before.get(p)} == {damaged}


@pytest.mark.parametrize(
    ("bad", "says"),
    [({"n_genes": 20}, "n_genes"), ({"rare_share": 0.9}, "rare_share"), ({"low_rate": 0.99}, "low_rate")],
)
def test_impossible_parameters_are_named(bad: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CellParams(**bad)
