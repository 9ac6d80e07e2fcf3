"""Colours that people with a colour-vision deficiency can tell apart."""

from __future__ import annotations

#: The first eight are Okabe and Ito (2008), with grey for black so that they show on a dark page too. The rest were
#: added one at a time, each the colour farthest from all before it in CIELAB, averaged over normal vision and simulated
#: deuteranopia and protanopia (Machado et al. 2009), among those visible on both light and dark.
CATEGORICAL: tuple[str, ...] = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999"),
    *("#C3003C", "#4B960F", "#F0D296", "#961E96", "#695A1E", "#3CF096", "#F087FF", "#00F0E1"),
    *("#FF8787", "#2D5AD2", "#784B4B", "#B40069", "#006969", "#F0C3FF", "#694B78", "#A5E169"),
    *("#C3874B", "#A5E1B4", "#7896FF", "#FFC3C3", "#0F782D", "#FF4B87", "#A52D0F", "#87B469"),
    *("#A5D2E1", "#A578C3", "#00A5A5", "#69785A", "#F05A4B", "#877800", "#A5B41E", "#5A87A5"),
)

#: Viridis (van der Walt and Smith 2015), eleven stops from low to high.
SEQUENTIAL: tuple[str, ...] = (
    *("#440154", "#482475", "#414487", "#355F8D", "#2A788E", "#21918C"),
    *("#22A884", "#44BF70", "#7AD151", "#BDDF26", "#FDE725"),
)


def color(index: int) -> str:
    """Colour of a category; after the last the list begins again."""
    return CATEGORICAL[index % len(CATEGORICAL)]


def plotly_scale() -> list[list[object]]:
    """:data:`SEQUENTIAL` as a plotly colour scale."""
    return [[i / (len(SEQUENTIAL) - 1), stop] for i, stop in enumerate(SEQUENTIAL)]
