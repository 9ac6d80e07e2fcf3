"""Sample sheet: good sheets are read as they stand, every fault of every row is named once, with its row."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config import sheet as module
from latentomics.config.confounding import confounding
from latentomics.config.inputs import FORMATS, mtx_names, recognise, tenx_files
from latentomics.config.sheet import ASSAYS, RESERVED, SAMPLE_NAME, InputRow, Sheet, closest, read_sheet
from latentomics.problems import Problem


class Folder:
    """A study with some input files; a sheet is written and read in one go."""

    def __init__(self, root: Path):
        self.root = root / "study"
        self.config = self.root / "config"
        self.config.mkdir(parents=True)
        for name in ("a.h5ad", "b.h5ad", "c.h5", "d.csv.gz", "meta.tsv", "e.mtx"):
            self.file(name)

    def file(self, name: str) -> Path:
        path = Path(os.path.normpath(self.config / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return path

    def read(self, content: str | bytes, name: str = "samples.tsv") -> tuple[Sheet | None, list[Problem]]:
        path = self.config / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found, problems = read_sheet(path, self.root)
        for problem in problems:
            assert problem.file == str(path)
            assert problem.hint
        said = [(p.row, p.key, p.what) for p in problems]
        assert len(set(said)) == len(said), "a fault is listed twice"
        return found, problems

    def rows(self, *rows: str, header: str = "sample\tassay\tpath") -> tuple[Sheet | None, list[Problem]]:
        return self.read("\n".join([header, *rows]) + "\n")

    def one(self, *rows: str, header: str = "sample\tassay\tpath") -> Problem:
        """The only problem of a sheet."""
        _, (problem,) = self.rows(*rows, header=header)
        return problem


@pytest.fixture
def study(tmp_path) -> Folder:
    return Folder(tmp_path)


def errors(problems: list[Problem]) -> list[Problem]:
    return [p for p in problems if p.severity == "error"]


GOOD = "A\tscrna\ta.h5ad"


def test_a_sheet_is_read_as_it_stands(study):
    header = "sample\tassay\tpath\tformat\tlayer\tmetadata\tbatch\tdonor"
    found, problems = study.rows(
        "A\tscrna\ta.h5ad\t\tcounts\tmeta.tsv\tb1\td1", "B\tscrna\t d.csv.gz \t\t\t\tb2", header=header
    )
    assert problems == []
    assert found.covariates == ("batch", "donor")
    assert found.rows == (
        InputRow(
            row=2,
            sample="A",
            assay="scrna",
            path=study.config / "a.h5ad",
            format="h5ad",
            layer="counts",
            metadata=study.config / "meta.tsv",
            covariates={"batch": "b1", "donor": "d1"},
        ),
        InputRow(
            row=3,
            sample="B",
            assay="scrna",
            path=study.config / "d.csv.gz",
            format="dense",
            covariates={"batch": "b2", "donor": ""},
        ),
    )
    assert [row.row for row in found.rows] == [2, 3]
    assert found.rows[0].files() == [study.config / "a.h5ad", study.config / "meta.tsv"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "separator"), [("samples.tsv", "\t"), ("samples.csv", ","), ("S.CSV", ","), ("s.txt", "\t")]
)
def test_ends_of_lines_byte_order_mark_and_separators(study, start, end, name, separator):
    lines = [
        "# made by hand",
        "sample assay path batch",
        "",
        "A scrna a.h5ad b1",
        "\u2003# off: B scrna b.h5ad",
        'C scrna c.h5 "b2"',
    ]
    found, problems = study.read(start + end.join(line.replace(" ", separator) for line in lines) + end, name)
    assert problems == []
    assert [(r.row, r.sample, r.format, r.covariates["batch"]) for r in found.rows] == [
        (4, "A", "h5ad", "b1"),
        (6, "C", "10x_h5", "b2"),
    ]


def test_quoted_cells(study):
    found, problems = study.read('sample,assay,path,note\nA,scrna,"a.h5ad","one, ""two"""\n', "samples.csv")
    assert problems == []
    assert found.rows[0].covariates == {"note": 'one, "two"'}


@pytest.mark.parametrize("cell", ['"b1', '"b1"x', '"b1""'])
def test_an_open_quote_costs_one_row(study, cell):
    header = "sample\tassay\tpath\tbatch"
    found, (problem,) = study.rows(f"A\tscrna\ta.h5ad\t{cell}", "B\tscrna\tb.h5ad\tb2", header=header)
    assert problem.row == 2
    assert "quote" in problem.what
    assert [row.sample for row in found.rows] == ["B"]


@pytest.mark.parametrize("comment", ['#\t"as sent by the lab', '"# quoted by a ""spreadsheet"""\t\t\t'])
def test_a_quote_in_a_comment_hides_nothing(study, comment):
    found, problems = study.rows(comment, GOOD)
    assert (problems, len(found.rows)) == ([], 1)


def test_bytes_that_are_not_utf8(study):
    content = b"sample\tassay\tpath\tnote\r\n"
    content += b"A\tscrna\ta.h5ad\tcaf\xe9\r\nB\tscrna\tnowhere.h5ad\t\r\nC\tscrna\tc.h5\t\xff\r\n"
    found, problems = study.read(content)
    assert [(p.row, p.value) for p in problems if "UTF-8" in p.what] == [(2, b"\xe9"), (4, b"\xff")]
    assert [(p.row, p.key) for p in problems if "UTF-8" not in p.what] == [(3, "path")]
    assert [row.sample for row in found.rows] == ["A", "C"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_one_problem(study, coding):
    text = "sample\tassay\tpath\nA\tscrna\ta.h5ad\n"
    _, problems = study.read((text if coding == "utf-16" else "\ufeff" + text).encode(coding))
    assert len(problems) == 1
    assert "UTF-16" in problems[0].what


@pytest.mark.parametrize("content", ["", "\n\n", "# sample\tassay\n"])
def test_an_empty_sheet(study, content):
    found, (problem,) = study.read(content)
    assert found is None
    assert "empty" in problem.what


def test_a_header_alone(study):
    found, (problem,) = study.rows()
    assert found is None
    assert "no rows" in problem.what


@pytest.mark.parametrize("name", ["no.tsv", ".", "nul\0.tsv"])
def test_no_sheet(study, name):
    found, (problem,) = read_sheet(study.config / name, study.root)
    assert found is None
    assert problem.key == "samples"


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("Sample\tassay\tpath", {"sample": "Sample"}),
        ("SAMPLE\tASSAY\tPATH", {"sample": "SAMPLE", "assay": "ASSAY", "path": "PATH"}),
        ("samples\tassay\tpaths", {"sample": "samples", "path": "paths"}),
        ("sample\tassay\tpath_2", {"path": None}),  # a column with a meaning of its own is no misspelling
        ("sample\tassay", {"path": None}),
    ],
)
def test_missing_columns(study, header, missing):
    found, problems = study.rows("A\tscrna\ta.h5ad", header=header)
    assert found is None
    assert {p.key for p in problems} == set(missing)
    for problem in problems:
        near = missing[problem.key]
        assert problem.row == 1
        expected = f"rename the column {near!r} to {problem.key!r}." if near else f"add a column {problem.key!r}."
        assert problem.hint == expected


def test_the_wrong_separator(study):
    _, problems = study.read("sample,assay,path\nA,scrna,a.h5ad\n")
    assert all("separated by tabs" in p.hint for p in problems if p.key in ("sample", "assay", "path"))


@pytest.mark.parametrize(
    ("column", "known"), [("Batch", "batch"), ("conditions", "condition"), ("lable", "label"), ("layers", "layer")]
)
def test_optional_columns_nearly_named(study, column, known):
    found, (problem,) = study.rows(GOOD + "\tx", header=f"sample\tassay\tpath\t{column}")
    assert (problem.severity, problem.key, problem.row) == ("warning", column, 1)
    assert repr(known) in problem.hint
    assert found.rows[0].covariates == {column: "x"}


@pytest.mark.parametrize(
    "columns", ["donor\tage\tsite", "batch\tbatch_2", "label\tlabel_doublet\tlabel_quality", "condition\tcondition_2"]
)
def test_covariates_of_their_own_name(study, columns):
    assert study.rows(GOOD, header=f"sample\tassay\tpath\t{columns}")[1] == []


@pytest.mark.parametrize("column", [*RESERVED, "cluster_pca"])
def test_reserved_columns(study, column):
    problem = study.one(GOOD, header=f"sample\tassay\tpath\t{column}")
    assert (problem.key, problem.row, problem.what) == (column, 1, "column name is reserved")


def test_what_the_workflow_writes_per_cell_is_reserved():
    anndata = pytest.importorskip("anndata")
    from latentomics.config.qc import QC
    from latentomics.scrna.qc import cell_metrics, find_limits, judge

    flags = {name: np.zeros(3, dtype=bool) for name in ("mito", "ribo", "hb")}
    from latentomics.scrna.genes import SETS

    adata = anndata.AnnData(np.ones((4, 3), dtype=np.float32))
    metrics = cell_metrics(
        adata, pd.DataFrame({name: flags.get(name, flags["mito"]) for name in SETS}, index=adata.var_names)
    )
    verdict = judge(metrics, find_limits(metrics, QC()))
    assert {*metrics.columns, *verdict.columns} <= set(RESERVED)


@pytest.mark.parametrize("column", ["my column", "2nd", "café", "a-b", "a.b", "_x", "{x}"])
def test_unusable_columns(study, column):
    problem = study.one(GOOD + "\tx", header=f"sample\tassay\tpath\t{column}")
    assert (problem.value, problem.row) == (column, 1)


def test_columns_twice(study):
    _, problems = study.rows("A\tscrna\ta.h5ad\tx\ty\tz", header="sample\tassay\tpath\tdonor\tdonor\tdonor")
    assert [(p.key, p.row) for p in problems] == [("donor", 1)]


def test_columns_without_a_name(study):
    header = "sample\tassay\tpath\t\t"
    assert study.rows("A\tscrna\ta.h5ad\t\t", "B\tscrna\tb.h5ad", header=header)[1] == []  # as spreadsheets export
    found, (problem,) = study.rows("A\tscrna\ta.h5ad\t\tlost", "B\tscrna\tb.h5ad", header=header)
    assert (problem.row, problem.value) == (2, "lost")
    assert [row.sample for row in found.rows] == ["B"]


def test_too_many_cells(study):
    found, (problem,) = study.rows(GOOD + "\tmore\tand more", "B\tscrna\tb.h5ad\t\t\t")
    assert (problem.row, problem.value) == (2, "more")
    assert problem.what.startswith("2 cell(s)")
    assert [row.sample for row in found.rows] == ["B"]


BAD_NAMES = [
    "", "a/b", "../a", "..", ".", ".hidden", "-rf", "a b", "a;rm", "$HOME", "`id`", "a|b", "a&b", "a*", "a?", "a'b",
    "a{b}", "a\\b", "é", "細胞", "a\u200bb", "ａ", "٣", "_a", "a:b", "a@b", "~a",
]  # fmt: skip


@pytest.mark.parametrize("sample", BAD_NAMES)
def test_names_that_cannot_be_used(study, sample):
    found, (problem,) = study.rows(f"{sample}\tscrna\ta.h5ad", "B\tscrna\tb.h5ad")
    assert (problem.row, problem.key, problem.value) == (2, "sample", sample or None)
    assert [row.sample for row in found.rows] == ["B"]


def test_long_names(study):
    assert study.rows(f"{'a' * 100}\tscrna\ta.h5ad")[1] == []
    assert "too long" in study.one(f"{'a' * 101}\tscrna\ta.h5ad").what


@given(st.text(max_size=8) | st.from_regex(r"[A-Za-z0-9._/ -]{1,8}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_a_name_is_accepted_exactly_if_it_matches(tmp_path_factory, sample):
    root = tmp_path_factory.getbasetemp() / "names"
    config = root / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "a.h5ad").touch()
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerows([("assay", "sample", "path"), ("scrna", sample, "a.h5ad")])
    (config / "s.tsv").write_text(out.getvalue(), "utf-8", errors="surrogatepass", newline="")
    found, problems = read_sheet(config / "s.tsv", root)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    stripped = sample.strip()
    good = bool(stripped) and stripped[0] in letters and all(c in letters + "._-" for c in stripped)
    assert (found is not None) == good == (problems == [])
    if found:
        name = found.rows[0].sample
        assert name == stripped
        # Joined to a folder it stays in it, and it is one component that no shell and no option parser touches.
        joined = Path(os.path.normpath(root / name))
        assert joined.parent == root
        assert Path(name).name == name
        assert not name.startswith(("-", ".", "~"))


_NAMES = st.lists(
    st.from_regex(SAMPLE_NAME, fullmatch=True).filter(lambda s: len(s) <= 100),
    min_size=1,
    max_size=6,
    unique_by=str.casefold,
)


@given(_NAMES, st.sampled_from(["\t", ","]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.data())
@settings(max_examples=60, deadline=None)
def test_any_valid_sheet_is_accepted(tmp_path_factory, samples, separator, quoting, data):
    root = tmp_path_factory.getbasetemp() / "valid"
    config = root / "config"
    config.mkdir(parents=True, exist_ok=True)
    text = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=6)
    batches = [data.draw(text) for _ in samples]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\r\n")
    writer.writerow(["sample", "donor", "assay", "path"])
    for i, (sample, batch) in enumerate(zip(samples, batches, strict=True)):
        (config / f"{i}.h5ad").touch()
        writer.writerow([sample, batch, "scrna", f"{i}.h5ad"])
    path = config / ("s.csv" if separator == "," else "s.tsv")
    path.write_text(out.getvalue(), "utf-8", newline="")
    found, problems = read_sheet(path, root)
    assert problems == []
    assert [(r.sample, r.covariates["donor"], r.row) for r in found.rows] == [
        (s, b, i) for i, (s, b) in enumerate(zip(samples, batches, strict=True), 2)
    ]
    assert list(found.samples("scrna")) == samples


@pytest.mark.parametrize(
    ("assay", "hint"), [("scRNA", True), ("SCRNA", True), ("scrnaseq", True), ("atac", False), ("", False)]
)
def test_unknown_assay(study, assay, hint):
    problem = study.one(f"A\t{assay}\ta.h5ad")
    assert (problem.row, problem.key) == (2, "assay")
    assert problem.hint.startswith("did you mean 'scrna'?") == hint
    assert problem.hint.endswith(f"This version reads: {', '.join(ASSAYS)}.")


@pytest.mark.parametrize(("form", "near"), [("h5da", "h5ad"), ("H5AD", "h5ad"), ("10x-dir", "10x_dir"), ("loom", None)])
def test_unknown_format(study, form, near):
    problem = study.one(f"A\tscrna\ta.h5ad\t{form}", header="sample\tassay\tpath\tformat")
    assert (problem.key, problem.value) == ("format", form)
    assert ("did you mean" in problem.hint) == bool(near)
    assert near is None or repr(near) in problem.hint
    assert all(known in problem.hint for known in FORMATS)


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
    assert recognise(tmp_path / name) == form
    assert recognise(tmp_path) == "10x_dir"


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_really_unreadable_files(study):
    (study.config / "a.h5ad").chmod(0)
    assert "cannot be read" in study.one(GOOD).what
    (study.config / "a.h5ad").chmod(stat.S_IRUSR)


def test_rows_of_one_sample(study):
    header = "sample\tassay\tpath\tbatch\tdonor"
    found, problems = study.rows(
        "A\tscrna\ta.h5ad\tx\td", "B\tscrna\tc.h5\t\t", "A\tscrna\tb.h5ad\tx\td", header=header
    )
    assert problems == []
    assert {name: [r.row for r in rows] for name, rows in found.samples("scrna").items()} == {"A": [2, 4], "B": [3]}
    assert found.samples("metagenome") == {}

    _, problems = study.rows("A\tscrna\ta.h5ad\tx\td", "B\tscrna\tc.h5\tz\t", "A\tscrna\tb.h5ad\ty\t", header=header)
    assert [(p.row, p.key, p.value) for p in errors(problems)] == [(4, "batch", "y"), (4, "donor", "")]
    assert all("in row 2" in p.what for p in errors(problems))


@pytest.mark.parametrize("again", ["a.h5ad", "./a.h5ad", "../config/a.h5ad"])
def test_one_path_twice_in_a_sample(study, again):
    problem = study.one(GOOD, "B\tscrna\tb.h5ad", f"A\tscrna\t{again}")
    assert (problem.row, problem.key, problem.severity) == (4, "sample", "error")
    assert "same path as row 2" in problem.what


def test_one_path_in_two_samples(study):
    problem = study.one(GOOD, "B\tscrna\tb.h5ad", "C\tscrna\ta.h5ad")
    assert (problem.row, problem.key, problem.severity) == (4, "path", "warning")
    assert "sample 'A' of row 2" in problem.what


def test_names_that_differ_only_in_case(study):
    problem = study.one("abc\tscrna\ta.h5ad", "x\tscrna\tb.h5ad", "aBC\tscrna\tc.h5")
    assert (problem.row, problem.key, problem.value, problem.severity) == (4, "sample", "aBC", "error")
    assert "'abc' of row 2" in problem.what


@pytest.mark.parametrize(
    ("values", "n"), [(["", ""], 1), (["x", "x"], 1), (["x", "y"], 2), (["", "y"], 2), (["obs:b", "obs:b"], 2)]
)
def test_number_of_batches(study, values, n):
    found, _ = study.rows(
        f"A\tscrna\ta.h5ad\t{values[0]}", f"B\tscrna\tb.h5ad\t{values[1]}", header="sample\tassay\tpath\tbatch"
    )
    assert found.batches("scrna") == n
    assert found.batches("metagenome") == 0


PAIRS = {
    "full": ([("b1", "c1"), ("b2", "c2")], True),
    "none": ([("b1", "c1"), ("b1", "c2"), ("b2", "c1"), ("b2", "c2")], False),
    "partial, connected": ([("b1", "c1"), ("b2", "c1"), ("b2", "c2")], False),
    "a chain": ([("b1", "c1"), ("b1", "c2"), ("b2", "c2"), ("b2", "c3"), ("b3", "c3")], False),
    "two components": ([("b1", "c1"), ("b1", "c2"), ("b2", "c3"), ("b3", "c3")], True),
    "one batch": ([("b1", "c1"), ("b1", "c2")], False),
    "one condition": ([("b1", "c1"), ("b2", "c1")], False),
    "nothing": ([], False),
    "empty values": ([("b1", "c1"), ("", "c2"), ("b2", "")], False),
    "per cell": ([("obs:b", "c1"), ("b1", "c1"), ("b2", "obs:c")], False),
}


@pytest.mark.parametrize(("pairs", "confounded"), PAIRS.values(), ids=PAIRS)
def test_confounding(pairs, confounded):
    found = confounding("s.tsv", pairs)
    assert [p.severity for p in found] == ["warning"] * confounded
    if confounded:
        assert all(f"{b}:" in found[0].what and c in found[0].what for b, c in pairs)


@given(st.sets(st.tuples(st.sampled_from("wxyz"), st.sampled_from("abcd")), min_size=1))
@settings(max_examples=200, deadline=None)
def test_confounding_is_loss_of_rank(pairs):
    """Both effects can be estimated if the design of batch and condition has every rank that it may have."""
    batches, conditions = sorted({b for b, _ in pairs}), sorted({c for _, c in pairs})
    design = np.array([[*(b == x for x in batches), *(c == x for x in conditions)] for b, c in pairs], dtype=float)
    lost = np.linalg.matrix_rank(design) < len(batches) + len(conditions) - 1
    assert bool(confounding("s", pairs)) == (lost and len(batches) > 1 and len(conditions) > 1)


def test_confounding_in_a_sheet_is_a_warning(study):
    found, (problem,) = study.rows(
        "A\tscrna\ta.h5ad\tb1\tc1", "B\tscrna\tb.h5ad\tb2\tc2", header="sample\tassay\tpath\tbatch\tcondition"
    )
    assert (problem.severity, problem.key) == ("warning", "batch, condition")
    assert len(found.rows) == 2


_PATHS = st.none() | st.text("abc/. é", min_size=1, max_size=8).map(lambda s: Path("/" + s))


@given(
    st.builds(
        InputRow,
        sample=st.from_regex(SAMPLE_NAME, fullmatch=True),
        assay=st.sampled_from(ASSAYS),
        path=_PATHS.filter(bool),
        format=st.sampled_from(FORMATS),
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


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("hu man", ["human", "mouse"], "did you mean 'human'? "),
        ("HUMAN", ["human", "mouse"], "did you mean 'human'? "),
        ("scvi", ["scVI"], "did you mean 'scVI'? "),
        ("zebra", ["human", "mouse"], ""),
        ("", ["human"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(word, known, said):
    assert closest(word, known) == said


def test_the_order_of_problems_does_not_depend_on_hashing(study):
    header = "sample\tassay\tpath\t" + "\t".join(f"c{i}\tc{i}" for i in range(9))
    _, problems = study.rows(GOOD, header=header)
    assert [p.key for p in problems] == [f"c{i}" for i in range(9)]


def test_every_pair_of_lines_is_checked_once(study):
    rows = [f"{name}\tscrna\ta.h5ad" for name in ("A", "A", "A")]
    _, problems = study.rows(*rows)
    assert [p.row for p in problems] == [3, 4]
    assert all(a != b for a, b in itertools.pairwise(problems))
