"""The scores against scikit-learn, against brute force, and against data whose score is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from embedding_cases import blobs
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from latentomics.config.scores import Scores
from latentomics.score import scoreboard
from latentomics.score.catalogue import RANKED, SCORES
from latentomics.score.costs import cost_table
from latentomics.score.scoreboard import (
    NEIGHBOURS,
    Judged,
    _codes,
    _label_scores,
    _lisi,
    _neighbour_prediction,
    _neighbours,
    _overlap,
    _trustworthiness,
    chosen_stability,
    score_embeddings,
)

N = 240  # one size throughout: scib-metrics compiles for every shape
CENTRES = np.array([[0.0, 0, 0], [30, 0, 0], [0, 30, 0]])


@pytest.fixture(scope="module")
def islands() -> tuple[np.ndarray, np.ndarray]:
    return blobs(N // 3, CENTRES)


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    return np.random.default_rng(4).normal(size=(N, 3)).astype(np.float32)


def judged(latent: np.ndarray, clusters: np.ndarray | None = None, stability: float = 0.9) -> Judged:
    return Judged(latent, np.zeros(len(latent), int) if clusters is None else clusters, stability)


def scored(embeddings: dict[str, Judged], held_out: np.ndarray | None = None, **obs: object) -> pd.DataFrame:
    n = len(next(iter(embeddings.values())).latent)
    expression = np.random.default_rng(0).poisson(1.0, size=(n, 12)).astype(np.float32)
    mask = np.arange(n) % 10 == 0 if held_out is None else held_out
    return score_embeddings(
        embeddings, expression.__getitem__, pd.DataFrame(obs, index=range(n)), mask, Scores(), seed=0
    )


# Without labels


@pytest.mark.parametrize(("n", "noise"), [(90, 0.1), (90, 3.0), (1100, 1.0)])
def test_trustworthiness_is_scikit_learns(n: int, noise: float) -> None:
    rng = np.random.default_rng(1)
    expression = rng.normal(size=(n, 30)).astype(np.float32)
    latent = expression[:, :4] + noise * rng.normal(size=(n, 4)).astype(np.float32)
    index, _ = _neighbours(latent)
    expected = trustworthiness(expression, latent, n_neighbors=NEIGHBOURS)
    assert _trustworthiness(expression, index) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n", [4, 7, 20, 24, 30, 31])
def test_trustworthiness_of_few_cells_uses_as_many_neighbours_as_are_defined(n: int) -> None:
    rng = np.random.default_rng(n)
    expression, latent = rng.normal(size=(n, 10)), rng.normal(size=(n, 2))
    found = _trustworthiness(expression, _neighbours(latent)[0])
    k = min(NEIGHBOURS, (n - 1) // 2)
    assert found == pytest.approx(trustworthiness(expression, latent, n_neighbors=k))
    assert 0 <= found <= 1


def test_neighbours_are_the_nearest_and_not_the_cell_itself(cloud: np.ndarray) -> None:
    index, distance = _neighbours(cloud)
    all_distances = np.linalg.norm(cloud[:, None] - cloud[None], axis=2)
    np.fill_diagonal(all_distances, np.inf)
    np.testing.assert_allclose(distance, np.sort(all_distances, axis=1)[:, :NEIGHBOURS], rtol=1e-3, atol=1e-3)
    assert (index != np.arange(N)[:, None]).all()


def test_overlap_by_brute_force(cloud: np.ndarray, islands: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = (_neighbours(latent)[0] for latent in (cloud, islands[0]))
    expected = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(one, other, strict=True)])
    assert _overlap(one, other) == pytest.approx(expected)
    assert 0 < expected < 0.3
    assert _overlap(one, one[:, ::-1]) == 1


def test_neighbour_prediction_by_brute_force(islands: tuple[np.ndarray, np.ndarray]) -> None:
    latent, truth = islands
    rng = np.random.default_rng(3)
    expression = (rng.normal(size=(3, 20))[truth] + 0.5 * rng.normal(size=(N, 20))).astype(np.float32)
    held_out = np.arange(N) % 7 == 0
    train = np.flatnonzero(~held_out)
    residual = total = 0.0
    for i in np.flatnonzero(held_out):
        near = train[np.argsort(((latent[train] - latent[i]) ** 2).sum(axis=1))[:15]]
        residual += ((expression[i] - expression[near].mean(axis=0)) ** 2).sum()
        total += ((expression[i] - expression[train].mean(axis=0)) ** 2).sum()
    found = _neighbour_prediction(expression, latent, held_out)
    assert found == pytest.approx(1 - residual / total, rel=1e-4)
    assert 0.5 < found < 0.95
    noise = _neighbour_prediction(expression, rng.normal(size=(N, 3)), held_out)
    assert -0.2 < noise < 0.05, "a latent space that says nothing predicts nothing"


@pytest.mark.parametrize(("n_held_out", "known"), [(4, False), (5, True), (N - 16, True), (N - 15, False)])
def test_neighbour_prediction_needs_cells_on_both_sides(cloud: np.ndarray, n_held_out: int, known: bool) -> None:
    held_out = np.arange(N) < n_held_out
    assert np.isfinite(_neighbour_prediction(cloud, cloud, held_out)) == known


# Batches


def test_shuffled_batches_mix_as_expected_and_separate_ones_not_at_all(
    islands: tuple[np.ndarray, np.ndarray], cloud: np.ndarray
) -> None:
    latent, truth = islands
    shuffled = np.random.default_rng(0).permutation(np.arange(N) % 3).astype(str)
    mixed = scored({"pca": judged(cloud)}, batch=shuffled).loc["pca"]
    apart = scored({"pca": judged(latent)}, batch=truth.astype(str)).loc["pca"]
    assert mixed["batch_mixing"] > 0.4
    assert mixed["batch_mixing"] == pytest.approx(mixed["batch_mixing_expected"], abs=0.07)
    assert apart["batch_mixing"] == pytest.approx(0, abs=1e-6)
    assert apart["batch_mixing_expected"] > 0.4, "what it would be without the effect"


def test_cells_of_unknown_batch_take_no_part(cloud: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    # Two batches on either side, and as many cells without a batch right among both.
    batch = np.where(cloud[:, 0] > 0, "a", "b").astype(object)
    unknown = rng.random(N) < 0.5
    known = scored({"pca": judged(cloud[~unknown])}, batch=batch[~unknown]).loc["pca"]
    for missing in ("", None, np.nan):
        batch[unknown] = missing
        found = scored({"pca": judged(cloud)}, batch=batch).loc["pca"]
        assert found["batch_mixing"] == pytest.approx(known["batch_mixing"], abs=1e-5)
        assert found["batch_mixing_expected"] == pytest.approx(known["batch_mixing_expected"], abs=0.1)
    assert known["batch_mixing"] < 0.2


@pytest.mark.parametrize("n", [3, 5, 6])
def test_batch_mixing_of_a_handful_is_unknown_or_in_range(cloud: np.ndarray, n: int) -> None:
    found = _lisi(*_neighbours(cloud[:n]), np.arange(n) % 2)
    assert np.isnan(found) if n < 6 else 0 <= found <= 1


# Labels


def test_separated_labels_are_perfect_and_shuffled_ones_are_not(islands: tuple[np.ndarray, np.ndarray]) -> None:
    latent, truth = islands
    item = judged(latent, np.array(["2", "0", "1"])[truth])
    good = scored({"pca": item}, label=np.array(["T", "B", "NK"])[truth]).loc["pca"]
    assert good["label_ari"] == good["label_nmi"] == good["label_purity"] == 1
    assert good["label_silhouette"] > 0.9
    bad = scored({"pca": item}, label=np.random.default_rng(0).permutation(truth).astype(str)).loc["pca"]
    assert abs(bad["label_ari"]) < 0.05
    assert bad["label_nmi"] < 0.05
    assert bad["label_purity"] == pytest.approx(1 / 3, abs=0.05)
    assert bad["label_silhouette"] == pytest.approx(0.5, abs=0.05)


def test_cells_of_unknown_label_are_ignored(islands: tuple[np.ndarray, np.ndarray]) -> None:
    latent, truth = islands
    label = np.array(["T", "B", "NK"], dtype=object)[truth]
    clusters = np.where(np.arange(N) % 5 == 0, 9, truth)
    unknown = np.random.default_rng(1).random(N) < 0.5
    known = ~unknown
    for missing in ("", None, np.nan):
        label[unknown] = missing
        found = scored({"pca": judged(latent, clusters)}, label=label).loc["pca"]
        assert found["label_purity"] == 1, "a neighbour without a label is not one of another label"
        assert found["label_ari"] == pytest.approx(adjusted_rand_score(truth[known], clusters[known]))
        assert found["label_nmi"] == pytest.approx(normalized_mutual_info_score(truth[known], clusters[known]))
        assert found["label_silhouette"] > 0.9


def test_purity_by_brute_force(cloud: np.ndarray) -> None:
    labels = pd.Series(np.where(cloud[:, 0] > 0, "a", "b"), dtype=object)
    labels[::4] = ""
    index = _neighbours(cloud)[0]
    same = [labels[i] == labels[j] for i in range(N) for j in index[i] if labels[i] and labels[j]]
    codes = _codes(pd.DataFrame({"label": labels}), "label", np.arange(N))
    found = _label_scores(judged(cloud), labels, codes, np.arange(N), index)
    assert found["label_purity"] == pytest.approx(np.mean(same))


@pytest.mark.parametrize(
    "values",
    [None, ["", "", ""], ["a", "a", "a"], ["a", "", "a"], [None, None, "a"], [np.nan, "a", "a"]],
    ids=["absent", "empty", "one", "one_and_empty", "one_and_none", "one_and_nan"],
)
@pytest.mark.parametrize("column", ["batch", "label"])
def test_a_column_without_two_values_is_not_scored(column: str, values: list | None) -> None:
    obs = pd.DataFrame(index=range(3)) if values is None else pd.DataFrame({column: values})
    assert _codes(obs, column, np.arange(3)) is None
    if values is not None and any(pd.notna(v) for v in values):
        assert _codes(obs.astype("category"), column, np.arange(3)) is None


def test_codes_of_a_sample_leave_no_gaps() -> None:
    obs = pd.DataFrame({"label": ["a", "b", "", "c", "d"]})
    np.testing.assert_array_equal(_codes(obs, "label", np.array([1, 2, 4])), [0, -1, 1])
    assert _codes(obs, "label", np.array([2, 4])) is None


def test_scores_that_do_not_apply_are_nan(cloud: np.ndarray) -> None:
    found = scored({"scvi": judged(cloud, stability=np.nan)}, held_out=np.arange(N) < 3).loc["scvi"]
    assert set(found.index[found.isna()]) == set(SCORES) - {"trustworthiness"}
    assert found["n_clusters"] == 1


# The board


def test_the_board_has_a_row_per_embedding_and_a_column_per_score(
    cloud: np.ndarray, islands: tuple[np.ndarray, np.ndarray]
) -> None:
    truth = islands[1]
    items = {"pca": judged(cloud, truth), "scvi": judged(islands[0], truth.astype(str), 0.7)}
    obs = {"batch": (np.arange(N) % 2).astype(str), "label": truth.astype(str)}
    board = scored(items, **obs)
    assert list(board.index) == ["pca", "scvi"]
    assert board.index.name == "embedding"
    assert list(board) == [*SCORES, "n_clusters"]
    assert board.notna().all(axis=None)
    assert list(board["n_clusters"]) == [3, 3]
    assert list(board["stability"]) == [0.9, 0.7]
    assert board.loc["pca", "neighbour_overlap_pca"] == 1 > board.loc["scvi", "neighbour_overlap_pca"]
    ranged = board.drop(columns=["n_clusters", "neighbour_prediction", "label_ari"])
    assert ranged.ge(0).all(axis=None)
    assert ranged.le(1).all(axis=None)
    pd.testing.assert_frame_equal(board, scored(items, **obs))
    alone = scored({"scvi": items["scvi"]}, **obs)
    same = [c for c in board if c != "neighbour_overlap_pca"]
    pd.testing.assert_series_equal(alone.loc["scvi", same], board.loc["scvi", same])


def test_large_data_are_scored_on_one_sample_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    latent, truth = blobs(150, CENTRES)
    labels = truth.astype(str)
    sizes, read = [], []
    monkeypatch.setattr(scoreboard, "_trustworthiness", lambda dense, index: sizes.append(index.shape) or dense.sum())
    board = score_embeddings(
        {"pca": judged(latent, truth), "scvi": judged(latent, truth)},
        lambda rows: read.append(rows) or latent[rows],
        pd.DataFrame({"label": labels}),
        np.arange(450) % 5 == 0,
        Scores(max_cells=N),
        seed=1,
    )
    assert sizes == [(N, NEIGHBOURS)] * 2
    assert [len(set(rows)) for rows in read] == [N], "no other expression is read, and that once"
    pd.testing.assert_series_equal(board.loc["pca"], board.loc["scvi"], check_names=False)
    assert board.loc["pca", "label_ari"] == 1
    assert board.loc["pca", "label_purity"] == 1, "labels and neighbours are of the same sample"


def test_every_ranked_score_has_a_name_and_a_meaning() -> None:
    assert set(RANKED) <= set(SCORES)
    for score in SCORES.values():
        assert score.name[0].isupper()
        assert "_" not in score.name
        assert not score.meaning.endswith(".")
    assert len({score.name for score in SCORES.values()}) == len(SCORES)


def test_one_cluster_has_no_stability() -> None:
    evidence = pd.DataFrame(
        {"resolution": [0.1, 0.5], "n_clusters": [1, 4], "stability": [1.0, 0.9], "chosen": [False, True]}
    )
    assert chosen_stability(evidence) == 0.9
    assert np.isnan(chosen_stability(evidence.assign(chosen=False)))
    assert np.isnan(chosen_stability(evidence.assign(chosen=[True, False]))), "pinned, but one cluster"


def test_costs_are_those_of_the_benchmark_and_the_summary(tmp_path) -> None:
    (tmp_path / "b.tsv").write_text("s\th:m:s\tmax_rss\n99\t0:01:39\t-\n12.345\t0:00:12\t2048.6\n")
    (tmp_path / "s.json").write_text('{"device": "cpu (2 threads)"}')
    table = cost_table({"pca": tmp_path / "b.tsv"}, {"pca": tmp_path / "s.json"})
    assert table.loc["pca"].to_dict() == {"seconds": 12.3, "max_rss_mb": 2049, "device": "cpu (2 threads)"}
    assert table.index.name == "embedding"
