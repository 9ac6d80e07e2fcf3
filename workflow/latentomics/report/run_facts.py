"""The facts of a run that the report's methods text tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import latentomics

#: Packages whose versions decide the results.
PACKAGES = (
    "snakemake",
    "kb-python",
    "cellbender",
    "scanpy",
    "anndata",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "lightning",
    "scvi-tools",
    "scib-metrics",
    "igraph",
    "umap-learn",
    "openTSNE",
    "zarr",
    "cutadapt",
    "dnaio",
    "sourmash",
    "scikit-bio",
    "biom-format",
)


def run_facts(
    assay: str, config: Mapping[str, Any], methods: Sequence[str], primary: str, normalisation: Mapping[str, Any]
) -> dict[str, Any]:
    """Versions, seed, config and methods of this run, JSON-able; no clock and no host name, so that it is reproducible."""
    versions = {"latentomics": latentomics.__version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "assay": assay,
        "title": config["report"]["title"],
        "seed": config["seed"],
        "versions": versions,
        "normalisation": dict(normalisation),
        "config": dict(config),
        "methods": list(methods),
        "primary": primary,
    }
