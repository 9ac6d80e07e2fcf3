"""One community in every format that the sheet accepts."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from count_cases import MIRROR, needs_mirror
from hypothesis import given, settings
from hypothesis import strategies as st
from taxon_cases import (
    GOOD,
    SAMPLES,
    TRUTH,
    biom_hdf5,
    biom_json,
    counts_of,
    cumulative,
    otu_table,
    ranked,
    row,
    same,
    text,
)

from latentomics.config.taxa import Taxa
from latentomics.io.store import CountsStore
from latentomics.metagenome.merge import check_together, merge_profiles
from latentomics.metagenome.tables import PROFILE, inspect_table, read_table, write_table

WRITERS = {
    "BIOM 1, lists": lambda f: (biom_json(f), "biom"),
    "BIOM 1, strings": lambda f: (biom_json(f, taxonomy=str), "biom"),
    "BIOM 2, lists": lambda f: (biom_hdf5(f), "biom"),
    "BIOM 2, Greengenes": lambda f: (biom_hdf5(f, lambda k: k.replace("d__", "k__").replace(";", "; ")), "biom"),
    "OTU table": lambda f: (otu_table(f), "taxon_table"),
    "taxa in rows": lambda f: (text(f, TRUTH.to_csv(sep="\t")), "taxon_table"),
    "samples in rows": lambda f: (text(f, TRUTH.T.to_csv(), "t.csv"), "taxon_table"),
    "no prefixes": lambda f: (text(f, TRUTH.set_axis(ranked("", ";")).to_csv()), "taxon_table"),
    "R, pipes": lambda f: (
        text(f, TRUTH.set_axis(ranked("k", "|")).to_csv(sep="\t", quoting=2).replace('"lineage"\t', "")),
        "taxon_table",
    ),
    "BIOM 2, gzip": lambda f: (
        (f / "t.biom.gz").write_bytes(gzip.compress(biom_hdf5(f).read_bytes())) and f / "t.biom.gz",
        "biom",
    ),
    "gzip": lambda f: (
        (f / "t.tsv.gz").write_bytes(gzip.compress(TRUTH.to_csv(sep="\t").encode())) and f / "t.tsv.gz",
        "taxon_table",
    ),
}


def test_looking_before_the_first_job(tmp_path):
    counts, shares = text(tmp_path, TRUTH.to_csv()), text(tmp_path, "clade_name\tS1\nk__B\t100\n", "m.tsv")
    looks = [inspect_table(row(counts, "taxon_table", "a")), inspect_table(row(shares, "metaphlan", "b"))]
    assert [p for p, _ in looks] == [[], []] and [s["values"] for _, s in looks] == ["counts", "relative"]
    mixed, twice = check_together([s for _, s in looks], "samples.tsv")
    assert "counts: a; relative: b" in mixed.what and "1 observations occur twice, the first in a and b" in twice.what
    assert check_together([looks[0][1]] * 2, "samples.tsv") == [], "rows of one name are one sample"
    assert inspect_table(row(text(tmp_path, "", "e.tsv"), "taxon_table"))[1] == {}


@pytest.mark.parametrize("name", WRITERS)
def test_one_community_in_every_format(tmp_path, name):
    path, form = WRITERS[name](tmp_path)
    line = row(path, form)
    profile, summary, observed = read_table([line])
    assert inspect_table(line)[0] == []
    same(counts_of(profile))
    assert list(profile.columns) == list(PROFILE)
    assert summary["values"] == "counts" and summary["warnings"] == []
    assert list(observed.index) == SAMPLES
    totals = {o["sample"]: (o["total_reads"], o["classified_reads"]) for o in summary["observations"]}
    assert totals == {s: (TRUTH[s].sum(),) * 2 for s in SAMPLES}
    np.testing.assert_allclose(profile.groupby("sample")["abundance"].sum(), 1)
    assert profile["kept"].all() and (profile["abundance"] == profile["abundance_plain"]).all()
    json.dumps(summary, allow_nan=False)


def test_orientation_is_said_and_guesses_are_called_guesses(tmp_path):
    def notes(content: str, **more) -> str:
        return " ".join(read_table([row(text(tmp_path, content), "taxon_table", **more)])[1]["notes"])

    assert "from the columns (a column holds lineages)" in notes(otu_table(tmp_path).read_text())
    assert "from the rows (the names are lineages in the columns)" in notes(TRUTH.T.to_csv())
    assert "from the rows (the names are of species" in notes(
        "x\tBacillus subtilis\tEscherichia coli\nA\t1\t2\nB\t3\t0\n"
    )
    assert "from the rows (the first column is called 'Sample')" in notes("Sample\tt1\tt2\nA\t1\t2\n")
    assert "from the columns (the first column is called '#OTU ID')" in notes("#OTU ID\tA\tB\nt1\t1\t2\n")
    plain = "x\tA\tB\nt1\t1\t2\n"
    assert "from the columns (a guess" in notes(plain)
    metadata = text(tmp_path, "id\tsite\nt1\tgut\n", "meta.tsv")
    assert "from the rows (as the metadata table names them)" in notes(plain, metadata=metadata)


@given(st.permutations(range(4)), st.permutations(range(3)))
@settings(max_examples=15, deadline=None)
def test_order_and_orientation_change_nothing(tmp_path_factory, taxa, samples):
    folder = tmp_path_factory.mktemp("t")
    table = TRUTH.iloc[taxa, samples]
    for content in (table.to_csv(), table.T.to_csv()):
        same(counts_of(read_table([row(text(folder, content), "taxon_table")])[0]))


@pytest.mark.parametrize("scale", [1, 100])
@pytest.mark.parametrize("style", ["merged", "with taxids", "MetaPhlAn2", "with unclassified"])
def test_metaphlan(tmp_path, scale, style):
    shares = TRUTH / TRUTH.sum() * scale
    table = cumulative(shares)
    unclassified = 0.0
    if style == "with unclassified":
        unclassified = 0.2
        table = pd.concat([pd.DataFrame({s: [scale * 0.2] for s in SAMPLES}, index=["UNCLASSIFIED"]), table * 0.8])
    if style == "with taxids":
        table.insert(0, "NCBI_tax_id", ["|".join(["2"] * (name.count("|") + 1)) for name in table.index])
    body = table.to_csv(sep="\t", float_format="%.5f", header=style != "MetaPhlAn2", index_label="clade_name")
    if style == "MetaPhlAn2":
        body = "dataset\td\td\td\nsampleID\tS1\tS2\tS-3\ndisease\tn\tn\tcase\n" + body
    else:
        body = "#mpa_vJun23_CHOCOPhlAnSGB_202307\n" + body
    line = row(text(tmp_path, body), "metaphlan")
    profile, summary, _ = read_table([line])
    assert inspect_table(line)[0] == []
    found = counts_of(profile, "abundance")
    found.index = found.index.str.replace("_", " ").str.replace(r"(\w)  ", r"\1__", regex=True)
    pd.testing.assert_frame_equal(
        found[SAMPLES].sort_index(), (TRUTH / TRUTH.sum()).sort_index(), atol=1e-4, check_names=False
    )
    assert summary["values"] == "relative" and profile["reads"].isna().all()
    assert {o["total_reads"] for o in summary["observations"]} == {None}
    assert [o["unclassified_share"] or 0 for o in summary["observations"]] == pytest.approx([unclassified] * 3)
    assert summary["database"] == ("" if style == "MetaPhlAn2" else "mpa_vJun23_CHOCOPhlAnSGB_202307")
    assert any("hold the sums of others" in note for note in summary["notes"])


def test_metaphlan_of_one_sample(tmp_path):
    body = (
        "#mpa_v30\n#/usr/bin/metaphlan a.fastq\n#SampleID\tMetaphlan_Analysis\n"
        "#clade_name\tNCBI_tax_id\trelative_abundance\tadditional_species\n"
        "UNKNOWN\t-1\t40.0\nk__Bacteria\t2\t60.0\t\nk__Bacteria|p__Bacillota\t2|1239\t60.0\tk__x|p__y\n"
    )
    profile, summary, _ = read_table([row(text(tmp_path, body), "metaphlan", "mine")])
    assert profile[["sample", "lineage", "abundance"]].to_numpy().tolist() == [
        ["mine", "d__Bacteria;p__Bacillota", 1.0]
    ]
    assert summary["observations"][0]["unclassified_share"] == pytest.approx(0.4)


def test_a_count_table_of_sums_is_counted_once(tmp_path):
    """Kraken's MetaPhlAn style, merged: every clade with its reads."""
    table = cumulative(TRUTH).rename_axis("#Classification")
    profile, summary, _ = read_table([row(text(tmp_path, table.to_csv(sep="\t")), "taxon_table")])
    assert profile.groupby("sample")["reads"].sum().to_dict() == TRUTH.sum().to_dict()
    assert len(profile["lineage"].unique()) == 4 and "sums of others" in summary["notes"][-1]


def test_unresolved_taxa_are_no_sums(tmp_path):
    """A genus beside one of its species is what was not resolved further, not their sum."""
    content = "lineage\tA\nd__Bacteria\t3\nd__Bacteria;g__Bacillus\t5\nd__Bacteria;g__Bacillus;s__Bacillus cereus\t7\n"
    profile, _, _ = read_table([row(text(tmp_path, content), "taxon_table")])
    assert dict(zip(profile["rank"], profile["reads"], strict=True)) == {"domain": 3, "genus": 5, "species": 7}


def test_unassigned_reads_are_unclassified(tmp_path):
    content = "#OTU ID\tA\ttaxonomy\no1\t30\tUnassigned\no2\t60\td__Bacteria\no3\t10\td__Bacteria\n"
    profile, summary, _ = read_table([row(text(tmp_path, content), "taxon_table")])
    assert profile[["lineage", "reads"]].to_numpy().tolist() == [["d__Bacteria", 70.0]]
    assert summary["observations"][0]["unclassified_share"] == pytest.approx(0.3)


def test_written_whole_or_not_at_all(tmp_path):
    profile, summary, observed = read_table([row(text(tmp_path, GOOD), "taxon_table")])
    names = {"profile": "profile.parquet", "summary": "profile.json", "observations": "obs.parquet"}
    outputs = {key: tmp_path / "out" / name for key, name in names.items()}
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="JSON"):
        write_table(profile, summary | {"bad": float("nan")}, observed, outputs)
    assert list((tmp_path / "out").iterdir()) == []
    write_table(profile, summary, observed, outputs)
    first = {key: path.read_bytes() for key, path in outputs.items()}
    write_table(*read_table([row(tmp_path / "t.tsv", "taxon_table")]), outputs)
    assert first == {key: path.read_bytes() for key, path in outputs.items()}
    pd.testing.assert_frame_equal(pd.read_parquet(outputs["profile"]), profile)
    assert list(pd.read_parquet(outputs["observations"]).index) == ["A", "B"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names.values())


@pytest.mark.mirror
@needs_mirror
@pytest.mark.parametrize(("name", "n", "cases"), [("IBD", 110, 25), ("Cirrhosis", 232, 118), ("T2D", 344, 170)])
def test_real_cohorts(tmp_path, name, n, cases):
    path = MIRROR / "taxa_cohorts" / f"abundance_{name}.txt.gz"
    line = row(path, "metaphlan", name, covariates={"condition": "obs:disease", "age": "obs:age"})
    profile, summary, observed = read_table([line])
    assert len(observed) == n and (observed["condition"] != "n").sum() == cases
    raw = pd.read_csv(path, sep="\t", header=None, index_col=0, dtype=str)
    taxa = raw[raw.index.str.startswith("k__")].astype(float)
    assert len(profile) == (taxa > 0).to_numpy().sum()
    merged = merge_profiles([profile], [summary], [observed], Taxa(min_prevalence=0), tmp_path / "s", "samples.tsv")
    store = CountsStore(tmp_path / "s")
    assert store.values == "relative" and store.shape[0] == n
    assert store.shape[1] + (merged.ledger["kind"] == "taxon").sum() == (taxa > 0).any(axis=1).sum()
    np.testing.assert_allclose(store.select().sum(axis=1), 1, atol=0.01)
