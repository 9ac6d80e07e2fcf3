"""Prepare a database; profile samples with it; write both in one step each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from latentomics.config.databases import Database
from latentomics.config.profile import Profile
from latentomics.metagenome.profile import registry
from latentomics.metagenome.profile.evidence import taxon_table
from latentomics.metagenome.profile.genomes import read_genomes
from latentomics.problems import InputError, Problem

_ABOUT = "database.json"


def prepare_database(database: Database, folder: Path, threads: int) -> None:
    """Build a database from genomes, or prepare an existing one; nothing is left behind if that fails.

    Parameters
    ----------
    database
        A row of the database sheet.
    folder
        Made here, replaced if it exists; holds ``database.json`` and what the profiler needs.
    """
    module = registry.profiler(database.profiler)
    _require(module.missing(), database.profiler)
    params = module.Params(**database.parameters)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        if database.exists:
            module.adopt(database.path, database.lineages, partial, params)
        else:
            if database.lineages is None:
                hint = "name a table of lineages in the database sheet."
                raise InputError(Problem(str(database.path), "genomes without lineages", hint))
            module.build(read_genomes(database.path, database.lineages), partial, params, threads)
        about = {
            "database": database.name,
            "profiler": database.profiler,
            "version": module.version(),
            "parameters": params.model_dump(),
        }
        (partial / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def profile_samples(
    reads: Mapping[str, Path], database: Path, limits: Profile, threads: int
) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Taxa of each sample; the database is loaded once.

    Parameters
    ----------
    reads
        Folder of the analysis-ready reads by sample.
    database
        Folder that :func:`prepare_database` wrote.

    Returns
    -------
    list of (table, summary)
        In the order of ``reads``: the rows of ``profile.parquet`` and the content of ``profile.json``.
    """
    about = json.loads((database / _ABOUT).read_text())
    module = registry.profiler(about["profiler"])
    _require(module.missing(), about["profiler"])
    results = []
    for observed in module.observe(reads, database, module.Params(**about["parameters"]), threads):
        table, notes = taxon_table(observed, limits)
        share = 1 - observed.classified_reads / observed.total_reads if observed.total_reads else 1.0
        summary = {
            "sample": observed.sample,
            "source": "reads",
            "profiler": about["profiler"],
            "version": module.version(),
            "database": about["database"],
            "values": "counts",
            "observations": [
                {
                    "sample": observed.sample,
                    "total_reads": observed.total_reads,
                    "classified_reads": observed.classified_reads,
                    "unclassified_share": max(share, 0.0),
                }
            ],
            "notes": notes,
        }
        results.append((table, summary))
    return results


def write_profiles(
    results: Sequence[tuple[pd.DataFrame, dict[str, Any]]], tables: Sequence[Path], summaries: Sequence[Path]
) -> None:
    """Write ``profile.parquet`` and ``profile.json`` of each sample, each complete or not at all."""
    for (table, summary), parquet, facts in zip(results, tables, summaries, strict=True):
        for path in (parquet, facts):
            path.parent.mkdir(parents=True, exist_ok=True)
        partial = parquet.with_name(f"{parquet.name}.partial")
        table.to_parquet(partial, index=False)
        os.replace(partial, parquet)
        partial = facts.with_name(f"{facts.name}.partial")
        partial.write_text(json.dumps(summary, indent=2) + "\n")
        os.replace(partial, facts)


def _require(reason: str | None, profiler: str) -> None:
    if reason is not None:
        raise InputError(Problem(profiler, "the profiler cannot run on this machine", reason))
