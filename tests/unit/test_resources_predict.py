"""What a job is asked of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.resources import predict as module
from latentomics.resources.predict import (
    HEADROOM,
    LEAST,
    MARGIN,
    Need,
    memory,
    minutes,
    need_of,
    predict,
    read_needs,
)
from latentomics.resources.quantities import QUANTITIES

ROW = Need("features", "megabytes", 500.0, 2.0, "megabytes", 600.0, 12.0, 0, 0.0, "guess")


@pytest.fixture
def table(monkeypatch):
    """A table of these rows instead of the one that ships."""

    def use(*rows: Need) -> None:
        monkeypatch.setattr(module, "_needs", lambda: {row.job: row for row in rows})

    return use


@pytest.fixture
def ten_megabytes(tmp_path) -> list[str]:
    (tmp_path / "a").write_bytes(b"\0" * 10_000_000)
    return [str(tmp_path / "a")]


@dataclass
class Wildcards:
    """As Snakemake's: names and values."""

    named: dict[str, str] = field(default_factory=dict)

    def items(self):
        return self.named.items()


NONE = Wildcards()


def test_memory_is_the_line_and_the_headroom(table, ten_megabytes):
    table(ROW)
    assert memory("features")(NONE, ten_megabytes, 1) == 500 + 2 * 10 + HEADROOM


def test_time_is_a_multiple_of_the_line(table, ten_megabytes):
    table(ROW)
    assert minutes("features")(NONE, ten_megabytes, 1) == MARGIN * (600 + 12 * 10) / 60


def test_time_has_a_least(table, ten_megabytes):
    table(ROW._replace(base_s=1.0, s_per_unit=0.0))
    assert [minutes("features")(NONE, ten_megabytes, n) for n in (1, 2, 3)] == [LEAST, 2 * LEAST, 4 * LEAST]


@given(st.floats(0, 1e5), st.floats(0, 1e3), st.integers(1, 6))
def test_every_attempt_gets_twice_as_much(base, slope, attempt):
    row = ROW._replace(base_mb=base, mb_per_unit=slope, base_s=base, s_per_unit=slope)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_needs", lambda: {row.job: row})
        for function in (memory("features"), minutes("features")):
            once, later = (function(NONE, [__file__], n) for n in (attempt, attempt + 1))
            assert isinstance(once, int)
            assert later == 2 * once > 0


def test_an_input_that_is_not_made_yet_is_told_to_snakemake(table):
    table(ROW)
    for function in (memory("features"), minutes("features")):
        with pytest.raises(FileNotFoundError):
            function(NONE, ["not/made"], 1)


def test_a_rule_in_a_group_is_measured_by_what_its_inputs_are_made_of(table, ten_megabytes, tmp_path):
    table(ROW)
    made = tmp_path / "made"
    asked = memory("features", lambda wildcards: ten_megabytes)
    assert asked(NONE, [str(made)], 1) == memory("features")(NONE, ten_megabytes, 1)
    made.write_bytes(b"x")
    assert (
        asked(NONE, [str(made)], 1)
        == memory("features")(NONE, [str(made)], 1)
        < memory("features")(NONE, ten_megabytes, 1)
    )


def test_a_method_with_a_row_of_its_own_gets_it(table, ten_megabytes):
    table(ROW, ROW._replace(job="features.scvi", base_mb=4000.0))
    of = memory("features")
    assert of(Wildcards({"assay": "scrna", "method": "scvi"}), ten_megabytes, 1) == 4020 + HEADROOM
    assert of(Wildcards({"assay": "scrna", "method": "pca"}), ten_megabytes, 1) == 520 + HEADROOM


def test_time_may_have_a_quantity_of_its_own(ten_megabytes):
    found = predict(ROW._replace(s_quantity="thousand_reads"), ten_megabytes)
    assert found == ("megabytes", 10.0, 520.0, 600.0)


def test_a_rule_without_a_row_is_refused_when_the_rules_are_read():
    for function in (memory, minutes):
        with pytest.raises(KeyError, match="not_a_rule"):
            function("not_a_rule")


def test_a_job_has_one_row(tmp_path):
    text = Path(module.TABLE).read_text("utf-8").splitlines()
    (tmp_path / "needs.tsv").write_text("\n".join([*text, text[1]]) + "\n")
    with pytest.raises(ValueError, match=f"two rows for {text[1].split(chr(9))[0]}"):
        read_needs(tmp_path / "needs.tsv")


def test_the_table_that_ships_is_sound():
    needs = read_needs()
    for job, need in needs.items():
        assert job == need.job and job.split(".")[0] in needs
        assert {need.quantity, need.s_quantity} <= set(QUANTITIES)
        assert need.base_mb >= 0 and need.mb_per_unit >= 0 and need.base_s >= 0 and need.s_per_unit >= 0
        # No Python process of this package is smaller, none trains or clusters in less than a second.
        assert need.base_mb + need.mb_per_unit > 50 and need.base_s + need.s_per_unit > 0
        assert (need.n_jobs == 0) == (need.source == "guess")
        assert need_of(job) == need
