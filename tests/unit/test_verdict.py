"""What is said about hand-made scoreboards."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.score.catalogue import RANKED, SCORES
from latentomics.score.verdict import build_verdict

NAN = math.nan
PCA = {
    "title": "PCA",
    "n_parameters": 1000,
    "n_latent": 5,
    "held_out_r2": [0.1, 0.2, 0.3, 0.35, 0.4],
    "device": "cpu",
}
AUTOENCODER = {"title": "Autoencoder", "n_parameters": 50_000, "n_latent": 3, "n_steps": 2000, "held_out_r2": 0.30}
SCVI = {"title": "scVI", "n_parameters": 80_000, "n_latent": 4, "n_steps": 2000}
SUMMARIES = {"pca": PCA, "autoencoder": AUTOENCODER, "scvi": SCVI}


def board(**scores: dict[str, float]) -> pd.DataFrame:
    """A scoreboard from what is given, ``method={score: value}``; the rest unknown."""
    table = pd.DataFrame.from_dict(scores, orient="index").reindex(columns=[*SCORES, "n_clusters"])
    return table.fillna({"n_clusters": 5})


def judge(scores: pd.DataFrame, summaries: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    given = {
        "shape": (2000, 20_000),
        "n_nonzero": 4_000_000,
        "median_counts": 1500.0,
        "n_selected": 1000,
        "primary": "pca",
        "why_primary": "one batch",
        "tie": 0.02,
    }
    chosen = {name: SUMMARIES[name] for name in scores.index} if summaries is None else summaries
    return build_verdict(scores=scores, summaries=chosen, **(given | changes))


def predicted(**values: float) -> pd.DataFrame:
    return board(**{name: {"neighbour_prediction": value} for name, value in values.items()})


# Is a deep embedding warranted?


@pytest.mark.parametrize(
    ("pca", "scvi", "answer"),
    [
        (0.20, 0.26, "yes"),
        (0.26, 0.20, "no"),
        (0.20, 0.21, "unclear"),
        (0.50, 0.52, "unclear"),  # exactly the tie, though 0.52 - 0.50 > 0.02 in binary
        (0.52, 0.50, "unclear"),
        (0.50, 0.5201, "yes"),
        (0.5201, 0.50, "no"),
        (-0.02, -0.01, "unclear"),
    ],
)
def test_the_answer_follows_the_held_out_cells(pca: float, scvi: float, answer: str) -> None:
    found = judge(predicted(pca=pca, scvi=scvi))
    assert found["warranted"] == answer
    word = {"yes": "a deep embedding is warranted here", "no": "do not warrant", "unclear": "are even"}[answer]
    assert word in found["verdict"]
    assert "scVI" in found["verdict"]


def test_the_gain_is_given_in_figures() -> None:
    assert "scVI does better than PCA (by 0.060 of the variance)" in judge(predicted(pca=0.2, scvi=0.26))["verdict"]
    assert "(the best, scVI, is behind by 0.060" in judge(predicted(pca=0.26, scvi=0.2))["verdict"]
    assert "(difference -0.010 of the variance)" in judge(predicted(pca=0.26, scvi=0.25))["verdict"]


def test_reconstruction_is_compared_with_as_many_principal_components() -> None:
    # PCA explains 0.3 with the three dimensions that the autoencoder has, 0.4 with its five.
    better = AUTOENCODER | {"held_out_r2": 0.35}
    scores = predicted(pca=0.3, autoencoder=0.1)
    found = judge(scores, {"pca": PCA, "autoencoder": better})
    assert found["warranted"] == "yes"
    assert "Autoencoder does better than PCA (by 0.050 of the variance)" in found["verdict"]
    entry = next(e for e in found["evidence"] if e["name"].startswith("Held-out variance"))
    assert entry["value"] == "0.350 against 0.300"
    assert "that 3 dimensions reconstruct" in entry["meaning"]


def test_no_comparison_where_pca_has_fewer_dimensions() -> None:
    wide = AUTOENCODER | {"n_latent": 20, "held_out_r2": 0.9}
    found = judge(predicted(pca=NAN, autoencoder=NAN), {"pca": PCA, "autoencoder": wide})
    assert found["warranted"] == "unclear"
    assert not any("Held-out variance" in e["name"] for e in found["evidence"])


def test_the_best_deep_embedding_decides() -> None:
    found = judge(predicted(pca=0.3, autoencoder=0.2, scvi=0.4), SUMMARIES)
    assert found["warranted"] == "yes"
    assert "scVI does better" in found["verdict"]


@pytest.mark.parametrize(("pca", "scvi"), [(0.2, 0.3), (0.3, 0.2), (0.2, 0.2)])
def test_a_handful_of_held_out_observations_is_said(pca: float, scvi: float) -> None:
    few = {"pca": PCA, "scvi": SCVI | {"n_held_out": 9}}
    assert "Only 9 were held out: read this with care." in judge(predicted(pca=pca, scvi=scvi), few)["verdict"]
    enough = {"pca": PCA, "scvi": SCVI | {"n_held_out": 10}}
    assert "held out:" not in judge(predicted(pca=pca, scvi=scvi), enough)["verdict"]


@pytest.mark.parametrize("word", ["cell", "cells", "gene", "genes", "expression"])
def test_words_fit_every_assay(word: str) -> None:
    scores = board(
        pca=dict.fromkeys(RANKED, 0.5), scvi=dict.fromkeys(RANKED, 0.6), autoencoder=dict.fromkeys(RANKED, 0.4)
    )
    said = json.dumps([judge(scores), [s._asdict() for s in SCORES.values()]])
    assert word not in re.findall(r"\w+", said)


def test_shares_of_a_count_are_not_rounded_away() -> None:
    found = judge(predicted(pca=0.2, scvi=0.3), n_nonzero=63)
    assert {e["value"] for e in found["evidence"] if e["name"].startswith("Observed counts")} == {0.00079}


def test_too_few_held_out_cells() -> None:
    found = judge(predicted(pca=NAN, scvi=NAN))
    assert found["warranted"] == "unclear"
    assert "Too few held-out observations" in found["verdict"]


def test_without_pca_there_is_nothing_to_compare_with() -> None:
    found = judge(predicted(scvi=0.5))
    assert found["warranted"] == "unclear"
    assert "PCA was not computed" in found["verdict"]
    assert found["sentences"] == []


def test_without_a_deep_method_the_run_cannot_say() -> None:
    found = judge(predicted(pca=0.5))
    assert found["warranted"] == "unclear"
    assert "No deep embedding was computed" in found["verdict"]


@pytest.mark.parametrize(("n_obs", "said"), [(999, True), (1000, False)])
def test_fewer_observations_than_features_are_mentioned(n_obs: int, said: bool) -> None:
    found = judge(predicted(pca=0.2, scvi=0.2), shape=(n_obs, 20_000))
    assert ("There are fewer observations than features." in found["verdict"]) == said
    assert found["verdict"].startswith(f"{n_obs:,} observations of 1,000 selected features ({n_obs / 1000:.2f} per")


def test_facts_about_the_data() -> None:
    found = judge(predicted(pca=0.2, scvi=0.2))
    assert found["sparsity"] == pytest.approx(0.9)
    assert (found["ratio"], found["ratio_selected"]) == (0.1, 2.0)
    assert found["parameters"] == {"pca": 1000, "scvi": 80_000}
    assert {e["name"]: e["value"] for e in found["evidence"]} == {
        "Observations per selected feature": 2.0,
        "Observed counts per parameter, scVI": 50.0,
        "Neighbour prediction": "PCA 0.200, scVI 0.200",
    }


# Who won on what?


def test_every_ranked_score_has_its_sentence() -> None:
    low, high = (dict.fromkeys(RANKED, value) for value in (0.4, 0.5))
    sentences = judge(board(pca=low, scvi=high))["sentences"]
    assert sentences == [
        "Agreement with labels (ARI): scVI wins (PCA 0.40, scVI 0.50).",
        "Agreement with labels (NMI): scVI wins (PCA 0.40, scVI 0.50).",
        "Silhouette of labels: scVI wins (PCA 0.40, scVI 0.50).",
        "Purity of labels: scVI wins (PCA 0.40, scVI 0.50).",
        "Batch mixing: scVI wins (PCA 0.40, scVI 0.50).",
        "Neighbour prediction: scVI wins (PCA 0.40, scVI 0.50).",
        "scVI beats PCA: better on agreement with labels (ARI), agreement with labels (NMI), silhouette of labels, purity of "
        "labels, batch mixing and neighbour prediction.",
    ]


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((0.50, 0.52, 0.40), "PCA and Autoencoder tie"),
        ((0.50, 0.51, 0.52), "PCA, Autoencoder and scVI tie"),
        ((0.50, 0.53, 0.40), "Autoencoder wins"),
        ((0.60, 0.53, 0.40), "PCA wins"),
        ((0.50, 0.52, 0.54), "Autoencoder and scVI tie"),
        ((0.00, 0.00, 0.00), "PCA, Autoencoder and scVI tie"),
    ],
)
def test_differences_within_the_tie_are_a_tie(values: tuple[float, ...], outcome: str) -> None:
    scores = board(**{n: {"batch_mixing": v} for n, v in zip(SUMMARIES, values, strict=True)})
    figures = "PCA {:.2f}, Autoencoder {:.2f}, scVI {:.2f}".format(*values)
    assert judge(scores, SUMMARIES)["sentences"][0] == f"Batch mixing: {outcome} ({figures})."


@pytest.mark.parametrize(
    ("mixing", "purity", "said"),
    [
        (0.6, 0.6, "scVI beats PCA: better on purity of labels and batch mixing."),
        (0.6, 0.5, "scVI beats PCA: better on batch mixing; even on purity of labels."),
        (0.4, 0.5, "scVI does not beat PCA: worse on batch mixing; even on purity of labels."),
        (0.5, 0.5, "scVI and PCA are even: even on purity of labels and batch mixing."),
        (0.6, 0.4, "scVI and PCA each win something: better on batch mixing; worse on purity of labels."),
    ],
)
def test_did_it_beat_pca(mixing: float, purity: float, said: str) -> None:
    scores = board(
        pca={"batch_mixing": 0.5, "label_purity": 0.5}, scvi={"batch_mixing": mixing, "label_purity": purity}
    )
    assert judge(scores)["sentences"][-1] == said


def test_a_score_of_one_embedding_only_is_no_contest() -> None:
    scores = board(pca={"label_purity": NAN}, scvi={"label_purity": 0.9, "batch_mixing": 0.4})
    assert judge(scores)["sentences"] == []


def test_scores_that_only_describe_are_never_won() -> None:
    describing = {score: 0.1 for score in SCORES if score not in RANKED}
    assert judge(board(pca=describing, scvi=dict.fromkeys(describing, 0.9)))["sentences"] == []


@pytest.mark.parametrize("score", ["label_ari", "label_nmi"])
def test_a_single_cluster_wins_and_ties_nothing_about_clusters(score: str) -> None:
    one, many = {score: 0.0, "n_clusters": 1}, {score: 0.01, "n_clusters": 4}
    name = SCORES[score].name
    assert judge(board(pca=one, scvi=one))["sentences"] == []
    assert judge(board(pca=many, scvi=one))["sentences"][0] == f"{name}: PCA wins (PCA 0.01, scVI 0.00)."
    # The clusters of the other are worse than none: nobody won.
    worse = {score: -0.3, "n_clusters": 4}
    assert judge(board(pca=worse, scvi=one))["sentences"] == []


def test_scores_of_the_space_do_not_ask_for_clusters() -> None:
    scores = board(pca={"label_silhouette": 0.5, "n_clusters": 1}, scvi={"label_silhouette": 0.7, "n_clusters": 1})
    assert judge(scores)["sentences"][0] == "Silhouette of labels: scVI wins (PCA 0.50, scVI 0.70)."


VALUES = st.one_of(st.just(NAN), st.floats(-0.1, 1))


@given(
    st.lists(st.lists(VALUES, min_size=len(RANKED), max_size=len(RANKED)), min_size=3, max_size=3),
    st.integers(1, 5),
    st.floats(0, 0.3),
)
@settings(max_examples=100, deadline=None)
def test_whoever_is_named_is_within_the_tie_of_the_best(values: list[list[float]], n_clusters: int, tie: float) -> None:
    rows = {
        name: dict(zip(RANKED, row, strict=True)) | {"n_clusters": n_clusters}
        for name, row in zip(SUMMARIES, values, strict=True)
    }
    scores = board(**rows)
    found = judge(scores, SUMMARIES, tie=tie)
    json.dumps(found, allow_nan=False)
    by_name = {SCORES[score].name: score for score in RANKED}
    titles = {summary["title"]: name for name, summary in SUMMARIES.items()}
    for sentence in found["sentences"]:
        head, _, rest = sentence.partition(": ")
        if head not in by_name:
            continue
        column = scores[by_name[head]].dropna()
        outcome = rest.partition(" (")[0]
        named = {name for title, name in titles.items() if title in outcome}
        assert named == {name for name in column.index if column.max() - column[name] <= tie + 1e-9}
        assert outcome.endswith("wins" if len(named) == 1 else "tie")
        assert "nan" not in sentence
    assert found["warranted"] in {"yes", "no", "unclear"}
    assert np.isfinite([found["ratio"], found["sparsity"]]).all()
