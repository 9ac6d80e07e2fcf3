"""What the classifier was trained and tested on: classes, splits, what was left out, and how near the splits are."""

from __future__ import annotations

from typing import Any

import pandas as pd

from latentomics.report.classifier import ClassifierData
from latentomics.report.section import Section
from latentomics.report.sections.classifier_overview import LEAK_HIGH
from latentomics.report.words import counted, listed, number, percent

#: Classes named beside a reason; the rest are counted.
_MAX_NAMES = 5

#: From this share on it is told how many test reads would share a stretch with a training read by chance.
CHANCE_TOLD = 0.001

#: How reads were split: what went to a split as a whole, in words, and what that makes of the scores.
_UNITS = {
    "source": (
        "whole sources",
        "A source (a genome, a sample or a group) is wholly in one split: no test read is from a source that was trained "
        "on. The scores tell how well the classes are recognised in sources that no model has seen.",
    ),
    "region": (
        "regions of genomes",
        "A region is wholly in one split: the test reads are from genomes that were trained on, but from stretches of them "
        "that were not. The scores tell how well other reads of the same genomes are recognised; relatives that were "
        "never seen are harder.",
    ),
    "sequence": (
        "sequences",
        "Where these reads are from is not known, so each distinct sequence is wholly in one split: the same read never "
        "stands on both sides, but reads that overlap it may. The scores tell how well other reads of the same sources are "
        "recognised; relatives that were never seen are harder.",
    ),
}


def build(data: ClassifierData) -> Section | None:
    """Tables of classes and of what was left out; None if no training data were made."""
    facts = data.facts
    if not facts:
        return None
    units = [_UNITS[word] for word in str(facts.get("unit", "")).split(" and ") if word in _UNITS]
    return Section(
        id="data",
        title="Training data",
        template="classifier_data.html.j2",
        context={
            "rows": _rows(data.counts),
            "funnel": _funnel(facts),
            "dropped": _dropped(data),
            "units": [what for what, _ in units],
            "meaning": [text for _, text in units],
            "n_sources": len(facts.get("sources") or []),
            "notes": _notes(data),
            "leak": _leak(facts.get("leak") or {}),
        },
    )


def _notes(data: ClassifierData) -> list[str]:
    """Classes that were not treated like the others."""
    facts, notes = data.facts, []
    untested = data.counts.index[data.counts["test"] == 0].tolist() if data.counts["test"].sum() else []
    for names, text in (
        (untested, "Without test reads, so how well they are recognised is not known"),
        (
            facts.get("validation_by_sequence"),
            "With a single source for training and validation, split by their sequence",
        ),
        (facts.get("classes_left_out"), "Without a read left, so no model knows them"),
    ):
        if names:
            notes.append(f"{text}: {listed(names)}.")
    return notes


def _rows(counts: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per class, and their sum."""
    if counts.empty:
        return []
    total = counts.sum(axis=1)
    whole = max(int(total.sum()), 1)
    rows = [
        {"name": name, "splits": [int(n) for n in counts.loc[name]], "total": int(n), "share": n / whole}
        for name, n in total.items()
    ]
    return [*rows, {"name": None, "splits": [int(n) for n in counts.sum()], "total": int(total.sum()), "share": 1.0}]


def _funnel(facts: dict[str, Any]) -> str:
    """From the records read to the reads kept, in one sentence."""
    read, kept = facts.get("read"), facts.get("reads")
    if read is None or kept is None:
        return ""
    text = f"{number(kept)} distinct reads of {counted(int(read), 'record')}"
    if facts.get("duplicates"):
        text += f"; {number(facts['duplicates'])} were copies of another read or of its reverse complement"
    if facts.get("conflicts"):
        text += f"; {counted(int(facts['conflicts']), 'sequence')} with contradicting labels left out"
    return f"{text}."


def _dropped(data: ClassifierData) -> list[dict[str, Any]]:
    """Reads left out: reason, number, and the classes that lost most."""
    ledger = data.ledger
    if {"reason", "n"} <= set(ledger.columns) and len(ledger):
        item = ledger["item"] if "item" in ledger else pd.Series("", index=ledger.index)
        rows = []
        for reason, part in ledger.assign(item=item).groupby("reason", sort=True):
            by_class = part[part["item"] != ""].groupby("item")["n"].sum().sort_values(ascending=False, kind="stable")
            names = [f"{name}: {number(n)}" for name, n in by_class.head(_MAX_NAMES).items()]
            more = len(by_class) - _MAX_NAMES
            rows.append({"reason": reason, "n": float(part["n"].sum()), "names": names, "more": max(more, 0)})
    else:
        dropped = data.facts.get("dropped") or {}
        rows = [{"reason": str(reason), "n": n, "names": [], "more": 0} for reason, n in dropped.items()]
    return sorted(rows, key=lambda row: (-row["n"], row["reason"]))


def _leak(leak: dict[str, Any]) -> dict[str, Any] | None:
    """Near-duplicates across the split, in words."""
    share = leak.get("share")
    if share is None:
        return None
    k, tested, shared = leak.get("k", 31), leak.get("tested"), leak.get("shared")
    of = f"{number(shared)} of {number(tested)} test reads looked at ({percent(share)})" if tested else percent(share)
    text = f"{of} share a stretch of {k} bases, on either strand, with a training read"
    if (leak.get("chance") or 0) >= CHANCE_TOLD:
        text += f"; {percent(leak['chance'])} would by chance"
    if share > LEAK_HIGH:
        text += (
            ". A model that remembers its training reads gets such reads right without having learnt what sets the classes "
            "apart: the scores below promise too much for reads from elsewhere."
        )
    else:
        text += ". Remembering training reads helps with few test reads: the scores below had to be earned."
    if leak.get("identical") == 0:
        text += " No sequence stands on both sides, on either strand."
    return {"kind": "warning" if share > LEAK_HIGH else "good", "text": text}
