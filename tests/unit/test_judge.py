"""Judging read classifiers: scikit-learn and plain resampling as references, coverage of intervals, files written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentomics.problems import InputError
from latentomics.reads.judge import (
    accuracy_by_length,
    areas,
    bootstrap_rates,
    confusion_matrix,
    judge,
    paired_difference,
    rates,
)
from latentomics.reads.scoring import COLUMNS, evaluate, join_scores
from latentomics.reads.store import TEST, VALIDATION, ReadStore, ReadStoreWriter


def reads(n: int, classes: int, seed: int, signal: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels; classes are unequal in size."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = rng.choice(classes, n, p=share)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), labels] += signal
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_rates_are_those_of_scikit_learn(classes):
    from sklearn import metrics

    logits, labels = reads(800, classes, seed=classes)
    predicted = logits.argmax(axis=1)
    confusion = confusion_matrix(logits, labels)
    assert np.array_equal(confusion, metrics.confusion_matrix(labels, predicted))
    found = rates(confusion)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, predicted)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert np.allclose(found[name], expected)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))


def test_rates_of_classes_without_reads_are_not_defined():
    found = rates(np.array([[5, 0, 1], [0, 4, 0], [0, 0, 0]]))
    assert np.isnan(found["recall"][2]) and found["precision"][2] == 0
    assert found["macro_f1"] == pytest.approx((10 / 11 + 1) / 2)
    assert np.isnan(rates(np.array([[3, 0], [2, 0]]))["precision"][1])


@pytest.mark.parametrize(("classes", "ties"), [(2, False), (2, True), (5, False), (5, True)])
def test_areas_are_those_of_scikit_learn(classes, ties):
    from scipy.special import softmax
    from sklearn.metrics import roc_auc_score

    logits, labels = reads(600, classes, seed=1)
    if ties:
        logits = logits[np.arange(600) % 150]
    probability = softmax(logits.astype(np.float64) / 1.3, axis=1)
    found = areas(logits, labels, temperature=1.3)
    for c in range(classes):
        assert found.value[c] == pytest.approx(roc_auc_score(labels == c, probability[:, c]), abs=1e-12)
    if classes == 2:
        assert found.macro == pytest.approx(roc_auc_score(labels, probability[:, 1]), abs=1e-12)
    else:
        expected = roc_auc_score(labels, probability, multi_class="ovr", average="macro")
        assert found.macro == pytest.approx(expected, abs=1e-12)


def test_areas_do_not_lose_the_order_of_sure_reads():
    """Probabilities that are 1 in binary fractions still have an order."""
    logits = np.array([[0, 50], [0, 60], [0, 70], [0, 80]], dtype=np.float32)
    assert areas(logits, np.array([0, 0, 1, 1])).macro == 1.0
    assert areas(logits, np.array([0, 1, 0, 1])).macro == 0.75


def test_error_of_the_area_is_that_of_resampled_reads():
    from scipy.special import softmax
    from sklearn.metrics import roc_auc_score

    logits, labels = reads(400, 3, seed=2)
    probability = softmax(logits.astype(np.float64), axis=1)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, 400, 400)
        drawn.append(roc_auc_score(labels[rows], probability[rows], multi_class="ovr"))
    found = areas(logits, labels)
    assert found.macro_error == pytest.approx(np.std(drawn), rel=0.12)
    assert found.macro_error < np.nanmean(found.error)


def test_areas_without_other_classes_are_not_defined():
    found = areas(np.zeros((4, 2), np.float32), np.zeros(4, int))
    assert np.isnan(found.macro) and np.isnan(found.value).all()


def test_multinomial_resampling_is_resampling_of_reads():
    logits, labels = reads(300, 3, seed=3)
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(1500):
        rows = rng.integers(0, 300, 300)
        plain.append(rates(confusion_matrix(logits[rows], labels[rows])))
    found = bootstrap_rates(confusion_matrix(logits, labels), 4000, seed=0)
    for name, (value, low, high) in found.items():
        limits = np.percentile([one[name] for one in plain], [2.5, 97.5], axis=0)
        assert np.allclose([low, high], limits, atol=0.015), name
        assert np.all(low <= value) and np.all(value <= high)


def test_intervals_cover_the_truth():
    """Of 95 % intervals, about 95 % hold the value of the endless population."""
    truth = np.array([[0.30, 0.05, 0.05], [0.04, 0.26, 0.05], [0.05, 0.05, 0.15]])
    expected = rates(truth)
    rng = np.random.default_rng(4)
    covered: dict[str, list[bool]] = {"accuracy": [], "macro_f1": []}
    recalls = []
    for i in range(500):
        found = bootstrap_rates(rng.multinomial(400, truth.ravel()).reshape(3, 3), 300, seed=i)
        for name, hits in covered.items():
            hits.append(bool(found[name][1] <= expected[name] <= found[name][2]))
        recalls.append((found["recall"][1] <= expected["recall"]) & (expected["recall"] <= found["recall"][2]))
    for hits in (*covered.values(), *np.array(recalls).T):
        assert 0.915 <= np.mean(hits) <= 0.98


def test_intervals_of_areas_cover_the_truth():
    from scipy.stats import norm

    expected = norm.cdf(1.5 / np.sqrt(2))  # two normals, 1.5 standard deviations apart
    rng = np.random.default_rng(5)
    hits = []
    for i in range(200):
        labels = rng.integers(0, 2, 150)
        score = rng.normal(1.5 * labels, 1)
        logits = np.column_stack([np.zeros(150), score]).astype(np.float32)
        found = judge(logits, labels, np.full(150, 50), ["a", "b"], 1.0, None, 2, i).summary
        hits.append(found["auroc_low"] <= expected <= found["auroc_high"])
    assert 0.915 <= np.mean(hits) <= 0.98


def test_paired_difference_covers_the_truth_and_is_antisymmetric():
    rng = np.random.default_rng(6)
    hits = []
    for i in range(400):
        kind = rng.choice(4, 500, p=[0.7, 0.1, 0.06, 0.14])
        first, second = (kind == 0) | (kind == 1), (kind == 0) | (kind == 2)
        found = paired_difference(first, second, 300, i)
        hits.append(found.low <= 0.04 <= found.high)
    assert 0.915 <= np.mean(hits) <= 0.98
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert (found.only_first, found.only_second) == ((kind == 1).sum(), (kind == 2).sum())
    turned = paired_difference(second, first, 300, 0)
    assert turned.value == -found.value
    # Reads that both get right say nothing: pairing is what makes a small difference visible.
    alone = np.sqrt(first.var() / 500 + second.var() / 500) * 2 * 1.96
    assert found.high - found.low < 0.8 * alone


def test_accuracy_by_length_knows_short_reads():
    rng = np.random.default_rng(7)
    lengths = rng.integers(30, 151, 20_000).astype(np.uint16)
    correct = rng.random(20_000) < lengths / 200
    table = accuracy_by_length(correct, lengths, 200, 0)
    assert len(table) == 10 and table["reads"].sum() == 20_000
    assert table["shortest"].iloc[0] == 30 and table["longest"].iloc[-1] == 150
    assert (table["shortest"].to_numpy()[1:] == table["longest"].to_numpy()[:-1] + 1).all()
    middle = (table["shortest"] + table["longest"]) / 400
    assert np.allclose(table["accuracy"], middle, atol=0.04)
    assert ((table["accuracy_low"] < table["accuracy"]) & (table["accuracy"] < table["accuracy_high"])).all()
    assert len(accuracy_by_length(correct, np.full(20_000, 75), 100, 0)) == 1


def test_judgement_is_the_same_twice_and_complete():
    logits, labels = reads(500, 3, seed=8)
    lengths = np.random.default_rng(0).integers(40, 90, 500)
    # A class may have the name of a column.
    first, again = (judge(logits, labels, lengths, ["class", "reads", "z"], 1.4, 0.6, 200, 9) for _ in range(2))
    assert first.summary == again.summary
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])
    passes = np.exp(logits / 1.4).max(axis=1) / np.exp(logits / 1.4).sum(axis=1) >= 0.6
    assert first.summary["share_classified"] == pytest.approx(passes.mean())
    right = (logits.argmax(axis=1) == labels)[passes].mean()
    assert first.summary["precision_classified"] == pytest.approx(right)
    assert first.tables["confusion"].to_numpy()[:, 1:].sum() == 500
    unclassified = judge(logits, labels, lengths, ["a", "b", "c"], 1.4, None, 100, 9).summary
    assert unclassified["share_classified"] == 0 and unclassified["precision_classified"] is None


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        judge(np.array([[np.nan, 0]]), np.array([0]), np.array([50]), ["a", "b"], 1.0, 0.5, 100, 0)
    with pytest.raises(ValueError, match="2 rows of logits, 1 labels"):
        judge(np.zeros((2, 2)), np.array([0]), np.array([50]), ["a", "b"], 1.0, 0.5, 100, 0)


@dataclass
class Told:
    """A model that knows the label: it is written in a read's first bases, wrong in some reads, and sharpened."""

    sharpness: float = 1.0
    right: float = 0.8
    name: str = "cnn"
    loss: float = 0.5
    classes: list[str] = field(default_factory=lambda: ["a", "b"])

    @property
    def facts(self) -> dict:
        training = {
            "n_train": 10,
            "seconds": 1.5,
            "reads_per_second": 7.0,
            "device": "cpu",
            "validation_loss": self.loss,
        }
        return {"model": self.name, "n_parameters": 3, "training": training}

    def logits(self, codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        # The last three bases are a number below 64: the reads with the highest are wrong.
        number = codes[:, -3:] @ np.array([16, 4, 1])
        said = np.where(number < 64 * self.right, codes[:, 0], 1 - codes[:, 0])
        strength = self.sharpness * np.log(self.right / (1 - self.right))
        return (np.eye(len(self.classes), dtype=np.float32)[said] * strength).astype(np.float32)


def written(folder: Path, n: int = 3000, splits: tuple[int, ...] = (VALIDATION, TEST)) -> ReadStore:
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 2, n)
    codes = rng.integers(0, 4, (n, 40)).astype(np.uint8)
    codes[:, 0] = labels
    writer = ReadStoreWriter(folder, n, 40)
    split = rng.choice(splits, n)
    writer.append(codes, np.full(n, 40), labels, rng.integers(0, 3, n), split)
    writer.close(["a", "b"], ["one", "two", "three"], {"unit": "source"})
    return ReadStore(folder)


def test_evaluation_writes_what_the_contract_says(tmp_path):
    store = written(tmp_path / "data")
    facts = evaluate(Told(sharpness=3.0), store, 0.75, 200, 0, tmp_path / "cnn")
    again = evaluate(Told(sharpness=3.0), store, 0.75, 200, 0, tmp_path / "again")
    timed = "predict_reads_per_second"
    assert {k: v for k, v in facts.items() if k != timed} == {k: v for k, v in again.items() if k != timed}
    saved = json.loads((tmp_path / "cnn/summary.json").read_text())
    assert saved == facts
    # Three times too sure: the temperature mends it, and all reads pass at a precision below their accuracy.
    assert saved["temperature"] == pytest.approx(3.0, rel=0.1)
    assert saved["ece_scaled"] < 0.03 < 0.1 < saved["ece"]
    assert saved["threshold"] == 0.0 and saved["share_classified"] == 1.0
    assert saved["n_test"] + saved["n_validation"] == 3000 and saved["n_sources"] == 3
    assert saved["accuracy_by_source"]["sources"] == 3
    with np.load(tmp_path / "cnn/predictions.npz", allow_pickle=False) as found:
        assert {name: found[name].dtype.name for name in found.files} == {
            "logits": "float32",
            "labels": "uint8",
            "lengths": "uint16",
            "sources": "uint16",
        }
        assert len(found["logits"]) == saved["n_test"]
    for name in ("confusion", "by_length", "calibration", "abstention", "per_class", "predictions", "summary"):
        files = [p for p in (tmp_path / "cnn").iterdir() if p.stem == name]
        assert len(files) == 1
        assert files[0].read_bytes() == (tmp_path / "again" / files[0].name).read_bytes() or name == "summary"


def test_temperature_comes_from_validation_reads_alone(tmp_path):
    """Of a model that is right about other shares of validation and test reads, only the first count."""
    store = written(tmp_path / "data")
    model, seen = Told(), []
    original = model.logits

    class Watched(Told):
        def logits(self, codes, lengths):
            seen.append(codes)
            out = original(codes, lengths)
            return out * (5.0 if len(seen) > 1 else 1.0)  # the first call is that of the validation reads

    facts = evaluate(Watched(), store, 0.75, 100, 0, tmp_path / "out")
    assert np.array_equal(seen[0], store.codes(store.rows(VALIDATION)))
    assert facts["temperature"] == pytest.approx(1.0, rel=0.1)


def test_evaluation_refuses_other_classes_and_missing_reads(tmp_path):
    store = written(tmp_path / "data")
    with pytest.raises(InputError, match="other classes"):
        evaluate(Told(classes=["b", "a"]), store, 0.9, 100, 0, tmp_path / "out")
    with pytest.raises(InputError, match="no validation reads"):
        evaluate(Told(), written(tmp_path / "other", splits=(TEST,)), 0.9, 100, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_name_the_best_network_and_whether_it_beats_kmers(tmp_path):
    store = written(tmp_path / "data")
    models = {
        "cnn": Told(right=0.8, name="cnn", loss=0.5),
        "lstm": Told(right=0.9, name="lstm", loss=0.3),
        "majority": Told(right=0.5, name="majority"),
        "kmer": Told(right=0.8, name="kmer", loss=0.1),
    }
    for name, model in models.items():
        evaluate(model, store, 0.75, 200, 0, tmp_path / name)
    folders = {name: tmp_path / name for name in models}
    scores, best, verdict = join_scores(folders, ["cnn", "lstm"], 500, 0)
    assert list(scores.columns) == list(COLUMNS) and scores["model"].tolist() == list(models)
    assert best["model"] == "lstm" and "lstm 0.3000" in best["why"]
    assert verdict["beats_kmer"] is True and verdict["only_kmer"] == 0
    assert verdict["difference"] == pytest.approx(scores["accuracy"][1] - scores["accuracy"][3])
    assert verdict["difference_low"] > 0 and "beats k-mer logistic regression" in verdict["sentence"]
    assert np.isnan(scores["difference_to_kmer"][3]) and scores["difference_to_kmer_high"][2] < 0
    _, best, verdict = join_scores(folders, ["cnn"], 500, 0)
    assert best == {"model": "cnn", "why": "the only network"}
    assert verdict["beats_kmer"] is None and "cannot be told from" in verdict["sentence"]
    # Right about three reads more is not better yet.
    with np.load(tmp_path / "kmer/predictions.npz") as found:
        arrays = dict(found)
    wrong = np.flatnonzero(arrays["logits"].argmax(axis=1) != arrays["labels"])[:3]
    arrays["logits"][wrong] *= -1
    np.savez(tmp_path / "cnn/predictions.npz", **arrays)
    _, _, verdict = join_scores(folders, ["cnn"], 500, 0)
    assert (verdict["only_best"], verdict["only_kmer"]) == (3, 0) and verdict["difference"] > 0
    assert verdict["beats_kmer"] is None
    evaluate(models["kmer"], written(tmp_path / "fewer", n=2000), 0.75, 200, 0, tmp_path / "kmer")
    with pytest.raises(ValueError, match="not judged on the same reads"):
        join_scores(folders, ["cnn"], 500, 0)
