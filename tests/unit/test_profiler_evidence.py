"""What becomes of the evidence that profilers see: k-mers, abundances, the filter and its reasons."""

import dataclasses

import numpy as np
import pytest
from profiler_cases import bases
from scipy.sparse import csr_matrix

from latentomics.config.profile import Profile
from latentomics.metagenome.profile.evidence import Markers, Observations, expected_distinct, imitated, taxon_table
from latentomics.metagenome.profile.sketch import locate, merge, sketches


def test_sketches_in_chunks_equal_one_sketch(monkeypatch):
    from sourmash import MinHash

    rng = np.random.default_rng(3)
    reads = [bases(rng, 150) for _ in range(300)] + ["ACGTN" * 30, "ACG"]
    reads += reads[:50]
    whole = MinHash(0, 31, scaled=7, track_abundance=True)
    for read in reads:
        whole.add_sequence(read, force=True)
    monkeypatch.setattr("latentomics.metagenome.profile.sketch._CHUNK", 1000)
    hashes, occurrences = merge(list(sketches(reads, 31, 7)))
    assert dict(zip(hashes.tolist(), occurrences.tolist(), strict=True)) == dict(whole.hashes)
    found, places = locate(np.array([hashes[5], 1, hashes[-1]], np.uint64), hashes)
    assert found.tolist() == [True, False, True]
    assert places.tolist() == [5, len(hashes) - 1]


def observations(**changes):
    two = ["d__B;g__G;s__G a", "d__B;g__G;s__G b"]
    plain = Observations(
        "s",
        1000,
        1000.0,
        two,
        np.array([2e6, 4e6]),
        np.array([500.0, 500.0]),
        csr_matrix(np.eye(2)),
        {two[0]: 500.0, two[1]: 500.0},
        Markers({two[0]: 90, two[1]: 20}, {two[0]: 1000, two[1]: 1000}, np.array([0.2, 2.0])),
    )
    return dataclasses.replace(plain, **changes)


def test_abundance_is_by_genome_copies_and_the_filter_gives_reasons():
    table, notes = taxon_table(observations(), Profile())
    a, b = table.iloc[0], table.iloc[1]
    assert a["abundance"] == pytest.approx(2 / 3)
    assert a["reads"] == b["reads"] == pytest.approx(500)
    assert a["expected_evidence"] == pytest.approx(1000 * (1 - np.exp(-0.1)))
    assert b["expected_evidence"] == pytest.approx(1000 * (1 - np.exp(-1)))
    assert (a["reason"], b["reason"]) == ("", "distinct k-mers below 0.1 of what the abundance lets expect")
    assert notes == []
    few, _ = taxon_table(observations(), Profile(min_evidence=30))
    assert few["reason"].tolist() == ["", "fewer than 30 distinct k-mers of its own"]
    rare, _ = taxon_table(observations(), Profile(min_abundance=0.5))
    assert rare["reason"].tolist() == ["", "abundance below 0.5"]
    everything, _ = taxon_table(observations(), Profile(min_abundance=0, min_evidence=0, min_evidence_ratio=0))
    assert everything["kept"].all()


def test_copies_of_relatives_count_as_far_as_they_are_alike():
    # Genomes 0 and 1 are of one taxon; 2 shares half its evidence with 0 and a tenth with 3.
    likelihood = csr_matrix(
        [[0.5, 0, 0.5, 0], [0.5, 0.2, 0, 0], [0, 0.8, 0, 0], [0, 0, 0.4, 0], [0, 0, 0.1, 0.3], [0, 0, 0, 0.7]]
    )
    copies = np.array([3.0, 1.0, 10.0, 5.0])
    found = imitated(likelihood, np.array([0, 0, 1, 2]), copies)
    np.testing.assert_allclose(found, [0.5 * 10, 0.5 * 3 + 0.1 * 5, 0.3 * 10])
    assert imitated(csr_matrix((0, 0)), np.empty(0, int), np.empty(0)).tolist() == []


def test_notes_say_what_could_not_be_done():
    table, notes = taxon_table(observations(lengths=np.array([2e6, np.nan]), markers=None), Profile())
    assert table["abundance"].tolist() == pytest.approx([0.5, 0.5])
    assert "shares of reads" in notes[0]
    half = observations(counts=np.array([500.0, 500.0, 1000.0]), likelihood=csr_matrix(np.eye(3)[:, :2]))
    table, notes = taxon_table(half, Profile())
    assert table["reads"].sum() == pytest.approx(1000)
    assert "50.0%" in notes[0]


def test_expected_distinct_is_what_random_draws_give():
    rng = np.random.default_rng(0)
    seen = [len(np.unique(rng.integers(0, 500, 400))) for _ in range(200)]
    assert expected_distinct(np.array([500.0]), np.array([400.0]))[0] == pytest.approx(np.mean(seen), rel=0.01)
