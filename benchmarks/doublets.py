"""How well doublet callers find true doublets: five batches of lung cell lines, told apart by genotype.

The data are sc_mixology's (Tian et al. 2019, Nature Methods 16:479): cells of three or five cell lines, so that Demuxlet
knows the doublets of two lines. Doublets of one line count as singlets here, and no caller could see them. As in the
workflow, each caller judges the cells of a batch that pass QC at its defaults.

    export LATENTOMICS_MIRROR=/path/to/mirror   # or leave it out: then the files come from their public source
    .venv/bin/python benchmarks/doublets.py --work WORK > benchmarks/doublets.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.metrics import average_precision_score

from latentomics.config.doublets import Doublets
from latentomics.config.qc import QC
from latentomics.config.sheet import read_sheet
from latentomics.io.datasets import MIRROR, fetch
from latentomics.io.readers import as_counts, read_sample, resolve_covariates
from latentomics.scrna.doublets import registry
from latentomics.scrna.doublets.decide import calls_table, decide, said_doublets
from latentomics.scrna.genes import flag_genes
from latentomics.scrna.qc import cell_metrics, find_limits, judge

GENE_SETS = Path(__file__).resolve().parents[1] / "resources" / "gene_sets.tsv"
SEED = 0
READING = """\
In four of the five batches the true doublets have fewer counts than the other cells. SOLO learns from sums of two cells,
library size included, and its score follows the counts: here it looks for what the doublets are not, and finds them hardly
better than chance but in one batch. Scrublet normalises the counts away. At the default expected rate of 5 % both call few
cells, and Scrublet's calls are right. A vote of two calls only what both call."""


def batches(work: Path) -> Iterator[tuple[str, csr_matrix, pd.Series]]:
    """Name, counts and truth (doublet or not) of the cells of each batch that pass QC."""
    mirror = os.environ.get(MIRROR)
    study = fetch("sc_mixology", work, mirror=Path(mirror) if mirror else None).folder
    sheet, problems = read_sheet(study / "config" / "samples.tsv", study)
    if sheet is None:
        raise SystemExit("\n".join(map(str, problems)))
    for name, rows in sheet.samples("scrna").items():
        adata = as_counts(read_sample(rows))
        metrics = cell_metrics(adata, flag_genes(adata.var, adata.uns["ingest"]["organism"], GENE_SETS))
        passed = (judge(metrics, find_limits(metrics, QC()))["reason"] == "").to_numpy()
        truth = said_doublets(resolve_covariates(adata, rows[0])["label_doublet"])[passed]
        yield name, csr_matrix(adata.X[passed]), truth.fillna(False).astype(bool)


def judged(counts: csr_matrix, truth: pd.Series, threads: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """Per cell the score and call of each method and of the vote; CPU seconds per method."""
    params = Doublets(methods=list(registry.METHODS), call="vote")
    tables, seconds = {}, {}
    for name in params.methods:
        started = time.process_time()
        calls = registry.method(name).call_doublets(counts, params, SEED, threads)
        seconds[name] = time.process_time() - started
        tables[name] = calls_table(calls, truth.index)
        print(f"{name}: {calls.note or calls.threshold}", file=sys.stderr)
    cells = pd.DataFrame({"keep": True, "reason": "", "value": np.nan, "limit": np.nan}, index=truth.index)
    cells = decide(cells, tables, params)
    return cells.rename(columns={"doublet_score": "vote_score", "doublet": "vote_doublet"}), seconds


def average_precision(truth: pd.Series, score: pd.Series) -> float:
    return average_precision_score(truth[score.notna()], score[score.notna()])


def called(truth: pd.Series, doublet: pd.Series) -> str:
    """Cells called, and the share of them that are true doublets."""
    doublet = doublet.fillna(False).astype(bool)
    return f"{doublet.sum()} ({truth[doublet].mean():.0%})" if doublet.any() else "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    methods = [*registry.METHODS, "vote"]
    titles = [*(registry.method(name).TITLE for name in registry.METHODS), "vote"]
    truths, depths, tables, seconds = {}, {}, {}, {}
    for name, counts, truth in batches(options.work):
        with redirect_stdout(sys.stderr):
            tables[name], seconds[name] = judged(counts, truth, options.threads)
        truths[name] = truth
        depths[name] = pd.Series(np.asarray(counts.sum(axis=1), dtype=float).ravel(), index=truth.index)
    for parts in (truths, depths, tables):
        parts["all, pooled"] = pd.concat(parts.values())

    machine = f"{options.threads} of {os.cpu_count()} {platform.machine()} cores, no GPU"
    print(f"# Doublet callers\n\n{date.today()}, {machine}. By `benchmarks/{Path(__file__).name}`.\n")
    print(
        "Average precision for the true doublets among the cells that pass QC, and that "
        "of a ranking by few counts. At random it is the share of true doublets. The vote's score is the share of methods that "
        "call the cell.\n"
    )
    head = ["batch", "true doublets", "at random", *titles, "few counts"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for name, truth in truths.items():
        found = [average_precision(truth, tables[name][f"{method}_score"]) for method in methods]
        found = [truth.mean(), *found, average_precision(truth, -depths[name])]
        print(f"| {name} | {truth.sum()} of {len(truth)} | {' | '.join(f'{value:.2f}' for value in found)} |")
    print(
        "\nCells called (of them true doublets), CPU seconds, the median counts of true doublets over those of the other "
        "cells, and Spearman's correlation of SOLO's score with the counts.\n"
    )
    head = ["batch", *titles, *(f"{title}, s" for title in titles[:-1]), "counts of doublets", "SOLO and counts"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for name, truth in truths.items():
        row = [name, *(called(truth, tables[name][f"{method}_doublet"]) for method in methods)]
        row += [f"{seconds[name][method]:.0f}" if name in seconds else "" for method in registry.METHODS]
        row.append(f"{depths[name][truth].median() / depths[name][~truth].median():.2f}")
        row.append(f"{tables[name]['solo_score'].corr(depths[name], method='spearman'):.2f}")
        print(f"| {' | '.join(row)} |")
    print(f"\n{READING}")


if __name__ == "__main__":
    main()
