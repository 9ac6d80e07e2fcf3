"""Reads and taxa of a metagenomic study: the figures of the report say what the files say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from make_metagenome_results import make_metagenome_results
from report_pages import built, figure, prose_of

from latentomics.metagenome import lineage
from latentomics.report.composition import by_rank, grouped_order, leaf_order, lineages, ranks_known, shares
from latentomics.report.data import ReportData
from latentomics.report.encode import plotly_text
from latentomics.report.groupings import groupings
from latentomics.report.page import render


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_metagenome_results(tmp_path_factory.mktemp("report") / "metagenome")


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "metagenome"))


def test_funnel_and_bars_are_the_reads_left(results: Path) -> None:
    raw = {
        p.parent.name: pd.read_csv(p, sep="\t").set_index("step")["reads"] for p in results.glob("samples/*/reads.tsv")
    }
    each, middle = figure(results, "reads", "funnel")["data"]
    clean = pd.Series({name: row["clean"] / row["raw"] for name, row in raw.items()})
    assert middle["y"][-1] == pytest.approx(clean.median(), abs=1e-5)
    assert [v for v in each["y"] if v is not None][5::6] == pytest.approx(clean.sort_index().tolist(), abs=1e-5)
    layout = figure(results, "reads", "lost")
    labels = layout["layout"]["yaxis"]["ticktext"]
    bars = {b["name"]: dict(zip(labels, b["x"], strict=True)) for b in layout["data"]}
    assert set(bars) == {"left", "length", "host: human", "clean"}
    for name, row in raw.items():
        assert bars["left"][name] == pytest.approx(clean[name], abs=1e-5)
        host = (row["length"] - row["host: human"]) / row["raw"] if "host: human" in row else 0
        assert bars["host: human"][name] == pytest.approx(host, abs=1e-5)
        # Nothing is lost twice, and nothing is forgotten.
        assert sum(b[name] for b in bars.values()) == pytest.approx(1, abs=1e-4)


def test_table_of_samples(results: Path) -> None:
    section = built(results, "reads")
    table = section.payload["tables"]["samples"]
    titles = [c["title"] for c in table["columns"]]
    rows = {row[0]: dict(zip(titles, row, strict=True)) for row in table["rows"]}
    assert len(rows) == 25
    assert rows["blank1"]["outcome"] == "negative control"
    assert rows["gut001"]["outcome"] == "kept"
    left = pd.read_csv(results / "samples/gut003/reads.tsv", sep="\t").set_index("step")["reads"]
    assert rows["gut003"]["raw reads"] == 10_000
    assert rows["gut003"]["clean reads"] == left["clean"]
    assert rows["gut003"]["clean"] == pytest.approx(left["clean"] / 10_000)
    # A note of every sample is said once.
    assert section.context["shared"] == ["estimated from k-mers"]
    assert rows["gut001"]["notes"] == "shallow"


def test_study_of_tables_has_samples_but_no_funnel(copy: Path) -> None:
    shutil.rmtree(copy / "samples")
    section = built(copy, "reads")
    assert section.payload["figures"] == {}
    assert len(section.payload["tables"]["samples"]["rows"]) == 25
    text = prose_of(render(ReportData("metagenome", copy), "t"))
    assert "passed quality control" not in text
    assert "cutadapt 5.2 for trimming" not in text


def test_most_samples_lost_most_are_drawn(tmp_path: Path) -> None:
    root = make_metagenome_results(tmp_path / "metagenome", n_samples=90, n_taxa=6)
    share = {p.parent.name: pd.read_csv(p, sep="\t")["reads"].iloc[-1] for p in root.glob("samples/*/reads.tsv")}
    drawn = figure(root, "reads", "lost")["layout"]["yaxis"]["ticktext"]
    assert len(drawn) == 40
    assert max(share[s] for s in drawn) <= min(n for s, n in share.items() if s not in drawn)
    assert len(figure(root, "reads", "funnel")["data"]) == 2


@pytest.mark.parametrize("rank", ["phylum", "genus", "species"])
def test_bars_are_the_shares_of_the_counts(results: Path, rank: str) -> None:
    data = ReportData("metagenome", results)
    counts = data.store.select().toarray()
    shown = figure(results, "taxa", f"bars-{rank}")
    samples = shown["data"][0]["customdata"]
    bars = {b["name"]: dict(zip(samples, b["y"], strict=True)) for b in shown["data"] if "customdata" in b}
    assert sorted(samples) == sorted(data.obs.index)
    names = data.store.var["lineage"].map(
        lambda text: lineage.split(text).get(rank, "Solitaria (unclassified species)")
    )
    for i, sample in enumerate(data.obs.index):
        expected = pd.Series(counts[i]).groupby(names.to_numpy()).sum() / counts[i].sum()
        assert sum(bar[sample] for bar in bars.values()) == pytest.approx(1, abs=2e-4)
        for name, share in expected.items():
            if plotly_text(name) in bars:
                assert bars[plotly_text(name)][sample] == pytest.approx(share, abs=1e-5)


def test_samples_stand_by_cluster_then_condition(results: Path) -> None:
    data = ReportData("metagenome", results)
    order, used = grouped_order(data, shares(data))
    assert list(used) == ["cluster of PCA", "condition"]
    keys = list(zip(data.clusters("pca").iloc[order], data.obs["condition"].iloc[order], strict=True))
    assert keys == sorted(keys)
    assert sorted(order) == list(range(24))


def test_heat_map_is_log_shares_of_the_named(results: Path) -> None:
    data = ReportData("metagenome", results)
    table = shares(data)
    shown = figure(results, "taxa", "heat")
    heat = shown["data"][0]
    taxa, samples = shown["layout"]["yaxis"]["ticktext"], shown["layout"]["xaxis"]["ticktext"]
    names = {plotly_text(t): t for t in table}
    assert sorted(taxa) == sorted(names)
    for i, taxon in enumerate(taxa):
        for j, sample in enumerate(samples):
            share = table.loc[sample, names[taxon]]
            assert np.isnan(heat["z"][i][j]) if share == 0 else abs(heat["z"][i][j] - np.log10(share)) < 1e-3
    # The strip above is of the same samples.
    strips = [t for t in shown["data"] if t["type"] == "bar" and t["yaxis"] == "y2"]
    cluster = data.clusters("pca")
    assert all(cluster[samples[x]] == t["name"] for t in strips for x in t["x"])


def test_tree_adds_up(results: Path) -> None:
    data = ReportData("metagenome", results)
    tree = figure(results, "taxa", "tree")["data"][0]
    value = dict(zip(tree["ids"], tree["values"], strict=True))
    children: dict[str, int] = {}
    for node, parent in zip(tree["ids"], tree["parents"], strict=True):
        if parent:
            children[parent] = children.get(parent, 0) + value[node]
    # Plotly draws nothing where children exceed their parent by the least.
    assert all(n == value[parent] for parent, n in children.items())
    mean = shares(data).mean()
    assert value["d__Bacteria"] == pytest.approx(1e9, rel=1e-6)
    species = data.store.var["lineage"].iloc[1]
    assert value[species] == pytest.approx(1e9 * mean.iloc[1], abs=1)


# Helpers


def test_names_of_one_rank_stay_apart() -> None:
    text = pd.Series(
        {"a": "p__A;g__X;s__one", "b": "p__B;g__X;s__two", "c": "p__A", "d": "p__A;g__Y;s__three"}, dtype=object
    )
    table = pd.DataFrame([[0.4, 0.3, 0.2, 0.1]], columns=list("abcd"))
    assert by_rank(table, text, "genus").iloc[0].to_dict() == pytest.approx(
        {"X [A]": 0.4, "X [B]": 0.3, "A (unclassified genus)": 0.2, "Y": 0.1}
    )
    assert by_rank(table, text, "phylum").iloc[0].to_dict() == pytest.approx({"A": 0.7, "B": 0.3})
    assert ranks_known(text) == ["phylum", "genus", "species"]


def test_leaves_put_like_beside_like() -> None:
    rows = np.array([[0.0, 0], [9, 9], [0.1, 0], [9, 9.1], [0, 0.1]])
    order = leaf_order(rows).tolist()
    assert {order.index(1), order.index(3)} in ({0, 1}, {3, 4})
    # Samples without a count have no distance; each still gets its place.
    assert sorted(leaf_order(np.zeros((4, 3)), "braycurtis")) == list(range(4))


def test_groupings_leave_identifiers_and_measurements_out(results: Path) -> None:
    data = ReportData("metagenome", results)
    assert list(groupings(data, 30)) == ["cluster of PCA", "condition", "batch"]
    assert list(groupings(data, 2)) == ["cluster of PCA", "condition"]
    assert lineages(data).iloc[-1].endswith("g__Solitaria")
