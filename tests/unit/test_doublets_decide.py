"""Who is called a doublet: votes by hand, calls from the sheet, and what a decision may never change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.decide import calls_table, decide, said_doublets
from latentomics.scrna.doublets.registry import DoubletCalls
from latentomics.scrna.qc import DOUBLET

NA = pd.NA
BOTH = ["scrublet", "solo"]
ORDER = ["sample", "total_counts", "scrublet_score", "scrublet_doublet", "solo_score", "solo_doublet", "doublet_score"]
ORDER += ["doublet", "keep", "reason", "value", "limit"]


def cells(reasons) -> pd.DataFrame:
    """Cells judged by QC only."""
    reasons = pd.Series(reasons, index=[f"S_{i}" for i in range(len(reasons))], dtype=object)
    bad = (reasons != "").to_numpy()
    return pd.DataFrame(
        {
            "sample": "S",
            "total_counts": 1.0,
            "keep": ~bad,
            "reason": reasons,
            "value": np.where(bad, 3.0, np.nan),
            "limit": np.where(bad, 5.0, np.nan),
        }
    ).rename_axis("cell")


def calls(table: pd.DataFrame, scores, threshold: float | None) -> pd.DataFrame:
    """Calls of the cells that passed QC; their scores in the order of the table."""
    scores = np.asarray(scores, dtype=float)
    called = np.zeros(len(scores), dtype=bool) if threshold is None else scores > threshold
    return calls_table(DoubletCalls(scores, called, threshold), table.index[table["reason"] == ""])


# A method decides


def test_the_first_method_decides_by_default():
    table = cells(["", "", "low counts"])
    found = decide(table, {"scrublet": calls(table, [0.4, 0.1], 0.3)}, Doublets())
    assert list(found) == [c for c in ORDER if not c.startswith(("scrublet", "solo"))], (
        "one method: no columns of its own"
    )
    assert found["doublet"].tolist() == [True, False, False]
    assert found["reason"].tolist() == [DOUBLET, "", "low counts"]
    assert found["keep"].tolist() == [False, True, False]
    np.testing.assert_array_equal(found["doublet_score"], [0.4, 0.1, np.nan])
    np.testing.assert_array_equal(found["value"], [0.4, np.nan, 3])
    np.testing.assert_array_equal(found["limit"], [0.3, np.nan, 5])
    assert found["doublet"].dtype == found["keep"].dtype == bool
    pd.testing.assert_frame_equal(table, cells(["", "", "low counts"]))


def test_a_named_method_decides_and_the_scores_of_all_are_kept():
    table = cells(["", "", ""])
    both = {"scrublet": calls(table, [0.4, 0.1, 0.2], 0.3), "solo": calls(table, [0.1, 0.99, np.nan], 0.9)}
    found = decide(table, both, Doublets(methods=BOTH, call="solo"))
    assert list(found) == ORDER
    assert found["doublet"].tolist() == [False, True, False]
    assert found["scrublet_doublet"].tolist() == [True, False, False]
    assert found["solo_doublet"].tolist() == [False, True, NA], "no score, no opinion"
    np.testing.assert_array_equal(found["doublet_score"], [0.1, 0.99, np.nan])
    np.testing.assert_array_equal(found["limit"], [np.nan, 0.9, np.nan])


def test_a_method_without_a_threshold_calls_nobody():
    table = cells(["", ""])
    found = decide(table, {"scrublet": calls(table, [0.9, 0.1], None)}, Doublets())
    assert not found["doublet"].any()
    assert found["keep"].all()
    assert found["doublet_score"].tolist() == [0.9, 0.1]


def test_nobody_is_called_where_only_scores_are_wanted():
    table = cells(["", "", ""])
    both = {"scrublet": calls(table, [0.4, 0.1, 0.2], 0.3), "solo": calls(table, [0.1, 0.99, 0.2], 0.9)}
    found = decide(table, both, Doublets(methods=BOTH, call="none"))
    assert not found["doublet"].any()
    assert found["keep"].all()
    assert found["solo_doublet"].any(), "each method's own opinion stays"
    assert found["doublet_score"].tolist() == [0.4, 0.1, 0.2]


def test_doublets_may_stay():
    table = cells(["", "", "low counts"])
    found = decide(table, {"scrublet": calls(table, [0.4, 0.1], 0.3)}, Doublets(drop=False))
    assert found["doublet"].tolist() == [True, False, False]
    pd.testing.assert_frame_equal(
        found[["keep", "reason", "value", "limit"]], table[["keep", "reason", "value", "limit"]]
    )


def test_without_methods_nobody_is_called():
    found = decide(cells(["", "low counts"]), {}, Doublets(methods=[]))
    assert not found["doublet"].any()
    assert found["doublet_score"].isna().all()
    assert found["keep"].tolist() == [True, False]


# The vote


@pytest.mark.parametrize(
    ("scrublet", "solo", "share", "doublet"),
    [
        (0.9, 0.9, 1.0, True),
        (0.9, 0.1, 0.5, False),  # half is not more than half
        (0.1, 0.9, 0.5, False),
        (0.1, 0.1, 0.0, False),
        (0.9, np.nan, 1.0, True),  # one of one
        (np.nan, 0.1, 0.0, False),
        (np.nan, np.nan, np.nan, False),
    ],
)
def test_votes(scrublet, solo, share, doublet):
    table = cells([""])
    both = {"scrublet": calls(table, [scrublet], 0.5), "solo": calls(table, [solo], 0.5)}
    found = decide(table, both, Doublets(methods=BOTH, call="vote")).iloc[0]
    assert found["doublet"] == doublet
    np.testing.assert_equal(found["doublet_score"], share)
    np.testing.assert_equal([found["value"], found["limit"]], [share, 0.5] if doublet else [np.nan, np.nan])


def test_a_method_without_a_threshold_does_not_vote():
    table = cells(["", ""])
    both = {"scrublet": calls(table, [0.9, 0.9], None), "solo": calls(table, [0.99, 0.1], 0.9)}
    found = decide(table, both, Doublets(methods=BOTH, call="vote"))
    assert found["doublet"].tolist() == [True, False]
    assert found["scrublet_doublet"].isna().all()


# Methods with a rule of their own


@pytest.mark.parametrize("call", ["solo", "vote", "scrublet", "none"])
@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("words", [None, ["doublet", "", "singlet", "", "doublet"]])
def test_a_method_that_runs_later_changes_nothing_about_the_outcome(tmp_path, call, drop, words):
    """First without SOLO, as the sample's rule does it, then from the file that rule wrote; or all at once."""
    table = cells(["", "", "", "", "low genes"])
    first = {"scrublet": calls(table, [0.4, 0.1, 0.5, 0.2], 0.3)}
    later = {"solo": calls(table, [0.99, 0.95, 0.1, np.nan], 0.9)}
    params = Doublets(methods=BOTH, call=call, drop=drop)
    said = None if words is None else pd.Series(words, index=table.index)
    early = decide(table, first, params, said)
    if call in ("solo", "vote") and words is None:
        assert early["keep"].equals(table["keep"]), "nobody has decided"
    early.to_parquet(tmp_path / "cells.parquet")
    found = decide(pd.read_parquet(tmp_path / "cells.parquet"), later, params, said)
    at_once = decide(table, first | later, params, said)
    pd.testing.assert_frame_equal(found, at_once)
    pd.testing.assert_frame_equal(decide(found, later, params, said), at_once)


def test_calls_that_got_lost_are_no_empty_calls():
    with pytest.raises(KeyError, match="scrublet: no calls"):
        decide(cells(["", ""]), {}, Doublets())


# Calls from the sheet


def test_given_calls_go_before_the_methods():
    table = cells(["", "", "", "", "low counts"])
    given_words = pd.Series(["singlet", "Doublet", "", None, "doublet"], index=table.index)
    found = decide(table, {"scrublet": calls(table, [0.9, 0.1, 0.9, 0.1], 0.5)}, Doublets(), given_words)
    assert found["doublet"].tolist() == [False, True, True, False, False]
    assert found["reason"].tolist() == ["", DOUBLET, DOUBLET, "", "low counts"]
    np.testing.assert_array_equal(found["value"], [np.nan, np.nan, 0.9, np.nan, 3])
    np.testing.assert_array_equal(found["limit"], [np.nan, np.nan, 0.5, np.nan, 5])
    np.testing.assert_array_equal(found["doublet_score"], [0.9, 0.1, 0.9, 0.1, np.nan])
    only = decide(table, {"scrublet": calls(table, [0.9, 0.1, 0.9, 0.1], 0.5)}, Doublets(call="none"), given_words)
    assert only["doublet"].tolist() == [False, True, False, False, False]


def test_words_of_a_column():
    words = [
        "doublet",
        "DBL",
        " True ",
        "1",
        1.0,
        True,
        "yes",
        "SNG",
        "singlet",
        0,
        False,
        "AMB",
        "",
        "nan",
        None,
        np.nan,
    ]
    found = said_doublets(pd.Series(words, dtype=object))
    assert found.tolist() == [True] * 7 + [False] * 5 + [NA] * 4


def test_a_column_of_categories():
    found = said_doublets(pd.Series(pd.Categorical(["doublet", None, "singlet"])))
    assert found.tolist() == [True, NA, False]


# Properties

REASON = st.sampled_from(["", "", "", "low counts", "high counts", DOUBLET])
SCORE = st.one_of(st.none(), st.floats(0, 1))


@st.composite
def samples(draw):
    reasons = draw(st.lists(REASON, min_size=1, max_size=12))
    table = cells(reasons)
    passed = table.index[table["reason"].isin(["", DOUBLET])]
    tables = {}
    for name in draw(st.lists(st.sampled_from(BOTH), min_size=1, unique=True)):
        scores = np.array(draw(st.lists(SCORE, min_size=len(passed), max_size=len(passed))), dtype=float)
        threshold = draw(st.one_of(st.none(), st.floats(0, 1)))
        called = np.zeros(len(passed), dtype=bool) if threshold is None else scores > threshold
        tables[name] = calls_table(DoubletCalls(scores, called, threshold), passed)
    params = Doublets(
        methods=list(tables),
        call=draw(st.sampled_from(["auto", "vote", "none", *tables])),
        drop=draw(st.booleans()),
    )
    words = st.sampled_from(["", "doublet", "singlet"])
    said = draw(st.none() | st.lists(words, min_size=len(table), max_size=len(table)))
    return table, tables, params, None if said is None else pd.Series(said, index=table.index)


@given(samples())
def test_properties(case):
    table, tables, params, said = case
    found = decide(table, tables, params, said)
    bad = ~table["reason"].isin(["", DOUBLET])
    pd.testing.assert_frame_equal(found.loc[bad, list(table)], table[bad])
    assert not found.loc[bad, "doublet"].any()
    assert (found["keep"] == (found["reason"] == "")).all()
    assert set(found.loc[~bad, "reason"]) <= {"", DOUBLET}
    dropped = found["reason"] == DOUBLET
    assert dropped.equals(found["doublet"] if params.drop else dropped & False)
    scored = dropped & found["value"].notna()
    assert (found.loc[scored, "value"] > found.loc[scored, "limit"]).all()
    assert found.loc[dropped & ~scored, "limit"].isna().all()
    if said is None:
        assert scored.equals(dropped), "every call of a method has its numbers"
        assert params.call != "none" or not found["doublet"].any()
    else:
        spoken = ~bad & (said != "")
        assert (found.loc[spoken, "doublet"] == (said[spoken] == "doublet")).all()
    if params.call == "vote" and said is None:
        n_votes = sum(t["doublet"].reindex(table.index).fillna(False).astype(int) for t in tables.values())
        n_voters = sum(t["doublet"].reindex(table.index).notna().astype(int) for t in tables.values())
        assert (found["doublet"] == (n_votes * 2 > n_voters)).all()
    pd.testing.assert_frame_equal(decide(found, tables, params, said), found)
