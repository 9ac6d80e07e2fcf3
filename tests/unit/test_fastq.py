"""FASTQ in and out: what is accepted, what is refused and where, against known bytes and cutadapt's command line."""

from __future__ import annotations

import gzip
import random
import zlib
from pathlib import Path

import dnaio
import numpy as np
import pytest
from dnaio import SequenceRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config.row import InputRow
from latentomics.metagenome import fastq
from latentomics.metagenome.fastq import Chunk, encode, open_writers, read_chunks, stored_chunks, write_chunk
from latentomics.problems import InputError, Problem

GOOD = b"@r%d\nACGTACGT\n+\nIIIIHHHH\n"


def row(path: Path, path_2: Path | None = None) -> InputRow:
    return InputRow(0, "gut", "metagenome", path, "fastq", path_2)


def records(n: int, suffix: bytes = b"") -> bytes:
    return b"".join(GOOD.replace(b"%d", b"%d%s" % (i, suffix)) for i in range(1, n + 1))


def put(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def names(given: InputRow) -> list[list[str]]:
    chunks = list(read_chunks(given))
    return [[r.name for c in chunks for r in c.mates[m]] for m in range(len(chunks[0].mates))]


def refusal(given: InputRow) -> Problem:
    with pytest.raises(InputError) as caught:
        list(read_chunks(given))
    (problem,) = caught.value.problems
    assert "sample 'gut'" in problem.what
    return problem


@pytest.mark.parametrize("ending", ["fastq", "fastq.gz", "gz_by_content_only", "plain_named.gz"])
def test_plain_and_gzip_are_told_apart_by_content(tmp_path, ending):
    raw = records(3000)
    packed = ending in ("fastq.gz", "gz_by_content_only")
    path = put(tmp_path / f"a.{ending}", gzip.compress(raw) if packed else raw)
    assert names(row(path)) == [[f"r{i}" for i in range(1, 3001)]]


def test_pairs_with_slashes_and_with_illumina_names(tmp_path):
    one, two = put(tmp_path / "1", records(5, b"/1")), put(tmp_path / "2", records(5, b"/2"))
    assert names(row(one, two))[1][4] == "r5/2"
    one, two = put(tmp_path / "1", records(5, b" 1:N:0:A")), put(tmp_path / "2", records(5, b" 2:N:0:A"))
    assert [len(n) for n in names(row(one, two))] == [5, 5]


def test_several_gzip_members_are_one_file(tmp_path):
    path = put(tmp_path / "a.gz", gzip.compress(records(10)) + gzip.compress(records(10)))
    assert len(names(row(path))[0]) == 20


BROKEN = {
    "letters": (records(4) + b"@x\nAC-T\n+\nIIII\n", 5, "no bases", 18),
    "amino acids": (b"@x\nMKLVE\n+\nIIIII\n", 1, "no bases", 2),
    "quality too low": (records(4) + b"@x\nACGT\n+\nII\x1fI\n", 5, "outside the range", 20),
    "quality is DEL": (records(2) + b"@x\nACGT\n+\nII\x7fI\n", 3, "outside the range", 12),
    "phred 64": (b"@a\nACGT\n+\nffff\n@b\nACGT\n+\nBBBh\n", 1, "Phred+64", 4),
    "lengths differ": (records(4) + b"@x\nACGT\n+\nIII\n" + records(2), 5, "four lines", None),
    "no plus": (records(4) + b"@x\nACGT\nIIII\n@y\nACGT\n+\nIIII\n", 5, "four lines", 19),
    "no at": (records(4) + b"x\nACGT\n+\nIIII\n", 5, "four lines", 17),
    "cut short": (records(2000) + b"@x\nACG", 2001, "four lines", None),
    "fasta": (b">a\nACGT\n>b\nACGT\n", 1, "four lines", None),
    "not text": (records(4000) + b"@x\nAC\xffT\n+\nIIII\n", 4001, "not text", 16002),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_named(tmp_path, case, packed):
    raw, record, words, line = BROKEN[case]
    path = put(tmp_path / "a.fastq", gzip.compress(raw) if packed else raw)
    problem = refusal(row(path))
    assert problem.file == str(path)
    assert f"record {record} " in problem.what or f"record {record}:" in problem.what
    assert words in problem.what
    assert line is None or problem.row == line


@pytest.mark.parametrize("raw", [b"", gzip.compress(b"")], ids=["plain", "packed"])
def test_an_empty_file_is_refused(tmp_path, raw):
    assert "no reads" in refusal(row(put(tmp_path / "a.gz", raw))).what
    pair = row(put(tmp_path / "1", raw), put(tmp_path / "2", raw))
    assert "no reads" in refusal(pair).what


def test_truncated_gzip_names_the_first_record_that_is_not_whole(tmp_path):
    rng = random.Random(1)
    raw = b"".join(
        b"@r%d\n%s\n+\n%s\n" % (i, "".join(rng.choices("ACGT", k=60)).encode(), b"I" * 60) for i in range(9000)
    )
    packed = gzip.compress(raw)
    path = put(tmp_path / "a.gz", packed[: len(packed) // 2])
    lines = zlib.decompressobj(wbits=31).decompress(path.read_bytes()).count(b"\n")
    problem = refusal(row(path))
    assert "cut short" in problem.what and "gzip -t a.gz" in problem.hint
    assert f"record {lines // 4 + 1} " in problem.what


@pytest.mark.parametrize("at", [-6, 5000])
def test_damaged_gzip_is_refused(tmp_path, at):
    raw = bytearray(gzip.compress(b"".join(GOOD % (i * 7919 % 65537) for i in range(9000))))
    raw[at] ^= 0xFF
    problem = refusal(row(put(tmp_path / "a.gz", bytes(raw))))
    assert "record " in problem.what


@pytest.mark.parametrize("n", [1, 1024, 1025, 9000])
def test_mates_that_differ_in_number(tmp_path, n):
    long, short = put(tmp_path / "long", records(n + 1)), put(tmp_path / "short", records(n))
    for pair in (row(long, short), row(short, long)):
        problem = refusal(pair)
        assert (
            problem.file == str(short) and f"ends after record {n}," in problem.what and "long goes on" in problem.what
        )


def test_one_mate_file_is_empty(tmp_path):
    problem = refusal(row(put(tmp_path / "one", records(3)), put(tmp_path / "two", b"")))
    assert problem.file.endswith("two") and "ends after record 0" in problem.what


def test_mates_whose_names_differ(tmp_path):
    swapped = records(2000).replace(b"@r1500\n", b"@other\n")
    problem = refusal(row(put(tmp_path / "one", records(2000)), put(tmp_path / "two", swapped)))
    assert "record 1500:" in problem.what and problem.value == "other" and "'r1500'" in problem.what
    assert problem.row == 4 * 1499 + 1


def test_a_file_is_not_its_own_mate(tmp_path):
    path = put(tmp_path / "one", records(3))
    (tmp_path / "link").symlink_to(path)
    assert "same file" in refusal(row(path, tmp_path / "link")).what


@pytest.mark.parametrize(
    "qualities",
    [b"IIII", b"~~~~", b"FFFF", b"!!!!", b"KKKK", b"@@@@", b"!hhh", b"dd~~"],
    ids=["constant", "consensus", "binned", "zero", "K", "at", "wide", "very good consensus"],
)
def test_phred33_files_are_not_taken_for_phred64(tmp_path, qualities):
    raw = b"@a\nACGT\n+\n%s\n" % qualities
    assert len(names(row(put(tmp_path / "a", raw)))[0]) == 1


def test_chunks_of_long_reads_hold_few(tmp_path, monkeypatch):
    monkeypatch.setattr(fastq, "BASES_PER_CHUNK", 10_000)
    long = b"@l\n%s\n+\n%s\n" % (b"ACGTA" * 200, b"IIIII" * 200)
    sizes = [len(chunk) for chunk in read_chunks(row(put(tmp_path / "a", long * 3000)))]
    assert sum(sizes) == 3000 and set(sizes[1:-1]) == {10}


def test_written_reads_come_back_and_bytes_do_not_depend_on_the_time(tmp_path, monkeypatch):
    chunk = Chunk(([SequenceRecord("a x", "ACGT", "IIII")], [SequenceRecord("a y", "", "")]))
    for name, time in (("now", 1e9), ("later", 2e9)):
        monkeypatch.setattr("time.time", lambda time=time: time)
        (tmp_path / name).mkdir()
        with open_writers([tmp_path / name / "1.fastq.gz", tmp_path / name / "2.fastq.gz"]) as writers:
            write_chunk(chunk, writers)
    for file in ("1.fastq.gz", "2.fastq.gz"):
        assert (tmp_path / "now" / file).read_bytes() == (tmp_path / "later" / file).read_bytes()
    (back,) = stored_chunks([tmp_path / "now" / "1.fastq.gz", tmp_path / "now" / "2.fastq.gz"])
    assert [[(r.name, r.sequence, r.qualities) for r in mate] for mate in back.mates] == [
        [("a x", "ACGT", "IIII")],
        [("a y", "", "")],
    ]
    assert len(list(dnaio.open(tmp_path / "now" / "1.fastq.gz"))) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ACGTNacgtnRY", max_size=12), max_size=8))
def test_encode_keeps_every_base_in_its_read(sequences):
    codes, read = encode([SequenceRecord("r", s, "I" * len(s)) for s in sequences])
    expected = ["".join(c if c in "ACGT" else "." for c in s.upper()) for s in sequences]
    found = ["".join("ACGT."[c] for c in codes[read == i]) for i in range(len(sequences))]
    assert found == [e + "." for e in expected]
    assert len(codes) == len(read) and (np.diff(read) >= 0).all()
