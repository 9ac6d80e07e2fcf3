"""Cells per second of training scVI, scvi-tools' own and ours, and where the time goes.

    python benchmarks/scvi_speed.py MIRROR [--threads 2] [--cells 20000] > benchmarks/scvi_speed.md

The same cells for both: pbmc3k (its 2,000 most variable genes), drawn with replacement. Everything is measured in turn,
``--repeats`` times on the same machine; ratios are medians over the rounds. On a machine that is busy with something else,
``--threads 1 --clock cpu`` counts the time of the processor in place of that on the wall.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import platform
import statistics
import tarfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.io
import scvi
import torch
from scvi import REGISTRY_KEYS
from scvi.dataloaders import AnnDataLoader

from latentomics.embed.likelihood import loss as loss_module
from latentomics.embed.likelihood.model import SCVI, _sparse
from latentomics.embed.likelihood.terms import Judged

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BATCHES = (128, 512, 1024)


def cells(mirror: Path, n_cells: int, n_genes: int) -> ad.AnnData:
    """Cells drawn with replacement, in two made-up batches."""
    with tarfile.open(mirror / "pbmc3k/pbmc3k_filtered_gene_bc_matrices.tar.gz") as archive:
        name = next(name for name in archive.getnames() if name.endswith("matrix.mtx"))
        adata = ad.AnnData(scipy.io.mmread(archive.extractfile(name)).T.tocsr().astype(np.float32))
    sc.pp.highly_variable_genes(adata, n_top_genes=n_genes, flavor="seurat_v3")
    rng = np.random.default_rng(0)
    drawn = ad.AnnData(adata.X[:, np.flatnonzero(adata.var["highly_variable"])][rng.integers(0, adata.n_obs, n_cells)])
    drawn.obs["batch"] = rng.choice(["one", "two"], n_cells)
    drawn.obs["batch"] = drawn.obs["batch"].astype("category")
    return drawn[np.asarray(drawn.X.sum(1)).ravel() > 0].copy()


def model_of(cls: type, adata: ad.AnnData, likelihood: str) -> scvi.model.SCVI:
    cls.setup_anndata(adata, batch_key="batch")
    scvi.settings.seed = 0
    return cls(adata, n_hidden=64, dropout_rate=0.2, gene_likelihood=likelihood)


def stepper(model: scvi.model.SCVI, batch_size: int, loss: Callable | None = None) -> Callable[[], None]:
    """A function that does one step of the optimiser on a minibatch, always the same."""
    module = model.module.train()
    ours = isinstance(model, SCVI)
    kind = {"collate_fn": _sparse, "load_sparse_tensor": True} if ours else {}
    tensors = next(iter(AnnDataLoader(model.adata_manager, batch_size=batch_size, **kind)))
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-6, fused=ours)

    def step() -> None:
        optimiser.zero_grad()
        (module(tensors)[2].loss if loss is None else loss(module, tensors)).backward()
        optimiser.step()

    return step


def floor(module: Any, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """scvi-tools' network with a sum in place of the likelihood."""
    inference, generative = module(tensors, compute_loss=False)
    px, qz = generative["px"], inference["qz"]
    found = px.mu.mean() + qz.loc.mean() + qz.scale.mean()
    return found + px.zi_logits.mean() if module.gene_likelihood == "zinb" else found


def timed(function: Callable[[], Any], clock: Callable[[], float], seconds: float) -> float:
    """Median seconds of a call."""
    function()
    found: list[float] = []
    began = clock()
    while len(found) < 3 or clock() - began < seconds:
        started = clock()
        function()
        found.append(clock() - started)
    return statistics.median(found)


def trained(model: scvi.model.SCVI, batch_size: int, clock: Callable[[], float]) -> float:
    """Seconds per cell of an epoch in ``train``, with its loader and its loop."""
    started = clock()
    model.train(
        max_epochs=1, batch_size=batch_size, train_size=1.0, accelerator="cpu", plan_kwargs={"n_epochs_kl_warmup": 50},
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    return (clock() - started) / model.adata.n_obs


def parts(model: SCVI, batch_size: int, clock: Callable[[], float], seconds: float) -> dict[str, float]:
    """Seconds of a step of ours, divided."""
    module = copy.deepcopy(model.module).train()
    whole = timed(stepper(model, batch_size), clock, seconds)
    tensors = next(
        iter(AnnDataLoader(model.adata_manager, batch_size=batch_size, collate_fn=_sparse, load_sparse_tensor=True))
    )
    inputs = module._get_inference_input(tensors)
    encoder = timed(lambda: module.inference(**inputs)["z"].sum().backward(), clock, seconds)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3, eps=0.01, fused=True)
    module(tensors)[2].loss.backward()
    found = {"optimiser": timed(optimiser.step, clock, seconds)}
    heads = [module.decoder.px_scale_decoder[0], module.decoder.px_dropout_decoder]
    heads = heads[: 2 if module.gene_likelihood == "zinb" else 1]
    inferred = module.inference(**inputs)
    library = inferred["library"].detach()
    # What the layers are given in training: other numbers would be of other sizes, and some functions' time depends on that.
    categories = module._get_generative_input(tensors, inferred)["batch_index"]
    hidden = module.decoder.px_decoder(inferred["z"], categories).detach().requires_grad_()

    def layers() -> None:
        module.zero_grad()
        hidden.grad = None
        theta = torch.exp(module.px_r)
        loss_module.loss_of_decoder(tensors[REGISTRY_KEYS.X_KEY], hidden, library, theta, *heads).mean.backward()

    with_likelihood = timed(layers, clock, seconds)
    judge = loss_module.compiled.judge
    loss_module.compiled.judge = lambda counts, logits, *_: Judged(logits[:, 0], logits[:, 0], logits[0])
    try:
        without = timed(layers, clock, seconds)
    finally:
        loss_module.compiled.judge = judge
    found |= {"encoder": encoder, "last layers": without, "likelihood": with_likelihood - without}
    return {**found, "all else": whole - sum(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    clock = CLOCKS[options.clock]
    adata = cells(options.mirror, options.cells, options.genes)
    filled = adata.X.nnz / np.prod(adata.shape)
    print(f"# Speed of training scVI\n\n{date.today()}, {os.cpu_count()} {platform.machine()} cores, no GPU. ", end="")
    print(f"By `benchmarks/{Path(__file__).name}`: {options.threads} threads, {options.clock} time, ", end="")
    print(f"{adata.n_obs:,} cells x {adata.n_vars:,} genes, {filled:.1%} not zero, 64 hidden units.\n")
    steps, whole, shares = [], [], []
    for likelihood in ("zinb", "nb"):
        stock, ours = (model_of(cls, adata, likelihood) for cls in (scvi.model.SCVI, SCVI))
        for batch in BATCHES:
            run = {"stock": stepper(stock, batch), "ours": stepper(ours, batch), "floor": stepper(stock, batch, floor)}
            rounds = [{k: timed(f, clock, options.seconds) for k, f in run.items()} for _ in range(options.repeats)]
            median = {k: statistics.median(r[k] for r in rounds) for k in run}
            ratio = statistics.median(r["stock"] / r["ours"] for r in rounds)
            columns = " | ".join(f"{1e3 * median[k]:.1f}" for k in run)
            steps.append(f"| {likelihood} | {batch} | {columns} | {ratio:.1f} |")
            pairs = [[trained(m, batch, clock) for m in (stock, ours)] for _ in range(options.repeats)]
            speeds = " | ".join(f"{1 / statistics.median(p[i] for p in pairs):,.0f}" for i in (0, 1))
            whole.append(f"| {likelihood} | {batch} | {speeds} | {statistics.median(a / b for a, b in pairs):.1f} |")
            divided = parts(ours, batch, clock, options.seconds)
            shares.append(f"| {likelihood} | {batch} | {' | '.join(f'{1e3 * v:.1f}' for v in divided.values())} |")
    print("Training as a user runs it (`train`), with loader and loop:\n")
    print("| likelihood | batch | scvi-tools, cells/s | ours, cells/s | ratio |\n|---|---|---|---|---|")
    print("\n".join(whole))
    print("\nA step of the optimiser, ms. Floor: scvi-tools' dense network with a sum in place of the likelihood.\n")
    print("| likelihood | batch | scvi-tools | ours | floor | ratio |\n|---|---|---|---|---|---|")
    print("\n".join(steps))
    print("\nWhere our step's time goes, ms (each measured apart, so that they need not add up exactly):\n")
    print(f"| likelihood | batch | {' | '.join(divided)} |\n|---|---|{'---|' * len(divided)}")
    print("\n".join(shares))


if __name__ == "__main__":
    main()
