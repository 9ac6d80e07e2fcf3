"""Simulated genomes: what relatives share, composition, repeats, lineages."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from genome_cases import genomes
from scipy import stats

from latentomics.metagenome import lineage as lineages
from latentomics.simulate.genomes import (
    CLOSE_PAIR,
    SPECIES,
    GenomeParams,
    Genomes,
    markov_sequence,
    mutate,
    transitions,
)

__all__ = ["genomes"]


def kmers(sequence: np.ndarray, k: int = 31) -> set[bytes]:
    text = sequence.tobytes()
    return {text[i : i + k] for i in range(len(text) - k + 1)}


def shared(one: set[bytes], other: set[bytes]) -> float:
    """Share of the first k-mers that are among the second."""
    return len(one & other) / len(one)


def test_the_close_pair_shares_the_kmers_that_its_distance_leaves(genomes: Genomes) -> None:
    one, other = (genomes.species[name] for name in CLOSE_PAIR)
    assert one.size == other.size
    differ = int((one != other).sum())
    assert stats.binomtest(differ, one.size, 0.01).pvalue > 1e-3
    for k in (21, 31):
        assert shared(kmers(one, k), kmers(other, k)) == pytest.approx(0.99**k, abs=0.02)


def test_kmers_are_shared_within_a_genus_and_hardly_beyond(genomes: Genomes) -> None:
    params = GenomeParams()
    names = {species.genome: species.names for species in SPECIES}
    assert list(genomes.species) == list(names)
    words = {name: kmers(sequence) for name, sequence in genomes.species.items()}
    for one, mine in names.items():
        for other, theirs in names.items():
            if one == other or {one, other} == set(CLOSE_PAIR):
                continue
            found = shared(words[one], words[other])
            if mine[:5] == theirs[:5]:
                core = 1 / (1 + np.array(params.accessory))
                low, high = (1 - params.species_distance) ** 31 * core[::-1]
                assert low - 0.03 < found < high + 0.03
            elif mine[:4] == theirs[:4]:
                assert 0.005 < found < 0.05
            else:
                assert found < 0.002
    others = [kmers(genomes.host), kmers(genomes.spike_in)]
    assert all(shared(other, mine) < 1e-3 for other in others for mine in words.values())


def test_composition_follows_the_phylum(genomes: Genomes) -> None:
    gc = pd.Series({name: float(np.isin(s, (ord("C"), ord("G"))).mean()) for name, s in genomes.species.items()})
    by = gc.groupby([species.names[0] for species in SPECIES]).agg(["min", "max"])
    assert list(by.sort_values("min").index) == ["Simulota", "Markovota", "Modelota", "Artefactota"]
    ordered = by.sort_values("min")
    assert (ordered["max"].to_numpy()[:-1] < ordered["min"].to_numpy()[1:]).all()


def test_markov_sequences_follow_their_chain() -> None:
    rng = np.random.default_rng(0)
    chain = transitions(2, 0.4, rng)
    codes = np.searchsorted(np.frombuffer(b"ACGT", np.uint8), markov_sequence(chain, 200_000, rng)).astype(int)
    seen = np.zeros((16, 4))
    np.add.at(seen, (codes[:-2] * 4 + codes[1:-1], codes[2:]), 1)
    expected = chain * seen.sum(axis=1, keepdims=True)
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, 16 * 3) > 1e-3


def test_mutations_are_other_bases_and_leave_n_alone() -> None:
    sequence = np.frombuffer(b"ACGTN" * 20_000, np.uint8)
    changed = mutate(sequence, 1.0, np.random.default_rng(0))
    real = sequence != ord("N")
    assert (changed[real] != sequence[real]).all() and (changed[~real] == ord("N")).all()
    for base in b"ACGT":
        counts = Counter(changed[sequence == base].tolist())
        assert set(counts) == set(b"ACGT") - {base}
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_the_host_has_repeats_and_the_spike_in_the_size_of_phix(genomes: Genomes) -> None:
    assert genomes.spike_in.size == 5386
    assert genomes.host.size == 200_000
    host = genomes.host.tobytes()
    repeated = Counter(host[i : i + 16] for i in range(len(host) - 15))
    assert sum(n for n in repeated.values() if n > 5) / len(host) > 0.02
    spread = Counter(s[i : i + 16] for s in [genomes.species["Aquella_puri"].tobytes()] for i in range(len(s) - 15))
    assert max(spread.values()) <= 5


def test_lineages_are_consistent() -> None:
    parents: dict[str, str] = {}
    for species in SPECIES:
        known = lineages.split(species.lineage)
        assert lineages.join(known) == species.lineage and lineages.rank_of(species.lineage) == "species"
        assert known["species"].split()[0] == known["genus"]
        for rank in ("phylum", "class", "order", "family", "genus", "species"):
            above = ";".join(list(known.values())[: list(known).index(rank)])
            assert parents.setdefault(known[rank], above) == above
    assert len({species.genome for species in SPECIES}) == 14


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"core_length": (10, 20)}, "core_length"),
        ({"accessory": (0.5, 0.1)}, "accessory"),
        ({"order": 0}, "order"),
        ({"close_distance": 0.9}, "distances"),
        ({"host_length": 100}, "host_length"),
    ],
)
def test_impossible_genomes_are_named(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GenomeParams(**bad)
