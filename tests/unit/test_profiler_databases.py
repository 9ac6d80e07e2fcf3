"""Databases of profilers: built, adopted, damaged; the genomes and the taxonomy behind them."""

import dataclasses
import gzip

import numpy as np
import pytest
from profiler_cases import LINEAGES, PROFILERS, bases, by_taxon, needs_kraken2, row, study, write_reads

from latentomics.config.profile import Profile
from latentomics.metagenome import lineage
from latentomics.metagenome.profile import kraken2, sourmash_
from latentomics.metagenome.profile.genomes import auto_scaled, read_genomes, sequences, tiles
from latentomics.metagenome.profile.kraken2_taxonomy import read_taxonomy, write_taxonomy
from latentomics.metagenome.profile.run import prepare_database, profile_samples
from latentomics.problems import InputError

__all__ = ["study"]


@pytest.mark.parametrize("profiler", PROFILERS)
def test_the_same_genomes_give_the_same_bytes(study, tmp_path, profiler):
    prepare_database(row(study[0], profiler), tmp_path / "again", 1)
    names = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert names == sorted(path.name for path in (study[0] / profiler).iterdir())
    for name in names:
        if name == "opts.k2d":
            continue  # Kraken2 writes a struct with its padding, which holds whatever was in memory.
        assert (tmp_path / "again" / name).read_bytes() == (study[0] / profiler / name).read_bytes(), name


@pytest.mark.parametrize("profiler", PROFILERS)
@pytest.mark.parametrize(
    "content",
    [b"", b">x\nNNNN\n", b"no fasta", gzip.compress(b">x\nACGT\n" * 99, mtime=0)[:-9]],
    ids=["empty", "no base known", "no fasta", "truncated"],
)
def test_damaged_genomes_leave_nothing_behind(tmp_path, profiler, content):
    (tmp_path / "genomes").mkdir()
    (tmp_path / "genomes" / "bad.fa").write_bytes(content)
    (tmp_path / "lineages.tsv").write_text("genome\tlineage\nbad\ts__A b\n")
    with pytest.raises(InputError, match=r"bad\.fa"):
        prepare_database(row(tmp_path, profiler), tmp_path / "database", 1)
    assert not (tmp_path / "database").exists()
    assert not (tmp_path / "database.partial").exists()


def test_an_existing_signature_collection(study, tmp_path):
    import sourmash

    folder, genomes = study
    signatures = []
    for name, text in genomes.items():
        sketch = sourmash.MinHash(0, 31, scaled=5)
        sketch.add_sequence(text)
        signatures.append(sourmash.SourmashSignature(sketch, name=f"{name} some description"))
    with (tmp_path / "given.sig").open("w") as stream:
        sourmash.save_signatures(signatures, stream)
    assert sourmash_.is_database(tmp_path / "given.sig")
    given = row(folder, "sourmash", path=tmp_path / "given.sig", exists=True, parameters={})
    prepare_database(given, tmp_path / "database", 1)
    write_reads(tmp_path / "reads", genomes, {"coli": 6, "short": 6})
    [(table, _)] = profile_samples({"s": tmp_path / "reads"}, tmp_path / "database", Profile(), 1)
    kept = by_taxon(table[table["kept"]])
    assert kept["Escherichia coli"] == pytest.approx(0.5, abs=0.05)
    assert set(kept) == {"Escherichia coli", "Other short"}
    wrong = dataclasses.replace(given, parameters={"ksize": 51})
    with pytest.raises(InputError, match="k-mer length 51"):
        prepare_database(wrong, tmp_path / "wrong", 1)


@needs_kraken2
def test_an_existing_kraken2_database(study, tmp_path):
    folder, genomes = study
    assert kraken2.is_database(folder / "kraken2")
    given = row(folder, "kraken2", path=folder / "kraken2", exists=True, lineages=None)
    prepare_database(given, tmp_path / "database", 1)
    write_reads(tmp_path / "reads", genomes, {"coli": 6, "other": 6})
    [(table, summary)] = profile_samples({"s": tmp_path / "reads"}, tmp_path / "database", Profile(), 1)
    found = table.set_index("taxon")
    assert found.loc["Escherichia coli", "lineage"] == LINEAGES["coli"]
    assert found["evidence"].isna().all()
    assert found["kept"].all()
    assert any("shares of reads" in note for note in summary["notes"])
    assert any("not re-estimated" in note for note in summary["notes"])


def test_a_profiler_that_is_not_installed(study, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="bioconda"):
        prepare_database(row(study[0], "kraken2"), tmp_path / "database", 1)


def test_tiles_cover_a_contig():
    contig = bases(np.random.default_rng(0), 1000)
    reads, pairs = tiles(contig, 100, 300, 50)
    assert {contig[i : i + 100] for i in range(0, 901, 50)} == set(reads)
    assert pairs[1] == contig[50:150] + "N" + contig[250:350]
    assert tiles("ACGT", 100, 300, 50) == (["ACGT"], ["ACGTNACGT"])


def test_sequences_and_scale(tmp_path):
    (tmp_path / "a.fa").write_text(">x\nacgtRYn\n>y\nACGT\n")
    assert list(sequences(tmp_path / "a.fa")) == ["ACGTNNN", "ACGT"]
    assert [auto_scaled(np.array([n, 10 * n])) for n in (100, 2_000_000, 10**9)] == [1, 100, 1000]


def test_every_genome_without_a_lineage_is_named(study, tmp_path):
    (tmp_path / "lineages.tsv").write_text("genome\tlineage\ncoli\ts__A b\n")
    with pytest.raises(InputError) as error:
        read_genomes(study[0] / "genomes", tmp_path / "lineages.tsv")
    assert [problem.value for problem in error.value.problems] == ["like", "other", "short", "twin"]


def taxo_k2d(rows):
    """A taxonomy as Kraken2 writes it: parent's place, name, rank, taxid of each node after the empty first."""
    names, ranks, nodes = b"", b"", [[0] * 7]
    for parent, name, rank, taxid in rows:
        nodes.append([parent, 0, 0, len(names), len(ranks), taxid, 0])
        names += name.encode() + b"\0"
        ranks += rank.encode() + b"\0"
    head = np.array([len(nodes), len(names), len(ranks)], "<u8").tobytes()
    return b"K2TAXDAT" + head + np.array(nodes, "<u8").tobytes() + names + ranks


def test_taxonomy_of_an_existing_database(tmp_path):
    rows = [
        *[(0, "root", "no rank", 1), (1, "cellular organisms", "no rank", 131567), (2, "Bacteria", "superkingdom", 2)],
        *[(2, "Archaea", "domain", 2157), (3, "Bacillati", "kingdom", 1783272), (5, "Bacillus", "genus", 1386)],
        *[(6, "Bacillus subtilis", "species", 1423), (7, "168", "no rank", 224308), (6, "group", "species group", 9)],
    ]
    (tmp_path / "taxo.k2d").write_bytes(taxo_k2d(rows))
    found = read_taxonomy(tmp_path / "taxo.k2d").set_index("taxid")["lineage"].to_dict()
    assert found == {
        1: "",
        131567: "",
        2: "d__Bacteria",
        2157: "d__Archaea",
        1783272: "d__Bacteria",
        1386: "d__Bacteria;g__Bacillus",
        1423: "d__Bacteria;g__Bacillus;s__Bacillus subtilis",
        224308: "d__Bacteria;g__Bacillus;s__Bacillus subtilis;t__168",
        9: "d__Bacteria;g__Bacillus",
    }
    for content in (b"", b"K2TAXDAT", taxo_k2d(rows)[:300], b"x" * 1000):
        (tmp_path / "taxo.k2d").write_bytes(content)
        with pytest.raises(InputError, match=r"taxo\.k2d"):
            read_taxonomy(tmp_path / "taxo.k2d")


def test_written_taxonomy_is_a_tree(study, tmp_path):
    genomes = read_genomes(study[0] / "genomes", study[0] / "lineages.tsv")
    table, leaves = write_taxonomy(genomes, tmp_path / "taxonomy")
    nodes = [line.split("\t|\t") for line in (tmp_path / "taxonomy" / "nodes.dmp").read_text().splitlines()]
    parents = {int(node[0]): int(node[1]) for node in nodes}
    assert parents[1] == 1
    for taxid in parents:
        steps = 0
        while taxid != 1:
            taxid, steps = parents[taxid], steps + 1
            assert steps < 12
    lineages = table.set_index("taxid")["lineage"]
    assert [lineages[leaf] for leaf in leaves] == [genome.lineage for genome in genomes]


def test_lineages_are_in_the_common_form():
    assert all(lineage.join(lineage.split(text)) == text for text in LINEAGES.values())
