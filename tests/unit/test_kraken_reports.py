"""Reports of Kraken2 and tables of Bracken."""

from __future__ import annotations

import pytest
from taxon_cases import BACILLUS, BRACKEN, KRAKEN, minimisers, row, text

from latentomics.metagenome.tables import PROFILE, inspect_table, read_table

KRAKEN_TRUTH = {
    "": 1,
    "d__Bacteria": 2,
    "d__Bacteria;p__Bacillota": 3,
    BACILLUS: 9,
    f"{BACILLUS};s__Bacillus subtilis": 30,
    f"{BACILLUS};s__Bacillus subtilis;t__Bacillus subtilis 168": 6,
    f"{BACILLUS};s__Bacillus cereus": 20,
    "d__Eukaryota;p__Ascomycota": 9,
}


@pytest.mark.parametrize("with_minimisers", [False, True])
def test_kraken_report(tmp_path, with_minimisers):
    content = minimisers(KRAKEN) if with_minimisers else KRAKEN
    line = row(text(tmp_path, content), "kraken_report", "K")
    profile, summary, observed = read_table([line])
    assert inspect_table(line)[0] == []
    assert dict(zip(profile["lineage"], profile["reads"], strict=True)) == KRAKEN_TRUTH
    assert summary["observations"] == [
        {"sample": "K", "total_reads": 100.0, "classified_reads": 80.0, "unclassified_share": 0.2}
    ]
    evidence = profile.set_index("lineage")["evidence"]
    assert evidence.isna().all() if not with_minimisers else evidence[f"{BACILLUS};s__Bacillus subtilis"] == 36 * 7
    assert list(observed.index) == ["K"]
    assert profile.loc[profile["lineage"] == "", ["taxon", "rank"]].to_numpy().tolist() == [["root", "root"]]


def test_reports_of_several_runs_are_summed(tmp_path):
    runs = [row(text(tmp_path, KRAKEN, f"{i}.txt"), "kraken_report", "K", covariates={"batch": "b"}) for i in (1, 2)]
    profile, summary, observed = read_table(runs)
    assert dict(zip(profile["lineage"], profile["reads"], strict=True)) == {k: 2 * v for k, v in KRAKEN_TRUTH.items()}
    assert summary["observations"][0]["total_reads"] == 200 and len(observed) == 1


def test_ranks_that_kraken_left_out(tmp_path):
    """As version 2.1.2 wrote it for a database of two genomes: no codes for the root, the domain and the phylum."""
    report = (
        " 10.00\t100\t100\tU\t0\tunclassified\n 90.00\t900\t0\t\t1\troot\n 90.00\t900\t3\t\t81602897\t  Bacteria\n"
        " 90.00\t897\t2\t\t131003083\t    Bacillota\n 90.00\t895\t0\tC\t1489315499\t      Bacilli\n"
        " 90.00\t895\t0\tO\t51306968\t        Bacillales\n 90.00\t895\t0\tF\t2105860973\t          Staphylococcaceae\n"
        " 90.00\t895\t4\tG\t381934173\t            Staphylococcus\n"
        " 59.80\t591\t591\tS\t773201972\t              Staphylococcus aureus\n"
        " 29.80\t300\t300\tS\t1295317147\t              Staphylococcus epidermidis\n"
    )
    profile, _, _ = read_table([row(text(tmp_path, report), "kraken_report", "K")])
    reads = profile.set_index("lineage")["reads"]
    assert reads["d__Bacteria"] == 3 and reads["d__Bacteria;p__Bacillota"] == 2
    genus = "d__Bacteria;p__Bacillota;c__Bacilli;o__Bacillales;f__Staphylococcaceae;g__Staphylococcus"
    assert reads[f"{genus};s__Staphylococcus aureus"] == 591 and reads[genus] == 4
    odd = report.replace("\tC\t", "\tO\t").replace("\tO\t51306968\t", "\tO1\t51306968\t")  # three ranks, two blanks
    profile, _, _ = read_table([row(text(tmp_path, odd), "kraken_report", "K")])
    assert profile["lineage"].iloc[0] == "" and not profile["lineage"].str.contains("Bacillota").any(), "no guess"


def test_nothing_classified(tmp_path):
    line = row(text(tmp_path, "100.00\t50\t50\tU\t0\tunclassified\n"), "kraken_report", "K")
    profile, summary, _ = read_table([line])
    assert profile.empty and list(profile.columns) == list(PROFILE)
    assert summary["observations"][0] == {
        "sample": "K",
        "total_reads": 50.0,
        "classified_reads": 0.0,
        "unclassified_share": 1.0,
    }


def test_bracken(tmp_path):
    profile, summary, _ = read_table([row(text(tmp_path, BRACKEN), "bracken", "B")])
    taxa = profile.set_index("taxon")
    assert taxa["reads"].to_dict() == {"Bacillus cereus": 60, "Bacillus subtilis": 40}
    assert taxa["abundance"].to_list() == [0.6, 0.4] and taxa["abundance_plain"].to_list() == [0.5, 0.5]
    assert summary["observations"][0]["unclassified_share"] is None
    assert "2 of 2 taxa have no lineage" in summary["warnings"][0]["what"]
    report = "".join(line + "\n" for line in KRAKEN.splitlines()[1:9])  # Bracken's reports are not whole
    profile, summary, _ = read_table([row(text(tmp_path, report), "bracken", "B")])
    assert summary["profiler"] == "Bracken" and profile["reads"].sum() == 45 and profile["evidence"].isna().all()
