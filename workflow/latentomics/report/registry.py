"""The sections of the report, in the order of the page.

To add one: write ``sections/{name}.py`` with ``build(data) -> Section | None`` and a template, and add its name here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from latentomics.report.section import Section

SECTIONS: tuple[str, ...] = (
    "overview",
    "n_and_p",
    "quantification",
    "droplets",
    "ambient",
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
#: Those that need no more than the joined samples: the page on samples and their quality.
SAMPLE_SECTIONS: tuple[str, ...] = (
    "overview",
    "quantification",
    "droplets",
    "ambient",
    "quality",
    "reads",
    "taxa",
    "ledger",
)
#: The chapter of the read classifier, built of a :class:`~latentomics.report.classifier.ClassifierData`.
CLASSIFIER_SECTIONS: tuple[str, ...] = (
    "classifier_overview",
    "classifier_data",
    "classifier_scores",
    "classifier_calibration",
    "classifier_attribution",
    "classifier_curve",
    "classifier_samples",
)
#: The last chapter, of the run as a whole, built of :func:`latentomics.resources.account.job_table`.
RUN_SECTIONS: tuple[str, ...] = ("resources",)


def builders(names: Sequence[str] = SECTIONS) -> dict[str, Callable[[Any], Section | None]]:
    """The ``build`` function of these sections, in the order given."""
    return {name: import_module(f"latentomics.report.sections.{name}").build for name in names}
