"""Problems of inputs: in words, in a list, and from another process."""

from __future__ import annotations

import pickle

import pytest

from latentomics.problems import InputError, Problem, listing


def test_problems_in_words():
    problem = Problem("s.tsv", "no path", "name it.", row=3, key="path", value="x" * 200)
    first, second = str(problem).splitlines()
    assert first.startswith("s.tsv, row 3, path: no path (value 'xxx")
    assert len(first) < 120
    assert second.strip() == "Hint: name it."
    assert r"'a\tb'" in str(Problem("s", "w", "h", value="a\tb"))
    lines = listing([Problem("a", "mild", "h", severity="warning"), problem]).splitlines()
    assert lines[0] == "1 error(s) and 1 warning(s) in the inputs:"
    assert lines[1].startswith("  1. [error] s.tsv")
    assert lines[3].startswith("  2. [warning] a: mild")


@pytest.mark.parametrize(
    "problems", [Problem("a", "b", "c", row=1, value=2), [Problem("a", "b", "c"), Problem("d", "e", "f")]]
)
def test_an_input_error_reaches_another_process(problems):
    error = InputError(problems)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InputError
    assert again.problems == error.problems
    assert str(again) == str(error)
