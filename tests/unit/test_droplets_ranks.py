"""The barcode ranks: Good-Turing, the knee, what tells a raw matrix, the curve for the plot."""

from __future__ import annotations

import math
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from count_cases import MIRROR, needs_mirror
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentomics.config.sheet import InputRow
from latentomics.io.readers import read_sample
from latentomics.scrna.droplets.good_turing import good_turing_shares, simple_good_turing
from latentomics.scrna.droplets.ranks import find_bends, rank_curve, steepest_fall
from latentomics.scrna.droplets.recognise import looks_raw
from latentomics.simulate.cells import CellParams, simulate
from latentomics.simulate.droplets import DropletParams, simulate_droplets

# ---------------------------------------------------------------- Good-Turing

#: The prosody data of Gale and Sampson (1995): counts, frequencies, and the r* of their own S code.
PROSODY = [
    *((1, 120, 0.7628079), (2, 40, 1.706448), (3, 24, 2.679796), (4, 13, 3.663988), (5, 15, 4.653366)),
    *((6, 5, 5.645628), (7, 11, 6.63966), (8, 2, 7.634856), (9, 2, 8.63086), (10, 1, 9.627446), (12, 3, 11.62182)),
    *((14, 2, 13.61725), (15, 1, 14.61524), (16, 1, 15.61336), (17, 3, 16.6116), (19, 1, 18.60836), (20, 3, 19.60685)),
    *((21, 2, 20.6054), (23, 3, 22.60264), (24, 3, 23.60133), (25, 3, 24.60005), (26, 2, 25.5988), (27, 2, 26.59759)),
    *((28, 1, 27.59639), (31, 2, 30.59294), (32, 2, 31.59183), (33, 1, 32.59073), (34, 2, 33.58964), (36, 2, 35.58751)),
    *((41, 3, 40.58235), (43, 1, 42.58035), (45, 3, 44.57836), (46, 1, 45.57738), (47, 1, 46.57641), (50, 1, 49.57351)),
    *((71, 1, 70.55399), (84, 1, 83.54229), (101, 1, 100.5272), (105, 1, 104.5237), (121, 1, 120.5097)),
    *((124, 1, 123.507), (146, 1, 145.4879), (162, 1, 161.474), (193, 1, 192.4472), (199, 1, 198.4421)),
    *((224, 1, 223.4205), (226, 1, 225.4188), (254, 1, 253.3947), (257, 1, 256.3922), (339, 1, 338.3218)),
    *((421, 1, 420.2514), (456, 1, 455.2215), (481, 1, 480.2), (483, 1, 482.1983), (1140, 1, 1138.636)),
    *((1256, 1, 1254.537), (1322, 1, 1320.48), (1530, 1, 1528.302), (2131, 1, 2128.788), (2395, 1, 2392.562)),
    *((6925, 1, 6918.687), (7846, 1, 7838.899)),
]


def test_good_turing_gives_the_published_example():
    counts, frequencies, expected = (np.array(column) for column in zip(*PROSODY, strict=True))
    found, unseen = simple_good_turing(counts.astype(int), frequencies.astype(int))
    assert unseen == pytest.approx(0.003883244, abs=1e-9)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def reference(counts: list[int], frequencies: list[int], confidence: float) -> tuple[list[float], float]:
    """Steps 1 to 8 of the paper's algorithm, one frequency at a time."""
    n_of = dict(zip(counts, frequencies, strict=True))
    total = sum(r * n for r, n in n_of.items())
    xs, ys = [], []
    for i, r in enumerate(counts):
        q = counts[i - 1] if i else 0
        t = counts[i + 1] if i + 1 < len(counts) else 2 * r - q
        xs.append(math.log(r))
        ys.append(math.log(n_of[r] / (0.5 * (t - q))))
    b = float(np.polyfit(xs, ys, 1)[0])
    a = float(np.polyfit(xs, ys, 1)[1])
    stars, turing = [], True
    for r in counts:
        smooth = (r + 1) * math.exp(a + b * math.log(r + 1)) / math.exp(a + b * math.log(r))
        if turing and r + 1 in n_of:
            x = (r + 1) * n_of[r + 1] / n_of[r]
            error = math.sqrt((r + 1) ** 2 * n_of[r + 1] / n_of[r] ** 2 * (1 + n_of[r + 1] / n_of[r]))
            turing = abs(x - smooth) > confidence * error
        else:
            turing = False
        stars.append(x if turing else smooth)
    p0 = n_of.get(1, 0) / total
    scale = (1 - p0) * total / sum(n_of[r] * star for r, star in zip(counts, stars, strict=True))
    return [star * scale for star in stars], p0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=3, max_size=400).filter(lambda x: len(set(x)) > 1))
def test_good_turing_agrees_with_the_paper_step_by_step(observed):
    frequencies = Counter(observed)
    counts = sorted(frequencies)
    expected, p0 = reference(counts, [frequencies[r] for r in counts], 1.96)
    found, unseen = simple_good_turing(np.array(counts), np.array([frequencies[r] for r in counts]))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert unseen == pytest.approx(p0)


def test_turing_estimates_are_used_where_they_differ():
    """Many genes seen once or twice and a frequent rest: the line does not fit the low counts, Turing's numbers stand."""
    counts, frequencies = np.array([1, 2, 3, 50, 60]), np.array([20000, 500, 400, 3, 2])
    raw = simple_good_turing(counts, frequencies)[0]
    assert raw[1] / raw[0] == pytest.approx((3 * 400 / 500) / (2 * 500 / 20000))
    assert simple_good_turing(counts, frequencies, confidence=1e9)[0][1] != pytest.approx(raw[1])


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 30)).filter(np.any))
def test_shares_are_positive_and_sum_to_one(counts):
    shares = good_turing_shares(counts)
    assert (shares > 0).all() and shares.sum() == pytest.approx(1)
    for value in np.unique(counts):
        assert np.ptp(shares[counts == value]) == 0, "genes of the same count have the same share"


def test_genes_never_counted_share_what_was_counted_once():
    counts = np.array([0] * 40 + [1] * 30 + [2] * 12 + [3] * 6 + [9, 20, 40])
    shares = good_turing_shares(counts)
    assert shares[:40].sum() == pytest.approx(30 / counts.sum())
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(5000, 0.05))
    drawn = rng.multinomial(20000, truth)
    assert good_turing_shares(drawn)[drawn == 0].sum() == pytest.approx(truth[drawn == 0].sum(), rel=0.15)


# ---------------------------------------------------------------- knee and inflection


def bent(n_cells: int = 1000, n_empty: int = 20000, cells: float = 5000.0, empty: float = 50.0) -> np.ndarray:
    """A curve of straight lines: cells down to ``cells`` counts, a fall of a factor of 20 over ranks 1 to 1.5, empties."""
    ranks = np.arange(1, n_cells + n_empty + 1)
    knots = np.log([1, n_cells, 1.5 * n_cells, n_cells + n_empty])
    heights = np.log([2 * cells, cells, cells / 20, empty])
    return np.round(np.exp(np.interp(np.log(ranks), knots, heights))).astype(np.int64)


@pytest.mark.parametrize(("n_cells", "cells"), [(200, 2000.0), (1000, 5000.0), (3000, 20000.0)])
def test_knee_is_where_the_curve_bends(n_cells, cells):
    totals = bent(n_cells, 30000, cells)
    bends = find_bends(np.random.default_rng(0).permutation(totals), 100)
    assert bends.knee == pytest.approx(cells, rel=0.02)
    assert cells / 20 * 0.98 <= bends.inflection < cells


def literal_bends(totals: np.ndarray, lower: int, exclude_from: int = 50) -> tuple[float, float]:
    """``barcodeRanks`` of DropletUtils, one barcode at a time."""
    runs = Counter(int(t) for t in totals)
    x, y, before = [], [], 0
    for value in sorted(runs, reverse=True):
        if value > lower:
            x.append(math.log10(before + (runs[value] + 1) / 2))
            y.append(math.log10(value))
        before += runs[value]
    slopes = [(y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(len(x) - 1)]
    skip = min(len(slopes) - 1, sum(v <= math.log10(exclude_from) for v in x))
    right = min(range(skip, len(slopes)), key=lambda i: slopes[i])
    left = max(range(skip, right + 1), key=lambda i: slopes[i])
    if right - left + 1 < 4:
        return 10 ** y[left], 10 ** y[right]
    gradient = (y[right] - y[left]) / (x[right] - x[left])
    intercept = y[left] - x[left] * gradient
    best, knee = -1.0, 0.0
    for i in range(left, right + 1):
        distance = abs(gradient * x[i] - y[i] + intercept) / math.sqrt(gradient**2 + 1)
        if y[i] >= x[i] * gradient + intercept - 1e-12 and distance > best:
            best, knee = distance, 10 ** y[i]
    return knee, 10 ** y[right]


@pytest.mark.parametrize("seed", range(5))
def test_bends_agree_with_dropletutils_step_by_step(seed):
    rng = np.random.default_rng(seed)
    totals = np.concatenate(
        [rng.lognormal(8, 0.6, 400), rng.lognormal(5.5, 0.5, 200), rng.lognormal(3.5, 0.7, 5000)]
    ).astype(np.int64)
    found = find_bends(totals, 100)
    assert tuple(found) == pytest.approx(literal_bends(totals, 100))


@pytest.mark.parametrize("n_wells", [1, 2, 10, 48, 96, 384])
@pytest.mark.parametrize("seed", [0, 1])
def test_wells_of_a_plate_end_where_the_curve_falls(n_wells, seed):
    rng = np.random.default_rng(seed)
    wells = rng.integers(1000, 9000, n_wells)
    totals = rng.permutation(np.concatenate([wells, rng.integers(1, 6, 40), [0, 0]]))
    assert steepest_fall(totals, 100) == wells.min()
    if n_wells < 100:
        assert find_bends(totals, 100) == (wells.min(), wells.min())


def test_no_bend_without_barcodes_on_both_sides():
    for totals in ([], [0, 0], [5, 5, 1], [500, 900, 0]):
        assert steepest_fall(np.array(totals, dtype=np.int64), 100) is None
        assert find_bends(np.array(totals, dtype=np.int64), 100) is None
    assert find_bends(np.repeat([500, 700, 1], 300), 100) is None, "two points are no curve"


# ---------------------------------------------------------------- the curve of the plot


def test_rank_curve_of_few_barcodes_is_exact():
    totals, called = np.array([9, 0, 50, 3, 50, 9, 9]), np.array([1, 0, 1, 0, 0, 0, 0], dtype=bool)
    curve = rank_curve(totals, called)
    assert curve["total"].tolist() == [50, 50, 9, 9, 9, 3]
    assert curve["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    # Which of equal barcodes comes first says nothing: they share what is called of them.
    assert curve["called"].tolist() == pytest.approx([0.5, 0.5, 1 / 3, 1 / 3, 1 / 3, 0])


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int64, st.integers(0, 3000), elements=st.integers(0, 500)), st.integers(2, 200), st.data())
def test_rank_curve_keeps_its_sums(totals, points, data):
    called = data.draw(hnp.arrays(bool, len(totals)))
    curve = rank_curve(totals, called, points)
    assert list(curve.columns) == ["rank", "total", "called"] and len(curve) <= points
    widths = []
    for rank in curve["rank"]:
        widths.append(2 * (rank - sum(widths)) - 1)
    n = np.count_nonzero(totals)
    assert sum(widths) == n
    assert (curve["total"] * widths).sum() == pytest.approx(totals.sum())
    assert (curve["called"] * widths).sum() == pytest.approx(called[totals > 0].sum())
    assert (np.diff(curve["total"]) <= 1e-9).all()


def test_rank_curve_is_thinned_evenly_on_the_logarithm():
    totals = np.arange(1, 1_000_001)
    curve = rank_curve(totals, totals > 990_000, 500)
    assert len(curve) <= 500 and curve["rank"].iloc[0] == 1
    steps = np.diff(np.log(curve["rank"][curve["rank"] > 1000]))
    assert steps.max() < 1.2 * steps.min()
    assert (
        curve.loc[curve["rank"] < 9000, "called"].eq(1).all() and curve.loc[curve["rank"] > 11000, "called"].eq(0).all()
    )


# ---------------------------------------------------------------- raw or filtered

rng = np.random.default_rng(0)
ERRORS = rng.integers(1, 6, 40)
CASES = {
    "10x raw": (True, np.concatenate([rng.lognormal(8, 0.6, 3000), rng.geometric(0.1, 700_000)])),
    "raw, all its whitelist": (True, np.concatenate([rng.lognormal(8, 0.6, 800), np.zeros(50_000), [1, 2, 2, 30]])),
    "raw, ambient RNA around `lower`": (
        True,
        np.concatenate([rng.lognormal(8, 0.6, 500), rng.lognormal(4.8, 0.3, 20_000)]),
    ),
    "raw, 30 cells": (True, np.concatenate([rng.lognormal(8, 0.6, 30), rng.lognormal(4, 0.3, 20_000)])),
    "reads, thousands of barcodes of one UMI": (True, np.concatenate([rng.integers(800, 5000, 10), np.ones(4000)])),
    "reads of a plate, some errors": (True, np.concatenate([rng.integers(800, 5000, 10), ERRORS])),
    "reads of a large plate, some errors": (True, np.concatenate([rng.integers(800, 5000, 350), ERRORS])),
    "a run that failed": (True, rng.geometric(0.2, 100_000)),
    "10x filtered": (False, rng.lognormal(8, 0.5, 5000) + 500),
    "tissue of very different cells, filtered": (False, np.clip(rng.lognormal(7.5, 1.0, 20_000), 300, None)),
    "Drop-seq filtered": (False, rng.lognormal(10, 0.5, 225)),
    "plate": (False, rng.lognormal(9.5, 0.6, 384)),
    "plate with two empty wells": (False, np.concatenate([rng.lognormal(9.5, 0.6, 382), [4, 60]])),
    "10 wells": (False, rng.integers(400, 1100, 10)),
    "nuclei of few counts": (False, rng.lognormal(5.5, 0.6, 4000)),
    "a panel of few genes": (False, rng.lognormal(4.3, 0.6, 2000)),
    "one barcode": (False, np.array([4000])),
}


@pytest.mark.parametrize("case", CASES)
def test_raw_matrices_are_recognised(case):
    expected, totals = CASES[case]
    raw, why = looks_raw(totals.astype(np.int64), 100)
    assert raw is expected, why
    assert f"{len(totals):,} barcodes" in why and why.endswith(".")


def test_simulated_samples_are_recognised():
    made = simulate(CellParams(seed=3))
    assert looks_raw(np.asarray(made.counts.sum(axis=1)).ravel(), 100)[0] is False
    droplets = simulate_droplets(DropletParams(n_cells=100, n_empty=3000))
    assert looks_raw(np.asarray(droplets.counts.sum(axis=1)).ravel(), 100)[0] is True
    assert looks_raw(np.zeros(0, dtype=np.int64), 100)[0] is False


def mirror_rows(folder: Path) -> dict[str, tuple[bool, Path, str]]:
    with tarfile.open(MIRROR / "pbmc3k/pbmc3k_filtered_gene_bc_matrices.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return {
        "pbmc3k": (False, next(folder.rglob("matrix.mtx*")).parent, "10x_dir"),
        "mbrain_raw": (True, MIRROR / "mbrain_raw/raw_feature_bc_matrix", "10x_dir"),
        "pbmc_3chemistries": (False, MIRROR / "pbmc_3chemistries/pbmc_symphony_1200.h5ad", "h5ad"),
        **{path.stem: (False, path, "h5ad") for path in sorted((MIRROR / "citeseq_pbmc").glob("*.h5ad"))},
        **{path.name: (False, path, "dense") for path in sorted((MIRROR / "sc_mixology").glob("*.count.csv.gz"))},
    }


@pytest.mark.mirror
@needs_mirror
def test_real_matrices_are_recognised(tmp_path):
    rows = mirror_rows(tmp_path)
    assert len(rows) == 10
    for name, (expected, path, form) in rows.items():
        adata = read_sample([InputRow(row=2, sample="S", assay="scrna", path=path, format=form)])
        raw, why = looks_raw(np.asarray(adata.X.sum(axis=1)).ravel().astype(np.int64), 100)
        assert raw is expected, f"{name}: {why}"
        assert isinstance(rank_curve(np.asarray(adata.X.sum(axis=1)).ravel(), np.ones(adata.n_obs, bool)), pd.DataFrame)
