"""Files of a simulated metagenomic study: reads, reference genomes, the database sheet and the truth."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.simulate.communities import Communities, MetagenomeParams, draw_communities
from latentomics.simulate.files import write_files
from latentomics.simulate.genomes import HOST, SPIKE_IN, Genomes, draw_genomes, fasta
from latentomics.simulate.reads import ReadPairs, darken, fastq, simulate_pairs, simulate_simple

#: Folder of the metagenomic files within the study.
FOLDER = "metagenome"
#: Origin of the pairs of low complexity.
SIMPLE = "simulated_simple"


def write_metagenomes(folder: Path, params: MetagenomeParams | None = None) -> tuple[list[dict[str, str]], list[Path]]:
    """Simulate and write a metagenomic study below ``folder``, leaving files whose bytes are right untouched.

    Returns
    -------
    rows, written
        Rows of the sample sheet, their paths relative to ``folder``; and the files that were written. The sheet itself
        is left to the caller, who may have rows of another assay.
    """
    files, rows = render_metagenomes(params)
    return rows, write_files(files, folder)


def render_metagenomes(params: MetagenomeParams | None = None) -> tuple[dict[str, bytes], list[dict[str, str]]]:
    """Render a metagenomic study.

    Returns
    -------
    files, rows
        Bytes by path relative to the study's folder, and the rows of the sample sheet. Below ``metagenome/``:

        ``reads/*.fastq.gz``: named ``{origin}:{number}:{fragment length}``, the same in both mates. The first sample is
        in two runs (two rows), the last one before the controls is single-end.
        ``genomes/{genome}.fa.gz``, ``host.fa.gz``, ``phix.fa.gz``.
        ``lineages.tsv``: genome, lineage. ``databases.tsv``: name, profiler, path, lineages, parameters.
        ``truth.tsv``: per sample and genome ``abundance`` (share of the cells), ``read_share`` (expected share of the
        reads of microbes) and ``pairs`` (those written, copies included).
        ``origins.tsv``: per sample and origin (genomes, host, spike-in, low complexity) ``pairs`` and, of these,
        ``copies``. ``taxa.tsv``: role of each genome and factor of the second condition on it.
    """
    params = params or MetagenomeParams()
    # A stream of its own for each part: more reads of one sample change no other sample and no genome.
    genomes = draw_genomes(params.genomes, np.random.default_rng([params.seed, 0]))
    communities = draw_communities(params, np.random.default_rng([params.seed, 1]))
    size = np.array([genomes.species[name].size for name in communities.cells.columns])
    read_share = communities.cells * size
    read_share = read_share.div(read_share.sum(axis=1), axis=0)

    files = {f"genomes/{name}.fa.gz": fasta(name, sequence) for name, sequence in genomes.species.items()}
    files |= {"host.fa.gz": fasta(HOST, genomes.host), "phix.fa.gz": fasta(SPIKE_IN, genomes.spike_in)}
    rows, origins = [], []
    names = list(communities.samples.index)
    single = communities.samples.index[~communities.samples["control"]][-1]
    for i, sample in enumerate(names):
        rng = np.random.default_rng([params.seed, 2, i])
        pairs, read_names, found = _draw_library(sample, read_share.loc[sample], communities, genomes, params, rng)
        origins.append(found)
        runs = 2 if i == 0 else 1
        for run, part in enumerate(np.array_split(np.arange(len(read_names)), runs), 1):
            stem = f"reads/{sample}" + (f"_run{run}" if runs > 1 else "")
            mates = [f"{stem}.fastq.gz"] if sample == single else [f"{stem}_R1.fastq.gz", f"{stem}_R2.fastq.gz"]
            for mate, letters, quality in zip(mates, pairs[:2], pairs[2:4], strict=False):
                files[mate] = _gzip(fastq([read_names[j] for j in part], letters[part], quality[part]))
            rows.append(_sheet_row(communities.samples.loc[sample], sample, mates))
    every = pd.concat(origins, ignore_index=True)
    files |= {name: _tsv(table) for name, table in _tables(communities, read_share, every)}
    return {f"{FOLDER}/{name}": data for name, data in files.items()}, rows


def _draw_library(
    sample: str,
    read_share: pd.Series,
    communities: Communities,
    genomes: Genomes,
    params: MetagenomeParams,
    rng: np.random.Generator,
) -> tuple[ReadPairs, list[bytes], pd.DataFrame]:
    """Pairs of one library in random order, their names, and how many there are of each origin."""
    described = communities.samples.loc[sample]
    other = {
        HOST: described["host_share"],
        SPIKE_IN: params.spike_share * described["spiked"],
        SIMPLE: params.simple_share,
    }
    share = np.append((1 - sum(other.values())) * read_share.to_numpy(), list(other.values()))
    sequences = {**genomes.species, HOST: genomes.host, SPIKE_IN: genomes.spike_in}
    origins = [*read_share.index, *other]

    n_copies = rng.binomial(described["pairs"], params.copy_share)
    counts = rng.multinomial(described["pairs"] - n_copies, share / share.sum())
    shape = {"length": params.length, "error_rate": params.error_rate}
    insert = {"insert_mean": params.insert_mean, "insert_sd": params.insert_sd}
    blocks = [
        simulate_simple(n, rng, **shape)
        if name == SIMPLE
        else simulate_pairs(sequences[name], n, rng, **shape, **insert)
        for name, n in zip(origins, counts.tolist(), strict=True)
    ]
    pairs = ReadPairs(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
    pairs = pairs._replace(
        reads_1=darken(pairs.reads_1, params.dark_share, rng), reads_2=darken(pairs.reads_2, params.dark_share, rng)
    )
    origin = np.repeat(np.arange(len(origins)), counts)
    copied = rng.integers(len(origin), size=n_copies)
    order = rng.permutation(np.append(np.arange(len(origin)), copied))
    pairs = ReadPairs(*(column[order] for column in pairs))
    names = [
        f"{origins[k]}:{number}:{length}".encode()
        for number, (k, length) in enumerate(zip(origin[order].tolist(), pairs.insert.tolist(), strict=True), 1)
    ]
    n_copied = np.bincount(origin[copied], minlength=len(origins))
    table = pd.DataFrame({"sample": sample, "origin": origins, "pairs": counts + n_copied, "copies": n_copied})
    return pairs, names, table


def _sheet_row(described: pd.Series, sample: str, mates: list[str]) -> dict[str, str]:
    paths = [f"{FOLDER}/{mate}" for mate in mates]
    return {
        "sample": sample,
        "assay": "metagenome",
        "path": paths[0],
        "path_2": paths[1] if len(paths) == 2 else "",
        "batch": described["batch"],
        "condition": described["condition"],
        "control": "yes" if described["control"] else "",
        "label": described["label"],
    }


def _tables(
    communities: Communities, read_share: pd.DataFrame, origins: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame]]:
    lineage = communities.taxa["lineage"]
    yield "lineages.tsv", lineage.reset_index()
    database = {
        "name": "demo",
        "profiler": "sourmash",
        "path": "genomes/",
        "lineages": "lineages.tsv",
        "parameters": "",
    }
    yield "databases.tsv", pd.DataFrame([database])
    samples, genomes = communities.cells.index, communities.cells.columns
    drawn = origins.loc[origins["origin"].isin(genomes), "pairs"]  # in the same order: by sample, then genome
    truth = pd.DataFrame({"sample": samples.repeat(len(genomes)), "genome": list(genomes) * len(samples)})
    truth["lineage"] = truth["genome"].map(lineage)
    for column, table in {"abundance": communities.cells, "read_share": read_share, "pairs": drawn}.items():
        truth[column] = table.to_numpy().ravel()
    yield "truth.tsv", truth
    yield "origins.tsv", origins
    yield "taxa.tsv", communities.taxa.reset_index()


def _gzip(data: bytes) -> bytes:
    # mtime=0: no time of day in the bytes. Level 5 takes twice the time of 4 and saves 3 % of the size.
    return gzip.compress(data, compresslevel=4, mtime=0)


def _tsv(table: pd.DataFrame) -> bytes:
    return table.to_csv(sep="\t", index=False, lineterminator="\n", float_format="%.6g").encode()
