"""Data of any size, made of real cells: pbmc3k, resampled.

    python benchmarks/made_cells.py MIRROR STUDY --cells 100000 --samples 10     # a study: snakemake --directory STUDY
    python benchmarks/made_cells.py MIRROR STORE --cells 100000 --store          # only a counts store, STORE

A made cell is drawn from the molecules of real ones. A real cell is drawn, and its counts are pooled with those of a few
of its nearest neighbours; each molecule of the pool is then kept with one and the same probability, so that as many are
left as the first cell had. Thinned Poisson counts are Poisson counts: the sampling noise of a made cell is that of a real
one, neither doubled nor smoothed away, and library sizes, sparsity and the structure among genes stay those of the real
cells (`tests/unit/test_made_cells.py`). What a cell shares with no neighbour is lost, so that genes correlate about a tenth
more strongly. Nearly all molecules of two made cells differ, so no two cells are alike.

Memory does not grow with the number of cells: they are made block by block, each from its own seed.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import yaml
from scipy.io import mmread
from scipy.sparse import csr_matrix

from latentomics.io.store import CountsWriter

ARCHIVE = "pbmc3k/pbmc3k_filtered_gene_bc_matrices.tar.gz"
#: Real cells whose molecules make one cell, and nearest neighbours among which all but the first are drawn. With fewer, cells
#: share enough molecules to clump: of 3 and 15, 8,000 made cells have 20 Leiden clusters (resolution 1), of 8 and 50 they
#: have 11, and the real cells 10.
PARENTS, NEIGHBOURS = 8, 50
#: Cells made at a time.
BLOCK = 1024
#: What a study computes unless told otherwise: the embedding that every machine can afford.
CONFIG: dict[str, Any] = {"samples": "config/samples.tsv", "embeddings": {"methods": ["pca"], "primary": "pca"}}
#: Values per chunk of a 10x file, as Cell Ranger writes it.
TENX_CHUNK = 80_000


class RealCells(NamedTuple):
    """What cells are made of.

    Attributes
    ----------
    counts
        Real cells x genes, int32.
    near
        Nearest other cells of each, (cells, neighbours).
    genes
        ``ensembl`` and ``symbol`` of each gene.
    """

    counts: csr_matrix
    near: np.ndarray
    genes: pd.DataFrame


def read_real(mirror: Path) -> RealCells:
    """The 2,700 cells x 32,738 genes of pbmc3k, from a folder of public data."""
    with tarfile.open(mirror / ARCHIVE) as archive:
        files = {Path(name).name: archive.extractfile(name) for name in archive.getnames()}
        counts = csr_matrix(mmread(files["matrix.mtx"]).T, dtype=np.int32)
        genes = pd.read_csv(files["genes.tsv"], sep="\t", header=None, names=["ensembl", "symbol"])
    return RealCells(counts, nearest(counts), genes)


def nearest(counts: csr_matrix, n_neighbors: int = NEIGHBOURS, seed: int = 0) -> np.ndarray:
    """Nearest other cells of each in 30 principal components of its log-normalised counts, (cells, neighbours)."""
    import anndata as ad
    import scanpy as sc
    from sklearn.neighbors import NearestNeighbors

    adata = ad.AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=min(2000, adata.n_vars))
    sc.pp.pca(adata, n_comps=min(30, min(adata.shape) - 1), random_state=seed)
    return NearestNeighbors(n_neighbors=n_neighbors).fit(adata.obsm["X_pca"]).kneighbors(return_distance=False)


def make(real: RealCells, n_cells: int, rng: np.random.Generator) -> csr_matrix:
    """Counts of so many made cells, (n_cells, genes), int32."""
    n_real, width = real.near.shape
    first = rng.integers(0, n_real, n_cells)
    chosen = rng.random((n_cells, width)).argsort(axis=1)[:, : PARENTS - 1]
    parents = np.column_stack([first, np.take_along_axis(real.near[first], chosen, axis=1)])
    starts = np.arange(0, parents.size + 1, PARENTS)
    pooled = (
        csr_matrix((np.ones(parents.size, np.int32), parents.ravel(), starts), shape=(n_cells, n_real)) @ real.counts
    )
    depth = np.asarray(real.counts.sum(axis=1)).ravel()
    share = depth[first] / depth[parents].sum(axis=1)
    pooled.data = rng.binomial(pooled.data, np.repeat(share, np.diff(pooled.indptr))).astype(np.int32)
    pooled.eliminate_zeros()
    pooled.sort_indices()
    return pooled


def blocks(real: RealCells, n_cells: int, seed: int, sample: int) -> Iterator[csr_matrix]:
    """The cells of one sample, block by block; the same seed and sample give the same cells."""
    for number, start in enumerate(range(0, n_cells, BLOCK)):
        yield make(real, min(BLOCK, n_cells - start), np.random.default_rng([seed, sample, number]))


def sizes(n_cells: int, n_samples: int) -> dict[str, int]:
    """Cells of each sample, by its name: as equal as they can be.

    Raises
    ------
    ValueError
        There are fewer cells than samples.
    """
    if not 0 < n_samples <= n_cells:
        raise ValueError(f"{n_cells} cells cannot make {n_samples} samples")
    each, more = divmod(n_cells, n_samples)
    return {f"sample{i:03d}": each + (i < more) for i in range(n_samples)}


def barcodes(n_cells: int) -> np.ndarray:
    """Barcodes of 16 bases, no two alike, (n_cells,), as bytes."""
    # An odd factor permutes the numbers below a power of two.
    numbers = (np.arange(n_cells, dtype=np.uint64) * np.uint64(2_654_435_761)) % np.uint64(1 << 32)
    digits = (numbers[:, None] >> np.arange(0, 32, 2, dtype=np.uint64)) & np.uint64(3)
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[digits.astype(int)]
    return np.char.add(bases.view("S16").ravel(), b"-1")


def write_sample(real: RealCells, path: Path, n_cells: int, seed: int, sample: int) -> None:
    """One sample as Cell Ranger 3 writes it (``filtered_feature_bc_matrix.h5``); the file has its name when it is whole."""
    unfinished = path.with_suffix(".part")
    with h5py.File(unfinished, "w") as file:
        matrix = file.create_group("matrix")
        growing = {
            name: matrix.create_dataset(
                name, (0,), dtype, maxshape=(None,), chunks=(TENX_CHUNK,), compression="gzip", shuffle=True
            )
            for name, dtype in (("data", "int32"), ("indices", "int64"))
        }
        indptr = [np.zeros(1, dtype=np.int64)]
        for block in blocks(real, n_cells, seed, sample):
            filled = len(growing["data"])
            for name, values in (("data", block.data), ("indices", block.indices)):
                growing[name].resize(filled + block.nnz, axis=0)
                growing[name][filled:] = values
            indptr.append(filled + block.indptr[1:].astype(np.int64))
        matrix["indptr"] = np.concatenate(indptr)
        matrix["shape"] = np.array([len(real.genes), n_cells], dtype=np.int32)
        matrix["barcodes"] = barcodes(n_cells)
        features = matrix.create_group("features")
        features["id"] = real.genes["ensembl"].to_numpy(dtype="S")
        features["name"] = real.genes["symbol"].to_numpy(dtype="S")
        features["feature_type"] = np.full(len(real.genes), b"Gene Expression")
        features["genome"] = np.full(len(real.genes), b"hg19")
        features["_all_tag_keys"] = np.array([b"genome"])
    unfinished.rename(path)


def write_study(
    real: RealCells, folder: Path, n_cells: int, n_samples: int, seed: int = 0, processes: int = 1, **config: Any
) -> None:
    """A study of made cells: a 10x file per sample, sheet and config. Samples that are there are kept.

    Parameters
    ----------
    config
        Sections of the config beside :data:`CONFIG`, or instead of its own.
    """
    samples = sizes(n_cells, n_samples)
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    todo = [
        (folder / f"data/{name}.h5", n, seed, number)
        for number, (name, n) in enumerate(samples.items())
        if not (folder / f"data/{name}.h5").exists()
    ]
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(partial(write_sample, real), *zip(*todo, strict=True)) if todo else ():
            pass
    sheet = pd.DataFrame({"sample": list(samples), "assay": "scrna"})
    sheet["path"], sheet["droplets"] = [f"../data/{name}.h5" for name in samples], "filtered"
    sheet.to_csv(folder / "config/samples.tsv", sep="\t", index=False)
    (folder / "config/config.yaml").write_text(yaml.safe_dump({**CONFIG, "seed": seed, **config}, sort_keys=False))


def write_store(real: RealCells, path: Path, n_cells: int, n_samples: int = 1, seed: int = 0) -> None:
    """The counts store of the same cells as :func:`write_study`, none dropped; they are made twice, first to be counted."""
    samples = sizes(n_cells, n_samples)

    def everything() -> Iterator[csr_matrix]:
        for number, n in enumerate(samples.values()):
            yield from blocks(real, n, seed, number)

    totals, entries = [], []
    for block in everything():
        totals.append(np.asarray(block.sum(axis=1), dtype=float).ravel())
        entries.append(np.diff(block.indptr))
    obs = pd.DataFrame({"sample": np.repeat(list(samples), list(samples.values()))}).astype("category")
    obs["barcode"] = np.concatenate([barcodes(n) for n in samples.values()]).astype(str)
    obs["total_counts"], obs["n_genes"] = np.concatenate(totals), np.concatenate(entries)
    obs.index = pd.Index(obs["sample"].astype(str) + "_" + obs["barcode"], name="cell")
    var = real.genes.set_index("ensembl", drop=False).rename_axis("gene")
    var["n_samples"] = n_samples
    writer = CountsWriter(path, n_cells, len(var), int(obs["n_genes"].sum()))
    for block in everything():
        writer.append(block)
    writer.close(obs, var)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, required=True)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="samples that are made at a time")
    parser.add_argument("--store", action="store_true", help="write only a counts store")
    given = parser.parse_args()
    real = read_real(given.mirror)
    if given.store:
        write_store(real, given.folder, given.cells, given.samples, given.seed)
    else:
        write_study(real, given.folder, given.cells, given.samples, given.seed, given.processes)


if __name__ == "__main__":
    main()
