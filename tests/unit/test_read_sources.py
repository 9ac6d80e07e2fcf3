"""Labelled reads from tables, FASTA and FASTQ."""

import csv
import gzip
import io
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config.classifier import Classifier
from latentomics.config.training_sheet import TrainingRow
from latentomics.problems import InputError
from latentomics.reads import sources, tables
from latentomics.reads.bases import PAD, decode
from latentomics.reads.sources import EMPTY, FOREIGN, NO_LABEL, NO_SOURCE, SHORT, UNKNOWN, Tally, labelled_reads

SETTINGS = Classifier(min_length=10, max_length=20)
A, B = "ACGTACGTACGTACGT", "TTTTTGGGGGCCCCC"


def row(path, kind="table", label=None, **further):
    return TrainingRow(2, path, kind, label, **further)


def read(*rows, settings=SETTINGS):
    """Letters, labels, sources and units of all reads, and what was left out."""
    tally = Tally()
    chunks = list(labelled_reads(rows, settings, 1, tally))
    letters = [text for chunk in chunks for text in decode(chunk.codes)]
    for chunk in chunks:
        assert chunk.codes.dtype == np.uint8
        assert chunk.lengths.dtype == np.int64
        assert len(chunk.codes) <= 65_536
        assert ((chunk.codes != PAD).sum(axis=1) == chunk.lengths).all()
    columns = [[v for chunk in chunks for v in getattr(chunk, name)] for name in ("labels", "sources")]
    units = [chunk.units for chunk in chunks]
    return letters, *columns, units, dict(tally.counts)


def fault_of(*rows, settings=SETTINGS):
    with pytest.raises(InputError) as caught:
        read(*rows, settings=settings)
    assert all("Hint: " in str(problem) for problem in caught.value.problems)
    return str(caught.value)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


LAYOUTS = {
    "tabs.tsv": f"SEQ\tLAB\n{A}\tx\n{B}\tNA\n",
    "commas.csv": f"LAB,n,SEQ\nx,1,{A}\nNA,2,{B}\n",
    "semicolons.csv": f"SEQ;LAB\n{A};x\n{B};NA\n",
    "tabs_in_a.csv": f"SEQ\tLAB\n{A}\tx\n{B}\tNA\n",
    "windows.csv": f"\ufeffSEQ,LAB\r\n{A},x\r\n{B},NA\r\n",
    "spaces.txt": f"\nSEQ, LAB\n{A}, x\n\n{B}, NA \n",
    "quoted.csv": f'"SEQ","LAB"\n"{A}","x"\n"{B}","NA"\n',
    "quoted_by_r.tsv": f'"SEQ"\t"LAB"\n"{A}"\t"x"\n"{B}"\t"NA"\n',
    "no_last_line_end.tsv": f"SEQ\tLAB\n{A}\tx\n{B}\tNA",
    "lower_case.csv": f"SEQ,LAB\n{A.lower()},x\n{B.lower()},NA\n",
    "rna.csv": f"SEQ,LAB\n{A.replace('T', 'U')},x\n{B.replace('T', 'U')},NA\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("packed", [False, True])
def test_layouts_of_a_table(tmp_path, name, packed):
    data = LAYOUTS[name].encode()
    path = write(tmp_path / (name + ".gz" * packed), gzip.compress(data) if packed else data)
    letters, labels, origins, units, counts = read(row(path))
    # `NA` is a class like others: a site, or a country.
    assert (letters, labels) == ([A, B], ["x", "NA"])
    assert set(origins) == {name.rsplit(".", 1)[0]}
    assert units == [None]
    assert counts == {}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_types_of_parquet(tmp_path, kind):
    columns = {"LAB": pa.array(["x", "NA", None]).cast(kind), "n": [1, 2, 3], "SEQ": pa.array([A, B, A]).cast(kind)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    letters, labels, _, _, counts = read(row(tmp_path / "t.parquet"))
    assert (letters, labels, counts) == ([A, B], ["x", "NA"], {(NO_LABEL, ""): 1})


def test_numbers_as_classes_of_parquet(tmp_path):
    pq.write_table(pa.table({"SEQ": [A, B], "LAB": [0, 1]}), tmp_path / "t.parquet")
    assert read(row(tmp_path / "t.parquet"))[1] == ["0", "1"]
    pq.write_table(pa.table({"SEQ": [[1], [2]], "LAB": [0, 1]}), tmp_path / "t.parquet")
    assert "column 'SEQ' holds no text" in fault_of(row(tmp_path / "t.parquet"))


def test_what_is_left_out_is_counted(tmp_path):
    cells = [(A, "x"), ("", "x"), (A + "-", "x"), (A, ""), (A, "  "), ("ACGTACGTA", "y"), ("N" * 16, "y")]
    cells += [("PROTEINPROTEIN", "y"), ("", ""), ("ACGTNACGTRYACGT", "y"), (A + B, "y"), ("ACG TACGTACGT", "y")]
    path = write(tmp_path / "t.csv", "SEQ,LAB\n" + "".join(f"{a},{b}\n" for a, b in cells))
    letters, labels, _, _, counts = read(row(path))
    # Longer reads are cut, other letters of IUPAC are unknown bases.
    assert letters == [A, "ACGTNACGTNNACGT", (A + B)[:20]]
    assert labels == ["x", "y", "y"]
    assert counts == {
        (EMPTY, "x"): 1,
        (FOREIGN, "x"): 1,
        (NO_LABEL, ""): 3,
        (SHORT, "y"): 1,
        (UNKNOWN, "y"): 1,
        (FOREIGN, "y"): 2,
    }
    assert len(letters) + sum(counts.values()) == len(cells)


def test_what_lies_beyond_the_cut_must_be_bases_too(tmp_path):
    path = write(tmp_path / "t.csv", f"SEQ,LAB\n{A + B}!,x\n{A},x\n")
    assert read(row(path))[4] == {(FOREIGN, "x"): 1}


def test_sources_and_units(tmp_path):
    path = write(tmp_path / "t.csv", f"from,SEQ,LAB\ns1,{A},x\n,{A},x\ns2,{B},y\n")
    by_column = Classifier(min_length=10, max_length=20, source_column="from")
    _, _, origins, units, counts = read(row(path), settings=by_column)
    assert origins == ["s1", "s2"]
    assert list(units[0]) == origins
    assert counts == {(NO_SOURCE, "x"): 1}
    # The sheet names one source for all of it.
    _, _, origins, units, _ = read(row(path, source="cohort"))
    assert origins == ["cohort"] * 3
    assert list(units[0]) == origins


def test_fasta_and_fastq(tmp_path):
    quality = "I" * len(A)
    fasta = write(tmp_path / "one.fa", f">a text\r\n{A[:7]}\r\n{A[7:]}\r\n\r\n>b\r\n>c\r\n{B.lower()}\r\n")
    fastq = write(tmp_path / "two.fq.gz", gzip.compress(f"@a\n{A}\n+\n{quality}\n@b\nACGT\n+\nIIII\n".encode()))
    renamed = write(tmp_path / "three.fastq", f">a\n{A}\n")
    found = read(row(fasta, "reads", "x"), row(fastq, "reads", "y", source="donor"), row(renamed, "reads", "NA"))
    letters, labels, origins, units, counts = found
    assert letters == [A, B, A, A]
    assert labels == ["x", "x", "y", "NA"]
    assert origins == ["one", "one", "donor", "three"]
    # Only what the sheet says is a source is kept together: a class of one file could not be divided otherwise.
    assert [None if unit is None else list(unit) for unit in units] == [None, ["donor"], None]
    assert counts == {(EMPTY, "x"): 1, (SHORT, "y"): 1}


BAD_TABLES = {
    "nothing": (b"", "the table is empty"),
    "header only": (b"SEQ,LAB\n", "holds no reads"),
    "column missing": (b"SEQ,LAS\nACGT,x\n", "did you mean 'LAS'?"),
    "no header": (f"{A},x\n{B},y\n".encode(), "column 'SEQ' is missing"),
    "column twice": (b"SEQ,LAB,LAB\nACGT,x,y\n", "appears twice"),
    "too many fields": (f"SEQ,LAB\n{A},x\n\n{A},x,y\n".encode(), "record 2: 3 fields where the header has 2"),
    "too few fields": (f"SEQ,LAB\n{A},x\n{A},x\n{A}\n".encode(), "record 3: 1 fields where the header has 2"),
    "open quote": (f'SEQ,LAB\n{A},x\n{A},"x\n{A},y\n'.encode(), "record 2: a value of several lines"),
    "two open quotes": (f'SEQ,LAB\n"{A},x\n{A},y\n"{A},y\n'.encode(), "record 1: a value of several lines"),
    "open quote beside": (f'SEQ,LAB,n\n{A},x,"1\n{A},x,2\n{A},y,"3\n'.encode(), "record 1: a value of several lines"),
    "latin 1": (f"SEQ,LAB\n{A},x\n{A},K".encode() + b"\xf6ln\n", "record 2: bytes that are not UTF-8"),
    "utf 16": (f"SEQ,LAB\n{A},x\n".encode("utf-16"), "not UTF-8"),
    "binary": (bytes(range(256)) * 300, "Hint"),
    "control character": (f"SEQ,LAB\n{A},x\x1b[31m\n".encode(), "control characters"),
    "reserved": (f"SEQ,LAB\n{A},unclassified\n".encode(), "reserved"),
    "one line": (b"SEQ,LAB\n" + b"ACGT" * 3_000_000 + b",x\n", "a line of more than"),
    "long header": (b"S" * 100_000, "the first line has more than"),
    "many classes": (
        b"SEQ,LAB\n" + b"".join(b"%b,%d\n" % (A.encode(), i) for i in range(256)),
        "more than 255 classes",
    ),
    "parquet cut short": (b"PAR1" + bytes(100), "not a readable table"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(tmp_path, case):
    data, words = BAD_TABLES[case]
    text = fault_of(row(write(tmp_path / "t.csv", data)))
    assert words in text
    assert "t.csv" in text


def test_a_stray_quote_between_tabs_is_a_letter(tmp_path):
    path = write(tmp_path / "t.tsv", f'SEQ\tLAB\n{A}\t5" strain\n{A}\t"x\n{B}\ty\n')
    assert read(row(path))[1] == ['5" strain', '"x', "y"]


def test_parquet_without_the_column(tmp_path):
    pq.write_table(pa.table({"SEQ": [A], "LABEL": ["x"]}), tmp_path / "t.parquet")
    assert "did you mean 'LABEL'?" in fault_of(row(tmp_path / "t.parquet"))


def random_letters(n, length, seed=0):
    return np.random.default_rng(seed).choice(np.frombuffer(b"ACGT", dtype=np.uint8), (n, length))


@pytest.mark.parametrize("kind", ["table", "reads"])
@pytest.mark.parametrize("cut", [10, 0.5, -4])
def test_gzip_cut_short(tmp_path, kind, cut):
    reads = [letters.tobytes().decode() for letters in random_letters(4000, 30)]
    text = "SEQ,LAB\n" + "".join(f"{r},x\n" for r in reads) if kind == "table" else "".join(f">r\n{r}\n" for r in reads)
    data = gzip.compress(text.encode())
    path = write(tmp_path / "t.gz", data[: int(cut * len(data)) if 0 < cut < 1 else cut])
    assert "cut short" in fault_of(row(path, kind, None if kind == "table" else "x"))


BAD_FILES = {
    "nothing": ("", "holds no reads"),
    "text": ("hello", "neither FASTA nor FASTQ"),
    "qualities missing": (f"@a\n{A}\n+\n{'I' * 16}\n@b\n{A}\n+\nII\n", "row 8: record 2: not a FASTQ record"),
    "cut": (f"@a\n{A}\n+\n{'I' * 16}\n@b\n{A}\n", "record 2: not a FASTQ record"),
    "not ascii": (f"@a\n{A}\n+\n{'I' * 16}\n@b\nAC\u00e9T\n+\nIIIII\n", "row 6: record 2"),
    "name not ascii": (f">a\n{A}\n>\u00e9\n{A}\n", "row 3"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_of_reads(tmp_path, case):
    text, words = BAD_FILES[case]
    found = fault_of(row(write(tmp_path / "r.fq", text), "reads", "x"))
    assert words in found
    assert "r.fq" in found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("ACGTNacgtRX-", max_size=25),
            st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8),
        ),
        max_size=30,
    )
)
def test_a_table_means_what_pandas_reads(tmp_path_factory, cells):
    """Against another parser of quoted CSV, with any letters in the labels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("SEQ", "LAB"), *cells])
    path = write(tmp_path_factory.getbasetemp() / "any.csv", text.getvalue())
    frame = pd.read_csv(path, dtype=str, keep_default_na=False).map(str.strip)
    bases = frame["SEQ"].str.upper().str.replace("R", "N")
    good = bases.str.fullmatch("[ACGTN]{10,}") & bases.str[:20].str.contains("[ACGT]") & (frame["LAB"] != "")
    if frame.empty or (frame["LAB"][good] == "unclassified").any():
        fault_of(row(path))
        return
    letters, labels, *_, counts = read(row(path))
    assert letters == [text[:20] for text in bases[good]]
    assert labels == list(frame["LAB"][good])
    assert sum(counts.values()) == (~good).sum()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "READS_PER_CHUNK", 3000)
    monkeypatch.setattr(sources, "_BASES_PER_CHUNK", 200_000)
    monkeypatch.setattr(tables, "_BLOCK", 1 << 16)


def test_blocks_are_joined_without_loss(tmp_path, small_blocks):
    """More records than a chunk and a block of the parser hold, in every format."""
    n = 9000
    letters = [line.tobytes().decode() for line in random_letters(n, 60)]
    labels = ["x" if i % 3 else "y" for i in range(n)]
    frame = pd.DataFrame({"SEQ": letters, "LAB": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=7000)
    write(tmp_path / "t.fa", "".join(f">r\n{text}\n" for text in letters))
    wide = Classifier(max_length=60)
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet"):
        found = read(row(path), settings=wide)
        assert found[0] == letters
        assert found[1] == labels
    assert read(row(tmp_path / "t.fa", "reads", "x"), settings=wide)[0] == letters
    # The record at fault is counted over all blocks.
    text = (tmp_path / "t.csv").read_bytes()
    for line in (b"ACGT,x,y\n", b"ACGT,K\xf6ln\n", b'ACGT,"x\n', b'"ACGT,x\n'):
        (tmp_path / "t.csv").write_bytes(text + line)
        assert f"record {n + 1}:" in fault_of(row(tmp_path / "t.csv"), settings=wide)


def test_memory_is_bounded_by_a_block(tmp_path, small_blocks):
    """Four times the reads need no more memory (NumPy reports its arrays to tracemalloc)."""

    def peak(n):
        path = write(tmp_path / "t.fa", b"".join(b">r\n%b\n" % line.tobytes() for line in random_letters(n, 50)))
        tracemalloc.start()
        for _ in labelled_reads([row(path, "reads", "x")], Classifier(max_length=50), 1, Tally()):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(40_000) < 1.3 * peak(10_000)


def test_long_reads_come_in_fewer_at_a_time(tmp_path, small_blocks):
    path = write(tmp_path / "t.fa", b"".join(b">r\n%b\n" % line.tobytes() for line in random_letters(1500, 2000)))
    chunks = list(labelled_reads([row(path, "reads", "x")], SETTINGS, 1, Tally()))
    assert sum(len(chunk.codes) for chunk in chunks) == 1500
    assert max(len(chunk.codes) for chunk in chunks[1:]) <= 100
