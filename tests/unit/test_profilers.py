"""Profilers on small genomes of known relation, and what becomes of their evidence."""

import dataclasses
import gzip
import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from latentomics.config.databases import Database
from latentomics.config.profile import Profile
from latentomics.metagenome import lineage
from latentomics.metagenome.profile import kraken2, registry, sourmash_
from latentomics.metagenome.profile.evidence import (
    COLUMNS,
    Markers,
    Observations,
    expected_distinct,
    imitated,
    taxon_table,
)
from latentomics.metagenome.profile.genomes import auto_scaled, read_genomes, sequences, tiles
from latentomics.metagenome.profile.kraken2_taxonomy import read_taxonomy, write_taxonomy
from latentomics.metagenome.profile.run import prepare_database, profile_samples, write_profiles
from latentomics.metagenome.profile.sketch import locate, merge, sketches
from latentomics.problems import InputError

needs_kraken2 = pytest.mark.skipif(kraken2.missing() is not None, reason="Kraken2 is not installed")
PROFILERS = ["sourmash", pytest.param("kraken2", marks=needs_kraken2)]
SIZE = 30_000
#: Fewer k-mers than by default, for speed.
PARAMETERS = {"sourmash": {"scaled": 4}, "kraken2": {}}
#: Genome and lineage; `like` and `twin` hold 90 % of the sequence of `coli`, `short` is half as long as the others.
LINEAGES = {
    "coli": "d__Bacteria;f__Entero;g__Escherichia;s__Escherichia coli",
    "like": "d__Bacteria;f__Entero;g__Shigella;s__Shigella alike",
    "twin": "d__Bacteria;f__Entero;g__Shigella;s__Shigella twin",
    "other": "d__Bacteria;f__Other;g__Other;s__Other one",
    "short": "d__Bacteria;f__Other;g__Other;s__Other short",
}


def bases(rng, n):
    return "".join(rng.choice(list("ACGT"), n))


def with_differences(text, rng):
    """A relative: every tenth stretch of 400 bases is new."""
    parts = [text[i : i + 400] for i in range(0, len(text), 400)]
    return "".join(bases(rng, len(part)) if i % 10 == 3 else part for i, part in enumerate(parts))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Genomes, lineages, and a database of each profiler that is installed."""
    folder = tmp_path_factory.mktemp("some profilers")
    rng = np.random.default_rng(0)
    genomes = {"coli": bases(rng, SIZE), "other": bases(rng, SIZE), "short": bases(rng, SIZE // 2)}
    genomes |= {"like": with_differences(genomes["coli"], rng), "twin": with_differences(genomes["coli"], rng)}
    (folder / "genomes").mkdir()
    for name, text in genomes.items():
        with gzip.open(folder / "genomes" / f"{name}.fna.gz", "wt") as stream:
            stream.write(f">{name}_1\n{text[:15000].lower()}\n>{name}_2\n{text[15000:]}\n")
    pd.Series(LINEAGES, name="lineage").rename_axis("genome").to_csv(folder / "lineages.tsv", sep="\t")
    for name in PARAMETERS:
        if registry.profiler(name).missing() is None:
            prepare_database(row(folder, name), folder / name, 2)
    return folder, genomes


def row(folder, profiler, **changes):
    plain = Database("db", profiler, folder / "genomes", False, folder / "lineages.tsv", PARAMETERS[profiler])
    return dataclasses.replace(plain, **changes)


def write_reads(folder, genomes, copies, seed=1, paired=True, errors=0.0, length=150):
    """Reads of genomes at a number of copies (depth); returns the number of reads of each genome."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    mates = [[], []]
    flip = np.zeros(256, np.uint8)
    flip[list(b"ACGT")] = list(b"TGCA")
    for name, depth in copies.items():
        text = np.frombuffer(genomes[name].encode(), np.uint8)
        n = round(depth * len(text) / (length * (1 + paired)))
        drawn[name] = n * (1 + paired)
        starts = rng.integers(0, len(text) - 350, n)
        mates[0].append(text[starts[:, None] + np.arange(length)])
        mates[1].append(flip[text[starts[:, None] + 349 - np.arange(length)]])
    for mate, name in enumerate(["reads_1", "reads_2"] if paired else ["reads"]):
        letters = np.concatenate(mates[mate])
        letters[rng.random(letters.shape) < errors] = ord("A")
        with gzip.open(folder / f"{name}.fastq.gz", "wt", 1) as stream:
            for i, read in enumerate(letters):
                stream.write(f"@{i}\n{read.tobytes().decode()}\n+\n{'I' * length}\n")
    return drawn


def one(study, profiler, reads, limits=None):
    return profile_samples({"s": reads}, study[0] / profiler, limits or Profile(), 1)[0]


def by_taxon(table, column="abundance"):
    return table.set_index("taxon")[column].to_dict()


@pytest.mark.parametrize("profiler", PROFILERS)
@pytest.mark.parametrize("paired", [True, False])
def test_relatives_are_told_apart(study, tmp_path, profiler, paired):
    copies = {"coli": 8, "like": 4, "other": 4, "short": 8}
    drawn = write_reads(tmp_path / "reads", study[1], copies, paired=paired, errors=0.003)
    table, summary = one(study, profiler, tmp_path / "reads")
    assert list(table.columns) == list(COLUMNS)
    assert table["abundance"].sum() == pytest.approx(1)
    assert table["abundance_plain"].sum() == pytest.approx(1)
    kept = table[table["kept"]]
    truth = {"Escherichia coli": 8, "Shigella alike": 4, "Other one": 4, "Other short": 8}
    assert set(kept["taxon"]) == set(truth)  # The twin is not there, though nine tenths of its k-mers are.
    found = by_taxon(kept)
    assert sum(abs(found[taxon] - n / 24) for taxon, n in truth.items()) < 0.08
    if profiler == "sourmash":  # gather gives the shared part to one of the two.
        plain = by_taxon(kept, "abundance_plain")
        assert sum(abs(plain[taxon] - n / 24) for taxon, n in truth.items()) > 0.15
    total = sum(drawn.values())
    [observed] = summary["observations"]
    assert observed["total_reads"] == total
    assert table["reads"].sum() == pytest.approx(observed["classified_reads"])
    assert observed["unclassified_share"] < 0.15
    coli, other = by_taxon(table, "reads")["Escherichia coli"], by_taxon(table, "reads")["Other short"]
    assert coli / other == pytest.approx(drawn["coli"] / drawn["short"], rel=0.12)
    # What is seen is near what the abundance lets expect.
    assert (kept["evidence"] / kept["expected_evidence"]).between(0.8, 1.2).all()
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize("profiler", PROFILERS)
def test_lineages_that_stop_at_the_genus(study, tmp_path, profiler):
    folder, genomes = study
    cut = {**LINEAGES, "other": "d__Bacteria;f__Other;g__Unnamed"}
    pd.Series(cut, name="lineage").rename_axis("genome").to_csv(tmp_path / "lineages.tsv", sep="\t")
    prepare_database(row(folder, profiler, lineages=tmp_path / "lineages.tsv"), tmp_path / "database", 1)
    write_reads(tmp_path / "reads", genomes, {"other": 2, "short": 2})
    [(table, _)] = profile_samples({"s": tmp_path / "reads"}, tmp_path / "database", Profile(), 1)
    assert by_taxon(table) == pytest.approx({"Unnamed": 0.5, "Other short": 0.5}, abs=0.02)
    assert table.set_index("taxon")["rank"].to_dict() == {"Unnamed": "genus", "Other short": "species"}


@pytest.mark.parametrize("profiler", PROFILERS)
def test_a_pile_of_reads_on_one_place_is_not_a_genome(study, tmp_path, profiler):
    genomes = study[1]
    pile = {"pile": genomes["other"][20_000:20_600]}
    write_reads(tmp_path / "reads", genomes | pile, {"coli": 5, "pile": 300})
    table, _ = one(study, profiler, tmp_path / "reads")
    other = table.set_index("taxon").loc["Other one"]
    assert not other["kept"]
    assert "of what the abundance lets expect" in other["reason"]
    assert other["abundance"] > 0.2
    assert table.set_index("taxon").loc["Escherichia coli", "kept"]


@pytest.mark.parametrize("profiler", PROFILERS)
def test_errors_in_a_frequent_genome_are_not_its_relative(tmp_path, profiler):
    rng = np.random.default_rng(5)
    near = list(bases(rng, SIZE))
    genomes = {"real": "".join(near)}
    for place in range(0, SIZE, 60):
        near[place] = "ACGT"["CGTA".index(near[place])]
    genomes["near"] = "".join(near)
    (tmp_path / "genomes").mkdir()
    for name, text in genomes.items():
        (tmp_path / "genomes" / f"{name}.fa").write_text(f">{name}\n{text}\n")
    (tmp_path / "lineages.tsv").write_text("genome\tlineage\nreal\tg__A;s__A real\nnear\tg__A;s__A near\n")
    prepare_database(row(tmp_path, profiler), tmp_path / "database", 1)
    write_reads(tmp_path / "reads", genomes, {"real": 60}, errors=0.01)
    reads = {"s": tmp_path / "reads"}
    lax = Profile(min_relative_share=0, min_evidence=1, min_abundance=0, min_evidence_ratio=0)
    [(table, _)] = profile_samples(reads, tmp_path / "database", lax, 1)
    assert set(table["taxon"]) == {"A real", "A near"}  # It is seen, and what is seen is not odd by itself.
    assert table["kept"].all()
    assert table["abundance"][1] < 0.005
    if profiler == "sourmash":  # Kraken2 gives most such reads to the right genome and the rest no class in common.
        [(table, _)] = profile_samples(reads, tmp_path / "database", Profile(min_abundance=0, min_evidence=1), 1)
        assert table["kept"].tolist() == [True, False]
        assert "sequencing errors" in table["reason"][1]


@pytest.mark.parametrize("profiler", PROFILERS)
def test_foreign_reads_and_no_reads(study, tmp_path, profiler):
    foreign = {"foreign": bases(np.random.default_rng(9), SIZE)}
    write_reads(tmp_path / "a", study[1] | foreign, {"foreign": 3, "other": 1})
    write_reads(tmp_path / "b", study[1], {"other": 0})
    write_reads(tmp_path / "c", study[1], {"short": 2}, paired=False)
    results = profile_samples(
        {"a": tmp_path / "a", "b": tmp_path / "b", "c": tmp_path / "c"}, study[0] / profiler, Profile(), 2
    )
    [(foreign_table, about), (empty, nothing), (single, _)] = results
    assert about["observations"][0]["unclassified_share"] == pytest.approx(0.75, abs=0.02)
    assert by_taxon(foreign_table) == {"Other one": 1.0}
    assert empty.empty
    assert list(empty.columns) == list(COLUMNS)
    assert nothing["observations"][0] == {
        "sample": "b",
        "total_reads": 0,
        "classified_reads": 0.0,
        "unclassified_share": 1.0,
    }
    assert by_taxon(single) == {"Other short": 1.0}
    # One sample's profile does not depend on its neighbours.
    alone, _ = profile_samples({"a": tmp_path / "a"}, study[0] / profiler, Profile(), 1)[0]
    pd.testing.assert_frame_equal(alone, foreign_table)
    write_profiles(results, [tmp_path / f"{s}.parquet" for s in "abc"], [tmp_path / f"{s}.json" for s in "abc"])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "c.parquet"), single)
    assert pd.read_parquet(tmp_path / "b.parquet")["kept"].dtype.kind == "b"
    assert not list(tmp_path.glob("*.partial"))


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
def test_damaged_reads_name_the_sample(study, tmp_path, profiler):
    write_reads(tmp_path / "cut", study[1], {"other": 2})
    whole = (tmp_path / "cut" / "reads_1.fastq.gz").read_bytes()
    (tmp_path / "cut" / "reads_1.fastq.gz").write_bytes(whole[: len(whole) // 2])
    for folder in ("cut", "nowhere"):
        with pytest.raises(InputError, match=r"sample 'bad'"):
            profile_samples({"bad": tmp_path / folder}, study[0] / profiler, Profile(), 1)


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


def test_two_genomes_of_one_species_are_one_taxon(study, tmp_path):
    folder, genomes = study
    same = {**LINEAGES, "like": LINEAGES["coli"] + ";t__strain"}
    pd.Series(same, name="lineage").rename_axis("genome").to_csv(tmp_path / "lineages.tsv", sep="\t")
    database = row(folder, "sourmash", lineages=tmp_path / "lineages.tsv")
    prepare_database(database, tmp_path / "database", 1)
    write_reads(tmp_path / "reads", genomes, {"coli": 4, "like": 4, "other": 8})
    [(table, _)] = profile_samples({"s": tmp_path / "reads"}, tmp_path / "database", Profile(), 1)
    assert by_taxon(table)["Escherichia coli"] == pytest.approx(0.5, abs=0.03)
    assert set(table["rank"]) == {"species"}


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


@needs_kraken2
def test_what_kraken2_says_reaches_the_user(study, tmp_path):
    write_reads(tmp_path / "reads", study[1], {"coli": 1})
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (study[0] / "kraken2").iterdir():
        os.symlink(path, broken / path.name)
    (broken / "hash.k2d").unlink()
    with pytest.raises(InputError, match="kraken2 failed"):
        profile_samples({"s": tmp_path / "reads"}, broken, Profile(), 1)


def test_registry_modules_offer_what_is_promised():
    for name in registry.PROFILERS:
        module = registry.profiler(name)
        assert module.Params().model_fields_set == set()
        for offered in ("TITLE", "OWN_TAXONOMY", "missing", "version", "is_database", "build", "adopt", "observe"):
            assert hasattr(module, offered), (name, offered)
        assert all(field.description for field in module.Params.model_fields.values())


def test_classes_are_the_sets_of_genomes_that_share_a_kmer(study):
    database = sourmash_._Database(study[0] / "sourmash")
    seen = np.random.default_rng(0).integers(0, 3, len(database.hashes))
    genomes = [0, 1, 2, 4]
    counts, likelihood, members, distinct, possible = sourmash_.classes(database, seen, genomes)
    holders = {}
    for column, genome in enumerate(genomes):
        for code in database.codes[database.rows(genome)]:
            holders.setdefault(int(code), []).append(column)
    expected = {}
    for code, group in holders.items():
        entry = expected.setdefault(tuple(group), [0, 0, 0])
        entry[0] += seen[code]
        entry[1] += seen[code] > 0
        entry[2] += 1
    found = {
        tuple(np.flatnonzero(members[[i]].toarray()[0]).tolist()): [counts[i], distinct[i], possible[i]]
        for i in range(len(counts))
    }
    assert found == expected
    np.testing.assert_allclose(np.asarray(likelihood.sum(axis=0)).ravel(), 1)


def test_sketches_in_chunks_equal_one_sketch(monkeypatch):
    from sourmash import MinHash

    rng = np.random.default_rng(3)
    reads = [bases(rng, 150) for _ in range(300)] + ["ACGTN" * 30, "ACG"]
    reads += reads[:50]
    whole = MinHash(0, 31, scaled=7, track_abundance=True)
    for read in reads:
        whole.add_sequence(read, force=True)
    monkeypatch.setattr("latentomics.metagenome.profile.sketch._CHUNK", 1000)
    hashes, occurrences = merge(list(sketches(reads, 31, 7)))
    assert dict(zip(hashes.tolist(), occurrences.tolist(), strict=True)) == dict(whole.hashes)
    found, places = locate(np.array([hashes[5], 1, hashes[-1]], np.uint64), hashes)
    assert found.tolist() == [True, False, True]
    assert places.tolist() == [5, len(hashes) - 1]


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


def observations(**changes):
    two = ["d__B;g__G;s__G a", "d__B;g__G;s__G b"]
    plain = Observations(
        "s",
        1000,
        1000.0,
        two,
        np.array([2e6, 4e6]),
        np.array([500.0, 500.0]),
        csr_matrix(np.eye(2)),
        {two[0]: 500.0, two[1]: 500.0},
        Markers({two[0]: 90, two[1]: 20}, {two[0]: 1000, two[1]: 1000}, np.array([0.2, 2.0])),
    )
    return dataclasses.replace(plain, **changes)


def test_abundance_is_by_genome_copies_and_the_filter_gives_reasons():
    table, notes = taxon_table(observations(), Profile())
    a, b = table.iloc[0], table.iloc[1]
    assert a["abundance"] == pytest.approx(2 / 3)
    assert a["reads"] == b["reads"] == pytest.approx(500)
    assert a["expected_evidence"] == pytest.approx(1000 * (1 - np.exp(-0.1)))
    assert b["expected_evidence"] == pytest.approx(1000 * (1 - np.exp(-1)))
    assert (a["reason"], b["reason"]) == ("", "distinct k-mers below 0.1 of what the abundance lets expect")
    assert notes == []
    few, _ = taxon_table(observations(), Profile(min_evidence=30))
    assert few["reason"].tolist() == ["", "fewer than 30 distinct k-mers of its own"]
    rare, _ = taxon_table(observations(), Profile(min_abundance=0.5))
    assert rare["reason"].tolist() == ["", "abundance below 0.5"]
    everything, _ = taxon_table(observations(), Profile(min_abundance=0, min_evidence=0, min_evidence_ratio=0))
    assert everything["kept"].all()


def test_copies_of_relatives_count_as_far_as_they_are_alike():
    # Genomes 0 and 1 are of one taxon; 2 shares half its evidence with 0 and a tenth with 3.
    likelihood = csr_matrix(
        [[0.5, 0, 0.5, 0], [0.5, 0.2, 0, 0], [0, 0.8, 0, 0], [0, 0, 0.4, 0], [0, 0, 0.1, 0.3], [0, 0, 0, 0.7]]
    )
    copies = np.array([3.0, 1.0, 10.0, 5.0])
    found = imitated(likelihood, np.array([0, 0, 1, 2]), copies)
    np.testing.assert_allclose(found, [0.5 * 10, 0.5 * 3 + 0.1 * 5, 0.3 * 10])
    assert imitated(csr_matrix((0, 0)), np.empty(0, int), np.empty(0)).tolist() == []


def test_notes_say_what_could_not_be_done():
    table, notes = taxon_table(observations(lengths=np.array([2e6, np.nan]), markers=None), Profile())
    assert table["abundance"].tolist() == pytest.approx([0.5, 0.5])
    assert "shares of reads" in notes[0]
    half = observations(counts=np.array([500.0, 500.0, 1000.0]), likelihood=csr_matrix(np.eye(3)[:, :2]))
    table, notes = taxon_table(half, Profile())
    assert table["reads"].sum() == pytest.approx(1000)
    assert "50.0%" in notes[0]


def test_expected_distinct_is_what_random_draws_give():
    rng = np.random.default_rng(0)
    seen = [len(np.unique(rng.integers(0, 500, 400))) for _ in range(200)]
    assert expected_distinct(np.array([500.0]), np.array([400.0]))[0] == pytest.approx(np.mean(seen), rel=0.01)


def test_lineages_are_in_the_common_form():
    assert all(lineage.join(lineage.split(text)) == text for text in LINEAGES.values())
