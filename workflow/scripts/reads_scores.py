"""One table of all read classifiers, the best network, and whether it beats k-mer regression."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Comparing the read classifiers"):
    from latentomics.reads.scoring import join_scores, write_json

    names = [*snakemake.params.networks, *snakemake.params.baselines]
    folders = dict(zip(names, map(Path, snakemake.input.scores), strict=True))
    scores, best, verdict = join_scores(
        folders, snakemake.params.networks, snakemake.params.n_bootstrap, snakemake.params.seed
    )
    scores.to_csv(snakemake.output.scores, sep="\t", index=False, float_format="%.8g")
    write_json(Path(snakemake.output.best), best)
    write_json(Path(snakemake.output.verdict), verdict)
    print(scores.to_string(), verdict["sentence"], sep="\n")
