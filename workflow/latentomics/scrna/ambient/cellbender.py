"""CellBender remove-background (Fleming et al. 2023, Nature Methods 20:1323), run as the program that it is.

It learns a deep generative model of the raw matrix: cells in their soup, empty droplets, and molecules swapped between
barcodes. What is passed on is ours: the cells are those called before, and a cell that CellBender takes for an empty
droplet keeps its raw counts. Its seed is fixed within the program.

A killed job goes on from the last checkpoint (every seven minutes). CellBender recognises a checkpoint by the settings
and by the *name* of the input, not by its content, so the name holds a digest of the counts. Checkpoints are pickled; they
lie in the sample's own folder, where nobody else writes. CellBender has no option to leave out its HTML report, which runs
a notebook through a shell; it looks for ``jupyter`` on the search path, which is therefore empty, and its log then says
``Unable to create report``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latentomics.config.ambient import Ambient, Cellbender
from latentomics.scrna.ambient.registry import AmbientSample, Correction

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

TITLE = "CellBender"
GPU = True
NEEDS_RAW = True

#: Seconds per droplet, gene and epoch on a CPU: a training takes at least that (measured: 0.8e-6 of CPU time, 1.3e-6 to 3e-6
#: on a busy machine, with 1,300 and 1,800 droplets of 981 genes).
SECONDS_PER_ENTRY = 1e-6
#: Droplets that are looked at besides the cells: as many as there are cells, within these bounds (CellBender's manual: some
#: thousands on the plateau of empty ones).
_FEWEST_MORE, _MOST_MORE = 2_000, 20_000
#: CellBender leaves out barcodes with fewer counts.
_LOWEST = 5
#: Droplets above this probability are cells to CellBender.
_IS_CELL = 0.5
#: A training has gone astray if its bound ends this far below its best, as a share of what it gained.
_ASTRAY = 0.1
_OUTPUT, _LOG, _CHECKPOINT = "out.h5", "out.log", "ckpt.tar.gz"


def correct(sample: AmbientSample, params: Ambient, seed: int, threads: int) -> Correction:
    """Run CellBender on the raw matrix of a sample, and take over what it says of the called cells.

    Parameters
    ----------
    seed
        Not used: CellBender's is a constant of the program.

    Raises
    ------
    InputError
        CellBender is not installed.
    TrainingError
        There is no GPU and the training would take longer than the site's limit; CellBender failed; or its output is not
        what it should be.
    """
    import torch

    from latentomics.time_limit import refuse_if_too_long

    program, cuda = find_program(), torch.cuda.is_available()
    raw = nonempty(sample.raw())
    included = droplets_included(raw.counts, sample.counts.shape[0])
    if not cuda:
        what = f"CellBender on sample {sample.name!r} ({included:,} droplets, {params.cellbender.epochs} epochs)"
        n_genes = len(np.unique(raw.counts.indices))
        hint = "lower `ambient.cellbender.epochs`, set `ambient.method: decontx`"
        refuse_if_too_long(what, hours_on_cpu(included, n_genes, params.cellbender.epochs), hint)
    sample.folder.mkdir(parents=True, exist_ok=True)
    source = write_input(raw.counts, sample.folder)
    command = command_line(program, source.name, sample.counts.shape[0], included, params.cellbender, threads, cuda)
    run(command, sample.folder, sample.name)
    return take_over(read_output(sample.folder / _OUTPUT, sample.name), raw, sample, included)


def find_program() -> str:
    """Path of the ``cellbender`` program: on the search path, else beside this Python.

    Raises
    ------
    InputError
        There is none.
    """
    from latentomics.problems import InputError, Problem

    found = shutil.which("cellbender") or shutil.which("cellbender", path=str(Path(sys.executable).parent))
    if found is None:
        hint = "install it (`cellbender` 0.4.0, as environment.yml lists it), or set `ambient.method: decontx`."
        raise InputError(Problem("cellbender", "not installed", hint, key="ambient.method", value="cellbender"))
    return str(Path(found).absolute())


class Raw(NamedTuple):
    """Barcodes that have counts: counts (barcodes x genes, CSR, int32), and the names of rows and columns."""

    counts: csr_matrix
    barcodes: np.ndarray
    genes: np.ndarray


def nonempty(raw: AnnData) -> Raw:
    """Leave out the barcodes without counts."""
    from scipy.sparse import csr_matrix

    counts = csr_matrix(raw.X, dtype=np.int32)
    some = np.diff(counts.indptr) > 0
    return Raw(counts[some], raw.obs_names[some].to_numpy(), raw.var_names.to_numpy())


def droplets_included(counts: csr_matrix, n_cells: int) -> int:
    """How many droplets, by falling counts, CellBender learns one by one; the rest are a pool of empty ones.

    At least half of the droplets beyond the cells are left to the pool, which must not be void.
    """
    usable = int((np.asarray(counts.sum(axis=1)).ravel() > _LOWEST).sum())
    more = int(np.clip(n_cells, _FEWEST_MORE, _MOST_MORE))
    return n_cells + max(min(more, (usable - n_cells) // 2), 1)


def hours_on_cpu(n_droplets: int, n_genes: int, epochs: int) -> float:
    """Estimate of the training without a GPU (hours); more cores make it little faster."""
    return SECONDS_PER_ENTRY * n_droplets * n_genes * epochs / 3600


def write_input(counts: csr_matrix, folder: Path) -> Path:
    """Write the raw matrix under a name that holds a digest of it; what another matrix left in the folder is removed.

    Barcodes and genes are named by their numbers: CellBender's format cannot hold every name.
    """
    import anndata as ad

    digest = hashlib.blake2b(digest_size=8)
    for part in (counts.data, counts.indices.astype(np.int64), counts.indptr.astype(np.int64)):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(repr(counts.shape).encode())
    path = folder / f"raw_{digest.hexdigest()}.h5ad"
    if not path.exists():
        shutil.rmtree(folder)
        folder.mkdir()
        partial = folder / "partial.h5ad"
        ad.AnnData(counts).write_h5ad(partial)
        os.replace(partial, path)
    return path


def command_line(
    program: str, source: str, n_cells: int, included: int, params: Cellbender, threads: int, cuda: bool
) -> list[str]:
    """The command, to be run in the folder of its files; all but ``--fpr`` must be the same for a checkpoint to be used."""
    options: dict[str, Any] = {
        "input": source,
        "output": _OUTPUT,
        "checkpoint": _CHECKPOINT,
        "expected-cells": n_cells,
        "total-droplets-included": included,
        "low-count-threshold": _LOWEST,
        "epochs": params.epochs,
        "fpr": params.fpr,
        "learning-rate": params.learning_rate,
        "cpu-threads": threads,
    }
    listed = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    return [program, "remove-background", *listed, *(["--cuda"] if cuda else [])]


def run(command: list[str], folder: Path, sample: str) -> None:
    """Run CellBender in a folder; its messages go where this job's go.

    Raises
    ------
    TrainingError
        It failed, with the end of its log.
    """
    from latentomics.embed.data import TrainingError

    nothing = folder / "no_programs"
    nothing.mkdir(exist_ok=True)
    environment = {**os.environ, "PATH": str(nothing.absolute()), "MPLBACKEND": "agg"}
    (folder / _OUTPUT).unlink(missing_ok=True)
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL)
    try:
        status = process.wait()
    finally:
        process.kill()
        process.wait()
    if status or not (folder / _OUTPUT).exists():
        log = folder / _LOG
        told = log.read_text(errors="replace").strip()[-1500:] if log.exists() else "it wrote no log"
        raise TrainingError(
            f"CellBender failed on sample {sample!r} (exit {status}); the end of its log:\n{told}\n"
            "    Hint: where the loss is not a number, halve `ambient.cellbender.learning_rate`; where memory ran out, ask for "
            "more in the profile; or set `ambient.method: decontx`."
        )


class Output(NamedTuple):
    """What CellBender wrote: counts (barcodes x genes, CSR), probability of a cell (NaN: not looked at), bound per epoch."""

    counts: csr_matrix
    cell_probability: np.ndarray
    elbo: np.ndarray


def read_output(path: Path, sample: str) -> Output:
    """Read the HDF5 file of all droplets.

    Raises
    ------
    TrainingError
        It is damaged, not in CellBender's format, of other barcodes than the input, or holds no counts.
    """
    import h5py
    from scipy.sparse import csc_matrix

    try:
        with h5py.File(path) as file:
            matrix, latents = file["matrix"], file["droplet_latents"]
            shape = tuple(int(n) for n in matrix["shape"][:])
            names = (matrix["features/name"][:], matrix["barcodes"][:])
            if any((found != np.arange(n).astype("S")).any() for found, n in zip(names, shape, strict=True)):
                raise _strange(sample, "other barcodes or genes than its input")
            data = matrix["data"][:]
            if (data != np.rint(data)).any():
                raise _strange(sample, "counts that are no whole numbers")
            if (data < 0).any():
                raise _strange(sample, "negative counts")
            # Genes x barcodes by columns, as Cell Ranger writes it: its transpose is barcodes x genes by rows.
            parts = (data.astype(np.int64), matrix["indices"][:], matrix["indptr"][:])
            counts = csc_matrix(parts, shape=shape).T.tocsr()
            probability = np.full(shape[1], np.nan)
            probability[latents["barcode_indices_for_latents"][:]] = latents["cell_probability"][:]
            return Output(counts, probability, file["metadata/learning_curve_train_elbo"][:])
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise _strange(sample, f"a file that cannot be read ({type(error).__name__}: {error})") from error


def take_over(output: Output, raw: Raw, sample: AmbientSample, included: int) -> Correction:
    """CellBender's counts for the called cells, checked, in their order.

    Raises
    ------
    TrainingError
        The output has another shape than the input, or a count is above the raw one.
    """
    import pandas as pd
    from scipy.sparse import csr_matrix

    if output.counts.shape != raw.counts.shape:
        raise _strange(sample.name, f"the shape {output.counts.shape}, its input {raw.counts.shape}")
    rows = pd.Index(raw.barcodes).get_indexer(sample.barcodes)
    columns = pd.Index(raw.genes).get_indexer(sample.genes)
    if (rows < 0).any() or (columns < 0).any() or (raw.counts[rows][:, columns] != sample.counts).nnz:
        raise ValueError(f"sample {sample.name!r}: the raw matrix is not the one that its cells were called in")
    counts = csr_matrix(output.counts[rows][:, columns])
    is_cell = output.cell_probability[rows] > _IS_CELL
    counts = csr_matrix(counts.multiply(is_cell[:, None])) + csr_matrix(sample.counts.multiply(~is_cell[:, None]))
    counts.eliminate_zeros()
    counts.sort_indices()
    if (counts > sample.counts).nnz:
        raise _strange(sample.name, "counts above the raw ones")
    before, after = (np.asarray(matrix.sum(axis=1), dtype=float).ravel() for matrix in (sample.counts, counts))
    share = np.where(is_cell & (before > 0), (before - after) / np.maximum(before, 1), np.nan)
    kept_raw = int((~is_cell).sum())
    facts = {
        "droplets_included": included,
        "cells_kept_raw": kept_raw,
        "epochs": len(output.elbo),
        "elbo": [float(value) for value in output.elbo],
    }
    notes = learning_notes(output.elbo)
    if kept_raw:
        notes.append(
            f"{kept_raw} of {len(is_cell)} called cells are empty droplets to CellBender: they keep their raw counts."
        )
    return Correction(counts.astype(np.int32), share, facts, notes)


def learning_notes(elbo: np.ndarray) -> list[str]:
    """What a person should know of the learning curve (the evidence lower bound per epoch, which should rise)."""
    if not np.isfinite(elbo).all():
        return ["CellBender's training diverged (its bound is not a number): lower `ambient.cellbender.learning_rate`."]
    gained = elbo.max() - elbo[0] if len(elbo) else 0.0
    if len(elbo) > 1 and elbo.max() - elbo[-1] > _ASTRAY * gained:
        return ["CellBender's training ended well below its best bound: halve `ambient.cellbender.learning_rate`."]
    return []


def _strange(sample: str, what: str) -> Exception:
    from latentomics.embed.data import TrainingError

    return TrainingError(
        f"CellBender's output for sample {sample!r} has {what}.\n"
        "    Hint: run the sample again; if it stays so, set `ambient.method: decontx`."
    )
