"""What the figures say, in words: is there enough data for a deep embedding, and did one beat PCA?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from latentomics.score.catalogue import RANKED, SCORES

BASELINE = "pca"
#: Scores of the chosen clusters: an embedding with a single cluster cannot win them.
OF_CLUSTERS = ("label_ari", "label_nmi", "stability")
#: Differences of decimal figures that equal the tie are a tie, whatever their binary fractions say.
ROUNDING = 1e-9
#: With fewer held-out observations than this the verdict warns.
FEW_HELD_OUT = 10


def build_verdict(
    shape: tuple[int, int],
    n_nonzero: int,
    median_counts: float,
    n_selected: int,
    scores: pd.DataFrame,
    summaries: Mapping[str, Mapping[str, Any]],
    primary: str,
    why_primary: str,
    tie: float,
) -> dict[str, Any]:
    """The report's opening and closing statements, JSON-able.

    Parameters
    ----------
    shape
        Observations x features of the counts store.
    scores
        The scoreboard, one row per embedding.
    summaries
        ``summary.json`` of every embedding's model.
    tie
        Scores that differ by no more than this are a tie.
    """
    n_obs, n_features = shape
    deep = [name for name in scores.index if name != BASELINE and summaries[name].get("n_steps")]
    evidence = _evidence(n_obs, n_selected, n_nonzero, scores, summaries, deep)
    sentences, tally = _who_won(scores, summaries, tie)
    warranted, verdict = _warranted(n_obs, n_selected, scores, summaries, deep, tie)
    return {
        "n_obs": n_obs,
        "n_features": n_features,
        "n_selected": n_selected,
        "ratio": n_obs / n_features,
        "ratio_selected": n_obs / max(n_selected, 1),
        "sparsity": 1 - n_nonzero / max(n_obs * n_features, 1),
        "median_counts": median_counts,
        "primary": primary,
        "why_primary": why_primary,
        "warranted": warranted,
        "verdict": verdict,
        "evidence": evidence,
        "sentences": [*sentences, *_beat_baseline(deep, tally, summaries)],
        "parameters": {name: int(summary["n_parameters"]) for name, summary in summaries.items()},
    }


def _title(name: str, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    return str(summaries[name].get("title", name))


def _same_size_r2(name: str, summaries: Mapping[str, Mapping[str, Any]]) -> tuple[float, float, int] | None:
    """Held-out R squared of a network and of PCA with as many dimensions; None where PCA has not as many."""
    mine = summaries[name].get("held_out_r2")
    baseline = summaries.get(BASELINE, {}).get("held_out_r2") or []
    size = int(summaries[name]["n_latent"])
    if not isinstance(mine, float) or len(baseline) < size:
        return None
    return mine, float(baseline[size - 1]), size


def _evidence(
    n_obs: int,
    n_selected: int,
    n_nonzero: int,
    scores: pd.DataFrame,
    summaries: Mapping[str, Mapping[str, Any]],
    deep: list[str],
) -> list[dict[str, Any]]:
    found = [
        {
            "name": "Observations per selected feature",
            "value": round(n_obs / max(n_selected, 1), 2),
            "meaning": "below 1, there are fewer equations than unknowns: the curse of dimensionality in its plainest form",
        }
    ]
    for name in deep:
        found.append(
            {
                "name": f"Observed counts per parameter, {_title(name, summaries)}",
                "value": float(f"{n_nonzero / summaries[name]['n_parameters']:.2g}"),
                "meaning": "non-zero entries of the matrix per trainable weight; far below 1, only regularisation and early "
                "stopping keep a network from learning the observations by heart",
            }
        )
        pair = _same_size_r2(name, summaries)
        if pair:
            found.append(
                {
                    "name": f"Held-out variance explained, {_title(name, summaries)} against PCA",
                    "value": f"{pair[0]:.3f} against {pair[1]:.3f}",
                    "meaning": f"share of the variance of observations never trained on that {pair[2]} dimensions reconstruct",
                }
            )
    if "neighbour_prediction" in scores and scores["neighbour_prediction"].notna().any():
        values = ", ".join(
            f"{_title(name, summaries)} {value:.3f}" for name, value in scores["neighbour_prediction"].dropna().items()
        )
        found.append(
            {"name": "Neighbour prediction", "value": values, "meaning": SCORES["neighbour_prediction"].meaning}
        )
    return found


def _who_won(
    scores: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]], tie: float
) -> tuple[list[str], dict[str, dict[str, list[str]]]]:
    """A sentence per score, and for each method the scores on which it beats, ties with or loses to PCA."""
    sentences = []
    tally: dict[str, dict[str, list[str]]] = {
        name: {"wins": [], "ties": [], "losses": []} for name in scores.index if name != BASELINE
    }
    for score in RANKED:
        values = scores[score].dropna() if score in scores else pd.Series(dtype=float)
        able = _able_to_win(scores, score, values)
        if len(values) < 2 or able.empty or values.max() > able.max():
            continue
        first = [name for name in able.index if able.max() - able[name] <= tie + ROUNDING]
        figures = ", ".join(f"{_title(name, summaries)} {value:.2f}" for name, value in values.items())
        names = _listed([_title(name, summaries) for name in first])
        outcome = f"{names} wins" if len(first) == 1 else f"{names} tie"
        sentences.append(f"{SCORES[score].name}: {outcome} ({figures}).")
        if BASELINE in values:
            for name in tally:
                if name in values:
                    gap = values[name] - values[BASELINE]
                    kind = "ties" if abs(gap) <= tie + ROUNDING else "wins" if gap > 0 else "losses"
                    tally[name][kind].append(score)
    return sentences, tally


def _able_to_win(scores: pd.DataFrame, score: str, values: pd.Series) -> pd.Series:
    if score not in OF_CLUSTERS or "n_clusters" not in scores:
        return values
    return values[scores.loc[values.index, "n_clusters"] > 1]


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _beat_baseline(
    deep: list[str], tally: Mapping[str, Mapping[str, list[str]]], summaries: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    sentences = []
    for name in deep:
        won, lost, tied = (tally[name][kind] for kind in ("wins", "losses", "ties"))
        if not (won or lost or tied):
            continue
        title = _title(name, summaries)
        if won and not lost:
            head = f"{title} beats PCA"
        elif lost and not won:
            head = f"{title} does not beat PCA"
        elif not won:
            head = f"{title} and PCA are even"
        else:
            head = f"{title} and PCA each win something"
        parts = [
            f"{word} on {_listed([_in_sentence(score) for score in on])}"
            for word, on in (("better", won), ("worse", lost), ("even", tied))
            if on
        ]
        sentences.append(f"{head}: {'; '.join(parts)}.")
    return sentences


def _in_sentence(score: str) -> str:
    name = SCORES[score].name
    return name[0].lower() + name[1:]


def _warranted(
    n_obs: int,
    n_selected: int,
    scores: pd.DataFrame,
    summaries: Mapping[str, Mapping[str, Any]],
    deep: list[str],
    tie: float,
) -> tuple[str, str]:
    ratio = n_obs / max(n_selected, 1)
    size = f"{n_obs:,} observations of {n_selected:,} selected features ({ratio:.2f} per feature)"
    if not deep:
        return "unclear", f"{size}. No deep embedding was computed, so this run cannot say."
    if BASELINE not in scores.index:
        return "unclear", f"{size}. PCA was not computed, so there is nothing to compare the deep embeddings with."
    gaps = {}
    for name in deep:
        pair = _same_size_r2(name, summaries)
        shown = [pair[0] - pair[1]] if pair else []
        predicted = scores.loc[name, "neighbour_prediction"] - scores.loc[BASELINE, "neighbour_prediction"]
        gaps[name] = [g for g in (*shown, float(predicted)) if not math.isnan(g)]
    best = {name: max(found) for name, found in gaps.items() if found}
    if not best:
        return (
            "unclear",
            f"{size}. Too few held-out observations to measure whether a deep embedding generalises better.",
        )
    # With a handful of them, one odd observation decides.
    held_out = min(int(summaries[name].get("n_held_out") or FEW_HELD_OUT) for name in deep)
    care = f" Only {held_out:,} were held out: read this with care." if held_out < FEW_HELD_OUT else ""
    winner = max(best, key=lambda name: best[name])
    title = _title(winner, summaries)
    few = " There are fewer observations than features." if ratio < 1 else ""
    if best[winner] > tie + ROUNDING:
        return "yes", (
            f"{size}.{few} On observations that no method was trained on, {title} does better than PCA (by "
            f"{best[winner]:.3f} of the variance): a deep embedding is warranted here.{care}"
        )
    if best[winner] < -tie - ROUNDING:
        return "no", (
            f"{size}.{few} On observations that no method was trained on, no deep embedding does as well as PCA (the best, "
            f"{title}, is behind by {-best[winner]:.3f} of the variance): the data do not warrant one for representing them. "
            f"A deep model may still be worth its cost for removing batch effects: see the scoreboard.{care}"
        )
    return "unclear", (
        f"{size}.{few} On observations that no method was trained on, the best deep embedding ({title}) and PCA are even "
        f"(difference {best[winner]:+.3f} of the variance): PCA, the simpler one, suffices unless the scoreboard shows a gain in "
        f"batch mixing or agreement with labels.{care}"
    )
