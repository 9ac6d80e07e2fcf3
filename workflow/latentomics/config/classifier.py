"""``classifier``: deep classifiers of short reads, their training data and what they are asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, create_model, model_validator

from latentomics.config.base import Section
from latentomics.reads.models import registry

ModelName = Literal[tuple(registry.MODELS)]  # type: ignore[valid-type]
Source = Annotated[str, Field(min_length=1, max_length=200)]


class Damage(Section):
    """Post-mortem damage of drawn reads (Briggs et al. 2007, PNAS 104:14616)."""

    overhang: float = Field(
        0.4, gt=0, le=1, description="Parameter of the geometric length of single-stranded overhangs (lambda)."
    )
    deamination_single: float = Field(
        0.7, ge=0, le=1, description="Probability that a C of an overhang reads as T (delta_ss)."
    )
    deamination_double: float = Field(
        0.01, ge=0, le=1, description="Probability that a C of the double-stranded part reads as T (delta_ds)."
    )


class Drawn(Section):
    """Reads drawn from labelled genomes."""

    reads_per_class: int = Field(20000, ge=100, description="Reads drawn per class, all its genomes together.")
    length_mean: float = Field(75.0, ge=20, le=1000, description="Mean length of the reads (bases).")
    length_sd: float = Field(0.0, ge=0, le=500, description="Standard deviation of their length (bases).")
    error_rate: float = Field(
        0.004, ge=0.0005, le=0.015, description="Mean probability of a substitution per base (fraction)."
    )
    region: int = Field(
        10000,
        ge=1000,
        description="Genomes are cut into regions of this length (bases); a region is wholly in one split.",
    )
    damage: Damage = Field(Damage(), description="Damage of the reads of genomes that the sheet marks `ancient`.")


class Split(Section):
    """What is trained on, and what is judged on."""

    validation: float = Field(0.1, gt=0, lt=0.5, description="Share of the reads for validation (fraction).")
    test: float = Field(0.2, gt=0, lt=0.8, description="Share of the reads for the test (fraction).")
    test_sources: list[Source] = Field(
        [],
        description="Sources (genomes, files or groups) that are wholly test data, and then nothing else is: it shows how "
        "well relatives are recognised that were never seen.",
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> Split:
        if self.validation + self.test > 0.9:
            raise ValueError("validation and test together leave less than a tenth of the reads for training")
        return self


class Training(Section):
    """How every network is trained."""

    batch_size: int = Field(512, ge=8, le=65536, description="Reads per step.")
    learning_rate: float = Field(
        0.01, gt=0, le=1, description="Highest learning rate of AdamW: warmed up, then annealed to zero."
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Weight decay of AdamW.")
    max_epochs: int = Field(12, ge=1, le=1000, description="Most passes over the training reads.")
    min_steps: int = Field(
        1000,
        ge=1,
        description="Where the reads are so few that `max_epochs` make fewer steps than this, there are as many more epochs, "
        "and more patience.",
    )
    patience: int = Field(3, ge=1, le=100, description="Epochs without a lower validation loss before training stops.")


class _Classifier(Section):
    training: str | None = Field(
        None,
        min_length=1,
        description="Sheet of the training data, relative to the study's folder (columns `path`, and as needed `kind` "
        "[`table`, `reads` or `genome`], `label`, `source`, `ancient`). `null`: no classifier.",
    )
    sequence_column: str = Field("SEQ", min_length=1, description="Column of the sequence in a labelled table.")
    label_column: str = Field("LAB", min_length=1, description="Column of the class in a labelled table.")
    source_column: str | None = Field(
        None,
        min_length=1,
        description="Column of a labelled table that names where a read is from (a genome, a sample): a source is wholly "
        "in one split. `null`: reads are split by their sequence.",
    )
    min_length: int = Field(30, ge=10, le=1000, description="Shorter reads are left out (bases).")
    max_length: int = Field(150, ge=20, le=1000, description="Longer reads are cut to this (bases).")
    max_reads_per_class: int | None = Field(
        None, ge=100, description="Most reads of a class, drawn by a hash of their bases. `null`: all."
    )
    drawn: Drawn = Field(Drawn(), description="Reads drawn from genomes of the sheet.")
    split: Split = Field(Split(), description="Training, validation and test.")
    models: list[ModelName] = Field(
        list(registry.MODELS), min_length=1, description="Networks to train, in the order of the report."
    )
    fit: Training = Field(Training(), description="Training of the networks.")
    kmer: int = Field(
        7,
        ge=2,
        le=9,
        description="Length of the k-mers of the logistic regression that the networks must beat (bases).",
    )
    curve: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.01, 0.03, 0.1, 0.3],
        max_length=10,
        description="Shares of the training reads for the learning curves (fractions); each trains every model once more. "
        "`[]`: none.",
    )
    n_bootstrap: int = Field(500, ge=100, le=10000, description="Bootstrap samples behind every interval.")
    precision: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="The threshold of confidence is the lowest at which validation reads that pass are right this often "
        "(fraction); reads below it are not classified.",
    )
    attributed_reads: int = Field(
        200, ge=0, le=100000, description="Test reads per class behind the sequence logos. 0: no logos."
    )
    apply: Literal["best", "none", *registry.MODELS] = Field(  # type: ignore[valid-type]
        "best",
        description="Model that classifies the quality-controlled reads of the study's metagenomes. `best`: lowest "
        "validation loss; `none`: they are not classified.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> _Classifier:
        faults = []
        if len(set(self.models)) != len(self.models):
            faults.append("a model is listed twice")
        if self.apply not in ("best", "none", *self.models):
            faults.append(f"apply is {self.apply!r}, which is not among models {list(self.models)}")
        if self.min_length > self.max_length:
            faults.append(f"min_length ({self.min_length}) is above max_length ({self.max_length})")
        if self.curve != sorted(set(self.curve)):
            faults.append("curve must ascend, without repeats")
        if faults:
            raise ValueError("; ".join(faults))
        return self


def _parameters(name: str) -> tuple[type[Section], Section]:
    params = registry.model(name).Params
    return params, Field(params(), description=f"Parameters of {registry.model(name).TITLE}.")


Classifier = create_model(
    "Classifier",
    __base__=_Classifier,
    __doc__="Deep classifiers of short reads.",
    **{name: _parameters(name) for name in registry.MODELS},
)
