"""Cells called in raw droplets: against known truth, on a real raw matrix, and in a million barcodes.

    python benchmarks/cell_calling.py MIRROR --work FOLDER [--barcodes 1000000] > benchmarks/cell_calling.md

FOLDER gets the barcode-rank plot of the real matrix and the 10x `.h5` of the million barcodes, which is made in chunks and
called in a process of its own, whose memory is that process's peak (`VmHWM`).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from latentomics.config.cells import Cells
from latentomics.config.sheet import InputRow
from latentomics.io.checks import check_counts
from latentomics.io.readers import as_counts, read_sample
from latentomics.scrna.droplets.calling import Calling, call_cells
from latentomics.scrna.droplets.ranks import find_bends, rank_curve
from latentomics.simulate.droplets import DropletParams, simulate_droplets

SEEDS = (0, 1, 2)
FDRS = (0.001, 0.01)
SIZES = ((100, 300), (300, 1000), (1000, np.inf))
CHUNK = 20_000


def sums(counts: csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1)).ravel().astype(np.int64)


def thinned(counts: csr_matrix, share: np.ndarray | float, rng: np.random.Generator) -> csr_matrix:
    """Every molecule kept with the share of its droplet."""
    kept = rng.binomial(counts.data, np.repeat(np.broadcast_to(share, counts.shape[0]), np.diff(counts.indptr)))
    made = csr_matrix((kept.astype(np.int32), counts.indices, counts.indptr), shape=counts.shape)
    made.eliminate_zeros()
    return made


def permuted_genes(n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """The paper's way to break the likeness of cells and soup: a tenth of the genes change places in the cells."""
    genes, chosen = np.arange(n_genes), rng.choice(n_genes, n_genes // 10, replace=False)
    genes[chosen] = rng.permutation(chosen)
    return genes


Simulated = tuple[csr_matrix, np.ndarray, float]


def simulated(params: DropletParams, permute: bool) -> Simulated:
    """Counts, which droplets hold a cell, and the ambient depth."""
    made = simulate_droplets(params)
    counts = made.counts
    if permute:
        genes = permuted_genes(counts.shape[1], np.random.default_rng(params.seed))
        counts = csr_matrix(counts - made.own + made.own[:, genes])
    return counts, made.obs["cell"].to_numpy(), params.ambient_median


def as_in_the_paper(raw: csr_matrix, seed: int, n_large: int, n_small: int) -> Simulated:
    """Lun et al. 2019, "Simulation design": empty droplets by scrambling all below the inflection, cells from above it.

    Small cells are cells thinned to a tenth; a tenth of the genes change places in both kinds.
    """
    rng, totals = np.random.default_rng(seed), sums(raw)
    limit = find_bends(totals, 100).inflection
    low, high = totals[(totals > 0) & (totals <= limit)], np.flatnonzero(totals >= limit)
    molecules = np.repeat(np.arange(raw.shape[1]), np.asarray(raw[totals <= limit].sum(axis=0)).ravel())
    shape = (len(low), raw.shape[1])
    empty = csr_matrix((np.ones(low.sum(), np.int32), rng.permutation(molecules), np.append(0, np.cumsum(low))), shape)
    empty.sum_duplicates()
    parts = [empty]
    for n, share in ((n_large, 1.0), (n_small, 0.1)):
        cells = csr_matrix(raw[rng.choice(high, n)][:, permuted_genes(raw.shape[1], rng)])
        parts.append(thinned(cells, share, rng))
    is_cell = np.arange(len(low) + n_large + n_small) >= len(low)
    return vstack(parts, format="csr"), is_cell, float(np.median(low))


def called_at(calling: Calling, fdr: float) -> np.ndarray:
    """The cells of a calling at another false discovery rate."""
    called = np.zeros(len(calling.called), dtype=bool)
    called[calling.table.index[calling.table["fdr"] <= fdr]] = True
    return called


def figures(called: np.ndarray, totals: np.ndarray, cell: np.ndarray, depth: float) -> dict[str, float]:
    found = {"above twice the ambient depth": called[cell & (totals > 2 * depth)].mean()}
    for low, high in SIZES:
        of_size = cell & (totals > low) & (totals <= high)
        name = f"{low} to {high:.0f} counts" if np.isfinite(high) else f"more than {low}"
        found[name] = called[of_size].mean() if of_size.sum() >= 5 else np.nan
    return {**found, "observed FDR": (called & ~cell).sum() / max(called.sum(), 1)}


def known_truth(raw: csr_matrix) -> pd.DataFrame:
    """One row per design and method: sensitivities by size and the observed false discovery rate, mean over the seeds."""
    designs = {
        "genes permuted, small cells 0.25": lambda s: simulated(DropletParams(seed=s, small_factor=0.25), True),
        "genes permuted, small cells 0.15": lambda s: simulated(DropletParams(seed=s), True),
        "genes permuted, small cells 0.08": lambda s: simulated(DropletParams(seed=s, small_factor=0.08), True),
        "genes permuted, ambient depth 90": lambda s: simulated(DropletParams(seed=s, ambient_median=90), True),
        "cells like the soup, small cells 0.15": lambda s: simulated(DropletParams(seed=s), False),
        "the paper's, from mbrain_raw, 500 + 500": lambda s: as_in_the_paper(raw, s, 500, 500),
        "the paper's, from mbrain_raw, 2000 + 500": lambda s: as_in_the_paper(raw, s, 2000, 500),
    }
    rows = []
    for design, make in designs.items():
        for seed in SEEDS:
            counts, cell, depth = make(seed)
            totals = sums(counts)
            calling = call_cells(counts, Cells(), seed, "raw")
            for fdr in FDRS:
                got = figures(called_at(calling, fdr), totals, cell, depth)
                rows.append({"design": design, "method": f"emptydrops, FDR {fdr:g}", **got})
            knee = calling.facts["knee"]
            rows.append({"design": design, "method": "knee", **figures(totals >= knee, totals, cell, depth)})
    return pd.DataFrame(rows).groupby(["design", "method"], sort=False).mean().reset_index()


def plot_ranks(calling: Calling, totals: np.ndarray, to: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curve = rank_curve(totals, calling.called)
    figure, axes = pyplot.subplots(figsize=(7, 5), layout="constrained")
    marks = axes.scatter(curve["rank"], curve["total"], c=curve["called"], cmap="viridis", s=14)
    for name, style in (("knee", "--"), ("inflection", ":"), ("lower", "-.")):
        axes.axhline(calling.facts[name], linestyle=style, color="0.4", label=f"{name}: {calling.facts[name]:,.0f}")
    axes.set(xscale="log", yscale="log", xlabel="rank of the barcode", ylabel="counts")
    axes.legend()
    figure.colorbar(marks, label="share of barcodes called")
    figure.savefig(to, dpi=120)


def chunks(n_barcodes: int, n_genes: int, seed: int) -> Iterator[tuple[csr_matrix, np.ndarray]]:
    """Droplets in random order, and which are cells: 0.5 %, of ten types (median 4,000 counts); the others are empty (25)."""
    rng = np.random.default_rng(seed)
    means = rng.gamma(0.6, 1, n_genes) * rng.lognormal(0, 1, n_genes)
    edges = np.cumsum([*(means[permuted_genes(n_genes, rng)] for _ in range(10)), means], axis=1)
    for start in range(0, n_barcodes, CHUNK):
        n = min(CHUNK, n_barcodes - start)
        kind = np.where(rng.random(n) < 0.005, rng.integers(0, 10, n), 10)
        depth = np.where(kind < 10, rng.lognormal(np.log(4000), 0.6, n), rng.lognormal(np.log(25), 0.9, n))
        totals = rng.poisson(depth)
        row, gene = np.repeat(np.arange(n), totals), np.empty(totals.sum(), np.int32)
        for of_kind in range(11):
            here = kind[row] == of_kind
            gene[here] = np.searchsorted(edges[of_kind] / edges[of_kind, -1], rng.random(here.sum()), side="right")
        part = csr_matrix((np.ones(len(gene), np.int32), gene, np.append(0, np.cumsum(totals))), shape=(n, n_genes))
        part.sum_duplicates()
        yield part, kind < 10


def write_tenx_h5(path: Path, n_barcodes: int, n_genes: int, seed: int) -> None:
    """The layout of Cell Ranger's ``raw_feature_bc_matrix.h5`` (64-bit indices, gzip); beside it, which barcodes are cells."""
    letters = np.array(list("ACGT"))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        packed = {"maxshape": (None,), "chunks": (80_000,), "compression": "gzip", "compression_opts": 1}
        data = group.create_dataset("data", (0,), "i4", **packed)
        indices = group.create_dataset("indices", (0,), "i8", **packed)
        pointers, cells = [np.zeros(1, np.int64)], []
        for part, is_cell in chunks(n_barcodes, n_genes, seed):
            end = len(data)
            for dataset, values in ((data, part.data), (indices, part.indices)):
                dataset.resize((end + part.nnz,))
                dataset[end:] = values
            pointers.append(part.indptr[1:].astype(np.int64) + end)
            cells.append(is_cell)
        group.create_dataset("indptr", data=np.concatenate(pointers), compression="gzip")
        group["shape"] = np.array([n_genes, n_barcodes], np.int32)
        digits = np.arange(n_barcodes)[:, None] // 4 ** np.arange(16) % 4
        group.create_dataset("barcodes", data=np.array(["".join(b) + "-1" for b in letters[digits]], "S18"))
        names = np.array([f"ENSG{i:011d}" for i in range(n_genes)], "S15")
        group["features/id"] = group["features/name"] = names
        group["features/feature_type"] = np.full(n_genes, b"Gene Expression")
        group["features/genome"] = np.full(n_genes, b"GRCh38")
    np.save(path.with_suffix(".npy"), np.concatenate(cells))


def peak_mib() -> int:
    """Peak resident memory of this process; not `ru_maxrss`, which a child takes over from its parent."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def call_file(path: Path) -> None:
    """Read and call one 10x `.h5`, saying after each step how long it took and how much memory was used at most."""
    steps, started = [], time.monotonic()

    def done(step: str) -> None:
        steps.append({"step": step, "seconds": round(time.monotonic() - started, 1), "peak MiB": peak_mib()})

    done("import")
    adata = read_sample([InputRow(row=2, sample="S", assay="scrna", path=path, format="10x_h5")])
    done("read")
    if check_counts(adata, "S", str(path)):
        raise SystemExit("the simulated file is not counts")
    adata = as_counts(adata)
    done("check")
    calling = call_cells(adata.X, Cells(), 0, None)
    done("call")
    truth = np.load(path.with_suffix(".npy"))
    found = {
        "cells": truth.sum(),
        "of them called": (calling.called & truth).sum(),
        "false": (calling.called & ~truth).sum(),
    }
    kept = ("n_tested", "n_called", "n_above_knee", "n_called_below_knee", "n_iterations", "knee")
    facts = {**{name: int(n) for name, n in found.items()}, **{name: calling.facts[name] for name in kept}}
    print(json.dumps({"steps": steps, "facts": facts, "why": calling.why, "nnz": int(adata.X.nnz)}))


def table(rows: pd.DataFrame) -> str:
    text = rows.map(lambda v: v if isinstance(v, str) else "" if pd.isna(v) else f"{v:.3f}" if v % 1 else f"{v:,.0f}")
    lines = [list(text.columns), ["---"] * text.shape[1], *text.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def a_million(n_barcodes: int, work: Path) -> None:
    print(f"## {n_barcodes:,} barcodes\n")
    file = work / f"raw_{n_barcodes}.h5"
    if not file.exists():
        write_tenx_h5(file, n_barcodes, 32_738, 0)
    ran = subprocess.run([sys.executable, __file__, "--call", str(file)], check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout)
    print(f"{said['nnz']:,} entries, {file.stat().st_size / 2**20:,.0f} MiB on disk. {said['why']}\n")
    print(table(pd.DataFrame(said["steps"])) + "\n")
    print(table(pd.DataFrame([said["facts"]])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path, nargs="?")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--barcodes", type=int, default=1_000_000)
    parser.add_argument("--call", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.call:
        return call_file(args.call)
    if not (args.mirror and args.work):
        parser.error("MIRROR and --work are needed")
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.mirror / "mbrain_raw/raw_feature_bc_matrix"
    real = as_counts(read_sample([InputRow(row=2, sample="S", assay="scrna", path=path, format="10x_dir")]))
    print("# Calling cells in raw droplets\n")
    print(f"`benchmarks/cell_calling.py`, {date.today()}, Python {platform.python_version()}, {platform.machine()}.\n")

    print("## Known truth\n")
    print(
        f"Share of the cells that are called, and share of false ones among those called; means of {len(SEEDS)} seeds."
    )
    print(
        "Designs: `simulate/droplets.py` (500 cells, 20,000 empty droplets of 60 counts in the median, 30 % of the cells"
    )
    print(
        "small), as it is (`cells like the soup`) or with a tenth of the genes changing places in the cells, which is how"
    )
    print(
        "the paper's simulations keep cells from resembling the soup; and the paper's own simulation on a real matrix.\n"
    )
    print(table(known_truth(real.X)) + "\n", flush=True)

    print("## mbrain_raw\n")
    totals = sums(real.X)
    calling = call_cells(real.X, Cells(), 0, None)
    plot_ranks(calling, totals, args.work / "mbrain_raw.png")
    print(f"Recognised as {calling.state}: {calling.why} Not called at 1,000 counts or more:\n")
    for at in np.flatnonzero(~calling.called & (totals >= 1000)):
        cell = real.X[at]
        genes = ", ".join(
            f"{real.var['symbol'].iloc[cell.indices[g]]} {cell.data[g]}" for g in np.argsort(-cell.data)[:4]
        )
        print(f"- {totals[at]:,} counts, p {calling.table.loc[at, 'p_value']:.4f}: {genes}")
    rows, above = [], totals >= calling.facts["knee"]
    for fdr in FDRS:
        called = called_at(calling, fdr)
        facts = {name: calling.facts[name] for name in ("n_tested", "knee", "inflection")}
        agree = {"above the knee": above.sum(), "of them called": (above & called).sum()}
        rows.append({"FDR": fdr, "called": called.sum(), **facts, **agree, "called below it": (called & ~above).sum()})
    print()
    print(table(pd.DataFrame(rows)) + "\n")
    a_million(args.barcodes, args.work)


if __name__ == "__main__":
    main()
