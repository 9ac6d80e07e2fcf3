"""The sections of the report, in the order of the page.

To add one: write ``sections/{name}.py`` with ``build(data) -> Section | None`` and a template, and add its name here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from latentomics.report.data import ReportData
from latentomics.report.section import Section

SECTIONS: tuple[str, ...] = (
    "overview",
    "n_and_p",
    "quality",
    "reads",
    "taxa",
    "ordination",
    "embeddings",
    "training",
    "resolution",
    "markers",
    "scores",
    "associations",
    "prediction",
    "ledger",
    "methods",
)


def builders() -> dict[str, Callable[[ReportData], Section | None]]:
    """The ``build`` function of every section, in page order."""
    return {name: import_module(f"latentomics.report.sections.{name}").build for name in SECTIONS}
