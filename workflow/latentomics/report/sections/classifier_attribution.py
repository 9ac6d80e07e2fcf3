"""What in a read speaks for its class: sequence logos of attributions, at the ends of the reads and as motifs.

The letters are outlines in the page itself, stretched to their height; no font is needed and nothing runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentomics.report.classifier import ClassifierData
from latentomics.report.section import Section
from latentomics.report.words import counted, number, percent

#: Classes with logos in the page; the file has all.
MAX_CLASSES = 20
#: A base whose share at a position differs by this much from the other classes' is told in words.
_TOLD = 0.05
#: Bases at the very ends count as weighty from this multiple of a base further in.
_WEIGHTY = 2.0

#: Outlines in a box of 100 x 100, top left at the origin, and colours (Okabe and Ito 2008).
GLYPHS: dict[str, tuple[str, str]] = {
    "A": ("M0 100L38 0H62L100 100H79L71 77H29L21 100ZM35 60H65L50 17Z", "#009E73"),
    "C": (
        "M100 34C95 12 78 0 54 0C21 0 0 20 0 50C0 80 21 100 54 100C78 100 95 88 100 66L80 61C77 75 67 82 54 82C34 82 22 70 "
        "22 50C22 30 34 18 54 18C67 18 77 25 80 39Z",
        "#0072B2",
    ),
    "G": (
        "M99 32C93 11 77 0 54 0C21 0 0 20 0 50C0 80 21 100 54 100C76 100 91 92 100 80V46H54V63H79V73C73 79 65 82 54 82C34 82 "
        "22 70 22 50C22 30 34 18 54 18C66 18 75 24 79 36Z",
        "#E69F00",
    ),
    "T": ("M0 0H100V19H61V100H39V19H0Z", "#D55E00"),
}
#: Attributions that add up to less (logits) are none.
_NOTHING = 1e-9
#: Pixels: width of a position, height of the letters, margins.
_STEP, _HEIGHT, _LEFT, _TOP, _BOTTOM = 22, 84, 44, 6, 20

#: A lower letter cannot be seen (pixels).
_LEAST = 0.3
#: Height of a number on the axis, pixels.
_LABEL = 14


@dataclass(frozen=True)
class Scale:
    """Largest stack above and below zero (logits) that logos must show together."""

    above: float
    below: float

    @property
    def pixels(self) -> float:
        """Pixels per logit."""
        return _HEIGHT / (self.above + self.below)


def build(data: ClassifierData) -> Section | None:
    """Logos of every network that has them, the best one first; None if there are none."""
    models = [model for name in data.attributed if (model := _model(data, name)) is not None]
    if not models:
        return None
    return Section(
        id="attribution",
        title="What decides",
        template="classifier_attribution.html.j2",
        context={"models": models, "glyphs": GLYPHS, "max_classes": MAX_CLASSES},
    )


def _model(data: ClassifierData, name: str) -> dict[str, Any] | None:
    logos = data.logos(name)
    if logos.empty or not {"class", "anchor", "position", "base", "value"} <= set(logos.columns):
        return None
    logos = logos[logos["base"].isin(list(GLYPHS)) & logos["value"].notna()]
    at_end = logos["anchor"].isin(["start", "end"])
    # One scale for all classes: where little is attributed, little is drawn.
    scales = {True: scale_of(logos[at_end]), False: scale_of(logos[~at_end])}
    facts = data.attribution(name).get("classes") or {}
    labels = list(dict.fromkeys(logos["class"]))
    classes = [
        _class(label, logos[logos["class"] == label], scales, facts.get(label) or {}) for label in labels[:MAX_CLASSES]
    ]
    return {
        "title": data.title_of(name),
        "phrase": data.phrase_of(name),
        "classes": classes,
        "n_classes": len(labels),
    }


def _class(label: str, logos: pd.DataFrame, scales: dict[bool, Scale], facts: dict[str, Any]) -> dict[str, Any]:
    motifs = {str(motif.get("name")): motif for motif in facts.get("motifs") or []}
    drawn = []
    for anchor, part in logos.groupby("anchor", sort=False):
        at_end = anchor in ("start", "end")
        drawn.append(
            {
                "title": {"start": "First bases (5′)", "end": "Last bases (3′)"}.get(anchor)
                or _motif_title(motifs.get(anchor)),
                "note": "" if at_end else _motif_note(motifs.get(anchor)),
                "logo": logo(part, scales[at_end]),
            }
        )
    return {"name": label, "reads": facts.get("reads"), "sentences": _sentences(logos, facts), "logos": drawn}


def _motif_title(motif: dict[str, Any] | None) -> str:
    return f"Motif {motif['consensus']}" if motif and motif.get("consensus") else "Motif"


def _motif_note(motif: dict[str, Any] | None) -> str:
    if not motif or motif.get("share") is None:
        return ""
    note = f"in {percent(motif['share'])} of the class's reads"
    if motif.get("share_others") is not None:
        note += f", {percent(motif['share_others'])} of the others"
    return note + (f" (p = {number(motif['p_value'])})" if motif.get("p_value") is not None else "")


def _sentences(logos: pd.DataFrame, facts: dict[str, Any]) -> list[str]:
    """What the numbers behind the logos of a class say."""
    sentences = []
    strength = facts.get("strength") or {}
    if (ends := strength.get("ends")) and (middle := strength.get("middle")):
        ratio = ends[0] / middle
        if ratio >= _WEIGHTY:
            sentences.append(f"The outermost base weighs {number(ratio, 2)} times as much as one further in.")
        elif "motif1" not in set(logos["anchor"]):
            sentences.append("The ends weigh no more than the rest, and no motif stands out: many weak hints decide.")
    if {"frequency", "frequency_others"} <= set(logos.columns):
        start = logos[logos["anchor"] == "start"]
        excess = (start["frequency"] - start["frequency_others"]).dropna()
        if len(excess) and excess.max() >= _TOLD:
            row = start.loc[excess.idxmax()]
            sentences.append(
                f"Base {row['position']:.0f} is {row['base']} in {percent(row['frequency'])} of the class's strands and in "
                f"{percent(row['frequency_others'])} of the others."
            )
    if facts.get("incomplete"):
        sentences.append(
            f"Of {counted(int(facts['incomplete']), 'read')} the attributions do not add up: read them with reserve."
        )
    return sentences


def scale_of(logos: pd.DataFrame) -> Scale:
    """The scale that shows some logos side by side."""
    stacks = logos.assign(above=logos["value"].clip(lower=0), below=-logos["value"].clip(upper=0))
    sums = stacks.groupby(["class", "anchor", "position"])[["above", "below"]].sum()
    above, below = float(sums["above"].max()), float(sums["below"].max())
    # A tenth of the height at least on either side, so that the zero line stands free; and something where all is zero.
    above = above if above + below > _NOTHING else 1.0
    return Scale(max(above, 0.1 * below), max(below, 0.1 * above))


def logo(table: pd.DataFrame, scale: Scale) -> dict[str, Any]:
    """Geometry of a logo (pixels): letters stacked from zero, the largest outermost, negative ones below.

    Parameters
    ----------
    table
        ``position base value``, one row per position and base.
    """
    bases = np.array(list(GLYPHS))
    wide = table.pivot_table(index="position", columns="base", values="value").reindex(columns=bases).fillna(0)
    zero = _TOP + scale.above * scale.pixels
    columns = []
    for i, (position, values) in enumerate(zip(wide.index, wide.to_numpy(), strict=True)):
        order = np.argsort(np.abs(values), kind="stable")
        up = down = 0.0
        letters = []
        for base, value in zip(bases[order], values[order], strict=True):
            height = abs(float(value)) * scale.pixels
            if value > 0:
                up += height
                top = zero - up
            else:
                top = zero + down
                down += height
            if height >= _LEAST:
                below = bool(value < 0)
                letters.append({"base": base, "y": round(top, 2), "scale": round(height / 100, 4), "below": below})
        tick = f"{position:.0f}"
        text = ", ".join(f"{bases[k]} {values[k]:+.3f}" for k in order[::-1])
        shown = i in (0, len(wide) - 1) or position % 5 == 0
        columns.append(
            {
                "x": _LEFT + i * _STEP,
                "letters": letters,
                "title": f"position {tick}: {text}".replace("-", "−"),
                "tick": tick.replace("-", "−") if shown else "",
            }
        )
    return {
        "width": _LEFT + len(wide) * _STEP + 6,
        "height": _TOP + _HEIGHT + _BOTTOM,
        "left": _LEFT,
        "right": _LEFT + len(wide) * _STEP,
        "step": _STEP,
        "letter": round((_STEP - 2) / 100, 3),
        "top": _TOP,
        "zero": round(zero, 2),
        "bottom": _TOP + _HEIGHT,
        # Where there is no room the zero is enough.
        "high": f"+{number(scale.above, 2)}" if zero - _TOP > _LABEL else "",
        "low": f"−{number(scale.below, 2)}" if _TOP + _HEIGHT - zero > _LABEL else "",
        "columns": columns,
    }
