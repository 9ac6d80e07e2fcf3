"""``prediction``: can a condition be told from the taxa of a sample it has not seen?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from latentomics.config.base import Section

Penalty = Annotated[float, Field(gt=0, le=1e6)]


class Prediction(Section):
    target: str | None = Field(
        None,
        min_length=1,
        description="Column of the sample sheet to predict, such as `condition`. `null` turns prediction off.",
    )
    n_repeats: int = Field(
        20, ge=20, le=1000, description="Repeats of the stratified cross-validation, each with new folds."
    )
    n_folds: int = Field(
        5, ge=2, le=10, description="Folds of each repeat. Conditions with fewer samples than folds are left out."
    )
    classifiers: list[Literal["random_forest", "logistic"]] = Field(
        ["random_forest", "logistic"],
        min_length=1,
        description="`random_forest` on relative abundances; `logistic` (L2) on centred log-ratios and on every "
        "embedding. Logistic regression on centred log-ratios is what all are compared with.",
    )
    n_trees: int = Field(150, ge=10, le=5000, description="Trees of each random forest.")
    inverse_penalties: list[Penalty] = Field(
        [0.001, 0.01, 0.1, 1.0],
        min_length=1,
        max_length=20,
        description="Values of C (inverse L2 penalty, features scaled to a mean variance of 1) that logistic regression chooses "
        "from, by cross-validation within each training fold.",
    )
    min_prevalence: float = Field(
        0.02, ge=0, lt=1, description="Taxa seen in a smaller fraction of a training fold are not used (fraction)."
    )
    n_features: int | None = Field(
        None,
        ge=2,
        description="Only this many taxa, those with the largest F statistic between conditions in the training fold. "
        "`null` keeps all.",
    )

    @field_validator("classifiers")
    @classmethod
    def _with_its_yardstick(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("a classifier is listed twice")
        if "logistic" not in value:
            raise ValueError("`logistic` is what the others are compared with: it cannot be left out")
        return value
