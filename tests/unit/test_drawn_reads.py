"""Reads drawn from genomes: places, strands, damage and errors."""

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latentomics.config.classifier import Classifier, Damage, Drawn
from latentomics.config.training_sheet import TrainingRow, check_training
from latentomics.problems import InputError
from latentomics.reads import genomes
from latentomics.reads.bases import PAD, N, decode, encode, reverse_complement
from latentomics.reads.genomes import (
    cut_reads,
    deaminate,
    draw_lengths,
    draw_places,
    find_stretches,
    sequencing_errors,
    share_out,
)
from latentomics.reads.sources import Tally, labelled_reads

A, C, G, T = range(4)
TURNED = str.maketrans("ACGT", "TGCA")


def random_bases(n, seed=0):
    return np.random.default_rng(seed).integers(0, 4, n, dtype=np.uint8)


def fasta(path, *contigs):
    text = "".join(f">c{i}\n{decode(contig[None])[0]}\n" for i, contig in enumerate(contigs)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def row(path, label="x", **further):
    return TrainingRow(2, path, "genome", label, **further)


def classifier(**drawn):
    return Classifier(drawn={"reads_per_class": 1000, "region": 1000, "error_rate": 0.0005} | drawn)


def read(*rows, config=None, seed=1):
    """All reads by source: (letters, label, unit)."""
    found = {}
    for chunk in labelled_reads(rows, config or classifier(), seed, Tally()):
        for values in zip(decode(chunk.codes), chunk.labels, chunk.sources, chunk.units, strict=True):
            text, label, source, unit = values
            found.setdefault(source, []).append((text, label, unit))
        assert ((chunk.codes != PAD).sum(axis=1) == chunk.lengths).all()
    return found


# Where reads lie


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ACGTN", max_size=60), min_size=1, max_size=5),
    st.integers(5, 30),
    st.integers(1, 10),
)
def test_stretches_are_those_of_a_plain_search(contigs, region, shortest):
    """Against a search letter by letter."""
    codes = [encode([text.encode()], max(len(text), 1))[0][0, : len(text)] for text in contigs]
    expected, offset, before = [], 0, 0
    for text in contigs:
        for first in range(0, len(text), region):
            at = first
            for piece in text[first : first + region].split("N"):
                if len(piece) >= shortest:
                    expected.append((offset + at, len(piece), before + first // region))
                at += len(piece) + 1
        offset += len(text)
        before += -(-len(text) // region)
    found = find_stretches(codes, region, shortest)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_every_place_is_equally_likely():
    """Two contigs and a gap: the places a read of 10 bases can have, by hand, each as often as the others."""
    first, second = random_bases(60), random_bases(15, 1)
    first[25:30] = N
    stretches = find_stretches([first, second], 40, 10)
    assert stretches.start.tolist() == [0, 30, 40, 60]
    assert stretches.length.tolist() == [25, 10, 20, 15]
    assert stretches.region.tolist() == [0, 0, 1, 2]
    rng = np.random.default_rng(1)
    places = draw_places(stretches, np.full(33_000, 10), rng)
    counts = Counter(places.start.tolist())
    assert set(counts) == {*range(16), 30, *range(40, 51), *range(60, 66)}
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    assert abs(places.reverse.mean() - 0.5) < 0.01


def test_reads_never_leave_their_region_or_hold_gaps():
    contigs = [random_bases(n, n) for n in (2500, 130, 5000)]
    contigs[2][1000:1500] = N
    joined = np.concatenate(contigs)
    stretches = find_stretches(contigs, 400, 30)
    lengths = draw_lengths(5000, Drawn(length_mean=80, length_sd=30), 30, 150, np.random.default_rng(0))
    places = draw_places(stretches, lengths, np.random.default_rng(1))
    borders = {0, 2500, 2630, *range(0, 2500, 400), *range(2630, 7630, 400)}
    for start, length in zip(places.start.tolist(), places.length.tolist(), strict=True):
        assert not borders & set(range(start + 1, start + length))
        assert (joined[start : start + length] < N).all()
    assert len(set(places.region.tolist())) == len(np.unique(stretches.region))


def test_lengths_are_normal_and_clipped():
    rng = np.random.default_rng(3)
    lengths = draw_lengths(50_000, Drawn(length_mean=75, length_sd=10), 30, 150, rng)
    assert abs(lengths.mean() - 75) < 0.2
    assert abs(lengths.std() - 10) < 0.2
    clipped = draw_lengths(5000, Drawn(length_mean=75, length_sd=40), 50, 100, rng)
    assert (clipped.min(), clipped.max()) == (50, 100)
    assert set(draw_lengths(10, Drawn(), 30, 150, rng)) == {75}


def test_a_read_longer_than_every_contig_is_as_long_as_the_longest():
    stretches = find_stretches([random_bases(40), random_bases(50)], 1000, 30)
    assert set(draw_places(stretches, np.full(100, 75), np.random.default_rng(0)).length) == {50}


def test_cut_reads_over_blocks(monkeypatch):
    """The same reads whatever the blocks, and each the letters of its place and strand."""
    contigs = [random_bases(300, i) for i in range(40)]
    joined = np.concatenate(contigs)
    stretches = find_stretches(contigs, 1000, 30)
    places = draw_places(stretches, np.random.default_rng(0).integers(30, 90, 2000), np.random.default_rng(1))
    whole = list(cut_reads(contigs, places, 10_000))
    monkeypatch.setattr(genomes, "_BLOCK", 1000)
    parts = list(cut_reads(iter(contigs), places, 70))
    assert len(whole) == 1
    assert max(len(part.codes) for part in parts) == 70
    for name in ("codes", "lengths", "regions"):
        assert np.array_equal(getattr(whole[0], name), np.concatenate([getattr(part, name) for part in parts]))
    for codes, start, length, reverse in zip(whole[0].codes, places.start, places.length, places.reverse, strict=True):
        expected = joined[start : start + length]
        assert np.array_equal(codes[:length], 3 - expected[::-1] if reverse else expected)
        assert (codes[length:] == PAD).all()


@given(st.integers(0, 10_000), st.lists(st.integers(1, 10**9), min_size=1, max_size=20))
def test_shares_add_up_and_are_as_near_as_can_be(total, weights):
    shares = share_out(total, weights)
    assert shares.sum() == total
    assert (np.abs(shares - total * np.array(weights) / sum(weights)) < 1).all()


# Damage and errors


@pytest.mark.parametrize("overhang", [0.2, 0.4, 1.0])
def test_damage_has_the_closed_form(overhang):
    """C->T at the i-th base: with p = (1 - lambda) ** (i + 1) / 2, p * delta_ss + (1 - p) * delta_ds (Briggs et al. 2007)."""
    damage = Damage(overhang=overhang, deamination_single=0.7, deamination_double=0.02)
    n, length = 60_000, 60
    codes = np.full((n, length), C, dtype=np.uint8)
    codes[1::2] = G
    lengths = np.full(n, length)
    damaged = deaminate(codes, lengths, damage, np.random.default_rng(5))
    to_t, to_a = (damaged[0::2] == T).mean(axis=0), (damaged[1::2] == A).mean(axis=0)
    i = np.arange(30)
    single = (1 - overhang) ** (i + 1) / 2
    expected = single * 0.7 + (1 - single) * 0.02
    error = 5 * np.sqrt(expected * (1 - expected) / (n / 2))
    assert (np.abs(to_t[:30] - expected) < error).all()
    # The 3' end is filled in along the other strand: G->A in its overhang, and no C->T of this one.
    assert (np.abs(to_a[::-1][:30] - single * 0.7) < 5 * np.sqrt(single * 0.7 / (n / 2)) + 1e-9).all()
    assert (np.abs(to_t[::-1][:20] - (1 - single[:20]) * 0.02) < 5 * np.sqrt(0.02 / (n / 2))).all()
    assert set(np.unique(damaged[0::2])) == {C, T}
    assert set(np.unique(damaged[1::2])) == {G, A} if overhang < 1 else {G}


def test_damage_ends_where_the_read_does():
    """Ends are counted from each read's own; other bases, unknown ones and the padding stay."""
    rng = np.random.default_rng(6)
    lengths = rng.integers(30, 50, 20_000)
    codes = np.where(np.arange(60) < lengths[:, None], np.uint8(G), np.uint8(PAD))
    damaged = deaminate(codes, lengths, Damage(overhang=0.3, deamination_single=1, deamination_double=0), rng)
    last = damaged[np.arange(len(codes)), lengths - 1] == A
    assert abs(last.mean() - 0.7 / 2) < 0.02
    assert ((damaged == PAD) == (codes == PAD)).all()
    other = random_bases(80_000).reshape(1000, 80)
    other[(other == C) | (other == G)] = N
    hard = Damage(overhang=0.1, deamination_single=1, deamination_double=1)
    assert np.array_equal(deaminate(other, np.full(1000, 80), hard, rng), other)


def test_no_deamination_is_no_damage():
    codes = random_bases(8000).reshape(100, 80)
    none = Damage(deamination_single=0, deamination_double=0)
    assert np.array_equal(deaminate(codes, np.full(100, 80), none, np.random.default_rng(0)), codes)


@pytest.mark.parametrize("rate", [0.0005, 0.004, 0.015])
def test_error_rate(rate):
    codes = random_bases(20_000 * 80).reshape(20_000, 80)
    codes[:, 70] = N
    codes[::2, 75:] = PAD
    changed = sequencing_errors(codes, rate, np.random.default_rng(2))
    known = codes < N
    assert np.array_equal(changed[~known], codes[~known])
    wrong = changed[known] != codes[known]
    expected = (known * rate * np.linspace(0.5, 1.5, 80)).sum()
    assert abs(wrong.sum() - expected) < 4 * np.sqrt(expected)
    assert changed[known].max() < N
    # More at the end than at the beginning, and all three other bases alike.
    early, late = ((changed != codes)[:, part].sum() for part in (slice(0, 20), slice(50, 70)))
    assert late > early + 2 * np.sqrt(early)
    steps = np.bincount((changed[known][wrong] - codes[known][wrong]) % 4, minlength=4)
    assert steps[0] == 0
    assert stats.chisquare(steps[1:]).pvalue > 1e-4


# From the sheet to reads


def test_origin_strand_and_region_are_found_back(tmp_path):
    contigs = [random_bases(9000), random_bases(2500, 1)]
    text = [decode(contig[None])[0] for contig in contigs]
    regions = [part[i : i + 1000] for part in text for i in range(0, len(part), 1000)]
    found = read(row(fasta(tmp_path / "g.fa.gz", *contigs)))
    assert list(found) == ["g"]
    assert len(found["g"]) == 1000
    exact, forward = 0, 0
    for letters, label, unit in found["g"]:
        source, number = unit.split(":")
        assert (source, label, len(number), len(letters)) == ("g", "x", 5, 75)
        here = regions[int(number)]
        ahead, back = letters in here, letters.translate(TURNED)[::-1] in here
        exact += ahead or back
        forward += ahead
        if not (ahead or back):
            # Not without error, but nowhere else either.
            assert not any(letters in text or letters.translate(TURNED)[::-1] in text for text in regions)
    # 75 bases at an error rate of 0.0005: 96 % without error.
    assert 0.93 < exact / 1000 < 0.99
    assert 0.4 < forward / exact < 0.6
    assert len({unit for *_, unit in found["g"]}) == 12


def test_reads_depend_on_seed_and_source_only(tmp_path):
    one, two = fasta(tmp_path / "one.fa", random_bases(90_000)), fasta(tmp_path / "two.fa", random_bases(9000, 1))
    rows = [row(one), row(two, "y"), row(one, "z", source="other")]
    found = read(*rows)
    assert read(*reversed(rows)) == found
    assert read(rows[0])["one"] == found["one"]
    assert read(*rows, seed=2)["one"] != found["one"]
    # The same genome under another name or damage: other reads.
    assert len({text for text, *_ in found["one"]} & {text for text, *_ in found["other"]}) < 30
    twice = read(row(one), row(one, "old", ancient=True))["one"]
    modern, ancient = ([values for values in twice if values[1] == label] for label in ("x", "old"))
    assert modern == found["one"]
    assert len({text for text, *_ in modern} & {text for text, *_ in ancient}) < 30
    # Regions are the same, so that both classes of one place stay on one side of the split.
    regions = {f"one:{i:05d}" for i in range(90)}
    assert {unit for *_, unit in modern} == {unit for *_, unit in ancient} == regions


def test_reads_of_a_class_are_divided_by_length(tmp_path):
    long, short = fasta(tmp_path / "long.fa", random_bases(9000)), fasta(tmp_path / "short.fa", random_bases(3000, 1))
    other = fasta(tmp_path / "other.fa", random_bases(2000, 2))
    found = read(row(short), row(long), row(other, "y"))
    assert {name: len(reads) for name, reads in found.items()} == {"long": 750, "short": 250, "other": 1000}
    # The odd read goes to the same genome, whatever the order of the rows.
    same = [fasta(tmp_path / name, random_bases(2000, 3)) for name in ("b.fa", "a.fa")]
    odd = classifier(reads_per_class=101)
    for rows in (list(map(row, same)), list(map(row, reversed(same)))):
        assert {name: len(reads) for name, reads in read(*rows, config=odd).items()} == {"a": 51, "b": 50}


def test_ancient_reads_differ_from_the_genome_at_their_ends(tmp_path):
    genome = random_bases(50_000)
    path = fasta(tmp_path / "g.fa", genome)
    config = classifier(reads_per_class=8000, region=50_000, damage={"overhang": 0.4, "deamination_single": 0.7})
    chunks = list(labelled_reads([row(path, ancient=True)], config, 1, Tally()))
    codes, lengths = (np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("codes", "lengths"))
    # Where a read is from, its middle tells: 25 bases occur once in a genome of this size.
    text = decode(genome[None])[0]
    place = {text[i : i + 25]: i for i in range(len(text) - 24)}
    to_t, to_a = np.zeros((2, 2))
    for strand in (codes, reverse_complement(codes, lengths)):
        for letters, letters_of in zip(decode(strand), strand, strict=True):
            at = place.get(letters[25:50], -1) - 25
            if at < 0 or at + 75 > len(text):
                continue
            origin, seen = genome[at : at + 75], letters_of[:75]
            if strand is not codes:
                origin, seen = 3 - origin[::-1], 3 - seen[::-1]
            to_t += (origin[0] == C) * np.array([1, seen[0] == T])
            to_a += (origin[-1] == G) * np.array([1, seen[-1] == A])
    assert to_t[0] > 1000
    assert abs(to_t[1] / to_t[0] - (0.3 * 0.7 + 0.7 * 0.01)) < 0.05
    assert abs(to_a[1] / to_a[0] - 0.3 * 0.7) < 0.05


BAD_GENOMES = {
    "letters": (b">a\nACGT\n>b\nACJT\n", "record 2: a letter that is no base"),
    "gaps only": (b">a\n" + b"N" * 500 + b"\n", "no stretch of 30 known bases"),
    "too short": (b">a\nACGTACGT\n", "no stretch of 30 known bases"),
    "fastq": (b"@a\nACGT\n+\nIIII\n", "not FASTA"),
    "nothing": (b"", "holds no reads"),
    "cut short": (gzip.compress(b">a\n" + b"ACGT" * 5000)[:-6], "cut short"),
}


@pytest.mark.parametrize("case", BAD_GENOMES)
def test_bad_genomes(tmp_path, case):
    data, words = BAD_GENOMES[case]
    (tmp_path / "g.fa").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(row(tmp_path / "g.fa"))
    assert words in str(caught.value)
    assert "g.fa" in str(caught.value)


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("LATENTOMICS_MIRROR"), reason="no mirror of real data")
def test_real_genomes():
    folder = Path(os.environ["LATENTOMICS_MIRROR"]) / "kmcp_15genomes" / "refs"
    paths = sorted(folder.glob("*.fa.gz"))[:2]
    rows = [row(path, label) for path, label in zip(paths, "xy", strict=True)]
    assert check_training(rows, classifier()) == []
    found = read(*rows, config=classifier(region=10_000))
    assert [len(reads) for reads in found.values()] == [1000, 1000]
    assert list(found) == [path.name.removesuffix(".fa.gz") for path in paths]
