"""sourmash: genomes found by the sketched k-mers that a sample shares with them (Brown and Irber 2016, JOSS 1:27).

``gather`` finds the smallest set of genomes that covers the sample's known k-mers (Irber et al. 2022). It gives every
k-mer to the first genome that holds it; here the k-mers shared by detected genomes form equivalence classes, whose
counts the mixture model of :mod:`~latentomics.metagenome.profile.em` divides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from latentomics.config.base import Section
from latentomics.config.databases import lineage_for, read_lineages
from latentomics.metagenome.profile.evidence import Markers, Observations, taxon_of
from latentomics.metagenome.profile.genomes import Genome, auto_scaled, sequences
from latentomics.metagenome.profile.reads import fragments
from latentomics.metagenome.profile.sketch import locate, merge, sketches
from latentomics.problems import InputError, Problem

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TITLE = "sourmash"
#: A database given by path needs a table of lineages as well.
OWN_TAXONOMY = False
SLOW_TO_LOAD = False
_ENDINGS = (".zip", ".sig", ".sig.gz")
#: Seed of the random keys whose sum names the set of genomes that hold a k-mer.
_KEY_SEED = 20110617


class Params(Section):
    ksize: Literal[21, 31, 51] = Field(31, description="K-mer length (bases).")
    scaled: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="One in so many k-mers is sketched. `null`: such that the smallest genome has 20,000, at most 1000; a "
        "given database keeps its own.",
    )
    min_overlap: int = Field(
        5, ge=1, description="Sketched k-mers that a genome must explain beyond the genomes found before it."
    )


def missing() -> str | None:
    """None: sourmash is a dependency of the package."""
    return None


def version() -> str:
    """Version of sourmash."""
    import sourmash

    return str(sourmash.VERSION)


def is_database(path: Path) -> bool:
    """Whether a path is a collection of sourmash signatures."""
    return path.is_file() and path.name.endswith(_ENDINGS)


def build(genomes: Sequence[Genome], folder: Path, params: Params, threads: int) -> None:
    """Sketch genomes into ``folder``. One thread: sketching 1 Gb takes about a minute."""
    lengths = np.array([sum(map(len, sequences(genome.path))) for genome in genomes], dtype=float)
    scaled = params.scaled or auto_scaled(lengths)
    found = [merge(list(sketches(sequences(genome.path), params.ksize, scaled))) for genome in genomes]
    table = pd.DataFrame({"genome": [g.name for g in genomes], "lineage": [g.lineage for g in genomes]})
    _write(folder, table.assign(length=lengths), found, scaled)


def adopt(path: Path, lineages: Path, folder: Path, params: Params) -> None:
    """Prepare an existing collection of signatures (``.zip`` or ``.sig``) with its table of lineages.

    Raises
    ------
    InputError
        If it holds no DNA signature of the wanted k-mer length, or signatures without a lineage.
    """
    import sourmash

    known, problems = read_lineages(lineages)
    hint = "give a sourmash collection (.zip, .sig) of scaled DNA signatures."
    try:
        index = sourmash.load_file_as_index(str(path))
        signatures = list(index.select(ksize=params.ksize, moltype="DNA", scaled=True).signatures())
    except (ValueError, OSError, EOFError) as error:
        raise InputError(Problem(str(path), f"not a readable signature collection ({error})", hint)) from error
    if not signatures:
        raise InputError(Problem(str(path), f"no scaled DNA signature of k-mer length {params.ksize}", hint))
    scaled = max(signature.minhash.scaled for signature in signatures)
    rows, found = [], []
    for signature in sorted(signatures, key=lambda s: (s.name, s.md5sum())):
        name = signature.name.split(" ")[0] or signature.filename or signature.md5sum()
        text = lineage_for(name, known)
        if text is None:
            problems.append(
                Problem(str(path), "signature without a lineage", f"add a line for it to {lineages}.", value=name)
            )
            continue
        sketch = signature.minhash.downsample(scaled=scaled)
        values = dict(sketch.hashes)
        hashes = np.fromiter(values.keys(), np.uint64, len(values))
        counts = np.fromiter(values.values(), np.int64, len(values)) if sketch.track_abundance else np.ones(len(values))
        order = np.argsort(hashes)
        found.append((hashes[order], counts[order].astype(np.int64)))
        rows.append((name, text, float(counts.sum()) * scaled))
    if problems:
        raise InputError(problems)
    _write(folder, pd.DataFrame(rows, columns=["genome", "lineage", "length"]), found, scaled)


def _write(folder: Path, table: pd.DataFrame, found: list[tuple[np.ndarray, np.ndarray]], scaled: int) -> None:
    """Genomes as rows of a sparse matrix over the sorted distinct hashes, in files that can be memory-mapped."""
    hashes, codes = np.unique(np.concatenate([part[0] for part in found]), return_inverse=True)
    table.assign(sketched=[len(part[0]) for part in found], scaled=scaled).to_csv(
        folder / "genomes.tsv", sep="\t", index=False
    )
    np.save(folder / "hashes.npy", hashes)
    np.save(folder / "codes.npy", codes.astype(np.int64))
    np.save(folder / "occurrences.npy", np.concatenate([part[1] for part in found]).astype(np.int32))


class _Database:
    """A prepared database; ``codes[start:end]`` of a genome are the places of its k-mers in ``hashes``."""

    def __init__(self, folder: Path):
        self.genomes = pd.read_csv(folder / "genomes.tsv", sep="\t", dtype={"genome": str, "lineage": str})
        self.scaled = int(self.genomes["scaled"].iloc[0])
        self.hashes, self.codes, self.occurrences = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hashes", "codes", "occurrences")
        )
        self.ends = np.cumsum(self.genomes["sketched"].to_numpy())

    def rows(self, genome: int) -> slice:
        return slice(self.ends[genome - 1] if genome else 0, self.ends[genome])


def observe(reads: Mapping[str, Path], database: Path, params: Params, threads: int) -> Iterator[Observations]:
    """Each sample's k-mers of the database's genomes. The k-mers of a sample that no genome holds are only counted.

    Parameters
    ----------
    reads
        Folder of the analysis-ready reads by sample.
    database
        Folder that :func:`build` or :func:`adopt` wrote.
    """
    prepared = _Database(database)
    for sample, folder in reads.items():
        yield _observe(sample, folder, prepared, params)


def _observe(sample: str, folder: Path, database: _Database, params: Params) -> Observations:
    total_reads = 0

    def counted() -> Iterator[str]:
        nonlocal total_reads
        for sequence, n_reads in fragments(sample, folder):
            total_reads += n_reads
            yield sequence

    seen = np.zeros(len(database.hashes), np.int64)
    total_kmers = 0
    for hashes, occurrences in sketches(counted(), params.ksize, database.scaled):
        found, places = locate(hashes, database.hashes)
        seen[places] += occurrences[found]
        total_kmers += int(occurrences.sum())
    shared = np.array([np.count_nonzero(seen[database.codes[database.rows(g)]]) for g in range(len(database.genomes))])
    candidates = np.flatnonzero(shared >= params.min_overlap)
    weights = gather(database, seen, candidates, params)
    genomes = sorted(weights)
    counts, likelihood, members, distinct, possible = classes(database, seen, genomes)
    lineages = [str(database.genomes["lineage"].iloc[g]) for g in genomes]
    classified = total_reads * float(counts.sum() / total_kmers) if total_kmers else 0.0
    taxa = [taxon_of(text) for text in lineages]
    plain: dict[str, float] = {}
    for genome, taxon in zip(genomes, taxa, strict=True):
        plain[taxon] = plain.get(taxon, 0.0) + weights[genome]
    return Observations(
        sample,
        total_reads,
        classified,
        lineages,
        database.genomes["length"].to_numpy(dtype=float)[genomes],
        counts,
        likelihood,
        plain,
        _markers(taxa, members, distinct, possible, likelihood, counts.sum() / classified if classified else 0.0),
        ["reads are estimated from k-mers; k-mers with a sequencing error count as unclassified"],
    )


def gather(database: _Database, seen: np.ndarray, candidates: np.ndarray, params: Params) -> dict[int, float]:
    """Genomes of the smallest set that covers the k-mers seen, and the k-mers (with repeats) each is given."""
    from sourmash import MinHash, SourmashSignature
    from sourmash.index import LinearIndex
    from sourmash.search import GatherDatabases

    def signature(hashes: np.ndarray, name: str) -> SourmashSignature:
        sketch = MinHash(0, params.ksize, scaled=database.scaled)
        sketch.add_many(hashes.tolist())
        return SourmashSignature(sketch, name=name)

    if not len(candidates):
        return {}
    index = LinearIndex(
        [signature(database.hashes[database.codes[database.rows(g)]], str(g)) for g in candidates.tolist()]
    )
    places = np.flatnonzero(seen)
    query = MinHash(0, params.ksize, scaled=database.scaled, track_abundance=True)
    query.set_abundances(dict(zip(database.hashes[places].tolist(), seen[places].tolist(), strict=True)))
    sample = SourmashSignature(query, name="sample")
    threshold = params.min_overlap * database.scaled
    flat = SourmashSignature(query.flatten(), name="sample").to_frozen()
    counter = index.counter_gather(flat, threshold)
    total = int(seen.sum())
    return {
        int(found.match.name): found.f_unique_weighted * total
        for found in GatherDatabases(sample, [counter], threshold_bp=threshold)
    }


def classes(
    database: _Database, seen: np.ndarray, genomes: Sequence[int]
) -> tuple[np.ndarray, csr_matrix, csr_matrix, np.ndarray, np.ndarray]:
    """Equivalence classes: k-mers held by the same detected genomes.

    Returns
    -------
    counts : (n_classes,) float
        Occurrences of the class's k-mers in the sample.
    likelihood : (n_classes, n_genomes) float
        Share of each genome's k-mers (repeats counted) that belong to the class; columns sum to 1.
    members : (n_classes, n_genomes) bool
    distinct, possible : (n_classes,) int
        Distinct k-mers of the class seen in the sample, and in all.
    """
    from scipy.sparse import csr_matrix

    n_genomes = len(genomes)
    if not n_genomes:
        return np.empty(0), csr_matrix((0, 0)), csr_matrix((0, 0)), np.empty(0, int), np.empty(0, int)
    rows = [database.rows(g) for g in genomes]
    owner = np.repeat(np.arange(n_genomes), [row.stop - row.start for row in rows])
    places, hash_of = np.unique(np.concatenate([database.codes[row] for row in rows]), return_inverse=True)
    repeats = np.concatenate([database.occurrences[row] for row in rows]).astype(float)
    # The sum of the holders' random keys names their set: two sets share a sum once in 2^64.
    keys = np.random.default_rng(_KEY_SEED).integers(0, 2**64, n_genomes, dtype=np.uint64)
    names = np.zeros(len(places), np.uint64)
    np.add.at(names, hash_of, keys[owner])
    _, first, class_of = np.unique(names, return_index=True, return_inverse=True)
    n_classes = len(first)
    occurrences = csr_matrix((repeats, (class_of[hash_of], owner)), shape=(n_classes, n_genomes))
    totals = np.asarray(occurrences.sum(axis=0)).ravel()
    observed = seen[places]
    return (
        np.bincount(class_of, observed, minlength=n_classes).astype(float),
        csr_matrix(occurrences.multiply(1 / totals)),
        occurrences > 0,
        np.bincount(class_of, observed > 0, minlength=n_classes).astype(int),
        np.bincount(class_of, minlength=n_classes),
    )


def _markers(
    taxa: Sequence[str],
    members: csr_matrix,
    distinct: np.ndarray,
    possible: np.ndarray,
    likelihood: csr_matrix,
    kmers_per_read: float,
) -> Markers:
    """K-mers held by detected genomes of one species only."""
    seen: dict[str, int] = {}
    available: dict[str, int] = {}
    per_read = np.zeros(len(taxa))
    of_taxon = np.array(taxa, dtype=object)
    n_members = np.asarray(members.sum(axis=1)).ravel() if len(taxa) else np.empty(0)
    for taxon in sorted(set(taxa)):
        own = of_taxon == taxon
        exclusive = np.asarray(members[:, np.flatnonzero(own)].sum(axis=1)).ravel() == n_members
        seen[taxon] = int(distinct[exclusive].sum())
        available[taxon] = int(possible[exclusive].sum())
        share = np.asarray(likelihood[np.flatnonzero(exclusive)].sum(axis=0)).ravel()
        per_read[own] = share[own] * kmers_per_read
    return Markers(seen, available, per_read)
