"""What the config's section `quantify` and the sheet show together."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentomics.config.quantify import TECHNOLOGIES, Quantify, read_layout
from latentomics.config.quantify_study import quantify_problems
from latentomics.config.row import InputRow
from latentomics.config.sheet import Sheet
from latentomics.problems import Problem

FILES = {"genome": "genome.fa", "annotation": "genes.gtf"}


def row(number: int = 2, sample: str = "a", **more: object) -> InputRow:
    values = {"path": Path("a_R1.fastq.gz"), "path_2": Path("a_R2.fastq.gz"), "format": "fastq", **more}
    return InputRow(number, sample, "scrna", **values)  # type: ignore[arg-type]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name in (*FILES.values(), "list.txt"):
        (tmp_path / name).write_text("x\n")
    return tmp_path


def found(study: Path, rows: list[InputRow], **settings: object) -> list[Problem]:
    config = study / "config.yaml"
    lines = [f"  {key}: {value}\n" for key, value in settings.items()]
    config.write_text("quantify:\n" + "".join(lines))
    sheet = Sheet(Path("samples.tsv"), tuple(rows), ())
    return quantify_problems(Quantify(**settings), config, sheet, study)


def test_a_sound_study_has_no_problem(study: Path) -> None:
    assert found(study, [row()], **FILES) == []
    assert found(study, [row()], **FILES, whitelist="list.txt", technology="10xv2") == []
    assert found(study, [row(technology="CELSEQ2"), row(3, "b")], **FILES) == [], "each sample its own technology"


def test_a_study_without_reads_of_cells_needs_no_reference(study: Path) -> None:
    matrix = InputRow(2, "a", "scrna", Path("a.h5"), "10x_h5")
    metagenome = InputRow(3, "b", "metagenome", Path("b.fastq"), "fastq")
    assert found(study, [matrix, metagenome]) == []


def test_reads_without_a_reference_are_found(study: Path) -> None:
    (problem,) = found(study, [row(), row(3, "b")], technology="10xv2")
    assert "2 sample(s)" in problem.what and "quantify.annotation" in problem.hint
    assert problem.key == "quantify.genome" and problem.row == 1


def test_files_that_do_not_exist_are_found_with_their_line(study: Path) -> None:
    problems = found(study, [row()], genome="nothing.fa", annotation="genes.gtf", whitelist="non")
    assert [(p.key, p.row, p.value) for p in problems] == [
        ("quantify.genome", 2, "nothing.fa"),
        ("quantify.whitelist", 4, "non"),
    ]
    assert "did you mean 'none'?" in problems[1].hint


def test_an_unknown_technology_names_the_nearest(study: Path) -> None:
    (problem,) = found(study, [row(technology="10xv22")], **FILES)
    assert "did you mean '10xv2'?" in problem.hint and problem.key == "technology" and problem.row == 2


@pytest.mark.parametrize(
    ("technology", "columns", "key"),
    [
        ("10xv3", {"path_2": None}, "path_2"),
        ("10xv1", {}, "path_3"),
        ("0,0,16:1,0,10:2,0,0", {}, "path_3"),
        ("10xv2", {"path_3": Path("x.fq")}, "path_3"),
        ("0,0,16:0,16,26:0,26,0", {}, "path_2"),
    ],
)
def test_a_row_names_as_many_files_as_its_technology_has(study: Path, technology: str, columns: dict, key: str) -> None:
    (problem,) = found(study, [row(technology=technology, **columns)], **FILES)
    assert problem.key == key and "'a'" in problem.what


def test_lanes_of_one_sample_are_of_one_technology(study: Path) -> None:
    lanes = [row(), row(3, path=Path("b_R1.fastq.gz"), technology="10xv2")]
    (problem,) = found(study, lanes, **FILES)
    assert problem.row == 3 and problem.value == "10xv2" and "row 2" in problem.what


def test_layouts_are_those_that_kb_knows() -> None:
    """Read off kb-python's own table, so that checks and counting see the same bases."""
    from kb_python.config import TECHNOLOGIES_MAPPING

    for name, (known, layout) in TECHNOLOGIES.items():
        chemistry = TECHNOLOGIES_MAPPING[known].chemistry
        for ours, theirs in (
            (layout.barcode, chemistry.cell_barcode_parser),
            (layout.umi, chemistry.umi_parser),
            (layout.cdna, chemistry.cdna_parser),
        ):
            ranges = tuple((d.index, d.start or 0, d.end or 0) for d in theirs)
            assert ours == ranges, name
        assert read_layout(name.upper()) == layout
