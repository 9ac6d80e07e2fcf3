"""The sheet of databases and the tables of lineages."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentomics.config.databases import Database, genome_files, lineage_for, read_databases, read_lineages
from latentomics.metagenome import lineage

HEADER = "name\tprofiler\tpath\tlineages\tparameters\n"


@pytest.fixture
def study(tmp_path):
    genomes = tmp_path / "genomes"
    genomes.mkdir()
    (genomes / "one.fa").write_text(">a\nACGT\n")
    with gzip.open(genomes / "GCF_000006945.2_ASM694v2_genomic.fna.gz", "wt") as stream:
        stream.write(">a\nACGT\n")
    (genomes / "notes.txt").write_text("no genome")
    (tmp_path / "lineages.tsv").write_text(
        "genome\tlineage\none\td__Bacteria; g__Bacillus; s__Bacillus subtilis\n"
        "GCF_000006945.2\td__Bacteria;s__Salmonella enterica\n"
    )
    return tmp_path


def write(study, *rows, header=HEADER):
    (study / "databases.tsv").write_text(header + "".join(row + "\n" for row in rows))
    return study / "databases.tsv"


def texts(problems):
    return "\n".join(map(str, problems))


def test_a_good_sheet(study):
    sheet = write(study, "# a comment", "mine\tsourmash\tgenomes\tlineages.tsv\tksize=51; scaled=10")
    databases, problems = read_databases(sheet)
    assert problems == []
    [database] = databases
    assert database.parameters == {"ksize": 51, "scaled": 10}
    assert database.path == study / "genomes"
    assert not database.exists
    assert Database.from_dict(database.as_dict()) == database
    assert len(database.files()) == 3


def test_every_fault_is_listed_at_once(study):
    (study / "sub").mkdir()
    (study / "sub" / "two.fasta").write_text(">a\nACGT\n")
    sheet = write(
        study,
        "a\tsourmsh\tgenomes\tlineages.tsv\t",
        "../b\tsourmash\tnowhere\tlineages.tsv\t",
        "c\tsourmash\tgenomes\tlineages.tsv\tksiz=31;scaled=no;min_overlap=0;ksize",
        "C\tsourmash\tgenomes\t\t",
        "d\tsourmash\tsub\tlineages.tsv\tscaled=1;scaled=2",
        "e\tsourmash\tgenomes\tlineages.tsv\tksize=30\textra",
        "f\tsourmash\tdatabases.tsv\tmissing.tsv\tksize=30",
    )
    databases, problems = read_databases(sheet)
    text = texts(problems)
    assert databases == []
    for row, key, words in [
        (2, "profiler", "did you mean 'sourmash'?"),
        (3, "name", "cannot be used"),
        (3, "path", "nowhere"),
        (4, "parameters", "did you mean 'ksize'?"),
        (4, "parameters", "'scaled'"),
        (4, "parameters", "'min_overlap'"),
        (4, "parameters", "not of the form key=value"),
        (5, "name", "same name as row 4"),
        (5, "lineages", "no lineages"),
        (6, "lineages", "genome without a lineage (value 'two')"),
        (6, "parameters", "given twice"),
        (7, "header", "6 values for 5 columns"),
        (8, "path", "neither genomes nor a database"),
        (8, "parameters", "'ksize'"),
    ]:
        assert any(p.row == row and p.key == key and words in str(p) for p in problems), (row, key, words, text)
    assert all("Hint: " in str(p) and p.file == str(sheet) for p in problems)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "empty"),
        (HEADER.encode(), "no rows"),
        (b"name\tprofilr\tpath\nx\ty\tz\n", "did you mean 'profilr'?"),
        (b"name\tprofiler\tpath\tparam\nx\ty\tz\tp\n", "unknown column"),
        (b"name\tname\tprofiler\tpath\nx\ty\tz\tp\n", "appears twice"),
        (b"name\xff\n", "not UTF-8"),
    ],
)
def test_unusable_sheets(tmp_path, content, words):
    if content is not None:
        (tmp_path / "databases.tsv").write_bytes(content)
    databases, problems = read_databases(tmp_path / "databases.tsv")
    assert databases == []
    assert words in texts(problems)


def test_existing_databases(study):
    (study / "given").mkdir()
    for name in ("hash.k2d", "taxo.k2d", "opts.k2d"):
        (study / "given" / name).touch()
    (study / "given.zip").touch()
    sheet = write(
        study, "k\tkraken2\tgiven\t\tconfidence=0.1", "s\tsourmash\tgiven.zip\tlineages.tsv\t", "t\tsourmash\tgiven.zip"
    )
    databases, problems = read_databases(sheet)
    assert [(p.row, p.key) for p in problems] == [(4, "lineages")]
    kraken, sourmash = databases
    assert kraken.exists
    assert kraken.lineages is None
    assert [path.name for path in kraken.files()] == ["hash.k2d", "opts.k2d", "taxo.k2d"]
    assert sourmash.files() == [study / "given.zip", study / "lineages.tsv"]


def test_a_sheet_may_name_profilers_that_are_not_installed(study, monkeypatch):
    monkeypatch.setenv("PATH", "")
    databases, problems = read_databases(write(study, "k\tkraken2\tgenomes\tlineages.tsv\t"))
    assert problems == []
    assert databases[0].profiler == "kraken2"


def test_tables_with_one_column_per_rank(tmp_path):
    path = tmp_path / "taxonomy.csv"
    path.write_text(
        "ident,superkingdom,kingdom,genus,species\n"
        'x,d__Bacteria,Bacillati,g__Bacillus,"s__Bacillus subtilis"\n'
        "y,Archaea,,Haloferax,Haloferax volcanii\n"
    )
    found, problems = read_lineages(path)
    assert problems == []
    assert found == {
        "x": "d__Bacteria;g__Bacillus;s__Bacillus subtilis",
        "y": "d__Archaea;g__Haloferax;s__Haloferax volcanii",
    }


def test_faults_of_lineages(tmp_path):
    path = tmp_path / "lineages.tsv"
    path.write_text("genome\tlineage\nx\t\ny\ts__A a\ny\ts__B b\n\ts__C c\nz\tno prefixes\n")
    _, problems = read_lineages(path)
    assert [p.row for p in problems] == [2, 4, 5, 6]
    path.write_text("what\twhere\nx\ty\n")
    assert "columns not recognised" in texts(read_lineages(path)[1])


def test_names_of_genomes(study):
    names = list(genome_files(study / "genomes"))
    assert names == ["GCF_000006945.2_ASM694v2_genomic", "one"]
    assert lineage_for("GCF_1.2", {"GCF_1": "a", "GCF_1.2": "b"}) == "b"
    assert lineage_for("GCF_000006945.2_x", {"GCF_000006945.3": "a"}) is None
    assert lineage_for("onetwo", {"one": "a"}) is None


@given(
    st.dictionaries(
        st.sampled_from(list(lineage.RANKS)), st.from_regex(r"[A-Z][a-z]{1,8}( [a-z]{1,5})?", fullmatch=True)
    )
)
def test_both_forms_of_table_agree(tmp_path_factory, names):
    text = lineage.join(names)
    if not text:
        return
    folder = tmp_path_factory.mktemp("lineages")
    (folder / "a.tsv").write_text(f"genome\tlineage\ng\t{text}\n")
    (folder / "b.tsv").write_text("id\t" + "\t".join(names) + "\ng\t" + "\t".join(names.values()) + "\n")
    assert read_lineages(folder / "a.tsv") == read_lineages(folder / "b.tsv") == ({"g": text}, [])
