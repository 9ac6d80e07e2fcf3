"""Motifs: short patterns that a network found in reads, from the attributions of single reads.

The idea is TF-MoDISco's (Shrikumar et al. 2018, arXiv:1811.00416), made light: stretches of high attribution (seqlets) are
compared on both strands and at small shifts, those alike are gathered around the one that is most like the others, and
their bases give a position weight matrix. Alike means: more alike than almost any seqlet is to seqlets whose positions
were shuffled, so that neither base composition nor a single strong base makes a motif.

Something that looks like a pattern can be found in any noise. A motif counts when the reads say so themselves: it is
made from every second read of the class, and must be more frequent in the reads of the class that it was not made from
than in those of the other classes, and than in the same reads with their bases in any order, so that base composition
is no motif either (Fisher's exact test, one-sided, the larger p-value of the two, corrected for all motifs that are
tried in all classes). Of runs whose classes do not differ, at most the share :data:`ALPHA` reports any motif.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from latentomics.reads.bases import COMPLEMENT, LETTERS, PAD, N

#: Probability that a run whose classes do not differ reports any motif.
ALPHA = 0.001
#: Most motifs of a class, and how many patterns are tried to find them.
MOST, TRIES = 3, 6
#: Bases of the stretch whose attribution is highest; and bases kept on either side of it.
_CORE, _FLANK = 8, 4
_WIDTH = _CORE + 2 * _FLANK
#: Seqlets are compared at up to this many bases of shift.
_SHIFT = 4
#: Unknown bases added to both ends of a read, so that every shifted seqlet lies within.
_MARGIN = _FLANK + _SHIFT
_SEQLETS_PER_READ, _MOST_SEQLETS = 2, 1500
#: Share of the comparisons with shuffled seqlets that pass as alike.
_CHANCE = 0.001
_SHUFFLED = 300
#: A motif needs this many seqlets, and this share of them.
_LEAST, _LEAST_SHARE = 10, 0.01
#: A position with less information (bits; the most is about 2) is not part of a motif, and a motif has some with more.
_INFORMATION, _INFORMATIVE = 0.4, 4
_REFINEMENTS = 4
#: Share of a motif's own seqlets that its threshold lets go.
_LET_GO = 0.2
_READS_AT_ONCE = 8192


@dataclass(frozen=True)
class Motif:
    """A pattern of the reads of a class.

    Attributes
    ----------
    consensus
        Most frequent base of each position, N where none stands out; of both strands the first in the alphabet.
    weights
        Mean attribution x base of its seqlets, logits, (length, 4).
    frequencies
        Share of each base in its seqlets, (length, 4).
    seqlets
        Number of stretches of reads that it was made from.
    reads, reads_tested
        Reads with the motif among those of the class that it was not made from, and their number.
    share_others
        Share of the reads of other classes that have it.
    p_value
        Of Fisher's exact tests against the other classes and against shuffled reads the larger, times the number of
        motifs tried.
    """

    consensus: str
    weights: np.ndarray
    frequencies: np.ndarray
    seqlets: int
    reads: int
    reads_tested: int
    share_others: float
    p_value: float

    @property
    def share(self) -> float:
        """Share of the tested reads of the class that have the motif."""
        return self.reads / self.reads_tested


class _Seqlets(NamedTuple):
    """Stretches of padded reads: ``codes`` uint8 and ``values`` float32 (n, width); where they are: ``rows``, ``starts``."""

    codes: np.ndarray
    values: np.ndarray
    rows: np.ndarray
    starts: np.ndarray


class _Pattern(NamedTuple):
    """Aligned seqlets, cut to the informative positions ``inside``; ``odds`` and ``threshold`` find them in reads."""

    members: _Seqlets
    frequencies: np.ndarray
    information: np.ndarray
    odds: np.ndarray
    threshold: float
    inside: slice


def find_motifs(codes: np.ndarray, values: np.ndarray, others: np.ndarray, n_classes: int, seed: int) -> list[Motif]:
    """Motifs that speak for a class.

    Parameters
    ----------
    codes
        Reads of the class in random order, uint8, (n, width); none that the network was trained on, for it knows by
        heart what they happen to have in common.
    values
        Attribution of each position to the class, float, (n, width).
    others
        Reads of the other classes, uint8, (m, any width).
    n_classes
        For how many classes motifs are sought: all their tests are corrected for together.
    seed
        Of the shuffled seqlets.

    Returns
    -------
    list of Motif
        At most :data:`MOST`, the best supported first; none without other reads or with fewer than two of the class.
    """
    from scipy.stats import fisher_exact

    tested = codes[1::2]
    if not len(tested) or not len(others):
        return []
    composition = np.bincount(codes[codes < N], minlength=4) + 1.0
    composition /= composition.sum()
    rng = np.random.default_rng(seed)
    # The same bases in any order, what lies beyond the end still at the end.
    mixed = np.take_along_axis(tested, np.argsort(rng.random(tested.shape) + (tested == PAD), axis=1), axis=1)
    found: list[Motif] = []
    for pattern in _patterns(codes[::2], values[::2], composition, rng):
        mine, theirs, by_composition = (int(_has(pattern, reads).sum()) for reads in (tested, others, mixed))
        p_value = max(
            float(fisher_exact([[mine, len(tested) - mine], [other, n - other]], alternative="greater").pvalue)
            for other, n in ((theirs, len(others)), (by_composition, len(mixed)))
        )
        p_value = min(p_value * TRIES * n_classes, 1.0)
        if p_value <= ALPHA:
            found.append(_motif(pattern, mine, len(tested), theirs / len(others), p_value))
            if len(found) == MOST:
                break
    return found


def _patterns(
    codes: np.ndarray, values: np.ndarray, composition: np.ndarray, rng: np.random.Generator
) -> Iterator[_Pattern]:
    """At most :data:`TRIES` patterns of the seqlets of some reads: greedily, the best supported first."""
    padded = np.pad(codes, ((0, 0), (_MARGIN, _MARGIN)), constant_values=PAD)
    scores = np.pad(values.astype(np.float32), ((0, 0), (_MARGIN, _MARGIN)))
    seqlets = _seqlets(padded, scores)
    if len(seqlets.rows) < _LEAST:
        return
    profiles = _profiles(seqlets)
    shuffled = profiles[rng.permutation(len(profiles))[:_SHUFFLED]]
    order = rng.permuted(np.tile(np.arange(_WIDTH), (len(shuffled), 1)), axis=1)
    shuffled = np.take_along_axis(shuffled, order[:, :, None], axis=1)
    alike = np.quantile(_similarity(profiles, shuffled)[0], 1 - _CHANCE)
    # By how much alike, not only how many: a corrupted seqlet between two motifs has neighbours among both.
    excess = np.maximum(_similarity(profiles, profiles)[0] - alike, 0)
    least = max(_LEAST, int(_LEAST_SHARE * len(profiles)))
    alive = np.ones(len(profiles), dtype=bool)
    for _ in range(TRIES):
        possible = np.flatnonzero(alive & ((excess[:, alive] > 0).sum(axis=1) >= least))
        if not len(possible):
            return
        first = possible[excess[np.ix_(possible, alive)].sum(axis=1).argmax()]
        centre, members = profiles[first], np.array([first])
        aligned = _aligned(padded, scores, seqlets, members, np.zeros(1, dtype=bool), np.zeros(1, dtype=np.int64))
        for _ in range(_REFINEMENTS):
            similarity, strand, shift = (part[:, 0] for part in _similarity(profiles, centre[None]))
            near = alive & (similarity > alike)
            if not near.any():
                break
            # A cluster must not drift to a blend of two motifs that share some bases: no further out than halfway.
            members = np.flatnonzero(near & (similarity > (alike + np.median(similarity[near])) / 2))
            aligned = _aligned(padded, scores, seqlets, members, strand[members] == 1, shift[members])
            centre = _profiles(aligned).mean(axis=0)
        alive[first] = False
        alive[members] = False
        pattern = _pattern(aligned, composition) if len(members) >= least else None
        if pattern is not None:
            # Other seqlets that show it, at a larger shift perhaps, are no second motif.
            wider = np.arange(-_SHIFT, _WIDTH + _SHIFT) + seqlets.starts[:, None]
            alive &= ~_has(pattern, padded[seqlets.rows[:, None], wider])
            yield pattern


def _seqlets(codes: np.ndarray, values: np.ndarray) -> _Seqlets:
    """Per read the stretches of highest attribution, flanks apart; of all reads the strongest."""
    n, width = codes.shape
    # Starts of cores that lie within the padded reads with their flanks and shifts.
    cores = np.arange(_MARGIN, width - _MARGIN - _CORE + 1)
    if not len(cores):
        empty = np.zeros(0, dtype=np.int64)
        return _Seqlets(codes[:0, :_WIDTH], values[:0, :_WIDTH], empty, empty)
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    sums = sums[:, cores + _CORE] - sums[:, cores]
    sums[codes[:, cores + _CORE - 1] == PAD] = -np.inf
    rows, best, strength = [], [], []
    for _ in range(_SEQLETS_PER_READ):
        peak = sums.argmax(axis=1)
        strength.append(sums[np.arange(n), peak])
        rows.append(np.arange(n))
        best.append(peak)
        sums[np.abs(np.arange(len(cores)) - peak[:, None]) < _WIDTH] = -np.inf
    height = np.concatenate(strength)
    order = np.argsort(-height, kind="stable")[:_MOST_SEQLETS]
    order = order[height[order] > 0]
    where = np.concatenate(rows)[order], cores[np.concatenate(best)[order]] - _FLANK
    columns = where[1][:, None] + np.arange(_WIDTH)
    return _Seqlets(codes[where[0][:, None], columns], values[where[0][:, None], columns], *where)


def _profiles(seqlets: _Seqlets) -> np.ndarray:
    """Attribution x base of each seqlet at unit length, float32, (n, width, 4)."""
    profiles = (seqlets.codes[:, :, None] == np.arange(4)) * seqlets.values[:, :, None]
    length = np.sqrt((profiles**2).sum(axis=(1, 2), keepdims=True))
    return (profiles / np.maximum(length, 1e-12)).astype(np.float32)


def _similarity(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine of profiles at the best strand and shift of ``b``.

    Parameters
    ----------
    a, b
        (n, width, 4) and (m, width, 4).

    Returns
    -------
    similarity, strand, shift
        (n, m) each: strand 1 if the reverse complement of ``b`` fits, ``b``'s start in ``a``.
    """
    flat = a.reshape(len(a), -1)
    best = np.full((len(a), len(b)), -np.inf, dtype=np.float32)
    strands, shifts = np.zeros(best.shape, dtype=np.int8), np.zeros(best.shape, dtype=np.int8)
    scale = np.maximum(np.sqrt((b**2).sum(axis=(1, 2))), 1e-12)
    for strand, one in enumerate((b, b[:, ::-1, ::-1])):
        for shift in range(-_SHIFT, _SHIFT + 1):
            moved = np.zeros_like(one)
            moved[:, max(shift, 0) : _WIDTH + min(shift, 0)] = one[:, max(-shift, 0) : _WIDTH - max(shift, 0)]
            cosine = flat @ moved.reshape(len(b), -1).T / scale
            better = cosine > best
            best[better], strands[better], shifts[better] = cosine[better], strand, shift
    return best, strands, shifts


def _aligned(
    codes: np.ndarray, values: np.ndarray, seqlets: _Seqlets, which: np.ndarray, turned: np.ndarray, shift: np.ndarray
) -> _Seqlets:
    """Some seqlets cut anew from the padded reads, moved by ``shift`` and, where ``turned``, of the other strand."""
    rows, starts = seqlets.rows[which], seqlets.starts[which] + shift
    columns = starts[:, None] + np.arange(_WIDTH)
    letters, scores = codes[rows[:, None], columns], values[rows[:, None], columns]
    letters = np.where(turned[:, None], COMPLEMENT[letters[:, ::-1]], letters)
    return _Seqlets(letters, np.where(turned[:, None], scores[:, ::-1], scores), rows, starts)


def _pattern(members: _Seqlets, composition: np.ndarray) -> _Pattern | None:
    """The position weight matrix of aligned seqlets; None if too few positions are informative."""
    counts = (members.codes[:, :, None] == np.arange(4)).sum(axis=0)
    known = counts.sum(axis=1, keepdims=True)
    # Pseudocounts in proportion to the composition: what no seqlet shows is unlikely, not impossible.
    frequencies = (counts + composition) / (known + 1)
    odds = np.log2(frequencies / composition)
    # Few seqlets look more alike than they are: Schneider et al. 1986, J Mol Biol 188:415, approximate correction.
    information = (frequencies * odds).sum(axis=1) - 3 / (2 * np.log(2) * np.maximum(known[:, 0], 1))
    good = np.flatnonzero(information >= _INFORMATION)
    if len(good) < _INFORMATIVE:
        return None
    inside = slice(int(good[0]), int(good[-1]) + 1)
    pattern = _Pattern(members, frequencies[inside], information[inside], odds[inside], -np.inf, inside)
    own = _scores(pattern.odds, members.codes[:, inside])[:, 0]
    whole = own[np.isfinite(own)]
    return pattern._replace(threshold=float(np.quantile(whole, _LET_GO))) if len(whole) else None


def _scores(odds: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Log odds, bits, of a matrix at each start in each read, (n, width - length + 1); no base, no odds."""
    table = np.vstack([odds.T, np.zeros(len(odds)), np.full(len(odds), -np.inf)])
    positions = codes.shape[1] - len(odds) + 1
    total = np.zeros((len(codes), max(positions, 0)))
    for i in range(len(odds)):
        total += table[:, i][codes[:, i : i + total.shape[1]]]
    return total


def _has(pattern: _Pattern, codes: np.ndarray) -> np.ndarray:
    """Whether a read shows the pattern on either strand, bool, (n,)."""
    found = np.zeros(len(codes), dtype=bool)
    for start in range(0, len(codes), _READS_AT_ONCE):
        some = codes[start : start + _READS_AT_ONCE]
        for odds in (pattern.odds, pattern.odds[::-1, ::-1]):
            found[start : start + _READS_AT_ONCE] |= (_scores(odds, some) >= pattern.threshold - 1e-9).any(axis=1)
    return found


def _motif(pattern: _Pattern, reads: int, reads_tested: int, share_others: float, p_value: float) -> Motif:
    """A pattern that passed its test, on the strand whose consensus is first in the alphabet."""
    members, inside = pattern.members, pattern.inside
    onehot = members.codes[:, inside, None] == np.arange(4)
    weights = (onehot * members.values[:, inside, None]).mean(axis=0, dtype=np.float64)
    frequencies, best = pattern.frequencies, pattern.frequencies.argmax(axis=1)
    consensus = np.where(pattern.information >= _INFORMATION, best, N).astype(np.uint8)
    other = COMPLEMENT[consensus[::-1]]
    if tuple(other) < tuple(consensus):
        consensus, weights, frequencies = other, weights[::-1, ::-1], frequencies[::-1, ::-1]
    letters = "".join(map(chr, LETTERS[consensus]))
    return Motif(letters, weights, frequencies, len(members.rows), reads, reads_tested, share_others, p_value)
