"""The look at the first reads: each way in which a person gets files of reads wrong is found and named."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentomics.config.quantify import Quantify
from latentomics.config.row import InputRow
from latentomics.problems import InputError, Problem
from latentomics.scrna.quantify import whitelist as whitelists
from latentomics.scrna.quantify.inspect import check_reads, count_reads

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
COMPLEMENT = str.maketrans("ACGT", "TGCA")
N = 400
WHOLE = gzip.compress("".join(f"@r{i}\n{i:030b}\n+\n{'I' * 30}\n" for i in range(1000)).encode(), mtime=0)


def bases(rng: np.random.Generator, n: int, length: int) -> list[str]:
    return [row.tobytes().decode() for row in BASES[rng.integers(4, size=(n, length))]]


def write(path: Path, sequences: list[str], start: int = 0) -> Path:
    text = "".join(f"@read{i}\n{s}\n+\n{'I' * len(s)}\n" for i, s in enumerate(sequences, start))
    path.write_bytes(gzip.compress(text.encode(), 1, mtime=0) if path.suffix == ".gz" else text.encode())
    return path


class Case:
    """Reads of a library in a folder; ``barcodes`` are on the list ``list.txt``."""

    def __init__(self, folder: Path, umi: int = 10, rna: int = 91) -> None:
        rng = np.random.default_rng(1)
        self.folder = folder
        listed = bases(rng, 50, 16)
        self.barcodes = [listed[i] for i in rng.integers(50, size=N)]
        self.first = [b + u for b, u in zip(self.barcodes, bases(rng, N, umi), strict=True)]
        self.rna = bases(rng, N, rna)
        (folder / "list.txt").write_text("\n".join(listed) + "\n")
        self.row = InputRow(
            2,
            "s1",
            "scrna",
            write(folder / "s_R1.fastq.gz", self.first),
            "fastq",
            path_2=write(folder / "s_R2.fastq.gz", self.rna),
        )

    def check(self, row: InputRow | None = None, **settings: object) -> list[Problem]:
        settings = {"technology": "10xv2", "whitelist": "list.txt", **settings}
        return check_reads(row or self.row, Quantify(**settings), self.folder)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def one(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    assert "'s1'" in problems[0].what
    return problems[0]


def test_sound_reads_have_no_problem(case: Case) -> None:
    assert case.check() == []
    assert case.check(whitelist="none") == []
    assert case.check(technology="0,0,16:0,16,26:1,0,0") == []


def test_barcode_reads_may_be_longer_than_needed(case: Case) -> None:
    longer = [s + r[:74] for s, r in zip(case.first, case.rna, strict=True)]
    row = replace(case.row, path=write(case.folder / "long_R1.fastq", longer))
    assert case.check(row) == []
    assert case.check(row, whitelist="none") == []


def test_swapped_files_are_told_by_length(case: Case) -> None:
    swapped = replace(case.row, path=case.row.path_2, path_2=case.row.path)
    for whitelist in ("list.txt", "none"):
        problem = one(case.check(swapped, whitelist=whitelist))
        assert "look swapped" in problem.what and "exchange `path` and `path_2`" in problem.hint
        assert problem.severity == "error"


def test_swapped_files_of_one_length_are_told_by_the_list(case: Case) -> None:
    longer = [(s + r)[:91] for s, r in zip(case.first, case.rna, strict=True)]
    file = write(case.folder / "long_R1.fastq.gz", longer)
    problem = one(case.check(replace(case.row, path=case.row.path_2, path_2=file)))
    assert "look swapped" in problem.what and "exchange" in problem.hint


def test_three_files_in_the_wrong_order(case: Case) -> None:
    rng = np.random.default_rng(2)
    parts = {"barcode": bases(rng, N, 14), "umi": bases(rng, N, 10), "rna": bases(rng, N, 80)}
    file = {name: write(case.folder / f"{name}.fastq", sequences) for name, sequences in parts.items()}
    right = replace(case.row, path=file["barcode"], path_2=file["umi"], path_3=file["rna"])
    assert case.check(right, technology="10xv1", whitelist="none") == []
    wrong = replace(case.row, path=file["rna"], path_2=file["barcode"], path_3=file["umi"])
    problem = one(case.check(wrong, technology="10xv1", whitelist="none"))
    assert "`path` to 'barcode.fastq', `path_2` to 'umi.fastq', `path_3` to 'rna.fastq'" in problem.hint


@pytest.mark.parametrize(("umi", "said", "right"), [(10, "10xv3", "10xv2"), (4, "10xv2", "dropseq")])
def test_reads_too_short_for_a_technology_name_the_one_that_fits(
    tmp_path: Path, umi: int, said: str, right: str
) -> None:
    case = Case(tmp_path, umi=umi)
    problem = one(case.check(technology=said, whitelist="none"))
    assert f"do not look like {said}" in problem.what and right in problem.hint and problem.key == "path"


def test_swapped_and_of_another_technology(case: Case) -> None:
    swapped = replace(case.row, path=case.row.path_2, path_2=case.row.path)
    problem = one(case.check(swapped, technology="10xv3", whitelist="none"))
    assert "look swapped" in problem.what and "`technology` to 10xv2" in problem.hint


def test_umis_cut_short_are_a_warning_where_no_list_tells(tmp_path: Path) -> None:
    case = Case(tmp_path, umi=12)
    problem = one(case.check(whitelist="none"))
    assert problem.severity == "warning" and "10xv3 or 10xv4" in problem.hint
    assert case.check() == [], "the barcodes are on the list"


def test_trimmed_reads_fit_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path, umi=7)
    problem = one(case.check(whitelist="none"))
    assert "too short" in problem.what and "s_R1.fastq.gz: 23" in problem.what


def test_very_short_rna_is_a_warning(tmp_path: Path) -> None:
    problem = one(Case(tmp_path, rna=25).check())
    assert problem.severity == "warning" and problem.key == "path_2"


def test_a_list_that_matches_nothing(case: Case) -> None:
    (case.folder / "other.txt").write_text("\n".join(bases(np.random.default_rng(9), 50, 16)) + "\n")
    problem = one(case.check(whitelist="other.txt"))
    assert "only 0.0% of the first 400 barcodes" in problem.what and "other.txt" in problem.what
    assert "everse complement" in problem.hint


def test_a_list_of_reverse_complements_is_recognised(case: Case) -> None:
    lines = (case.folder / "list.txt").read_text().split()
    (case.folder / "rc.txt").write_text("".join(line.translate(COMPLEMENT)[::-1] + "\n" for line in lines))
    assert "100.0% of their reverse complements" in one(case.check(whitelist="rc.txt")).hint


def test_a_list_of_another_length(case: Case) -> None:
    (case.folder / "short.txt").write_text("ACGTACGTACGTAC\n")
    assert "have 16 bases, those of the list" in one(case.check(whitelist="short.txt")).what


def test_the_list_of_another_technology_is_named(case: Case) -> None:
    own = whitelists.bundled("10xv2")
    assert own is not None
    with gzip.open(own, "rt") as stream:
        listed = [line.strip() for line, _ in zip(stream, range(60), strict=False)]
    first = [listed[i % 60] + s[16:] + "AC" for i, s in enumerate(case.first)]
    row = replace(case.row, path=write(case.folder / "v2_R1.fastq.gz", first))
    assert case.check(row, whitelist="auto") == []
    problem = one(case.check(row, technology="10xv3", whitelist="auto"))
    assert "10x_version3" in problem.what and "set `technology` to 10xv2" in problem.hint


def test_files_of_different_reads(case: Case) -> None:
    shifted = replace(case.row, path_2=write(case.folder / "other_R2.fastq.gz", case.rna, start=1))
    assert "names do not match" in one(case.check(shifted)).what
    fewer = replace(case.row, path_2=write(case.folder / "few_R2.fastq.gz", case.rna[:-3]))
    assert "mates are missing" in one(case.check(fewer)).what


def test_files_that_are_no_reads(case: Case) -> None:
    cut = case.folder / "cut_R2.fastq.gz"
    assert case.row.path_2 is not None
    cut.write_bytes(case.row.path_2.read_bytes()[:3000])
    assert "cut short" in one(case.check(replace(case.row, path_2=cut))).what
    table = case.folder / "table.fastq"
    table.write_text("gene,cell\n1,2\n")
    assert "not a FASTQ record" in one(case.check(replace(case.row, path=table))).what
    assert "`path_2` is empty" in one(case.check(replace(case.row, path_2=None))).what


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    end=st.sampled_from(["", "\n", "\n\n"]),
    packed=st.booleans(),
)
def test_reads_are_counted_to_the_last(tmp_path: Path, lengths: list[int], end: str, packed: bool) -> None:
    records = [f"@r\n{'A' * n}\n+\n{'I' * n}" for n in lengths]
    text = ("\n".join(records) + end).encode()
    file = tmp_path / "x.fastq"
    file.write_bytes(gzip.compress(text, mtime=0) if packed else text)
    row = InputRow(2, "s1", "scrna", file, "fastq")
    assert count_reads(row, file) == len(lengths)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.01, 0.999))
def test_a_gzip_file_cut_anywhere_is_found(tmp_path: Path, share: float) -> None:
    file = tmp_path / "x.fastq.gz"
    file.write_bytes(WHOLE[: max(3, int(share * len(WHOLE)))])
    with pytest.raises(InputError, match="'s1': the file is cut short"):
        count_reads(InputRow(2, "s1", "scrna", file, "fastq"), file)


def test_a_plain_file_that_ends_within_a_read(tmp_path: Path) -> None:
    file = tmp_path / "x.fastq"
    file.write_text("@a\nACGT\n+\nIIII\n@b\nACGT\n+")
    with pytest.raises(InputError, match="ends within read 2"):
        count_reads(InputRow(2, "s1", "scrna", file, "fastq"), file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    listed=st.lists(st.text("ACGT", min_size=3, max_size=3), min_size=1, max_size=40),
    asked=st.sets(st.text("ACGT", min_size=3, max_size=3), max_size=20),
    end=st.sampled_from(["", "\n", "\r\n"]),
    block=st.integers(1, 50),
)
def test_which_barcodes_are_on_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str], asked: set[str], end: str, block: int
) -> None:
    monkeypatch.setattr(whitelists, "_BLOCK", block)
    file = tmp_path / "list.txt"
    file.write_text("\n".join(listed) + end, newline="")
    wanted = frozenset(barcode.encode() for barcode in asked)
    assert whitelists.on_list(wanted, file) == {b.encode() for b in asked & set(listed)}


@pytest.mark.parametrize("block", [3, 1 << 22])
def test_lists_are_checked_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(whitelists, "_BLOCK", block)
    file, to = tmp_path / "list.txt.gz", tmp_path / "plain"
    file.write_bytes(gzip.compress(b"ACGT\n\nTTTT\n"))
    assert whitelists.stage(file, 4, to) == 2 and to.read_text() == "ACGT\nTTTT\n"
    assert whitelists.on_list(frozenset({b"TTTT", b"AAAA"}), file) == {b"TTTT"}
    file.write_bytes(b"ACGT\r\nTTTT")
    assert whitelists.stage(file, 4, to) == 2 and to.read_text() == "ACGT\nTTTT\n"
    bad = [(b"ACGT-1\n", 1), (b"ACGT\nACG\n", 2), (b"ACGT\n\nACGN\n", 3), (b"ACGT\nACGT\tACGT\n", 2), (b"ACGT \n", 1)]
    for text, line in bad:
        file.write_bytes(text)
        with pytest.raises(InputError) as caught:
            whitelists.stage(file, 4, to)
        assert caught.value.problems[0].row == line
    file.write_bytes(b"\n\n")
    with pytest.raises(InputError, match="holds no barcode"):
        whitelists.stage(file, 4, to)
