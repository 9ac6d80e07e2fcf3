"""Whether batch and condition can be told apart."""

from __future__ import annotations

from collections.abc import Iterable

from latentomics.problems import Problem

#: A sheet value with this prefix is taken per cell from a column of the row's own cell table.
PER_CELL = "obs:"


def confounding(name: str, pairs: Iterable[tuple[str, str]]) -> list[Problem]:
    """Warn where batch and condition cannot be told apart.

    Condition effects are estimable beside batch effects exactly if the bipartite graph of batches and conditions is
    connected (the additive two-way design then has full rank; Searle 1971, Linear Models, ch. 7).

    Parameters
    ----------
    name
        The file to blame.
    pairs
        Pairs of batch and condition that occur; pairs with an empty or per-cell value are left out.
    """
    found = {(b, c) for b, c in pairs if b and c and not b.startswith(PER_CELL) and not c.startswith(PER_CELL)}
    conditions, batches = sorted({c for _, c in found}), sorted({b for b, _ in found})
    if len(conditions) < 2 or len(batches) < 2:
        return []
    reached = {conditions[0]}
    while True:
        grown = {c for b, c in found if any((b, known) in found for known in reached)}
        if grown == reached:
            break
        reached = grown
    if reached == set(conditions):
        return []
    table = ", ".join(f"{b}: {'/'.join(sorted(c for x, c in found if x == b))}" for b in batches)
    return [
        Problem(
            name,
            f"batch is confounded with condition ({table}): their effects cannot be told apart",
            "integration will remove the condition with the batch. Sequence each condition in several batches, "
            "or leave `batch` empty and read differences between conditions with care.",
            key="batch, condition",
            severity="warning",
        )
    ]
