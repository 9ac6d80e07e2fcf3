"""Which files of the sheet each sample's rules read.

Offers: SAMPLES (of cells), METAGENOMES and the functions that the rules of the assays use for input and params
"""

import re

from latentomics.config.reads import host_names
from latentomics.metagenome.profile.registry import PROFILERS, profiler
from latentomics.scrna.ambient import registry as ambient_registry
from latentomics.scrna.doublets import registry as doublet_registry

ADAPTERS = of_study(Path(workflow.basedir).parent / "resources/adapters.tsv")
REFERENCE_KEYS = ("genome", "annotation", "transcripts", "transcripts_to_genes", "index")
#: Rows of each sample.
SAMPLES = SHEET.samples("scrna")
METAGENOMES = SHEET.samples("metagenome")
#: Samples of cells that are reads.
CELL_READS = [name for name, rows in SAMPLES.items() if rows[0].format == "fastq"]
#: Doublet callers that need a GPU, and so a job of their own.
CALLERS_ON_GPU = [name for name in CONFIG.doublets.methods if doublet_registry.method(name).GPU]
CALLERS_ON_CPU = [name for name in CONFIG.doublets.methods if name not in CALLERS_ON_GPU]
AMBIENT = CONFIG.ambient.method if CONFIG.ambient.method != "none" else None
AMBIENT_ON_GPU = bool(AMBIENT) and ambient_registry.method(AMBIENT).GPU
#: Samples that are reads, and samples of the sheet that are taxon tables.
READS = [name for name, rows in METAGENOMES.items() if rows[0].format == "fastq"]
TABLES = [name for name in METAGENOMES if name not in READS]
HOSTS = host_names(CONFIG.reads.hosts) if READS else []
DATABASE_FOLDER = f"results/metagenome/databases/{DATABASE.name}" if DATABASE else []
TOGETHER = bool(DATABASE) and profiler(DATABASE.profiler).SLOW_TO_LOAD
PROFILED_TOGETHER = READS if TOGETHER else []
PROFILED_ALONE = [] if TOGETHER else READS


def any_of(samples, among):
    """A wildcard constraint for some of an assay's samples; one that nothing matches where there are none."""
    others = set(among) - set(samples)
    if not samples:
        return "(?!)"
    # A character class is much faster than thousands of names; names are needed only where both kinds occur.
    return "|".join(map(re.escape, samples)) if others else "[A-Za-z0-9][A-Za-z0-9._-]*"


def files_of(rows):
    return [str(file) for row in rows for file in row.files()]


def sample_files(wildcards):
    return files_of(SAMPLES[wildcards.sample])


def counts_files(wildcards):
    """What the counts of a sample are read from: the files of the sheet, or what was made of them where they are reads."""
    if wildcards.sample not in CELL_READS:
        return sample_files(wildcards)
    tables = [str(row.metadata) for row in SAMPLES[wildcards.sample] if row.metadata]
    return [f"results/scrna/samples/{wildcards.sample}/raw.h5ad", *tables]


def quantification(wildcards):
    made = f"results/scrna/samples/{wildcards.sample}/quantification.json"
    return [made] if wildcards.sample in CELL_READS else []


def ambient_counts_files(wildcards):
    """The raw matrix, for methods that need the empty droplets themselves."""
    return counts_files(wildcards) if ambient_registry.method(AMBIENT).NEEDS_RAW else []


def sample_rows(wildcards):
    return [row.as_dict() for row in SAMPLES[wildcards.sample]]


def read_set_rows(wildcards):
    """How the reads are found; a covariate that changes is no reason to count them again."""
    return [{**row.as_dict(), "covariates": {}} for row in SAMPLES[wildcards.sample]]


def reference_files():
    """The files of the config that the reads of cells are mapped to."""
    named = [getattr(CONFIG.quantify, key) for key in REFERENCE_KEYS]
    return [str(of_study(STUDY / path)) for path in named if path]


def whitelist_file():
    listed = CONFIG.quantify.whitelist
    return [] if listed in ("auto", "none") else [str(of_study(STUDY / listed))]


def quantify_params(*names):
    return CONFIG.quantify.model_dump(mode="json", include=set(names))


def doublet_code(script, *callers):
    """Content hash of a script and of the callers that it reaches through the registry."""
    return code_of(script, *(doublet_registry.METHODS[name] for name in callers))


def caller_code(wildcards):
    return doublet_code("scrna_doublets", wildcards.caller)


def ambient_code(script):
    return code_of(script, *([ambient_registry.METHODS[AMBIENT]] if AMBIENT else []))


def of_samples(pattern, wanted=True):
    """These files of every sample of cells, where they are wanted."""
    return expand(f"results/scrna/samples/{{sample}}/{pattern}", sample=SAMPLES if wanted else [])


def of_callers(ending):
    """The files of every caller that has a job of its own: those of the first for all samples, then of the next."""
    return [file for name in CALLERS_ON_GPU for file in of_samples(f"doublets/{name}.{ending}")]


def read_files(wildcards):
    return files_of(METAGENOMES[wildcards.sample])


def unprofiled_files(wildcards):
    """What a profile is made of, while the reads are not yet trimmed."""
    return [*read_files(wildcards), DATABASE_FOLDER]


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
