"""The networks. Adding one is one module in this folder and one line here.

A model's module is imported by the rules, so its top level imports nothing heavier than pydantic; it offers

``TITLE``
    Name for people.
``Params``
    Its typed parameters, a :class:`~latentomics.config.base.Section`.
``build(params, n_classes)``
    A ``torch.nn.Module`` that classifies one strand: ``forward(onehot, mask)`` takes float (reads, 4, width), where an
    unknown base and what lies beyond the end are zeros, and bool (reads, width), true within the read; it gives logits,
    (reads, classes). Positions outside the mask must not change the logits. Both strands are averaged by
    :class:`~latentomics.reads.models.strands.BothStrands`, for every model alike.
"""

from __future__ import annotations

import importlib
from types import ModuleType

MODELS: dict[str, str] = {
    "cnn": "latentomics.reads.models.cnn",
    "lstm": "latentomics.reads.models.lstm",
    "transformer": "latentomics.reads.models.transformer",
}
#: What every network is compared with; they live in :mod:`latentomics.reads.baselines`.
BASELINES = ("majority", "kmer")


def model(name: str) -> ModuleType:
    """The module of a registered network."""
    return importlib.import_module(MODELS[name])
