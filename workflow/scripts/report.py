"""Write the report page, and beside it the facts of this run."""

import json
from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Writing the report"):
    from latentomics.report.page import write_report
    from latentomics.report.run_facts import run_facts
    from latentomics.resources.account import job_table, rule_table
    from latentomics.resources.usage import read_usage

    config = snakemake.params.config
    folders = {}
    for assay, run in zip(snakemake.params.assays, snakemake.output.runs, strict=True):
        folders[assay] = Path(run).parent
        facts = run_facts(
            assay,
            config,
            snakemake.params.methods[assay],
            snakemake.params.primary[assay],
            snakemake.params.normalisation[assay],
        )
        Path(run).write_text(json.dumps(facts, indent=1) + "\n")
    jobs = job_table(read_usage(Path("results/usage")))
    rule_table(jobs).to_csv(snakemake.output.resources, sep="\t", index=False, float_format="%.6g")
    write_report(
        folders,
        Path(snakemake.output.html),
        title=config["report"]["title"],
        max_points=config["report"]["max_points"],
        max_genes=config["report"]["max_genes"],
        n_top_markers=config["markers"]["n_top"],
        seed=config["seed"],
        classifier=Path("results/reads") if snakemake.input.classifier else None,
        jobs=jobs,
    )
