"""Shotgun metagenomes: from reads, or from taxon tables, to the counts store.

Inputs:  the sheet's files, the sheet of databases
Outputs: results/metagenome/samples/{sample}/reads/reads*.fastq.gz (quality-controlled, host removed), reads.tsv
         results/metagenome/samples/{sample}/{profile.parquet,profile.json}
         results/metagenome/{counts.zarr,samples.tsv,ledger.tsv,warnings.tsv}
         results/metagenome/{diversity,ordination,permanova,associations,prediction}.tsv
"""


rule metagenome_host:
    input:
        fasta=host_fasta,
    output:
        index="results/metagenome/hosts/{host}.index",
    log:
        "results/logs/metagenome_host/{host}.log",
    benchmark:
        "results/benchmarks/metagenome_host/{host}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("metagenome_host"),
        runtime=minutes("metagenome_host"),
    params:
        tool=CONFIG.reads.host_tool,
        code=code_of("metagenome_host"),
    message:
        "Indexing {wildcards.host}, whose reads are removed"
    script:
        "../scripts/metagenome_host.py"


rule metagenome_reads:
    input:
        files=read_files,
        adapters=str(ADAPTERS),
        hosts=expand("results/metagenome/hosts/{host}.index", host=HOSTS),
    output:
        reads=directory("results/metagenome/samples/{sample}/reads"),
        steps="results/metagenome/samples/{sample}/reads.tsv",
        summary="results/metagenome/samples/{sample}/reads.json",
    log:
        "results/logs/metagenome_reads/{sample}.log",
    benchmark:
        "results/benchmarks/metagenome_reads/{sample}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("metagenome_reads"),
        runtime=minutes("metagenome_reads"),
    params:
        rows=read_rows,
        reads=section("reads"),
        code=code_of("metagenome_reads"),
    message:
        "Sample {wildcards.sample}: trimming and filtering reads, removing the host's"
    script:
        "../scripts/metagenome_reads.py"


rule metagenome_database:
    input:
        files=database_files,
    output:
        folder=directory("results/metagenome/databases/{database}"),
    log:
        "results/logs/metagenome_database/{database}.log",
    benchmark:
        "results/benchmarks/metagenome_database/{database}.tsv"
    wildcard_constraints:
        database="[A-Za-z0-9][A-Za-z0-9._-]*",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("metagenome_database"),
        runtime=minutes("metagenome_database"),
    params:
        database=database_row,
        code=database_code("metagenome_database"),
    message:
        "Preparing the database {wildcards.database}"
    script:
        "../scripts/metagenome_database.py"


rule metagenome_profile:
    input:
        reads=["results/metagenome/samples/{sample}/reads"],
        database=DATABASE_FOLDER,
    output:
        tables=["results/metagenome/samples/{sample}/profile.parquet"],
        summaries=["results/metagenome/samples/{sample}/profile.json"],
    log:
        "results/logs/metagenome_profile/{sample}.log",
    benchmark:
        "results/benchmarks/metagenome_profile/{sample}.tsv"
    wildcard_constraints:
        sample=any_of(PROFILED_ALONE, METAGENOMES),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("metagenome_profile", unprofiled_files),
        runtime=minutes("metagenome_profile", unprofiled_files),
    params:
        samples=one_sample,
        profile=section("profile"),
        code=database_code("metagenome_profile"),
    message:
        "Sample {wildcards.sample}: taxonomic profile"
    script:
        "../scripts/metagenome_profile.py"


# A profiler whose database takes longer to load than a sample to profile gets all samples at once.
if PROFILED_TOGETHER:

    use rule metagenome_profile as metagenome_profiles with:
        input:
            reads=expand("results/metagenome/samples/{sample}/reads", sample=PROFILED_TOGETHER),
            database=DATABASE_FOLDER,
        output:
            tables=expand(
                "results/metagenome/samples/{sample}/profile.parquet", sample=PROFILED_TOGETHER
            ),
            summaries=expand(
                "results/metagenome/samples/{sample}/profile.json", sample=PROFILED_TOGETHER
            ),
        log:
            "results/logs/metagenome_profiles.log",
        benchmark:
            "results/benchmarks/metagenome_profiles.tsv"
        threads: 2
        resources:
            mem_mb=memory("metagenome_profiles"),
            runtime=minutes("metagenome_profiles"),
        params:
            samples=PROFILED_TOGETHER,
            profile=section("profile"),
            code=database_code("metagenome_profile"),
        message:
            "Taxonomic profiles of all samples, the database loaded once"


rule metagenome_table:
    input:
        files=table_files,
    output:
        profile="results/metagenome/samples/{sample}/profile.parquet",
        summary="results/metagenome/samples/{sample}/profile.json",
        observations="results/metagenome/samples/{sample}/observations.parquet",
    log:
        "results/logs/metagenome_table/{sample}.log",
    benchmark:
        "results/benchmarks/metagenome_table/{sample}.tsv"
    wildcard_constraints:
        sample=any_of(TABLES, METAGENOMES),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("metagenome_table"),
        runtime=minutes("metagenome_table"),
    params:
        rows=table_rows,
        code=code_of("metagenome_table"),
    message:
        "Taxon table {wildcards.sample}: reading"
    script:
        "../scripts/metagenome_table.py"


rule metagenome_merge:
    input:
        profiles=expand("results/metagenome/samples/{sample}/profile.parquet", sample=METAGENOMES),
        summaries=expand("results/metagenome/samples/{sample}/profile.json", sample=METAGENOMES),
        observations=expand(
            "results/metagenome/samples/{sample}/observations.parquet", sample=TABLES
        ),
    output:
        store=directory("results/metagenome/counts.zarr"),
        samples=report(
            "results/metagenome/samples.tsv",
            caption="../report/samples.rst",
            category="Quality",
        ),
        ledger="results/metagenome/ledger.tsv",
        warnings="results/metagenome/warnings.tsv",
    log:
        "results/logs/metagenome_merge.log",
    benchmark:
        "results/benchmarks/metagenome_merge.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("metagenome_merge"),
        runtime=minutes("metagenome_merge"),
    params:
        samples=list(METAGENOMES),
        tables=TABLES,
        read_rows=sheet_rows_of_reads(),
        taxa=section("taxa"),
        sheet=CONFIG.samples,
        code=code_of("metagenome_merge"),
    message:
        "Joining the profiles of all samples into one counts store"
    script:
        "../scripts/metagenome_merge.py"


rule metagenome_diversity:
    input:
        store="results/metagenome/counts.zarr",
        clusters=f"results/metagenome/clusters/{PRIMARY.get('metagenome', [''])[0]}.parquet",
    output:
        diversity="results/metagenome/diversity.tsv",
        diversity_tests="results/metagenome/diversity_tests.tsv",
        ordination="results/metagenome/ordination.tsv",
        permanova="results/metagenome/permanova.tsv",
        associations="results/metagenome/associations.tsv",
    log:
        "results/logs/metagenome_diversity.log",
    benchmark:
        "results/benchmarks/metagenome_diversity.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("metagenome_diversity"),
        runtime=minutes("metagenome_diversity"),
    params:
        composition=section("composition"),
        associations=section("associations"),
        seed=CONFIG.seed,
        code=code_of("metagenome_diversity"),
    message:
        "Diversity, ordinations and associations of the metagenomes"
    script:
        "../scripts/metagenome_diversity.py"


rule metagenome_prediction:
    input:
        store="results/metagenome/counts.zarr",
    output:
        prediction="results/metagenome/prediction.tsv",
        splits="results/metagenome/prediction_splits.tsv",
    log:
        "results/logs/metagenome_prediction.log",
    benchmark:
        "results/benchmarks/metagenome_prediction.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("metagenome_prediction"),
        runtime=minutes("metagenome_prediction"),
        gpu=1,
    params:
        prediction=section("prediction"),
        embeddings=embeddings_of("metagenome"),
        seed=CONFIG.seed,
        code=code_of(
            "metagenome_prediction",
            *(embedding_registry.METHODS[m] for m in embeddings_of("metagenome")),
        ),
    message:
        "Predicting {params.prediction[target]} from the metagenomes"
    script:
        "../scripts/metagenome_prediction.py"
