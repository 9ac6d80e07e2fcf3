"""Predicted against used: the bounds, what is not judged, the words of the flags, and records that are not whole."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_usage import make_records, record

from latentomics.resources.account import (
    JOB_COLUMNS,
    LEAST_SECONDS,
    OVER,
    RULE_COLUMNS,
    UNDER,
    amount,
    flags,
    job_table,
    rule_table,
    strain,
)


def verdict(measure: str = "memory", **facts: object) -> str:
    return str(job_table([record(**facts)])[measure].iloc[0])


class TestBounds:
    @pytest.mark.parametrize(
        ("used", "expected"),
        [(1201, "under"), (1200, "within"), (1000, "within"), (250, "within"), (249, "over")],
    )
    def test_of_memory_and_of_time(self, used: float, expected: str) -> None:
        assert verdict(peak_mb=used, predicted_mb=1000) == expected
        assert verdict("time", seconds=used, predicted_s=1000) == expected

    @pytest.mark.parametrize(
        ("seconds", "predicted", "expected"),
        [
            (59.9, 5, "not judged"),
            (60, 5, "under"),
            (5, 59.9, "not judged"),
            (5, 60, "over"),
        ],
    )
    def test_times_below_a_minute_are_not_judged(self, seconds: float, predicted: float, expected: str) -> None:
        assert verdict("time", seconds=seconds, predicted_s=predicted) == expected

    def test_time_on_a_gpu_is_not_judged_but_its_memory_is(self) -> None:
        facts = {"gpu": True, "device": "NVIDIA A100", "seconds": 5000, "peak_mb": 5000}
        assert verdict("time", **facts) == "not judged"
        assert verdict("memory", **facts) == "under"
        # Who asked for a GPU and got none ran on CPUs, for which the time was predicted.
        assert verdict("time", **facts | {"device": "cpu"}) == "under"
        assert verdict("time", **facts | {"device": None}) == "under"

    @given(st.floats(1, 1e7), st.floats(1, 1e7))
    def test_agree_with_their_definition(self, predicted: float, used: float) -> None:
        jobs = job_table([record(predicted_mb=predicted, peak_mb=used, predicted_s=predicted, seconds=used)])
        expected = "under" if used > UNDER * predicted else "over" if predicted > OVER * used else "within"
        assert jobs["memory"].iloc[0] == expected
        judged = predicted >= LEAST_SECONDS or used >= LEAST_SECONDS
        assert jobs["time"].iloc[0] == (expected if judged else "not judged")
        # A rule's flags and the distance from the bound say the same.
        assert bool(rule_table(jobs)["flags"].iloc[0]) == (expected != "within")
        if not math.isclose(used, UNDER * predicted) and not math.isclose(predicted, OVER * used):
            assert (strain(jobs["memory_ratio"]).iloc[0] > 1) == (expected != "within")


class TestRules:
    def test_largest_job_longest_job_and_worst_ratio_are_of_the_jobs_they_should_be(self) -> None:
        rules = rule_table(
            job_table(
                [
                    record(peak_mb=2000, predicted_mb=2100, mem_mb=2400, seconds=70, predicted_s=100, runtime=11),
                    record(peak_mb=500, predicted_mb=450, mem_mb=750, seconds=900, predicted_s=950, runtime=48),
                    # 3.3 times too much is nearer to its bound of 4 than 1.11 times too little to its own of 1.2.
                    record(peak_mb=300, predicted_mb=1000, mem_mb=1300, seconds=65, predicted_s=60, attempts=3),
                    record("other"),
                ]
            )
        ).set_index("rule")
        row = rules.loc["scrna_sample"]
        assert (row["jobs"], row["attempts"]) == (3, 3)
        assert (row["asked_mb"], row["predicted_mb"], row["used_mb"]) == (2400, 2100, 2000)
        assert (row["asked_minutes"], row["predicted_s"], row["used_s"]) == (48, 950, 900)
        assert row["memory_ratio"] == pytest.approx(0.3)
        assert row["time_ratio"] == pytest.approx(65 / 60)
        assert row["flags"] == ""
        assert rules.index.tolist() == ["other", "scrna_sample"]
        assert rules.loc["other", "jobs"] == 1

    def test_ratio_of_time_is_that_of_judged_jobs(self) -> None:
        rules = rule_table(job_table([record(seconds=1, predicted_s=50), record(seconds=90, predicted_s=100)]))
        assert rules["time_ratio"].iloc[0] == pytest.approx(0.9)
        rules = rule_table(job_table([record(seconds=1, predicted_s=50)]))
        assert math.isnan(rules["time_ratio"].iloc[0])

    def test_gpu_asked_for_and_devices(self) -> None:
        jobs = [record(gpu=True), record(gpu=True, device="NVIDIA A100"), record("other", device="NVIDIA A100")]
        rules = rule_table(job_table(jobs)).set_index("rule")
        assert rules.loc["scrna_sample", ["gpu", "device"]].tolist() == [True, "NVIDIA A100, cpu"]
        assert rules.loc["other", ["gpu", "device"]].tolist() == [False, "NVIDIA A100"]

    def test_order_of_the_records_does_not_matter(self) -> None:
        records = make_records(12, 5)
        shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
        expected, found = (rule_table(job_table(given)) for given in (records, shuffled))
        pd.testing.assert_frame_equal(expected, found)


class TestWords:
    def test_flags_name_the_job_that_went_farthest_and_count_the_others(self) -> None:
        jobs = job_table(
            [
                record(wildcards={"sample": "x"}, peak_mb=1310),
                record(wildcards={"sample": "y"}, peak_mb=1250),
                record(wildcards={"assay": "scrna", "method": "pca"}, peak_mb=190, seconds=10),
                record(wildcards={"sample": "z"}, peak_mb=200),
                record(wildcards={"sample": "w"}, peak_mb=210),
                record(wildcards={"sample": "v"}),
            ]
        )
        assert flags(jobs) == [
            "memory under by 31 %: sample x (and 1 more)",
            "memory over by a factor of 5.3: assay scrna, method pca (and 2 more)",
            "time over by a factor of 10: assay scrna, method pca",
        ]
        assert rule_table(jobs)["flags"].iloc[0] == "; ".join(flags(jobs))

    def test_job_without_wildcards(self) -> None:
        assert flags(job_table([record(peak_mb=2000)])) == ["memory under by 100 %"]

    def test_amounts(self) -> None:
        assert [amount(v) for v in (1.2049, 12, 0.2, 0.0012)] == [
            *("under by 20 %", "under by 1100 %", "over by a factor of 5", "over by a factor of 830"),
        ]


class TestRecordsThatAreNotWhole:
    def test_none_at_all(self) -> None:
        jobs = job_table([])
        assert tuple(jobs.columns) == JOB_COLUMNS
        assert tuple(rule_table(jobs).columns) == RULE_COLUMNS
        assert jobs.empty
        assert rule_table(jobs).empty

    def test_failed_jobs_and_records_without_a_rule_are_left_out(self) -> None:
        jobs = job_table([record(ok=False, peak_mb=9000), record(), {"peak_mb": 3}, {"rule": ""}])
        assert jobs["used_mb"].tolist() == [1000]

    def test_what_is_missing_is_not_judged(self) -> None:
        rules = rule_table(job_table([{"rule": "bare"}]))
        assert rules[["rule", "jobs", "gpu", "device", "flags"]].values.tolist() == [["bare", 1, False, "cpu", ""]]
        assert rules[["predicted_mb", "memory_ratio", "time_ratio", "attempts"]].isna().all(axis=None)

    @pytest.mark.parametrize("value", [None, "much", [], {}, math.nan, math.inf, -5, 0, 10**400, True])
    def test_values_that_are_no_amount(self, value: object) -> None:
        for key in ("predicted_mb", "peak_mb", "predicted_s", "seconds", "mem_mb", "runtime", "attempts", "size"):
            jobs = job_table([record(**{key: value}), record()])
            assert len(jobs) == 2
            assert len(rule_table(jobs)) == 1
        if value is not True:
            jobs = job_table([record(predicted_mb=value, predicted_s=value)])
            assert jobs[["memory", "time"]].values.tolist() == [["not judged"] * 2]

    @pytest.mark.parametrize("value", [None, [1], "sample", 3, {"a": None, "b": [1]}])
    def test_wildcards_that_are_no_mapping(self, value: object) -> None:
        assert len(rule_table(job_table([record(wildcards=value, peak_mb=9000)]))) == 1
