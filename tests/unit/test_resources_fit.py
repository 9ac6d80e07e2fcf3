"""Lines that cover what jobs used, and the table that ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.resources.fit import (
    HIDDEN,
    HIDDEN_ALIKE,
    MEMORY_MARGIN,
    OBSERVED,
    SPREAD,
    fit_line,
    fit_needs,
    observation,
    write_needs,
)
from latentomics.resources.predict import TABLE, Need, need_of, read_needs
from latentomics.resources.quantities import QUANTITIES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
GUESS = Need("embed", "million_values", 500.0, 20.0, "million_values", 20.0, 1.0, 0, 0.0, "guess")
#: Observed jobs whose memory is predicted with more than four times of it, and why that is right.
JUSTIFIED: dict[tuple[str, str], str] = {
    ("sc_mixology", "scrna_sample"): "a dense text table, whose zeros are known once it is read",
}

sizes = st.lists(st.floats(0, 1e4, allow_subnormal=False), min_size=1, max_size=12)
needs = st.floats(1, 1e5)


def jobs(*rows: dict) -> pd.DataFrame:
    common = {"run": "r", "rule": "embed", "job": "embed.pca", "threads": 1, "device": "cpu", "cpu_seconds": 1.0}
    table = pd.DataFrame([{**common, "seconds": 10.0, "peak_mb": 600.0, **row} for row in rows])
    return table.reindex(columns=list(OBSERVED)).fillna(dict.fromkeys(QUANTITIES, 0.0))


@pytest.mark.parametrize(("base", "slope"), [(400, 20), (400, 0.001), (0, 3), (900, 0)])
def test_a_known_line_is_recovered(base, slope):
    x = np.array([0.1, 1, 2, 5, 40])
    found = fit_line(x, base + slope * x + 1e-9, 0.0)
    assert found == pytest.approx((base, slope), abs=1e-5)


def test_the_line_lies_on_the_largest_jobs_of_every_size():
    rng = np.random.default_rng(0)
    x = np.repeat([1.0, 10.0, 100.0], 30)
    used = (300 + 7 * x) * rng.uniform(0.7, 1.0, len(x))
    base, slope = fit_line(x, used, 7.0)
    assert base + slope * 1 == pytest.approx(used[x == 1].max(), rel=0.03)
    assert base + slope * 100 == pytest.approx(used[x == 100].max(), rel=0.03)


@pytest.mark.parametrize("times", [1, 2, 50])
def test_many_jobs_of_one_size_do_not_outweigh_the_others(times):
    """A step in the need, above 20, that no line can follow."""
    x = np.array([*[1.0] * times, 40.0, 80.0, 320.0, 1280.0])
    used = np.where(x > 20, 900, 480) + 2 * x
    base, slope = fit_line(x, used, 0.0)
    assert (base, slope) == pytest.approx((900, 2), rel=1e-6)


@given(st.data(), sizes, st.floats(0, 1e3))
@settings(max_examples=200, deadline=None)
def test_every_observation_is_covered(data, x, guess):
    used = data.draw(st.lists(needs, min_size=len(x), max_size=len(x)))
    base, slope = fit_line(x, used, guess)
    assert base >= 0 and slope >= 0
    assert (base + slope * np.array(x) >= np.array(used) * (1 - 1e-6)).all()


@given(st.floats(1e-3, 1e4), st.floats(1.0, SPREAD * 0.99), needs, needs, st.floats(1e-6, 1e3))
def test_sizes_that_hardly_differ_keep_the_guessed_slope(size, ratio, one, two, guess):
    base, slope = fit_line([size, size * ratio], [one, two], guess)
    most = max(one, two)
    assert slope == pytest.approx(min(guess, HIDDEN_ALIKE * most / (size * ratio)))
    # Half of the need is left to the base: a smaller job is not predicted for nothing.
    assert slope > 0 and base >= (1 - HIDDEN_ALIKE) * most * 0.99 - slope * size * (ratio - 1)
    # A larger one needs more.
    assert base + slope * 100 * size * ratio > most


def test_small_studies_do_not_make_large_ones_free():
    """All the observed memory is that of the libraries; what grows with size hides in it."""
    x, used = [0.01, 0.1, 1.0], [500.0, 505.0, 500.0]
    base, slope = fit_line(x, used, 30.0)
    assert slope == 30.0
    base, slope = fit_line(x, used, 3000.0)
    assert slope == pytest.approx(HIDDEN * 505)
    assert base + slope >= 500


def test_sizes_of_nothing_are_covered_by_the_base():
    assert fit_line([0, 0], [100, 120], 5.0) == (120, 5.0)


@pytest.mark.parametrize(
    ("x", "used", "guess"),
    [
        ([], [], 1.0),
        ([1.0], [1.0, 2.0], 1.0),
        ([float("nan")], [1.0], 1.0),
        ([1.0], [float("inf")], 1.0),
        ([-1.0], [1.0], 1.0),
        ([1.0], [0.0], 1.0),
        ([1.0], [1.0], -1.0),
    ],
)
def test_what_is_no_observation_is_refused(x, used, guess):
    with pytest.raises(ValueError, match="must be finite|negative"):
        fit_line(x, used, guess)


def test_a_row_without_jobs_stays_a_guess():
    assert fit_needs({"embed": GUESS._replace(n_jobs=3, source="old")}, jobs()) == {"embed": GUESS}


def test_memory_has_a_margin_and_time_has_none():
    observed = jobs(
        {"million_values": 1.0, "peak_mb": 510.0, "seconds": 30.0},
        {"million_values": 10.0, "peak_mb": 600.0, "seconds": 120.0, "run": "s"},
    )
    row = fit_needs({"embed": GUESS}, observed)["embed"]
    assert row.base_mb + row.mb_per_unit == pytest.approx(MEMORY_MARGIN * 510, rel=0.01)
    assert row.base_s + row.s_per_unit * 10 == pytest.approx(120, rel=0.01)
    assert (row.n_jobs, row.largest, row.source) == (2, 10.0, "r, s")


def test_time_is_of_jobs_on_cpus_memory_of_all():
    observed = jobs(
        {"million_values": 1.0, "seconds": 100.0},
        {"million_values": 1.0, "seconds": 900.0, "device": "GPU", "peak_mb": 2000.0},
        {"million_values": 1.0, "seconds": float("nan")},
    )
    row = fit_needs({"embed": GUESS}, observed)["embed"]
    assert row.base_s + row.s_per_unit == pytest.approx(100, rel=0.01)
    assert row.base_mb + row.mb_per_unit == pytest.approx(2000 * MEMORY_MARGIN, rel=0.01)
    alone = fit_needs({"embed": GUESS}, observed[1:2])["embed"]
    assert (alone.base_s, alone.s_per_unit, alone.source) == (GUESS.base_s, GUESS.s_per_unit, "r; time: guess")


def test_a_method_has_its_row_and_the_rule_covers_all():
    own = GUESS._replace(job="embed.scvi")
    observed = jobs(
        {"peak_mb": 500.0}, {"peak_mb": 1000.0, "job": "embed.scvi"}, {"peak_mb": 700.0, "job": "embed.vae"}
    )
    fitted = fit_needs({"embed": GUESS, "embed.scvi": own}, observed)
    assert fitted["embed.scvi"].base_mb == fitted["embed"].base_mb == 1120
    assert (fitted["embed.scvi"].n_jobs, fitted["embed"].n_jobs) == (1, 3)


def test_an_observed_rule_without_a_row_is_refused():
    with pytest.raises(ValueError, match="no row of needs for brew"):
        fit_needs({"embed": GUESS}, jobs({"rule": "brew"}))


def test_a_record_becomes_a_line_of_observations():
    record = {
        **{"rule": "embed_gpu", "wildcards": {"assay": "scrna", "method": "scvi"}, "threads": 2, "device": "cpu"},
        **{"peak_mb": 900.0, "seconds": 60.0, "cpu_seconds": 110.0, "sizes": {"megabytes": 3.0}, "attempts": 1},
    }
    line = observation("demo", record)
    assert tuple(line) == OBSERVED
    assert (line["run"], line["job"], line["megabytes"], line["million_values"]) == ("demo", "embed_gpu.scvi", 3.0, 0.0)
    assert observation("demo", {**record, "wildcards": {"sample": "x"}})["job"] == "embed_gpu"


def test_a_table_is_written_as_it_is_read(tmp_path):
    write_needs({"embed": GUESS}, tmp_path / "needs.tsv")
    assert read_needs(tmp_path / "needs.tsv") == {"embed": GUESS}


@pytest.fixture(scope="module")
def observed() -> pd.DataFrame:
    return pd.read_csv(BENCHMARKS / "resources.tsv", sep="\t")


def test_the_table_that_ships_is_the_fit_of_what_was_observed(observed):
    """`python benchmarks/resources.py fit` writes it."""
    assert read_needs(TABLE) == fit_needs(read_needs(BENCHMARKS / "resources_guesses.tsv"), observed)
    assert list(observed.columns) == list(OBSERVED)
    assert not observed.duplicated(["run", "job", *QUANTITIES, "peak_mb", "seconds"]).any()


def test_memory_of_every_observed_job_is_predicted(observed):
    """Never a fifth too little, nor more than four times of what was used."""
    wrong = []
    for job in observed.to_dict("records"):
        rule, _, choice = job["job"].partition(".")
        need = need_of(rule, {"method": choice})
        predicted = need.base_mb + need.mb_per_unit * job[need.quantity]
        if job["peak_mb"] > 1.2 * predicted:
            wrong.append(f"{job['run']}, {job['job']}: {predicted:.0f} MB predicted, {job['peak_mb']:.0f} used")
        elif predicted > 4 * job["peak_mb"] and (job["run"], job["job"]) not in JUSTIFIED:
            wrong.append(f"{job['run']}, {job['job']}: {predicted:.0f} MB predicted, only {job['peak_mb']:.0f} used")
    assert not wrong, "\n".join(wrong)


def test_studies_are_collected_and_replaced(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("resources_benchmark", BENCHMARKS / "resources.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "OBSERVATIONS", tmp_path / "resources.tsv")
    usage = tmp_path / "results/usage/a.jsonl"
    usage.parent.mkdir(parents=True)
    start = '{"event": "start", "rule": "embed_gpu", "wildcards": {"method": "scvi"}, "threads": 2}\n'
    end = (
        '{"event": "end", "ok": true, "seconds": 9, "cpu_seconds": 8, "peak_mb": 700, "device": "cpu",'
        ' "sizes": {"megabytes": 2}}\n'
    )
    usage.write_text(start + end)
    for run, short in (("one", False), ("two", True), ("one", False)):
        assert benchmark.collect(tmp_path, run, short) == 1
    table = pd.read_csv(tmp_path / "resources.tsv", sep="\t").set_index("run")
    assert list(table.index) == ["one", "two"] and (table["peak_mb"] == 700).all()
    assert table.loc["one", "seconds"] == 9 and np.isnan(table.loc["two", "seconds"])
