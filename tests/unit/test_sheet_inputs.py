"""The inputs that a sheet names: their formats, their files, and where they may lie."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sheet_cases import GOOD, Folder

from latentomics.config import row as module
from latentomics.config.inputs import FORMATS, mtx_names, recognise, tenx_files
from latentomics.config.row import ASSAYS, SAMPLE_NAME, InputRow
from latentomics.config.sheet import read_sheet


@pytest.fixture
def study(tmp_path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(("form", "near"), [("h5da", "h5ad"), ("H5AD", "h5ad"), ("10x-dir", "10x_dir"), ("loom", None)])
def test_unknown_format(study, form, near):
    problem = study.one(f"A\tscrna\ta.h5ad\t{form}", header="sample\tassay\tpath\tformat")
    assert (problem.key, problem.value) == ("format", form)
    assert ("did you mean" in problem.hint) == bool(near)
    assert near is None or repr(near) in problem.hint
    assert all(known in problem.hint for known in FORMATS["scrna"])


def test_format_not_recognised(study):
    study.file("reads.bam")
    problem = study.one("A\tscrna\treads.bam")
    assert (problem.key, problem.what) == ("path", "sample 'A': format not recognised")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.h5", "10x_h5"), ("a.h5ad", "h5ad"), ("A.H5AD", "h5ad"), ("a.mtx", "mtx"), ("a.mtx.gz", "mtx"),
        ("a.csv", "dense"), ("a.tsv.gz", "dense"), ("a.txt", "dense"), ("a.bam", None), ("h5ad", None), ("a.gz", None),
    ],
)  # fmt: skip
def test_recognise(tmp_path, name, form):
    assert recognise(tmp_path / name, "scrna") == form
    assert recognise(tmp_path, "scrna") == "10x_dir"


def test_layer_of_another_format(study):
    problem = study.one("A\tscrna\tc.h5\tcounts", header="sample\tassay\tpath\tlayer")
    assert (problem.key, problem.value) == ("layer", "counts")


def test_every_fault_of_a_row_and_every_row(study):
    found, problems = study.rows(
        "-x\tatac\tnowhere.h5ad\tfoo\tcounts\tno.tsv",
        GOOD,
        "B\tscrna\t\tfoo",
        header="sample\tassay\tpath\tformat\tlayer\tmetadata",
    )
    assert [(p.row, p.key) for p in problems] == [
        *[(2, key) for key in ("sample", "assay", "path", "metadata", "format")],
        (4, "path"),
        (4, "format"),
    ]
    assert [row.sample for row in found.rows] == ["A"]


def test_an_incomplete_folder_is_found_beside_other_faults(study):
    (study.config / "tenx").mkdir()
    _, problems = study.rows("-x\tatac\ttenx")
    assert [p.key for p in problems] == ["sample", "assay", "path"]


@pytest.mark.parametrize("left_out", [None, 0, 1, 2])
@pytest.mark.parametrize(
    "names", [("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"), ("matrix.mtx", "genes.tsv", "barcodes.tsv")]
)
def test_tenx_folder(study, names, left_out):
    files = [study.file(f"tenx/{name}") for name in names]
    if left_out is None:
        found, problems = study.rows("A\tscrna\ttenx/")
        assert problems == []
        assert found.rows[0].files() == tenx_files(study.config / "tenx") == files
        assert found.rows[0].format == "10x_dir"
    else:
        files[left_out].unlink()
        assert "not a complete 10x folder" in study.one("A\tscrna\ttenx").what


@pytest.mark.parametrize(
    ("matrix", "names"),
    [("e.mtx", ("e.barcodes.tsv", "e.genes.tsv")), ("x/matrix.mtx.gz", ("x/barcodes.tsv.gz", "x/features.txt"))],
)
def test_files_of_a_matrix_are_those_beside_it_too(study, matrix, names):
    files = [study.file(name) for name in (matrix, *names)]
    found, problems = study.rows(f"A\tscrna\t{matrix}\tmeta.tsv", header="sample\tassay\tpath\tmetadata")
    assert problems == []
    assert mtx_names(files[0]) == tuple(files[1:])
    assert found.rows[0].files() == [*files, study.config / "meta.tsv"]


def test_files_of_a_lone_matrix(study):
    assert study.rows("A\tscrna\te.mtx")[0].rows[0].files() == [study.config / "e.mtx"]


def test_where_paths_may_point(study, tmp_path):
    study.file("../data/in.h5ad")
    outside = study.file("../../out.h5ad")
    beside = tmp_path / "study-2"
    beside.mkdir()
    (beside / "x.h5ad").touch()
    assert study.rows("A\tscrna\t../data/in.h5ad", f"B\tscrna\t{outside}", "C\tscrna\tx/../a.h5ad")[1] == []
    for path in ("../../out.h5ad", "../data/../../out.h5ad", "../../study-2/x.h5ad", "../.."):
        problem = study.one(f"A\tscrna\t{path}")
        assert problem.what == "sample 'A': relative path leaves the study's folder"
        assert "absolute path" in problem.hint


def test_a_sheet_outside_its_study(study, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    found, problems = read_sheet(other / ".." / "study/config" / "s.tsv", other)
    assert found is None
    (study.config / "s.tsv").write_text("sample\tassay\tpath\nA\tscrna\ta.h5ad\nB\tscrna\t../../x.h5ad\n")
    found, problems = read_sheet(other / ".." / "study/config" / "s.tsv", other)
    assert [row.path for row in found.rows] == [study.config / "a.h5ad"]
    assert [(p.row, p.what) for p in problems] == [(3, "sample 'B': relative path leaves the study's folder")]


@pytest.mark.parametrize("path", ["nowhere.h5ad", "a.h5ad/b.h5ad", "~/a.h5ad", "no/where"])
def test_files_that_do_not_exist(study, path):
    problem = study.one(f"A\tscrna\t{path}")
    assert problem.what == "sample 'A': file does not exist"
    assert str(study.config / path) in problem.hint


@pytest.mark.parametrize(
    "path",
    ["x{y}.h5ad", "{wild}.h5ad", "}", "a\x1b[31m.h5ad", "a\x7f.h5ad", "a\u202e.h5ad", "a\0b.h5ad", "{}/../a.h5ad{"],
)
def test_paths_that_snakemake_or_a_terminal_would_misread(study, path):
    problem = study.one(f"A\tscrna\t{path}")
    assert problem.what == "sample 'A': path holds braces or control characters"
    assert "\x1b" not in str(problem)


def test_braces_in_the_folder_of_the_study(tmp_path):
    study = Folder(tmp_path / "{x}")
    assert "braces" in study.one(GOOD).what


def test_a_name_too_long_for_the_file_system(study):
    assert "cannot be reached" in study.one(f"A\tscrna\t{'a' * 300}.h5ad").what


def test_a_folder_that_hides_its_files(study, monkeypatch):
    real = Path.stat

    def refuse(self, **more):
        if self.name == "b.h5ad":
            raise PermissionError(13, "Permission denied")
        return real(self, **more)

    monkeypatch.setattr(Path, "stat", refuse)
    found, (problem,) = study.rows("B\tscrna\tb.h5ad", GOOD)
    assert "Permission denied" in problem.what
    assert len(found.rows) == 1


@pytest.mark.parametrize("locked", ["a.h5ad", "meta.tsv", "tenx", "tenx/features.tsv"])
def test_unreadable_files(study, monkeypatch, locked):
    # As root every file can be read: the system's answer is replaced.
    for name in ("matrix.mtx", "features.tsv", "barcodes.tsv"):
        study.file(f"tenx/{name}")
    real = os.access
    monkeypatch.setattr(
        module.os, "access", lambda path, mode: str(path) != str(study.config / locked) and real(path, mode)
    )
    problem = study.one("A\tscrna\ta.h5ad\tmeta.tsv", "T\tscrna\ttenx", header="sample\tassay\tpath\tmetadata")
    assert problem.what.endswith("file cannot be read")
    assert str(study.config / locked) in problem.hint
    assert problem.key == ("metadata" if locked == "meta.tsv" else "path")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.fastq.gz", "fastq"), ("a.FQ", "fastq"), ("a.biom", "biom"), ("a.kreport", "kraken_report"), ("a.tsv", "taxon_table"),
        ("a.bracken", "bracken"), ("a_profile.txt", "metaphlan"), ("a.metaphlan.tsv", "metaphlan"), ("a.h5ad", None),
    ],
)  # fmt: skip
def test_recognise_metagenomes(tmp_path, name, form):
    assert recognise(tmp_path / name, "metagenome") == form
    assert recognise(tmp_path, "metagenome") is None


READS = "sample\tassay\tpath\tpath_2"


def test_pairs_of_reads(study):
    study.file("a_1.fq.gz")
    study.file("a_2.fq.gz")
    sheet, problems = study.rows("A\tmetagenome\ta_1.fq.gz\ta_2.fq.gz", header=READS)
    assert not problems
    (row,) = sheet.rows
    assert (row.format, row.path.name, row.path_2.name) == ("fastq", "a_1.fq.gz", "a_2.fq.gz")
    assert [file.name for file in row.files()] == ["a_1.fq.gz", "a_2.fq.gz"]
    assert sheet.assays() == ["metagenome"]
    problem = study.one("A\tmetagenome\ta_1.fq.gz\ta_1.fq.gz", header=READS)
    assert (problem.key, problem.what) == ("path_2", "sample 'A': the same file twice")
    problem = study.one("A\tmetagenome\ta_1.fq.gz\tb_2.fq.gz", header=READS)
    assert (problem.key, problem.what) == ("path_2", "sample 'A': file does not exist")


def test_mates_belong_to_reads(study):
    study.file("t.biom")
    study.file("a_2.fq.gz")
    problem = study.one("A\tmetagenome\tt.biom\ta_2.fq.gz", header=READS)
    assert (problem.key, problem.what) == ("path_2", "sample 'A': `path_2` has no use here")


def test_reads_and_a_table_are_not_one_sample(study):
    study.file("t.biom")
    study.file("a_1.fq.gz")
    problem = study.one("A\tmetagenome\tt.biom", "A\tmetagenome\ta_1.fq.gz")
    assert problem.what == "sample 'A' has reads in one row and a table in another"


def test_relative_abundances_are_no_counts(study):
    study.file("t.biom")
    study.file("m.metaphlan")
    sheet, _ = study.rows("A\tmetagenome\tt.biom", GOOD)
    assert sheet.counts("metagenome") and sheet.counts("scrna")
    assert sheet.assays() == ["scrna", "metagenome"]
    sheet, _ = study.rows("A\tmetagenome\tm.metaphlan", GOOD)
    assert not sheet.counts("metagenome") and sheet.counts("scrna")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_really_unreadable_files(study):
    (study.config / "a.h5ad").chmod(0)
    assert "cannot be read" in study.one(GOOD).what
    (study.config / "a.h5ad").chmod(stat.S_IRUSR)


_PATHS = st.none() | st.text("abc/. é", min_size=1, max_size=8).map(lambda s: Path("/" + s))


@given(
    st.builds(
        InputRow,
        sample=st.from_regex(SAMPLE_NAME, fullmatch=True),
        assay=st.sampled_from(ASSAYS),
        path=_PATHS.filter(bool),
        format=st.sampled_from([form for forms in FORMATS.values() for form in forms]),
        path_2=_PATHS,
        layer=st.none() | st.text(max_size=4),
        metadata=_PATHS,
        covariates=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
        row=st.integers(1, 9),
    )
)
def test_rows_survive_params_and_json(row):
    plain = row.as_dict()
    for again in (plain, json.loads(json.dumps(plain))):
        assert InputRow.from_dict(again) == row


def test_params_do_not_change_when_a_row_moves(study):
    first = study.rows(GOOD)[0].rows[0]
    moved = study.rows("B\tscrna\tb.h5ad", "# a note", GOOD)[0].rows[1]
    assert (first.row, moved.row) == (2, 4)
    assert first.as_dict() == moved.as_dict()
    assert first.as_dict() != study.rows("A\tscrna\tb.h5ad")[0].rows[0].as_dict()
