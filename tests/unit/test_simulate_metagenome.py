"""The simulator of metagenomes against its own truth, read back from the files that it writes."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from pathlib import Path

import dnaio
import numpy as np
import pandas as pd
import pytest
from genome_cases import COMPLEMENT
from scipy import stats

from latentomics.metagenome import lineage as lineages
from latentomics.simulate.__main__ import main
from latentomics.simulate.communities import MetagenomeParams, draw_communities
from latentomics.simulate.genomes import CLOSE_PAIR, HOST, SPIKE_IN, GenomeParams
from latentomics.simulate.metagenome_files import SIMPLE, render_metagenomes, write_metagenomes

SMALL = MetagenomeParams(
    replicates=1, pairs=400, genomes=GenomeParams(core_length=(5000, 9000), host_length=20_000), copy_share=0.1
)


@pytest.fixture(scope="module")
def small() -> tuple[dict[str, bytes], list[dict[str, str]]]:
    return render_metagenomes(SMALL)


def records(data: bytes) -> list[dnaio.SequenceRecord]:
    with dnaio.open(io.BytesIO(gzip.decompress(data))) as reader:
        return list(reader)


def table(files: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(files[f"metagenome/{name}"]), sep="\t", keep_default_na=False)


def mates(files: dict[str, bytes], rows: list[dict[str, str]], sample: str, column: str = "path") -> list:
    return [r for row in rows if row["sample"] == sample and row[column] for r in records(files[row[column]])]


def test_origins_in_the_names_are_those_of_the_truth(small: tuple) -> None:
    files, rows = small
    origins, truth = table(files, "origins.tsv"), table(files, "truth.tsv")
    samples = draw_communities(SMALL, np.random.default_rng([0, 1])).samples
    assert np.allclose(truth.groupby("sample")["abundance"].sum(), 1, atol=1e-4)
    assert np.allclose(truth.groupby("sample")["read_share"].sum(), 1, atol=1e-4)
    shares, p_values = set(), []
    for sample, wanted in origins.groupby("sample", sort=False):
        names = [record.name.split(":") for record in mates(files, rows, sample)]
        assert len({name[1] for name in names}) == len(names) == samples.loc[sample, "pairs"]
        found = Counter(name[0] for name in names)
        wanted = wanted.set_index("origin")
        assert dict(found) == wanted.loc[wanted["pairs"] > 0, "pairs"].to_dict()
        written = truth[truth["sample"] == sample].set_index("genome")["pairs"]
        assert written.to_dict() == wanted.loc[written.index, "pairs"].to_dict()
        unique = wanted["pairs"] - wanted["copies"]
        host = samples.loc[sample, "host_share"]
        expected = pd.Series({HOST: host, SIMPLE: SMALL.simple_share})
        expected[SPIKE_IN] = SMALL.spike_share * samples.loc[sample, "spiked"]
        microbes = truth[truth["sample"] == sample].set_index("genome")["read_share"]
        expected = pd.concat([expected, (1 - expected.sum()) * microbes])
        for origin, share in expected.items():
            if share == 0:
                assert unique[origin] == 0
            else:
                p_values.append(stats.binomtest(int(unique[origin]), int(unique.sum()), min(share, 1)).pvalue)
        shares.add(unique[SPIKE_IN] > 0)
    assert min(p_values) > 1e-4 and np.mean(np.array(p_values) < 0.05) < 0.1
    assert shares == {True, False}
    assert origins["copies"].sum() / origins["pairs"].sum() == pytest.approx(SMALL.copy_share, abs=0.015)


def test_read_shares_are_abundances_times_genome_lengths(small: tuple) -> None:
    files, _ = small
    truth = table(files, "truth.tsv")
    size = {g: len(records(files[f"metagenome/genomes/{g}.fa.gz"])[0].sequence) for g in truth["genome"].unique()}
    weight = truth["abundance"] * truth["genome"].map(size)
    expected = weight / weight.groupby(truth["sample"]).transform("sum")
    assert np.allclose(truth["read_share"], expected, rtol=1e-4)


def test_reads_come_from_the_genome_that_they_name(small: tuple) -> None:
    files, rows = small
    sequences = {
        record.name.split()[0]: record.sequence
        for name, data in files.items()
        if name.endswith(".fa.gz")
        for record in records(data)
    }
    assert {HOST, SPIKE_IN, *CLOSE_PAIR} < set(sequences)
    found, unfound = 0, 0
    first = mates(files, rows, "gut02")
    second = mates(files, rows, "gut02", "path_2")
    assert [r.name for r in first] == [r.name for r in second]
    for record in (*first, *second):
        origin, _, insert = record.name.split(":")
        if origin == SIMPLE or record.sequence.endswith("G" * 12):
            continue
        genome = sequences[origin]
        both = genome + "N" + genome.translate(COMPLEMENT)[::-1]
        read = record.sequence[: int(insert)]
        # Some piece of the read has no error.
        if any(read[i : i + 20] in both for i in range(0, len(read) - 19, 16)):
            found += 1
        else:
            unfound += 1
    assert found > 500 and unfound / found < 0.01


def test_copies_are_exact_and_tails_are_dark(small: tuple) -> None:
    files, rows = small
    origins = table(files, "origins.tsv")
    copies, tails, total = 0, 0, 0
    for sample in origins["sample"].unique():
        first = mates(files, rows, sample)
        second = mates(files, rows, sample, "path_2") or first
        pairs = [(a.sequence, b.sequence) for a, b in zip(first, second, strict=True)]
        real = [p for p, a in zip(pairs, first, strict=True) if not a.name.startswith(SIMPLE)]
        copies += len(real) - len(set(real))
        tails += sum(a.sequence.endswith("G" * 20) and int(a.name.split(":")[2]) >= 100 for a in first)
        total += len(first)
    assert copies == origins.loc[origins["origin"] != SIMPLE, "copies"].sum()
    # Errors in the G tail do not occur, since it is darkened after the errors; a few simple reads are all G.
    assert tails / total == pytest.approx(SMALL.dark_share, abs=0.015)


def test_the_sheet_names_every_file_and_every_kind_of_input(small: tuple) -> None:
    files, rows = small
    sheet = pd.DataFrame(rows)
    assert list(sheet.columns) == [
        *("sample", "assay", "path", "path_2", "batch", "condition", "control", "label"),
    ]
    named = {path for path in (*sheet["path"], *sheet["path_2"]) if path}
    assert named == {name for name in files if "/reads/" in name}
    assert list(sheet["sample"][:2]) == ["gut01", "gut01"] and sheet["sample"][2:].is_unique
    assert list(sheet.loc[sheet["path_2"] == "", "sample"]) == ["gut08"]
    assert list(sheet.loc[sheet["control"] == "yes", "sample"]) == ["blank1", "blank2"]
    assert set(sheet.loc[sheet["control"] == "", "label"]) == set(SMALL.groups)
    runs = [len(records(files[path])) for path in sheet["path"][:2]]
    assert abs(runs[0] - runs[1]) <= 1 and runs[0] > 0


def test_the_database_sheet_and_the_lineages_name_the_genomes(small: tuple) -> None:
    files, _ = small
    database = table(files, "databases.tsv")
    assert list(database.columns) == ["name", "profiler", "path", "lineages", "parameters"]
    assert database.iloc[0].to_list() == ["demo", "sourmash", "genomes/", "lineages.tsv", ""]
    found = table(files, "lineages.tsv").set_index("genome")["lineage"]
    paths = [name for name in files if "/genomes/" in name]
    assert {Path(p).name.removesuffix(".fa.gz") for p in paths} == set(found.index)
    for path in paths:
        (record,) = records(files[path])
        assert Path(path).name == f"{record.name}.fa.gz"
        assert lineages.name_of(found[record.name]) == record.name.replace("_", " ")


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(small: tuple) -> None:
    files, rows = small
    again, rows_again = render_metagenomes(SMALL)
    assert files == again and rows == rows_again
    assert all(data[4:8] == b"\0\0\0\0" for name, data in files.items() if name.endswith(".gz"))
    other, _ = render_metagenomes(MetagenomeParams(**{**vars(SMALL), "seed": 1}))
    same = {name for name in files if files[name] == other.get(name)}
    assert same == {"metagenome/lineages.tsv", "metagenome/databases.tsv", "metagenome/taxa.tsv"}


def test_deeper_sequencing_changes_neither_genomes_nor_communities(small: tuple) -> None:
    files, _ = small
    deeper, _ = render_metagenomes(MetagenomeParams(**{**vars(SMALL), "pairs": 800}))
    for name in files:
        if name.endswith(".fa.gz"):
            assert files[name] == deeper[name]
    columns = ["sample", "genome", "abundance", "read_share"]
    pd.testing.assert_frame_equal(table(files, "truth.tsv")[columns], table(deeper, "truth.tsv")[columns])


def test_a_second_writing_leaves_right_files_alone(tmp_path: Path) -> None:
    rows, written = write_metagenomes(tmp_path, SMALL)
    assert all((tmp_path / row["path"]).is_file() for row in rows)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert set(written) == set(before)
    damaged = tmp_path / rows[0]["path"]
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert write_metagenomes(tmp_path, SMALL) == (rows, [damaged])
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p in after if after[p] != before.get(p)} == {damaged}


def test_the_demo_is_one_sheet_of_both_assays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out
    assert "24 metagenomes and 2 negative controls" in said and "cells x" in said
    assert main([str(tmp_path / "cells"), "--assay", "scrna"]) == 0
    both = pd.read_csv(tmp_path / "both/samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    cells = pd.read_csv(tmp_path / "cells/samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert list(both["assay"].value_counts()[["scrna", "metagenome"]]) == [4, 27]
    pd.testing.assert_frame_equal(both.loc[both["assay"] == "scrna", cells.columns], cells)
    new = both.columns.difference(cells.columns)
    assert set(new) == {"path_2", "control"} and (both.loc[both["assay"] == "scrna", new] == "").all(axis=None)
    for path in (p for column in ("path", "path_2") for p in both[column] if p):
        assert (tmp_path / "both" / path).exists()
    for file in (tmp_path / "cells").rglob("*"):
        if file.is_file() and file.name != "samples.tsv":
            assert file.read_bytes() == (tmp_path / "both" / file.relative_to(tmp_path / "cells")).read_bytes()
    size = sum(file.stat().st_size for file in (tmp_path / "both/metagenome").rglob("*") if file.is_file())
    assert size < 25e6
