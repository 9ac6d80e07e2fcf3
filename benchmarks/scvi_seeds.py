"""Whether scVI trained on sparse minibatches is as good as scvi-tools' own: held-out ELBO and scoreboard, several seeds.

    python benchmarks/scvi_seeds.py STUDY... [--seeds 5] > benchmarks/scvi_seeds.md

``STUDY`` is a folder in which the workflow ran (``results/scrna/counts.zarr``, ``features.parquet``). With every seed both are
trained as the rule ``embed_gpu`` does, with its default settings, on the same cells and genes; then clustered and judged.
Minibatches differ between seeds, and so do the results: what counts is whether the two differ by more than seeds do.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import scvi
import torch

import latentomics.embed.likelihood.model as ours
from latentomics.assays.normaliser import normalised_columns
from latentomics.assays.registry import assay
from latentomics.cluster.select import select_clusters
from latentomics.config.clusters import Clusters
from latentomics.config.graph import Graph
from latentomics.config.scores import Scores
from latentomics.embed.run import fit_embedding, load_data
from latentomics.embed.scvi import Params
from latentomics.io.store import CountsStore
from latentomics.score.scoreboard import Judged, chosen_stability, score_embeddings

MODELS: dict[str, type[scvi.model.SCVI]] = {"scvi-tools": scvi.model.SCVI, "ours": ours.SCVI}


def judge(study: Path, model: type[scvi.model.SCVI], seed: int, threads: int) -> dict[str, float]:
    """Train, cluster and score once."""
    store = CountsStore(study / "results/scrna/counts.zarr")
    cells = assay("scrna")
    normaliser = cells.normaliser(store, cells.DEFAULT_NORMALISATION)
    features = pd.read_parquet(study / "results/scrna/features.parquet")
    # The same cells are held out under every seed, so that held-out figures differ by the training alone.
    data = load_data(store, features, normaliser, 0)
    ours.SCVI, kept = model, ours.SCVI
    try:
        # Training says on the standard output how long it will take.
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            fit = fit_embedding("scvi", data, Params(), seed, threads, Path(folder))
    finally:
        ours.SCVI = kept
    n_neighbors = Graph().n_neighbors
    chosen = select_clusters(fit.latent, data.obs.index, Clusters(), n_neighbors, 0)
    judged = Judged(fit.latent, chosen.clusters["cluster"].to_numpy(), chosen_stability(chosen.evidence))
    columns = np.flatnonzero(features["selected"].to_numpy(dtype=bool))
    rows = partial(normalised_columns, store, normaliser, columns=columns)
    scores = score_embeddings({"scvi": judged}, rows, store.obs, data.held_out, Scores(), 0).loc["scvi"]
    history = fit.history
    found = {
        "held-out loss, best": history["held_out"].min(),
        "held-out loss, last": history["held_out"].iloc[-1],
        "epochs": float(len(history)),
    }
    return {**found, **scores.dropna().astype(float).to_dict()}


def compared(table: pd.DataFrame) -> list[str]:
    """One line per figure: mean and standard deviation over the seeds of both, and their difference in those."""
    lines = []
    for name in table.columns:
        stock, mine = table.loc["scvi-tools", name], table.loc["ours", name]
        spread = float(np.sqrt((stock.var() + mine.var()) / 2))
        gap = float(mine.mean() - stock.mean())
        # Two means of n seeds differ by sqrt(2 / n) of the spread by chance.
        in_errors = gap / (spread * np.sqrt(2 / len(stock))) if spread else 0.0
        form: Callable[[float], str] = "{:.4g}".format if abs(stock.mean()) >= 10 else "{:.3f}".format
        lines.append(
            f"| {name} | {form(stock.mean())} ({form(stock.std())}) | {form(mine.mean())} ({form(mine.std())}) "
            f"| {form(gap)} | {in_errors:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    print(f"# scVI on sparse minibatches against scvi-tools' own, {options.seeds} seeds\n")
    print(f"{date.today()}, {os.cpu_count()} {platform.machine()} cores, no GPU; `benchmarks/{Path(__file__).name}`.")
    print(
        "Mean (standard deviation) over the seeds; the last column is the difference of the means in standard errors."
    )
    for study in options.studies:
        runs = [
            {"model": name, "seed": seed, **judge(study, model, seed, options.threads)}
            for seed in range(options.seeds)
            for name, model in MODELS.items()
        ]
        table = pd.DataFrame(runs).set_index(["model", "seed"])
        print(
            f"\n## {study.name}\n\n| figure | scvi-tools | ours | difference | in standard errors |\n|---|---|---|---|---|"
        )
        print("\n".join(compared(table)), flush=True)


if __name__ == "__main__":
    main()
