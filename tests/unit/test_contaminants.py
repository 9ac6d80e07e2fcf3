"""The prevalence test of decontam, against 2 x 2 tables done one by one with SciPy and against planted contaminants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import chi2_contingency, fisher_exact

from latentomics.metagenome.contaminants import SMALL, best_attainable, contaminant_scores, prevalence_score

NUMBERS = st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def reference(a: int, n_control: int, c: int, n_sample: int) -> float:
    """One table, as ``isContaminantPrevalence`` of decontam does it."""
    if a + c == n_control + n_sample:
        return 0.5
    table = np.array([[a, n_control - a], [c, n_sample - c]])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    if (expected < 5).any():
        greater, less = (fisher_exact(table, alternative=side).pvalue for side in ("greater", "less"))
        return greater - (greater + less - 1) / 2
    two_sided = chi2_contingency(table, correction=True).pvalue
    return two_sided / 2 if a / n_control >= c / n_sample else 1 - two_sided / 2


@given(NUMBERS, NUMBERS)
@example((26, 36), (36, 36))  # an expected count of exactly 5
@settings(max_examples=150, deadline=None)
def test_every_table_is_as_scipy_has_it(controls, samples):
    (a, n_control), (c, n_sample) = controls, samples
    if a + c == 0:
        return
    found = prevalence_score(np.array([a]), n_control, np.array([c]), n_sample)[0]
    assert found == pytest.approx(reference(a, n_control, c, n_sample), abs=1e-12)
    assert 0 <= found <= 1


def test_the_example_of_r():
    """``prop.test(c(15, 25), c(50, 50))``: X-squared = 3.375, p = 0.06619, so half of it one-sided."""
    assert prevalence_score(np.array([25]), 50, np.array([15]), 50)[0] == pytest.approx(0.06619 / 2, abs=1e-5)
    assert prevalence_score(np.array([15]), 50, np.array([25]), 50)[0] == pytest.approx(1 - 0.06619 / 2, abs=1e-5)


def test_both_branches_are_used():
    assert SMALL == 5
    small = prevalence_score(np.array([4]), 5, np.array([3]), 30)[0]
    assert small == pytest.approx(reference(4, 5, 3, 30))
    large = reference(20, 40, 12, 40)
    assert large == pytest.approx(chi2_contingency([[20, 20], [12, 28]], correction=True).pvalue / 2)
    assert prevalence_score(np.array([20]), 40, np.array([12]), 40)[0] == pytest.approx(large)


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 12))
def test_more_controls_never_raise_the_score(n_control, n_sample, c):
    """Among tables that one of the two tests decides: where they meet, an approximation may step."""
    c = min(c, n_sample)
    a = np.arange(1, n_control + 1)
    scores = prevalence_score(a, n_control, np.full(len(a), c), n_sample)
    total = a + c
    share = total / (n_control + n_sample)
    least = np.minimum.reduce([k * s for k in (n_control, n_sample) for s in (share, 1 - share)])
    exact = (least < SMALL) & (total < n_control + n_sample)
    assert (np.diff(scores[exact]) <= 1e-12).all()


@pytest.mark.parametrize(("n_control", "n_sample"), [(1, 4), (1, 30), (2, 3), (2, 60), (3, 10), (8, 20), (12, 12)])
def test_best_attainable_is_the_lowest_of_all_tables(n_control, n_sample):
    lowest = min(
        prevalence_score(np.array([a]), n_control, np.array([c]), n_sample)[0]
        for a in range(n_control + 1)
        for c in range(n_sample + 1)
        if a + c > 1
    )
    assert best_attainable(n_control, n_sample) == pytest.approx(lowest)


def planted(seed: int, n_control: int = 8, n_sample: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Presence of 10 contaminants, 60 taxa of the samples and 5 found in all; which are controls and contaminants."""
    rng = np.random.default_rng(seed)
    in_control = np.r_[np.full(10, 0.9), np.full(60, 0.05), np.full(5, 1.0)]
    in_sample = np.r_[np.full(10, 0.2), rng.uniform(0.4, 0.95, 60), np.full(5, 1.0)]
    control = np.arange(n_control + n_sample) < n_control
    presence = rng.random((len(control), 75)) < np.where(control[:, None], in_control, in_sample)
    return presence.astype(float), control, np.arange(75) < 10


def test_planted_contaminants_are_found():
    found, false = [], []
    for seed in range(5):
        presence, control, truth = planted(seed)
        called = contaminant_scores(csr_matrix(presence), control) < 0.1
        found.append(called[truth].mean())
        false.append(called[~truth].mean())
    assert np.mean(found) > 0.95
    assert np.mean(false) == 0


def test_only_presence_counts():
    presence, control, _ = planted(0)
    weights = np.random.default_rng(1).lognormal(0, 3, presence.shape)
    np.testing.assert_array_equal(
        contaminant_scores(csr_matrix(presence), control), contaminant_scores(csr_matrix(presence * weights), control)
    )


def test_what_cannot_be_tested():
    control = np.array([True, True, False, False, False])
    presence = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]])
    scores = contaminant_scores(csr_matrix(presence), control)
    assert scores[0] == 0.5, "present everywhere"
    assert np.isnan(scores[[1, 2]]).all(), "in one sample only"
    assert scores[3] > 0.5
    assert np.isnan(contaminant_scores(csr_matrix(presence), np.zeros(5, bool))).all()
    assert np.isnan(contaminant_scores(csr_matrix(presence), np.ones(5, bool))).all()


def test_empty_samples_are_no_witnesses():
    """A control that found nothing at all says nothing about any taxon; decontam leaves it out."""
    presence, control, _ = planted(3)
    more = np.vstack([presence, np.zeros((20, presence.shape[1]))])
    with_empty = contaminant_scores(csr_matrix(more), np.r_[control, np.ones(20, bool)])
    np.testing.assert_array_equal(with_empty, contaminant_scores(csr_matrix(presence), control))


def test_batches_are_tested_alone_and_the_lowest_counts():
    first, control_1, _ = planted(4)
    second, control_2, _ = planted(5)
    third = planted(6, n_control=0)[0]
    presence = np.vstack([first, second, third])
    control = np.r_[control_1, control_2, np.zeros(len(third), bool)]
    batch = np.repeat(["b", "a", "none"], [len(first), len(second), len(third)])
    alone = [contaminant_scores(csr_matrix(p), c) for p, c in ((first, control_1), (second, control_2))]
    np.testing.assert_array_equal(contaminant_scores(csr_matrix(presence), control, batch), np.fmin(alone[0], alone[1]))
