"""One community in every format that the sheet accepts, and every way in which a table can be broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import biom
import h5py
import numpy as np
import pandas as pd
import pytest
from count_cases import MIRROR, needs_mirror
from hypothesis import given, settings
from hypothesis import strategies as st

from latentomics.config.row import InputRow
from latentomics.config.taxa import Taxa
from latentomics.io.store import CountsStore
from latentomics.metagenome import lineage
from latentomics.metagenome.merge import check_together, merge_profiles
from latentomics.metagenome.observations import is_control, observations, sheet_observations
from latentomics.metagenome.tables import PROFILE, inspect_table, read_table, write_table
from latentomics.metagenome.taxon_formats import lowest_level, parse_lineage
from latentomics.problems import InputError, Problem

FULL = {
    "d__Archaea;p__Methanobacteriota;c__Methanobacteria;o__Methanobacteriales;f__Methanobacteriaceae;"
    "g__Methanobrevibacter;s__Methanobrevibacter smithii": [0, 4, 0],
    "d__Bacteria;p__Bacillota;c__Bacilli;o__Bacillales;f__Bacillaceae;g__Bacillus;s__Bacillus subtilis": [10, 0, 2],
    "d__Bacteria;p__Bacillota;c__Bacilli;o__Bacillales;f__Bacillaceae;g__Bacillus;s__Bacillus cereus": [30, 0, 1],
    "d__Bacteria;p__Pseudomonadota;c__Gammaproteobacteria;o__Enterobacterales;f__Enterobacteriaceae;g__Escherichia;"
    "s__Escherichia coli": [60, 96, 7],
}
SAMPLES = ["S1", "S2", "S-3"]
TRUTH = pd.DataFrame.from_dict(FULL, orient="index", columns=SAMPLES).rename_axis("lineage")


def row(path: Path, form: str, sample: str = "T", **more) -> InputRow:
    covariates = more.pop("covariates", {})
    return InputRow(row=2, sample=sample, assay="metagenome", path=path, format=form, covariates=covariates, **more)


def text(folder: Path, content: str, name: str = "t.tsv") -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def counts_of(profile: pd.DataFrame, column: str = "reads") -> pd.DataFrame:
    wide = profile.pivot_table(index="lineage", columns="sample", values=column, aggfunc="sum", observed=True)
    return wide.fillna(0).rename_axis(columns=None)


def same(found: pd.DataFrame, expected: pd.DataFrame = TRUTH) -> None:
    expected = expected.loc[(expected > 0).any(axis=1), (expected > 0).any(axis=0)]
    pd.testing.assert_frame_equal(found[expected.columns].sort_index(), expected.sort_index(), check_dtype=False)


def ranked(prefixes: str, separator: str) -> list[str]:
    """Lineages in another tool's style: ``k__`` for the domain (``k``), or no prefixes (empty)."""
    styled = []
    for known in FULL:
        parts = known.replace("d__", f"{prefixes}__").split(";")
        styled.append(separator.join(parts if prefixes else [part.split("__", 1)[1] for part in parts]))
    return styled


def biom_json(folder: Path, taxonomy=lambda known: known.split(";"), **changes) -> Path:
    table = {
        "id": None,
        "format": "Biological Observation Matrix 1.0.0",
        "format_url": "http://biom-format.org",
        "type": "OTU table",
        "generated_by": "by hand",
        "date": "2020-01-01T00:00:00",
        "matrix_type": "sparse",
        "matrix_element_type": "int",
        "shape": list(TRUTH.shape),
        "rows": [{"id": f"OTU{i}", "metadata": {"taxonomy": taxonomy(known)}} for i, known in enumerate(FULL)],
        "columns": [{"id": name, "metadata": {"site": f"site{name}"}} for name in SAMPLES],
        "data": [[i, j, int(v)] for (i, j), v in np.ndenumerate(TRUTH.to_numpy()) if v],
    }
    return text(folder, json.dumps(table | changes), "t.biom")


def biom_hdf5(folder: Path, taxonomy=lambda known: known.split(";")) -> Path:
    ids = [f"OTU{i}" for i in range(len(FULL))]
    metadata = [{"taxonomy": taxonomy(known)} for known in FULL]
    table = biom.Table(TRUTH.to_numpy(float), ids, SAMPLES, metadata)
    with h5py.File(folder / "t.biom", "w") as file:
        table.to_hdf5(file, "by biom-format")
    return folder / "t.biom"


def otu_table(folder: Path) -> Path:
    table = TRUTH.set_axis([f"OTU{i}" for i in range(4)]).assign(taxonomy=[t.replace(";", "; ") for t in FULL])
    return text(folder, "# Constructed from biom file\n" + table.rename_axis("#OTU ID").to_csv(sep="\t"))


def cumulative(values: pd.DataFrame, separator: str = "|") -> pd.DataFrame:
    """Every clade with the sum of what is below it, highest first, in MetaPhlAn's own style."""
    rows: dict[str, np.ndarray] = {}
    for known, entry in zip(ranked("k", "|"), values.to_numpy(), strict=True):
        parts = known.replace(" ", "_").split("|")
        for depth in range(1, len(parts) + 1):
            name = separator.join(parts[:depth])
            rows[name] = rows.get(name, 0) + entry
    return pd.DataFrame(rows, index=values.columns).T


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


KRAKEN = """ 20.00\t20\t20\tU\t0\tunclassified
 80.00\t80\t1\tR\t1\troot
 79.00\t79\t0\tR1\t131567\t  cellular organisms
 70.00\t70\t2\tD\t2\t    Bacteria
 68.00\t68\t0\tD1\t1783272\t      Bacillati
 68.00\t68\t3\tP\t1239\t        Bacillota
 65.00\t65\t5\tG\t1386\t          Bacillus
 40.00\t40\t4\tG1\t653685\t            Bacillus subtilis group
 36.00\t36\t30\tS\t1423\t              Bacillus subtilis
  6.00\t6\t6\tS1\t224308\t                Bacillus subtilis 168
 20.00\t20\t20\tS\t1396\t            Bacillus cereus
  9.00\t9\t0\tD\t2759\t    Eukaryota
  9.00\t9\t0\tK\t4751\t      Fungi
  9.00\t9\t9\tP\t4890\t        Ascomycota
"""
BACILLUS = "d__Bacteria;p__Bacillota;g__Bacillus"
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


def minimisers(report: str) -> str:
    lines = [line.split("\t") for line in report.splitlines()]
    return "".join("\t".join([*c[:3], str(int(c[1]) * 9), str(int(c[1]) * 7), *c[3:]]) + "\n" for c in lines)


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


BRACKEN = (
    "name\ttaxonomy_id\ttaxonomy_lvl\tkraken_assigned_reads\tadded_reads\tnew_est_reads\tfraction_total_reads\n"
    "Bacillus subtilis\t1423\tS\t30\t10\t40\t0.4\nBacillus cereus\t1396\tS\t30\t30\t60\t0.6\n"
)


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


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("k__Bacteria; p__Firmicutes; c__; o__; f__; g__; s__", "d__Bacteria;p__Firmicutes"),
        ("k__Bacteria; g__Bacteroides; s__fragilis", "d__Bacteria;g__Bacteroides;s__Bacteroides fragilis"),
        ("D_0__Bacteria;D_1__Bacillota;D_5__Bacillus", "d__Bacteria;p__Bacillota;g__Bacillus"),
        ("d__Bacteria;p__Bacillota;__;__", "d__Bacteria;p__Bacillota"),
        (["Bacteria", "Bacillota", "NA"], "d__Bacteria;p__Bacillota"),
        (["d__Bacteria; p__Bacillota"], "d__Bacteria;p__Bacillota"),
        ("k__Bacteria|s__Bacillus_subtilis|t__SGB7", "d__Bacteria;s__Bacillus_subtilis;t__SGB7"),
        ("d__Bacteria;s__Bacillus subtilis_A", "d__Bacteria;s__Bacillus subtilis_A"),
        ("d__Eukaryota;k__Fungi;p__Ascomycota", "d__Eukaryota;p__Ascomycota"),
        ("g__Bacillus", "g__Bacillus"),
        ("Unassigned", ""),
        ("k__Unassigned; p__", ""),
        ("", ""),
        ("ASV_12", None),
        ("s12", None),
    ],
)
def test_lineages(written, expected):
    assert parse_lineage(written) == expected


@given(
    st.dictionaries(
        st.sampled_from(list(lineage.RANKS)), st.from_regex(r"[A-Z][a-z]{3,9}( [a-z]{3,5})?", fullmatch=True)
    )
)
def test_lineages_come_back(names):
    known = lineage.join(names)
    assert parse_lineage(known) == known
    assert parse_lineage(known.split(";")) == known
    assert parse_lineage(known.replace(";", "|")) == known


def test_lowest_level():
    assert lowest_level([("a",), ("a", "b"), ("a", "bc"), ("a", "b", "c"), ("d",)]).tolist() == [0, 0, 1, 1, 1]


def test_unassigned_reads_are_unclassified(tmp_path):
    content = "#OTU ID\tA\ttaxonomy\no1\t30\tUnassigned\no2\t60\td__Bacteria\no3\t10\td__Bacteria\n"
    profile, summary, _ = read_table([row(text(tmp_path, content), "taxon_table")])
    assert profile[["lineage", "reads"]].to_numpy().tolist() == [["d__Bacteria", 70.0]]
    assert summary["observations"][0]["unclassified_share"] == pytest.approx(0.3)


GOOD = "taxon\tA\tB\nd__Bacteria;g__X\t1\t2\nd__Bacteria;g__Y\t3\t4\n"


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("content", "form", "what", "place"),
    [
        (
            changed("3\t4", "3\t-4"),
            "taxon_table",
            "1 values are negative, the first in sample 'B', taxon 'd__B",
            (3, "'B'"),
        ),
        (changed("3\t4", "nan\t4"), "taxon_table", "1 values are missing or not finite", (3, "column 'A'")),
        (changed("1\t2", "1\tinf"), "taxon_table", "1 values are missing or not finite", (2, "column 'B'")),
        (changed("1\t2", "1\tNA"), "taxon_table", "a cell is not a number", (2, "column 'B'")),
        (changed("1\t2", "1\t"), "taxon_table", "a cell is not a number", (2, "column 'B'")),
        (changed("1\t2", "1"), "taxon_table", "2 fields where 3 are expected", (2, None)),
        (changed("g__Y", "g__X"), "taxon_table", "1 taxon names appear twice", (3, None)),
        (changed("A\tB", "A\tA"), "taxon_table", "1 sample names appear twice", (None, "column 'A'")),
        (changed("1\t2", "1\t2.5"), "taxon_table", "neither counts nor relative abundances", (2, "column 'B'")),
        (changed("1\t2", "1\t3e9"), "taxon_table", "values above 2147483647", (2, "column 'B'")),
        ("taxon\tA\nd__B\t0\n", "taxon_table", "every value is zero", (None, None)),
        ("taxon\tA\n", "taxon_table", "header but no rows", (None, None)),
        ("", "taxon_table", "the table is empty", (None, None)),
        ("just words\nand more\n", "taxon_table", "no columns recognised", (1, None)),
        ("sample\td__B;g__X\td__B;g__Y\nA\t1\t-2\n", "taxon_table", "1 values are negative", (2, "column 'd__B;g__Y'")),
        ("sample\td__B;g__X\nA\t1\nA\t2\n", "taxon_table", "1 sample names appear twice", (3, None)),
        ("clade_name\tA\nk__B\t60\nk__C\t70\n", "metaphlan", "samples sum to 130", (None, None)),
        (
            "clade_name\tA\tB\tC\nk__B\t100\t100\t30\n",
            "metaphlan",
            "of 1 samples do not sum to 100, the first 'C'",
            (None, "'C'"),
        ),
        (
            "clade_name\tA\tB\tC\nk__B\t1\t1\t1.2\n",
            "metaphlan",
            "of 1 samples do not sum to 1, the first 'C'",
            (None, "'C'"),
        ),
        ("name\tA\nBacteria\t60\n", "metaphlan", "no row names a taxon", (None, None)),
        ("what\ta\nwho\tb\nk__B\t100\n", "metaphlan", "no row names the samples", (1, None)),
        ("clade_name\tA\tA\nk__B\t100\t100\n", "metaphlan", "1 sample names appear twice", (None, "column 'A'")),
        ("clade_name\tA\nk__B\tlots\n", "metaphlan", "a cell is not a number", (2, "column 'A'")),
        ("a\tb\n1\t2\n", "kraken_report", "not a Kraken2 report: 2 columns", (1, None)),
        (KRAKEN.replace("\tG1\t", "\tgenus\t"), "kraken_report", "not a line of a Kraken2 report", (8, None)),
        (KRAKEN.replace("\t30\tS", "\t-30\tS"), "kraken_report", "reads of the taxon: not a whole number", (9, None)),
        (KRAKEN[:400].rsplit("\n", 1)[0] + "\n", "kraken_report", "the report is not whole", (None, None)),
        (KRAKEN[:-14], "kraken_report", "not a line of a Kraken2 report", (14, None)),
        (KRAKEN.replace("\t1386\t", " 1386\t"), "kraken_report", "5 fields where 6 are expected", (7, None)),
        (BRACKEN.replace("\t40\t", "\t40.5\t"), "bracken", "new_est_reads: not a whole number", (2, None)),
        (BRACKEN[:-12], "bracken", "fields where 7 are expected", (3, None)),
        ("{}", "biom", "not a readable BIOM table", (None, None)),
        ("words", "biom", "not a readable BIOM table", (None, None)),
    ],
)
def test_broken_tables(tmp_path, content, form, what, place):
    line = row(text(tmp_path, content), form)
    problems = [p for p in inspect_table(line)[0] if p.severity == "error"]
    assert len(problems) == 1, [str(p) for p in problems]
    problem = problems[0]
    assert what in problem.what and "sample 'T'" in problem.what
    assert problem.file == str(line.path) and problem.hint
    assert problem.row == place[0]
    assert place[1] is None or place[1] in problem.key
    with pytest.raises(InputError):
        read_table([line])


def test_damaged_files(tmp_path):
    def only(path: Path, form: str) -> Problem:
        (problem,) = inspect_table(row(path, form))[0]
        return problem

    packed = gzip.compress(GOOD.encode() * 50)
    (tmp_path / "cut.tsv.gz").write_bytes(packed[:-20])
    assert "cut short or damaged" in only(tmp_path / "cut.tsv.gz", "taxon_table").what
    (tmp_path / "latin.tsv").write_bytes(GOOD.replace("g__Y", "g__Ä").encode("latin-1"))
    assert (problem := only(tmp_path / "latin.tsv", "taxon_table")).row == 3 and "UTF-8" in problem.what
    whole = biom_hdf5(tmp_path).read_bytes()
    (tmp_path / "cut.biom").write_bytes(whole[: len(whole) // 2])
    assert "not a readable BIOM table" in only(tmp_path / "cut.biom", "biom").what
    assert (
        "not a readable BIOM table"
        in only(text(tmp_path, biom_json(tmp_path).read_text()[:-40], "j.biom"), "biom").what
    )
    twice = [{"id": "O", "metadata": None}] * 4
    assert "appears twice" in only(biom_json(tmp_path, rows=twice), "biom").what


ANY = {
    "taxon_table": TRUTH.to_csv(sep="\t").encode(),
    "metaphlan": cumulative(TRUTH / TRUTH.sum()).to_csv(sep="\t", index_label="clade_name").encode(),
    "kraken_report": minimisers(KRAKEN).encode(),
    "bracken": BRACKEN.encode(),
    "biom": b'{"id": null, "type": "OTU table", "generated_by": "x", "date": "", "matrix_type": "sparse", '
    b'"matrix_element_type": "int", "shape": [1, 1], "rows": [{"id": "a", "metadata": {"taxonomy": ["k__B"]}}], '
    b'"columns": [{"id": "S", "metadata": null}], "data": [[0, 0, 3]]}',
}


@given(st.sampled_from(list(ANY)), st.floats(0, 1), st.floats(0, 1), st.binary(max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_damage_is_a_crash(tmp_path_factory, form, start, stop, bytes_):
    """Cut out any part of a file and put anything in its place: it is read, or there is a problem to show."""
    content = ANY[form]
    a, b = sorted((int(start * len(content)), int(stop * len(content))))
    path = tmp_path_factory.mktemp("damage") / "t"
    path.write_bytes(content[:a] + bytes_ + content[b:])
    for problem in inspect_table(row(path, form))[0]:
        assert problem.what and problem.hint and str(problem)


def test_sums_that_are_off_a_little_are_a_warning(tmp_path):
    line = row(text(tmp_path, "clade_name\tA\tB\tC\nk__B\t100\t80\t100\n"), "metaphlan")
    (problem,) = inspect_table(line)[0]
    assert problem.severity == "warning" and problem.value == 80 and "'B'" in problem.what
    profile, summary, _ = read_table([line])
    assert profile["abundance"].to_list() == [1, 1, 1] and len(summary["warnings"]) == 1


def test_tables_without_lineage_are_taken_for_species(tmp_path):
    line = row(text(tmp_path, "#OTU ID\tA\tB\nBacteroides\t1\t2\nASV7\t0\t0\nASV9\t3\t0\n"), "taxon_table")
    (problem,) = inspect_table(line)[0]
    assert problem.severity == "warning" and "3 of 3 taxa have no lineage" in problem.what
    assert set(read_table([line])[0]["lineage"]) == {"s__Bacteroides", "s__ASV9"}


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
