"""Judge the embeddings and say in words what the figures mean."""

import json
from functools import partial
from pathlib import Path

from latentomics.io.job import job

with job(snakemake, "Judging the embeddings"):
    import numpy as np
    import pandas as pd

    from latentomics.assays.normaliser import normalised_columns
    from latentomics.assays.registry import assay
    from latentomics.config.scores import Scores
    from latentomics.embed.data import split_held_out
    from latentomics.embed.run import HELD_OUT
    from latentomics.io.store import CountsStore
    from latentomics.score.costs import cost_table
    from latentomics.score.scoreboard import Judged, chosen_stability, score_embeddings
    from latentomics.score.verdict import build_verdict

    methods, inputs = snakemake.params.methods, snakemake.input
    store = CountsStore(inputs.store)
    normaliser = assay(snakemake.wildcards.assay).normaliser(store, snakemake.params.normalisation)
    selected = np.flatnonzero(pd.read_parquet(inputs.features)["selected"].to_numpy(dtype=bool))
    normalised = partial(normalised_columns, store, normaliser, columns=selected)
    held_out = split_held_out(store.shape[0], HELD_OUT, snakemake.params.seed)
    judged = {
        name: Judged(
            pd.read_parquet(inputs.embeddings[i]).to_numpy(),
            pd.read_parquet(inputs.clusters[i])["cluster"].to_numpy(),
            chosen_stability(pd.read_csv(inputs.selections[i], sep="\t")),
        )
        for i, name in enumerate(methods)
    }
    params = Scores(**snakemake.params.scores)
    scores = score_embeddings(judged, normalised, store.obs, held_out, params, snakemake.params.seed)
    scores.to_csv(snakemake.output.scores, sep="\t", float_format="%.8g")
    summaries = {name: f"{inputs.models[i]}/summary.json" for i, name in enumerate(methods)}
    costs = cost_table(dict(zip(methods, snakemake.params.benchmarks, strict=True)), summaries)
    costs.to_csv(snakemake.output.costs, sep="\t")
    loaded = {name: json.loads(Path(path).read_text()) for name, path in summaries.items()}
    verdict = build_verdict(
        store.shape,
        store.n_nonzero,
        float(np.nanmedian(store.totals)),
        len(selected),
        scores,
        loaded,
        snakemake.params.primary,
        snakemake.params.why_primary,
        params.tie,
    )
    Path(snakemake.output.verdict).write_text(json.dumps(verdict, indent=1) + "\n")
    print(scores.to_string(), verdict["verdict"], *verdict["sentences"], sep="\n")
