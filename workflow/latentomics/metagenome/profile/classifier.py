"""The study's own classifier as a profiler: classes of reads, by a network that the rules of the read classifier trained.

Its database is a trained model's folder. The shares of the classes are corrected by how the model classifies its test
reads (:mod:`~latentomics.reads.shares`), whose predictions are taken from the results that the folder belongs to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.config.base import Section
from latentomics.config.databases import lineage_for, read_lineages
from latentomics.config.row import closest
from latentomics.metagenome.profile.evidence import Observations, taxon_of
from latentomics.metagenome.profile.genomes import Genome
from latentomics.problems import InputError, Problem

TITLE = "read classifier"
#: A model names its classes; where they stand in a taxonomy, a table must tell.
OWN_TAXONOMY = False
SLOW_TO_LOAD = False
_MODEL_FILES = ("model.json", "weights.npz")
_PREDICTIONS = "predictions.npz"
_ERRORS = "errors.npz"
_SEED = 0
_N_BOOTSTRAP = 200


class Params(Section):
    """None: the model brings its threshold of confidence, its width and its temperature."""


def missing() -> str | None:
    """None: torch is a dependency of the package."""
    return None


def version() -> str:
    """Version of this package, whose networks these are."""
    from latentomics import __version__

    return __version__


def is_database(path: Path) -> bool:
    """Whether a folder holds a trained model."""
    return all((path / name).is_file() for name in _MODEL_FILES)


def build(genomes: Sequence[Genome], folder: Path, params: Params, threads: int) -> None:
    """Refuse: a classifier is trained, not built.

    Raises
    ------
    InputError
        Always.
    """
    where = str(genomes[0].path.parent) if genomes else "the database sheet"
    hint = "train one with the config section `classifier` and give its folder, `results/reads/models/NAME`, as `path`."
    raise InputError(Problem(where, "a classifier is not built from a folder of genomes", hint, key="path"))


def adopt(path: Path, lineages: Path, folder: Path, params: Params) -> None:
    """Copy a trained model; keep the lineages of its classes and how its test reads are classified.

    Parameters
    ----------
    path
        ``results/reads/models/NAME``; predictions are those of ``results/reads/scores/NAME``, or lie in ``path``. Without
        them the shares are not corrected.
    lineages
        Table of lineages; its genomes are the model's classes.

    Raises
    ------
    InputError
        If it is no model that can be used, or a class has no lineage.
    """
    from latentomics.reads.saved import load_model
    from latentomics.reads.shares import read_errors

    model = load_model(path)
    known, problems = read_lineages(lineages)
    rows = [(name, lineage_for(name, known)) for name in model.classes]
    for name, text in rows:
        if text is None:
            hint = f"{closest(name, known)}Add a line for it to {lineages}."
            problems.append(Problem(str(path), "class without a lineage", hint, value=name))
    if problems:
        raise InputError(problems)
    for name in _MODEL_FILES:
        shutil.copyfile(path / name, folder / name)
    pd.DataFrame(rows, columns=["class", "lineage"]).to_csv(folder / "classes.tsv", sep="\t", index=False)
    beside = [path / _PREDICTIONS, path.resolve().parent.parent / "scores" / path.resolve().name / _PREDICTIONS]
    found = next((file for file in beside if file.is_file()), None)
    if found is not None:
        errors = read_errors(found, len(model.classes), model.facts["temperature"], model.facts["threshold"], _SEED)
        errors.save(folder / _ERRORS)


def observe(reads: Mapping[str, Path], database: Path, params: Params, threads: int) -> Iterator[Observations]:
    """Each sample's reads by class, corrected for the model's errors.

    A class is detected if the 95 % interval of its share does not reach zero: errors that the correction leaves over are
    no class. What is observed of it is its corrected share, so that there is no ambiguity left to resolve.

    Parameters
    ----------
    reads
        Folder of the analysis-ready reads by sample.
    database
        Folder that :func:`adopt` wrote.
    """
    from latentomics.embed.training import use_device
    from latentomics.reads.predict import predict_sample
    from latentomics.reads.saved import load_model
    from latentomics.reads.shares import Errors, class_shares

    use_device(threads)
    model = load_model(database)
    lineages = pd.read_csv(database / "classes.tsv", sep="\t", dtype=str, keep_default_na=False)["lineage"].tolist()
    errors = Errors.load(database / _ERRORS) if (database / _ERRORS).exists() else None
    for sample, folder in reads.items():
        predicted = predict_sample(sample, folder, model)
        shares = class_shares(model.classes, predicted, errors, _N_BOOTSTRAP, _SEED)
        yield _observations(sample, predicted.reads, shares.table.iloc[:-1], lineages, shares.notes)


def _observations(
    sample: str, total_reads: int, table: pd.DataFrame, lineages: Sequence[str], notes: Sequence[str]
) -> Observations:
    """A sample of which each detected class is evidence of one genome, of that class and no other.

    Parameters
    ----------
    table
        Rows of the classes of :attr:`latentomics.reads.shares.Shares.table`.
    """
    from scipy.sparse import csr_matrix

    detected = np.flatnonzero(table["low"] > 0).tolist()
    seen = int((table["reads"] > 0).sum())
    notes = list(notes)
    if seen > len(detected):
        notes.append(f"{seen - len(detected)} of {seen} classes are left out: their shares may be nothing but errors")
    classified = float(table["reads"].sum())
    plain: dict[str, float] = {}
    for place in detected:
        taxon = taxon_of(lineages[place])
        plain[taxon] = plain.get(taxon, 0.0) + float(table["reads"].iloc[place])
    return Observations(
        sample,
        total_reads,
        classified,
        [lineages[place] for place in detected],
        np.full(len(detected), np.nan),
        table["share_corrected"].to_numpy(dtype=float)[detected] * classified,
        csr_matrix(np.eye(len(detected))),
        plain,
        None,
        notes,
    )
