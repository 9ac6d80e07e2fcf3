"""Normalisation of taxon tables against closed forms and scikit-bio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.sparse import csr_matrix

from latentomics.config.composition import Composition
from latentomics.metagenome.composition import default_delta, normalise, replace_zeros, to_shares
from latentomics.problems import InputError

TABLES = hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.integers(0, 500)).filter(
    lambda table: (table.sum(axis=1) > 0).all()
)
POSITIVE = hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.integers(1, 500))


def test_relative_is_closure():
    table = np.array([[1, 3, 0], [2, 0, 6]])
    np.testing.assert_array_equal(normalise(table, "relative", 0), [[0.25, 0.75, 0], [0.25, 0, 0.75]])


def test_clr_without_zeros_is_log_minus_mean_log():
    table = np.array([[1, 10, 100], [4, 4, 4]])
    np.testing.assert_allclose(normalise(table, "clr", 0), [[-np.log(10), 0, np.log(10)], [0, 0, 0]], atol=1e-12)


def test_clr_with_zeros_by_hand():
    # delta 0.1: (0, 1/4, 3/4) -> (0.1, 0.9/4, 0.9 * 3/4)
    replaced = np.log([0.1, 0.225, 0.675])
    np.testing.assert_allclose(
        normalise(np.array([[0, 1, 3]]), "clr", 0, delta=0.1), [replaced - replaced.mean()], atol=1e-12
    )


def test_clr_equals_scikit_bio_at_its_delta():
    from skbio.stats.composition import clr, multi_replace

    table = np.random.default_rng(0).poisson(2, (8, 12))
    table[:, 0] += 1
    expected = clr(multi_replace(table / table.sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(normalise(table, "clr", 0, delta=1 / 144), expected, atol=1e-12)


def test_default_delta_is_65_percent_of_the_detection_limit():
    shares = to_shares(np.array([[1, 99, 0], [10, 0, 190]]))
    assert default_delta(shares) == pytest.approx(0.0065)
    # scikit-bio's 1 / 9 would have put the absent taxon above the first
    row = normalise(np.array([[1, 99, 0], [10, 0, 190]]), "clr", 0)[0]
    assert row[2] < row[0] < row[1]


def test_default_delta_never_makes_up_more_than_half():
    shallow = np.zeros((2, 400))
    shallow[:, 0] = 1
    assert default_delta(to_shares(shallow)) == 0.5 / 400
    assert normalise(shallow, "clr", 0)[0].argmax() == 0


def test_rclr_by_hand_and_scikit_bio():
    from skbio.stats.composition import rclr

    table = np.array([[0, 1, 100], [5, 0, 0]])
    np.testing.assert_allclose(normalise(table, "rclr", 0), [[0, -np.log(10), np.log(10)], [0, 0, 0]], atol=1e-12)
    many = np.random.default_rng(1).poisson(3, (9, 7)) + np.eye(9, 7, dtype=int)
    np.testing.assert_allclose(normalise(many, "rclr", 0), np.nan_to_num(rclr(many / 1.0)), atol=1e-12)


def test_rarefy_depth_bounds_and_seed():
    table = np.array([[50, 50, 0, 900], [10, 0, 20, 70]])
    drawn = normalise(table, "rarefy", 7)
    assert drawn.dtype == np.float64 and (drawn.sum(axis=1) == 100).all() and (drawn <= table).all()
    np.testing.assert_array_equal(drawn[1], table[1])
    np.testing.assert_array_equal(drawn, normalise(csr_matrix(table), "rarefy", 7))
    assert not np.array_equal(drawn, normalise(table, "rarefy", 8))
    assert (normalise(table, "rarefy", 7, depth=30).sum(axis=1) == 30).all()


def test_rarefy_is_hypergeometric():
    table = np.tile([300, 700], (400, 1))
    mean = normalise(table, "rarefy", 0, depth=100)[:, 0].mean()
    assert abs(mean - 30) < 4 * np.sqrt(100 * 0.3 * 0.7 * 0.9 / 400)


@pytest.mark.parametrize(
    ("table", "values"), [(np.array([[0.25, 0.75]]), "counts"), (np.array([[250000, 750000]]), "relative")]
)
def test_rarefy_refuses_relative_tables_and_says_why(table, values):
    with pytest.raises(InputError, match=r"composition\.method.*relative abundances.*'rarefy'"):
        normalise(table, "rarefy", 0, values=values)


def test_rarefy_refuses_a_depth_that_samples_lack():
    with pytest.raises(InputError, match=r"composition\.depth: 1 sample\(s\) have fewer counts, the shallowest 3"):
        normalise(np.array([[1, 2], [40, 10]]), "rarefy", 0, depth=20)


@pytest.mark.parametrize("method", ["relative", "clr", "rclr"])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1, -1]], "not negative"),
        ([[1, np.nan]], "finite"),
        ([[1, np.inf]], "finite"),
        ([[3, 1], [0, 0]], r"sample 1 \(from 0\) has no counts"),
    ],
)
def test_bad_values_are_refused(method, table, message):
    with pytest.raises(ValueError, match=message):
        normalise(np.array(table), method, 0)


def test_a_delta_too_large_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        normalise(np.array([[1, 0, 0, 0]]), "clr", 0, delta=0.34)


def test_unknown_method():
    with pytest.raises(ValueError, match="tpm"):
        normalise(np.ones((2, 2)), "tpm", 0)


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_clr_rows_sum_to_zero_and_absent_stays_below_present(table):
    z = normalise(table, "clr", 0)
    np.testing.assert_allclose(z.sum(axis=1), 0, atol=1e-9)
    for row, counts in zip(z, table, strict=True):
        if (counts == 0).any():
            assert row[counts == 0].max() < row[counts > 0].min()
    np.testing.assert_allclose(z, normalise(csr_matrix(table), "clr", 0))


@settings(max_examples=40, deadline=None)
@given(POSITIVE, st.integers(2, 1000))
def test_clr_and_rclr_do_not_see_depth(table, factor):
    for method in ("clr", "rclr"):
        np.testing.assert_allclose(normalise(table, method, 0), normalise(table * factor, method, 0), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_replacement_keeps_ratios_and_sums(table):
    shares = to_shares(table)
    replaced = replace_zeros(shares, default_delta(shares))
    np.testing.assert_allclose(replaced.sum(axis=1), 1)
    for before, after in zip(shares, replaced, strict=True):
        ratio = after[before > 0] / before[before > 0]
        np.testing.assert_allclose(ratio, ratio[0])


@pytest.mark.parametrize("bad", [{"delta": 0}, {"delta": 1}, {"depth": 0}, {"method": "tmm"}, {"pseudocount": 1}])
def test_config_is_closed_and_bounded(bad):
    with pytest.raises(ValidationError):
        Composition(**bad)
    assert Composition().method == "clr"
