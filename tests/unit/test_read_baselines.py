"""Baselines of the read classifiers: k-mers against plain counting, the regression against scikit-learn on dense counts."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.problems import InputError
from latentomics.reads import kmer_regression
from latentomics.reads.baselines import fit_baseline, load_baseline
from latentomics.reads.bases import PAD, decode, encode, reverse_complement
from latentomics.reads.calibration import negative_log_likelihood, probabilities
from latentomics.reads.kmer_regression import PENALTIES, fit_regression, kmer_columns, kmer_counts
from latentomics.reads.store import TEST, TRAIN, VALIDATION, ReadStore, ReadStoreWriter

WIDTH = 60
_OTHER = str.maketrans("ACGT", "TGCA")


def stored(folder: Path, labels: np.ndarray, codes: np.ndarray, splits: np.ndarray, classes: list[str]) -> ReadStore:
    writer = ReadStoreWriter(folder, len(labels), codes.shape[1])
    lengths = (codes < PAD).sum(axis=1)
    writer.append(codes, lengths, labels, np.zeros(len(labels)), splits)
    writer.close(classes, ["all"], {"min_length": 30})
    return ReadStore(folder)


def community(folder: Path, n: int = 1500, classes: int = 3, seed: int = 0) -> ReadStore:
    """Classes differ in how often each 3-mer follows another; reads are of either strand and of several lengths."""
    rng = np.random.default_rng(seed)
    chains = rng.dirichlet(np.full(4, 2.0), (classes, 16))
    labels = rng.integers(0, classes, n)
    codes = np.empty((n, WIDTH), dtype=np.uint8)
    codes[:, :2] = rng.integers(0, 4, (n, 2))
    for i in range(2, WIDTH):
        cumulated = np.cumsum(chains[labels, codes[:, i - 2].astype(int) * 4 + codes[:, i - 1]], axis=1)
        codes[:, i] = np.minimum((rng.random(n)[:, None] > cumulated).sum(axis=1), 3)
    lengths = rng.integers(30, WIDTH + 1, n)
    codes[np.arange(WIDTH) >= lengths[:, None]] = PAD
    other = rng.random(n) < 0.5
    codes[other] = reverse_complement(codes[other], lengths[other])
    splits = rng.choice([TRAIN, VALIDATION, TEST], n, p=[0.6, 0.2, 0.2])
    return stored(folder, labels, codes, splits, [f"c{i}" for i in range(classes)])


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_columns_are_the_pairs_of_strands(k):
    columns = kmer_columns(k)
    words = ["".join(word) for word in product("ACGT", repeat=k)]
    names: dict[int, set[str]] = {}
    for word, column in zip(words, columns, strict=True):
        names.setdefault(int(column), set()).add(min(word, word.translate(_OTHER)[::-1]))
    assert all(len(found) == 1 for found in names.values())
    # An even length has palindromes, which are their own other strand.
    assert len(names) == (4**k + (4 ** (k // 2) if k % 2 == 0 else 0)) // 2 == columns.max() + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ACGTN", max_size=25), min_size=1, max_size=6), st.integers(2, 4))
def test_counts_are_those_of_plain_counting(sequences, k):
    codes, lengths, _ = encode([s.encode() for s in sequences], 25)
    columns = kmer_columns(k)
    counts = kmer_counts(codes, k, columns).toarray()
    word = {"".join(w): columns[i] for i, w in enumerate(product("ACGT", repeat=k))}
    for row, sequence in zip(counts, sequences, strict=True):
        expected = np.zeros(len(row))
        for i in range(len(sequence) - k + 1):
            if "N" not in (found := sequence[i : i + k]):
                expected[word[found]] += 1
        assert np.array_equal(row, expected)
    other = kmer_counts(reverse_complement(codes, lengths), k, columns)
    assert np.array_equal(counts, other.toarray())


def test_majority_knows_how_frequent_classes_are_in_training(tmp_path):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    codes = np.random.default_rng(0).integers(0, 4, (100, 40)).astype(np.uint8)
    splits = np.full(100, TRAIN)
    splits[[0, 1, 2, 99]] = VALIDATION
    splits[[95, 96, 97, 98]] = TEST
    store = stored(tmp_path / "data", labels, codes, splits, ["a", "b", "c"])
    facts = fit_baseline("majority", store, 7, 0, tmp_path / "majority")
    model = load_baseline(tmp_path / "majority")
    share = np.exp(model.logits(codes[:5], np.full(5, 40)))
    assert share.dtype == np.float32 and np.allclose(share, np.array([57, 30, 5]) / 92)
    assert facts["training"]["validation_accuracy"] == 0.75 and facts["n_parameters"] == 3
    assert facts["training"]["n_train"] == 92 and facts["threshold"] == 0.0
    assert np.allclose(model.probabilities(codes[:5], np.full(5, 40)).sum(axis=1), 1)
    assert fit_baseline("majority", store, 7, 0, tmp_path / "again", precision=0.95)["threshold"] is None


@pytest.mark.parametrize("classes", [2, 3])
def test_regression_is_that_of_scikit_learn_on_dense_counts(tmp_path, classes):
    from sklearn.linear_model import LogisticRegression

    store = community(tmp_path / "data", classes=classes)
    train, validation, test = (store.rows(split) for split in (TRAIN, VALIDATION, TEST))
    facts = fit_baseline("kmer", store, 3, 0, tmp_path / "kmer")
    c = facts["params"]["C"]
    dense = np.zeros((len(store), 64))
    for row, sequence in enumerate(decode(store.codes(slice(None)))):
        for i in range(len(sequence) - 2):
            found = sequence[i : i + 3]
            found = min(found, found.translate(_OTHER)[::-1])
            dense[row, int(found.translate(str.maketrans("ACGT", "0123")), 4)] += 1
    spread = dense[train].std(axis=0)
    dense /= np.where(spread > 0, spread, 1)
    model = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(dense[train], store.labels[train])
    batch = store.batch(test)
    loaded = load_baseline(tmp_path / "kmer")
    found = loaded.logits(batch.codes, batch.lengths)
    expected = np.log(model.predict_proba(dense[test]))
    assert np.allclose(
        found - found.mean(axis=1, keepdims=True), expected - expected.mean(axis=1, keepdims=True), atol=0.01
    )
    assert (found.argmax(axis=1) == batch.labels).mean() > (0.8 if classes == 2 else 0.7)
    # The penalty is neither the strongest nor the weakest, and its neighbours are worse.
    tried = {one["C"]: one["validation_loss_scaled"] for one in facts["training"]["search"]}
    assert PENALTIES[0] < c < PENALTIES[-1] and min(tried, key=tried.get) == c and list(tried)[-1] > c
    assert facts["training"]["validation_loss"] == pytest.approx(
        negative_log_likelihood(loaded.logits(store.codes(validation), None), store.labels[validation].astype(int))
    )


def test_regression_is_blind_to_the_strand(tmp_path):
    store = community(tmp_path / "data", n=400)
    fit_baseline("kmer", store, 4, 0, tmp_path / "kmer")
    model = load_baseline(tmp_path / "kmer")
    batch = store.batch(slice(None))
    turned = reverse_complement(batch.codes, batch.lengths)
    assert np.allclose(model.logits(batch.codes, batch.lengths), model.logits(turned, batch.lengths), atol=1e-5)
    # What lies beyond the end of the longest read changes nothing.
    wider = np.pad(batch.codes, ((0, 0), (0, 30)), constant_values=PAD)
    assert np.array_equal(model.logits(batch.codes, batch.lengths), model.logits(wider, batch.lengths))


def test_fitting_twice_gives_the_same_bytes(tmp_path):
    store = community(tmp_path / "data", n=500)
    for name in ("one", "two"):
        fit_baseline("kmer", store, 3, 0, tmp_path / name, precision=0.6)
    assert (tmp_path / "one/weights.npz").read_bytes() == (tmp_path / "two/weights.npz").read_bytes()
    one, two = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("one", "two"))
    for facts in (one, two):
        del facts["training"]["seconds"], facts["training"]["reads_per_second"]
    assert one == two and one["threshold"] == 0.0  # more than 60 % of all are right


def test_more_reads_than_fit_into_memory_all_count(tmp_path, monkeypatch):
    """The passes over all reads come close to the fit of all at once, and far from that of the sample."""
    store = community(tmp_path / "data", n=6000)
    train, validation = store.rows(TRAIN), store.rows(VALIDATION)
    prior = np.log(np.full(3, 1 / 3)).astype(np.float32)
    whole = fit_regression(store, train, validation, 4, 0, prior)
    monkeypatch.setattr(kmer_regression, "MAX_READS", 300)
    monkeypatch.setattr(kmer_regression, "_MINIBATCH", 64)
    monkeypatch.setattr(kmer_regression, "PASSES", 6)
    streamed = fit_regression(store, train, validation, 4, 0, prior)
    assert streamed.n_held == 300 and whole.n_held == len(train)
    sample, passes = streamed.search["search"][-2:]
    of_sample = min(one["validation_loss_scaled"] for one in streamed.search["search"][:-1])
    of_whole = min(one["validation_loss_scaled"] for one in whole.search["search"])
    assert passes["iterations"] == 6 and sample["C"] >= passes["C"]
    assert passes["validation_loss_scaled"] - of_whole < 0.25 * (of_sample - of_whole)
    assert "passes over all reads" in streamed.search["stopped"]


def test_memory_is_bounded_by_kmers_too(tmp_path, monkeypatch):
    store = community(tmp_path / "data", n=500)
    monkeypatch.setattr(kmer_regression, "MAX_KMERS", 4300)
    fit = fit_regression(store, store.rows(TRAIN), store.rows(VALIDATION), 3, 0, np.zeros(3, np.float32))
    assert 80 <= fit.n_held <= 120  # reads of 45 bases have 43 3-mers each


def test_a_class_without_training_reads_is_possible_and_last(tmp_path):
    store = community(tmp_path / "data", n=600)
    rows = store.rows(TRAIN)
    rows = rows[store.labels[rows] != 1]
    fit_baseline("kmer", store, 3, 0, tmp_path / "kmer", rows=rows)
    batch = store.batch(store.rows(TEST))
    model = load_baseline(tmp_path / "kmer")
    logits = model.logits(batch.codes, batch.lengths)
    assert np.isfinite(logits).all() and not (logits.argmax(axis=1) == 1).any()
    assert probabilities(logits)[:, 1].mean() < 0.01
    others = batch.labels != 1
    assert (logits.argmax(axis=1) == batch.labels)[others].mean() > 0.7
    assert json.loads((tmp_path / "kmer/model.json").read_text())["training"]["n_train"] == len(rows)


def test_training_reads_of_one_class_are_refused(tmp_path):
    store = community(tmp_path / "data", n=200)
    rows = store.rows(TRAIN)
    with pytest.raises(InputError, match="fewer than two classes"):
        fit_baseline("kmer", store, 3, 0, tmp_path / "kmer", rows=rows[store.labels[rows] == 2])
    assert not (tmp_path / "kmer").exists()


def test_damaged_and_foreign_folders_are_refused(tmp_path):
    store = community(tmp_path / "data", n=200)
    folder = tmp_path / "kmer"
    fit_baseline("kmer", store, 3, 0, folder)
    weights, facts = (folder / "weights.npz").read_bytes(), json.loads((folder / "model.json").read_text())
    with np.load(folder / "weights.npz") as saved:
        arrays = dict(saved)

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            load_baseline(folder)

    (folder / "weights.npz").write_bytes(weights[: len(weights) // 2])
    refused("not readable as a baseline")
    np.savez(folder / "weights.npz", weights=np.array([print], dtype=object), intercept=arrays["intercept"])
    refused("pickle")  # never unpickled
    np.savez(folder / "weights.npz", weights=arrays["weights"][1:], intercept=arrays["intercept"])
    refused("weights of shape")
    np.savez(folder / "weights.npz", weights=arrays["weights"] * np.float32(np.nan), intercept=arrays["intercept"])
    refused("not finite")
    (folder / "weights.npz").write_bytes(weights)
    for key, value, match in (
        ("format", 2, "format 2"),
        ("model", "cnn", "not a baseline"),
        ("params", {"k": 99}, "not readable"),
        ("params", {"k": 16}, "not readable"),
        ("classes", ["a"], "weights of shape"),
        ("classes", 7, "not readable"),
    ):
        (folder / "model.json").write_text(json.dumps({**facts, key: value}))
        refused(match)
    (folder / "model.json").write_text("[1]")
    refused("not readable as a baseline")
    (folder / "model.json").write_text(json.dumps(facts))
    assert load_baseline(folder).classes == ["c0", "c1", "c2"]
