"""Ambient RNA: known shares, corrected counts against the truth, time, and a real raw matrix.

.venv/bin/python benchmarks/ambient.py > benchmarks/ambient.md

Real data are taken from the mirror that LATENTOMICS_MIRROR names; without it those tables are left out.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import tarfile
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from latentomics.config.ambient import Ambient  # noqa: E402
from latentomics.config.cells import Cells  # noqa: E402
from latentomics.scrna.ambient import decontx  # noqa: E402
from latentomics.scrna.ambient.registry import AmbientSample, Correction  # noqa: E402
from latentomics.scrna.droplets.calling import call_cells  # noqa: E402
from latentomics.scrna.droplets.ranks import rank_curve  # noqa: E402
from latentomics.simulate.cells import CellParams  # noqa: E402
from latentomics.simulate.droplets import DropletParams, simulate_droplets  # noqa: E402

MIRROR = Path(os.environ.get("LATENTOMICS_MIRROR", ROOT / ".." / "shared" / "data"))
PARAMS = Ambient(method="decontx")
#: Counts of the soup in a droplet (median) that make the mean share of the cells 2, 5, 10, 20 and 40 %.
MEDIANS = (42, 110, 230, 530, 1500)
#: Types that switch off what marks the others.
SHARP = CellParams(n_genes=2000, de_prob=0.5, de_scale=2.5)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def header(*names: str) -> None:
    row(*names)
    print("|" + "|".join("---" if i == 0 else "--:" for i, _ in enumerate(names)) + "|")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def sample_of(cells: sp.csr_matrix, empty: sp.csr_matrix | None) -> AmbientSample:
    """A sample whose cells were called without a fault."""
    totals = [np.asarray(part.sum(axis=1)).ravel() for part in (cells, empty) if part is not None]
    called = np.arange(sum(map(len, totals))) < cells.shape[0]
    profile = None if empty is None else np.asarray(empty.sum(axis=0), dtype=float).ravel()
    return AmbientSample(
        name="sample",
        counts=sp.csr_matrix(cells, dtype=np.int32),
        barcodes=np.arange(cells.shape[0]).astype(str),
        genes=np.arange(cells.shape[1]).astype(str),
        passed=np.ones(cells.shape[0], dtype=bool),
        profile=None if profile is None else profile / profile.sum(),
        curve=rank_curve(np.concatenate(totals), called),
        raw=lambda: None,  # type: ignore[arg-type,return-value]
        folder=Path(),
    )


def by_size(found: Correction, sample: AmbientSample) -> np.ndarray:
    """What the counts of an empty droplet alone say of each cell's share."""
    return np.minimum(found.facts["empty_counts"] / np.asarray(sample.counts.sum(axis=1)).ravel(), 0.95)


def shares() -> None:
    print("## Known shares\n")
    print(
        "500 cells and 20,000 empty droplets of `simulate/droplets.py`, six types; with small cells, three in ten have "
        "0.15 of the counts. The soup of a droplet is log-normal (standard deviation of the logarithm 0.3). Means of three "
        "seeds, in percent of a cell's counts; *error per cell*: mean absolute difference, of the method and of what the "
        "counts of an empty droplet alone would say; *published*: the published inference, without empty "
        "droplets (*untold*: of one population in one of the seeds).\n"
    )
    header("cells", "true", "found", "worst seed", "error per cell", "by size alone", "published")
    for small in (0.0, 0.3):
        for median in MEDIANS:
            seen = []
            for seed in range(3):
                made = simulate_droplets(DropletParams(seed=seed, ambient_median=median, small_share=small))
                is_cell = made.obs["cell"].to_numpy()
                true = made.obs.loc[is_cell, "ambient_share"].to_numpy()
                sample = sample_of(made.counts[is_cell], made.counts[~is_cell])
                found = decontx.correct(sample, PARAMS, seed, 1)
                alone = decontx.correct(sample_of(made.counts[is_cell], None), PARAMS, seed, 1)
                errors = [np.abs(guess - true).mean() for guess in (found.share, by_size(found, sample))]
                seen.append([true.mean(), found.share.mean(), *errors, alone.share.mean()])
            table = np.array(seen)
            worst = np.abs(table[:, 1] - table[:, 0]).max()
            mean = table.mean(axis=0)
            name = "three in ten small" if small else "all of usual size"
            published = "untold" if np.isnan(mean[4]) else percent(mean[4])
            row(name, *map(percent, (mean[0], mean[1], worst, mean[2], mean[3])), published)


def logged(counts: sp.csr_matrix) -> sp.csr_matrix:
    sums = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return sp.csr_matrix(sp.diags(1e4 / sums) @ counts.astype(float)).log1p()


def correlation(a: sp.csr_matrix, b: sp.csr_matrix, axis: int) -> float:
    """Mean Pearson correlation per cell (axis 1) or per gene (axis 0)."""
    n = a.shape[axis]
    sums = [np.asarray(m.sum(axis=axis)).ravel() for m in (a, b, a.multiply(b), a.multiply(a), b.multiply(b))]
    cov, var_a, var_b = (
        sums[2] - sums[0] * sums[1] / n,
        sums[3] - sums[0] ** 2 / n,
        sums[4] - sums[1] ** 2 / n,
    )
    fine = (var_a > 1e-12) & (var_b > 1e-12)
    return float((cov[fine] / np.sqrt(var_a[fine] * var_b[fine])).mean())


def judged(counts: sp.csr_matrix, true: sp.csr_matrix) -> list[str]:
    common = np.bincount(true.indices, minlength=true.shape[1]) >= 0.02 * true.shape[0]
    logs = [logged(m) for m in (counts, true)]
    plain = [sp.csr_matrix(m, dtype=float) for m in (counts, true)]
    return [
        f"{correlation(*logs, 1):.4f}",
        f"{correlation(logs[0][:, common], logs[1][:, common], 0):.4f}",
        f"{correlation(*plain, 1):.4f}",
        f"{correlation(plain[0][:, common], plain[1][:, common], 0):.4f}",
        f"{(plain[0] - plain[1]).power(2).sum() / true.shape[0]:,.0f}",
    ]


def draw(profile: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Counts that draw so many molecules of a profile."""
    edges = np.cumsum(profile)
    gene = np.searchsorted(edges / edges[-1], rng.random(int(totals.sum())), side="right")
    cell = np.repeat(np.arange(len(totals)), totals)
    return sp.coo_matrix((np.ones(len(gene), dtype=np.int32), (cell, gene)), (len(totals), len(profile))).tocsr()


def soup(median: float, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(rng.lognormal(np.log(median), 0.3, n))


def pbmc3k() -> sp.csr_matrix:
    """Its counts, cells x genes that are found."""
    import scanpy as sc

    with tempfile.TemporaryDirectory() as folder, tarfile.open(next((MIRROR / "pbmc3k").glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
        counts = sp.csr_matrix(sc.read_10x_mtx(next(Path(folder).rglob("matrix.mtx")).parent).X).astype(np.int32)
    return counts[:, np.diff(counts.tocsc().indptr) > 0].tocsr()


def blood_like(counts: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Cells without a soup: the populations of pbmc3k, with its library sizes; genes below a fifth of their share in all
    cells, which is the soup that pbmc3k has of its own, are off; biological coefficient of variation 0.3."""
    cluster = decontx.find_populations(counts, 0)
    pooled = np.asarray(counts.sum(axis=0), dtype=float).ravel()
    pooled /= pooled.sum()
    made = np.zeros(counts.shape[0], dtype=object)
    for k in range(cluster.max() + 1):
        profile = np.asarray(counts[cluster == k].sum(axis=0), dtype=float).ravel()
        profile /= profile.sum()
        profile[profile < 0.2 * pooled] = 0
        for cell in np.flatnonzero(cluster == k):
            on = np.flatnonzero(profile)
            rate = profile[on] / profile.sum() * counts[cell].sum() * rng.gamma(1 / 0.09, 0.09, len(on))
            values = rng.poisson(rate)
            some = values > 0
            made[cell] = sp.csr_matrix((values[some], on[some], [0, some.sum()]), (1, counts.shape[1]))
    return sp.vstack(list(made), format="csr").astype(np.int32)


def truths() -> dict[str, list[tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]]]:
    """Per kind of truth: own counts, raw counts and empty droplets, for four amounts of soup."""
    found: dict[str, list] = {}
    for name, cells in {"simulated, types alike": CellParams(), "simulated, types distinct": SHARP}.items():
        for median in (60, 230, 530, 1500):
            made = simulate_droplets(DropletParams(seed=1, ambient_median=median, small_share=0.0, cells=cells))
            is_cell = made.obs["cell"].to_numpy()
            found.setdefault(name, []).append((made.own[is_cell], made.counts[is_cell], made.counts[~is_cell]))
    if MIRROR.is_dir():
        rng = np.random.default_rng(0)
        real = pbmc3k()
        for name, own in {
            "blood-like (populations of pbmc3k)": blood_like(real, rng),
            "pbmc3k plus soup": real,
        }.items():
            profile = np.asarray(own.sum(axis=0), dtype=float).ravel()
            for median in (60, 230, 530, 1500):
                raw = (own + draw(profile, soup(median, own.shape[0], rng), rng)).tocsr()
                found.setdefault(name, []).append((own, raw, draw(profile, soup(median, 20_000, rng), rng)))
    return found


def corrected() -> None:
    print("\n## Corrected counts against the truth\n")
    print(
        "Mean Pearson correlation of raw / corrected counts with the cells' own, over the genes of a cell and over the "
        "cells of a gene (found in 2 % of the cells or more), log-normalised as downstream uses them and as they are, "
        "and the squared error per cell. No small cells. pbmc3k's counts hold a "
        "soup of their own, which counts as true there.\n"
    )
    names = ("cell, log", "gene, log", "cell", "gene", "squared error")
    header("truth", "share %", "found %", "removed %", *names)
    for name, cases in truths().items():
        for own, raw, empty in cases:
            sample = sample_of(raw, empty)
            found = decontx.correct(sample, PARAMS, 0, 1)
            true = 1 - np.asarray(own.sum(axis=1)).ravel() / np.asarray(raw.sum(axis=1)).ravel()
            pairs = [f"{a} / {b}" for a, b in zip(judged(raw, own), judged(found.counts, own), strict=True)]
            taken = 1 - found.counts.sum() / raw.sum()
            row(name, percent(true.mean()), percent(found.share.mean()), percent(taken), *pairs)


def limits() -> None:
    print("\n## Where it fails\n")
    print(
        "500 cells without small ones. With empty droplets the share is as good as the assumption behind it; without, as the "
        "populations are distinct.\n"
    )
    header("case", "true share %", "found %", "removed %")
    base = DropletParams(seed=2, ambient_median=230, small_share=0.0)
    made = simulate_droplets(base)
    is_cell = made.obs["cell"].to_numpy()
    rng = np.random.default_rng(0)
    profile = made.var["ambient"].to_numpy()
    cases = {
        "cells take up half the soup of an empty droplet": (made, 115),
        "as much": (made, 230),
        "twice as much": (made, 460),
    }
    alone = simulate_droplets(replace(base, cells=CellParams(n_types=1, rare_share=1.0)))
    for name, (case, median) in cases.items():
        own = case.own[is_cell]
        raw = (own + draw(profile, soup(median, own.shape[0], rng), rng)).tocsr()
        report(name, own, raw, made.counts[~is_cell])
    cell = alone.obs["cell"].to_numpy()
    report("one cell type, whose profile is the soup's", alone.own[cell], alone.counts[cell], alone.counts[~cell])
    report("the same, no empty droplets", alone.own[cell], alone.counts[cell], None)
    report("six types alike, no empty droplets", made.own[is_cell], made.counts[is_cell], None)
    apart = simulate_droplets(replace(base, cells=SHARP))
    cell = apart.obs["cell"].to_numpy()
    report("six distinct types, no empty droplets", apart.own[cell], apart.counts[cell], None)
    if MIRROR.is_dir():
        own = blood_like(pbmc3k(), rng)
        profile = np.asarray(own.sum(axis=0), dtype=float).ravel()
        for median in (60, 230):
            raw = (own + draw(profile, soup(median, own.shape[0], rng), rng)).tocsr()
            report("blood-like cells, no empty droplets", own, raw, None)


def report(name: str, own: sp.csr_matrix, raw: sp.csr_matrix, empty: sp.csr_matrix | None) -> None:
    found = decontx.correct(sample_of(raw, empty), PARAMS, 0, 1)
    true = 1 - np.asarray(own.sum(axis=1)).ravel() / np.asarray(raw.sum(axis=1)).ravel()
    told = "untold" if np.isnan(found.share).all() else percent(np.nanmean(found.share))
    row(name, percent(true.mean()), told, percent(1 - found.counts.sum() / raw.sum()))


def speed() -> None:
    print("\n## Time\n")
    rng = np.random.default_rng(1)
    real = pbmc3k()
    own = sp.vstack([blood_like(real, rng) for _ in range(4)], format="csr")[:10_000]
    profile = np.asarray(own.sum(axis=0), dtype=float).ravel()
    raw = (own + draw(profile, soup(230, 10_000, rng), rng)).tocsr()
    sample = sample_of(raw, draw(profile, soup(230, 20_000, rng), rng))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    found = decontx.correct(sample, PARAMS, 0, 1)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"10,000 blood-like cells x {raw.shape[1]:,} genes ({raw.nnz:,} entries), soup of 230 counts, "
        f"{found.facts['n_populations']} populations: {wall:.0f} s, CPU {cpu:.0f} s, populations included; peak memory of "
        f"this process {peak / 1024:,.0f} MB ({before / 1024:,.0f} before)."
    )


def mouse_brain() -> None:
    import scanpy as sc

    print("\n## A real raw matrix\n")
    read = sc.read_10x_mtx(MIRROR / "mbrain_raw" / "raw_feature_bc_matrix")
    counts = sp.csr_matrix(read.X).astype(np.int32)
    calling = call_cells(counts, Cells(), 0, "raw")
    totals = np.asarray(counts.sum(axis=1)).ravel()
    sample = replace(
        sample_of(counts[calling.called], counts[~calling.called]),
        profile=calling.ambient,
        curve=rank_curve(totals, calling.called),
    )
    found = decontx.correct(sample, PARAMS, 0, 1)
    shares = pd.Series(found.share)
    print(
        f"mbrain_raw, {calling.called.sum()} cells called of {(totals > 0).sum():,} barcodes with counts. An empty droplet has "
        f"{found.facts['empty_counts']:.1f} counts (coefficient of variation {found.facts['empty_cv']:.2f}); the cells have "
        f"{np.median(totals[calling.called]):,.0f} (median). Ambient share of a cell: mean {percent(shares.mean())} %, median "
        f"{percent(shares.median())} %, 5 to 95 % of the cells {percent(shares.quantile(0.05))} to "
        f"{percent(shares.quantile(0.95))} %; removed {percent(1 - found.counts.sum() / sample.counts.sum())} % of all counts. "
        "There is no truth."
    )


def main() -> None:
    print("# Ambient RNA\n")
    print(f"{date.today()}, one core ({platform.machine()}), shared with other work. By `ambient.py`.\n")
    shares()
    corrected()
    limits()
    if MIRROR.is_dir():
        # A process of its own, whose peak memory is that of this alone.
        sys.stdout.flush()
        alone = multiprocessing.get_context("spawn").Process(target=speed)
        alone.start()
        alone.join()
        mouse_brain()


if __name__ == "__main__":
    main()
