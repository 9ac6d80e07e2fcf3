"""Sample sheet: good sheets are read as they stand, every fault of every row is named once, with its row."""

from __future__ import annotations

import csv
import io
import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sheet_cases import GOOD, Folder

from latentomics.config.row import ASSAYS, SAMPLE_NAME, InputRow, closest
from latentomics.config.sheet import RESERVED, read_sheet
from latentomics.problems import Problem


@pytest.fixture
def study(tmp_path) -> Folder:
    return Folder(tmp_path)


def errors(problems: list[Problem]) -> list[Problem]:
    return [p for p in problems if p.severity == "error"]


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


def test_one_path_in_three_rows(study):
    rows = [f"{name}\tscrna\ta.h5ad" for name in ("A", "A", "A")]
    _, problems = study.rows(*rows)
    assert [p.row for p in problems] == [3, 4]
    assert all(a != b for a, b in itertools.pairwise(problems))
