"""Host reads: k-mers against a plain reference, and both tools on simulated reads whose origin is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import dnaio
import numpy as np
import pytest
from dnaio import SequenceRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.metagenome import host, kmers
from latentomics.metagenome.fastq import Chunk, encode, open_writers, stored_chunks, write_chunk
from latentomics.metagenome.host import build_index, choose_tool, open_judge, tool_of
from latentomics.problems import InputError

needs_minimap2 = pytest.mark.skipif(shutil.which("minimap2") is None, reason="minimap2 is not installed")
TOOLS = ["kmers", pytest.param("minimap2", marks=needs_minimap2)]
K = kmers.K


def dna(rng: np.random.Generator, n: int) -> str:
    return "".join(rng.choice(list("ACGT"), n))


def reverse_complement(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def fasta(path: Path, *sequences: str) -> Path:
    path.write_text("".join(f">s{i}\n{s}\n" for i, s in enumerate(sequences)))
    return path


def read(name: str, sequence: str) -> SequenceRecord:
    return SequenceRecord(name, sequence, "I" * len(sequence))


def simulate(rng, genome: str, n: int, length: int, error: float, pairs: bool, name: str) -> list[list[SequenceRecord]]:
    """Reads (or pairs with inserts of two lengths) from random places and strands, with substitutions."""
    mates: list[list[SequenceRecord]] = [[], []]
    for i in range(n):
        at = rng.integers(0, len(genome) - 2 * length)
        insert = genome[at : at + 2 * length]
        if rng.random() < 0.5:
            insert = reverse_complement(insert)
        for mate, start in zip(mates, (insert, reverse_complement(insert)), strict=True):
            bases = np.array(list(start[:length]))
            wrong = rng.random(length) < error
            bases[wrong] = [rng.choice([b for b in "ACGT" if b != base]) for base in bases[wrong]]
            mate.append(read(f"{name}{i}", "".join(bases)))
    return mates if pairs else mates[:1]


def judged(tmp_path: Path, index: Path, chunk: Chunk, share: float = 0.25, threads: int = 1) -> np.ndarray:
    files = [tmp_path / f"{m}.fastq.gz" for m in range(len(chunk.mates))]
    with open_writers(files) as writers:
        write_chunk(chunk, writers)
    with open_judge(index, files, share, threads) as judge:
        return np.concatenate([judge(part) for part in stored_chunks(files)])


# k-mers ------------------------------------------------------------------------------------------------------------


def canonical(sequence: str) -> list[str | None]:
    """Canonical k-mer at each position, by strings; None where it has another letter."""
    words = [sequence[i : i + K] for i in range(len(sequence) - K + 1)]
    return [min(w, reverse_complement(w)) if set(w) <= set("ACGT") else None for w in words]


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", max_size=90), st.booleans())
def test_hashes_are_alike_exactly_where_canonical_kmers_are(sequence, repeat):
    sequence = sequence.replace("NN", "A") + (reverse_complement(sequence.replace("N", "C")) if repeat else "")
    codes, _ = encode([read("r", sequence)])
    hashes, valid = kmers.canonical_hashes(codes[:-1])
    expected = canonical(sequence)
    assert [bool(v) for v in valid] == [word is not None for word in expected]
    pairs = {(word, int(h)) for word, h in zip(expected, hashes, strict=True) if word}
    assert len(pairs) == len({word for word, _ in pairs}) == len({h for _, h in pairs})


def test_reverse_complements_hash_alike_and_in_reverse_order():
    sequence = dna(np.random.default_rng(0), 500)
    one, other = (
        kmers.canonical_hashes(encode([read("r", s)])[0][:-1])[0] for s in (sequence, reverse_complement(sequence))
    )
    assert (one == other[::-1]).all()


def test_index_holds_every_kmer_of_every_sequence_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(kmers, "_BLOCK", 100)
    rng = np.random.default_rng(1)
    sequences = [dna(rng, 1003), dna(rng, K), dna(rng, K - 1), dna(rng, 99) + "N" * 30 + dna(rng, 140)]
    kmers.build_index(fasta(tmp_path / "a.fa", *sequences), tmp_path / "a")
    index = kmers.load_index(tmp_path / "a")
    distinct = {word for s in sequences for word in canonical(s) if word}
    assert len(index.hashes) == len(distinct) and (np.diff(index.hashes.astype(object)) > 0).all()
    chunk = Chunk(([read("r", s) for s in sequences],))
    shared, looked_up = kmers.shared_kmers(chunk, index)
    assert shared.tolist() == looked_up.tolist() == [sum(w is not None for w in canonical(s)[::4]) for s in sequences]


def test_shared_kmers_against_sets_of_strings(tmp_path):
    rng = np.random.default_rng(2)
    genome = dna(rng, 3000)
    kmers.build_index(fasta(tmp_path / "a.fa", genome), tmp_path / "a")
    inside = set(canonical(genome))
    reads = [dna(rng, 40) + genome[i : i + 60] + dna(rng, 10) for i in range(0, 2500, 50)] + ["", "ACGT", "N" * 50]
    shared, looked_up = kmers.shared_kmers(Chunk(([read("r", s) for s in reads],)), kmers.load_index(tmp_path / "a"))
    assert shared.tolist() == [sum(w in inside for w in canonical(s)[::4] if w) for s in reads]
    assert looked_up.tolist() == [sum(w is not None for w in canonical(s)[::4]) for s in reads]


def test_a_large_genome_is_sampled_and_reads_alike(tmp_path):
    rng = np.random.default_rng(3)
    genome = dna(rng, 60_000)
    kmers.build_index(fasta(tmp_path / "a.fa", genome[:30_000], genome[30_000:]), tmp_path / "small", max_hashes=10_000)
    index = kmers.load_index(tmp_path / "small")
    assert len(index.hashes) <= 10_000 and index.largest == (2**64 - 1) // 8
    assert (index.hashes <= index.largest).all()
    assert len(index.hashes) == pytest.approx(60_000 / 8, rel=0.05)
    shared, looked_up = kmers.shared_kmers(Chunk(([read("r", genome[:30_000]), read("q", dna(rng, 30_000))],)), index)
    assert shared[0] == looked_up[0] == pytest.approx(30_000 / 8, rel=0.1)
    assert shared[1] == 0


def test_an_index_of_a_host_without_kmers_finds_nothing(tmp_path):
    build_index(fasta(tmp_path / "a.fa", "ACGT"), tmp_path / "a", "kmers")
    assert not judged(tmp_path, tmp_path / "a", Chunk(([read("r", "ACGT" * 20)],))).any()


def test_an_index_of_another_version_is_refused(tmp_path, monkeypatch):
    kmers.build_index(fasta(tmp_path / "a.fa", "ACGT" * 20), tmp_path / "a")
    monkeypatch.setattr(kmers, "_FORMAT", 2)
    with pytest.raises(ValueError, match="another version"):
        kmers.load_index(tmp_path / "a")


#: By tool, pairs or single reads, read length. Measured: kmers 1, 0.999, 0.9955; minimap2 1, 0.9995, 0.973.
SENSITIVITY = {
    ("kmers", True, 150): 0.999,
    ("kmers", False, 150): 0.997,
    ("kmers", False, 75): 0.99,
    ("minimap2", True, 150): 0.999,
    ("minimap2", False, 150): 0.995,
    ("minimap2", False, 75): 0.965,
}

# Both tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("pairs", "length"), [(True, 150), (False, 150), (False, 75)])
def test_sensitivity_and_specificity_at_one_percent_errors(tmp_path, tool, pairs, length):
    """2,000 reads or pairs of the host and as many others: none of the others may go."""
    rng = np.random.default_rng(4)
    genome, other = dna(rng, 100_000), dna(rng, 100_000)
    build_index(fasta(tmp_path / "host.fa", genome), tmp_path / "host", tool)
    assert tool_of(tmp_path / "host") == tool
    n = 2000
    theirs, others = (
        simulate(rng, source, n, length, 0.01, pairs, name) for source, name in ((genome, "h"), (other, "o"))
    )
    found = judged(
        tmp_path, tmp_path / "host", Chunk(tuple([*a, *b] for a, b in zip(theirs, others, strict=True))), threads=2
    )
    assert found[:n].mean() >= SENSITIVITY[tool, pairs, length]
    assert found[n:].sum() == 0


def test_a_sampled_index_still_finds_most(tmp_path):
    """One k-mer in 16, as of the human genome: 99 % of the pairs of 150 bases (measured: all), none of the others."""
    rng = np.random.default_rng(10)
    genome, other = dna(rng, 100_000), dna(rng, 100_000)
    kmers.build_index(fasta(tmp_path / "host.fa", genome), tmp_path / "host", max_hashes=7000)
    assert kmers.load_index(tmp_path / "host").largest == (2**64 - 1) // 16
    found = [
        judged(tmp_path, tmp_path / "host", Chunk(tuple(simulate(rng, source, 1000, 150, 0.01, True, "r"))))
        for source in (genome, other)
    ]
    assert found[0].mean() >= 0.99 and found[1].sum() == 0


@pytest.mark.parametrize("tool", TOOLS)
def test_a_pair_goes_with_one_host_mate_but_not_for_a_scrap(tmp_path, tool):
    rng = np.random.default_rng(5)
    genome = dna(rng, 20_000)
    build_index(fasta(tmp_path / "host.fa", genome), tmp_path / "host", tool)
    other = [dna(rng, 150) for _ in range(3)]
    first = [genome[500:650], genome[900:945] + other[0][:105], other[0]]
    chunk = Chunk(
        ([read(f"p{i}/1", s) for i, s in enumerate(first)], [read(f"p{i}/2", s) for i, s in enumerate(other)])
    )
    assert judged(tmp_path, tmp_path / "host", chunk).tolist() == [True, False, False]


@pytest.mark.parametrize("tool", TOOLS)
def test_odd_names_empty_reads_and_many_chunks_stay_in_step(tmp_path, tool):
    rng = np.random.default_rng(6)
    genome = dna(rng, 20_000)
    build_index(fasta(tmp_path / "host.fa", genome), tmp_path / "host", tool)
    names = ["@SQ", "@SQ x", "a/1", "=", "*", "a b/1 c", "x" * 200, ""]
    reads = [read(names[i % len(names)], genome[i : i + 100] if i % 3 == 0 else dna(rng, 100)) for i in range(3000)]
    reads[1] = read("short", "A")
    found = judged(tmp_path, tmp_path / "host", Chunk((reads,)))
    assert (found == (np.arange(3000) % 3 == 0)).all()


@pytest.mark.parametrize("tool", TOOLS)
def test_no_reads_at_all(tmp_path, tool):
    build_index(fasta(tmp_path / "host.fa", dna(np.random.default_rng(0), 2000)), tmp_path / "host", tool)
    files = [tmp_path / "a.fastq.gz"]
    with open_writers(files):
        pass
    with open_judge(tmp_path / "host", files, 0.25) as judge:
        assert [judge(chunk) for chunk in stored_chunks(files)] == []


@pytest.mark.parametrize("tool", TOOLS)
def test_index_is_the_same_twice_and_from_gzip(tmp_path, tool):
    import gzip

    plain = fasta(tmp_path / "a.fa", dna(np.random.default_rng(7), 5000))
    packed = tmp_path / "b.fa"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert build_index(plain, tmp_path / "one", tool) == build_index(packed, tmp_path / "two", tool) == 5000
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("text", ["", "@r\nACGT\n+\nIIII\n", ">only a name\n", "\0\1\2"])
def test_a_bad_fasta_leaves_nothing_behind(tmp_path, tool, text):
    (tmp_path / "bad.fa").write_text(text)
    with pytest.raises(InputError, match=r"bad\.fa"):
        build_index(tmp_path / "bad.fa", tmp_path / "index", tool)
    with pytest.raises(InputError, match="missing"):
        build_index(tmp_path / "missing.fa", tmp_path / "index", tool)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.fa"]


def test_which_tool(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert choose_tool("auto") == choose_tool("kmers") == "kmers"
    with pytest.raises(InputError, match="not installed"):
        choose_tool("minimap2")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/minimap2")
    assert choose_tool("auto") == choose_tool("minimap2") == "minimap2"
    (tmp_path / "x").write_text("something else")
    with pytest.raises(InputError, match="not an index"):
        tool_of(tmp_path / "x")


@needs_minimap2
def test_a_failing_minimap2_is_an_error_and_no_process_is_left(tmp_path, monkeypatch):
    build_index(fasta(tmp_path / "a.fa", dna(np.random.default_rng(0), 2000)), tmp_path / "host", "minimap2")
    (tmp_path / "host").write_bytes((tmp_path / "host").read_bytes()[:20])
    started = []
    popen = host.subprocess.Popen
    monkeypatch.setattr(host.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises((RuntimeError, InputError)):
        judged(tmp_path, tmp_path / "host", Chunk(([read("r", "ACGT" * 20)],)))
    assert all(process.returncode is not None for process in started)


def test_dnaio_writes_what_the_simulation_made(tmp_path):
    """The simulated pairs face each other: mate 2 is the reverse complement of the insert's end."""
    genome = dna(np.random.default_rng(8), 1000)
    (one,), (two,) = simulate(np.random.default_rng(9), genome, 1, 50, 0.0, True, "h")
    both = genome + reverse_complement(genome)
    assert one.sequence in both and two.sequence in both and dnaio.records_are_mates(one, two)
