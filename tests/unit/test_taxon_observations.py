"""Samples of a table of taxa: their covariates, and files of one row that must agree."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from taxon_cases import KRAKEN, SAMPLES, TRUTH, biom_json, row, text

from latentomics.metagenome.observations import is_control, observations, sheet_observations
from latentomics.metagenome.tables import inspect_table, read_table
from latentomics.problems import InputError


def test_covariates(tmp_path):
    metadata = text(tmp_path, "id,site,neg\nS-3,gut,\nS1,skin,NO\nS2,gut,Yes\nother,x,\n", "meta.csv")
    covariates = {"condition": "obs:site", "batch": "b1", "control": "obs:neg"}
    line = row(text(tmp_path, TRUTH.to_csv()), "taxon_table", metadata=metadata, covariates=covariates)
    _, _, observed = read_table([line])
    assert observed.index.name == "sample_id"
    assert observed.loc[SAMPLES].to_numpy().tolist() == [["skin", "b1", ""], ["gut", "b1", "yes"], ["gut", "b1", ""]]
    own = row(biom_json(tmp_path), "biom", covariates={"condition": "obs:site"})
    assert read_table([own])[2]["condition"].to_list() == ["siteS1", "siteS2", "siteS-3"]
    over = row(biom_json(tmp_path), "biom", metadata=metadata, covariates={"condition": "obs:site"})
    assert read_table([over])[2]["condition"].to_list() == ["skin", "gut", "gut"], "the metadata table wins"


def test_samples_without_metadata_are_pointed_out(tmp_path):
    metadata = text(tmp_path, "id\tsite\nS1\tx\nS2\ty\n", "meta.tsv")
    line = row(text(tmp_path, TRUTH.to_csv()), "taxon_table", metadata=metadata, covariates={"condition": "obs:site"})
    (problem,) = inspect_table(line)[0]
    assert (problem.severity, problem.value, problem.file) == ("warning", "S-3", str(metadata))
    assert read_table([line])[2]["condition"].to_list() == ["x", "y", ""]


@pytest.mark.parametrize(
    ("metadata", "covariates", "what"),
    [
        ("id\tsite\nS1\tx\nS2\ty\n", {"condition": "obs:sites"}, "no column 'sites' of samples"),
        ("id\tsite\nX1\tx\nX2\ty\n", {"condition": "obs:site"}, "only 0 of 3 samples are in the metadata table"),
        ("id\tsite\nS1\tx\nS1\ty\n", {"condition": "obs:site"}, "a sample appears twice"),
        ("id\tsite\nS1\tx\nS2\n", {"condition": "obs:site"}, "1 fields where 2 are expected"),
        ("id\tsite\nS1\tx\nS2\tmaybe\n", {"control": "obs:site"}, "`control` says neither yes nor no"),
    ],
)
def test_bad_covariates(tmp_path, metadata, covariates, what):
    path = text(tmp_path, metadata, "meta.tsv")
    line = row(text(tmp_path, TRUTH.to_csv()), "taxon_table", metadata=path, covariates=covariates)
    (problem,) = inspect_table(line)[0]
    assert what in problem.what and "sample 'T'" in problem.what and problem.hint


def test_observations_of_reads():
    line = row(Path("r.fastq.gz"), "fastq", "R", covariates={"batch": "1", "control": "TRUE", "condition": ""})
    found = sheet_observations([line, line])
    assert list(found.index) == ["R"] and found.loc["R"].to_dict() == {"batch": "1", "control": "yes", "condition": ""}
    assert is_control("1") and not is_control("No") and not is_control("")
    with pytest.raises(ValueError, match="neither yes nor no"):
        is_control("blank")
    assert observations(row(Path("x"), "fastq"), ["a"], pd.DataFrame()).shape == (1, 0)


def test_files_of_one_row_must_agree(tmp_path):
    a, b = (text(tmp_path, c, n) for c, n in ((TRUTH.to_csv(), "a.csv"), (TRUTH[["S1"]].to_csv(), "b.csv")))
    two = text(tmp_path, TRUTH.rename(columns=lambda c: c + "x").to_csv(), "c.csv")
    share = text(tmp_path, "clade_name\tZ\nk__B\t100\n", "d.tsv")
    with pytest.raises(InputError, match=r"counts \(a.csv\) and relative abundances \(d.tsv\)"):
        read_table([row(a, "taxon_table"), row(share, "metaphlan")])
    with pytest.raises(InputError, match="observation 'S1' is also in b.csv"):
        read_table([row(b, "taxon_table"), row(a, "taxon_table")])
    with pytest.raises(InputError, match="observation 'S1' is also in a.csv"):
        read_table([row(a, "taxon_table"), row(b, "taxon_table")])
    with pytest.raises(InputError, match="observation 'Z' is also in d.tsv"):
        read_table([row(share, "metaphlan"), row(share, "metaphlan")])
    with pytest.raises(InputError, match="covariates differ between its files"):
        read_table([row(text(tmp_path, KRAKEN, f"{i}"), "kraken_report", covariates={"batch": i}) for i in "12"])
    assert len(read_table([row(a, "taxon_table"), row(two, "taxon_table")])[2]) == 6
