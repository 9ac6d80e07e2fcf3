"""A trained read classifier as a profiler of the metagenomic arm."""

import dataclasses
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from latentomics.config.databases import Database, read_databases
from latentomics.config.profile import Profile
from latentomics.metagenome.profile import classifier, registry
from latentomics.metagenome.profile.evidence import COLUMNS
from latentomics.metagenome.profile.run import prepare_database, profile_samples
from latentomics.problems import InputError

CLASSES = ["Alpha", "Beta", "Gamma", "Delta"]
LINEAGES = {
    "Alpha": "d__Bacteria;g__Alpha",
    "Beta": "d__Bacteria;g__Beta",
    "Gamma": "d__Bacteria;g__Gamma;s__Gamma one",
    "Delta": "d__Bacteria;g__Gamma;s__Gamma one;t__other strain",
    "not a class": "d__Archaea",
}
#: Share of each class's reads (rows) that carry the sign of each class; a tenth of all carry none.
SIGNS = np.array([[0.85, 0.05, 0, 0], [0.25, 0.65, 0, 0], [0, 0, 0.9, 0], [0, 0, 0.05, 0.85]])
FACTS = {"model": "fake", "width": 40, "min_length": 10, "temperature": 1.0, "threshold": 0.9}


class Fake:
    """Reads end with the sign of a class, in letters A, C, G, T, or with N: then it knows nothing."""

    classes, facts = CLASSES, FACTS

    def logits(self, codes, lengths):
        sign = codes[np.arange(len(codes)), lengths - 1]
        return 9 * np.eye(5, dtype=np.float32)[np.minimum(sign, 4)][:, :4]


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr("latentomics.reads.saved.load_model", lambda folder: Fake())
    monkeypatch.setitem(registry.PROFILERS, "classifier", "latentomics.metagenome.profile.classifier")


def signs(rng, truth):
    """The class that a read is given (4: none), for each read's class."""
    shares = np.column_stack([SIGNS, 1 - SIGNS.sum(axis=1)])
    return np.array([rng.choice(5, p=shares[c]) for c in truth])


def write_reads(folder, truth, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    ends = signs(np.random.default_rng(seed), truth)
    with gzip.open(folder / "reads.fastq.gz", "wt", 1) as stream:
        stream.writelines(f"@{i}\n{'A' * 30}{'ACGTN'[end]}\n+\n{'I' * 31}\n" for i, end in enumerate(ends))


@pytest.fixture
def study(tmp_path):
    """A model among the results that it was trained with, its scores beside it, and lineages."""
    model, scores = tmp_path / "reads/models/cnn", tmp_path / "reads/scores/cnn"
    model.mkdir(parents=True)
    scores.mkdir(parents=True)
    (model / "model.json").write_text(json.dumps({"model": "cnn"}))
    (model / "weights.npz").write_bytes(b"weights")
    labels = np.repeat(np.arange(4, dtype=np.uint8), 3000)
    logits = 9 * np.eye(5, dtype=np.float32)[signs(np.random.default_rng(1), labels)][:, :4]
    ones = np.ones(len(labels), np.uint16)
    np.savez(scores / "predictions.npz", logits=logits, labels=labels, lengths=31 * ones, sources=ones)
    pd.Series(LINEAGES, name="lineage").rename_axis("genome").to_csv(tmp_path / "lineages.tsv", sep="\t")
    return tmp_path


def row(study, **changes):
    plain = Database("db", "classifier", study / "reads/models/cnn", True, study / "lineages.tsv", {})
    return dataclasses.replace(plain, **changes)


def test_a_profile_is_the_corrected_share_of_each_class(study):
    prepare_database(row(study), study / "database", 1)
    truth = np.repeat([1, 2, 3], [6000, 2500, 1500])  # No Alpha, though a quarter of Beta looks like it.
    write_reads(study / "s", truth)
    [(table, summary)] = profile_samples({"s": study / "s"}, study / "database", Profile(), 1)
    assert list(table.columns) == list(COLUMNS)
    found = table.set_index("taxon")
    assert set(found.index) == {"Beta", "Gamma one"}
    assert found["kept"].all()
    assert found.loc["Beta", "abundance"] == pytest.approx(0.6, abs=0.02)
    assert found.loc["Gamma one", "abundance"] == pytest.approx(0.4, abs=0.02)  # Two classes of one species are one.
    assert found.loc["Beta", "rank"] == "genus"
    assert found["evidence"].isna().all()
    [observed] = summary["observations"]
    assert observed["total_reads"] == 10_000
    assert observed["unclassified_share"] == pytest.approx(0.1, abs=0.02)
    assert found["reads"].sum() == pytest.approx(observed["classified_reads"])
    # The tool itself: what Beta is given, of all that was given to classes that are there.
    plain = 0.65 * 0.6 / (0.65 * 0.6 + 0.9 * 0.4)
    assert found.loc["Beta", "abundance_plain"] == pytest.approx(plain, abs=0.02)
    assert any("shares of reads" in note for note in summary["notes"])
    assert any("1 of 4 classes are left out" in note for note in summary["notes"])
    assert json.loads(json.dumps(summary)) == summary


def test_a_model_without_scores_is_used_as_it_is(study):
    (study / "reads/scores/cnn/predictions.npz").unlink()
    prepare_database(row(study), study / "database", 1)
    write_reads(study / "s", np.repeat([1, 2], [3000, 2000]))
    [(table, summary)] = profile_samples({"s": study / "s"}, study / "database", Profile(), 1)
    assert set(table["taxon"]) == {"Alpha", "Beta", "Gamma one"}
    assert np.allclose(table["abundance"], table["abundance_plain"])
    assert any("not corrected" in note for note in summary["notes"])


def test_samples_without_reads(study):
    prepare_database(row(study), study / "database", 1)
    write_reads(study / "none", [])
    write_reads(study / "some", np.repeat([2], [500]))
    [(empty, nothing), (some, _)] = profile_samples(
        {"none": study / "none", "some": study / "some"}, study / "database", Profile(), 1
    )
    assert empty.empty
    assert list(empty.columns) == list(COLUMNS)
    assert nothing["observations"][0]["unclassified_share"] == 1.0
    assert some["taxon"].tolist() == ["Gamma one"]


def test_a_prepared_database_needs_nothing_else_and_is_the_same_twice(study):
    prepare_database(row(study), study / "one", 1)
    prepare_database(row(study), study / "two", 1)
    names = sorted(path.name for path in (study / "one").iterdir())
    assert names == ["classes.tsv", "database.json", "errors.npz", "model.json", "weights.npz"]
    assert not any(path.is_symlink() for path in (study / "one").iterdir())
    assert all((study / "one" / name).read_bytes() == (study / "two" / name).read_bytes() for name in names)


def test_a_class_without_a_lineage(study):
    (study / "lineages.tsv").write_text("genome\tlineage\nAlpha\tg__A\nBeta\tg__B\ngamma\tg__C\n")
    with pytest.raises(InputError, match="class without a lineage") as caught:
        prepare_database(row(study), study / "database", 1)
    assert [problem.value for problem in caught.value.problems] == ["Gamma", "Delta"]
    assert not (study / "database").exists()
    assert not list(study.glob("*.partial"))


def test_predictions_of_another_model(study):
    np.savez(
        study / "reads/scores/cnn/predictions.npz",
        logits=np.zeros((3, 7), np.float32),
        **dict.fromkeys(("labels", "lengths", "sources"), np.zeros(3, np.uint8)),
    )
    with pytest.raises(InputError, match="not the predictions of a model with 4 classes"):
        prepare_database(row(study), study / "database", 1)


def test_a_classifier_is_not_built_from_genomes(study):
    (study / "genomes").mkdir()
    (study / "genomes" / "Alpha.fa").write_text(">a\nACGT\n")
    with pytest.raises(InputError, match="not built from a folder of genomes"):
        prepare_database(row(study, path=study / "genomes", exists=False), study / "database", 1)


def test_the_sheet_of_databases_knows_a_model(study):
    sheet = study / "databases.tsv"
    head = "name\tprofiler\tpath\tlineages\tparameters\n"
    sheet.write_text(f"{head}db\tclassifier\treads/models/cnn\tlineages.tsv\t\n")
    [database], problems = read_databases(sheet)
    assert not problems
    assert database.exists
    assert {path.name for path in database.files()} == {"model.json", "weights.npz", "lineages.tsv"}
    sheet.write_text(
        f"{head}db\tclassifier\treads/models\tlineages.tsv\t\nother\tclassifier\treads/models/cnn\t\tk=3\n"
    )
    databases, problems = read_databases(sheet)
    assert not databases
    said = [problem.what for problem in problems]
    assert any("neither genomes nor a database" in what for what in said)
    assert any("no lineages" in what for what in said)
    assert any("unknown parameter" in what for what in said)


def test_the_module_offers_what_the_registry_promises():
    for offered in (
        "TITLE",
        "OWN_TAXONOMY",
        "SLOW_TO_LOAD",
        "missing",
        "version",
        "is_database",
        "build",
        "adopt",
        "observe",
    ):
        assert hasattr(classifier, offered), offered
    assert classifier.missing() is None
    assert classifier.Params().model_dump() == {}
