"""The studies whose jobs the table of needs is fitted to: small and large ones of every kind of input.

Each function writes the inputs of a study into its folder and returns its config. ``MIRROR`` is a folder of public data
(``resources/datasets.yaml`` and the other benchmarks say which).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import yaml
from mock_community import simulate as simulate_reads
from read_classifiers import write_study as write_classifiers

from latentomics.io.datasets import MIRROR
from latentomics.metagenome.profile.genomes import read_genomes
from latentomics.simulate.files import write_files
from latentomics.simulate.transcripts import LibraryParams, simulate_library

ROOT = Path(__file__).resolve().parents[1]
Config = dict[str, Any]
#: Memory needs no long training; these few passes take as much as many.
FEW_EPOCHS = {"max_epochs": 2, "min_steps": 2}
SHORT: Config = {"embeddings": dict.fromkeys(("autoencoder", "scvi", "vae"), FEW_EPOCHS)}


class Study(NamedTuple):
    """How a study is written; whether its networks train so briefly that their times say nothing."""

    write: Callable[[Path, Path], Config]
    short: bool = False


def demo(mirror: Path, folder: Path) -> Config:
    subprocess.run([sys.executable, "-m", "latentomics.simulate", "data/demo"], cwd=folder, check=True)
    return dict(yaml.safe_load((ROOT / "config/demo.yaml").read_text()))


def published(name: str) -> Callable[[Path, Path], Config]:
    """A data set of the registry."""

    def write(mirror: Path, folder: Path) -> Config:
        command = [sys.executable, "-m", "latentomics.io.datasets", name, "--to", str(folder)]
        subprocess.run(command, env={**os.environ, MIRROR: str(mirror)}, check=True)
        return dict(yaml.safe_load((folder / "config/config.yaml").read_text()))

    return write


def of_pbmc3k(shares: Sequence[float], **config: Any) -> Callable[[Path, Path], Config]:
    """Samples of these shares of pbmc3k's cells; above one, every cell so often, its counts thinned at random."""

    def write(mirror: Path, folder: Path) -> Config:
        import scanpy as sc

        shutil.unpack_archive(mirror / "pbmc3k/pbmc3k_filtered_gene_bc_matrices.tar.gz", folder / "pbmc3k")
        (matrix,) = (folder / "pbmc3k").rglob("matrix.mtx")
        cells, rng = sc.read_10x_mtx(matrix.parent, var_names="gene_ids"), np.random.default_rng(0)
        names = [f"sample{i}" for i in range(len(shares))]
        for name, share in zip(names, shares, strict=True):
            counts = cells.X[np.sort(rng.permutation(np.arange(round(cells.n_obs * share)) % cells.n_obs))]
            if share > 1:
                counts.data = rng.binomial(counts.data.astype(int), 0.9)
                counts.eliminate_zeros()
            obs = pd.DataFrame(index=[f"cell{i}" for i in range(counts.shape[0])])
            counts = counts.astype(np.float32)
            ad.AnnData(counts, obs=obs, var=cells.var[["gene_symbols"]]).write_h5ad(folder / f"{name}.h5ad")
        write_sheet(folder, [{"sample": n, "assay": "scrna", "path": f"{n}.h5ad", "batch": n} for n in names])
        return {"samples": "samples.tsv", **config}

    return write


def raw_droplets(ambient: str) -> Callable[[Path, Path], Config]:
    """Droplets of mouse brain, most of them empty."""

    def write(mirror: Path, folder: Path) -> Config:
        path = mirror / "mbrain_raw/raw_feature_bc_matrix"
        write_sheet(folder, [{"sample": "brain", "assay": "scrna", "path": str(path), "format": "10x_dir"}])
        return {
            "samples": "samples.tsv",
            "ambient": {"method": ambient, "cellbender": {"epochs": 5}},
            "doublets": {"methods": ["scrublet", "solo"]},
            **SHORT,
        }

    return write


def cells_from_reads(cells: int) -> Callable[[Path, Path], Config]:
    """Simulated libraries of 10x reads."""

    def write(mirror: Path, folder: Path) -> Config:
        params = LibraryParams(cells=cells, empties=10 * cells, whitelist=max(25 * cells, 2000))
        write_files(simulate_library(params).files, folder)
        rows = [
            {"sample": n, "assay": "scrna", "path": f"{n}_R1.fastq.gz", "path_2": f"{n}_R2.fastq.gz"}
            for n in params.samples
        ]
        write_sheet(folder, rows)
        reference = {"genome": "genome.fa.gz", "annotation": "genes.gtf.gz", "whitelist": "whitelist.txt"}
        return {"samples": "samples.tsv", "quantify": {"technology": "10xv2", **reference}, **SHORT}

    return write


def metagenomes(profiler: str, depths: Sequence[float]) -> Callable[[Path, Path], Config]:
    """Simulated reads of 15 genomes at multiples of their depths, a sample each."""

    def write(mirror: Path, folder: Path) -> Config:
        source = mirror / "kmcp_15genomes"
        genomes = {g.name: g.path for g in read_genomes(source / "refs", source / "taxonomy.tsv")}
        depth = pd.read_csv(source / "mock.depth.tsv", sep="\t").set_index("id")["depth"]
        rows = []
        for i, factor in enumerate(depths):
            name = f"mock{i}"
            simulate_reads(genomes, (depth * factor).to_dict(), folder / name, seed=i)
            paths = {key: f"{name}/reads_{m}.fastq.gz" for m, key in ((1, "path"), (2, "path_2"))}
            rows.append({"sample": name, "assay": "metagenome", **paths})
        write_sheet(folder, rows)
        database = {"name": "fifteen", "profiler": profiler, "path": source / "refs"}
        listed = pd.DataFrame([{**database, "lineages": source / "taxonomy.tsv"}])
        listed.to_csv(folder / "databases.tsv", sep="\t", index=False)
        hosts = [str(next(iter(genomes.values())))]
        return {
            "samples": "samples.tsv",
            "profile": {"databases": "databases.tsv"},
            "reads": {"hosts": hosts},
            **SHORT,
        }

    return write


def cohort(name: str) -> Callable[[Path, Path], Config]:
    """A published table of taxa in gut metagenomes, and the disease to predict."""

    def write(mirror: Path, folder: Path) -> Config:
        path = mirror / f"taxa_cohorts/abundance_{name}.txt.gz"
        row = {"sample": name, "assay": "metagenome", "path": str(path), "format": "metaphlan"}
        write_sheet(folder, [{**row, "condition": "obs:disease"}])
        return {"samples": "samples.tsv", "prediction": {"target": "condition"}, **SHORT}

    return write


def read_classifiers(name: str, **changes: Any) -> Callable[[Path, Path], Config]:
    """A study of `read_classifiers.py`, its networks trained briefly."""

    def write(mirror: Path, folder: Path) -> Config:
        write_classifiers(name, mirror, folder, fit=FEW_EPOCHS, **changes)
        return dict(yaml.safe_load((folder / "config/config.yaml").read_text()))

    return write


def classified(depths: Sequence[float]) -> Callable[[Path, Path], Config]:
    """Read classifiers trained to the end, with a learning curve, and metagenomes whose reads they classify."""

    def write(mirror: Path, folder: Path) -> Config:
        config = metagenomes("kraken2", depths)(mirror, folder)
        del config["embeddings"]
        write_classifiers("origin", mirror, folder, curve=[0.5], attributed_reads=50)
        return config | {"classifier": yaml.safe_load((folder / "config/config.yaml").read_text())["classifier"]}

    return write


#: Cheap ones first: an interrupted run leaves the most.
STUDIES: dict[str, Study] = {
    "demo": Study(demo),
    "sc_mixology": Study(published("sc_mixology")),
    "pbmc3k": Study(published("pbmc3k")),
    "pbmc_3chemistries": Study(published("pbmc_3chemistries")),
    "pbmc3k_parts": Study(of_pbmc3k((0.25, 0.5), **SHORT), short=True),
    "brain_decontx": Study(raw_droplets("decontx"), short=True),
    "cohort_T2D": Study(cohort("T2D"), short=True),
    "cohort_IBD": Study(cohort("IBD"), short=True),
    "cell_reads": Study(cells_from_reads(100), short=True),
    "cell_reads_2000": Study(cells_from_reads(2000), short=True),
    "metagenomes_sourmash": Study(metagenomes("sourmash", (0.1, 0.3, 1, 3)), short=True),
    "metagenomes_kraken2": Study(metagenomes("kraken2", (0.1, 0.3, 1, 3)), short=True),
    "read_origin": Study(read_classifiers("origin", attributed_reads=50), short=True),
    "read_origin_trained": Study(classified((0.02, 0.05, 0.1, 0.2))),
    "read_genus": Study(read_classifiers("genus", curve=[0.1]), short=True),
    "pbmc3k_8": Study(of_pbmc3k((4, 4), **SHORT), short=True),
    "brain_cellbender": Study(raw_droplets("cellbender"), short=True),
}


def write_sheet(folder: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(folder / "samples.tsv", sep="\t", index=False)


def write_study(name: str, mirror: Path, folder: Path) -> None:
    """A study's inputs, and ``config/config.yaml``; a folder of that name is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "config").mkdir(parents=True)
    config = STUDIES[name].write(mirror.absolute(), folder.absolute())
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
