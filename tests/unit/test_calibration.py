"""Calibration: the temperature that made the data is found, bins and thresholds agree with plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentomics.reads.calibration import (
    abstention,
    calibration_error,
    chance_error,
    choose_threshold,
    confidences,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    reliability,
)


def drawn(n: int, temperature: float, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from what they say at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, classes)).astype(np.float32)
    share = np.exp(logits / temperature - (logits / temperature).max(axis=1, keepdims=True))
    cumulated = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=1)
    return logits, np.minimum((rng.random(n)[:, None] > cumulated).sum(axis=1), classes - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 8.0])
def test_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = drawn(60_000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    # No temperature of a fine grid is better.
    grid = [negative_log_likelihood(logits, labels, found * factor) for factor in np.linspace(0.8, 1.25, 46)]
    assert negative_log_likelihood(logits, labels, found) <= min(grid) + 1e-7


def test_likelihood_and_probabilities_agree_with_scikit_learn_and_scipy():
    from scipy.special import softmax
    from sklearn.metrics import log_loss

    logits, labels = drawn(500, 1.0)
    for temperature in (0.7, 1.0, 3.0):
        expected = softmax(logits.astype(np.float64) / temperature, axis=1)
        assert np.allclose(probabilities(logits, temperature), expected, atol=1e-6)
        assert np.allclose(confidences(logits, temperature), expected.max(axis=1), atol=1e-6)
        assert negative_log_likelihood(logits, labels, temperature) == pytest.approx(
            log_loss(labels, expected), abs=1e-6
        )


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, (12, 3), elements=st.floats(-50, 50, width=32)),
    hnp.arrays(np.int64, 12, elements=st.integers(0, 2)),
)
def test_temperature_never_costs_likelihood_on_its_own_reads(logits, labels):
    found = fit_temperature(logits, labels)
    assert 0.05 <= found <= 20
    assert negative_log_likelihood(logits, labels, found) <= negative_log_likelihood(logits, labels) + 1e-8


def test_logits_that_say_nothing_keep_their_temperature():
    assert fit_temperature(np.zeros((10, 3), np.float32), np.arange(10) % 3) == 1.0


def test_separated_reads_end_at_the_lowest_temperature():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2] * 5] * 2
    assert fit_temperature(logits, np.array([0, 1, 2] * 5)) == pytest.approx(0.05, rel=0.05)


def test_bins_hold_equally_many_reads_whatever_their_order():
    rng = np.random.default_rng(1)
    confidence = 1 - rng.random(3000) ** 4 / 2
    correct = rng.random(3000) < confidence
    table = reliability(confidence, correct)
    assert len(table) == 15 and set(table["reads"]) == {200}
    shuffled = rng.permutation(3000)
    again = reliability(confidence[shuffled], correct[shuffled])
    assert np.allclose(again, table)
    # A plain loop over the sorted reads.
    order = np.argsort(confidence)
    error = 0.0
    for part in np.array_split(order, 15):
        error += len(part) / 3000 * abs(correct[part].mean() - confidence[part].mean())
    assert calibration_error(table) == pytest.approx(error)


def test_equal_confidences_share_a_bin():
    confidence = np.repeat([0.6, 0.9], [90, 10])
    table = reliability(confidence, np.arange(100) % 2 == 0)
    assert table["reads"].tolist() == [90, 10]
    assert table["accuracy"].tolist() == [0.5, 0.5]
    assert calibration_error(table) == pytest.approx(0.9 * 0.1 + 0.1 * 0.4)


def test_calibrated_reads_show_the_error_of_chance_and_others_more():
    rng = np.random.default_rng(2)
    found, expected, overconfident = [], [], []
    for _ in range(60):
        truth = rng.uniform(0.5, 1, 600)
        correct = rng.random(600) < truth
        table = reliability(truth, correct)
        found.append(calibration_error(table))
        expected.append(chance_error(table))
        overconfident.append(calibration_error(reliability(np.sqrt(truth), correct)))
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.1)
    assert np.mean(overconfident) > 2 * np.mean(expected)


def plain_threshold(confidence: np.ndarray, correct: np.ndarray, precision: float, least: int) -> float | None:
    """The lowest confidence at which enough reads pass and enough of them are right."""
    for value in np.unique(confidence):
        passes = confidence >= value
        if passes.sum() >= least and correct[passes].sum() >= precision * passes.sum():
            return float(value)
    return None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(30, 100), st.booleans()), min_size=1, max_size=80),
    st.sampled_from([0.5, 0.75, 0.9]),
)
def test_threshold_agrees_with_a_plain_search(reads, precision):
    confidence = np.array([c / 100 for c, _ in reads])
    correct = np.array([right for _, right in reads])
    found = choose_threshold(confidence, correct, precision)
    expected = plain_threshold(confidence, correct, precision, {0.5: 10, 0.75: 20, 0.9: 50}[precision])
    if expected is None:
        assert found.value is None and found.why
        return
    assert found.value <= expected
    assert np.array_equal(confidence >= found.value, confidence >= expected)
    if expected == confidence.min():
        assert found.value == 0.0


def test_a_few_lucky_reads_set_no_threshold():
    confidence = np.linspace(0.5, 1, 1000)
    correct = np.arange(1000) % 2 == 0
    correct[-60:] = True  # the 60 most confident are all right: too few to vouch for 95 %
    assert choose_threshold(confidence, correct, 0.95).value is None
    correct[-120:] = True
    found = choose_threshold(confidence, correct, 0.95)
    assert correct[confidence >= found.value].mean() >= 0.95
    assert 120 <= (confidence >= found.value).sum() < 140


def test_too_few_validation_reads_are_told():
    found = choose_threshold(np.full(99, 0.9), np.full(99, True), 0.95)
    assert found.value is None and "only 99 validation reads; 100 are needed" in found.why
    assert choose_threshold(np.full(100, 0.9), np.full(100, True), 0.95).value == 0.0


def test_abstention_curve_agrees_with_a_plain_count():
    rng = np.random.default_rng(3)
    confidence = np.round(rng.uniform(0.3, 1, 2500), 2)
    correct = rng.random(2500) < confidence
    curve = abstention(confidence, correct)
    assert len(curve) <= 100 and curve["share"].iloc[-1] == 1 and curve["share"].is_monotonic_increasing
    assert curve["precision"].iloc[-1] == pytest.approx(correct.mean())
    assert curve["precision"].iloc[0] > curve["precision"].iloc[-1] + 0.2
    for row in curve.itertuples():
        passes = confidence >= row.threshold
        assert passes.sum() == row.reads and passes.mean() == pytest.approx(row.share)
        assert correct[passes].mean() == pytest.approx(row.precision)
