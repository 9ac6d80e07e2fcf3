"""Prediction of a condition: planted and absent signal, no leak from the test fold, honest intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.sparse import csr_matrix
from sklearn.feature_selection import f_classif

from latentomics.config.prediction import Prediction
from latentomics.io.store import CountsStore, CountsWriter
from latentomics.metagenome import prediction
from latentomics.metagenome.composition import normalise
from latentomics.metagenome.prediction import (
    CROSS_VALIDATION,
    LEAVE_ONE_BATCH_OUT,
    SPLIT_COLUMNS,
    SUMMARY_COLUMNS,
    clr_of_fold,
    corrected_interval,
    pca_encoder,
    predict,
    predict_study,
)
from latentomics.problems import InputError

#: As small as the schema allows: 40 splits, one penalty, no forest.
FAST = Prediction(target="condition", n_folds=2, classifiers=["logistic"], inverse_penalties=[0.01])
NO_ENCODER: dict = {}


def _table(seed: int, n: int = 40, taxa: int = 40, effect: float = 0.0, classes: int = 2):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), n // classes)
    logs = rng.normal(0, 1.5, taxa) + rng.normal(0, 1, (len(y), taxa))
    for i in range(classes):
        logs[y == i, i * 5 : i * 5 + 5] += effect
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    counts = np.array([rng.multinomial(3000, row) for row in shares])
    return counts, pd.Series([f"group {i}" for i in y])


def test_corrected_interval_by_hand():
    values = np.array([0.7, 0.8, 0.9, 0.6])
    mean, low, high, p = corrected_interval(values - 0.5, 0.25)
    error = np.sqrt((1 / 4 + 0.25) * np.var(values, ddof=1))
    assert mean == pytest.approx(0.25)
    assert high - mean == pytest.approx(stats.t.ppf(0.975, 3) * error) and mean - low == pytest.approx(high - mean)
    assert p == pytest.approx(2 * stats.t.sf(0.25 / error, 3))


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.2, 0.2, 0.2], 0.0)])
def test_corrected_interval_without_spread(values, p):
    mean, low, high, found = corrected_interval(np.array(values), 0.25)
    np.testing.assert_allclose((low, high, found), (mean, mean, p), atol=1e-12)


def test_planted_signal_is_found_by_every_model():
    counts, target = _table(0, effect=1.2)
    params = FAST.model_copy(update={"classifiers": ["random_forest", "logistic"], "n_trees": 20})
    summary, splits = predict(csr_matrix(counts), target, params, seed=0, encoders={"pca": pca_encoder(5)})
    assert tuple(summary.columns) == SUMMARY_COLUMNS and tuple(splits.columns) == SPLIT_COLUMNS
    assert list(zip(summary["model"], summary["features"], strict=True)) == [
        ("random_forest", "relative"),
        ("logistic", "clr"),
        ("logistic", "pca"),
    ]
    assert (summary["n_splits"] == 40).all() and len(splits) == 120
    assert (summary["auc_low"] > 0.5).all() and (summary["auc_high"] <= 1).all()
    clr = summary.iloc[1]
    assert "are told apart" in clr["verdict"] and np.isnan(clr["p"]) and np.isnan(clr["difference_to_clr"])
    for _, row in summary.iloc[[0, 2]].iterrows():
        assert row["difference_to_clr"] == pytest.approx(row["auc_mean"] - clr["auc_mean"])
        assert row["difference_low"] <= row["difference_to_clr"] <= row["difference_high"]
        assert (row["p"] < 0.05) == (row["difference_low"] > 0 or row["difference_high"] < 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_leak_random_labels_stay_at_chance_even_with_chosen_features(seed):
    counts, target = _table(10 + seed, taxa=300)
    params = FAST.model_copy(update={"n_features": 10})
    summary, _ = predict(counts, target, params, seed, encoders={"pca": pca_encoder(5)})
    assert ((summary["auc_low"] < 0.5) & (summary["auc_high"] > 0.5)).all()
    assert "cannot be told apart" in summary["verdict"][0]
    # The same choice made before the folds were cut would have looked like a discovery.
    best = np.argsort(-np.nan_to_num(f_classif(normalise(counts, "clr", 0), target)[0]))[:10]
    leaked, _ = predict(counts[:, best], target, FAST, seed, encoders=NO_ENCODER)
    assert leaked["auc_low"][0] > 0.5


def test_an_encoder_gets_counts_of_disjoint_samples_and_a_seed_and_nothing_else():
    counts, target = _table(0, effect=1.0)
    counts[:, 0] = np.arange(1, 41)  # names the sample
    seen = []

    def spy(*given):
        train, test, seed = given
        seen.append((set(train[:, 0]), set(test[:, 0]), seed))
        return train[:, :3], test[:, :3]

    predict(counts, target, FAST, 0, encoders={"spy": spy})
    assert len(seen) == 40 and len({seed for *_, seed in seen}) == 40
    assert all(not train & test and len(train | test) == 40 for train, test, _ in seen)


def test_labels_of_the_test_fold_change_nothing_but_the_verdict():
    counts, target = _table(1, effect=0.5)
    y = np.unique(target, return_inverse=True)[1]
    params = Prediction(target="condition", n_folds=2, n_trees=10, n_features=8)
    split = prediction._cross_validation(y, params, 0)[0]
    flipped = y.copy()
    flipped[split.test] = 1 - y[split.test]
    encoders = {"pca": pca_encoder(3)}
    table = counts.astype(float)
    first = prediction._one_split(table, y, split, params, 5, 1, encoders)
    second = prediction._one_split(table, flipped, split, params, 5, 1, encoders)
    assert all(second[key] == pytest.approx(1 - first[key]) for key in first)


def test_what_a_zero_is_replaced_by_comes_from_the_training_samples():
    counts, _ = _table(0)
    train, test = counts[:20].astype(float), counts[20:].astype(float)
    test[0] *= 1000
    test[0, 0] = 1  # a share far below any of the training samples
    z_train, z_test = clr_of_fold(train, test)
    np.testing.assert_array_equal(z_train, normalise(train, "clr", 0))
    np.testing.assert_array_equal(z_train, clr_of_fold(train, test[:1])[0])
    np.testing.assert_array_equal(z_test[3:4], clr_of_fold(train, test[3:4])[1])


def test_a_sample_with_none_of_the_taxa_is_its_own_centre():
    train, test = np.array([[3.0, 1, 2], [1, 4, 1]]), np.array([[0.0, 0, 0], [1, 1, 2]])
    z = clr_of_fold(train, test)[1]
    assert (z[0] == 0).all() and z[1, 2] > 0


def test_pca_encoder_projects_test_samples_onto_training_axes():
    counts, _ = _table(0)
    latent, projected = pca_encoder(4)(counts[:30], counts[30:], 0)
    z, z_test = clr_of_fold(counts[:30], counts[30:])
    _, _, axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(latent), np.abs((z - z.mean(axis=0)) @ axes[:4].T), atol=1e-8)
    np.testing.assert_allclose(np.abs(projected), np.abs((z_test - z.mean(axis=0)) @ axes[:4].T), atol=1e-8)
    assert pca_encoder(20)(counts[:6], counts[6:], 0)[1].shape == (34, 6)


def test_three_conditions_by_the_mean_of_one_against_the_rest():
    counts, target = _table(2, n=45, effect=1.5, classes=3)
    summary, _ = predict(counts, target, FAST, 0, encoders=NO_ENCODER)
    assert summary["auc_low"][0] > 0.5
    assert "group 0, group 1, group 2 are told apart" in summary["verdict"][0]


def test_batches_are_left_out_one_by_one():
    counts, target = _table(3, effect=1.5)
    batch = pd.Series(["x", "y"] * 19 + ["", None])
    summary, splits = predict(counts, target, FAST, 0, batch=batch)
    left = splits[(splits["scheme"] == LEAVE_ONE_BATCH_OUT) & (splits["features"] == "clr")]
    assert list(left["held_out"]) == ["x", "y"] and (left["n_train"] == 19).all() and (left["n_test"] == 19).all()
    row = summary[(summary["scheme"] == LEAVE_ONE_BATCH_OUT) & (summary["features"] == "clr")].iloc[0]
    assert row["auc_mean"] == pytest.approx(left["auc"].mean()) and np.isnan(row["auc_low"])
    assert "2 held-out batch(es)" in row["verdict"]


def test_a_batch_signal_does_not_survive_leaving_batches_out():
    counts, target = _table(4, n=80)
    batch = pd.Series(["x"] * 32 + ["y"] * 8 + ["x"] * 8 + ["y"] * 32)
    counts[(batch == "y").to_numpy(), :8] *= 6
    summary, _ = predict(counts, target, FAST, 0, batch=batch, encoders=NO_ENCODER)
    auc = summary.set_index("scheme")["auc_mean"]
    assert auc[CROSS_VALIDATION] > 0.7 > 0.65 > auc[LEAVE_ONE_BATCH_OUT]


def test_batches_that_hold_one_condition_cannot_be_left_out():
    counts, target = _table(0)
    summary, _ = predict(counts, target, FAST, 0, batch=target, encoders=NO_ENCODER)
    assert set(summary["scheme"]) == {CROSS_VALIDATION}


@pytest.mark.parametrize("target", [["a"] * 40, [""] * 40, ["a"] * 39 + ["b"]])
def test_nothing_to_predict_is_a_row_that_says_so(target):
    counts, _ = _table(0)
    summary, splits = predict(counts, pd.Series(target), FAST, 0)
    assert len(summary) == 1 and splits.empty and tuple(splits.columns) == SPLIT_COLUMNS
    assert summary["verdict"][0].startswith("not predicted: two groups are needed")


def test_small_conditions_are_left_out_and_named():
    counts, target = _table(0)
    target[:2], target[2] = "rare", None
    params = FAST.model_copy(update={"n_folds": 3})
    summary, splits = predict(counts, target, params, 0, encoders=NO_ENCODER)
    assert "left out, fewer than 3 samples: rare" in summary["verdict"][0]
    assert (splits["n_train"] + splits["n_test"] == 37).all()


def test_deterministic_whatever_the_storage():
    counts, target = _table(0, effect=0.5)
    first = predict(counts, target, FAST, 3)[1]
    pd.testing.assert_frame_equal(first, predict(csr_matrix(counts), target, FAST, 3)[1])
    assert not np.array_equal(first["auc"], predict(counts, target, FAST, 4)[1]["auc"])


def test_the_forest_does_not_depend_on_threads():
    counts, target = _table(0, effect=0.5)
    y = np.unique(target, return_inverse=True)[1]
    params = Prediction(target="condition", n_trees=20)
    split = prediction._cross_validation(y, params, 0)[0]
    one, two = (prediction._one_split(counts.astype(float), y, split, params, 5, n, {}) for n in (1, 2))
    assert one == two


def test_the_penalty_is_chosen_within_the_training_samples():
    counts, target = _table(0, effect=1.0)
    z, y = normalise(counts, "clr", 0), np.unique(target, return_inverse=True)[1]
    even = np.arange(40) % 2 == 0

    def fitted(penalties):
        return prediction._logistic(z[even], y[even], z[~even], Prediction(inverse_penalties=penalties), 0)

    np.testing.assert_array_equal(fitted([1e-6, 0.1]), fitted([0.1]))
    assert not np.allclose(fitted([1e-6]), fitted([0.1]))


def test_a_rotation_changes_nothing():
    counts, target = _table(0, effect=0.5)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    train, test = (z.copy() for z in np.split(normalise(counts, "clr", 0)[np.argsort(np.arange(40) % 2)], 2))
    y = np.unique(target, return_inverse=True)[1][::2]
    plain = prediction._logistic(train, y, test, FAST, 0)
    turned = prediction._logistic(train @ rotation, y, test @ rotation, FAST, 0)
    np.testing.assert_allclose(plain, turned, atol=1e-3)


def _store(path, target: pd.Series, counts) -> CountsStore:
    matrix = csr_matrix(counts).astype(np.int32)
    obs = pd.DataFrame({"condition": target.to_numpy()}, index=[f"s{i}" for i in range(len(target))])
    var = pd.DataFrame({"lineage": "d__Bacteria"}, index=[f"taxon {i}" for i in range(matrix.shape[1])])
    writer = CountsWriter(path, *matrix.shape, matrix.nnz)
    writer.append(matrix)
    writer.close(obs, var)
    return CountsStore(path)


def test_a_study_is_predicted_from_its_store(tmp_path):
    counts, target = _table(0, effect=1.0)
    store = _store(tmp_path / "counts.zarr", target, counts)
    expected = predict(counts, target, FAST, 0)[0]
    pd.testing.assert_frame_equal(predict_study(store, FAST, 0)[0], expected)
    with pytest.raises(InputError, match=r"prediction\.target.*no column of that name.*'disease'(.|\n)*condition"):
        predict_study(store, FAST.model_copy(update={"target": "disease"}), 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_repeats": 19},
        {"n_folds": 1},
        {"classifiers": []},
        {"classifiers": ["random_forest"]},
        {"classifiers": ["logistic", "logistic"]},
        {"inverse_penalties": [0]},
        {"n_trees": 0},
        {"target": ""},
    ],
)
def test_config_is_bounded(bad):
    with pytest.raises(ValidationError):
        Prediction(**bad)
    assert Prediction().target is None
