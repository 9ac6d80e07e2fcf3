"""Batch and condition: told apart exactly where the design has the rank for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sheet_cases import Folder

from latentomics.config.confounding import confounding


@pytest.fixture
def study(tmp_path) -> Folder:
    return Folder(tmp_path)


PAIRS = {
    "full": ([("b1", "c1"), ("b2", "c2")], True),
    "none": ([("b1", "c1"), ("b1", "c2"), ("b2", "c1"), ("b2", "c2")], False),
    "partial, connected": ([("b1", "c1"), ("b2", "c1"), ("b2", "c2")], False),
    "a chain": ([("b1", "c1"), ("b1", "c2"), ("b2", "c2"), ("b2", "c3"), ("b3", "c3")], False),
    "two components": ([("b1", "c1"), ("b1", "c2"), ("b2", "c3"), ("b3", "c3")], True),
    "one batch": ([("b1", "c1"), ("b1", "c2")], False),
    "one condition": ([("b1", "c1"), ("b2", "c1")], False),
    "nothing": ([], False),
    "empty values": ([("b1", "c1"), ("", "c2"), ("b2", "")], False),
    "per cell": ([("obs:b", "c1"), ("b1", "c1"), ("b2", "obs:c")], False),
}


@pytest.mark.parametrize(("pairs", "confounded"), PAIRS.values(), ids=PAIRS)
def test_confounding(pairs, confounded):
    found = confounding("s.tsv", pairs)
    assert [p.severity for p in found] == ["warning"] * confounded
    if confounded:
        assert all(f"{b}:" in found[0].what and c in found[0].what for b, c in pairs)


@given(st.sets(st.tuples(st.sampled_from("wxyz"), st.sampled_from("abcd")), min_size=1))
@settings(max_examples=200, deadline=None)
def test_confounding_is_loss_of_rank(pairs):
    """Both effects can be estimated if the design of batch and condition has every rank that it may have."""
    batches, conditions = sorted({b for b, _ in pairs}), sorted({c for _, c in pairs})
    design = np.array([[*(b == x for x in batches), *(c == x for x in conditions)] for b, c in pairs], dtype=float)
    lost = np.linalg.matrix_rank(design) < len(batches) + len(conditions) - 1
    assert bool(confounding("s", pairs)) == (lost and len(batches) > 1 and len(conditions) > 1)


def test_confounding_in_a_sheet_is_a_warning(study):
    found, (problem,) = study.rows(
        "A\tscrna\ta.h5ad\tb1\tc1", "B\tscrna\tb.h5ad\tb2\tc2", header="sample\tassay\tpath\tbatch\tcondition"
    )
    assert (problem.severity, problem.key) == ("warning", "batch, condition")
    assert len(found.rows) == 2
