"""Which files of the sheet each sample's rules read.

Offers: SAMPLES (of cells), METAGENOMES and the functions that the rules of the assays use for input and params
"""

import re

from latentomics.config.reads import host_names
from latentomics.metagenome.profile.registry import PROFILERS, profiler

ADAPTERS = of_study(Path(workflow.basedir).parent / "resources/adapters.tsv")
#: Rows of each sample.
SAMPLES = SHEET.samples("scrna")
METAGENOMES = SHEET.samples("metagenome")
#: Samples that are reads, and samples of the sheet that are taxon tables.
READS = [name for name, rows in METAGENOMES.items() if rows[0].format == "fastq"]
TABLES = [name for name in METAGENOMES if name not in READS]
HOSTS = host_names(CONFIG.reads.hosts) if READS else []
DATABASE_FOLDER = f"results/metagenome/databases/{DATABASE.name}" if DATABASE else []
TOGETHER = bool(DATABASE) and profiler(DATABASE.profiler).SLOW_TO_LOAD
PROFILED_TOGETHER = READS if TOGETHER else []
PROFILED_ALONE = [] if TOGETHER else READS


def any_of(samples):
    """A wildcard constraint for either the reads or the tables of a study; one that nothing matches where there are none."""
    others = set(METAGENOMES) - set(samples)
    if not samples:
        return "(?!)"
    # A character class is much faster than thousands of names; names are needed only where both kinds occur.
    return "|".join(map(re.escape, samples)) if others else "[A-Za-z0-9][A-Za-z0-9._-]*"


def files_of(rows):
    return [str(file) for row in rows for file in row.files()]


def sample_files(wildcards):
    return files_of(SAMPLES[wildcards.sample])


def sample_rows(wildcards):
    return [row.as_dict() for row in SAMPLES[wildcards.sample]]


def read_files(wildcards):
    return files_of(METAGENOMES[wildcards.sample])


def read_rows(wildcards):
    """How the reads are found; a covariate that changes is no reason to trim them again."""
    return [{**row.as_dict(), "covariates": {}} for row in METAGENOMES[wildcards.sample]]


def table_files(wildcards):
    return files_of(METAGENOMES[wildcards.sample])


def table_rows(wildcards):
    return [row.as_dict() for row in METAGENOMES[wildcards.sample]]


def sheet_rows_of_reads():
    """The first row of every sample of reads: its covariates."""
    return {sample: METAGENOMES[sample][0].as_dict() for sample in READS}


def one_sample(wildcards):
    return [wildcards.sample]


def host_fasta(wildcards):
    return str(of_study(STUDY / CONFIG.reads.hosts[HOSTS.index(wildcards.host)]))


def database_files(wildcards):
    return [str(file) for file in DATABASE.files()]


def database_row(wildcards):
    return DATABASE.as_dict()


def ordinations_of(wildcards):
    """Coordinates of samples that belong to no embedding."""
    return ["results/metagenome/ordination.tsv"] if wildcards.assay == "metagenome" else []


def database_code(script):
    """Content hash of a script and of the profiler that it reaches through the registry."""
    modules = [PROFILERS[DATABASE.profiler]] if DATABASE else []
    if DATABASE and DATABASE.profiler == "classifier":
        modules += model_registry.MODELS.values()
    return code_of(script, *modules)
