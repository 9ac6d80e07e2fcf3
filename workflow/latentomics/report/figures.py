"""The common look of the plotly figures, as plain dictionaries (the browser draws them).

Colours written ``var(--name)`` are looked up in the style sheet by the browser, so that one figure serves the light and
the dark page.
"""

from __future__ import annotations

from typing import Any

INK = "var(--ink)"
MUTED = "var(--muted)"
ACCENT = "var(--accent)"
DANGER = "var(--danger)"
FAINT = "var(--faint)"

Figure = dict[str, Any]


def figure(data: list[dict[str, Any]], height: int, **layout: Any) -> Figure:
    """A figure of a fixed height (pixels) that takes the width it is given."""
    base: dict[str, Any] = {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 6, "b": 48},
        "hovermode": "closest",
        "showlegend": False,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
    }
    return {"data": data, "layout": base | layout}


def axis(title: str = "", **options: Any) -> dict[str, Any]:
    """An axis; ``title`` is fixed text of ours, never data."""
    return {"title": {"text": title, "standoff": 8}, "automargin": True, "zeroline": False} | options


def category_axis(labels: list[str], title: str = "", **options: Any) -> dict[str, Any]:
    """An axis with one place per label at 0, 1, 2, ...

    Positions are numbers, not plotly categories, which would read labels such as ``1`` or ``2024-01-01`` as values.
    """
    return axis(
        title,
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=labels,
        **options,
    )


def note(text: str, x: float, y: float, **options: Any) -> dict[str, Any]:
    """A text in the figure, without an arrow."""
    return {"text": text, "x": x, "y": y, "showarrow": False, "font": {"size": 12, "color": MUTED}} | options


def line(width: float = 2, color: str = INK, dash: str = "solid") -> dict[str, Any]:
    return {"width": width, "color": color, "dash": dash}
