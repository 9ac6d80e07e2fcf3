"""Profilers on small genomes of known relation."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from profiler_cases import LINEAGES, PROFILERS, SIZE, bases, by_taxon, needs_kraken2, one, row, study, write_reads

from latentomics.config.profile import Profile
from latentomics.metagenome.profile import registry, sourmash_
from latentomics.metagenome.profile.evidence import COLUMNS
from latentomics.metagenome.profile.run import prepare_database, profile_samples, write_profiles
from latentomics.problems import InputError

__all__ = ["study"]


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
def test_damaged_reads_name_the_sample(study, tmp_path, profiler):
    write_reads(tmp_path / "cut", study[1], {"other": 2})
    whole = (tmp_path / "cut" / "reads_1.fastq.gz").read_bytes()
    (tmp_path / "cut" / "reads_1.fastq.gz").write_bytes(whole[: len(whole) // 2])
    for folder in ("cut", "nowhere"):
        with pytest.raises(InputError, match=r"sample 'bad'"):
            profile_samples({"bad": tmp_path / folder}, study[0] / profiler, Profile(), 1)


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
