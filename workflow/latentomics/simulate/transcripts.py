"""Reads of single cells whose truth is known: a tiny genome with its annotation, and 10x v2 libraries of it.

A molecule (one UMI) is caught at the end of its transcript and sequenced once or more, each read from a place of its own
near that end. Some reads come from between the genes. Errors fall on barcodes and UMIs too, as they do in fact.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from latentomics.simulate.cells import MITOCHONDRIAL
from latentomics.simulate.genomes import BASES, markov_sequence, substitute, transitions
from latentomics.simulate.reads import ERROR_RATES, draw_qualities, error_probability, fastq

#: Bases of barcode and UMI (10x v2).
BARCODE, UMI = 16, 10
TYPES = ("type1", "type2")
_MITO = 4
_EXON, _INTRON, _BETWEEN = (150, 400), (100, 500), (100, 400)


@dataclass(frozen=True)
class LibraryParams:
    """What to simulate.

    Attributes
    ----------
    seed
        Seed of the one random generator; the same parameters give the same bytes.
    samples
        Names of the libraries.
    chromosomes
        Chromosomes of the nucleus; a mitochondrial one comes on top.
    n_genes
        Genes, four mitochondrial ones included.
    cells, empties
        Droplets of each library with a cell (two types, half and half) and without.
    cell_umis, ambient_umis
        Median of the log-normal number of a cell's own UMIs, and mean of the Poisson number of ambient ones that every
        droplet takes up.
    marker_share, fold
        Share of the genes that are markers of each type, and by how much.
    reads_per_umi
        Mean number of reads of a molecule; at least 1.
    read_length
        Bases of the RNA read.
    intergenic
        Share of the reads from between the genes (fraction).
    error_rate
        Mean probability of a wrong base.
    whitelist
        Barcodes that there can be.

    Raises
    ------
    ValueError
        When a value is out of range; says which.
    """

    seed: int = 0
    samples: tuple[str, ...] = ("library1", "library2")
    chromosomes: int = 3
    n_genes: int = 60
    cells: int = 80
    empties: int = 300
    cell_umis: float = 300.0
    ambient_umis: float = 8.0
    marker_share: float = 0.2
    fold: float = 6.0
    reads_per_umi: float = 1.5
    read_length: int = 75
    intergenic: float = 0.08
    error_rate: float = 0.001
    whitelist: int = 2000

    def __post_init__(self) -> None:
        checks = {
            "n_genes must be at least 10 per chromosome": self.n_genes >= 10 * self.chromosomes,
            "chromosomes, cells and samples must be at least 1": min(self.chromosomes, self.cells, len(self.samples))
            > 0,
            "cell_umis and ambient_umis must be positive": min(self.cell_umis, self.ambient_umis) > 0,
            "marker_share must lie between 0 and 0.5": 0 <= self.marker_share <= 0.5,
            "reads_per_umi must be at least 1": self.reads_per_umi >= 1,
            "read_length must lie between 31 and 150": 31 <= self.read_length <= _EXON[0],
            "intergenic must lie between 0 and 0.9": 0 <= self.intergenic <= 0.9,
            f"error_rate must lie between {ERROR_RATES[0]} and {ERROR_RATES[1]}": ERROR_RATES[0]
            <= self.error_rate
            <= ERROR_RATES[1],
            "whitelist must hold every droplet's barcode": self.whitelist >= self.cells + self.empties,
        }
        failed = [rule for rule, holds in checks.items() if not holds]
        if failed:
            raise ValueError("; ".join(failed))


class Gene(NamedTuple):
    """A gene: exons as half-open ranges of its chromosome, in the order of the chromosome; strand ``+`` or ``-``."""

    ensembl: str
    symbol: str
    chromosome: str
    strand: str
    exons: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is in a library.

    Attributes
    ----------
    counts
        Molecules, droplets (index: barcode, sorted) x genes (Ensembl ids, in the order of the annotation): a cell's own
        and ambient ones together.
    cell_type
        Per droplet ``type1``, ``type2``, or empty where there is no cell.
    n_reads
        Pairs of reads.
    """

    counts: pd.DataFrame
    cell_type: pd.Series
    n_reads: int


@dataclass(frozen=True, eq=False)
class Library:
    """Files by name (``genome.fa.gz``, ``genes.gtf.gz``, ``whitelist.txt``, ``{sample}_R1.fastq.gz``,
    ``{sample}_R2.fastq.gz``) and the truth per sample.
    """

    files: dict[str, bytes]
    truth: dict[str, Truth]
    genes: tuple[Gene, ...]


def simulate_library(params: LibraryParams) -> Library:
    """Simulate a genome and libraries of it; the same parameters give the same bytes."""
    rng = np.random.default_rng(params.seed)
    chromosomes, genes = _draw_genome(params, rng)
    spliced = [_spliced(gene, chromosomes[gene.chromosome]) for gene in genes]
    between = _between(chromosomes, genes, params.read_length)
    profiles = _profiles(params, rng)
    whitelist = _barcodes(params.whitelist, rng)
    files = {
        "genome.fa.gz": _gzip(b"".join(_fasta(name, sequence) for name, sequence in chromosomes.items())),
        "genes.gtf.gz": _gzip(_gtf(genes).encode()),
        "whitelist.txt": b"".join(barcode + b"\n" for barcode in sorted(whitelist)),
    }
    truth = {}
    names = pd.Index([gene.ensembl for gene in genes], name="gene")
    for sample in params.samples:
        droplets = params.cells + params.empties
        chosen = rng.choice(len(whitelist), size=droplets, replace=False)
        barcodes = [whitelist[i] for i in chosen]
        kinds = np.array([TYPES[i % 2] for i in range(params.cells)] + [""] * params.empties, dtype=object)
        molecules = _molecules(params, profiles, kinds, rng)
        letters, n_reads = _reads(params, molecules, barcodes, spliced, between, rng)
        for mate, read in zip(("R1", "R2"), letters, strict=True):
            files[f"{sample}_{mate}.fastq.gz"] = _gzip(_sequenced(sample, read, params.error_rate, rng))
        index = pd.Index([barcode.decode() for barcode in barcodes], name="barcode")
        counts = pd.DataFrame(molecules, index=index, columns=names).sort_index()
        truth[sample] = Truth(counts, pd.Series(kinds, index=index).reindex(counts.index), n_reads)
    return Library(files, truth, genes)


def _draw_genome(params: LibraryParams, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], tuple[Gene, ...]]:
    """Chromosomes, and genes laid out one after the other on them."""
    chain = transitions(4, 0.42, rng)
    per = np.array_split(np.arange(1, params.n_genes - _MITO + 1), params.chromosomes)
    ids = {str(i): [(f"ENSG{900_000 + n:011d}", f"SIM{n:04d}") for n in own] for i, own in enumerate(per, 1)}
    ids["MT"] = [(ensembl, symbol) for symbol, ensembl, _ in MITOCHONDRIAL[:_MITO]]
    genes, chromosomes = [], {}
    for name, own in ids.items():
        at = 500
        for ensembl, symbol in own:
            exons = []
            for _ in range(1 if name == "MT" else int(rng.integers(2, 5))):
                length = int(rng.integers(*_EXON))
                exons.append((at, at + length))
                at += length + int(rng.integers(*_INTRON))
            strand = "+" if name == "MT" or rng.random() < 0.5 else "-"
            genes.append(Gene(ensembl, symbol, name, strand, tuple(exons)))
            at = exons[-1][1] + int(rng.integers(*_BETWEEN))
        chromosomes[name] = markov_sequence(chain, at + 500, rng)
    return chromosomes, tuple(genes)


_COMPLEMENT = np.zeros(256, dtype=np.uint8)
_COMPLEMENT[BASES] = BASES[::-1]


def _spliced(gene: Gene, chromosome: np.ndarray) -> np.ndarray:
    sequence = np.concatenate([chromosome[start:end] for start, end in gene.exons])
    return sequence if gene.strand == "+" else _COMPLEMENT[sequence[::-1]]


def _between(chromosomes: dict[str, np.ndarray], genes: tuple[Gene, ...], length: int) -> np.ndarray:
    """Windows of the chromosomes that touch no gene, (windows, length) uint8."""
    found = []
    for name, sequence in chromosomes.items():
        free = np.ones(sequence.size, dtype=bool)
        for gene in genes:
            if gene.chromosome == name:
                free[gene.exons[0][0] : gene.exons[-1][1]] = False
        whole = np.lib.stride_tricks.sliding_window_view(free, length).all(axis=1)
        found.append(np.lib.stride_tricks.sliding_window_view(sequence, length)[whole])
    return np.concatenate(found)


def _profiles(params: LibraryParams, rng: np.random.Generator) -> np.ndarray:
    """Share of each gene in the RNA of each type, (types, genes); rows sum to 1."""
    base = rng.gamma(1.0, size=params.n_genes) + 0.05
    profiles = np.tile(base, (len(TYPES), 1))
    n = int(params.marker_share * (params.n_genes - _MITO))
    markers = rng.permutation(params.n_genes - _MITO)[: n * len(TYPES)].reshape(len(TYPES), n)
    for kind, own in enumerate(markers):
        profiles[kind, own] *= params.fold
    # Mitochondrial RNA: a twentieth of the whole, in both types.
    nuclear, mito = profiles[:, :-_MITO], np.full((len(TYPES), _MITO), 0.05 / _MITO)
    return np.hstack([0.95 * nuclear / nuclear.sum(axis=1, keepdims=True), mito])


def _barcodes(n: int, rng: np.random.Generator) -> list[bytes]:
    drawn = BASES[rng.integers(4, size=(2 * n, BARCODE))]
    distinct = list(dict.fromkeys(row.tobytes() for row in drawn))
    return distinct[:n]


def _molecules(params: LibraryParams, profiles: np.ndarray, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Molecules of each droplet, (droplets, genes); ambient RNA is what both types leave."""
    ambient = rng.poisson(params.ambient_umis, size=kinds.size)
    found = rng.multinomial(ambient, profiles.mean(axis=0))
    for droplet, kind in enumerate(kinds):
        if kind:
            own = int(params.cell_umis * np.exp(rng.normal(0, 0.3)))
            found[droplet] += rng.multinomial(own, profiles[TYPES.index(kind)])
    return found


def _reads(
    params: LibraryParams,
    molecules: np.ndarray,
    barcodes: list[bytes],
    spliced: list[np.ndarray],
    between: np.ndarray,
    rng: np.random.Generator,
) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Letters of both mates without errors, in random order, (reads, bases) uint8; number of reads."""
    droplet, gene = (np.repeat(axis.ravel(), molecules.ravel()) for axis in np.indices(molecules.shape))
    umi = np.concatenate([_distinct_umis(int(n), rng) for n in molecules.sum(axis=1)])
    copies = 1 + rng.poisson(params.reads_per_umi - 1, size=droplet.size)
    droplet, gene, umi = (np.repeat(values, copies) for values in (droplet, gene, umi))
    length = params.read_length
    # Caught by the poly-A tail: within 150 bases of the transcript's end, as far as it reaches.
    room = np.array([sequence.size - length for sequence in spliced])[gene]
    start = room - np.minimum(rng.integers(0, 150, size=gene.size), room)
    rna = np.stack([spliced[g][s : s + length] for g, s in zip(gene.tolist(), start.tolist(), strict=True)])
    n_other = int(gene.size * params.intergenic / (1 - params.intergenic))
    other = between[rng.integers(len(between), size=n_other)]
    known = np.frombuffer(b"".join(barcodes), dtype=np.uint8).reshape(-1, BARCODE)
    first = np.hstack([known[droplet], _letters(umi, UMI)])
    noise = np.hstack(
        [known[rng.integers(len(known), size=n_other)], _letters(rng.integers(4**UMI, size=n_other), UMI)]
    )
    order = rng.permutation(gene.size + n_other)
    return (np.vstack([first, noise])[order], np.vstack([rna, other])[order]), order.size


def _distinct_umis(n: int, rng: np.random.Generator) -> np.ndarray:
    """UMIs of one droplet, all different: two molecules of one UMI could not be told apart."""
    drawn = np.unique(rng.integers(4**UMI, size=2 * n + 10))
    return rng.permutation(drawn)[:n]


def _letters(numbers: np.ndarray, bases: int) -> np.ndarray:
    return BASES[(numbers[:, None] >> (2 * np.arange(bases))) & 3]


def _sequenced(sample: str, letters: np.ndarray, error_rate: float, rng: np.random.Generator) -> bytes:
    quality = draw_qualities(letters, error_rate, rng)
    wrong = np.nonzero(rng.random(letters.shape, dtype=np.float32) < error_probability(quality))
    names = [b"%s:%d" % (sample.encode(), number) for number in range(1, len(letters) + 1)]
    return fastq(names, substitute(letters, wrong, rng), quality)


def _fasta(name: str, sequence: np.ndarray, width: int = 80) -> bytes:
    text = sequence.tobytes()
    return b">%s\n" % name.encode() + b"".join(text[i : i + width] + b"\n" for i in range(0, len(text), width))


def _gtf(genes: tuple[Gene, ...]) -> str:
    """Ensembl's form of GTF; a gene of three exons or more has a second transcript that lacks the second exon."""
    lines = []
    for gene in genes:
        start, end = gene.exons[0][0], gene.exons[-1][1]
        of_gene = f'gene_id "{gene.ensembl}"; gene_name "{gene.symbol}";'
        variants = [gene.exons, (gene.exons[0], *gene.exons[2:])][: 1 + (len(gene.exons) > 2)]

        def line(kind: str, start: int, end: int, more: str = "", gene: Gene = gene, of_gene: str = of_gene) -> str:
            return f"{gene.chromosome}\tsimulated\t{kind}\t{start + 1}\t{end}\t.\t{gene.strand}\t.\t{of_gene}{more}\n"

        lines.append(line("gene", start, end))
        for number, exons in enumerate(variants, 1):
            more = f' transcript_id "{gene.ensembl.replace("ENSG", "ENST")}{number}";'
            lines.append(line("transcript", start, end, more))
            lines += [line("exon", *exon, more) for exon in exons]
    return "".join(lines)


def _gzip(data: bytes) -> bytes:
    # mtime=0: no time of day in the bytes.
    return gzip.compress(data, compresslevel=4, mtime=0)
