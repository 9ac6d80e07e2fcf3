"""What only config and sample sheet together show."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from latentomics.config.databases import Database, read_databases
from latentomics.config.load import line_of
from latentomics.config.model import Config
from latentomics.config.row import closest
from latentomics.config.sheet import Sheet
from latentomics.config.training_sheet import TrainingRow, read_training_sheet
from latentomics.embed import registry
from latentomics.metagenome.profile.registry import profiler
from latentomics.problems import Problem


def chosen_database(
    config: Config, config_file: Path, sheet: Sheet, study: Path
) -> tuple[Database | None, list[Problem]]:
    """The database that the reads of the sheet are profiled with; None where there are no reads, or none is sound.

    Every fault of the sheet of databases is found, and a profiler that this machine lacks.
    """
    if not any(row.assay == "metagenome" and row.format == "fastq" for row in sheet.rows):
        return None, []
    databases, problems = read_databases(study / config.profile.databases)
    if problems:
        return None, problems
    names = [database.name for database in databases]
    wanted = config.profile.database or names[0]
    if wanted not in names:
        hint = f"{closest(wanted, names)}The sheet names {', '.join(names)}."
        row = line_of(config_file, ("profile", "database"))
        what = f"no such database in {config.profile.databases}"
        return None, [Problem(str(config_file), what, hint, row=row, key="profile.database", value=wanted)]
    database = databases[names.index(wanted)]
    reason = profiler(database.profiler).missing()
    if reason:
        hint = "install it, or choose another database in `profile.database`."
        return None, [Problem(config.profile.databases, reason, hint, key="profiler", value=database.profiler)]
    return database, []


def training_rows(config: Config, config_file: Path, study: Path) -> tuple[list[TrainingRow], list[Problem]]:
    """The sheet of training data of the read classifiers; no rows where the config names none."""
    if config.classifier.training is not None:
        return read_training_sheet(study / config.classifier.training)
    if config.samples is None:
        hint = "name a sample sheet, or training data in `classifier.training`."
        row = line_of(config_file, ("samples",))
        return [], [Problem(str(config_file), "there is nothing to do", hint, row=row, key="samples", value=None)]
    return [], []


def host_problems(config: Config, config_file: Path, study: Path) -> list[Problem]:
    """Host genomes that are not there."""
    problems = []
    for i, path in enumerate(config.reads.hosts):
        if not (study / path).is_file():
            key = ("reads", "hosts", i)
            hint = "paths of hosts are relative to the study's folder, or absolute."
            row = line_of(config_file, key)
            dotted = ".".join(map(str, key))
            problems.append(Problem(str(config_file), "file does not exist", hint, row=row, key=dotted, value=path))
    return problems


def study_problems(config: Config, config_file: Path, sheet: Sheet) -> list[Problem]:
    """Faults of the config that the columns of the sheet reveal."""
    problems = []
    named = [
        (("embeddings", "scvi", "covariates", i), name) for i, name in enumerate(config.embeddings.scvi.covariates)
    ]
    if config.doublets.given:
        named.append((("doublets", "given"), config.doublets.given))
    for key, column in named:
        if column not in sheet.covariates:
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
    for assay in sheet.assays():
        if not config.embeddings.methods_for(assay, sheet.counts(assay)):
            known = [name for name, module in registry.METHODS.items() if assay in import_module(module).ASSAYS]
            problems.append(
                Problem(
                    str(config_file),
                    f"none of the embeddings is made for the {assay} rows of the sheet",
                    f"add one of {', '.join(known)}.",
                    row=line_of(config_file, ("embeddings", "methods")),
                    key="embeddings.methods",
                    value=list(config.embeddings.methods),
                )
            )
    return problems
