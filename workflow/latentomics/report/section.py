"""What a report section is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """One section of the page, ready to be put into its template.

    Attributes
    ----------
    id
        Anchor of the section; lower-case words joined by hyphens.
    title
        Heading, also the entry in the navigation.
    template
        File name in ``report/templates``.
    context
        Values for the template. Plain text: the template escapes it.
    payload
        What the browser needs, as JSON-ready values: ``figures`` (key -> plotly figure), ``tables`` (key -> table) and
        ``explorer`` (the embedding panels). Empty if the section is text only.
    """

    id: str
    title: str
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
