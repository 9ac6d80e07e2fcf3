"""The chapter of a metagenomic study: its figures say what its files say, and nothing in them runs."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from make_metagenome_results import HOSTILE, MARKUP, make_metagenome_results
from report_pages import built, figure, prose_of, sections_of

from latentomics.report.data import ReportData
from latentomics.report.encode import plotly_text
from latentomics.report.page import render
from latentomics.report.registry import SECTIONS, builders


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_metagenome_results(tmp_path_factory.mktemp("report") / "metagenome")


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return render(ReportData("metagenome", results), "t")


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "metagenome"))


def test_all_sections_but_those_of_cells(page: str) -> None:
    of_cells = ("quantification", "droplets", "ambient", "quality")
    assert sections_of(page) == [name.replace("_", "-") for name in SECTIONS if name not in of_cells]


@pytest.mark.parametrize("word", ["cell", "cells", "gene", "genes", "expression", "log1p", "Scrublet", "scVI", "mito"])
def test_speaks_of_samples_and_taxa(page: str, word: str) -> None:
    assert re.findall(rf"[^.]*\b{word}\b[^.]*", prose_of(page)) == []


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        (["samples.tsv", "samples"], "reads"),
        (["counts.zarr"], "taxa"),
        (["ordination.tsv"], "ordination"),
        (["diversity.tsv", "diversity_tests.tsv", "permanova.tsv", "associations.tsv"], "associations"),
        (["prediction.tsv", "prediction_splits.tsv"], "prediction"),
    ],
)
def test_missing_files_leave_sections_out(copy: Path, missing: list[str], gone: str) -> None:
    before = sections_of(render(ReportData("metagenome", copy), "t"))
    for name in missing:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    after = sections_of(render(ReportData("metagenome", copy), "t"))
    assert gone in before
    assert gone not in after
    assert set(before) - set(after) <= {gone, "embeddings"}


@pytest.mark.parametrize(
    "name", ["diversity", "diversity_tests", "permanova", "associations", "prediction_splits", "run"]
)
def test_one_missing_file_leaves_the_rest(copy: Path, name: str) -> None:
    next(copy.glob(f"{name}.*")).unlink()
    sections = sections_of(render(ReportData("metagenome", copy), "t"))
    assert {"taxa", "ordination", "associations", "prediction", "reads"} <= set(sections)


def test_tables_of_headings_only(copy: Path) -> None:
    for path in copy.glob("*.tsv"):
        pd.read_csv(path, sep="\t", dtype=str).iloc[:0].to_csv(path, sep="\t", index=False)
    assert "overview" in sections_of(render(ReportData("metagenome", copy), "t"))


# Nothing of the data runs


def test_hostile_names_are_text(page: str, results: Path) -> None:
    assert HOSTILE not in page
    assert MARKUP not in page
    for key in ("bars-species", "heat", "tree"):
        text = json.dumps(figure(results, "taxa", key), default=str)
        assert HOSTILE not in text
        assert plotly_text(HOSTILE) in text
    names = [t["name"] for t in figure(results, "ordination", "by-1")["data"]]
    assert plotly_text(MARKUP) in names
    # A name must not be read as a field of the hover template.
    for section in map(builders().get, ("taxa", "associations", "ordination", "reads")):
        found = json.dumps(section(ReportData("metagenome", results)).payload, default=str)
        assert all("%{x}" not in t for t in re.findall(r'"hovertemplate": "([^"]*)"', found))


def test_hostile_text_from_every_table(copy: Path) -> None:
    attack = "<img src=x onerror=alert(1)>"
    for name, column in (
        *(("samples", "batch"), ("permanova", "note"), ("diversity_tests", "factor"), ("associations", "taxon")),
        *(("prediction", "verdict"), ("prediction_splits", "held_out"), ("ledger", "observation")),
    ):
        table = pd.read_csv(copy / f"{name}.tsv", sep="\t", dtype=str)
        table[column] = attack
        table.to_csv(copy / f"{name}.tsv", sep="\t", index=False)
    for path in [*copy.glob("samples/*/reads.json"), *copy.glob("samples/*/profile.json")]:
        facts = json.loads(path.read_text())
        facts |= {"profiler": attack, "versions": {"cutadapt": attack}}
        path.write_text(json.dumps(facts))
    page = render(ReportData("metagenome", copy), "t")
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 4


# The figures say what the files say


def test_ordination_places_every_sample_once_per_distance(results: Path) -> None:
    frame = pd.read_csv(results / "ordination.tsv", sep="\t").set_index("sample")
    for key, _ in built(results, "ordination").context["choices"]:
        shown = figure(results, "ordination", key)
        for axis_id, distance in (("x", "aitchison"), ("x2", "braycurtis")):
            traces = [t for t in shown["data"] if t["xaxis"] == axis_id]
            found = {
                t.split("<br>")[0]: xy for tr in traces for t, *xy in zip(tr["text"], tr["x"], tr["y"], strict=True)
            }
            assert len(found) == 24
            for sample, xy in found.items():
                assert xy == pytest.approx(frame.loc[sample, [f"{distance}1", f"{distance}2"]].tolist())
        assert shown["layout"]["xaxis"]["title"]["text"] == "PCo 1 (41.2\u00a0%)"
        assert shown["layout"]["yaxis2"]["title"]["text"] == "PCo 2 (12.3\u00a0%)"


def test_ordination_colours_follow_the_annotation(results: Path) -> None:
    data = ReportData("metagenome", results)
    titles = [title for _, title in built(results, "ordination").context["choices"]]
    assert titles == ["cluster of PCA", "condition", "batch"]
    for trace in figure(results, "ordination", "by-2")["data"]:
        assert {data.obs.loc[t.split("<br>")[0], "batch"] for t in trace["text"]} == {trace["name"]}


def test_boxes_hold_the_diversity_of_their_group(results: Path) -> None:
    data = ReportData("metagenome", results)
    diversity = pd.read_csv(results / "diversity.tsv", sep="\t").set_index("sample")
    assert built(results, "associations").context["diversity"][0] == ("diversity-0", "condition")
    traces = [t for t in figure(results, "associations", "diversity-0")["data"] if t["xaxis"] == "x2"]
    assert [t["name"] for t in traces] == [plotly_text(MARKUP), "healthy"]
    healthy = data.obs.index[data.obs["condition"] == "healthy"]
    assert sorted(traces[1]["y"]) == pytest.approx(sorted(diversity.loc[healthy, "shannon"]))


def test_forest_and_table_are_the_associations(results: Path) -> None:
    found = pd.read_csv(results / "associations.tsv", sep="\t").set_index("taxon")
    section = built(results, "associations")
    shown = section.payload["figures"]["taxa-0"]
    labels = shown["layout"]["yaxis"]["ticktext"]
    names = {plotly_text(t): t for t in found.index}
    n = 0
    for trace, significant in zip(shown["data"], (True, False), strict=True):
        for i, x, up, down in zip(
            trace["y"], trace["x"], trace["error_x"]["array"], trace["error_x"]["arrayminus"], strict=True
        ):
            row = found.loc[names[labels[i]]]
            assert (x, x + up, x - down) == pytest.approx((row["effect"], row["high"], row["low"]))
            assert (row["p_adjusted"] < 0.05) == significant
            n += 1
    assert n == len(found) == 18
    table = section.payload["tables"]["taxa"]
    at = [c["title"] for c in table["columns"]].index("q")
    assert [row[at] for row in table["rows"]] == pytest.approx(found["p_adjusted"].tolist())
    significant = int((found["p_adjusted"] < 0.05).sum())
    assert f"{significant} of 18 taxa differ" in section.context["summaries"][0]


def test_permanova_shows_its_warning(page: str) -> None:
    text = prose_of(page)
    assert "33.7\u00a0%".replace("\u00a0", " ") in text
    assert "groups differ in their spread (dispersion)" in text


def test_what_was_not_tested_says_why(copy: Path) -> None:
    columns = pd.read_csv(copy / "associations.tsv", sep="\t").columns
    note = "not tested: fewer than two conditions"
    pd.DataFrame([{"note": note}], columns=columns).to_csv(copy / "associations.tsv", sep="\t", index=False)
    section = built(copy, "associations")
    assert section.context["notes"] == [note]
    assert "taxa-0" not in section.payload["figures"]
    pd.DataFrame([{"verdict": "not predicted: one condition"}]).to_csv(copy / "prediction.tsv", sep="\t", index=False)
    text = prose_of(render(ReportData("metagenome", copy), "t"))
    assert note in text
    assert "not predicted: one condition" in text


def test_prediction_says_that_the_latent_space_loses(results: Path, copy: Path) -> None:
    section = built(results, "prediction")
    assert section.context["lost"] == "The latent space loses: PCA coordinates predict worse than the taxa themselves."
    mean = section.payload["figures"]["auc"]["data"][0]
    assert mean["x"].tolist() == [0.91, 0.74]
    assert (mean["x"] + mean["error_x"]["array"]).tolist() == pytest.approx([0.97, 0.87])
    assert (mean["x"] - mean["error_x"]["arrayminus"]).tolist() == pytest.approx([0.82, 0.61])
    points = section.payload["figures"]["auc"]["data"][1]
    assert (points["x"], points["y"]) == ([0.6, 0.8], [2, 2])
    table = pd.read_csv(copy / "prediction.tsv", sep="\t")
    for low, high, words in ((0.01, 0.2, "predict better"), (-0.1, 0.2, "no better and no worse")):
        table.loc[1, ["difference_low", "difference_high"]] = low, high
        table.to_csv(copy / "prediction.tsv", sep="\t", index=False)
        assert words in built(copy, "prediction").context["lost"]


def test_ledger_names_contaminants_and_controls(results: Path) -> None:
    rows = built(results, "ledger").context["rows"]
    assert [(r["kind"], r["names"]) for r in rows] == [("sample", ["blank1"]), ("taxon", [HOSTILE])]


def test_methods_tell_this_run(page: str) -> None:
    text = prose_of(page[page.index('<section id="methods"') :])
    for words in (
        "cutadapt 5.2",
        "poly-G tails (25 of 25 runs)",
        "(TruSeq read 1)",
        "matched human",
        "(minimap2 2.24)",
        "sourmash 4.9.4 against the database gtdb",
        "less than 5 % of the samples",
        "below 0.1 were dropped as contaminants",
        "ANCOM-BC2",
        "999 permutations",
        "20 repeats of 5-fold",
    ):
        assert words in text
    assert "median absolute deviations" not in text


def test_log_ratios_below_zero_are_kept(results: Path) -> None:
    data = ReportData("metagenome", results)
    features = built(results, "embeddings").payload["explorer"]["features"]
    assert features["zeros"] is False
    codes = np.frombuffer(base64.b64decode(features["bytes"]), np.uint8).reshape(len(features["names"]), 24)
    column = data.colour_features["column"].to_numpy()
    expected = data.expression(column)
    assert (expected < 0).any()
    for j in range(len(column)):
        low, top = features["lows"][j], features["tops"][j]
        assert np.abs(low + codes[j] * (top - low) / 255 - expected[:, j]).max() <= (top - low) / 500 + 1e-4
