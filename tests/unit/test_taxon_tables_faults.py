"""Every way in which a table of taxa can be broken, and what is only a warning."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taxon_cases import BRACKEN, GOOD, KRAKEN, TRUTH, biom_hdf5, biom_json, cumulative, minimisers, row, text

from latentomics.metagenome.tables import inspect_table, read_table
from latentomics.problems import InputError, Problem


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("content", "form", "what", "place"),
    [
        (
            changed("3\t4", "3\t-4"),
            "taxon_table",
            "1 values are negative, the first in sample 'B', taxon 'd__B",
            (3, "'B'"),
        ),
        (changed("3\t4", "nan\t4"), "taxon_table", "1 values are missing or not finite", (3, "column 'A'")),
        (changed("1\t2", "1\tinf"), "taxon_table", "1 values are missing or not finite", (2, "column 'B'")),
        (changed("1\t2", "1\tNA"), "taxon_table", "a cell is not a number", (2, "column 'B'")),
        (changed("1\t2", "1\t"), "taxon_table", "a cell is not a number", (2, "column 'B'")),
        (changed("1\t2", "1"), "taxon_table", "2 fields where 3 are expected", (2, None)),
        (changed("g__Y", "g__X"), "taxon_table", "1 taxon names appear twice", (3, None)),
        (changed("A\tB", "A\tA"), "taxon_table", "1 sample names appear twice", (None, "column 'A'")),
        (changed("1\t2", "1\t2.5"), "taxon_table", "neither counts nor relative abundances", (2, "column 'B'")),
        (changed("1\t2", "1\t3e9"), "taxon_table", "values above 2147483647", (2, "column 'B'")),
        ("taxon\tA\nd__B\t0\n", "taxon_table", "every value is zero", (None, None)),
        ("taxon\tA\n", "taxon_table", "header but no rows", (None, None)),
        ("", "taxon_table", "the table is empty", (None, None)),
        ("just words\nand more\n", "taxon_table", "no columns recognised", (1, None)),
        ("sample\td__B;g__X\td__B;g__Y\nA\t1\t-2\n", "taxon_table", "1 values are negative", (2, "column 'd__B;g__Y'")),
        ("sample\td__B;g__X\nA\t1\nA\t2\n", "taxon_table", "1 sample names appear twice", (3, None)),
        ("clade_name\tA\nk__B\t60\nk__C\t70\n", "metaphlan", "samples sum to 130", (None, None)),
        (
            "clade_name\tA\tB\tC\nk__B\t100\t100\t30\n",
            "metaphlan",
            "of 1 samples do not sum to 100, the first 'C'",
            (None, "'C'"),
        ),
        (
            "clade_name\tA\tB\tC\nk__B\t1\t1\t1.2\n",
            "metaphlan",
            "of 1 samples do not sum to 1, the first 'C'",
            (None, "'C'"),
        ),
        ("name\tA\nBacteria\t60\n", "metaphlan", "no row names a taxon", (None, None)),
        ("what\ta\nwho\tb\nk__B\t100\n", "metaphlan", "no row names the samples", (1, None)),
        ("clade_name\tA\tA\nk__B\t100\t100\n", "metaphlan", "1 sample names appear twice", (None, "column 'A'")),
        ("clade_name\tA\nk__B\tlots\n", "metaphlan", "a cell is not a number", (2, "column 'A'")),
        ("a\tb\n1\t2\n", "kraken_report", "not a Kraken2 report: 2 columns", (1, None)),
        (KRAKEN.replace("\tG1\t", "\tgenus\t"), "kraken_report", "not a line of a Kraken2 report", (8, None)),
        (KRAKEN.replace("\t30\tS", "\t-30\tS"), "kraken_report", "reads of the taxon: not a whole number", (9, None)),
        (KRAKEN[:400].rsplit("\n", 1)[0] + "\n", "kraken_report", "the report is not whole", (None, None)),
        (KRAKEN[:-14], "kraken_report", "not a line of a Kraken2 report", (14, None)),
        (KRAKEN.replace("\t1386\t", " 1386\t"), "kraken_report", "5 fields where 6 are expected", (7, None)),
        (BRACKEN.replace("\t40\t", "\t40.5\t"), "bracken", "new_est_reads: not a whole number", (2, None)),
        (BRACKEN[:-12], "bracken", "fields where 7 are expected", (3, None)),
        ("{}", "biom", "not a readable BIOM table", (None, None)),
        ("words", "biom", "not a readable BIOM table", (None, None)),
    ],
)
def test_broken_tables(tmp_path, content, form, what, place):
    line = row(text(tmp_path, content), form)
    problems = [p for p in inspect_table(line)[0] if p.severity == "error"]
    assert len(problems) == 1, [str(p) for p in problems]
    problem = problems[0]
    assert what in problem.what and "sample 'T'" in problem.what
    assert problem.file == str(line.path) and problem.hint
    assert problem.row == place[0]
    assert place[1] is None or place[1] in problem.key
    with pytest.raises(InputError):
        read_table([line])


def test_damaged_files(tmp_path):
    def only(path: Path, form: str) -> Problem:
        (problem,) = inspect_table(row(path, form))[0]
        return problem

    packed = gzip.compress(GOOD.encode() * 50)
    (tmp_path / "cut.tsv.gz").write_bytes(packed[:-20])
    assert "cut short or damaged" in only(tmp_path / "cut.tsv.gz", "taxon_table").what
    (tmp_path / "latin.tsv").write_bytes(GOOD.replace("g__Y", "g__Ä").encode("latin-1"))
    assert (problem := only(tmp_path / "latin.tsv", "taxon_table")).row == 3 and "UTF-8" in problem.what
    whole = biom_hdf5(tmp_path).read_bytes()
    (tmp_path / "cut.biom").write_bytes(whole[: len(whole) // 2])
    assert "not a readable BIOM table" in only(tmp_path / "cut.biom", "biom").what
    assert (
        "not a readable BIOM table"
        in only(text(tmp_path, biom_json(tmp_path).read_text()[:-40], "j.biom"), "biom").what
    )
    twice = [{"id": "O", "metadata": None}] * 4
    assert "appears twice" in only(biom_json(tmp_path, rows=twice), "biom").what


ANY = {
    "taxon_table": TRUTH.to_csv(sep="\t").encode(),
    "metaphlan": cumulative(TRUTH / TRUTH.sum()).to_csv(sep="\t", index_label="clade_name").encode(),
    "kraken_report": minimisers(KRAKEN).encode(),
    "bracken": BRACKEN.encode(),
    "biom": b'{"id": null, "type": "OTU table", "generated_by": "x", "date": "", "matrix_type": "sparse", '
    b'"matrix_element_type": "int", "shape": [1, 1], "rows": [{"id": "a", "metadata": {"taxonomy": ["k__B"]}}], '
    b'"columns": [{"id": "S", "metadata": null}], "data": [[0, 0, 3]]}',
}


@given(st.sampled_from(list(ANY)), st.floats(0, 1), st.floats(0, 1), st.binary(max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_damage_is_a_crash(tmp_path_factory, form, start, stop, bytes_):
    """Cut out any part of a file and put anything in its place: it is read, or there is a problem to show."""
    content = ANY[form]
    a, b = sorted((int(start * len(content)), int(stop * len(content))))
    path = tmp_path_factory.mktemp("damage") / "t"
    path.write_bytes(content[:a] + bytes_ + content[b:])
    for problem in inspect_table(row(path, form))[0]:
        assert problem.what and problem.hint and str(problem)


def test_sums_that_are_off_a_little_are_a_warning(tmp_path):
    line = row(text(tmp_path, "clade_name\tA\tB\tC\nk__B\t100\t80\t100\n"), "metaphlan")
    (problem,) = inspect_table(line)[0]
    assert problem.severity == "warning" and problem.value == 80 and "'B'" in problem.what
    profile, summary, _ = read_table([line])
    assert profile["abundance"].to_list() == [1, 1, 1] and len(summary["warnings"]) == 1


def test_tables_without_lineage_are_taken_for_species(tmp_path):
    line = row(text(tmp_path, "#OTU ID\tA\tB\nBacteroides\t1\t2\nASV7\t0\t0\nASV9\t3\t0\n"), "taxon_table")
    (problem,) = inspect_table(line)[0]
    assert problem.severity == "warning" and "3 of 3 taxa have no lineage" in problem.what
    assert set(read_table([line])[0]["lineage"]) == {"s__Bacteroides", "s__ASV9"}
