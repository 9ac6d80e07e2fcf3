"""Cell calling: the EmptyDrops test against brute force and the paper's properties, and what is done around it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from count_cases import MIRROR, needs_mirror
from scipy.sparse import csr_matrix, vstack
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial, kstest

from latentomics.config.cells import Cells
from latentomics.config.sheet import InputRow
from latentomics.io.readers import as_counts, read_sample
from latentomics.scrna.droplets import emptydrops
from latentomics.scrna.droplets.calling import Calling, call_cells
from latentomics.scrna.droplets.emptydrops import (
    ALPHA_RANGE,
    estimate_alpha,
    log_probabilities,
    monte_carlo_p_values,
    of_total,
    pool,
)
from latentomics.simulate.droplets import DropletParams, Droplets, simulate_droplets

N_GENES = 60
PROFILE = np.random.default_rng(1).dirichlet(np.full(N_GENES, 0.5)) * 0.99 + 0.01 / N_GENES


def ambient(totals: np.ndarray, alpha: float, seed: int, profile: np.ndarray = PROFILE) -> np.ndarray:
    """Droplets of ambient RNA by the other way to draw them: each has a profile of its own from the Dirichlet."""
    rng = np.random.default_rng(seed)
    return np.array(
        [rng.multinomial(t, p) for t, p in zip(totals, rng.dirichlet(alpha * profile, len(totals)), strict=True)]
    )


def p_values(
    counts: np.ndarray, alpha: float, n: int = 2000, seed: int = 0, profile: np.ndarray = PROFILE
) -> np.ndarray:
    sparse, totals = csr_matrix(counts), counts.sum(axis=1)
    log_probs = log_probabilities(sparse, np.ones(len(counts), dtype=bool), profile, alpha)
    return monte_carlo_p_values(totals, log_probs, profile, alpha, n, np.random.default_rng(seed))


# ---------------------------------------------------------------- the test


@pytest.mark.parametrize("alpha", [0.5, 20.0, 5000.0])
@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_log_probability_is_that_of_scipy(alpha, block, monkeypatch):
    monkeypatch.setattr(emptydrops, "_BLOCK", block)
    counts = ambient(np.array([1, 5, 40, 200, 300]), 50, 0)
    totals, rows = counts.sum(axis=1), np.array([True, True, False, True, True])
    found = log_probabilities(csr_matrix(counts), rows, PROFILE, alpha) + of_total(totals[rows], alpha)
    expected = [
        dirichlet_multinomial(alpha * PROFILE, n).logpmf(x) for x, n in zip(counts[rows], totals[rows], strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert pool(csr_matrix(counts), rows).tolist() == counts[rows].sum(axis=0).tolist()


@pytest.mark.parametrize("alpha", [3.0, 200.0, 10000.0])
def test_p_values_agree_with_brute_force(alpha):
    """Brute force: a Dirichlet, a multinomial and SciPy's probability for each simulated droplet and each total."""
    observed = np.vstack([ambient(np.array([20, 20, 35, 80]), a, 3) for a in (alpha, alpha / 20)])
    found = p_values(observed, alpha, 40_000)
    for counts, p in zip(observed, found, strict=True):
        model = dirichlet_multinomial(alpha * PROFILE, counts.sum())
        drawn = ambient(np.full(4000, counts.sum()), alpha, 4)
        below = (model.logpmf(drawn) <= model.logpmf(counts) + 1e-9).mean()
        assert p == pytest.approx(below, abs=4 * np.sqrt(below * (1 - below) / 4000) + 2e-3)


def test_equal_probabilities_are_equal():
    """Two genes alike: the probability of a droplet is exactly known, and half of all draws tie."""
    profile = np.array([0.5, 0.5])
    counts = np.array([[2, 0], [1, 1], [0, 2]])
    # As a multinomial (alpha at its largest): the uneven two have 1/4 each and no draw less, the even one 1/2.
    assert p_values(counts, 1e4, 20_000, profile=profile) == pytest.approx([0.5, 1.0, 0.5], abs=0.02)
    assert p_values(np.array([[7], [30]]), 50.0, profile=np.ones(1)).tolist() == [1, 1], "one gene says nothing"


@pytest.mark.parametrize("alpha", [30.0, 10000.0])
def test_p_values_of_ambient_droplets_are_uniform(alpha):
    totals = np.random.default_rng(5).integers(100, 400, 1500)
    found = p_values(ambient(totals, alpha, 6), alpha)
    assert kstest(found, "uniform").pvalue > 0.001
    for level in (0.01, 0.05, 0.2):
        assert (found <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level / 1500))


def test_ignoring_overdispersion_calls_ambient_droplets():
    """The reason for alpha: clumped ambient RNA against a multinomial looks like cells."""
    drawn = ambient(np.full(300, 200), 30.0, 7)
    assert (p_values(drawn, 10000.0) < 0.01).mean() > 0.5 > 0.05 > (p_values(drawn, 30.0) < 0.01).mean()


def mixed(share: float, total: int, n: int, seed: int) -> np.ndarray:
    """Droplets with a share of their counts from another profile: that of the reversed genes by abundance."""
    rng = np.random.default_rng(seed)
    other = np.empty(N_GENES)
    other[np.argsort(PROFILE)] = np.sort(PROFILE)[::-1]
    return rng.multinomial(total, (1 - share) * PROFILE + share * other, n)


def test_p_values_fall_with_the_distance_from_the_ambient_profile():
    found = [p_values(mixed(share, 200, 200, 8), 10000.0).mean() for share in (0, 0.01, 0.02, 0.04, 0.1)]
    assert (np.diff(found) < 0).all() and found[0] == pytest.approx(0.5, abs=0.1) and found[-1] < 0.01


def test_larger_totals_have_more_power():
    found = [(p_values(mixed(0.02, total, 400, 9), 10000.0) < 0.05).mean() for total in (30, 100, 300, 1000, 3000)]
    assert (np.diff(found) > 0).all() and found[-1] > 0.9


def test_p_values_do_not_depend_on_who_else_is_tested_and_are_the_same_twice():
    counts = np.vstack([ambient(np.array([90, 50, 90, 130]), 50.0, 10), mixed(0.5, 90, 2, 11)])
    one, two = p_values(counts, 50.0, seed=3), p_values(counts, 50.0, seed=3)
    assert one.tobytes() == two.tobytes() and one.tobytes() != p_values(counts, 50.0, seed=4).tobytes()
    order = np.array([5, 0, 3, 2, 4, 1])
    assert p_values(counts[order], 50.0, seed=3).tolist() == one[order].tolist()
    assert not len(p_values(np.zeros((0, N_GENES), dtype=int), 50.0))


@pytest.mark.parametrize("alpha", [5.0, 80.0, 900.0])
def test_alpha_is_recovered(alpha, monkeypatch):
    counts = ambient(np.random.default_rng(12).integers(20, 100, 4000), alpha, 13)
    sparse, totals = csr_matrix(counts), counts.sum(axis=1)
    empty = np.ones(4000, dtype=bool)
    found = estimate_alpha(sparse, totals, empty, PROFILE)
    assert found == pytest.approx(alpha, rel=0.1)

    def log_likelihood(a: float) -> float:
        prior = a * PROFILE
        of_genes = (gammaln(counts + prior) - gammaln(prior)).sum()
        return of_genes + (gammaln(a) - gammaln(totals + a)).sum()

    assert log_likelihood(found) >= max(log_likelihood(found * factor) for factor in (0.99, 1.01))
    monkeypatch.setattr(emptydrops, "_BLOCK", 100)
    assert estimate_alpha(sparse, totals, empty, PROFILE) == found


def test_alpha_of_independent_molecules_is_as_large_as_it_may_be():
    counts = np.random.default_rng(14).multinomial(60, PROFILE, 3000)
    found = estimate_alpha(csr_matrix(counts), counts.sum(axis=1), np.ones(3000, dtype=bool), PROFILE)
    assert 1000 < found <= ALPHA_RANGE[1]


# ---------------------------------------------------------------- calling


def swapped(droplets: Droplets, seed: int, share: float = 0.1) -> csr_matrix:
    """Counts whose cells have a tenth of their genes permuted, as in the paper's simulations: no cell is like the soup."""
    rng = np.random.default_rng(seed)
    genes = np.arange(droplets.own.shape[1])
    chosen = rng.choice(genes, int(share * len(genes)), replace=False)
    genes[chosen] = rng.permutation(chosen)
    return csr_matrix(droplets.counts - droplets.own + droplets.own[:, genes])


@pytest.fixture(scope="module")
def droplets() -> Droplets:
    return simulate_droplets(DropletParams(seed=0, small_factor=0.25))


@pytest.fixture(scope="module")
def raw(droplets) -> csr_matrix:
    return swapped(droplets, 0)


@pytest.fixture(scope="module")
def calling(raw) -> Calling:
    return call_cells(raw, Cells(), 0, None)


def test_cells_of_known_truth_are_found(calling, raw, droplets):
    """Sensitivity for cells above twice the ambient depth, and false cells, beside those of a cut at the knee."""
    totals, cell = np.asarray(raw.sum(axis=1)).ravel(), droplets.obs["cell"].to_numpy()
    small, judged = droplets.obs["small"].to_numpy(), cell & (totals > 2 * DropletParams().ambient_median)
    assert calling.called[judged].mean() >= 0.95 and (calling.called & ~cell).sum() <= 0.01 * calling.called.sum()
    knee = totals >= calling.facts["knee"]
    assert knee[judged].mean() < 0.75 and knee[small].mean() < 0.05 and not knee[~cell].any()
    assert calling.called[small].mean() > 0.85


def test_what_a_calling_says(calling, raw, droplets):
    totals, facts, table = np.asarray(raw.sum(axis=1)).ravel(), calling.facts, calling.table
    assert calling.state == "raw" and "at most 100 counts" in calling.why
    assert facts["n_barcodes"] == 20_500 and facts["method"] == "emptydrops" and facts["notes"] == []
    assert facts["n_tested"] == (totals > 100).sum() == len(table)
    assert facts["n_called"] == calling.called.sum() == table["called"].sum()
    assert facts["n_above_knee"] == (totals >= facts["knee"]).sum()
    assert facts["n_called_below_knee"] == facts["n_called"] - facts["n_above_knee"]
    assert facts["ambient_counts"] == totals[totals <= 100].sum() and facts["retain"] == facts["knee"]
    assert list(table.columns) == ["total", "log_probability", "p_value", "fdr", "called"]
    assert (table["total"] == totals[table.index]).all() and (table["called"] == calling.called[table.index]).all()
    assert (table.loc[table["total"] >= facts["knee"], "fdr"] == 0).all()
    assert (table["called"] == (table["fdr"] <= 0.001)).all() and (table["p_value"] > 0).all()
    assert json.loads(json.dumps(facts)) == facts
    assert calling.ambient.sum() == pytest.approx(1)
    assert np.corrcoef(calling.ambient, droplets.var["ambient"])[0, 1] > 0.999


def test_the_same_seed_gives_the_same_calling(raw):
    one, again, other = (call_cells(raw, Cells(n_iterations=1000), seed, None) for seed in (0, 0, 1))
    assert again.table.equals(one.table) and again.facts == one.facts and not other.table.equals(one.table)
    assert again.ambient.tobytes() == one.ambient.tobytes()


def test_retain_is_the_users_word(raw):
    totals = np.asarray(raw.sum(axis=1)).ravel()
    found = call_cells(raw, Cells(retain=130, n_iterations=1000), 0, "raw")
    assert found.why == "said in the sheet" and found.facts["retain"] == 130
    assert found.called[totals >= 130].all()


def test_more_droplets_are_simulated_where_the_smallest_p_value_is_too_large(droplets):
    """40 cells among some 2,700 tested: the smallest of 1,001 p values is above 0.001 * 40 / 2,700."""
    profile = droplets.var["ambient"].to_numpy()
    rng = np.random.default_rng(0)
    empty = np.vstack([rng.multinomial(n, profile) for n in rng.integers(60, 180, 4000)])
    cells = rng.multinomial(400, profile[rng.permutation(len(profile))], 40)
    found = call_cells(csr_matrix(np.vstack([empty, cells])), Cells(n_iterations=1000, retain=10**6), 0, "raw")
    assert found.facts["n_iterations"] > 1000 and found.called[4000:].all() and found.called[:4000].sum() <= 1
    assert not found.facts["notes"]


def test_a_false_discovery_rate_out_of_reach_is_said(droplets, monkeypatch):
    monkeypatch.setattr("latentomics.scrna.droplets.calling._MOST_ITERATIONS", 1000)
    profile = droplets.var["ambient"].to_numpy()
    rng = np.random.default_rng(0)
    empty = np.vstack([rng.multinomial(n, profile) for n in rng.integers(60, 180, 4000)])
    cells = rng.multinomial(400, profile[rng.permutation(len(profile))], 40)
    found = call_cells(csr_matrix(np.vstack([empty, cells])), Cells(n_iterations=1000, retain=10**6), 0, "raw")
    assert not found.called.any()
    assert (
        "raise `cells.n_iterations`" in found.facts["notes"][0]
        and found.facts["notes"][-1] == "no barcode is called a cell."
    )


def test_a_knee_among_the_empty_droplets_is_not_believed(monkeypatch):
    """30 cells: the curve behind rank 50 is all ambient RNA, and what bends there is not the end of the cells."""
    monkeypatch.setattr("latentomics.scrna.droplets.calling._MOST_MOLECULES", 1e8)
    made = simulate_droplets(DropletParams(seed=3, n_cells=30, n_empty=6000))
    found = call_cells(swapped(made, 3), Cells(n_iterations=2000), 0, None)
    assert found.facts["knee"] < 200 and found.facts["retain"] is None
    assert "do not differ from the ambient RNA" in found.facts["notes"][0]
    cell = made.obs["cell"].to_numpy()
    assert found.called[cell].sum() >= 15 and found.called[~cell].sum() <= 1


@pytest.mark.parametrize("method", ["emptydrops", "knee"])
@pytest.mark.parametrize("n_errors", [0, 30, 3000])
@pytest.mark.parametrize("said", [None, "raw"])
def test_plate_of_ten_wells(method, n_errors, said):
    """Reads of ten wells (92 genes, thousands of counts) and barcodes of sequencing errors: the ten, nothing else."""
    rng = np.random.default_rng(15)
    profile = rng.dirichlet(np.full(92, 0.3))
    totals = np.concatenate([rng.integers(400, 6000, 10), rng.integers(1, 6, n_errors)])
    counts = csr_matrix(rng.multinomial(totals, profile))
    found = call_cells(counts, Cells(method=method, n_iterations=1000), 0, said)
    assert found.called.tolist() == [True] * 10 + [False] * n_errors
    assert found.state == ("raw" if n_errors or said else "filtered")
    if n_errors == 30 and method == "emptydrops":
        assert found.ambient is None and "too few for a profile" in found.facts["notes"][0]


@pytest.mark.parametrize("n_errors", [0, 40])
def test_plate_of_many_wells(n_errors):
    """384 wells without a gap among them: a knee is somewhere in their middle, and must not be used."""
    rng = np.random.default_rng(17)
    totals = np.concatenate([rng.lognormal(8.5, 1.0, 384).astype(int) + 150, rng.integers(1, 6, n_errors)])
    counts = csr_matrix(rng.multinomial(totals, rng.dirichlet(np.full(200, 0.3))))
    found = call_cells(counts, Cells(), 0, "raw")
    assert found.called.tolist() == [True] * 384 + [False] * n_errors and len(found.facts["notes"]) == 1


def test_too_few_empty_droplets_without_a_gap_are_cut_at_the_knee():
    """Droplets that someone cut at 80 counts: no profile, and no gap either."""
    rng = np.random.default_rng(18)
    totals = np.concatenate([rng.lognormal(8, 0.4, 500), rng.lognormal(np.log(200), 0.25, 10_000)]).astype(int)
    totals = np.append(totals[totals > 100], np.full(50, 90))
    counts = csr_matrix(rng.multinomial(totals, rng.dirichlet(np.full(50, 0.3))))
    found = call_cells(counts, Cells(), 0, "raw")
    assert (found.called == (totals >= found.facts["knee"])).all() and 200 < found.called.sum() <= 505
    assert "too few for a profile" in found.facts["notes"][0]


def test_a_cut_at_the_knee(raw):
    totals = np.asarray(raw.sum(axis=1)).ravel()
    found = call_cells(raw, Cells(method="knee"), 0, None)
    assert (found.called == (totals >= found.facts["knee"])).all() and found.table.empty
    assert found.ambient.sum() == pytest.approx(1) and found.facts["retain"] == found.facts["knee"]


def test_every_barcode_of_a_filtered_matrix_is_a_cell(raw, droplets):
    cells = raw[droplets.obs["cell"].to_numpy()]
    for counts, params, said in ((cells, Cells(), None), (raw, Cells(), "filtered"), (raw, Cells(method="none"), None)):
        found = call_cells(counts, params, 0, said)
        assert found.called.all() and found.ambient is None and found.table.empty
        assert found.state == ("raw" if params.method == "none" else "filtered")
        assert found.facts["method"] == "none" and found.facts["n_called"] == counts.shape[0]


@pytest.mark.parametrize("method", ["emptydrops", "knee", "none"])
@pytest.mark.parametrize("said", [None, "raw", "filtered"])
def test_odd_matrices(method, said, droplets):
    rng = np.random.default_rng(16)
    odd = {
        "no droplet at `lower` or below": csr_matrix(rng.poisson(3.0, (300, 200))),
        "all zero": csr_matrix((400, 20), dtype=np.int32),
        "nothing above": csr_matrix(rng.poisson(0.5, (500, 50))),
        "one gene": csr_matrix(np.concatenate([np.full(2000, 40), rng.integers(500, 900, 50)])[:, None]),
        "one barcode": csr_matrix(np.full((1, 20), 30)),
        "one zero barcode": csr_matrix((1, 20), dtype=np.int32),
        "no barcode": csr_matrix((0, 20), dtype=np.int32),
        "stored zeros": csr_matrix((np.zeros(3, np.int32), [0, 1, 2], [0, 3, 3]), shape=(2, 3)),
    }
    for name, counts in odd.items():
        found = call_cells(counts, Cells(method=method, n_iterations=1000), 0, said)
        assert len(found.called) == counts.shape[0], name
        assert json.loads(json.dumps(found.facts)) == found.facts, name
        if found.state == "raw" and method != "none" and counts.shape[0]:
            assert not found.called[np.asarray(counts.sum(axis=1)).ravel() == 0].any(), name
            assert found.called.any() or "no barcode is called a cell." in found.facts["notes"], name
            if name == "no droplet at `lower` or below" and method == "emptydrops":
                assert found.called.all() and any("raise `cells.lower`" in note for note in found.facts["notes"])
        elif found.state == "filtered":
            assert found.called.all(), name


def test_genes_seen_only_in_cells_have_a_share_and_unexpressed_ones_none(droplets):
    counts = vstack([csr_matrix(droplets.counts)], format="csr").tolil()
    totals = np.asarray(droplets.counts.sum(axis=1)).ravel()
    counts[:, 5] = 0
    counts[:, 6] = 0
    counts[int(totals.argmax()), 6] = 9
    found = call_cells(counts.tocsr(), Cells(n_iterations=1000), 0, "raw")
    assert found.ambient[5] == 0 and 0 < found.ambient[6] < 1e-4 and found.ambient.sum() == pytest.approx(1)
    assert found.table["log_probability"].notna().all()


@pytest.mark.mirror
@needs_mirror
def test_real_raw_droplets():
    path = Path(MIRROR / "mbrain_raw/raw_feature_bc_matrix")
    adata = as_counts(read_sample([InputRow(row=2, sample="S", assay="scrna", path=path, format="10x_dir")]))
    found = call_cells(adata.X, Cells(n_iterations=2000), 0, None)
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    assert found.state == "raw" and found.facts["notes"] == []
    # A droplet of nothing but haemoglobin is more probable than most: the test is of the probability, and is blind to it.
    assert 140 < found.facts["n_called"] < 180 and found.called[totals >= 1000].mean() > 0.98
