"""Load and check the config and the sample sheet, before anything else.

Inputs:  config/config.yaml (or --configfile), the sheet it names
Offers:  CONFIG, SHEET, DATABASE, TRAINING, STUDY and the small functions that rules use for their params
"""

import os
import sys
import time
from pathlib import Path

# The package of this checkout, for the rules and, through the environment, for every job.
sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import update_config

from latentomics.assays import registry as assay_registry
from latentomics.config.environment import (
    drop_dead_lock,
    remember_run,
    share_cores,
    share_package,
)
from latentomics.config.fingerprint import fingerprint
from latentomics.config.load import load_config, read_yaml
from latentomics.config.paths import of_study
from latentomics.config.quantify_study import quantify_problems
from latentomics.config.sheet import NO_SAMPLES, read_sheet
from latentomics.config.study import chosen_database, host_problems, study_problems, training_rows
from latentomics.embed import registry as embedding_registry
from latentomics.problems import listing
from latentomics.reads.models import registry as model_registry
from latentomics.resources.predict import memory, minutes
from latentomics.slurm.guard import guard
from latentomics.slurm.queue import take_back

share_package(workflow.basedir)
share_cores()
STUDY = Path.cwd()
STARTED = time.time()
SCRIPTS = Path(workflow.basedir) / "scripts"
GENE_SETS = of_study(Path(workflow.basedir).parent / "resources/gene_sets.tsv")
CHECKED = Path("results/.checked.json")
RUNNING = Path(".snakemake/latentomics.json")
CONFIG_FILE = Path(
    workflow.overwrite_configfiles[0] if workflow.overwrite_configfiles else "config/config.yaml"
)


def load_study():
    """Config and sheet; every fault of both, and of the readable matrices too, in one listing."""
    raw, problems = read_yaml(CONFIG_FILE)
    # Nested: a key given on the command line leaves its neighbours alone.
    update_config(raw, config)
    loaded, found = load_config(raw, CONFIG_FILE)
    problems += found
    training, found = training_rows(loaded, CONFIG_FILE, STUDY)
    problems += found
    sheet, found = read_sheet(STUDY / loaded.samples, STUDY) if loaded.samples else (NO_SAMPLES, [])
    problems += found
    database = None
    if sheet:
        problems += study_problems(loaded, CONFIG_FILE, sheet)
        problems += host_problems(loaded, CONFIG_FILE, STUDY)
        problems += quantify_problems(loaded.quantify, CONFIG_FILE, sheet, STUDY)
        database, found = chosen_database(loaded, CONFIG_FILE, sheet, STUDY)
        problems += found
    if any(p.severity == "error" for p in problems):
        if workflow.is_main_process and sheet:
            problems += input_problems(loaded, sheet, training)
        raise WorkflowError(listing(problems))
    if workflow.is_main_process:
        for problem in problems:
            logger.warning(f"Warning: {problem}")
    return loaded, sheet, database, training, [p for p in problems if p.severity == "warning"]


def input_problems(loaded, sheet, training):
    """Faults inside the inputs; known findings are not looked for again."""
    from latentomics.config.training_sheet import check_training
    from latentomics.io.preflight import check_inputs

    return check_training(training, loaded.classifier) + check_inputs(
        sheet,
        loaded,
        GENE_SETS,
        CHECKED,
        workers=min(os.cpu_count() or 1, 8),
        say=logger.info,
    )


def begin():
    """Called once the run holds the study's lock, before its first job."""
    try:
        take_back(STUDY, logger.info)
    except TimeoutError as error:
        raise WorkflowError(str(error)) from error
    guard(workflow.scheduler, logger.warning)
    remember_run(RUNNING)
    problems = input_problems(CONFIG, SHEET, TRAINING)
    if problems:
        raise WorkflowError(listing([*problems, *SHEET_WARNINGS]))


def code_of(script, *modules):
    """Content hash of a script and of the package's modules that it uses."""
    return fingerprint(SCRIPTS / f"{script}.py", modules)


def assay_code(script, part=None):
    """The same, for a script that asks the module of its assay, and for the module that it names as this part."""

    def code(wildcards):
        modules = [assay_registry.ASSAYS[wildcards.assay]]
        if part:
            modules.append(getattr(assay_registry.assay(wildcards.assay), part))
        return code_of(script, *modules)

    return code


def normalisation(wildcards):
    return assay_registry.assay(wildcards.assay).normalisation(CONFIG)


def feature_choice(wildcards):
    return assay_registry.assay(wildcards.assay).choice(CONFIG)


def section(name, within=None):
    """A section of the config, or of a part of it, as plain values for a rule's params."""
    return getattr(within or CONFIG, name).model_dump(mode="json")


def method_params(wildcards):
    return getattr(CONFIG.embeddings, wildcards.method).model_dump(mode="json")


def method_code(wildcards):
    return code_of(
        "embed",
        embedding_registry.METHODS[wildcards.method],
        assay_registry.ASSAYS[wildcards.assay],
    )


def embeddings_of(assay):
    """Parameters of every embedding of an assay."""
    return {
        method: getattr(CONFIG.embeddings, method).model_dump(mode="json")
        for method in METHODS.get(assay, [])
    }


def methods_of(wildcards):
    return METHODS[wildcards.assay]


def of_methods(pattern):
    """The files of every embedding of an assay."""

    def files(wildcards):
        return expand(pattern, assay=wildcards.assay, method=methods_of(wildcards))

    return files


def primary_of(wildcards):
    return PRIMARY[wildcards.assay][0]


def why_primary(wildcards):
    return PRIMARY[wildcards.assay][1]


if workflow.is_main_process and drop_dead_lock(RUNNING, Path(".snakemake/locks")):
    logger.info("The last run here was killed; going on where it stopped.")
CONFIG, SHEET, DATABASE, TRAINING, SHEET_WARNINGS = load_study()
ASSAYS = SHEET.assays()
METHODS = {assay: CONFIG.embeddings.methods_for(assay, SHEET.counts(assay)) for assay in ASSAYS}
PRIMARY = {
    assay: CONFIG.embeddings.primary_method(assay, METHODS[assay], SHEET.batches(assay))
    for assay in ASSAYS
}
ON_CPU = [m for m in embedding_registry.METHODS if not embedding_registry.on_gpu(m)]
ON_GPU = [m for m in embedding_registry.METHODS if embedding_registry.on_gpu(m)]
