"""Cells per second of training the autoencoder, as it was and as it is, and what the matrix products alone take.

    python benchmarks/autoencoder_speed.py MIRROR [--threads 2] [--clock wall] > benchmarks/autoencoder_speed.md

The same cells for both: pbmc3k (its 2,000 most variable genes), drawn with replacement, log-normalised. Everything is
measured in turn, ``--repeats`` times; ratios are medians over the rounds. On a machine that is busy with something else,
``--threads 1 --clock cpu`` counts the time of the processor in place of that on the wall.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scvi_speed import BATCHES, CLOCKS, cells, timed
from torch.nn.functional import embedding_bag, linear, mse_loss

from latentomics.assays.normaliser import size_log
from latentomics.embed.autoencoder import Params, build
from latentomics.embed.likelihood.counts import SparseCounts


def stepper(rows: Any, mean: torch.Tensor, fused: bool) -> Callable[[], None]:
    """A function that does one step on a minibatch, always the same: densified, centred, trained on."""
    torch.manual_seed(0)
    network = build(rows.shape[1], Params()).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4, fused=fused)

    def step() -> None:
        optimiser.zero_grad()
        centred = torch.from_numpy(rows.toarray()) - mean
        mse_loss(network["decoder"](network["encoder"](centred)), centred).backward()
        optimiser.step()

    return step


def floor(n_rows: int, width: int) -> Callable[[], None]:
    """The matrix products of a step: of every layer one forward, two backward, but one for the first."""
    params = Params()
    widths = [width, *params.hidden, params.n_latent, *params.hidden[::-1], width]
    layers = [(torch.randn(n_rows, a), torch.randn(b, a), torch.randn(n_rows, b)) for a, b in pairwise(widths)]

    def products() -> None:
        for number, (x, weight, upstream) in enumerate(layers):
            torch.mm(x, weight.T)
            torch.mm(upstream.T, x)
            if number:
                torch.mm(upstream, weight)

    return products


def first_layers(rows: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The first layer's forward product on the dense rows, and on their non-zeros."""
    counts, weight = SparseCounts.of_scipy(rows), torch.randn(Params().hidden[0], rows.shape[1])
    dense, by_gene = counts.dense(), weight.T.contiguous()

    def of_nonzeros() -> torch.Tensor:
        return embedding_bag(
            counts.gene, by_gene, counts.start, mode="sum", per_sample_weights=counts.value, include_last_offset=True
        )

    return lambda: linear(dense, weight), of_nonzeros


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = CLOCKS[given.clock]
    counts = cells(given.mirror, max(BATCHES), given.genes).X.tocsr()
    rows = size_log(np.asarray(counts.sum(axis=1)).ravel(), None)(counts, slice(None))
    mean = torch.from_numpy(np.asarray(rows.mean(axis=0), dtype=np.float32).ravel())
    filled = rows.nnz / np.prod(rows.shape)
    print(
        f"# Speed of training the autoencoder\n\n{date.today()}, {os.cpu_count()} {platform.machine()} cores, no GPU. By ",
        end="",
    )
    print(
        f"`benchmarks/{Path(__file__).name}`: {given.threads} threads, {given.clock} time, {given.genes:,} genes, ",
        end="",
    )
    print(f"{filled:.1%} not zero, {Params().hidden} hidden units, ms of a step of the optimiser.\n")
    columns = ["batch", "cells/s before", "cells/s now", "ratio", "step before", "step now", "of it matrix products"]
    columns += ["first layer, dense", "first layer, on non-zeros"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for batch in BATCHES:
        some = rows[:batch]
        dense, sparse = first_layers(some)
        run = {
            "before": stepper(some, mean, fused=False),
            "now": stepper(some, mean, fused=True),
            "products": floor(batch, given.genes),
            "dense": dense,
            "sparse": sparse,
        }
        rounds = [{k: timed(f, clock, given.seconds) for k, f in run.items()} for _ in range(given.repeats)]
        median = {k: statistics.median(r[k] for r in rounds) for k in run}
        ratio = statistics.median(r["before"] / r["now"] for r in rounds)
        speeds = " | ".join(f"{batch / median[k]:,.0f}" for k in ("before", "now"))
        print(f"| {batch} | {speeds} | {ratio:.2f} | {' | '.join(f'{1e3 * v:.1f}' for v in median.values())} |")


if __name__ == "__main__":
    main()
