"""Reads drawn from genomes: where they begin, their strand, the damage of ancient DNA, the errors of the machine.

A genome is given as the codes (:mod:`latentomics.reads.bases`) of its contigs, one after the other, so that memory holds
the longest contig, not the genome. It is cut into regions, and a read lies wholly inside one, so that regions can be kept
apart in training and test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from latentomics.config.classifier import Damage, Drawn
from latentomics.reads.bases import LETTERS, PAD, N, encode, reverse_complement
from latentomics.simulate.genomes import substitute
from latentomics.simulate.reads import draw_qualities, error_probability

A, C, G, T = range(4)
#: Contigs are joined to about this many bases at least, so that thousands of short ones cost no more than one.
_BLOCK = 1 << 24
#: Letter of each code; what lies beyond the end of a read passes for an unknown base, which errors do not change.
_LETTERS = np.append(LETTERS, LETTERS[N])


def letter_codes() -> tuple[np.ndarray, np.ndarray]:
    """Code of each byte, uint8 (256,), and whether it is no IUPAC base, bool (256,)."""
    codes, _, foreign = encode([bytes([byte]) for byte in range(256)], 1)
    return codes[:, 0], foreign


_CODES, _ = letter_codes()


class Stretches(NamedTuple):
    """Stretches of known bases within one region of one contig, int64 (n,).

    Attributes
    ----------
    start
        First base, counted from 0 over all contigs.
    length
        Bases.
    region
        Number of the region, counted from 0 over all contigs.
    """

    start: np.ndarray
    length: np.ndarray
    region: np.ndarray

    @property
    def bases(self) -> int:
        """Bases from which reads can be drawn."""
        return int(self.length.sum())


class Places(NamedTuple):
    """Where reads lie, in the order of ``start``; (n,). ``reverse``: read from the reverse strand. Else see Stretches."""

    start: np.ndarray
    length: np.ndarray
    region: np.ndarray
    reverse: np.ndarray


class DrawnReads(NamedTuple):
    """Some reads: ``codes`` uint8 (n, width), ``lengths`` and ``regions`` int64 (n,)."""

    codes: np.ndarray
    lengths: np.ndarray
    regions: np.ndarray


def find_stretches(contigs: Iterable[np.ndarray], region: int, shortest: int) -> Stretches:
    """Where reads can lie: no sequencer reads the gaps of an assembly.

    Parameters
    ----------
    contigs
        Codes of each contig, uint8.
    region
        Bases of a region; the last one of a contig is shorter.
    shortest
        Stretches of fewer bases are left out.
    """
    found = [np.empty((3, 0), dtype=np.int64)]
    bases = regions = 0
    for codes in contigs:
        known = codes < N
        meet = np.flatnonzero(known[1:] != known[:-1]) + 1
        begin = np.union1d(meet, np.arange(0, codes.size, region))
        length = np.diff(begin, append=codes.size)
        usable = length >= shortest
        usable[usable] = known[begin[usable]]
        found.append(np.stack([bases + begin, length, regions + begin // region])[:, usable])
        bases += codes.size
        regions += -(-codes.size // region)
    return Stretches(*np.concatenate(found, axis=1))


def share_out(total: int, weights: Sequence[int]) -> np.ndarray:
    """Divide a number in proportion to weights, int64; they add up to it (largest remainders; ties to the first)."""
    exact = total * np.asarray(weights, dtype=float) / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares


def draw_lengths(n: int, drawn: Drawn, shortest: int, longest: int, rng: np.random.Generator) -> np.ndarray:
    """Normal lengths, rounded and clipped to ``shortest`` and ``longest``, int64 (n,)."""
    lengths = np.rint(rng.normal(drawn.length_mean, drawn.length_sd, n)).astype(np.int64)
    return np.clip(lengths, shortest, longest)


def draw_places(stretches: Stretches, lengths: np.ndarray, rng: np.random.Generator) -> Places:
    """Draw where reads of given lengths lie, all places inside a stretch equally likely, and both strands.

    A read longer than the longest stretch is as long as that.
    """
    lengths = np.minimum(lengths, stretches.length.max())
    start, which = np.empty_like(lengths), np.empty_like(lengths)
    for length in np.unique(lengths):
        reads = np.flatnonzero(lengths == length)
        places = np.maximum(stretches.length - length + 1, 0)
        ends = np.cumsum(places)
        draw = rng.integers(ends[-1], size=reads.size)
        chosen = np.searchsorted(ends, draw, side="right")
        which[reads] = chosen
        start[reads] = stretches.start[chosen] + draw - (ends - places)[chosen]
    order = np.argsort(start, kind="stable")
    reverse = rng.random(lengths.size) < 0.5
    return Places(start[order], lengths[order], stretches.region[which[order]], reverse)


def cut_reads(contigs: Iterable[np.ndarray], places: Places, rows: int) -> Iterator[DrawnReads]:
    """Cut reads out of a genome, each in the direction of its strand.

    Parameters
    ----------
    contigs
        The same as :func:`find_stretches` saw.
    rows
        Most reads at once.
    """
    if not places.start.size:
        return
    width = int(places.length.max())
    first = offset = 0
    for block in _blocks(contigs, width):
        end = int(np.searchsorted(places.start, offset + block.size - width))
        windows = np.lib.stride_tricks.sliding_window_view(block, width)
        for begin in range(first, end, rows):
            some = Places(*(column[begin : min(begin + rows, end)] for column in places))
            inside = np.arange(width) < some.length[:, None]
            codes = np.where(inside, windows[some.start - offset], np.uint8(PAD))
            codes[some.reverse] = reverse_complement(codes[some.reverse], some.length[some.reverse])
            yield DrawnReads(codes, some.length, some.region)
        first, offset = end, offset + block.size - width


def _blocks(contigs: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """Contigs joined, and ``width`` codes of padding at the end."""
    padding = np.full(width, PAD, dtype=np.uint8)
    held: list[np.ndarray] = []
    size = 0
    for codes in contigs:
        held.append(codes)
        size += codes.size
        if size >= _BLOCK:
            yield np.concatenate([*held, padding])
            held, size = [], 0
    if held:
        yield np.concatenate([*held, padding])


def overhangs(n: int, damage: Damage, rng: np.random.Generator) -> np.ndarray:
    """Lengths of the single-stranded 5' overhangs at one end of n molecules, int64 (n,).

    Briggs et al. 2007 (PNAS 104:14616, model in the supplement): an overhang is as often of the 5' as of the 3' end, and
    3' overhangs are lost in library preparation; its length is geometric, P(length = i) = lambda * (1 - lambda) ** i. So
    the i-th base from the end (from 0) is in an overhang with probability ``(1 - lambda) ** (i + 1) / 2``, as mapDamage
    (Jonsson et al. 2013, Bioinformatics 29:1682) has it too.
    """
    lengths = rng.geometric(damage.overhang, n) - 1
    return np.where(rng.random(n) < 0.5, lengths, 0)


def deaminate(codes: np.ndarray, lengths: np.ndarray, damage: Damage, rng: np.random.Generator) -> np.ndarray:
    """Damage reads as a double-stranded library of ancient DNA shows it; each read is a whole molecule.

    Deaminated cytosine reads as T. In the 5' overhang of the strand that is read, and between the overhangs, that is C->T.
    The 3' end of a read is filled in along the other strand's 5' overhang, and so shows G->A. Nicks, the fourth parameter
    of Briggs et al. 2007, are left out: they turn some of the rare C->T between the overhangs into G->A.

    Parameters
    ----------
    codes, lengths
        Reads, from the 5' end, (n, width) and (n,).

    Returns
    -------
    ndarray
        A damaged copy of ``codes``.
    """
    five, three = overhangs(len(codes), damage, rng)[:, None], overhangs(len(codes), damage, rng)[:, None]
    position = np.arange(codes.shape[1])
    in_five = position < five
    # Where both overhangs of a short molecule would meet, the strand that is read is the one that is there.
    in_three = (np.asarray(lengths)[:, None] - 1 - position < three) & ~in_five
    draw = rng.random(codes.shape, dtype=np.float32)
    single = draw < damage.deamination_single
    to_t = np.where(in_five, single, ~in_three & (draw < damage.deamination_double)) & (codes == C)
    damaged = np.where(to_t, np.uint8(T), codes)
    damaged[(codes == G) & in_three & single] = A
    return damaged


def sequencing_errors(codes: np.ndarray, error_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Copy reads with the substitutions of an Illumina machine, as :mod:`latentomics.simulate.reads` draws them.

    Parameters
    ----------
    codes
        Reads, from the 5' end, (n, width).
    error_rate
        Mean probability of a substitution per base; it rises from half of it at the first of ``width`` cycles to half as
        much again at the last.
    """
    letters = _LETTERS[codes]
    risk = error_probability(draw_qualities(letters, error_rate, rng))
    wrong = np.nonzero((rng.random(codes.shape, dtype=np.float32) < risk) & (codes < N))
    changed = codes.copy()
    changed[wrong] = _CODES[substitute(letters, wrong, rng)[wrong]]
    return changed
