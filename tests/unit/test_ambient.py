"""Ambient RNA by DecontX: the updates against plain references, known shares, and what is never broken."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix
from scipy.stats import beta

from latentomics.config.ambient import Ambient, Decontx
from latentomics.problems import InputError
from latentomics.scrna.ambient import decontx, mixture
from latentomics.scrna.ambient.correct import check_correction, remove_ambient
from latentomics.scrna.ambient.empties import empty_droplets
from latentomics.scrna.ambient.mixture import Mixture, fit_beta, fit_to_empty, fit_to_others, infer_theta
from latentomics.scrna.ambient.registry import METHODS, AmbientSample, Correction, method
from latentomics.scrna.droplets.ranks import rank_curve
from latentomics.simulate.cells import CellParams
from latentomics.simulate.droplets import DropletParams, Droplets, simulate_droplets

PARAMS = Ambient(method="decontx")
#: Cell types as different as those of blood: each switches off what marks the others.
SHARP = CellParams(n_genes=1500, de_prob=0.5, de_scale=2.5)
ALONE = CellParams(n_types=1, rare_share=1.0, n_genes=800)


@cache
def droplets(ambient: float, small_share: float = 0.0, cells: CellParams | None = None, seed: int = 0) -> Droplets:
    return simulate_droplets(
        DropletParams(
            seed=seed,
            n_cells=300,
            n_empty=1500,
            ambient_median=ambient,
            small_share=small_share,
            cells=cells or CellParams(),
        )
    )


def sample_of(made: Droplets, raw: bool = True, passed: np.ndarray | None = None) -> AmbientSample:
    """What the earlier jobs would know, had they called exactly the cells."""
    is_cell = made.obs["cell"].to_numpy()
    empty = np.asarray(made.counts[~is_cell].sum(axis=0), dtype=float).ravel()
    totals = np.asarray(made.counts.sum(axis=1)).ravel()
    return AmbientSample(
        name="S",
        counts=csr_matrix(made.counts[is_cell], dtype=np.int32),
        barcodes=made.obs.index[is_cell].to_numpy(),
        genes=made.var.index.to_numpy(),
        passed=np.ones(is_cell.sum(), dtype=bool) if passed is None else passed,
        profile=empty / empty.sum() if raw else None,
        curve=rank_curve(totals, is_cell) if raw else rank_curve(totals[is_cell], is_cell[is_cell]),
        raw=lambda: pytest.fail("DecontX does not need the raw matrix"),
        folder=Path("nowhere"),
    )


def truth(made: Droplets) -> np.ndarray:
    return made.obs.loc[made.obs["cell"], "ambient_share"].to_numpy()


def tiny(seed: int = 0, n_cells: int = 12, n_genes: int = 8, n_clusters: int = 3):
    """Counts, clusters, shares and profiles without any structure."""
    rng = np.random.default_rng(seed)
    counts = csr_matrix(rng.poisson(rng.gamma(1, 4, (n_cells, n_genes))).astype(np.int32))
    profiles = Mixture(rng.dirichlet(np.ones(n_genes), n_clusters), rng.dirichlet(np.ones(n_genes), n_clusters))
    return counts, np.arange(n_cells) % n_clusters, rng.uniform(0.05, 0.6, n_cells), profiles


def log_likelihood(counts: csr_matrix, cluster: np.ndarray, theta: np.ndarray, profiles: Mixture) -> np.ndarray:
    """Per cell, from the dense mixture."""
    mixed = theta[:, None] * profiles.own[cluster] + (1 - theta[:, None]) * profiles.ambient[cluster]
    dense = counts.toarray()
    return np.where(dense > 0, dense * np.log(np.where(dense > 0, mixed, 1)), 0).sum(axis=1)


def test_published_updates_as_loops_over_cells_and_genes():
    counts, cluster, _, _ = tiny()
    x, n = counts.toarray(), counts.toarray().sum(axis=1)
    theta = np.random.default_rng(5).beta(10, 10, size=len(n))
    own = np.full((3, 8), 1e-20)
    for j, k in enumerate(cluster):
        own[k] += theta[j] * x[j]
    eta = np.array([own.sum(axis=0) - own[k] for k in range(3)])
    phi, eta = own / own.sum(axis=1, keepdims=True), eta / eta.sum(axis=1, keepdims=True)
    for _ in range(4):
        own, native = np.zeros((3, 8)), np.zeros(len(n))
        for j, k in enumerate(cluster):
            for g in range(8):
                mine = theta[j] * phi[k, g]
                expected = x[j, g] * mine / (mine + (1 - theta[j]) * eta[k, g])
                own[k, g] += expected
                native[j] += expected
        eta = np.array([own.sum(axis=0) - own[k] for k in range(3)])
        phi, eta = own / own.sum(axis=1, keepdims=True), eta / eta.sum(axis=1, keepdims=True)
        a, b, _, _ = beta.fit(native / n, floc=0, fscale=1)
        theta = (native + a) / (n + a + b)
    fit = fit_to_others(counts, cluster, Decontx(max_iterations=4, tolerance=1e-12), seed=5)
    np.testing.assert_allclose(fit.mixture.own, phi, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(fit.mixture.ambient, eta, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(fit.prior, [a, b], rtol=1e-3)


@pytest.mark.parametrize("shape", [(9.0, 1.0), (0.7, 3.0), (60.0, 40.0)])
def test_beta_fit_is_the_maximum_of_the_likelihood(shape: tuple[float, float]):
    shares = np.random.default_rng(0).beta(*shape, 400)
    np.testing.assert_allclose(fit_beta(shares), beta.fit(shares, floc=0, fscale=1)[:2], rtol=1e-3)


def test_theta_is_the_maximum_of_each_cells_posterior():
    counts, cluster, share, profiles = tiny()
    prior = np.column_stack([3 * (1 - share) / share, np.full(len(share), 3.0)])
    found = infer_theta(counts, cluster, profiles, prior, Decontx(max_iterations=20000, tolerance=1e-12))
    for j in range(len(share)):

        def minus_posterior(theta: float, j: int = j) -> float:
            likelihood = log_likelihood(counts[[j]], cluster[[j]], np.array([theta]), profiles)[0]
            return -(likelihood + prior[j, 0] * np.log(theta) + prior[j, 1] * np.log(1 - theta))

        best = minimize_scalar(minus_posterior, bounds=(1e-6, 1 - 1e-6), method="bounded", options={"xatol": 1e-9})
        assert found[j] == pytest.approx(best.x, abs=1e-5)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_likelihood_never_falls(seed: int):
    counts, cluster, share, profiles = tiny(seed)
    bounds = []
    for iterations in range(1, 8):
        params = Decontx(max_iterations=iterations, tolerance=1e-12)
        fitted, _ = fit_to_empty(counts, cluster, profiles.ambient[0], share, params)
        bounds.append(log_likelihood(counts, cluster, 1 - share, fitted).sum())
    assert (np.diff(bounds) > -1e-9 * np.abs(bounds[:-1])).all()


# Mean shares of 1.5, 4, 9, 17, 28 and 40 %; with small cells the share differs much between cells.
@pytest.mark.parametrize(
    ("ambient", "small_share"), [(30, 0.0), (30, 0.3), (200, 0.0), (200, 0.3), (400, 0.3), (1500, 0.0)]
)
def test_known_shares_are_recovered(ambient: float, small_share: float):
    made = droplets(ambient, small_share)
    found = decontx.correct(sample_of(made), PARAMS, 0, 1)
    assert abs(found.share.mean() - truth(made).mean()) < 0.02
    # The soup of a droplet is log-normal: what its counts alone would say is further off where there is much of it.
    totals = np.asarray(sample_of(made).counts.sum(axis=1)).ravel()
    by_size = np.minimum(found.facts["empty_counts"] / totals, 0.95)
    assert np.abs(found.share - truth(made)).mean() < np.abs(by_size - truth(made)).mean() + 0.002
    assert found.facts["empty_counts"] == pytest.approx(made.obs.loc[~made.obs["cell"], "ambient"].mean(), rel=0.03)


def test_the_published_inference_does_not_recover_them():
    """Why the empty droplets' size is used: what is published takes a third of these counts for ambient."""
    made = droplets(30)
    found = decontx.correct(sample_of(made, raw=False), PARAMS, 0, 1)
    assert found.share.mean() > truth(made).mean() + 0.05
    assert "is far too high" in found.notes[0]


def test_the_published_inference_recovers_populations_without_shared_genes():
    rng = np.random.default_rng(1)
    cluster = np.arange(240) % 3
    own = np.zeros((3, 150))
    for k in range(3):
        own[k, 50 * k : 50 * k + 50] = rng.dirichlet(np.ones(50))
    share = rng.beta(4, 36, 240)
    dense = [
        rng.multinomial(800 - a, own[k]) + rng.multinomial(a, own[np.arange(3) != k].mean(axis=0))
        for k, a in zip(cluster, rng.binomial(800, share), strict=True)
    ]
    counts = csr_matrix(np.array(dense, dtype=np.int32))
    fit = fit_to_others(counts, cluster, Decontx(), seed=0)
    theta = infer_theta(counts, cluster, fit.mixture, np.tile(fit.prior, (240, 1)), Decontx())
    _, found = decontx.own_counts(counts, cluster, theta, fit.mixture)
    assert np.abs(found - share).mean() < 0.01


def correlations(found: csr_matrix, true: csr_matrix) -> np.ndarray:
    """Per cell, over the genes, of log-normalised counts."""

    def logged(counts: csr_matrix) -> np.ndarray:
        dense = counts.toarray().astype(float)
        return np.log1p(1e4 * dense / np.maximum(dense.sum(axis=1, keepdims=True), 1))

    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(logged(found), logged(true), strict=True)])


@pytest.mark.parametrize("ambient", [60, 400])
def test_corrected_counts_are_nearer_to_the_truth(ambient: float):
    made = droplets(ambient, 0.0, SHARP)
    sample, true = sample_of(made), made.own[made.obs["cell"].to_numpy()]
    found = decontx.correct(sample, PARAMS, 0, 1)
    raw, corrected = correlations(sample.counts, true), correlations(found.counts, true)
    assert corrected.mean() > raw.mean() + 0.002
    assert (corrected > raw).mean() > 0.9


def test_one_cell_type_is_left_as_it_is():
    """Its soup is its own profile: the share comes from the droplets' size, and no count can be told from another."""
    made = droplets(90, 0.0, ALONE)
    sample = sample_of(made)
    found = decontx.correct(sample, PARAMS, 0, 1)
    assert abs(found.share.mean() - truth(made).mean()) < 0.02
    true = made.own[made.obs["cell"].to_numpy()]
    assert correlations(found.counts, true).mean() > correlations(sample.counts, true).mean() - 0.01


def test_without_empty_droplets_distinct_types_tell_the_share_and_one_type_tells_nothing():
    made = droplets(400, 0.0, SHARP)
    found = decontx.correct(sample_of(made, raw=False), PARAMS, 0, 1)
    assert abs(found.share.mean() - truth(made).mean()) < 0.03
    alone = sample_of(droplets(90, 0.0, ALONE), raw=False)
    found = decontx.correct(alone, PARAMS, 0, 1)
    assert found.facts["n_populations"] == 1 and np.isnan(found.share).all()
    assert (found.counts != alone.counts).nnz == 0


def test_too_few_cells_for_populations_and_no_empty_droplets():
    counts = csr_matrix(np.random.default_rng(0).poisson(3, (5, 30)).astype(np.int32))
    curve = rank_curve(np.asarray(counts.sum(axis=1)).ravel(), np.ones(5))
    sample = AmbientSample("S", counts, None, None, np.ones(5, dtype=bool), None, curve, None, None)
    found = decontx.correct(sample, PARAMS, 0, 1)
    assert (found.counts != counts).nnz == 0 and np.isnan(found.share).all()
    assert "of one population" in found.notes[0]


def test_cells_that_failed_qc_are_corrected_and_teach_nothing():
    made = droplets(250, 0.3)
    everybody = sample_of(made)
    passed = ~made.obs.loc[made.obs["cell"], "small"].to_numpy()
    found = decontx.correct(sample_of(made, passed=passed), PARAMS, 0, 1)
    assert np.isfinite(found.share).all()
    assert np.abs(found.share - truth(made))[~passed].mean() < 0.15
    assert (found.counts[~passed] != everybody.counts[~passed]).nnz
    # What the others hold does not change what those learn that passed.
    shuffled = sample_of(made, passed=passed)
    counts = shuffled.counts.toarray()
    counts[~passed] = counts[~passed][:, ::-1]
    other = AmbientSample(**{**shuffled.__dict__, "counts": csr_matrix(counts)})
    again = decontx.correct(other, PARAMS, 0, 1).share
    np.testing.assert_allclose(again[passed], found.share[passed], atol=5 * PARAMS.decontx.tolerance)
    assert np.abs(again - found.share)[~passed].max() > 0.05


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_corrected_counts_lie_between_nothing_and_the_raw(seed: int, scale: float):
    counts, cluster, share, profiles = tiny(seed)
    theta = 1 - scale * share
    found, estimated = decontx.own_counts(counts, cluster, theta, profiles)
    check_correction(counts, found)
    x = counts.toarray()
    mine = theta[:, None] * profiles.own[cluster]
    expected = x * mine / (mine + (1 - theta[:, None]) * profiles.ambient[cluster])
    assert (np.abs(found.toarray() - expected) <= 0.5 + 1e-9).all()
    np.testing.assert_allclose(estimated, 1 - expected.sum(axis=1) / x.sum(axis=1), atol=1e-12)
    if scale == 0:
        assert (found != counts).nnz == 0


def test_without_ambient_counts_nothing_is_taken():
    made = droplets(1.5)
    found = decontx.correct(sample_of(made), PARAMS, 0, 1)
    assert found.share.mean() < 0.005
    before = sample_of(made).counts.sum()
    assert (before - found.counts.sum()) / before < 0.002


def test_cells_without_counts():
    made = droplets(90)
    sample = sample_of(made)
    counts = sample.counts.toarray()
    counts[[0, -1]] = 0
    passed = np.ones(len(counts), dtype=bool)
    passed[[0, -1]] = False
    found = decontx.correct(
        AmbientSample(**{**sample.__dict__, "counts": csr_matrix(counts), "passed": passed}), PARAMS, 0, 1
    )
    assert np.isnan(found.share[[0, -1]]).all() and np.isfinite(found.share[1:-1]).all()


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch):
    made = droplets(250)
    whole = decontx.correct(sample_of(made), PARAMS, 0, 1)
    monkeypatch.setattr(mixture, "_BLOCK", 777)
    parts = decontx.correct(sample_of(made), PARAMS, 0, 1)
    np.testing.assert_allclose(parts.share, whole.share, atol=1e-9)
    assert abs(parts.counts - whole.counts).sum() <= 2


def test_size_of_an_empty_droplet_among_junk_barcodes():
    rng = np.random.default_rng(0)
    soup = rng.poisson(rng.lognormal(np.log(60), 0.3, 20_000))
    junk, cells = rng.geometric(0.6, 200_000), rng.poisson(rng.lognormal(np.log(3000), 0.5, 800))
    totals = np.concatenate([soup, junk, cells])
    found = empty_droplets(rank_curve(totals, np.arange(len(totals)) >= 220_000))
    assert found is not None
    assert found.mean == pytest.approx(soup.mean(), rel=0.05)
    assert found.cv == pytest.approx(0.3, abs=0.05)
    assert empty_droplets(rank_curve(cells, np.ones(800))) is None


def write_sample(folder: Path, made: Droplets, raw: bool = True) -> dict[str, Path]:
    """The files that the job before leaves."""
    given_ = sample_of(made, raw)
    index = pd.Index([f"S_{barcode}" for barcode in given_.barcodes], name="cell")
    var = made.var[["ensembl", "symbol"]]
    if raw:
        var = var.assign(ambient=given_.profile)
    files = {name: folder / f"{name}.h5ad" for name in ("counts", "cells", "droplets")}
    ad.AnnData(given_.counts, obs=pd.DataFrame(index=index), var=var).write_h5ad(files["counts"])
    keep = np.arange(len(index)) % 10 > 0
    pd.DataFrame({"barcode": given_.barcodes, "keep": keep}, index=index).to_parquet(files["cells"])
    given_.curve.to_parquet(files["droplets"])
    return files


def outputs(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    return {
        "corrected": folder / "corrected.h5ad",
        "facts": folder / "ambient.json",
        "shares": folder / "ambient.parquet",
    }


def test_files_of_a_sample(tmp_path: Path):
    made = droplets(90)
    files = write_sample(tmp_path, made)
    told = []
    for run in ("first", "again"):
        to = outputs(tmp_path / run)
        facts = remove_ambient("S", "raw.h5", files, lambda: None, PARAMS, 0, 1, to, tmp_path / "work")
        corrected, raw = ad.read_h5ad(to["corrected"]), ad.read_h5ad(files["counts"])
        assert corrected.obs_names.equals(raw.obs_names) and corrected.var.equals(raw.var)
        assert corrected.X.dtype == np.int32
        check_correction(raw.X, corrected.X)
        assert json.loads(to["facts"].read_text()) == facts
        assert facts["method"] == "decontx" and abs(facts["share"] - truth(made).mean()) < 0.02
        assert 0 < facts["removed"] < facts["share"]
        shares = pd.read_parquet(to["shares"])
        assert shares.index.equals(raw.obs_names) and list(shares) == ["ambient_share"]
        told.append((facts, shares["ambient_share"].tolist(), corrected.X.sum(), to["shares"].read_bytes()))
    assert told[0] == told[1]


def test_a_method_that_needs_empty_droplets(tmp_path: Path):
    files = write_sample(tmp_path, droplets(90), raw=False)
    to = outputs(tmp_path / "out")
    with pytest.raises(InputError) as error:
        remove_ambient(
            "S", "filtered.h5", files, lambda: None, Ambient(method="cellbender"), 0, 1, to, tmp_path / "work"
        )
    (problem,) = error.value.problems
    assert problem.file == "filtered.h5" and "'S'" in problem.what and "decontx" in problem.hint
    assert not any(path.exists() for path in to.values())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.array([[1, 3]], dtype=np.int32), "above the raw"),
        (np.array([[-1, 1]], dtype=np.int32), "below zero"),
        (np.array([[1.0, 1.0]]), "not int32"),
        (np.array([[1, 1, 0]], dtype=np.int32), "shape"),
    ],
)
def test_corrections_are_checked(wrong: np.ndarray, said: str):
    with pytest.raises(ValueError, match=said):
        check_correction(csr_matrix(np.array([[1, 2]], dtype=np.int32)), csr_matrix(wrong))


@pytest.mark.parametrize("name", METHODS)
def test_registered_methods(name: str):
    module = method(name)
    assert isinstance(module.TITLE, str) and isinstance(module.GPU, bool) and isinstance(module.NEEDS_RAW, bool)
    assert callable(module.correct)
    assert Correction.__name__ in str(module.correct.__annotations__["return"])
