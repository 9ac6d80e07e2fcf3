"""Large studies on a small machine: this workflow beside the standard scanpy recipe, on the same files.

    python benchmarks/large.py compare MIRROR --work WORK --cells 100000     # both, and how far they agree
    python benchmarks/large.py ours MIRROR --work WORK --cells 1300000       # the workflow alone
    python benchmarks/large.py growth MIRROR --work WORK                     # 50,000 to 400,000 cells, with exponents
    python benchmarks/large.py networks WORK/1300000                         # scVI and autoencoder, on a study that ran

Each prints its part of `large.md`. Data are made of pbmc3k (`made_cells.py`), 10,000 cells to a sample. The recipe is that
of scanpy's tutorial "Preprocessing and clustering" (1.11), in a process of its own. The workflow runs twice: to clusters
and layouts, where the recipe ends, and then to the end. Peaks are the largest resident memory of a step or of a job, and,
in the totals, of all processes that ran at a time, what they share counted once (Linux only). What is done is kept in WORK
and not done again; a run that was stopped goes on, and its times add up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from made_cells import read_real, write_study
from sklearn.metrics import adjusted_rand_score

from latentomics.resources.usage import read_usage

ROOT = Path(__file__).resolve().parents[1]
CELLS_PER_SAMPLE = 10_000
GROWTH = (50_000, 100_000, 200_000, 400_000)
METHOD = "pca"
#: Embeddings that are trained, apart from the run that is timed.
NETWORKS = ["scvi", "autoencoder"]
#: The results at which the recipe ends.
PICTURE = [f"results/scrna/clusters/{METHOD}.parquet", f"results/scrna/layouts/{METHOD}.parquet"]
#: The rules that make them.
TO_PICTURE = ["scrna_sample", "scrna_merge", "features", "embed", "cluster", "layout"]
#: Seconds between two looks at the memory of all processes.
INTERVAL = 1.0
#: The step of the recipe without which it is stated too.
DOUBLETS = "doublets"
#: Leading components whose spaces are compared.
COMPONENTS = (5, 10, 20, 50)


# --- the recipe, run as a process of its own -----------------------------------------------------------------------


def recipe(study: Path, out: Path) -> None:
    """Scanpy's tutorial, step by step, from the files to UMAP; then, not counted, what agreement is judged by."""
    steps: list[dict[str, Any]] = []
    sheet = pd.read_csv(study / "config/samples.tsv", sep="\t")
    with _step(steps, "import"):
        import anndata as ad
        import scanpy as sc
    with _step(steps, "read, concatenate"):
        parts = {row.sample: sc.read_10x_h5(study / "config" / row.path) for row in sheet.itertuples()}
        for part in parts.values():
            part.var_names_make_unique()
        adata = ad.concat(parts, index_unique="-", label="sample", merge="same")
        del parts, part
    with _step(steps, "QC, filter"):
        adata.var["mt"] = adata.var_names.str.startswith("MT-")
        adata.var["ribo"] = adata.var_names.str.startswith(("RPS", "RPL"))
        adata.var["hb"] = adata.var_names.str.contains("^HB[^(P)]")
        sc.pp.calculate_qc_metrics(adata, qc_vars=["mt", "ribo", "hb"], inplace=True, log1p=True)
        sc.pp.filter_cells(adata, min_genes=100)
        sc.pp.filter_genes(adata, min_cells=3)
    with _step(steps, DOUBLETS):
        sc.pp.scrublet(adata, batch_key="sample")
    with _step(steps, "normalise, log"):
        adata.layers["counts"] = adata.X.copy()
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    with _step(steps, "variable genes"):
        sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key="sample")
    with _step(steps, "PCA"):
        sc.tl.pca(adata)
    with _step(steps, "neighbours"):
        sc.pp.neighbors(adata)
    with _step(steps, "UMAP"):
        sc.tl.umap(adata)
    with _step(steps, "Leiden"):
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2)
        for resolution in (0.02, 0.5, 2.0):
            sc.tl.leiden(adata, key_added=f"r{resolution}", resolution=resolution, flavor="igraph")
    # How far the recipe agrees with itself is what agreement with anything else can reach.
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, random_state=1, key_added="again")
    genes = pd.read_parquet(study / "results/scrna/features.parquet").query("selected").index
    adata.var["ours"] = adata.var["gene_ids"].isin(genes)
    sc.pp.pca(adata, n_comps=50, mask_var="ours", key_added="same_genes")
    out.mkdir(parents=True, exist_ok=True)
    names = [f"{sample}_{name.removesuffix('-' + sample)}" for name, sample in adata.obs["sample"].items()]
    clusters = {key: adata.obs[key].astype(int).to_numpy() for key in ("leiden", "again")}
    components = {"pca": adata.obsm["X_pca"], "same_genes": adata.obsm["same_genes"]}
    np.savez(out / "found.npz", names=np.array(names), **components, **clusters)
    (out / "steps.json").write_text(json.dumps(steps))


@contextmanager
def _step(steps: list[dict[str, Any]], name: str) -> Iterator[None]:
    # The kernel forgets a process's peak when it is told to, so that each step shows its own.
    Path("/proc/self/clear_refs").write_text("5")
    wall, cpu = time.monotonic(), time.process_time()
    yield
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    steps.append({"step": name, "seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu, "peak_mb": peak})
    print(name, f"{steps[-1]['seconds']:.0f} s, {peak:.0f} MB", file=sys.stderr, flush=True)


# --- runs, whose records are kept ------------------------------------------------------------------------------------


def watched(command: list[str]) -> dict[str, float]:
    """Run a command, to its end or until this process is told to stop.

    Returns
    -------
    dict
        Wall and CPU seconds, the largest resident memory of all its processes together (``peak_mb``), and the exit ``code``.
    """
    started, before = time.monotonic(), os.times()
    process = psutil.Popen(command, cwd=ROOT, stdout=sys.stderr)
    peak = 0.0
    try:
        while process.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(INTERVAL)
    except (KeyboardInterrupt, SystemExit):
        process.send_signal(signal.SIGINT)
        process.wait()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": time.monotonic() - started, "cpu": cpu, "peak_mb": peak, "code": process.returncode}


def _resident(process: psutil.Process) -> float:
    """Resident memory of a process and of all that it started, MB; what several share (libraries) counts once."""
    held = 0
    with suppress(psutil.Error):
        for member in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                held += getattr(member.memory_full_info(), "pss", 0)
    return held / 2**20


def study_of(mirror: Path, work: Path, n_cells: int) -> Path:
    """Write the study of so many cells, unless it is there."""
    folder = (work / str(n_cells)).absolute()
    if not (folder / "config/config.yaml").exists():
        write_study(read_real(mirror), folder, n_cells, max(1, round(n_cells / CELLS_PER_SAMPLE)), processes=2)
    return folder


def run_recipe(folder: Path) -> list[dict[str, Any]]:
    """Steps of the recipe on a study that this workflow has run on."""
    steps = folder / "recipe/steps.json"
    if not steps.exists():
        code = watched([sys.executable, __file__, "recipe", str(folder), str(folder / "recipe")])["code"]
        if code:
            raise SystemExit(f"the recipe ended with {code}")
    return list(json.loads(steps.read_text()))


def snakemake(folder: Path) -> list[str]:
    """The command that runs the workflow on a study; targets may follow."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow/Snakefile")]
    return [*command, "--quiet", "rules", "progress", "reason", "host", "--cores", "2", "--directory", str(folder)]


def run_ours(folder: Path) -> dict[str, Any]:
    """Legs of the workflow on a study: to the picture, and the rest; one that was stopped before is gone on with."""
    record = folder / "ours.json"
    kept: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {"legs": []}
    for name, targets in (("picture", PICTURE), ("rest", [])):
        if any(leg["name"] == name and leg["code"] == 0 for leg in kept["legs"]):
            continue
        kept["legs"].append({"name": name, **watched([*snakemake(folder), *targets])})
        record.write_text(json.dumps(kept))
        if kept["legs"][-1]["code"]:
            raise SystemExit(f"the workflow ended with {kept['legs'][-1]['code']}; start again to go on")
    return kept


def run_networks(study: Path) -> None:
    """The workflow's own jobs that train networks on the cells of a study that ran, one after the other."""
    methods = json.dumps({"methods": [METHOD, *NETWORKS]})
    results = [f"results/scrna/embeddings/{name}.parquet" for name in NETWORKS]
    code = watched([*snakemake(study), "--config", f"embeddings={methods}", "--", *results])["code"]
    if code:
        raise SystemExit(f"the workflow ended with {code}; start again to go on")


def total(kept: dict[str, Any], *names: str) -> dict[str, float]:
    legs = pd.DataFrame([leg for leg in kept["legs"] if leg["name"] in names])
    return {"seconds": legs["seconds"].sum(), "cpu": legs["cpu"].sum(), "peak_mb": legs["peak_mb"].max()}


def rules(folder: Path) -> pd.DataFrame:
    """Per rule in the order of the run: jobs, their wall and CPU seconds together, the largest peak of one (MB)."""
    records = pd.DataFrame(read_usage(folder / "results/usage")).sort_values("time", kind="stable")
    grouped = records.groupby("rule", sort=False)
    found = grouped.agg(
        jobs=("rule", "size"), seconds=("seconds", "sum"), cpu=("cpu_seconds", "sum"), peak_mb=("peak_mb", "max")
    )
    return found.reset_index()


# --- agreement -------------------------------------------------------------------------------------------------------


def principal_cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Cosines of the principal angles between the spaces that the columns span, once centred; descending.

    Parameters
    ----------
    one, two
        Cells x components each, of the same cells.
    """
    bases = [np.linalg.qr(scores - scores.mean(axis=0))[0] for scores in (one, two)]
    return np.clip(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False), 0, 1)


def agreement(folder: Path) -> dict[str, float]:
    """How far clusters and principal components of both agree, on the cells that both keep."""
    with np.load(folder / "recipe/found.npz") as file:
        found = {name: file[name] for name in file.files}
    theirs = pd.Index(found["names"])
    embedding = pd.read_parquet(folder / f"results/scrna/embeddings/{METHOD}.parquet")
    clusters = pd.read_parquet(folder / f"results/scrna/clusters/{METHOD}.parquet")
    shared = embedding.index.intersection(theirs)
    at = theirs.get_indexer(shared)
    ours, scores = clusters.loc[shared], embedding.loc[shared].to_numpy(dtype=float)
    leiden = found["leiden"][at]
    result = {
        "cells of both": len(shared),
        "cells of one alone": len(embedding) + len(theirs) - 2 * len(shared),
        "clusters, scanpy": len(np.unique(leiden)),
        "clusters, ours": ours["cluster"].nunique(),
        "ARI, chosen clusters": adjusted_rand_score(leiden, ours["cluster"]),
        "ARI, resolution 1": adjusted_rand_score(leiden, ours["r1"]),
        "ARI, scanpy with another seed": adjusted_rand_score(leiden, found["again"][at]),
    }
    for genes, key in (("", "pca"), (", of the genes that we chose", "same_genes")):
        for k in COMPONENTS:
            cosines = principal_cosines(scores[:, :k], found[key][at][:, :k].astype(float))
            result[f"mean squared cosine, first {k} PCs{genes}"] = float(np.mean(cosines**2))
    return result


# --- tables ----------------------------------------------------------------------------------------------------------


def table(header: list[str], rows: list[list[object]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)


def timings(rows: list[tuple[str, dict[str, Any]]]) -> str:
    cells = [[name, *(f"{row[key]:,.0f}" for key in ("seconds", "cpu", "peak_mb"))] for name, row in rows]
    return table(["", "wall, s", "CPU, s", "peak, MB"], cells)


def ours_section(folder: Path, kept: dict[str, Any]) -> str:
    found = rules(folder)
    rows = [(f"{row['rule']} ({row['jobs']})", dict(row)) for _, row in found.iterrows()]
    rows += [("to clusters and layouts", total(kept, "picture")), ("whole run", total(kept, "picture", "rest"))]
    return (
        f"This workflow, rule by rule (jobs; those of a rule added up, two may run at a time); the largest job held "
        f"{found['peak_mb'].max():,.0f} MB:\n\n{timings(rows)}"
    )


def summed(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Times of some steps together, and the largest peak."""
    frame = pd.DataFrame(steps)
    return {"seconds": frame["seconds"].sum(), "cpu": frame["cpu"].sum(), "peak_mb": frame["peak_mb"].max()}


def compare(mirror: Path, work: Path, n_cells: int) -> str:
    folder = study_of(mirror, work, n_cells)
    ours, steps = run_ours(folder), run_recipe(folder)
    whole = summed(steps)
    without = summed([step for step in steps if step["step"] != DOUBLETS])
    found, to_picture = rules(folder), total(ours, "picture")
    job = found.loc[found["rule"].isin(TO_PICTURE), "peak_mb"].max()
    named = [*((step["step"], step) for step in steps), ("whole", whole), ("whole without doublets", without)]
    agreed = [[k, f"{v:,}" if isinstance(v, int) else f"{v:.3f}"] for k, v in agreement(folder).items()]
    return "\n\n".join(
        [
            f"## {n_cells:,} cells",
            f"To clusters and UMAP scanpy's recipe took {whole['seconds'] / to_picture['seconds']:.2f} times the time of this "
            f"workflow, which adds the evidence for the resolution and t-SNE ({without['seconds'] / to_picture['seconds']:.2f} "
            f"times without its search for doublets, which the workflow makes). The largest job of the workflow held "
            f"{job / whole['peak_mb']:.2f} of the recipe's memory, all its processes at a time "
            f"{to_picture['peak_mb'] / whole['peak_mb']:.2f}.",
            f"The recipe of scanpy:\n\n{timings(named)}",
            ours_section(folder, ours),
            f"Agreement:\n\n{table(['', ''], agreed)}",
        ]
    )


def growth(mirror: Path, work: Path, sizes: list[int]) -> str:
    found: dict[int, pd.DataFrame] = {}
    for n in sizes:
        folder = study_of(mirror, work, n)
        kept = run_ours(folder)
        whole = pd.DataFrame([{"rule": "whole run", **total(kept, "picture", "rest")}])
        found[n] = pd.concat([rules(folder), whole]).set_index("rule")
    parts = ["## Growth"]
    for key, title in (("seconds", "Wall time, s"), ("peak_mb", "Largest peak of a job (of all processes), MB")):
        rows = []
        for rule in found[sizes[0]].index:
            values = [float(found[n].loc[rule, key]) for n in sizes]
            rows.append([rule, *(f"{value:,.0f}" for value in values), f"{exponent(sizes, values):.2f}"])
        parts.append(f"{title}:\n\n{table(['rule', *(f'{n:,}' for n in sizes), 'exponent'], rows)}")
    return "\n\n".join(parts)


def networks(study: Path) -> str:
    """What the jobs of :func:`run_networks` used, and what came of them."""
    records = {r["wildcards"]["method"]: r for r in read_usage(study / "results/usage") if r["rule"] == "embed_gpu"}
    rows: list[list[object]] = []
    for name in NETWORKS:
        model = study / "results/scrna/models" / name
        summary = json.loads((model / "summary.json").read_text())
        held_out = pd.read_csv(model / "history.tsv", sep="\t")["held_out"]
        used = (f"{records[name][key]:,.0f}" for key in ("seconds", "cpu_seconds", "peak_mb"))
        epochs = (summary["n_epochs"], f"{summary['n_steps'] // summary['n_epochs']:,}")
        rows.append(
            [summary["title"], *used, *epochs, *(f"{loss:.5g}" for loss in (held_out.iloc[0], held_out.iloc[-1]))]
        )
    return table(
        ["", "wall, s", "CPU, s", "peak, MB", "epochs", "steps each", "held-out loss, first epoch", "last"], rows
    )


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the logarithm of the values over that of the sizes: 1 where doubling the cells doubles them."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = parser.add_subparsers(dest="act", required=True)
    for name in ("compare", "ours", "growth"):
        act = acts.add_parser(name)
        act.add_argument("mirror", type=Path)
        act.add_argument("--work", type=Path, required=True)
        if name == "growth":
            act.add_argument("--sizes", default=",".join(map(str, GROWTH)))
        else:
            act.add_argument("--cells", type=int, required=True)
    trained = acts.add_parser("networks")
    trained.add_argument("study", type=Path)
    step = acts.add_parser("recipe", help="the recipe of scanpy on a study, in this process")
    step.add_argument("study", type=Path)
    step.add_argument("out", type=Path)
    given = parser.parse_args()
    # A run that is ended by its machine keeps its times, as one that is interrupted does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given.act == "recipe":
        return recipe(given.study, given.out)
    print(f"<!-- {date.today()}, {os.cpu_count()} {platform.machine()} cores, benchmarks/{Path(__file__).name} -->\n")
    if given.act == "networks":
        run_networks(given.study)
        print(networks(given.study))
    elif given.act == "compare":
        print(compare(given.mirror, given.work, given.cells))
    elif given.act == "ours":
        folder = study_of(given.mirror, given.work, given.cells)
        print(f"## {given.cells:,} cells\n\n{ours_section(folder, run_ours(folder))}")
    else:
        print(growth(given.mirror, given.work, [int(n) for n in given.sizes.split(",")]))
    return None


if __name__ == "__main__":
    main()
