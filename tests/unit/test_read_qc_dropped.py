"""Reads that QC drops: simple ones, copies and those of hosts, against a plain reimplementation and a known truth."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from dnaio import SequenceRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from read_qc_cases import ADAPTERS, PLAIN, dna, get, good, put, row

from latentomics.config.reads import Reads
from latentomics.metagenome.complexity import Copies, is_complex, triplet_entropy
from latentomics.metagenome.fastq import Chunk, encode
from latentomics.metagenome.host import build_index
from latentomics.metagenome.read_qc import clean

# Complexity and copies -----------------------------------------------------------------------------------------------


def plain_entropy(sequence: str) -> float:
    words = [sequence[i : i + 3].upper() for i in range(len(sequence) - 2)]
    counts = Counter(word for word in words if set(word) <= set("ACGT"))
    n = sum(counts.values())
    if n < 2:
        return 0.0
    return -sum(c / n * math.log(c / n) for c in counts.values()) / math.log(min(64, n))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ACGTNacgt", max_size=40), max_size=6))
def test_entropy_against_a_plain_count(sequences):
    found = triplet_entropy(*encode([SequenceRecord("r", s, "I" * len(s)) for s in sequences]), len(sequences))
    assert found == pytest.approx([plain_entropy(s) for s in sequences], abs=1e-12)


def test_repeats_are_simple_and_genomes_are_not():
    rng = np.random.default_rng(6)
    repeats = [(dna(rng, unit) * 100)[:length] for unit in range(1, 6) for length in (35, 75, 150) for _ in range(20)]
    # GC content of 20 %, about that of Plasmodium falciparum
    genomes = ["".join(rng.choice(list("ACGT"), n, p=[0.4, 0.1, 0.1, 0.4])) for n in (35, 75, 150) for _ in range(300)]
    limit = Reads().min_complexity
    for sequences, share in ((repeats, 0.0), (genomes, 1.0)):
        chunk = Chunk(([SequenceRecord("r", s, "I" * len(s)) for s in sequences],))
        assert is_complex(chunk, limit).mean() == share


def test_a_simple_mate_takes_the_pair_along(tmp_path):
    rng = np.random.default_rng(7)
    ok, bad = dna(rng, 80), "AC" * 40
    pair = row(put(tmp_path / "1", good(ok, ok, bad)), put(tmp_path / "2", good(ok, bad, ok)))
    done = clean([pair], Reads(**PLAIN | {"min_complexity": 0.5}), ADAPTERS, {}, tmp_path / "reads")
    assert [name for name, *_ in get(tmp_path / "reads/reads_2.fastq.gz")] == ["r0"]
    assert done.steps.set_index("step")["reads"].to_dict() == {"raw": 6, "length": 6, "complexity": 2, "clean": 2}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["A", "C", "AC", "a", ""]), st.sampled_from(["A", "CA", ""])), max_size=30))
def test_copies_against_a_set_of_strings(pairs):
    mates = tuple([SequenceRecord("r", p[m], "I" * len(p[m])) for p in pairs] for m in (0, 1))
    copies, seen, found = Copies(), set(), []
    for i in range(0, len(pairs), 7):
        found += copies.is_new(Chunk(tuple(mate[i : i + 7] for mate in mates))).tolist()
    for one, two in pairs:
        key = (one.upper(), two.upper())
        assert found.pop(0) == (key not in seen)
        seen.add(key)


def test_copies_are_dropped_across_runs_but_pairs_are_not_copies_of_single_reads(tmp_path):
    a, b, c = (dna(np.random.default_rng(i), 60) for i in range(3))
    rows = [
        row(put(tmp_path / "s", good(a, b, a))),
        row(put(tmp_path / "t", good(b, c))),
        row(put(tmp_path / "1", good(a, a, a)), put(tmp_path / "2", good(b, c, b))),
    ]
    done = clean(rows, Reads(**PLAIN | {"deduplicate": True}), ADAPTERS, {}, tmp_path / "reads")
    assert [s for _, s, _ in get(tmp_path / "reads/reads.fastq.gz")] == [a, b, c]
    assert [s for _, s, _ in get(tmp_path / "reads/reads_2.fastq.gz")] == [b, c]
    assert done.steps.set_index("step")["reads"].to_dict() == {"raw": 11, "length": 11, "duplicates": 7, "clean": 7}
    assert done.summary["layout"] == "mixed"


# Hosts ---------------------------------------------------------------------------------------------------------------


def test_hosts_are_counted_one_after_the_other(tmp_path):
    rng = np.random.default_rng(8)
    human, phix, gut = (dna(rng, 5000) for _ in range(3))
    # What both hosts share counts for the first.
    phix = human[:1000] + phix[1000:]
    index = {}
    for name, genome in (("human", human), ("phix", phix)):
        (tmp_path / f"{name}.fa").write_text(f">x\n{genome}\n")
        build_index(tmp_path / f"{name}.fa", tmp_path / name, "kmers")
        index[name] = tmp_path / name
    take = lambda genome, n, low=1000: [genome[i : i + 100] for i in rng.integers(low, 4800, n)]  # noqa: E731
    single = [*take(human, 30), *take(gut, 20), *[phix[i : i + 100] for i in range(0, 900, 90)], *take(phix, 5)]
    rows = [
        row(put(tmp_path / "s", good(*single))),
        row(put(tmp_path / "1", good(*take(gut, 9))), put(tmp_path / "2", good(*take(gut, 8), human[:100]))),
    ]
    params = Reads(**PLAIN | {"hosts": ["x/human.fa", "phix.fna.gz"]})
    done = clean(rows, params, ADAPTERS, index, tmp_path / "reads")
    assert done.steps.set_index("step")["reads"].to_dict() == {
        **{"raw": 83, "length": 83, "host: human": 83 - 42, "host: phix": 36, "clean": 36}
    }
    assert [s for _, s, _ in get(tmp_path / "reads/reads.fastq.gz")] == single[30:50]
    assert [(h["name"], h["reads"], h["tool"]) for h in done.summary["hosts"]] == [
        ("human", 42, "kmers"),
        ("phix", 5, "kmers"),
    ]
    assert sorted(p.name for p in (tmp_path / "reads").iterdir()) == [
        "reads.fastq.gz",
        "reads_1.fastq.gz",
        "reads_2.fastq.gz",
    ]
