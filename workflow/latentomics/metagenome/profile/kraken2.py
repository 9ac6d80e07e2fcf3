"""Kraken2: reads assigned to the lowest common ancestor of the genomes that hold their k-mers (Wood et al. 2019).

All samples go through one process, so that the database is loaded once. Reads at a node above the species are shared out
by how often reads of each genome end at each node, learned from error-free reads tiled over the genomes when the
database is built: the distribution of Bracken (Lu et al. 2017, PeerJ Computer Science 3:e104), here in the mixture model
of :mod:`~latentomics.metagenome.profile.em` in place of Bracken's single pass.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from latentomics.config.base import Section
from latentomics.metagenome.profile.evidence import Markers, Observations, taxon_of
from latentomics.metagenome.profile.genomes import Genome, auto_scaled, sequences, tiles
from latentomics.metagenome.profile.kraken2_run import MARKER_KSIZE, Assigned, assign, environment, run
from latentomics.metagenome.profile.kraken2_taxonomy import read_taxonomy, write_taxonomy
from latentomics.metagenome.profile.reads import fragments
from latentomics.metagenome.profile.sketch import locate, merge, sketches
from latentomics.problems import InputError, Problem

TITLE = "Kraken2"
#: A database given by path brings its lineages.
OWN_TAXONOMY = True
SLOW_TO_LOAD = True
#: Kinds of fragments, each with a distribution of its own.
_KINDS = ("reads", "pairs")
#: Read lengths within this factor of the tiled one are taken for alike.
_ALIKE = 1.25


class Params(Section):
    confidence: float = Field(
        0.0, ge=0, le=1, description="Share of a read's k-mers that must support its node (fraction)."
    )
    minimum_hit_groups: int = Field(2, ge=1, description="Distinct minimisers that a read must share with its node.")
    read_length: int = Field(150, ge=35, le=1000, description="Length of the reads tiled over the genomes (bases).")
    fragment_length: int = Field(350, ge=35, le=5000, description="Length of the tiled pairs' fragments (bases).")


def missing() -> str | None:
    """Why Kraken2 cannot run here, or None."""
    absent = [tool for tool in ("kraken2", "kraken2-build") if shutil.which(tool) is None]
    if not absent:
        return None
    return (
        f"{', '.join(absent)} not found: install Kraken2 (`conda install -c bioconda kraken2`, `apt install kraken2`)."
    )


def version() -> str:
    """Version of Kraken2."""
    text = subprocess.run([_tool("kraken2"), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\S+)", text)
    return found[1] if found else "unknown"


def is_database(path: Path) -> bool:
    """Whether a folder holds a Kraken2 database."""
    return (path / "hash.k2d").is_file()


def build(genomes: Sequence[Genome], folder: Path, params: Params, threads: int) -> None:
    """Build a Kraken2 database in ``folder`` and learn where reads of each genome end.

    Every genome is a node of its own below its species, so that Kraken2 tells genomes of one species apart.

    Raises
    ------
    InputError
        If a genome cannot be read or kraken2-build fails, with what it said.
    """
    # kraken2-build changes the working directory.
    folder = folder.absolute()
    nodes, leaves = write_taxonomy(genomes, folder / "taxonomy")
    library = folder / "library.fna"
    lengths = np.zeros(len(genomes))
    with library.open("w") as stream:
        for index, genome in enumerate(genomes):
            for number, sequence in enumerate(sequences(genome.path)):
                stream.write(f">genome{index}_{number}|kraken:taxid|{leaves[index]}\n{sequence}\n")
                lengths[index] += len(sequence)
    # Low complexity is masked in the reads by their quality control, not here, where it needs one more program.
    _call([_tool("kraken2-build"), "--db", str(folder), "--no-masking", "--add-to-library", str(library)])
    library.unlink()
    _call([_tool("kraken2-build"), "--db", str(folder), "--build", "--threads", str(threads)], threads)
    for left_over in (folder / "library", folder / "taxonomy"):
        shutil.rmtree(left_over)
    for file in ("seqid2taxid.map", "unmapped.txt", "estimated_capacity"):
        (folder / file).unlink(missing_ok=True)
    nodes.to_csv(folder / "nodes.tsv", sep="\t", index=False)
    scaled = auto_scaled(lengths)
    per_pair = _learn(folder, genomes, nodes, scaled, params, threads)
    pd.DataFrame(
        {
            "genome": [genome.name for genome in genomes],
            "lineage": [genome.lineage for genome in genomes],
            "taxid": leaves,
            "length": lengths,
            "markers_per_pair": per_pair,
            "scaled": scaled,
        }
    ).to_csv(folder / "genomes.tsv", sep="\t", index=False)


def _learn(
    folder: Path, genomes: Sequence[Genome], nodes: pd.DataFrame, scaled: int, params: Params, threads: int
) -> np.ndarray:
    """Where error-free reads of each genome end, and the k-mers of those that end within their species.

    Returns
    -------
    (n_genomes,) float
        Occurrences of marker k-mers in an average pair of each genome.
    """

    from scipy.sparse import csr_matrix, save_npz

    def tiled() -> Iterator[tuple[int, str, int]]:
        for index, genome in enumerate(genomes):
            for sequence in sequences(genome.path):
                both = tiles(sequence, params.read_length, params.fragment_length, max(1, params.read_length // 3))
                for kind, found in enumerate(both):
                    for tile in found:
                        yield index * len(_KINDS) + kind, tile, 1

    at_species = _taxa_of(nodes)
    taxon_of_genome = [taxon_of(genome.lineage) for genome in genomes]
    places = {taxid: place for place, taxid in enumerate(nodes["taxid"])}
    ends: Counter[tuple[int, int, int]] = Counter()
    n_pairs = np.zeros(len(genomes))
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in genomes]

    def within_species() -> Iterator[tuple[int, str]]:
        for stream, taxid, tile, _ in run(folder, tiled(), params.confidence, params.minimum_hit_groups, threads):
            genome, kind = divmod(stream, len(_KINDS))
            n_pairs[genome] += _KINDS[kind] == "pairs"
            if taxid in places:
                ends[kind, places[taxid], genome] += 1
                if _KINDS[kind] == "pairs" and at_species.get(taxid) == taxon_of_genome[genome]:
                    yield genome, tile

    # Fragments leave Kraken2 in the order they entered, genome by genome.
    for genome, group in groupby(within_species(), key=lambda pair: pair[0]):
        parts[genome] += sketches((tile for _, tile in group), MARKER_KSIZE, scaled)
    for kind, name in enumerate(_KINDS):
        cells = np.array([(row, column, n) for (k, row, column), n in sorted(ends.items()) if k == kind], dtype=int)
        rows, columns, numbers = cells.reshape(-1, 3).T
        matrix = csr_matrix((numbers.astype(float), (rows, columns)), shape=(len(nodes), len(genomes)))
        # Reads that end nowhere count as unclassified: what is classified is what is shared out.
        save_npz(folder / f"{name}.npz", csr_matrix(matrix.multiply(1 / np.maximum(matrix.sum(axis=0).A1, 1))))
    return _save_markers(folder, [merge(found) for found in parts], n_pairs, taxon_of_genome)


def _save_markers(
    folder: Path,
    sketched: Sequence[tuple[np.ndarray, np.ndarray]],
    n_pairs: np.ndarray,
    taxon_of_genome: Sequence[str],
) -> np.ndarray:
    taxa = np.unique(list(taxon_of_genome))
    owner = np.repeat(np.searchsorted(taxa, taxon_of_genome), [len(hashes) for hashes, _ in sketched])
    pairs = np.unique(np.column_stack([np.concatenate([h for h, _ in sketched]), owner.astype(np.uint64)]), axis=0)
    hashes, first, holders = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    markers = hashes[holders == 1]
    np.save(folder / "markers.npy", markers)
    np.save(folder / "marker_taxa.npy", pairs[first[holders == 1], 1].astype(np.int64))
    return np.array(
        [
            occurrences[locate(found, markers)[0]].sum() / max(n, 1)
            for (found, occurrences), n in zip(sketched, n_pairs, strict=True)
        ]
    )


def adopt(path: Path, lineages: Path | None, folder: Path, params: Params) -> None:
    """Prepare an existing Kraken2 database: read its taxonomy, link its files.

    Without the genomes there is nothing to learn where their reads end: reads above the species stay unassigned.
    """
    nodes = read_taxonomy(path / "taxo.k2d")
    if not _taxa_of(nodes):
        raise InputError(Problem(str(path), "the database names no species", "build it again, or give its genomes."))
    for name in ("hash.k2d", "opts.k2d", "taxo.k2d"):
        (folder / name).symlink_to((path / name).resolve())
    nodes.to_csv(folder / "nodes.tsv", sep="\t", index=False)


def observe(reads: Mapping[str, Path], database: Path, params: Params, threads: int) -> Iterator[Observations]:
    """Each sample's reads per node, and the mixture they come from; the database is loaded once for all samples.

    Parameters
    ----------
    reads
        Folder of the analysis-ready reads by sample.
    database
        Folder that :func:`build` or :func:`adopt` wrote.
    """
    nodes = pd.read_csv(database / "nodes.tsv", sep="\t", dtype={"lineage": str, "taxon": str}, keep_default_na=False)
    at_species = _taxa_of(nodes)
    built = (database / "genomes.tsv").exists()
    markers = np.load(database / "markers.npy") if built else np.empty(0, np.uint64)
    genomes = (
        pd.read_csv(database / "genomes.tsv", sep="\t", dtype={"genome": str, "lineage": str})
        if built
        else _species_as_genomes(nodes)
    )
    scaled = int(genomes["scaled"].iloc[0]) if built else 0

    def all_reads() -> Iterator[tuple[int, str, int]]:
        for index, (sample, folder) in enumerate(reads.items()):
            for sequence, n_reads in fragments(sample, folder):
                yield index, sequence, n_reads

    assigned = assign(
        run(database, all_reads(), params.confidence, params.minimum_hit_groups, threads),
        len(reads),
        markers,
        scaled,
        set(at_species),
    )
    for sample, found in zip(reads, assigned, strict=True):
        yield _observations(sample, found, database, nodes, at_species, genomes, built, params)


def _observations(
    sample: str,
    found: Assigned,
    database: Path,
    nodes: pd.DataFrame,
    at_species: Mapping[int, str],
    genomes: pd.DataFrame,
    built: bool,
    params: Params,
) -> Observations:
    from scipy.sparse import csr_matrix, load_npz

    notes: list[str] = []
    counts = np.array([found.nodes.get(taxid, 0) for taxid in nodes["taxid"]], dtype=float)
    reads_per_fragment = found.reads / max(found.fragments, 1)
    plain: dict[str, float] = {}
    for taxid, count in zip(nodes["taxid"], counts, strict=True):
        if count and taxid in at_species:
            plain[at_species[taxid]] = plain.get(at_species[taxid], 0.0) + count
    taxa = np.array([taxon_of(text) for text in genomes["lineage"]], dtype=object)
    detected = np.flatnonzero(np.isin(taxa, sorted(plain)))
    if built:
        likelihood = csr_matrix(load_npz(database / f"{_KINDS[int(reads_per_fragment > 1.5)]}.npz"))
        length = found.bases / max(found.reads, 1)
        if found.reads and not 1 / _ALIKE < length / params.read_length < _ALIKE:
            notes.append(
                f"reads are {length:.0f} bases long, those tiled over the genomes {params.read_length}: set "
                "read_length in the database sheet"
            )
    else:
        notes.append("no genomes given with the database: reads above the species are not re-estimated")
        own = {taxon: place for place, taxon in enumerate(taxa)}
        cells = [(row, own[at_species[t]]) for row, t in enumerate(nodes["taxid"]) if t in at_species]
        rows, columns = np.array(cells, dtype=int).reshape(-1, 2).T
        likelihood = csr_matrix((np.ones(len(cells)), (rows, columns)), shape=(len(nodes), len(taxa)))
        # Every node of a species stands for it alone, whichever it is: one class per species.
        likelihood = csr_matrix(likelihood.multiply(1 / np.maximum(np.asarray(likelihood.sum(axis=0)), 1)))
    observed = counts > 0
    chosen = genomes.iloc[detected]
    return Observations(
        sample,
        found.reads,
        float(counts.sum()) * reads_per_fragment,
        chosen["lineage"].tolist(),
        chosen["length"].to_numpy(dtype=float),
        counts[observed],
        csr_matrix(likelihood[np.flatnonzero(observed)][:, detected]),
        plain,
        _markers(found, database, genomes, chosen) if built else None,
        notes,
    )


def _markers(found: Assigned, database: Path, genomes: pd.DataFrame, detected: pd.DataFrame) -> Markers:
    owners = np.load(database / "marker_taxa.npy")
    taxa = np.unique([taxon_of(text) for text in genomes["lineage"]]).tolist()
    seen, available = (np.bincount(own, minlength=len(taxa)).tolist() for own in (owners[found.markers], owners))
    per_read = detected["markers_per_pair"].to_numpy(dtype=float) / 2
    return Markers(dict(zip(taxa, seen, strict=True)), dict(zip(taxa, available, strict=True)), per_read)


def _taxa_of(nodes: pd.DataFrame) -> dict[int, str]:
    """Taxon of each node whose reads count for one."""
    pairs = zip(nodes["taxid"].tolist(), nodes["taxon"], strict=True)
    return {taxid: taxon for taxid, taxon in pairs if taxon}


def _species_as_genomes(nodes: pd.DataFrame) -> pd.DataFrame:
    taxa = sorted(set(_taxa_of(nodes).values()))
    return pd.DataFrame({"genome": taxa, "lineage": taxa, "length": np.nan})


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise InputError(Problem(name, "program not found", str(missing())))
    return found


def _call(command: list[str], threads: int = 1) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment(threads))
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise InputError(
            Problem(
                Path(command[0]).name,
                f"failed with status {done.returncode}: {said}",
                "is there room in the results folder?",
            )
        )
