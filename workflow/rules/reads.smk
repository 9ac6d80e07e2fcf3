"""Read classifiers: training data, networks and baselines, their judgement, and their application to the study's reads.

Inputs:  the training sheet (classifier.training); results/metagenome/samples/{sample}/reads for the application
Outputs: results/reads/{data,models,baselines,scores,attribution,curve}/, results/reads/{scores.tsv,verdict.json,best.json},
         results/reads/samples/{sample}/shares.tsv
"""


rule reads_data:
    input:
        files=training_files,
    output:
        data=directory("results/reads/data"),
        ledger="results/reads/ledger.tsv",
    log:
        "results/logs/reads/data.log",
    benchmark:
        "results/benchmarks/reads/data.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("reads_data"),
        runtime=minutes("reads_data"),
    params:
        rows=[row.as_dict() for row in TRAINING],
        settings=classifier_params(
            "training",
            "sequence_column",
            "label_column",
            "source_column",
            "min_length",
            "max_length",
            "max_reads_per_class",
            "drawn",
            "split",
        ),
        seed=CONFIG.seed,
        code=code_of("reads_data"),
    message:
        "Labelled reads: encoding, removing duplicates, splitting"
    script:
        "../scripts/reads_data.py"


rule reads_train:
    input:
        data="results/reads/data",
    output:
        model=directory("results/reads/models/{classifier}"),
    log:
        "results/logs/reads/train/{classifier}.log",
    benchmark:
        "results/benchmarks/reads/train/{classifier}.tsv"
    wildcard_constraints:
        classifier="|".join(READ_MODELS) or "(?!)",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("reads_train"),
        runtime=minutes("reads_train"),
        gpu=1,
    params:
        model=network_params,
        fit=section("fit", CONFIG.classifier),
        precision=CONFIG.classifier.precision,
        # Outlives a killed job, so no output: Snakemake would remove it.
        checkpoints="results/reads/checkpoints/{classifier}",
        seed=CONFIG.seed,
        code=classifier_code("reads_train"),
    message:
        "Read classifier {wildcards.classifier}: training"
    script:
        "../scripts/reads_train.py"


rule reads_baseline:
    input:
        data="results/reads/data",
    output:
        model=directory("results/reads/baselines/{classifier}"),
    log:
        "results/logs/reads/baseline/{classifier}.log",
    benchmark:
        "results/benchmarks/reads/baseline/{classifier}.tsv"
    wildcard_constraints:
        classifier="|".join(READ_BASELINES) or "(?!)",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("reads_baseline"),
        runtime=minutes("reads_baseline"),
    params:
        kmer=CONFIG.classifier.kmer,
        seed=CONFIG.seed,
        code=code_of("reads_baseline"),
    message:
        "Read classifier {wildcards.classifier}: fitting the baseline"
    script:
        "../scripts/reads_baseline.py"


rule reads_evaluate:
    input:
        data="results/reads/data",
        model=fitted,
    output:
        scores=directory("results/reads/scores/{classifier}"),
    log:
        "results/logs/reads/evaluate/{classifier}.log",
    benchmark:
        "results/benchmarks/reads/evaluate/{classifier}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("reads_evaluate"),
        runtime=minutes("reads_evaluate"),
    params:
        settings=classifier_params("n_bootstrap", "precision"),
        seed=CONFIG.seed,
        code=classifier_code("reads_evaluate"),
    message:
        "Read classifier {wildcards.classifier}: judging it on the test reads"
    script:
        "../scripts/reads_evaluate.py"


rule reads_attribution:
    input:
        data="results/reads/data",
        model="results/reads/models/{classifier}",
    output:
        attribution=directory("results/reads/attribution/{classifier}"),
    log:
        "results/logs/reads/attribution/{classifier}.log",
    benchmark:
        "results/benchmarks/reads/attribution/{classifier}.tsv"
    wildcard_constraints:
        classifier="|".join(READ_MODELS) or "(?!)",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("reads_attribution"),
        runtime=minutes("reads_attribution"),
    params:
        n_reads=CONFIG.classifier.attributed_reads,
        seed=CONFIG.seed,
        code=classifier_code("reads_attribution"),
    message:
        "Read classifier {wildcards.classifier}: which bases decide"
    script:
        "../scripts/reads_attribution.py"


rule reads_curve:
    input:
        data="results/reads/data",
        scores="results/reads/scores/{classifier}",
    output:
        curve="results/reads/curve/{classifier}.tsv",
    log:
        "results/logs/reads/curve/{classifier}.log",
    benchmark:
        "results/benchmarks/reads/curve/{classifier}.tsv"
    wildcard_constraints:
        classifier="|".join(READ_BASELINES) or "(?!)",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("reads_curve"),
        runtime=minutes("reads_curve"),
    params:
        model=curve_params,
        fit=section("fit", CONFIG.classifier),
        shares=CONFIG.classifier.curve,
        kmer=CONFIG.classifier.kmer,
        n_bootstrap=CONFIG.classifier.n_bootstrap,
        checkpoints="results/reads/checkpoints/curve/{classifier}",
        seed=CONFIG.seed,
        code=classifier_code("reads_curve"),
    message:
        "Read classifier {wildcards.classifier}: learning curve"
    script:
        "../scripts/reads_curve.py"


use rule reads_curve as reads_curve_gpu with:
    wildcard_constraints:
        classifier="|".join(READ_MODELS) or "(?!)",
    resources:
        mem_mb=memory("reads_curve_gpu"),
        runtime=minutes("reads_curve_gpu"),
        gpu=1,


rule reads_scores:
    input:
        scores=expand(
            "results/reads/scores/{classifier}", classifier=[*READ_MODELS, *READ_BASELINES]
        ),
    output:
        scores=report("results/reads/scores.tsv", caption="../report/reads.rst", category="Scores"),
        verdict="results/reads/verdict.json",
        best="results/reads/best.json",
    log:
        "results/logs/reads/scores.log",
    benchmark:
        "results/benchmarks/reads/scores.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("reads_scores"),
        runtime=minutes("reads_scores"),
    params:
        networks=READ_MODELS,
        baselines=READ_BASELINES,
        n_bootstrap=CONFIG.classifier.n_bootstrap,
        seed=CONFIG.seed,
        code=code_of("reads_scores"),
    message:
        "Read classifiers: comparing them"
    script:
        "../scripts/reads_scores.py"


rule reads_predict:
    input:
        reads="results/metagenome/samples/{sample}/reads",
        best="results/reads/best.json",
        models=expand("results/reads/models/{classifier}", classifier=READ_MODELS),
        scores=expand("results/reads/scores/{classifier}", classifier=READ_MODELS),
    output:
        shares="results/reads/samples/{sample}/shares.tsv",
        facts="results/reads/samples/{sample}/shares.json",
    log:
        "results/logs/reads/predict/{sample}.log",
    benchmark:
        "results/benchmarks/reads/predict/{sample}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("reads_predict"),
        runtime=minutes("reads_predict"),
    params:
        apply=CONFIG.classifier.apply,
        n_bootstrap=CONFIG.classifier.n_bootstrap,
        seed=CONFIG.seed,
        code=classifier_code("reads_predict"),
    message:
        "Sample {wildcards.sample}: classes of its reads"
    script:
        "../scripts/reads_predict.py"
