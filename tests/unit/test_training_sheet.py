"""The sheet of the read classifier's training data, and the look into its files."""

import gzip
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.config.classifier import Classifier
from latentomics.config.training_sheet import COLUMNS, TrainingRow, check_training, read_training_sheet

HEADER = "\t".join(COLUMNS) + "\n"
READ = "ACGTTGCAACGTTGCAACGTTGCAACGTTGCAACGT"


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.fq", "b.fastq.gz", "c.fa", "d.fna.gz", "t.tsv", "t.csv.gz", "t.txt", "t.parquet", "strange.dat"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub").mkdir()
    return tmp_path


def write(study, *rows, header=HEADER):
    (study / "training.tsv").write_text(header + "".join(row + "\n" for row in rows))
    return study / "training.tsv"


def texts(problems):
    return "\n".join(map(str, problems))


def test_a_good_sheet(study):
    sheet = write(
        study,
        "# a comment",
        "a.fq\t\thuman",
        "",
        "b.fastq.gz\treads\tNA\tdonor 1",
        "c.fa\tgenome\tEscherichia\t\tyes",
        "c.fa\tgenome\tEscherichia modern",
        'd.fna.gz\t\t5" strain',
        "t.tsv",
        "t.csv.gz",
        "t.txt",
        "t.parquet",
        "strange.dat\ttable",
    )
    rows, problems = read_training_sheet(sheet)
    assert problems == []
    kinds = ["reads", "reads", "genome", "genome", "reads", *["table"] * 5]
    assert [row.kind for row in rows] == kinds
    assert [row.label for row in rows[:5]] == ["human", "NA", "Escherichia", "Escherichia modern", '5" strain']
    assert [row.ancient for row in rows[:5]] == [False, False, True, False, False]
    assert [row.source for row in rows[:2]] == [None, "donor 1"]
    assert [row.source_name for row in rows] == ["a", "donor 1", "c", "c", "d", "t", "t", "t", "t", "strange.dat"]
    assert [row.row for row in rows[:2]] == [3, 5]
    # Below the study paths are relative: a study that is moved does not run again.
    assert str(rows[0].path) == "a.fq"


def test_plain_values_and_back(study):
    rows, _ = read_training_sheet(write(study, "c.fa\tgenome\tx\ts\t1", "t.tsv", "a.fq\t\ty"))
    plain = [row.as_dict() for row in rows]
    assert [TrainingRow.from_dict(values) for values in plain] == rows
    assert plain[0] == {"path": "c.fa", "kind": "genome", "label": "x", "source": "s", "ancient": True}
    # Where a row stands is no part of what it says.
    assert rows[0] == TrainingRow(99, rows[0].path, "genome", "x", "s", True)


def test_columns_in_another_order_and_windows_line_ends(study):
    (study / "training.tsv").write_bytes(b"\xef\xbb\xbflabel\tpath\r\nx\ta.fq\r\ny\tb.fastq.gz\r\n")
    rows, problems = read_training_sheet(study / "training.tsv")
    assert problems == []
    assert [(row.label, row.path.name) for row in rows] == [("x", "a.fq"), ("y", "b.fastq.gz")]


def test_every_fault_is_listed_at_once(study):
    (study / "empty.fq").touch()
    sheet = write(
        study,
        "a.fq\treds\tx",
        "nowhere.fq\t\tx",
        "\t\tx",
        "sub\treads\tx",
        "../../outside.fq\t\tx",
        "strange.dat\t\tx",
        "c.fa\t\t",
        "c.fa\tgenome\t",
        "t.tsv\t\tx",
        "a.fq\t\tunclassified",
        "a.fq\t\t" + "x" * 201,
        "a.fq\t\tx\t" + "\x07",
        "c.fa\tgenome\tx\t\tmaybe",
        "a.fq\t\tx\t\tyes",
        "a.fq\t\tx\t\t\tsurplus",
        "empty.fq\t\tx",
        "a{b}.fq\t\tx",
    )
    rows, problems = read_training_sheet(sheet)
    assert rows == []
    wanted = [
        (2, "kind", "did you mean 'reads'?"),
        (3, "path", "cannot be reached (No such file"),
        (4, "path", "no path"),
        (5, "path", "is a folder"),
        (6, "path", "leaves the study's folder"),
        (7, "path", "not recognised"),
        (8, "label", "needs a label"),
        (9, "label", "needs a label"),
        (10, "label", "no use for a table"),
        (11, "label", "reserved"),
        (12, "label", "longer than 200"),
        (13, "source", "control characters"),
        (14, "ancient", "neither yes nor no"),
        (15, "ancient", "no use"),
        (16, "header", "6 values for 5 columns"),
        (17, "path", "is empty"),
        (18, "path", "braces"),
    ]
    assert [(p.row, p.key) for p in problems] == [(row, key) for row, key, _ in wanted]
    assert all(words in str(p) for p, (*_, words) in zip(problems, wanted, strict=True))
    assert all("Hint: " in str(p) and p.file == str(sheet) for p in problems)


def test_rows_that_do_not_fit_together(study):
    sheet = write(study, "a.fq\t\tx", "./a.fq\t\ty", "c.fa\tgenome\ty\t\tno", "c.fa\tgenome\tz", "b.fastq.gz\t\tX")
    rows, problems = read_training_sheet(sheet)
    assert len(rows) == 5
    assert [(p.row, p.key, p.severity) for p in problems] == [
        (3, "path", "error"),
        (5, "path", "error"),
        (6, "label", "warning"),
    ]
    assert "same path as row 2" in str(problems[0])


def test_one_class(study):
    _, problems = read_training_sheet(write(study, "a.fq\t\tx", "b.fastq.gz\t\tx"))
    assert [(p.key, p.value) for p in problems] == [("label", "x")]
    assert "only one class" in texts(problems)
    # A table may hold the second.
    assert read_training_sheet(write(study, "a.fq\t\tx", "t.tsv"))[1] == []
    # Where a row is at fault, nothing is said about what the others lack.
    assert [p.key for p in read_training_sheet(write(study, "a.fq\t\tx", "nowhere.fq\t\ty"))[1]] == ["path"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "empty"),
        (b"# only a comment\n\n", "empty"),
        (HEADER.encode(), "no rows"),
        (b"pth\tlabel\na.fq\tx\n", "did you mean 'pth'?"),
        (b"path\tlabels\na.fq\tx\n", "did you mean 'label'?"),
        (b"path\tpath\na.fq\ta.fq\n", "appears twice"),
        (b"path\tlabel\na.fq\t\xff\n", "row 2: bytes that are not UTF-8"),
        (b"SEQ\tLAB\n" + b"ACGT\tx\n" * 1_500_000, "one line per file of reads"),
    ],
)
def test_unusable_sheets(study, content, words):
    if content is not None:
        (study / "training.tsv").write_bytes(content)
    rows, problems = read_training_sheet(study / "training.tsv")
    assert rows == []
    assert words in texts(problems)
    assert all("Hint: " in str(p) for p in problems)


@given(st.text(max_size=200))
def test_any_text_gives_rows_or_problems(tmp_path_factory, text):
    sheet = tmp_path_factory.getbasetemp() / "any.tsv"
    sheet.write_text(text, "utf-8", newline="")
    rows, problems = read_training_sheet(sheet)
    assert problems and not rows


def test_rules_can_import_it_without_heavy_libraries():
    code = "import sys, latentomics.config.training_sheet; print({'numpy', 'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "workflow"})
    assert done.stdout == "set()\n", done.stderr


# The look into the files


def row(path, kind="table", label=None, **further):
    return TrainingRow(2, path, kind, label, **further)


def table(path, labels, read=READ):
    path.write_text("SEQ,LAB\n" + "".join(f"{read},{label}\n" for label in labels))
    return row(path)


def test_good_files(tmp_path):
    (tmp_path / "a.fq").write_text(f"@r\n{READ}\n+\n{'I' * len(READ)}\n")
    (tmp_path / "g.fa").write_text(f">g\n{READ * 9}\n")
    rows = [
        table(tmp_path / "t.csv", "xy"),
        row(tmp_path / "a.fq", "reads", "x"),
        row(tmp_path / "g.fa", "genome", "z"),
    ]
    assert check_training(rows, Classifier()) == []


def test_one_class_only_in_a_table(tmp_path):
    [problem] = check_training([table(tmp_path / "t.csv", "xxx")], Classifier())
    assert (problem.key, problem.value) == ("LAB", "x")
    assert "one class" in str(problem)
    # With a file of another class, or more records than were looked at, it may be good.
    (tmp_path / "a.fa").write_text(f">r\n{READ}\n")
    assert check_training([table(tmp_path / "t.csv", "xxx"), row(tmp_path / "a.fa", "reads", "y")], Classifier()) == []
    assert check_training([table(tmp_path / "t.csv", "x" * 70_000)], Classifier()) == []


def test_what_the_first_records_show(tmp_path):
    protein = table(tmp_path / "protein.csv", "xy", "MKVLEFILPQMKVLEFILPQMKVLEFILPQ")
    half = table(tmp_path / "half.csv", "xy", READ)
    half.path.write_text(half.path.read_text() + "ACGT,x\n" * 5)
    (tmp_path / "named.csv").write_text(f"Seq,LAB\n{READ},x\n")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(f"SEQ,LAB\n{READ},x\n".encode() * 50)[:-9])
    (tmp_path / "empty.fq").touch()
    (tmp_path / "genome.fa").write_text(f">g\n{READ * 4000}\n")
    (tmp_path / "text.fa").write_text("hello\n")
    rows = [
        protein,
        half,
        row(tmp_path / "named.csv"),
        row(cut),
        row(tmp_path / "empty.fq", "reads", "x"),
        row(tmp_path / "genome.fa", "reads", "x"),
        row(tmp_path / "text.fa", "genome", "y"),
    ]
    problems = check_training(rows, Classifier())
    wanted = [
        ("protein.csv", "2 of the first 2 records are left out: 2 characters that are no bases", "error"),
        ("half.csv", "5 of the first 7 records are left out: 5 shorter than min_length", "warning"),
        ("named.csv", "did you mean 'Seq'?", "error"),
        ("cut.csv.gz", "cut short", "error"),
        ("empty.fq", "holds no reads", "error"),
        ("genome.fa", "write `genome`", "warning"),
        ("text.fa", "not FASTA", "error"),
    ]
    assert [(p.file, p.severity) for p in problems] == [(str(tmp_path / name), level) for name, _, level in wanted]
    assert all(words in str(p) for p, (_, words, _) in zip(problems, wanted, strict=True))
    assert all("Hint: " in str(p) for p in problems)


def test_more_classes_than_a_store_holds(tmp_path):
    [problem] = check_training([table(tmp_path / "t.csv", range(256))], Classifier())
    assert "more than 255 classes" in str(problem)


def test_settings_that_do_not_fit(tmp_path):
    (tmp_path / "g.fa").write_text(f">g\n{READ * 9}\n")
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"SEQ": [READ] * 2, "LAB": ["x", "y"], "from": ["a", "b"]}), path)
    genome = row(tmp_path / "g.fa", "genome", "z", source="strain 1")
    split = {"test_sources": ["strian 1"]}
    drawn = {"length_mean": 300}
    problems = check_training([row(path), genome], Classifier(split=split, drawn=drawn))
    assert [(p.key, p.severity) for p in problems] == [
        ("classifier.split.test_sources", "error"),
        ("classifier.drawn.length_mean", "warning"),
    ]
    assert "did you mean 'strain 1'?" in str(problems[0])
    # The sources of a table's column are not known before it is read.
    assert check_training([row(path), genome], Classifier(split=split, source_column="from")) == []
    [problem] = check_training([row(path, source="s"), genome], Classifier(source_column="from"))
    assert problem.key == "source"


@pytest.mark.parametrize("name", ["x.tsv", "x.FQ.GZ", "x.gz", "x"])
def test_a_source_is_named_by_its_file(tmp_path, name):
    assert row(tmp_path / name).source_name == "x"
    assert row(tmp_path / "GCF_000006945.2.fa.gz").source_name == "GCF_000006945.2"
