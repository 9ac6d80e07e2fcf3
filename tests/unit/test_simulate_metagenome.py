"""The simulator of metagenomes against its own truth, read back from the files that it writes."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from pathlib import Path

import dnaio
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latentomics.metagenome import lineage as lineages
from latentomics.simulate.__main__ import main
from latentomics.simulate.communities import Communities, MetagenomeParams, draw_communities
from latentomics.simulate.genomes import (
    CLOSE_PAIR,
    HOST,
    SPECIES,
    SPIKE_IN,
    GenomeParams,
    Genomes,
    draw_genomes,
    markov_sequence,
    mutate,
    transitions,
)
from latentomics.simulate.metagenome_files import SIMPLE, render_metagenomes, write_metagenomes
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

SMALL = MetagenomeParams(
    replicates=1, pairs=400, genomes=GenomeParams(core_length=(5000, 9000), host_length=20_000), copy_share=0.1
)
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(scope="module")
def genomes() -> Genomes:
    return draw_genomes(GenomeParams(), np.random.default_rng(7))


@pytest.fixture(scope="module")
def pairs(genomes: Genomes) -> ReadPairs:
    return simulate_pairs(genomes.host, 20_000, np.random.default_rng(1), length=100, insert_mean=150, insert_sd=50)


@pytest.fixture(scope="module")
def small() -> tuple[dict[str, bytes], list[dict[str, str]]]:
    return render_metagenomes(SMALL)


@pytest.fixture(scope="module")
def communities() -> Communities:
    return draw_communities(MetagenomeParams(replicates=40), np.random.default_rng(3))


def kmers(sequence: np.ndarray, k: int = 31) -> set[bytes]:
    text = sequence.tobytes()
    return {text[i : i + k] for i in range(len(text) - k + 1)}


def shared(one: set[bytes], other: set[bytes]) -> float:
    """Share of the first k-mers that are among the second."""
    return len(one & other) / len(one)


def records(data: bytes) -> list[dnaio.SequenceRecord]:
    with dnaio.open(io.BytesIO(gzip.decompress(data))) as reader:
        return list(reader)


def table(files: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(files[f"metagenome/{name}"]), sep="\t", keep_default_na=False)


# --- genomes ---


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


# --- reads ---


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


# --- communities ---


def test_cells_sum_to_one_and_no_covariate_predicts_another(communities: Communities) -> None:
    assert np.allclose(communities.cells.sum(axis=1), 1)
    assert (communities.cells.to_numpy() >= 0).all()
    kept = communities.samples[~communities.samples["control"]]
    for a, b in (("batch", "condition"), ("batch", "label"), ("condition", "label")):
        assert set(pd.crosstab(kept[a], kept[b]).to_numpy().ravel()) == {80}
    low = kept[kept["low_biomass"]]
    assert all((low[column].value_counts() == 2).all() for column in ("batch", "condition", "label"))


def test_effects_are_those_of_the_truth(communities: Communities) -> None:
    params = MetagenomeParams()
    kept = communities.samples[~communities.samples["control"] & ~communities.samples["low_biomass"]]
    role = communities.taxa["role"]
    log = np.log(communities.cells.loc[kept.index, ~role.isin(["common", "contaminant"])])
    role = role[log.columns]

    def contrast(column: str, one: str, other: str, by: pd.Series, against: pd.Series) -> pd.Series:
        found = log[by.index[by]].sub(log[against.index[against]].mean(axis=1), axis=0)
        return found[kept[column] == one].mean() - found[kept[column] == other].mean()

    drivers = role.str.startswith("driver")
    responders = contrast("condition", "disease", "healthy", ~drivers, drivers)
    wanted = np.log(communities.taxa.loc[responders.index, "condition_factor"])
    assert set(np.exp(wanted).round(3)) == {3.0, round(1 / 3, 3)}
    assert np.allclose(responders, wanted, atol=0.3)
    first = contrast("label", "community1", "community2", role == "driver1", role == "driver2")
    # Drivers of the first group gain and those of the second lose: twice the logarithm of the factor.
    assert np.allclose(first, 2 * np.log(params.group_factor), atol=0.4)
    shift = contrast("batch", "batch2", "batch1", role.notna(), drivers)
    assert 0.05 < shift.std() < 0.6


def test_contaminants_are_in_controls_and_low_biomass_only(communities: Communities) -> None:
    foreign = communities.taxa["role"] == "contaminant"
    share = communities.cells.loc[:, foreign].sum(axis=1)
    samples = communities.samples
    plain = ~samples["control"] & ~samples["low_biomass"]
    assert foreign.sum() == 2
    assert (share[plain] == 0).all()
    assert share[samples["low_biomass"]].between(0.1, 0.3).all()
    assert np.allclose(share[samples["control"]].mean(), 0.95, atol=0.01)
    assert (samples.loc[samples["control"], ["condition", "label"]] == "").all(axis=None)
    depth = samples["pairs"]
    assert depth[plain].median() == pytest.approx(3500, rel=0.1)
    assert depth[samples["low_biomass"]].median() < 0.75 * depth[plain].median()
    assert samples.loc[plain, "host_share"].between(0.05, 0.3).all()


def test_one_group_has_no_structure() -> None:
    found = draw_communities(MetagenomeParams(groups=("only",), replicates=30), np.random.default_rng(0))
    kept = ~found.samples["control"] & ~found.samples["low_biomass"]
    log = np.log(found.cells.loc[kept, found.taxa["role"].str.startswith("driver")])
    clr = log.sub(log.mean(axis=1), axis=0)
    assert set(found.samples.loc[kept, "label"]) == {"only"}
    # With two groups the first component of the drivers holds nearly everything; here it is one of five.
    values = np.linalg.eigvalsh(np.cov(clr.T))[::-1]
    assert values[0] / values.sum() < 0.4


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"seed": -1}, "seed"),
        ({"batches": ()}, "non-empty"),
        ({"groups": ("a", "a")}, "repeats"),
        ({"conditions": ("a", "b", "c")}, "two at most"),
        ({"replicates": 0}, "3 samples"),
        ({"pairs": 3}, "pairs"),
        ({"length": 10}, "length"),
        ({"error_rate": 0.2}, "error_rate"),
        ({"insert_sd": -2}, "insert_sd"),
        ({"sample_scale": -1}, "sample_scale"),
        ({"group_factor": 0}, "group_factor"),
        ({"copy_share": 1.0}, "copy_share"),
        ({"host_share": (0.3, 0.1)}, "host_share"),
        ({"control_host_share": (0.5, 0.98)}, "leave room"),
    ],
)
def test_impossible_studies_are_named(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MetagenomeParams(**bad)


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


# --- files ---


def mates(files: dict[str, bytes], rows: list[dict[str, str]], sample: str, column: str = "path") -> list:
    return [r for row in rows if row["sample"] == sample and row[column] for r in records(files[row[column]])]


def test_origins_in_the_names_are_those_of_the_truth(small: tuple) -> None:
    files, rows = small
    origins, truth = table(files, "origins.tsv"), table(files, "truth.tsv")
    samples = draw_communities(SMALL, np.random.default_rng([0, 1])).samples
    assert np.allclose(truth.groupby("sample")["abundance"].sum(), 1, atol=1e-4)
    assert np.allclose(truth.groupby("sample")["read_share"].sum(), 1, atol=1e-4)
    shares, p_values = set(), []
    for sample, wanted in origins.groupby("sample", sort=False):
        names = [record.name.split(":") for record in mates(files, rows, sample)]
        assert len({name[1] for name in names}) == len(names) == samples.loc[sample, "pairs"]
        found = Counter(name[0] for name in names)
        wanted = wanted.set_index("origin")
        assert dict(found) == wanted.loc[wanted["pairs"] > 0, "pairs"].to_dict()
        written = truth[truth["sample"] == sample].set_index("genome")["pairs"]
        assert written.to_dict() == wanted.loc[written.index, "pairs"].to_dict()
        unique = wanted["pairs"] - wanted["copies"]
        host = samples.loc[sample, "host_share"]
        expected = pd.Series({HOST: host, SIMPLE: SMALL.simple_share})
        expected[SPIKE_IN] = SMALL.spike_share * samples.loc[sample, "spiked"]
        microbes = truth[truth["sample"] == sample].set_index("genome")["read_share"]
        expected = pd.concat([expected, (1 - expected.sum()) * microbes])
        for origin, share in expected.items():
            if share == 0:
                assert unique[origin] == 0
            else:
                p_values.append(stats.binomtest(int(unique[origin]), int(unique.sum()), min(share, 1)).pvalue)
        shares.add(unique[SPIKE_IN] > 0)
    assert min(p_values) > 1e-4 and np.mean(np.array(p_values) < 0.05) < 0.1
    assert shares == {True, False}
    assert origins["copies"].sum() / origins["pairs"].sum() == pytest.approx(SMALL.copy_share, abs=0.015)


def test_read_shares_are_abundances_times_genome_lengths(small: tuple) -> None:
    files, _ = small
    truth = table(files, "truth.tsv")
    size = {g: len(records(files[f"metagenome/genomes/{g}.fa.gz"])[0].sequence) for g in truth["genome"].unique()}
    weight = truth["abundance"] * truth["genome"].map(size)
    expected = weight / weight.groupby(truth["sample"]).transform("sum")
    assert np.allclose(truth["read_share"], expected, rtol=1e-4)


def test_reads_come_from_the_genome_that_they_name(small: tuple) -> None:
    files, rows = small
    sequences = {
        record.name.split()[0]: record.sequence
        for name, data in files.items()
        if name.endswith(".fa.gz")
        for record in records(data)
    }
    assert {HOST, SPIKE_IN, *CLOSE_PAIR} < set(sequences)
    found, unfound = 0, 0
    first = mates(files, rows, "gut02")
    second = mates(files, rows, "gut02", "path_2")
    assert [r.name for r in first] == [r.name for r in second]
    for record in (*first, *second):
        origin, _, insert = record.name.split(":")
        if origin == SIMPLE or record.sequence.endswith("G" * 12):
            continue
        genome = sequences[origin]
        both = genome + "N" + genome.translate(COMPLEMENT)[::-1]
        read = record.sequence[: int(insert)]
        # Some piece of the read has no error.
        if any(read[i : i + 20] in both for i in range(0, len(read) - 19, 16)):
            found += 1
        else:
            unfound += 1
    assert found > 500 and unfound / found < 0.01


def test_copies_are_exact_and_tails_are_dark(small: tuple) -> None:
    files, rows = small
    origins = table(files, "origins.tsv")
    copies, tails, total = 0, 0, 0
    for sample in origins["sample"].unique():
        first = mates(files, rows, sample)
        second = mates(files, rows, sample, "path_2") or first
        pairs = [(a.sequence, b.sequence) for a, b in zip(first, second, strict=True)]
        real = [p for p, a in zip(pairs, first, strict=True) if not a.name.startswith(SIMPLE)]
        copies += len(real) - len(set(real))
        tails += sum(a.sequence.endswith("G" * 20) and int(a.name.split(":")[2]) >= 100 for a in first)
        total += len(first)
    assert copies == origins.loc[origins["origin"] != SIMPLE, "copies"].sum()
    # Errors in the G tail do not occur, since it is darkened after the errors; a few simple reads are all G.
    assert tails / total == pytest.approx(SMALL.dark_share, abs=0.015)


def test_the_sheet_names_every_file_and_every_kind_of_input(small: tuple) -> None:
    files, rows = small
    sheet = pd.DataFrame(rows)
    assert list(sheet.columns) == [
        *("sample", "assay", "path", "path_2", "batch", "condition", "control", "label"),
    ]
    named = {path for path in (*sheet["path"], *sheet["path_2"]) if path}
    assert named == {name for name in files if "/reads/" in name}
    assert list(sheet["sample"][:2]) == ["gut01", "gut01"] and sheet["sample"][2:].is_unique
    assert list(sheet.loc[sheet["path_2"] == "", "sample"]) == ["gut08"]
    assert list(sheet.loc[sheet["control"] == "yes", "sample"]) == ["blank1", "blank2"]
    assert set(sheet.loc[sheet["control"] == "", "label"]) == set(SMALL.groups)
    runs = [len(records(files[path])) for path in sheet["path"][:2]]
    assert abs(runs[0] - runs[1]) <= 1 and runs[0] > 0


def test_the_database_sheet_and_the_lineages_name_the_genomes(small: tuple) -> None:
    files, _ = small
    database = table(files, "databases.tsv")
    assert list(database.columns) == ["name", "profiler", "path", "lineages", "parameters"]
    assert database.iloc[0].to_list() == ["demo", "sourmash", "genomes/", "lineages.tsv", ""]
    found = table(files, "lineages.tsv").set_index("genome")["lineage"]
    paths = [name for name in files if "/genomes/" in name]
    assert {Path(p).name.removesuffix(".fa.gz") for p in paths} == set(found.index)
    for path in paths:
        (record,) = records(files[path])
        assert Path(path).name == f"{record.name}.fa.gz"
        assert lineages.name_of(found[record.name]) == record.name.replace("_", " ")


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(small: tuple) -> None:
    files, rows = small
    again, rows_again = render_metagenomes(SMALL)
    assert files == again and rows == rows_again
    assert all(data[4:8] == b"\0\0\0\0" for name, data in files.items() if name.endswith(".gz"))
    other, _ = render_metagenomes(MetagenomeParams(**{**vars(SMALL), "seed": 1}))
    same = {name for name in files if files[name] == other.get(name)}
    assert same == {"metagenome/lineages.tsv", "metagenome/databases.tsv", "metagenome/taxa.tsv"}


def test_deeper_sequencing_changes_neither_genomes_nor_communities(small: tuple) -> None:
    files, _ = small
    deeper, _ = render_metagenomes(MetagenomeParams(**{**vars(SMALL), "pairs": 800}))
    for name in files:
        if name.endswith(".fa.gz"):
            assert files[name] == deeper[name]
    columns = ["sample", "genome", "abundance", "read_share"]
    pd.testing.assert_frame_equal(table(files, "truth.tsv")[columns], table(deeper, "truth.tsv")[columns])


def test_a_second_writing_leaves_right_files_alone(tmp_path: Path) -> None:
    rows, written = write_metagenomes(tmp_path, SMALL)
    assert all((tmp_path / row["path"]).is_file() for row in rows)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert set(written) == set(before)
    damaged = tmp_path / rows[0]["path"]
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert write_metagenomes(tmp_path, SMALL) == (rows, [damaged])
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p in after if after[p] != before.get(p)} == {damaged}


def test_the_demo_is_one_sheet_of_both_assays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out
    assert "24 metagenomes and 2 negative controls" in said and "cells x" in said
    assert main([str(tmp_path / "cells"), "--assay", "scrna"]) == 0
    both = pd.read_csv(tmp_path / "both/samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    cells = pd.read_csv(tmp_path / "cells/samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert list(both["assay"].value_counts()[["scrna", "metagenome"]]) == [4, 27]
    pd.testing.assert_frame_equal(both.loc[both["assay"] == "scrna", cells.columns], cells)
    new = both.columns.difference(cells.columns)
    assert set(new) == {"path_2", "control"} and (both.loc[both["assay"] == "scrna", new] == "").all(axis=None)
    for path in (p for column in ("path", "path_2") for p in both[column] if p):
        assert (tmp_path / "both" / path).exists()
    for file in (tmp_path / "cells").rglob("*"):
        if file.is_file() and file.name != "samples.tsv":
            assert file.read_bytes() == (tmp_path / "both" / file.relative_to(tmp_path / "cells")).read_bytes()
    size = sum(file.stat().st_size for file in (tmp_path / "both/metagenome").rglob("*") if file.is_file())
    assert size < 25e6
