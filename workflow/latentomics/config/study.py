"""What only config and sample sheet together show."""

from __future__ import annotations

from pathlib import Path

from latentomics.config.load import line_of
from latentomics.config.model import Config
from latentomics.config.sheet import Sheet, closest
from latentomics.problems import Problem


def study_problems(config: Config, config_file: Path, sheet: Sheet) -> list[Problem]:
    """Faults of the config that the columns of the sheet reveal."""
    problems = []
    for i, column in enumerate(config.embeddings.scvi.covariates):
        if column not in sheet.covariates:
            key = ("embeddings", "scvi", "covariates", i)
            known = ", ".join(sheet.covariates) or "none"
            problems.append(
                Problem(
                    str(config_file),
                    f"the sample sheet has no column {column!r}",
                    f"{closest(column, sheet.covariates)}Columns of {sheet.path} that describe samples: {known}.",
                    row=line_of(config_file, key),
                    key=".".join(map(str, key)),
                    value=column,
                )
            )
    return problems
