"""The taxonomic profilers. Adding one is one module in this folder and one line here.

A profiler's module is imported by the rules, so its top level imports nothing heavier than numpy, pandas and pydantic;
it offers

``TITLE``
    Name for people.
``missing()``
    Why it cannot run on this machine and what to install, or None.
``Params``
    Its typed parameters, a :class:`~latentomics.config.base.Section`; the column `parameters` of the database sheet.
``OWN_TAXONOMY``
    Whether an existing database brings its lineages; else the sheet must name a table.
``SLOW_TO_LOAD``
    Whether loading a database may take longer than profiling a sample: all samples then go to one job.
``is_database(path)``
    Whether a path of the database sheet is a database of the profiler, rather than a folder of genomes.
``build(genomes, folder, params, threads)``
    Write a database of :class:`~latentomics.metagenome.profile.genomes.Genome` into an existing folder.
``adopt(path, lineages, folder, params)``
    Prepare a database that exists.
``version()``
    Version of the tool.
``observe(reads, database, params, threads)``
    :class:`~latentomics.metagenome.profile.evidence.Observations` of each sample, in order; the database is loaded once.
"""

from __future__ import annotations

import importlib
from types import ModuleType

PROFILERS: dict[str, str] = {
    "sourmash": "latentomics.metagenome.profile.sourmash_",
    "kraken2": "latentomics.metagenome.profile.kraken2",
    "classifier": "latentomics.metagenome.profile.classifier",
}


def profiler(name: str) -> ModuleType:
    """The module of a registered profiler."""
    return importlib.import_module(PROFILERS[name])
