"""The read classifiers by Snakemake: trained without samples, then applied to a sample; faults before the first job."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from study import Study, rules_of

from latentomics.reads.store import ReadStore
from latentomics.simulate.communities import MetagenomeParams
from latentomics.simulate.files import render_sheet, write_files
from latentomics.simulate.metagenome_files import render_metagenomes

GENERA = ("Simulobacter", "Modelibacter")
CLASSIFIER = {
    "training": "config/training.tsv",
    "drawn": {"reads_per_class": 300, "region": 1000},
    "models": ["cnn", "lstm"],
    "fit": {"max_epochs": 1, "min_steps": 1},
    "curve": [0.5],
    "kmer": 3,
    "n_bootstrap": 100,
    "attributed_reads": 5,
    "precision": 0.5,
}


def configure(study: Study, samples: str | None, **changes: object) -> None:
    config = {
        "samples": samples,
        "profile": {"databases": "data/metagenome/databases.tsv"},
        "classifier": {**CLASSIFIER, **changes},
    }
    (study.folder / "config/config.yaml").write_text(yaml.safe_dump(config))


def training_sheet(study: Study, *more: str) -> None:
    rows = ["path\tkind\tlabel\tsource\tancient"]
    for path in sorted((study.folder / "data/metagenome/genomes").iterdir()):
        genus = path.name.split("_")[0]
        if genus in GENERA:
            rows.append(f"../data/metagenome/genomes/{path.name}\tgenome\t{genus}\t{path.name.split('.')[0]}\t")
    (study.folder / "config/training.tsv").write_text("\n".join([*rows, *more]) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study without samples whose run, classifiers and page, came to its end."""
    study = Study(tmp_path_factory.mktemp("reads") / "study")
    files, rows = render_metagenomes(MetagenomeParams(replicates=1, pairs=300, seed=1))
    write_files({**files, "samples.tsv": render_sheet(rows)}, study.folder / "data")
    (study.folder / "config").mkdir()
    training_sheet(study)
    configure(study, None)
    done = study.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return study


def test_leaves_the_files_of_the_contract(trained: Study) -> None:
    folder = trained.folder / "results/reads"
    scores = pd.read_csv(folder / "scores.tsv", sep="\t", index_col="model")
    assert list(scores.index) == ["cnn", "lstm", "majority", "kmer"]
    assert scores[["accuracy", "macro_f1", "auroc", "ece", "train_seconds"]].notna().all().all()
    for name in ("cnn", "lstm"):
        facts = json.loads((folder / f"models/{name}/model.json").read_text())
        assert facts["classes"] == sorted(GENERA)
        assert facts["min_length"] == 30
        assert (folder / f"attribution/{name}/logos.tsv").stat().st_size
    for name in scores.index:
        assert len(pd.read_csv(folder / f"curve/{name}.tsv", sep="\t"))
    assert json.loads((folder / "best.json").read_text())["model"] in ("cnn", "lstm")
    assert not (folder / "checkpoints").exists() or not any((folder / "checkpoints").rglob("*.ckpt"))
    page = (trained.folder / "results/report.html").read_text()
    assert "Read classifier" in page
    assert not (trained.folder / "results/quality.html").exists()  # no samples, no quality of samples


def test_regions_of_genomes_are_in_one_split(trained: Study) -> None:
    store = ReadStore(trained.folder / "results/reads/data")
    assert store.facts["unit"] == "region"
    assert store.facts["leak"]["identical"] == 0
    assert np.all(store.counts > 0)


def test_second_run_has_nothing_to_do_and_more_bootstraps_train_nothing(trained: Study) -> None:
    done = trained.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr
    configure(trained, None, n_bootstrap=101)
    try:
        done = trained.run("--dry-run", "--quiet", "host")
    finally:
        configure(trained, None)
    expected = {"reads_evaluate", "reads_scores", "reads_curve", "reads_curve_gpu", "report_page"}
    assert rules_of(done.stdout + done.stderr) == expected


def test_reads_of_a_sample_are_classified(trained: Study) -> None:
    configure(trained, "data/samples.tsv")
    shares = trained.folder / "results/reads/samples/gut01/shares.tsv"
    try:
        planned = trained.run("--dry-run", "--quiet", "host")
        done = trained.run("--quiet", "host", "--", str(shares.relative_to(trained.folder)))
    finally:
        configure(trained, None)
    said = planned.stdout + planned.stderr
    assert "Exception" not in said  # `reads` is no assay: no rule of the spine is tried for its tables
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "training" not in said  # the models of the run before are used
    table = pd.read_csv(shares, sep="\t", index_col="class")
    assert list(table.index) == [*sorted(GENERA), "unclassified"]
    facts = json.loads(shares.with_suffix(".json").read_text())
    steps = pd.read_csv(trained.folder / "results/metagenome/samples/gut01/reads.tsv", sep="\t")
    assert facts["reads"] == steps["reads"].iloc[-1]
    assert table["reads"].sum() == facts["reads"] - facts["too_short"]


def test_faults_of_the_training_data_are_listed_before_the_first_job(tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    (study.folder / "config").mkdir(parents=True)
    (study.folder / "config/table.tsv").write_text("SEK\tLAB\nACGT\ta\n")
    (study.folder / "config/one.fasta").write_text(">r\n!!!!\n")
    (study.folder / "config/training.tsv").write_text(
        "path\tkind\tlabel\tsource\tancient\n"
        "table.tsv\ttable\t\t\t\n"
        "one.fasta\treads\t\t\t\n"
        "gone.fa\tgenome\tx\t\t\n"
        "one.fasta\tgenom\tx\t\tperhaps\n"
    )
    (study.folder / "config/config.yaml").write_text("samples: null\nclassifier: {training: config/training.tsv}\n")
    done = study.run()
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for expected in ("row 3", "row 4", "row 5", "gone.fa", "did you mean 'genome'?", "'perhaps'"):
        assert expected in said, expected + "\n" + said
    assert said.count("Hint:") >= 4
    assert not (study.folder / "results/reads").exists()


def test_a_study_of_nothing_says_so(tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    (study.folder / "config").mkdir(parents=True)
    (study.folder / "config/config.yaml").write_text("samples: null\n")
    done = study.run()
    assert done.returncode != 0
    assert "there is nothing to do" in done.stdout + done.stderr
