"""The composition of a sample: what the known errors of a classifier do to its counts."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from read_predict_cases import THRESHOLD, Fake, write_sample
from sklearn.metrics import confusion_matrix

from latentomics.problems import InputError
from latentomics.reads.predict import Predicted, decide, joined
from latentomics.reads.shares import (
    COLUMNS,
    UNCLASSIFIED,
    Errors,
    _mates,
    apply_model,
    class_shares,
    correct,
    read_errors,
)

# The errors of test reads.


def simulated(rng, labels, n_classes, separation=2.2):
    """Calibrated logits of reads of which each third class looks much like the one before."""
    centres = separation * np.eye(n_classes)
    for c in range(2, n_classes, 3):
        centres[c] = 0.45 * centres[c] + 0.55 * centres[c - 1]
    seen = centres[labels] + rng.normal(size=(len(labels), n_classes))
    return (-((seen[:, None, :] - centres) ** 2).sum(axis=2) / 2).astype(np.float32)


def judged(rng, per_class=2000, n_classes=5):
    labels = np.repeat(np.arange(n_classes), per_class).astype(np.uint8)
    sources = (2 * labels + rng.integers(0, 2, len(labels))).astype(np.uint16)
    return simulated(rng, labels, n_classes), labels, sources


def save(path, logits, labels, sources, length=75):
    np.savez(path, logits=logits, labels=labels, lengths=np.full(len(labels), length, np.uint16), sources=sources)
    return path


def test_errors_are_the_confusion_matrix_at_the_threshold(tmp_path):
    rng = np.random.default_rng(0)
    logits, labels, sources = judged(rng)
    path = save(tmp_path / "predictions.npz", logits, labels, sources)
    errors = read_errors(path, 5, 1.5, 0.6, 0)
    share = np.exp(logits / 1.5 - (logits / 1.5).max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    chosen = np.where(share.max(axis=1) >= 0.6, share.argmax(axis=1), 5)
    assert np.array_equal(errors.alone, confusion_matrix(labels, chosen, labels=range(6))[:5])
    assert errors.mean_length == 75
    # All reads but the odd one of a source have a mate.
    assert errors.pairs.sum() == sum(n // 2 for n in np.bincount(sources))
    errors.save(tmp_path / "errors.npz")
    again = Errors.load(tmp_path / "errors.npz")
    assert np.array_equal(again.alone, errors.alone)
    assert np.array_equal(again.pairs, errors.pairs)
    assert again.mean_length == 75


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40), st.integers(0, 99))
def test_mates_are_of_one_class_and_source_and_used_once(reads, seed):
    labels, sources = np.array(reads, dtype=np.uint16).reshape(-1, 2).T
    first, second = _mates(labels, sources, seed)
    used = np.concatenate([first, second])
    assert len(set(used.tolist())) == len(used)
    assert np.array_equal(labels[first], labels[second])
    assert np.array_equal(sources[first], sources[second])
    assert len(first) == sum(reads.count(kind) // 2 for kind in set(reads))


@pytest.mark.parametrize(
    "fault", ["not there", "no array file", "an array missing", "pickled", "negative", "other classes", "NaN"]
)
def test_predictions_that_cannot_be_used(tmp_path, fault):
    logits, labels, sources = judged(np.random.default_rng(0), per_class=20)
    path = tmp_path / "predictions.npz"
    if fault == "no array file":
        path.write_bytes(b"PK\x03\x04 and no more")
    elif fault == "an array missing":
        np.savez(path, logits=logits)
    elif fault == "pickled":
        save(path, logits, labels.astype(object), sources)
    elif fault == "negative":
        save(path, logits, labels.astype(int) - 1, sources)
    elif fault == "other classes":
        save(path, logits[:, :4], labels, sources)
    elif fault == "NaN":
        save(path, np.where(logits == logits.max(), np.nan, logits), labels, sources)
    with pytest.raises(InputError, match=r"predictions\.npz"):
        read_errors(path, 5, 1.0, 0.5, 0)


# The correction.


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_shares_follow_from_counts_without_noise(n_classes, seed):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(n_classes))
    rates = 0.6 * np.eye(n_classes) + 0.4 * rng.dirichlet(np.ones(n_classes), n_classes)
    rates *= rng.uniform(0.3, 1, (n_classes, 1))  # Some classes are classified more rarely than others.
    assert np.allclose(correct(1e7 * truth @ rates, rates), truth, atol=1e-3)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_shares_are_shares_whatever_the_errors(n_classes, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, n_classes) * rng.integers(0, 2, n_classes)
    rates = rng.dirichlet(np.full(n_classes + 1, 0.2), n_classes)[:, :n_classes] * rng.integers(0, 2, (n_classes, 1))
    if not counts.any():
        counts[0] = 1
    shares = correct(counts, rates)
    assert np.isfinite(shares).all()
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1) or not shares.any()
    # A class that is never classified cannot be what was.
    assert not shares[rates.sum(axis=1) == 0].any()


def test_without_errors_shares_stay_as_they_are():
    counts = np.array([900, 90, 9, 1, 0])
    assert np.allclose(correct(counts, np.eye(5)), counts / 1000, atol=1e-12)
    assert np.allclose(correct(counts, 0.4 * np.eye(5)), counts / 1000, atol=1e-12)


def test_classes_that_cannot_be_told_apart_share_as_they_were_counted():
    rates = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.1, 0.6, 0.3]])
    shares = correct(np.array([4500, 3500, 2000]), rates)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(0.5, abs=0.01)
    assert shares[1] - shares[2] == pytest.approx(0.15, abs=0.01)
    errors = Errors(np.column_stack([rates * 1000, np.zeros(3)]).astype(int), np.zeros((3, 4), int), 75)
    found = class_shares(["x", "one", "other"], sample_of([4500, 3500, 2000, 0]), errors, 100, 0)
    assert any("tells one from other" in note for note in found.notes)
    assert found.table["share_corrected"][:3].between(found.table["low"][:3], found.table["high"][:3]).all()


def sample_of(alone, pairs=0, overlapping=0, length=75):
    alone = np.array(alone)
    pairs, overlapping = pairs + 0 * alone, overlapping + 0 * alone
    reads = int(alone.sum() + 2 * pairs.sum() + 2 * overlapping.sum())
    return Predicted(alone, overlapping, pairs, reads, 0, 0, reads * length)


def shifted(rng, truth, n, paired=False, threshold=0.6):
    """A sample of which the composition is known."""
    labels = rng.choice(len(truth), n, p=truth)
    logits = simulated(rng, labels, len(truth))
    if paired:
        logits = joined(logits, simulated(rng, labels, len(truth)))
    counts = np.bincount(decide(logits, 1.0, threshold), minlength=len(truth) + 1)
    return sample_of(0 * counts, counts) if paired else sample_of(counts)


@pytest.mark.parametrize("paired", [False, True])
def test_a_shift_of_frequencies_is_recovered_where_counts_are_biased(tmp_path, paired):
    rng = np.random.default_rng(3)
    truth = np.array([0.02, 0.7, 0.05, 0.2, 0.03])
    errors = read_errors(save(tmp_path / "predictions.npz", *judged(rng, per_class=4000)), 5, 1.0, 0.6, 0)
    names = list("abcde")
    predicted = shifted(rng, truth, 30_000, paired)
    table = class_shares(names, predicted, errors, 200, 0).table
    assert list(table.columns) == list(COLUMNS)
    assert table["class"].tolist() == [*names, UNCLASSIFIED]
    classes, rest = table[:5], table.iloc[5]
    assert classes["share"].sum() == pytest.approx(1)
    assert classes["share_corrected"].sum() == pytest.approx(1)
    wrong, right = (np.abs(classes[column] - truth).sum() for column in ("share", "share_corrected"))
    assert wrong > 0.08
    assert right < wrong / 4
    assert classes["share_corrected"].between(classes["low"], classes["high"]).all()
    assert rest["reads"] == predicted.counts[5]
    assert rest["share"] == pytest.approx(rest["reads"] / predicted.reads)
    assert rest["low"] < rest["share"] < rest["high"]
    assert np.isnan(rest["share_corrected"])
    if paired:  # The errors of single reads are not those of pairs.
        alone = Errors(errors.alone, errors.alone, 75)
        mistaken = class_shares(names, predicted, alone, 100, 0).table["share_corrected"][:5]
        assert np.abs(mistaken - truth).sum() > 2 * right


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path):
    truth = np.array([0.1, 0.5, 0.25, 0.15])
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(4), 400)
        chosen = decide(simulated(rng, labels, 4), 1.0, 0.6)
        confusion = confusion_matrix(labels, chosen, labels=range(5))[:4]
        predicted = shifted(rng, truth, 2000)
        table = class_shares(list("abcd"), predicted, Errors(confusion, 0 * confusion, 75), 100, seed).table[:4]
        inside.append(table["low"].le(truth) & table["high"].ge(truth))
    assert 0.89 < np.mean(inside) < 0.99


def test_the_same_seed_gives_the_same_table(tmp_path):
    errors = read_errors(save(tmp_path / "predictions.npz", *judged(np.random.default_rng(0))), 5, 1.0, 0.6, 0)
    found = [class_shares(list("abcde"), sample_of([9, 50, 3, 4, 0, 7]), errors, 100, seed).table for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(found[0], found[1])
    assert not found[0].equals(found[2])


def test_what_stands_against_a_correction_is_said():
    confusion = np.array([[800, 50, 0, 150], [50, 800, 0, 150], [0, 0, 0, 1000]])
    good = np.array([[800, 50, 0, 150], [50, 800, 0, 150], [0, 0, 900, 100]])
    names, none = ["a", "b", "c"], np.zeros((3, 4), int)

    def notes(confusion, predicted):
        return class_shares(names, predicted, Errors(confusion, none, 75), 100, 0).notes

    assert notes(good, sample_of([500, 300, 50, 120])) == []
    assert "no test read of c reaches" in notes(confusion, sample_of([500, 300, 50, 120]))[0]
    untested = good * np.array([[1], [1], [0]])
    assert "no test reads of c:" in notes(untested, sample_of([500, 300, 50, 120]))[0]
    shares = class_shares(names, sample_of([500, 300, 50, 120]), Errors(untested, none, 75), 100, 0).table
    assert shares["share_corrected"][2] == pytest.approx(50 / 850, abs=0.01)
    assert "shorter than the test reads (75 bases" in notes(good, sample_of([500, 300, 50, 120], length=47))[0]
    assert "may hold reads of none" in notes(good, sample_of([500, 300, 50, 900]))[0]
    found = class_shares(names, sample_of([500, 300, 50, 900]), Errors(good, none, 75), 100, 0)
    assert found.unclassified_expected == pytest.approx(0.147, abs=0.002)
    pairs = class_shares(names, sample_of([0, 0, 0, 0], [500, 300, 50, 120]), Errors(good, good, 75), 100, 0)
    assert "86.7% of them are classified, 96.2% of these rightly" in pairs.notes[0]


def test_overlapping_pairs_err_like_single_reads_but_are_two():
    alone = np.array([[800, 100, 100], [50, 700, 250]])
    errors = Errors(alone, np.diag([1000, 1000, 0])[:2], 75)
    nothing = [0, 0, 0]
    single, double = (
        class_shares(["a", "b"], sample, errors, 400, 0).table
        for sample in (sample_of([500, 300, 200]), sample_of(nothing, overlapping=[500, 300, 200]))
    )
    assert np.array_equal(double["reads"], 2 * single["reads"])
    assert np.allclose(double["share_corrected"][:2], single["share_corrected"][:2], atol=1e-3)
    # They are no more observations than there are fragments.
    width = (double["high"] - double["low"]) / (single["high"] - single["low"])
    assert width.between(0.85, 1.15).all()


def test_unknown_errors_leave_shares_as_they_are():
    found = class_shares(["a", "b"], sample_of([30, 10, 5]), None, 200, 0)
    assert found.table["share_corrected"][:2].tolist() == [0.75, 0.25]
    assert found.table["low"][0] < 0.75 < found.table["high"][0]
    assert "not corrected" in found.notes[0]


@pytest.mark.parametrize("counts", [[0, 0, 0], [0, 0, 5]])
def test_nothing_classified(counts):
    found = class_shares(
        ["a", "b"], sample_of(counts), Errors(np.eye(2, 3, dtype=int), np.zeros((2, 3), int), 75), 100, 0
    )
    assert found.table["reads"].tolist() == counts
    assert found.table["share_corrected"].isna().all()
    assert len(found.notes) == 1


def test_a_sample_from_reads_to_shares(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.uint8), 300)
    logits = (6 * np.eye(3)[labels] + rng.normal(0, 2, (900, 3))).astype(np.float32)
    path = save(tmp_path / "predictions.npz", logits, labels, labels.astype(np.uint16), length=10)
    write_sample(tmp_path / "reads")
    table, facts = apply_model("s", tmp_path / "reads", Fake(), path, 100, 0)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["model"] == "fake"
    assert facts["threshold"] == THRESHOLD
    assert facts["reads"] == 750 == facts["too_short"] + facts["classified"] + facts["unclassified"]
    assert table["reads"][:3].sum() == facts["classified"]
    assert table["share_corrected"].sum() == pytest.approx(1)
