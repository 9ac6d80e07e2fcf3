"""The metagenomic arm from reads and from tables to the page: known truth, the contract, faults, resumption."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import silhouette_score
from study import SMALL, Study, rules_of

from latentomics.io.store import CountsStore
from latentomics.metagenome.lineage import name_of
from latentomics.simulate.communities import MetagenomeParams
from latentomics.simulate.files import render_sheet, write_files
from latentomics.simulate.metagenome_files import render_metagenomes

CONFIG: dict[str, object] = {
    "samples": "data/samples.tsv",
    "profile": {"databases": "data/metagenome/databases.tsv"},
    "reads": {"hosts": ["data/metagenome/host.fa.gz", "data/metagenome/phix.fa.gz"]},
    "embeddings": {
        "autoencoder": SMALL["embeddings"]["autoencoder"],
        "vae": {"max_epochs": 20, "min_steps": 10, "n_hidden": 16},
    },
    "clusters": {"resolutions": [0.3, 0.6, 0.8], "n_resamples": 4},
    "associations": {"n_permutations": 99},
}


@pytest.fixture(scope="module")
def simulated() -> tuple[dict[str, bytes], list[dict[str, str]]]:
    return render_metagenomes(MetagenomeParams(replicates=2, pairs=1200, seed=1))


@pytest.fixture(scope="module")
def make(simulated, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    def study(name: str, **changes: object) -> Study:
        made = Study(tmp_path_factory.mktemp(name) / "study")
        files, rows = simulated
        write_files({**files, "samples.tsv": render_sheet(rows)}, made.folder / "data")
        (made.folder / "config").mkdir()
        (made.folder / "config/config.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
        return made

    return study


@pytest.fixture(scope="module")
def finished(make: Callable[..., Study]) -> Study:
    study = make("finished")
    done = study.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return study


def results(study: Study) -> Path:
    return study.folder / "results/metagenome"


def contents(study: Study) -> dict[str, str]:
    """Hashes of what two runs must have in common."""
    timed = {"costs.tsv"}
    return {
        str(path.relative_to(results(study))): hashlib.sha256(
            path.read_bytes().replace(str(study.folder).encode(), b"STUDY")
        ).hexdigest()
        for path in sorted(results(study).rglob("*"))
        if path.is_file() and path.name not in timed and "report" not in path.name
    }


def test_leaves_the_files_of_the_contract(finished: Study) -> None:
    folder = results(finished)
    for name in ("samples.tsv", "ledger.tsv", "warnings.tsv", "scores.tsv", "costs.tsv", "verdict.json", "run.json"):
        assert (folder / name).stat().st_size, name
    for name in ("diversity.tsv", "ordination.tsv", "permanova.tsv", "associations.tsv"):
        assert len(pd.read_csv(folder / name, sep="\t")), name
    for method in ("pca", "autoencoder", "vae"):
        latent = pd.read_parquet(folder / f"embeddings/{method}.parquet")
        assert list(latent.index) == list(CountsStore(folder / "counts.zarr").obs.index)
    assert not (folder / "embeddings/scvi.parquet").exists()
    for sample, reads in (("gut01", {"reads_1.fastq.gz", "reads_2.fastq.gz"}), ("gut16", {"reads.fastq.gz"})):
        assert {path.name for path in (folder / f"samples/{sample}/reads").glob("*.gz")} == reads
    assert (finished.folder / "results/report.html").stat().st_size


def test_the_truth_is_recovered(finished: Study) -> None:
    folder = results(finished)
    truth = pd.read_csv(finished.folder / "data/metagenome/truth.tsv", sep="\t")
    truth["taxon"] = truth["lineage"].map(name_of)
    controls = set(truth["sample"]) - set(CountsStore(folder / "counts.zarr").obs.index)
    assert controls == {"blank1", "blank2"}
    for sample in ("gut01", "gut05", "gut16"):
        found = pd.read_parquet(folder / f"samples/{sample}/profile.parquet").set_index("taxon")
        known = truth[(truth["sample"] == sample) & (truth["abundance"] > 0)].set_index("taxon")["abundance"]
        assert float(found["abundance"].sub(known, fill_value=0).abs().sum()) < 0.15, sample
    # Sixteen samples are too few for stable clusters; that the communities lie apart shows all the same.
    labels = CountsStore(folder / "counts.zarr").obs["label"].astype(str)
    assert silhouette_score(pd.read_parquet(folder / "embeddings/pca.parquet"), labels) > 0.15


def test_what_was_taken_out_is_on_record(finished: Study) -> None:
    ledger = pd.read_csv(results(finished) / "ledger.tsv", sep="\t")
    dropped = ledger.groupby("rule")["observation"].agg(set)
    assert dropped["contaminants"] == {"Aquella puri", "Kitella reagentis"}
    assert dropped["control"] == {"blank1", "blank2"}
    taxa = CountsStore(results(finished) / "counts.zarr").var
    assert not set(dropped["contaminants"]) & set(taxa.index)
    steps = pd.read_csv(results(finished) / "samples/gut02/reads.tsv", sep="\t")
    assert steps["reads"].is_monotonic_decreasing
    assert steps["step"].iloc[0] == "raw" and steps["step"].iloc[-1] == "clean"
    origins = pd.read_csv(finished.folder / "data/metagenome/origins.tsv", sep="\t")
    host = origins[(origins["sample"] == "gut02") & (origins["origin"] == "simulated_host")]["pairs"].sum()
    before = steps["reads"].shift()
    removed = (before - steps["reads"])[steps["step"] == "host: host"].item() / 2
    assert removed == pytest.approx(host, rel=0.1)


def test_final_file_holds_compositions(finished: Study) -> None:
    adata = ad.read_h5ad(results(finished) / "metagenome.h5ad")
    np.testing.assert_allclose(adata.X.toarray().sum(axis=1), 0, atol=1e-3)  # CLR
    counts = adata.layers["counts"].toarray()
    assert counts.dtype == np.int32
    assert np.corrcoef(adata.X.toarray()[0], np.log(counts[0] + 0.5))[0, 1] > 0.95
    assert adata.uns["latentomics"]["normalisation"] == "clr"
    assert {"X_pca", "X_vae", "X_umap", "X_pcoa_aitchison", "X_pcoa_braycurtis", "cluster", "lineage"} <= {
        *adata.obsm,
        *adata.obs,
        *adata.var,
    }


def test_second_run_has_nothing_to_do(finished: Study) -> None:
    done = finished.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_covariate_edits_leave_the_reads_alone(finished: Study) -> None:
    sheet = finished.folder / "data/samples.tsv"
    text = sheet.read_text()
    sheet.write_text(text.replace("\tdisease\t", "\tsick\t"))
    try:
        done = finished.run("--dry-run", "--quiet", "host")
    finally:
        sheet.write_text(text)
    rules = rules_of(done.stdout + done.stderr)
    assert "metagenome_merge" in rules
    assert not {"metagenome_reads", "metagenome_profile", "metagenome_host"} & rules


def test_a_run_broken_off_resumes_to_the_same_bytes(finished: Study, make: Callable[..., Study]) -> None:
    study = make("broken")
    reads = study.folder / "data/metagenome/reads/gut05_R1.fastq.gz"
    whole = reads.read_bytes()
    # Truncated beyond the first reads that are looked at before the run: the job finds it.
    reads.write_bytes(whole[: len(whole) * 9 // 10])
    arm = ("--until", "metagenome_merge")
    done = study.run("--keep-going", *arm)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "sample 'gut05'" in said and "gut05_R1.fastq.gz" in said and "Hint:" in said
    assert not (results(study) / "samples/gut05/reads").exists(), "nothing half-written"
    reads.write_bytes(whole)
    done = study.run(*arm)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = contents(finished), contents(study)
    assert two.keys() <= one.keys()
    assert {"ledger.tsv", "samples/gut05/profile.parquet", "samples/gut05/reads/reads_1.fastq.gz"} <= two.keys()
    one = {name: one[name] for name in two}
    assert [name for name in one if one[name] != two[name]] == []


def test_faults_are_listed_before_the_first_job(make: Callable[..., Study]) -> None:
    study = make(
        "faults",
        reads={"hosts": ["data/metagenome/hots.fa.gz"]},
        profile={"databases": "data/metagenome/databases.tsv", "database": "dmeo"},
    )
    data = study.folder / "data"
    (data / "empty.fastq.gz").write_bytes(gzip.compress(b""))
    (data / "short.fastq").write_text("@r1\nACGT\n+\nII\n")
    (data / "mates.fastq").write_text("@other\nACGT\n+\nIIII\n")
    (data / "good.fastq").write_text("@r1\nACGT\n+\nIIII\n")
    (data / "negative.tsv").write_text("taxon\ts1\ts2\ns__A\t5\t-1\ns__B\t3\t4\n")
    (data / "shares.tsv").write_text("taxon\ts8\tgut05\ns__A\t0.25\t0.5\ns__B\t0.75\t0.5\n")
    sheet = data / "samples.tsv"
    header = sheet.read_text().splitlines()[0].split("\t")
    rows = [
        {"sample": "e", "path": "empty.fastq.gz"},
        {"sample": "s", "path": "short.fastq"},
        {"sample": "m", "path": "good.fastq", "path_2": "mates.fastq"},
        {"sample": "n", "path": "negative.tsv"},
        {"sample": "x", "path": "reads.bam"},
        {"sample": "shares", "path": "shares.tsv"},
    ]
    lines = ["\t".join({"assay": "metagenome", **row}.get(column, "") for column in header) for row in rows]
    sheet.write_text(sheet.read_text() + "\n".join(lines) + "\n")
    done = study.run()
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for expected in (
        "reads.hosts.0: file does not exist",
        "did you mean 'demo'?",
        "sample 'e'",
        "sample 's'",
        "sample 'm'",
        "sample 'n'",
        "sample 'x': file does not exist",
        "counts and relative abundances cannot share a study",
        "1 observations occur twice, the first in gut05 and shares of the sheet",
    ):
        assert expected in said, expected + "\n" + said
    assert said.count("Hint:") >= 9
    assert not (study.folder / "results/metagenome").exists()


def test_relative_abundances_go_through_without_what_needs_counts(
    finished: Study, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The profiles of the finished study as one MetaPhlAn table, described by a metadata table."""
    store = CountsStore(results(finished) / "counts.zarr")
    counts = store.select().toarray()
    shares = pd.DataFrame(100 * counts.T / counts.sum(axis=1), columns=store.obs.index)
    prefixes = store.var["lineage"].str.replace("d__", "k__").str.replace(";", "|").str.replace(" ", "_")
    shares.insert(0, "clade_name", prefixes.to_numpy())
    study = Study(tmp_path_factory.mktemp("relative") / "study")
    (study.folder / "config").mkdir(parents=True)
    (study.folder / "config/cohort.tsv").write_text("#mpa_vJan21\n" + shares.to_csv(sep="\t", index=False))
    store.obs[["condition", "label"]].astype(str).to_csv(study.folder / "config/people.tsv", sep="\t")
    (study.folder / "config/samples.tsv").write_text(
        "sample\tassay\tpath\tformat\tmetadata\tcondition\tlabel\n"
        "cohort\tmetagenome\tcohort.tsv\tmetaphlan\tpeople.tsv\tobs:condition\tobs:label\n"
    )
    settings = {key: value for key, value in CONFIG.items() if key not in ("samples", "profile", "reads")}
    (study.folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    done = study.run()
    assert done.returncode == 0, done.stdout + done.stderr
    scores = pd.read_csv(results(study) / "scores.tsv", sep="\t")
    assert list(scores["embedding"]) == ["pca", "autoencoder"]
    adata = ad.read_h5ad(results(study) / "metagenome.h5ad")
    assert adata.layers["counts"].dtype == np.float32
    assert list(adata.obs_names) == list(store.obs.index)
    mine = adata.X.toarray()
    np.testing.assert_allclose(mine.sum(axis=1), 0, atol=1e-3)
    assert json.loads((results(study) / "run.json").read_text())["methods"] == ["pca", "autoencoder"]


def test_too_few_samples_leave_the_page_on_their_quality(tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    (study.folder / "config").mkdir(parents=True)
    (study.folder / "config/counts.tsv").write_text(
        "taxon\tone\ttwo\tthree\ns__A b\t900\t500\t0\ns__C d\t100\t700\t3\n"
    )
    (study.folder / "config/samples.tsv").write_text("sample\tassay\tpath\ncohort\tmetagenome\tcounts.tsv\n")
    (study.folder / "config/config.yaml").write_text("samples: config/samples.tsv\ntaxa: {min_reads: 10}\n")
    done = study.run()
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "2 samples left to embed, at least 3 are needed" in said
    assert f"The samples and their quality: {study.folder}/results/quality.html" in said
    assert "too few classified reads" in (study.folder / "results/quality.html").read_text()


@pytest.mark.skipif(shutil.which("kraken2") is None, reason="Kraken 2 is not installed")
def test_kraken_profiles_all_samples_in_one_job(make: Callable[..., Study]) -> None:
    study = make("kraken")
    sheet = study.folder / "data/metagenome/databases.tsv"
    sheet.write_text(sheet.read_text().replace("\tsourmash\t", "\tkraken2\t"))
    done = study.run("--until", "metagenome_merge")
    assert done.returncode == 0, done.stdout + done.stderr
    found = pd.read_parquet(results(study) / "samples/gut05/profile.parquet").set_index("taxon")["abundance"]
    truth = pd.read_csv(study.folder / "data/metagenome/truth.tsv", sep="\t")
    truth["taxon"] = truth["lineage"].map(name_of)
    known = truth[(truth["sample"] == "gut05") & (truth["abundance"] > 0)].set_index("taxon")["abundance"]
    assert float(found.sub(known, fill_value=0).abs().sum()) < 0.15
    assert (study.folder / "results/logs/metagenome_profiles.log").exists()
