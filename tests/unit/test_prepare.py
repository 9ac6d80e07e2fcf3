"""What is in the store is known beforehand: built from the same reads with strings and dictionaries."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config.classifier import Classifier
from latentomics.problems import InputError
from latentomics.reads.bases import decode, encode, hashes
from latentomics.reads.distinct import BEYOND, CONFLICT, DUPLICATE
from latentomics.reads.leakage import check_split
from latentomics.reads.prepare import ledger, prepare
from latentomics.reads.sources import LabelledReads, Tally
from latentomics.reads.store import TEST, TRAIN, VALIDATION, ReadStore

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
ORDER = str.maketrans("ACGTN", "01234")
#: Sequence, class, source, unit.
Read = tuple[str, str, str, str | None]


def other_strand(read: str) -> str:
    return read.translate(COMPLEMENT)[::-1]


def canonical(read: str) -> str:
    return min(read, other_strand(read), key=lambda s: s.translate(ORDER))


def hash_of(read: str) -> int:
    return int(hashes(encode([read.encode()], len(read))[0])[0])


def chunks(reads: list[Read], size: int = 1000) -> Iterator[LabelledReads]:
    for start in range(0, len(reads), size):
        part = reads[start : start + size]
        codes, lengths, _ = encode([read[0].encode() for read in part], max(len(read[0]) for read in part))
        labels, sources, units = (np.array([read[i] for read in part], dtype=object) for i in (1, 2, 3))
        yield LabelledReads(codes, lengths, labels, sources, None if part[0][3] is None else units)


def build(folder: Path, reads: list[Read], size: int = 1000, seed: int = 0, **config) -> ReadStore:
    prepare(chunks(reads, size), Classifier(**config), seed, folder, Tally())
    return ReadStore(folder)


def random_table(n: int, seed: int = 0, unit: str = "source", n_sources: int = 12) -> list[Read]:
    """Reads of three classes, each source of one class; a third are copies, half of these of the other strand, some of
    another label or source."""
    random = np.random.default_rng(seed)
    reads: list[Read] = []
    for _ in range(n):
        number = int(random.integers(n_sources))
        source, label = f"s{number}", f"class{(2, 10, 1)[number % 3]}"
        if reads and random.random() < 0.3:
            read = reads[int(random.integers(len(reads)))][0]
            read = other_strand(read) if random.random() < 0.5 else read
        else:
            read = "".join(random.choice(list("ACGTN"), random.integers(30, 91), p=[0.24, 0.25, 0.26, 0.24, 0.01]))
        reads.append((read, label, source, source if unit == "source" else None))
    return reads


def expected(reads: list[Read]) -> tuple[dict[str, str], Counter, Counter, int]:
    """Label of each canonical sequence that stays; copies and conflicting reads per label; conflicting sequences."""
    seen: dict[str, list[str]] = defaultdict(list)
    for read, label, *_ in reads:
        seen[canonical(read)].append(label)
    clear = {read: labels[0] for read, labels in seen.items() if len(set(labels)) == 1}
    unclear = [label for read, labels in seen.items() if read not in clear for label in labels]
    copies = Counter(dict.fromkeys(clear.values(), 0))
    for read, label in clear.items():
        copies[label] += len(seen[read]) - 1
    return clear, copies, Counter(unclear), len(seen) - len(clear)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("unit", ["source", "sequence"])
def test_what_is_kept(tmp_path, unit):
    """Against strings: which reads stay, with which label, in which order, and what is counted."""
    reads = random_table(3000, unit=unit)
    tally = Tally()
    tally.add("too short", "class1", 7)
    tally.add("no label", "", 2)
    prepare(chunks(reads), Classifier(), 3, tmp_path / "data", tally, ["a.tsv", "b.tsv"])
    store = ReadStore(tmp_path / "data")
    clear, copies, unclear, conflicts = expected(reads)
    assert conflicts > 100
    found = decode(store.codes(slice(None)))
    assert found == sorted(clear, key=hash_of)
    assert store.classes == ["class1", "class2", "class10"]
    assert [store.classes[label] for label in store.labels] == [clear[read] for read in found]
    assert store.lengths.tolist() == list(map(len, found))
    assert store.source_names == [f"s{i}" for i in range(12)]
    owners = defaultdict(set)
    for read, _, source, _ in reads:
        owners[canonical(read)].add(source)
    assert all(store.source_names[s] in owners[read] for read, s in zip(found, store.sources, strict=True))
    facts = store.facts
    assert (facts["read"], facts["reads"]) == (3009, len(clear))
    assert (facts["conflicts"], facts["duplicates"]) == (conflicts, copies.total())
    assert facts["dropped"] == {
        "too short": 7,
        "no label": 2,
        CONFLICT: unclear.total(),
        DUPLICATE: copies.total(),
    }
    assert facts["read"] == facts["reads"] + sum(facts["dropped"].values())
    for name in store.classes:
        assert tally.counts[CONFLICT, name] == unclear[name]
        assert tally.counts[DUPLICATE, name] == copies[name]
    lengths = sorted(map(len, clear))
    assert facts["length"] == {"min": lengths[0], "median": lengths[(len(lengths) - 1) // 2], "max": lengths[-1]}
    assert (facts["unit"], facts["files"], facts["width"]) == (unit, ["a.tsv", "b.tsv"], lengths[-1])
    assert facts["leak"]["identical"] == check_split(store) == 0
    assert [list(facts["per_class"][name].values()) for name in store.classes] == store.counts.T.tolist()


@given(st.lists(st.tuples(st.text("ACN", min_size=1, max_size=4), st.sampled_from("xyz")), min_size=1, max_size=60))
@settings(deadline=None, max_examples=20)
def test_tiny_reads_of_every_kind(tmp_path_factory, drawn):
    """Short reads of few letters: palindromes, many copies, many conflicts; reads of each class make up the rest."""
    rest = [
        ("ACGT" + "ACGT"[i % 4] * i, label, "s", None) for j, label in enumerate("xyz") for i in range(9 + j, 30, 3)
    ]
    reads = [(read, label, "s", None) for read, label in drawn] + rest
    store = build(tmp_path_factory.mktemp("tiny") / "data", reads, size=7)
    clear, copies, unclear, conflicts = expected(reads)
    found = decode(store.codes(slice(None)))
    assert dict(zip(found, (store.classes[label] for label in store.labels), strict=True)) == clear
    assert store.facts["conflicts"] == conflicts
    assert len(reads) == len(clear) + copies.total() + unclear.total()


def test_neither_runs_nor_chunks_nor_order_matter(tmp_path):
    reads = random_table(2000)
    whole = contents(build(tmp_path / "whole", reads, 2000).path)
    assert contents(build(tmp_path / "again", reads, 2000).path) == whole
    assert contents(build(tmp_path / "small", reads, 37).path) == whole
    assert contents(build(tmp_path / "backwards", reads[::-1], 301).path) == whole
    mixed = np.random.default_rng(0).permutation(len(reads))
    assert contents(build(tmp_path / "mixed", [reads[i] for i in mixed]).path) == whole
    assert contents(build(tmp_path / "seed", reads, seed=1).path) != whole
    by_length = sorted(reads, key=lambda read: len(read[0]))
    assert contents(build(tmp_path / "widths", by_length, 100).path) == whole


def test_names_that_are_the_same_number(tmp_path):
    random = np.random.default_rng(4)
    names = ["1", "01", "10", "2", "x"]
    reads = [("".join(random.choice(list("ACGT"), 40)), names[i % 5], names[i % 5], None) for i in range(100)]
    store = build(tmp_path / "data", reads)
    assert store.classes == store.source_names == ["01", "1", "2", "10", "x"]
    assert contents(build(tmp_path / "backwards", reads[::-1]).path) == contents(store.path)


def test_wide_chunks_and_padding_do_not_matter(tmp_path):
    reads = random_table(300)
    expected_bytes = contents(build(tmp_path / "narrow", reads).path)

    def padded() -> Iterator[LabelledReads]:
        for chunk in chunks(reads, 50):
            codes = np.pad(chunk.codes, ((0, 0), (0, 150 - chunk.codes.shape[1])), constant_values=5)
            yield LabelledReads(codes, chunk.lengths, chunk.labels, chunk.sources, chunk.units)
            yield LabelledReads(codes[:0], chunk.lengths[:0], chunk.labels[:0], chunk.sources[:0], None)

    prepare(padded(), Classifier(), 0, tmp_path / "wide", Tally())
    assert contents(tmp_path / "wide") == expected_bytes


def test_sources_are_never_divided(tmp_path):
    """Also where copies of a read are in several sources: the one copy is where its source is."""
    store = build(tmp_path / "data", random_table(4000, n_sources=30))
    splits = [set(store.splits[store.sources == source]) for source in range(30)]
    assert all(len(found) == 1 for found in splits)
    assert check_split(store) == 0
    shares = store.counts / store.counts.sum(axis=0)
    np.testing.assert_allclose(shares, np.array([[0.7], [0.1], [0.2]]) * np.ones(3), atol=0.06)


def regions(n_sources: int = 4, n_regions: int = 40, n: int = 3000) -> list[Read]:
    random = np.random.default_rng(1)
    reads = []
    for source, region in zip(random.integers(0, n_sources, n), random.integers(0, n_regions, n), strict=True):
        read = "".join(random.choice(list("ACGT"), 60))
        reads.append((read, f"genus{source % 2}", f"g{source}", f"g{source}:{region:05d}"))
    return reads


def test_regions_are_never_divided(tmp_path):
    reads = regions()
    store = build(tmp_path / "data", reads)
    assert store.facts["unit"] == "region"
    split_of = dict(zip(decode(store.codes(slice(None))), store.splits, strict=True))
    found = defaultdict(set)
    for read, _, _, unit in reads:
        found[unit].add(split_of[canonical(read)])
    assert all(len(splits) == 1 for splits in found.values())
    np.testing.assert_allclose(store.counts[TEST] / store.counts.sum(axis=0), 0.2, atol=0.01)


def test_held_out_sources(tmp_path):
    """Two of four genomes are the test and nothing else is; the regions of the others train and validate."""
    store = build(tmp_path / "data", regions(), split={"test_sources": ["g0", "g3"]})
    held_out = np.isin(store.sources, [0, 3])
    np.testing.assert_array_equal(store.splits == TEST, held_out)
    np.testing.assert_allclose(store.counts[VALIDATION] / store.counts[:TEST].sum(axis=0), 0.1, atol=0.025)
    assert store.facts["test_sources"] == ["g0", "g3"]
    one = build(tmp_path / "one", regions(), split={"test_sources": ["g0"]})
    assert one.counts[TEST, 1] == 0
    sequences = build(tmp_path / "free", random_table(900, unit="none"), split={"test_sources": ["s0", "s1"]})
    np.testing.assert_array_equal(sequences.splits == TEST, np.isin(sequences.sources, [0, 1]))


def test_sources_and_single_reads_together(tmp_path):
    reads = regions(n=400) + [(read, label, "table", None) for read, label, *_ in random_table(400, seed=5)]
    store = build(tmp_path / "data", reads, size=100)
    assert store.facts["unit"] == "region and sequence"
    assert (store.counts > 0).all()


def test_the_largest_number_of_reads_per_class(tmp_path):
    """The smallest hashes stay, after copies and conflicts are gone."""
    reads = random_table(3000, unit="none")
    store = build(tmp_path / "data", reads, max_reads_per_class=200)
    clear, *_ = expected(reads)
    kept = [
        read for name in store.classes for read in sorted((r for r in clear if clear[r] == name), key=hash_of)[:200]
    ]
    assert decode(store.codes(slice(None))) == sorted(kept, key=hash_of)
    assert store.counts.sum(axis=0).tolist() == [200] * 3
    assert store.facts["dropped"][BEYOND] == len(clear) - 600
    assert store.facts["read"] == 600 + sum(store.facts["dropped"].values())


def few(*sources: int) -> list[Read]:
    """As many sources as said for each class, 50 reads each."""
    random = np.random.default_rng(2)
    names = [(f"class {c}", f"s{c}.{i}") for c, n in enumerate(sources) for i in range(n)]
    return [("".join(random.choice(list("ACGT"), 50)), *name, name[1]) for name in names for _ in range(50)]


def test_few_sources(tmp_path):
    """Three sources: one for each split. Two: training and test, and validation takes reads of the training source."""
    store = build(tmp_path / "data", few(3, 2))
    assert store.counts[:, 0].tolist() == [50, 50, 50]
    assert store.counts[TEST, 1] == 50
    assert store.counts[VALIDATION, 1] > 0
    assert store.facts["validation_by_sequence"] == ["class 1"]
    borrowed = set(store.sources[(store.labels == 1) & (store.splits == VALIDATION)])
    assert borrowed == set(store.sources[(store.labels == 1) & (store.splits == TRAIN)])
    assert build(tmp_path / "three", few(3, 3)).facts["validation_by_sequence"] == []


CASES = {
    "one source": (
        few(3, 1),
        {},
        "class 'class 1' has no reads for the test: it has only one source (value 's1.0')",
        "source_co",
    ),
    "one class": (few(3), {}, "reads of one class only ('class 0')", "`LAB` the column"),
    "only conflicts": (
        [(read, label, "s", None) for read, *_ in few(2) for label in "ab"],
        {},
        "no reads are left; left out: 100 of 'b' (the same bases have different labels)",
        "labels right",
    ),
    "unknown test source": (
        few(2, 2),
        {"split": {"test_sources": ["s1.l"]}},
        "config, classifier.split.test_sources: no reads are from this source (value 's1.l')",
        "did you mean 's1.1'?",
    ),
    "a class wholly held out": (
        few(2, 2),
        {"split": {"test_sources": ["s1.0", "s1.1"]}},
        "class 'class 1' has no reads for training: all its sources are test_sources (value ['s1.0', 's1.1'])",
        "leave one of its sources",
    ),
    "one read": (
        [(read, "a" if i else "b", "s", None) for i, (read, *_) in enumerate(few(1))],
        {},
        "class 'b' has no reads for the test: it has 1 in all",
        "leave it out",
    ),
    "one region": (
        [*regions(2, n=200), ("A" * 50, "plasmid", "p", "p:00000")],
        {},
        "class 'plasmid' has no reads for the test: its genomes have too few regions",
        "drawn.region",
    ),
    "no reads": ([], {}, "no reads are left", "column"),
    "too many classes": (
        [(read, str(i), "s", None) for i, (read, *_) in enumerate(few(6))],
        {},
        "more than 255 classes",
        "`LAB`",
    ),
    "entangled": (
        [*few(3, 3), *(("".join(p), "class 2", "s0.1", "s0.1") for p in zip(*["ACGTTGCA" * 5] * 40, strict=True))],
        {},
        "class 'class 2' has no",
        "source",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_faults_say_what_to_do_and_leave_nothing(tmp_path, case):
    reads, config, what, hint = CASES[case]
    with pytest.raises(InputError) as caught:
        build(tmp_path / "results" / "data", reads, training="reads.tsv", **config)
    assert what in str(caught.value)
    assert hint in str(caught.value).split("Hint:")[1]
    assert list((tmp_path / "results").iterdir()) == []


def test_a_fault_of_a_later_file_leaves_what_was_there(tmp_path):
    before = contents(build(tmp_path / "data", few(3, 3)).path)

    def broken() -> Iterator[LabelledReads]:
        yield from chunks(few(2, 2))
        raise RuntimeError("the file is damaged")

    with pytest.raises(RuntimeError):
        prepare(broken(), Classifier(), 0, tmp_path / "data", Tally())
    assert contents(tmp_path / "data") == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    again = build(tmp_path / "data", few(3, 2))
    assert len(again) == 250
    assert {path.suffix for path in again.path.iterdir()} == {".npy", ".json"}


def test_a_class_without_any_read_left_is_named(tmp_path):
    """It and its source are gone from the numbers; the others keep their names."""
    reads = few(3, 3)
    reads += [(read, "class 0b", "s0.1b", "s0.1b") for read, *_ in reads[:20]]
    store = build(tmp_path / "data", reads)
    assert store.classes == ["class 0", "class 1"]
    assert store.facts["classes_left_out"] == ["class 0b"]
    assert store.counts.sum(axis=0).tolist() == [130, 150]
    assert store.source_names == [f"s{c}.{i}" for c in range(2) for i in range(3)]
    names = {canonical(read): (label, source) for read, label, source, _ in reads}
    for read, label, source in zip(decode(store.codes(slice(None))), store.labels, store.sources, strict=True):
        assert names[read] == (store.classes[label], store.source_names[source])


def test_ledger(tmp_path):
    tally = Tally()
    tally.add("no label", "", 3)
    prepare(chunks(random_table(500)), Classifier(), 0, tmp_path / "data", tally)
    table = ledger(tally)
    assert list(table.columns) == ["kind", "item", "n", "reason"]
    facts = json.loads((tmp_path / "data" / "data.json").read_text())
    assert table.groupby("reason")["n"].sum().to_dict() == facts["dropped"]
    assert set(table["item"]) <= {"class unknown", "class1", "class2", "class10"}
    assert table.loc[table["reason"] == "no label", ["kind", "item", "n"]].values.tolist() == [
        ["read", "class unknown", 3]
    ]
