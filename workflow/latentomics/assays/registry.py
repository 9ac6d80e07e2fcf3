"""The assays. Adding one is one module in this folder and one line here, and an ingest arm that writes a counts store.

An assay's module is imported by the rules, so its top level imports nothing heavier than numpy; it offers

``TITLE``, ``OBSERVATION``, ``OBSERVATIONS``, ``FEATURE``, ``FEATURES``
    Words for people.
``normalisation(config)``, ``choice(config)``
    The smallest parts of the config that the next two need, as plain values.
``normaliser(store, settings)``
    A :class:`~latentomics.assays.normaliser.Normaliser`.
``select_features(store, settings)``
    Table of all features (indexed as the store's ``var``) with a boolean column ``selected``.
``CHOOSER``, ``MARKER_TEST``
    Modules that ``select_features`` and ``find_markers`` call: only the rules that use them rerun when they change.
``find_markers(store, clusters, params, normaliser, seed)``
    Table with the columns of :data:`latentomics.cluster.markers.COLUMNS`.

Which embeddings apply to an assay, the embedding's module says (``ASSAYS``).
"""

from __future__ import annotations

import importlib
from types import ModuleType

ASSAYS: dict[str, str] = {
    "scrna": "latentomics.assays.scrna",
    "metagenome": "latentomics.assays.metagenome",
}


def assay(name: str) -> ModuleType:
    """The module of a registered assay."""
    return importlib.import_module(ASSAYS[name])
