"""What the workflow makes of real data with known truth, as one table.

Fetches each data set by name, runs the workflow on it with nothing but ``samples:`` in the config, and compares the result
with what is known. Wall time and the largest resident memory of any job come from the same run.

    export LATENTOMICS_MIRROR=/path/to/mirror   # or leave it out: then the files come from their public source
    .venv/bin/python benchmarks/real_data.py --cores 2 --work WORK > benchmarks/real_data.md
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, average_precision_score

from latentomics.scrna.doublets.decide import said_doublets

ROOT = Path(__file__).resolve().parents[1]

#: Seurat's and scanpy's tutorials on these cells agree on eight types, known by these genes.
PBMC_TYPES = {
    "CD4 T": ["IL7R"],
    "CD14 monocyte": ["CD14", "LYZ"],
    "B": ["MS4A1"],
    "CD8 T": ["CD8A"],
    "NK": ["GNLY", "NKG7"],
    "FCGR3A monocyte": ["FCGR3A", "MS4A7"],
    "dendritic": ["FCER1A", "CST3"],
    "megakaryocyte": ["PPBP"],
}


def run(name: str, work: Path, cores: int) -> tuple[Path, float, float]:
    """Results folder, wall seconds, and the largest resident memory of a job (MB)."""
    folder = work / name
    subprocess.run(
        [sys.executable, "-m", "latentomics.io.datasets", name, "--to", str(folder)], check=True, stdout=sys.stderr
    )
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", str(cores), "--directory", str(folder), "--forceall"],
        cwd=ROOT, check=True, stdout=sys.stderr,
    )  # fmt: skip
    seconds = time.monotonic() - started
    measured = [pd.read_csv(p, sep="\t", na_values=["-", "NA"]) for p in (folder / "results/benchmarks").rglob("*.tsv")]
    return folder / "results/scrna", seconds, float(pd.concat(measured)["max_rss"].max())


def pbmc3k(results: Path) -> list[str]:
    adata = ad.read_h5ad(results / "scrna.h5ad")
    adata.var_names = adata.var["symbol"].astype(str)
    adata.var_names_make_unique()
    clusters = adata.obs["cluster"].astype(str).to_numpy()
    best = {}
    for name, genes in PBMC_TYPES.items():
        mean = np.asarray(adata[:, genes].X.mean(axis=1)).ravel()
        best[name] = max(set(clusters), key=lambda c: mean[clusters == c].mean())
    sizes = pd.Series(clusters).value_counts()
    lines = ["| type | markers | cluster | cells |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {' '.join(PBMC_TYPES[name])} | {best[name]} | {sizes[best[name]]} |" for name in best]
    primary = adata.uns["latentomics"]["primary"]
    head = f"{len(set(best.values()))} of 8 types in clusters of their own; {len(sizes)} clusters on `{primary}`."
    return [head, "", *lines]


def sc_mixology(results: Path) -> list[str]:
    cells = pd.read_parquet(results / "cells.parquet")
    doublet = said_doublets(cells["label_doublet"]).fillna(False).astype(bool)
    singlets = cells[~doublet]
    lines = [f"True singlets kept: {singlets['keep'].mean():.1%} of {len(singlets)}.", ""]
    lines += ["| embedding | clusters | adjusted Rand index, singlets kept |", "| --- | --- | --- |"]
    kept = singlets.index[singlets["keep"]]
    for path in sorted((results / "clusters").glob("*.parquet")):
        clusters = pd.read_parquet(path)["cluster"]
        index = adjusted_rand_score(cells.loc[kept, "label"], clusters[kept])
        lines.append(f"| {path.stem} | {clusters.nunique()} | {index:.3f} |")
    lines += ["", "| sample | true doublets | Scrublet's average precision | called |", "| --- | --- | --- | --- |"]
    groups = [*cells.groupby("sample"), ("all, pooled", cells)]
    for name, group in groups:
        scored = group[group["doublet_score"].notna()]
        precision = average_precision_score(doublet[scored.index], scored["doublet_score"])
        lines.append(
            f"| {name} | {int(doublet[group.index].sum())} of {len(group)} | {precision:.2f} | {int(group['doublet'].sum())} |"
        )
    return lines


def pbmc_3chemistries(results: Path) -> list[str]:
    return ["Cells from three chemistries; batch and `cell_type` are known."]


def scoreboard(results: Path) -> list[str]:
    scores = pd.read_csv(results / "scores.tsv", sep="\t", index_col="embedding")
    costs = pd.read_csv(results / "costs.tsv", sep="\t", index_col="embedding")
    table = scores.join(costs[["seconds", "max_rss_mb"]]).T
    lines = [f"| score | {' | '.join(table.columns)} |", "| --- |" + " --- |" * table.shape[1]]
    for name, row in table.iterrows():
        lines.append(f"| {name} | {' | '.join('' if pd.isna(v) else f'{v:.3g}' for v in row)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=["pbmc3k", "sc_mixology", "pbmc_3chemistries"])
    options = parser.parse_args()
    machine = f"{options.cores} of {os.cpu_count()} {platform.machine()} cores, no GPU"
    print(f"# Real data\n\n{date.today()}, {machine}. By `benchmarks/{Path(__file__).name}`.")
    for name in options.names:
        results, seconds, memory = run(name, options.work, options.cores)
        print(f"\n## {name}\n\nWhole run {seconds / 60:.1f} min; largest job {memory:,.0f} MB resident.\n")
        print("\n".join([*globals()[name](results), "", *scoreboard(results)]), flush=True)


if __name__ == "__main__":
    main()
