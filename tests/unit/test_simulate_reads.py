"""Simulated reads: fragments, adapters, errors and qualities."""

from __future__ import annotations

import io
from collections import Counter

import dnaio
import numpy as np
import pytest
from genome_cases import COMPLEMENT, genomes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latentomics.simulate.genomes import Genomes
from latentomics.simulate.reads import (
    ADAPTER_1,
    ADAPTER_2,
    SHORTEST_INSERT,
    ReadPairs,
    darken,
    fastq,
    simulate_pairs,
    simulate_simple,
)

__all__ = ["genomes"]


@pytest.fixture(scope="module")
def pairs(genomes: Genomes) -> ReadPairs:
    return simulate_pairs(genomes.host, 20_000, np.random.default_rng(1), length=100, insert_mean=150, insert_sd=50)


def expected_pair(genome: str, start: int, insert: int, reverse: bool, length: int) -> tuple[str, str]:
    """The pair without errors, by plain string operations."""
    top = genome[start : start + insert]
    bottom = top.translate(COMPLEMENT)[::-1]
    first, second = (bottom, top) if reverse else (top, bottom)
    return tuple(
        (ends + adapter.decode() + "G" * length)[:length] for ends, adapter in ((first, ADAPTER_1), (second, ADAPTER_2))
    )


def letters(row: np.ndarray) -> str:
    return row.tobytes().decode()


def test_reads_are_the_fragment_then_the_adapter_and_wrong_as_often_as_they_say(
    genomes: Genomes, pairs: ReadPairs
) -> None:
    genome = letters(genomes.host)
    wanted = [
        expected_pair(genome, *row, 100)
        for row in zip(pairs.start.tolist(), pairs.insert.tolist(), pairs.reverse.tolist(), strict=True)
    ]
    for mate, (reads, quals) in enumerate(((pairs.reads_1, pairs.quals_1), (pairs.reads_2, pairs.quals_2))):
        truth = np.frombuffer("".join(w[mate] for w in wanted).encode(), np.uint8).reshape(reads.shape)
        wrong = reads != truth
        assert set(np.unique(quals)) == {12, 23, 37}
        # Each stated quality holds, in the fragment and beyond it.
        for quality in (12, 23, 37):
            at = quals == quality
            assert stats.binomtest(int(wrong[at].sum()), int(at.sum()), 10 ** (-quality / 10)).pvalue > 1e-3
        assert stats.binomtest(int(wrong.sum()), wrong.size, 0.004).pvalue > 1e-3
        by_position = wrong.mean(axis=0)
        assert by_position[-20:].mean() / by_position[:20].mean() == pytest.approx(1.4 / 0.6, rel=0.15)


def test_adapters_stand_exactly_where_the_fragment_is_shorter_than_the_read(pairs: ReadPairs) -> None:
    for reads, adapter in ((pairs.reads_1, ADAPTER_1), (pairs.reads_2, ADAPTER_2)):
        seed = np.frombuffer(adapter[:16], np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(reads, 16, axis=1)
        near = (windows != seed).sum(axis=2) <= 3
        room = pairs.insert <= 100 - 16
        assert 0.05 < room.mean() < 0.2
        assert (near.any(axis=1) == room).mean() > 0.9995
        assert (near.argmax(axis=1)[room] == pairs.insert[room]).mean() > 0.997


def test_fragments_are_uniform_on_both_strands_with_the_inserts_asked_for(genomes: Genomes, pairs: ReadPairs) -> None:
    place = (pairs.start + np.random.default_rng(0).random(pairs.start.size)) / (genomes.host.size - pairs.insert + 1)
    assert stats.kstest(place, "uniform").pvalue > 1e-3
    assert stats.binomtest(int(pairs.reverse.sum()), pairs.reverse.size, 0.5).pvalue > 1e-3
    kept = pairs.insert[pairs.insert > SHORTEST_INSERT]
    below = (SHORTEST_INSERT + 0.5 - 150) / 50
    assert (
        stats.kstest(
            kept + np.random.default_rng(0).uniform(-0.5, 0.5, kept.size), stats.truncnorm(below, np.inf, 150, 50).cdf
        ).pvalue
        > 1e-3
    )
    assert pairs.insert.min() == SHORTEST_INSERT


@settings(max_examples=60, deadline=None)
@given(
    genome=st.text(alphabet="ACGTNacgtRY", min_size=SHORTEST_INSERT, max_size=80),
    length=st.integers(1, 120),
    mean=st.floats(1, 200),
    sd=st.floats(0, 80),
    n=st.integers(0, 20),
    seed=st.integers(0, 2**32),
)
def test_any_genome_length_and_insert_gives_the_fragments_own_letters(
    genome: str, length: int, mean: float, sd: float, n: int, seed: int
) -> None:
    found = simulate_pairs(genome, n, np.random.default_rng(seed), length, mean, sd, error_rate=0.0005)
    assert [a.shape for a in found] == [(n, length)] * 4 + [(n,)] * 3
    assert (found.start >= 0).all() and (found.start + found.insert <= len(genome)).all()
    assert (found.insert >= SHORTEST_INSERT).all()
    plain = "".join(c if c in "ACGT" else "N" for c in genome.upper())
    certain = []
    for i in range(n):
        wanted = expected_pair(plain, found.start[i], found.insert[i], bool(found.reverse[i]), length)
        for mate, want in enumerate(wanted):
            read, quality = letters(found[mate][i]), found[mate + 2][i]
            assert [c == "N" for c in read] == [c == "N" for c in want] == (quality == 2).tolist()
            certain += [a == b for a, b, q in zip(read, want, quality, strict=True) if q == 37]
    assert sum(certain) >= len(certain) - 8


def test_text_bytes_and_arrays_are_the_same_genome() -> None:
    text = "ACGTTGCA" * 30
    forms = (text, text.encode(), np.frombuffer(text.encode(), np.uint8), text.lower())
    found = [simulate_pairs(form, 10, np.random.default_rng(0), 50, 100, 10) for form in forms]
    assert all(np.array_equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"genome": "ACGT"}, "at least 20 bases"),
        ({"n_pairs": -1}, "n_pairs"),
        ({"length": 0}, "length"),
        ({"insert_mean": 0}, "insert_mean"),
        ({"insert_sd": -1}, "insert_sd"),
        ({"error_rate": 0.0}, "error_rate"),
        ({"error_rate": 0.1}, "error_rate"),
        ({"error_rate": float("nan")}, "error_rate"),
    ],
)
def test_impossible_reads_are_named(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        simulate_pairs(**{"genome": "ACGT" * 50, "n_pairs": 1, "rng": np.random.default_rng(0), **bad})


def test_dark_reads_end_in_g_and_the_others_are_untouched() -> None:
    rng = np.random.default_rng(0)
    reads = np.full((20_000, 100), ord("A"), np.uint8)
    dark = darken(reads, 0.1, rng)
    hit = (dark != reads).any(axis=1)
    assert stats.binomtest(int(hit.sum()), hit.size, 0.1).pvalue > 1e-3
    tails = [len(letters(row)) - len(letters(row).rstrip("G")) for row in dark[hit]]
    assert (dark[hit] == ord("G")).sum() == sum(tails)
    assert min(tails) > 20 and max(tails) == 100
    assert (reads == ord("A")).all()


def test_simple_pairs_repeat_one_motif() -> None:
    found = simulate_simple(300, np.random.default_rng(0), length=90, error_rate=0.0005)
    periods = Counter()
    for first, second in zip(found.reads_1, found.reads_2, strict=True):
        assert (first != np.frombuffer(letters(second).translate(COMPLEMENT)[::-1].encode(), np.uint8)).sum() < 6
        periods[next(p for p in (1, 2, 3, 4) if (first[p:] != first[:-p]).sum() < 9)] += 1
    assert set(periods) == {1, 2, 3} and min(periods.values()) > 50


def test_fastq_is_read_back(pairs: ReadPairs) -> None:
    names = [f"read{i}".encode() for i in range(50)]
    with dnaio.open(io.BytesIO(fastq(names, pairs.reads_1[:50], pairs.quals_1[:50]))) as reader:
        for i, record in enumerate(reader):
            assert record.name.encode() == names[i]
            assert record.sequence == letters(pairs.reads_1[i])
            assert [ord(c) - 33 for c in record.qualities] == pairs.quals_1[i].tolist()
    assert i == 49
