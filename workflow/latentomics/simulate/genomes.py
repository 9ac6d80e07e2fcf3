"""Synthetic genomes whose relations are known: species of a lineage, a host and a spike-in.

The root of each phylum is a Markov chain of its own composition. Down the lineage every taxon differs from its parent by
substitutions, so that the species of a genus share most of their k-mers and one pair is nearly identical. With ``d`` the
share of positions that differ, two sequences share about ``(1 - d) ** k`` of their k-mers (Ondov et al. 2016, Genome
Biology 17:132, the binomial form of its equation 1). Each species also carries sequence of its own (accessory genome).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from latentomics.metagenome import lineage as lineages

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
#: 0-3 for A, C, G and T, 4 for any other letter.
CODES = np.full(256, 4, dtype=np.uint8)
CODES[BASES] = np.arange(4)

HOST, SPIKE_IN = "simulated_host", "simulated_phiX"


class Species(NamedTuple):
    """A species of the simulation.

    Attributes
    ----------
    names
        Phylum, class, order, family, genus and epithet. All invented.
    role
        ``driver1``, ``driver2``: common in the first and second group of samples. ``up``, ``down``: more or less of it in
        the second condition. ``common``: neither. ``contaminant``: from reagents.
    """

    names: tuple[str, str, str, str, str, str]
    role: str

    @property
    def genome(self) -> str:
        """Identifier of the genome: file name, contig and origin in read names."""
        return f"{self.names[4]}_{self.names[5]}"

    @property
    def lineage(self) -> str:
        """Lineage in the form of :mod:`latentomics.metagenome.lineage`."""
        ranks = dict(zip(("phylum", "class", "order", "family", "genus"), self.names[:5], strict=True))
        return lineages.join({"domain": "Bacteria", **ranks, "species": f"{self.names[4]} {self.names[5]}"})


_SIMULO = ("Simulota", "Simulobacteria", "Simulobacterales", "Simulobacteraceae")
_TESTELLA = ("Simulota", "Simulobacteria", "Testellales", "Testellaceae", "Testella")
_MARKOV = ("Markovota", "Markovia", "Markovellales", "Markovellaceae")
_MODEL = ("Modelota", "Modelibacteria", "Modelibacterales", "Modelibacteraceae", "Modelibacter")
SPECIES = (
    Species((*_SIMULO, "Simulobacter", "alpha"), "driver1"),
    Species((*_SIMULO, "Simulobacter", "beta"), "up"),
    Species((*_SIMULO, "Simulobacter", "gamma"), "driver2"),
    Species((*_SIMULO, "Parasimulobacter", "delta"), "down"),
    Species((*_TESTELLA, "rapida"), "driver2"),
    Species((*_TESTELLA, "lenta"), "driver1"),
    Species((*_MARKOV, "Markovella", "communis"), "common"),
    Species((*_MARKOV, "Markovella", "ambigua"), "common"),
    Species((*_MARKOV, "Catenella", "longa"), "up"),
    Species((*_MODEL, "aureus"), "driver1"),
    Species((*_MODEL, "albus"), "common"),
    Species(("Modelota", "Modelibacteria", "Priorales", "Priorellaceae", "Priorella", "prima"), "driver2"),
    Species(("Artefactota", "Artefactia", "Aquales", "Aquellaceae", "Aquella", "puri"), "contaminant"),
    Species(("Artefactota", "Artefactia", "Kitales", "Kitellaceae", "Kitella", "reagentis"), "contaminant"),
)
#: The second arose from the first, as *Shigella* from *Escherichia coli*.
CLOSE_PAIR = ("Markovella_communis", "Markovella_ambigua")
#: GC share of each phylum's chain.
_GC = {"Simulota": 0.36, "Markovota": 0.50, "Modelota": 0.60, "Artefactota": 0.66}
_RANKS = ("phylum", "class", "order", "family", "genus")


@dataclass(frozen=True)
class GenomeParams:
    """Sizes and distances of the genomes.

    Attributes
    ----------
    core_length
        Range of the length that the species of a genus share (bases).
    accessory
        Range of the length of a species' own sequence, as a share of the core.
    order
        Order of the Markov chains (bases that the next one depends on).
    class_distance, order_distance, family_distance, genus_distance, species_distance
        Share of positions at which two sisters of that rank differ (fraction).
    close_distance
        The same for the nearly identical pair: 0.01 is an average nucleotide identity (ANI) of 99 %.
    host_length
        Length of the host's genome (bases); about a tenth of it are copies of one repeat.

    Raises
    ------
    ValueError
        When a value is out of range; says which.
    """

    core_length: tuple[int, int] = (60_000, 100_000)
    accessory: tuple[float, float] = (0.03, 0.2)
    order: int = 4
    class_distance: float = 0.3
    order_distance: float = 0.25
    family_distance: float = 0.2
    genus_distance: float = 0.1
    species_distance: float = 0.016
    close_distance: float = 0.01
    host_length: int = 200_000

    def __post_init__(self) -> None:
        distances = [getattr(self, f"{rank}_distance") for rank in (*_RANKS[1:], "species", "close")]
        checks = {
            "core_length must be a range of at least 1000 bases": 1000 <= self.core_length[0] <= self.core_length[1],
            "accessory must be a range of shares between 0 and 1": 0 <= self.accessory[0] <= self.accessory[1] <= 1,
            "order must lie between 1 and 8": 1 <= self.order <= 8,
            "distances must lie between 0 and 0.75": all(0 <= d <= 0.75 for d in distances),
            "host_length must be at least 5000 bases": self.host_length >= 5000,
        }
        failed = [rule for rule, holds in checks.items() if not holds]
        if failed:
            raise ValueError("; ".join(failed))


@dataclass(frozen=True, eq=False)
class Genomes:
    """Sequences by identifier, each a uint8 array of ASCII letters.

    Attributes
    ----------
    species
        Genome of each of :data:`SPECIES`, in that order.
    host, spike_in
        The host's genome and a phiX-like one of 5,386 bases.
    """

    species: dict[str, np.ndarray]
    host: np.ndarray
    spike_in: np.ndarray


def transitions(order: int, gc: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a Markov chain: probabilities of A, C, G, T after each context, (4 ** order, 4); rows sum to 1.

    Dirichlet around the base composition, so that chains of one GC share differ in their k-mers all the same.
    """
    composition = np.array([1 - gc, gc, gc, 1 - gc]) / 2
    return rng.dirichlet(20 * composition, size=4**order)


def markov_sequence(chain: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a sequence from a Markov chain.

    Parameters
    ----------
    chain
        Probabilities of the next base, (4 ** order, 4).
    length
        Bases.

    Returns
    -------
    ndarray
        ASCII letters, (length,) uint8.
    """
    one, two, three = (column.tolist() for column in np.cumsum(chain, axis=1).T[:3])
    last = len(one) - 1
    context = int(rng.integers(len(one)))
    found = bytearray(length)
    # Each base depends on the one before: a plain loop, some 0.2 s per million bases.
    for i, draw in enumerate(rng.random(length).tolist()):
        base = (draw >= one[context]) + (draw >= two[context]) + (draw >= three[context])
        context = (context << 2 | base) & last
        found[i] = base
    return BASES[np.frombuffer(found, dtype=np.uint8)]


def mutate(sequence: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Copy a sequence with a share ``rate`` of its positions substituted by one of the three other bases."""
    sites = np.flatnonzero(rng.random(sequence.size) < rate)
    return substitute(sequence, sites, rng)


def substitute(letters: np.ndarray, sites: np.ndarray | tuple[np.ndarray, ...], rng: np.random.Generator) -> np.ndarray:
    """Copy ``letters`` (uint8 ASCII, any shape) with the bases at ``sites`` changed; letters other than ACGT stay."""
    changed = letters.copy()
    codes = CODES[letters[sites]]
    other = BASES[(codes + rng.integers(1, 4, size=codes.shape, dtype=np.uint8)) % 4]
    changed[sites] = np.where(codes < 4, other, letters[sites])
    return changed


def draw_genomes(params: GenomeParams, rng: np.random.Generator) -> Genomes:
    """Draw the genomes of :data:`SPECIES`, of the host and of the spike-in."""
    chains = {phylum: transitions(params.order, gc, rng) for phylum, gc in _GC.items()}
    longest = params.core_length[1]
    drawn: dict[tuple[str, ...], np.ndarray] = {}
    found: dict[str, np.ndarray] = {}
    for species in SPECIES:
        chain = chains[species.names[0]]
        for depth, rank in enumerate(_RANKS):
            path = species.names[: depth + 1]
            if path in drawn:
                continue
            if rank == "phylum":
                drawn[path] = markov_sequence(chain, longest, rng)
            else:
                # Two sisters each move half of their distance away from the parent.
                drawn[path] = mutate(drawn[path[:-1]], getattr(params, f"{rank}_distance") / 2, rng)
            if rank == "genus":
                drawn[path] = drawn[path][: rng.integers(params.core_length[0], longest + 1)]
        if species.genome == CLOSE_PAIR[1]:
            found[species.genome] = mutate(found[CLOSE_PAIR[0]], params.close_distance, rng)
            continue
        core = mutate(drawn[species.names[:5]], params.species_distance / 2, rng)
        own = markov_sequence(chain, int(core.size * rng.uniform(*params.accessory)), rng)
        found[species.genome] = np.concatenate([core, own])
    spike_in = markov_sequence(transitions(params.order, 0.45, rng), 5386, rng)
    return Genomes(found, _draw_host(params, rng), spike_in)


def _draw_host(params: GenomeParams, rng: np.random.Generator) -> np.ndarray:
    host = markov_sequence(transitions(params.order, 0.41, rng), params.host_length, rng).copy()
    # A family of 300-base repeats that differ from each other by a tenth, as human Alu elements do.
    repeat = markov_sequence(transitions(params.order, 0.6, rng), 300, rng)
    slots = rng.choice(params.host_length // 300, size=params.host_length // 3000, replace=False)
    for slot in slots:
        host[slot * 300 : slot * 300 + 300] = mutate(repeat, 0.05, rng)
    return host


def fasta(name: str, sequence: np.ndarray, width: int = 80) -> bytes:
    """One-contig FASTA, gzipped; the same sequence gives the same bytes."""
    text = sequence.tobytes()
    lines = [text[i : i + width] for i in range(0, len(text), width)]
    return gzip.compress(b">" + name.encode() + b"\n" + b"\n".join(lines) + b"\n", compresslevel=6, mtime=0)
