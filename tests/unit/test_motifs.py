"""Motifs of reads: those that are there are found, and none that are not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from attribution_cases import MOTIF, OTHER_STRAND, accuracy, plant, random_reads, rng, store_of, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.reads.attribution import ANCHORED, attribute_model, integrated_gradients
from latentomics.reads.bases import N, decode, encode, reverse_complement
from latentomics.reads.models.strands import BothStrands
from latentomics.reads.motifs import MOST, find_motifs
from latentomics.reads.store import Batch

__all__ = ["rng"]


@pytest.fixture(scope="module")
def marked() -> tuple[BothStrands, Batch]:
    """A network trained on reads of which one class carries a motif, and reads that it has not seen."""
    rng = np.random.default_rng(2)
    train, test = random_reads(4000, 50, 60, rng), random_reads(900, 50, 60, rng)
    for reads in (train, test):
        plant(reads, np.flatnonzero(reads.labels == 1), MOTIF, rng)
    return trained(train, 8), test


def test_a_planted_motif_is_recovered(marked: tuple[BothStrands, Batch], tmp_path: Path) -> None:
    network, reads = marked
    assert accuracy(network, reads) > 0.85
    model = SimpleNamespace(network=network, classes=["plain", "marked"])
    store = store_of(tmp_path / "data", reads)
    for again in ("one", "two"):
        attribute_model(model, store, 250, 3, tmp_path / again)
    for name in ("logos.tsv", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert list(summary["classes"]) == ["plain", "marked"]
    assert summary["classes"]["plain"]["motifs"] == [], "the absence of a motif is none"
    motif = summary["classes"]["marked"]["motifs"][0]
    assert motif["consensus"] in (MOTIF, OTHER_STRAND)
    assert motif["name"] == "motif1" and motif["reads_tested"] == 125
    assert motif["share"] > 0.6 and motif["share_others"] < 0.1 and motif["p_value"] < 1e-20
    assert summary["classes"]["marked"]["incomplete"] == 0
    logos = pd.read_csv(tmp_path / "one" / "logos.tsv", sep="\t")
    assert list(logos.columns) == ["class", "anchor", "position", "base", "value", "frequency", "frequency_others"]
    rows = logos[(logos["class"] == "marked") & (logos.anchor == "motif1")]
    assert len(rows) == 4 * len(MOTIF)
    spelled = rows.loc[rows.groupby("position").value.idxmax(), "base"].str.cat()
    assert spelled == motif["consensus"]
    assert set(logos.anchor) >= {"start", "end", "motif1"}
    assert logos[logos.anchor == "end"].position.unique().tolist() == list(range(-ANCHORED, 0))


def test_reads_without_signal_give_no_motif(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    train, test = random_reads(400, 50, 60, rng), random_reads(400, 50, 60, rng)
    network = trained(train, 30)
    assert accuracy(network, train) > 0.7, "it has learnt noise by heart"
    model = SimpleNamespace(network=network, classes=["plain", "marked"])
    attribute_model(model, store_of(tmp_path / "data", test), 200, 0, tmp_path / "out")
    classes = json.loads((tmp_path / "out" / "summary.json").read_text())["classes"]
    assert [facts["motifs"] for facts in classes.values()] == [[], []]


def ideal(motif: str, seed: int, share: float = 1.0) -> tuple[Batch, np.ndarray]:
    """Reads with a motif in some of them, and attributions that point to it through noise."""
    rng = np.random.default_rng(seed)
    reads = random_reads(240, 30, 50, rng)
    there = plant(reads, np.flatnonzero(rng.random(240) < share), motif, rng)
    values = np.where(there, 1.0, 0) + rng.normal(0, 0.2, there.shape)
    return reads, np.where(reads.codes < N, values, 0)


def other_reads(seed: int) -> np.ndarray:
    return random_reads(300, 30, 50, np.random.default_rng(seed + 1000)).codes


@settings(max_examples=12, deadline=None)
@given(
    st.text("ACGT", min_size=7, max_size=12).filter(lambda m: len({m[i : i + 2] for i in range(6)}) > 4),
    st.integers(0, 99),
)
def test_any_motif_is_recovered_from_good_attributions(motif: str, seed: int) -> None:
    reads, values = ideal(motif, seed)
    found = find_motifs(reads.codes, values, other_reads(seed), 2, seed)
    (code,), _, _ = encode([motif.encode()], len(motif))
    other = decode(reverse_complement(code[None], np.array([len(motif)])))[0]
    assert found and found[0].consensus in (motif, other)
    assert found[0].consensus == min(motif, other)
    assert np.allclose(found[0].frequencies.sum(axis=1), 1)
    assert len(found) <= MOST


def test_two_motifs_are_told_apart() -> None:
    reads, values = ideal("GATTACCAG", 4)
    half = np.arange(240) % 4 < 2
    second, also = ideal("CCGTATTG", 5)
    codes = np.where(half[:, None], reads.codes, second.codes)
    found = find_motifs(codes, np.where(half[:, None], values, also), other_reads(1), 2, 0)
    assert {motif.consensus for motif in found} == {"CTGGTAATC", "CAATACGG"}
    assert sum(motif.reads for motif in found) > 80


def test_attributions_alone_do_not_make_a_motif() -> None:
    reads, values = ideal(MOTIF, 3)
    assert find_motifs(reads.codes, values, other_reads(3), 2, 0)
    # The other classes have it just as often.
    rest = random_reads(300, 30, 50, np.random.default_rng(5))
    plant(rest, np.arange(300), MOTIF, np.random.default_rng(6))
    assert find_motifs(reads.codes, values, rest.codes, 2, 0) == []
    # The reads that it was not made from do not have it.
    rest.codes[0:240:2] = reads.codes[::2]
    rest.codes[1:240:2] = other_reads(9)[:120]
    assert find_motifs(rest.codes[:240], values, other_reads(3), 2, 0) == []


@pytest.mark.parametrize("motif", [MOTIF, "GATTACCAGTCC"])
def test_a_motif_is_gathered_from_both_strands_and_wherever_the_peak_is(motif: str) -> None:
    reads, values = ideal(motif, 7)
    (found,) = find_motifs(reads.codes, values, other_reads(7), 2, 0)
    assert 100 <= found.seqlets <= 135, "of 120 reads that carry it"
    assert found.share > 0.6


def test_a_motif_that_the_end_of_the_read_cuts_off_is_still_found(rng: np.random.Generator) -> None:
    reads = random_reads(240, 40, 40, rng)
    (code,), _, _ = encode([b"GATTACCAG"], 9)
    values = rng.normal(0, 0.1, reads.codes.shape)
    for i in range(240):
        begin = rng.integers(0, 3)
        reads.codes[i, : 9 - begin] = code[begin:]
        values[i, : 9 - begin] += 1
    found = find_motifs(reads.codes, values, other_reads(3), 2, 0)
    assert [motif.consensus for motif in found] == ["CTGGTAATC"]
    assert 0.2 < found[0].share < 0.5 and found[0].seqlets > 100, "a third is whole"


def test_base_composition_is_no_motif(rng: np.random.Generator) -> None:
    """One class has more G on either strand; the network sees that, and runs of G or of A are where it sees it best."""
    reads = random_reads(3000, 50, 60, rng)
    richer = (reads.labels == 1)[:, None] & (reads.codes < N) & (rng.random(reads.codes.shape) < 0.2)
    reads = reads._replace(codes=np.where(richer, 2, reads.codes).astype(np.uint8))
    train, test = Batch(*(part[:2000] for part in reads)), Batch(*(part[2000:] for part in reads))
    network = trained(train, 6)
    assert accuracy(network, test) > 0.65
    for label in range(2):
        mine, others = (Batch(*(part[test.labels == which] for part in test)) for which in (label, 1 - label))
        assert find_motifs(mine.codes, integrated_gradients(network, mine).values, others.codes, 2, 0) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_noise_gives_no_motif(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reads = random_reads(200, 30, 50, rng)
    assert find_motifs(reads.codes, rng.normal(size=reads.codes.shape), other_reads(seed), 2, seed) == []


@pytest.mark.parametrize("width", [1, 7, 9])
def test_short_reads_and_empty_classes_have_no_motif(width: int, rng: np.random.Generator) -> None:
    reads = random_reads(40, width, width, rng)
    values = rng.normal(size=reads.codes.shape)
    assert find_motifs(reads.codes, values, other_reads(0), 2, 0) == []
    assert find_motifs(reads.codes, values, np.zeros((0, 9), dtype=np.uint8), 2, 0) == []
    assert find_motifs(reads.codes[:1], values[:1], other_reads(0), 2, 0) == []
