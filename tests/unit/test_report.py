"""The report without a browser: what stands in the file, and what does not."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from make_metagenome_results import make_metagenome_results
from make_results import HOSTILE, METHODS, make_results

from latentomics.cluster.layouts import LANDMARKS
from latentomics.report.data import Limits, ReportData, natural_order
from latentomics.report.encode import json_text, packed, plotly_text, quantised
from latentomics.report.page import render, write_report
from latentomics.report.registry import SECTIONS, builders
from latentomics.report.sampling import MIN_PER_STRATUM, stratified_sample
from latentomics.report.sections.embeddings import _names_observations, matched_colours
from latentomics.report.words import counted, duration, listed, megabytes, number, percent, setting

LIMITS = {"max_points": 20000, "max_genes": 150, "n_top_markers": 5, "seed": 0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("report") / "scrna", n_cells=3000, n_genes=400)


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    out = results.parent / "report.html"
    write_report({"scrna": results}, out, "A <b>study</b>", **LIMITS)
    return out.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """The elements of a page: sections, JSON, addresses, and code that is not ours."""

    def __init__(self, text: str):
        super().__init__()
        self.sections: list[str] = []
        self.payloads: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.inline: list[str] = []
        self._json: bool | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self.sections.append(str(given.get("id")))
        if tag == "script":
            self._json = given.get("type") == "application/json"
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href") and v]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._json is not None:
            (self.payloads if self._json else self.inline).append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._json = None


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def payload_of(outline: Outline, key: str) -> dict:
    return next(p for p in map(json.loads, outline.payloads) if key in p)


def test_small_enough(page: str) -> None:
    # The promise is 15 MiB; plotly alone is 4.6.
    assert len(page.encode()) < 8 * 2**20


def test_same_bytes_twice(results: Path, page: str, tmp_path: Path) -> None:
    write_report({"scrna": results}, tmp_path / "again.html", "A <b>study</b>", **LIMITS)
    assert (tmp_path / "again.html").read_bytes() == page.encode()


def test_sections_stand_in_the_order_of_the_registry(outline: Outline) -> None:
    of_taxa = ("reads", "taxa", "ordination", "associations", "prediction")
    assert outline.sections == [name.replace("_", "-") for name in SECTIONS if name not in of_taxa]
    assert tuple(builders()) == SECTIONS


def test_nothing_is_fetched(page: str, outline: Outline) -> None:
    assert "default-src &#39;none&#39;" in page
    assert all(address.startswith(("#", "data:")) for address in outline.addresses), outline.addresses
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])


def test_only_our_own_code_runs(page: str, outline: Outline) -> None:
    assert outline.handlers == []
    # Plotly and the four files of the page: a script element made of data would be one more.
    assert len(re.findall(r"<script>", page)) == 5
    assert HOSTILE not in page
    assert "A &lt;b&gt;study&lt;/b&gt;" in page


def test_hostile_gene_survives_as_text(outline: Outline) -> None:
    assert all("<" not in text for text in outline.payloads)
    assert HOSTILE in payload_of(outline, "explorer")["explorer"]["features"]["names"]
    markers = next(p for p in map(json.loads, outline.payloads) if "markers" in p.get("tables", {}))
    assert any(HOSTILE in row for row in markers["tables"]["markers"]["rows"])
    drawn = markers["figures"]["dots"]
    assert any(plotly_text(HOSTILE) in text for text in drawn["data"][0]["text"])
    assert not any("<script" in text for text in [*drawn["data"][0]["text"], *drawn["layout"]["xaxis"]["ticktext"]])


def test_hostile_text_from_every_table(results: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(results, tmp_path / "scrna"))
    for name, column in (("samples.tsv", "notes"), ("warnings.tsv", "message"), ("ledger.tsv", "reason")):
        table = pd.read_csv(root / name, sep="\t", dtype=str)
        table[column] = "<img src=x onerror=alert(1)>"
        table.to_csv(root / name, sep="\t", index=False)
    for name, key in (("verdict.json", "verdict"), ("models/pca/summary.json", "title")):
        content = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps(content | {key: "<img src=x onerror=alert(1)>"}))
    page = render(ReportData("scrna", root), "t")
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 5
    assert Outline(page).handlers == []


def test_expression_is_log_normalised_and_quantised(results: Path, outline: Outline) -> None:
    data = ReportData("scrna", results, Limits())
    features = payload_of(outline, "explorer")["explorer"]["features"]
    assert len(features["names"]) == 150
    j = features["names"].index("LYZ")
    column = int(data.store.var.index[data.store.var["symbol"] == "LYZ"][0][4:])
    counts = data.store.select(None, np.array([column])).toarray()[:, 0]
    expected = np.log1p(counts * 1e4 / data.obs["total_counts"].to_numpy())
    raw = np.frombuffer(base64.b64decode(features["bytes"]), np.uint8).reshape(150, 3000)[j]
    assert np.abs(raw * features["tops"][j] / 255 - expected).max() <= features["tops"][j] / 500


@pytest.mark.parametrize(
    "missing",
    [
        ["samples.tsv"],
        ["cells.parquet"],
        ["warnings.tsv"],
        ["verdict.json"],
        ["run.json"],
        ["scores.tsv", "costs.tsv"],
        ["ledger.tsv"],
        ["features.parquet"],
        ["counts.zarr"],
        ["layouts"],
        ["clusters"],
        ["markers"],
        ["models"],
        ["embeddings"],
    ],
    ids="+".join,
)
def test_missing_files_leave_sections_out(results: Path, tmp_path: Path, missing: list[str]) -> None:
    root = Path(shutil.copytree(results, tmp_path / "scrna"))
    for name in missing:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
    sections = Outline(render(ReportData("scrna", root), "t")).sections
    assert "overview" in sections
    gone = {"samples.tsv": "quality", "layouts": "embeddings", "markers": "markers", "run.json": "methods"}
    if missing[0] in gone:
        assert gone[missing[0]] not in sections


def test_empty_folder_and_missing_columns(results: Path, tmp_path: Path) -> None:
    assert Outline(render(ReportData("scrna", tmp_path), "t")).sections == ["overview"]
    root = Path(shutil.copytree(results, tmp_path / "scrna"))
    for name in ("samples.tsv", "scores.tsv", "warnings.tsv", "ledger.tsv", "clusters/pca.selection.tsv"):
        table = pd.read_csv(root / name, sep="\t", dtype=str)
        table.iloc[:0].to_csv(root / name, sep="\t", index=False)
    assert "No warnings" in render(ReportData("scrna", root), "t")
    pd.DataFrame({"sample": ["007"], "n_read": [5], "n_kept": [4]}).to_csv(root / "samples.tsv", sep="\t", index=False)
    page = render(ReportData("scrna", root), "t")
    assert '<th scope="row">007</th>' in page


def test_sample_called_na_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "samples.tsv").write_text("sample\tn_read\tmin_counts\nNA\t10\t\n007\t5\t200\n")
    samples = ReportData("scrna", tmp_path).samples
    assert samples["sample"].tolist() == ["NA", "007"]
    assert samples["n_read"].sum() == 15
    assert np.isnan(samples["min_counts"][0])


def test_several_assays_are_chapters_with_their_own_anchors(results: Path) -> None:
    taxa = make_metagenome_results(results.parent / "metagenome")
    page = render([ReportData("scrna", results), ReportData("metagenome", taxa)], "t")
    outline = Outline(page)
    assert len(outline.sections) == len(set(outline.sections))
    of_taxa = {s.removeprefix("metagenome-") for s in outline.sections if s.startswith("metagenome-")}
    of_cells = {s.removeprefix("scrna-") for s in outline.sections if s.startswith("scrna-")}
    assert of_taxa - of_cells == {"reads", "taxa", "ordination", "associations", "prediction"}
    assert of_cells - of_taxa == {"quantification", "droplets", "ambient", "quality"}
    anchors = {a[1:] for a in outline.addresses if a.startswith("#")}
    assert anchors >= set(outline.sections) | {"chapter-scrna", "chapter-metagenome"}
    assert set(re.findall(r'id="([^"]+)"', page)) >= anchors - {""}


def test_large_data_are_sampled(tmp_path: Path) -> None:
    root = make_results(tmp_path / "scrna", n_cells=200_000, n_genes=24)
    data = ReportData("scrna", root, Limits(max_points=5000))
    page = render(data, "t")
    assert "5,000 of 200,000 cells are drawn" in page
    explorer = payload_of(Outline(page), "explorer")["explorer"]
    assert len(explorer["ids"]) == 5000
    assert sum(explorer["clusters"]["pca"]["counts"]) == 200_000
    assert len(page) < 9 * 2**20
    caption = f"{LANDMARKS:,} drawn at random are laid out so"
    assert caption in page
    small = render(ReportData("scrna", make_results(tmp_path / "small/scrna", n_cells=60, n_genes=24), Limits()), "t")
    assert caption not in small
    for one in (page, small):
        assert re.search(r"[.] Hover to see", one), "a space after the sentence"


class TestSampling:
    def test_proportional_exact_and_seeded(self) -> None:
        strata = pd.DataFrame({"sample": np.repeat(["a", "b", "c"], [150_000, 49_988, 12])})
        rows = stratified_sample(strata, 1000, seed=3)
        assert len(rows) == len(set(rows)) == 1000
        assert (np.diff(rows) > 0).all()
        drawn = strata["sample"].iloc[rows].value_counts()
        assert drawn["c"] == MIN_PER_STRATUM
        assert abs(drawn["a"] - 745) < 10
        assert (rows == stratified_sample(strata, 1000, seed=3)).all()
        assert (rows != stratified_sample(strata, 1000, seed=4)).any()

    def test_more_strata_than_points(self) -> None:
        strata = pd.DataFrame({"cluster": np.arange(5000) % 900})
        assert len(stratified_sample(strata, 500, seed=0)) == 500

    def test_all_if_few_and_without_columns(self) -> None:
        assert stratified_sample(pd.DataFrame(index=range(7)), 10, 0).tolist() == list(range(7))
        assert len(stratified_sample(pd.DataFrame(index=range(70)), 10, 0)) == 10


def test_json_cannot_leave_its_element() -> None:
    text = json_text(
        {"a": "</script>\u2028&", "b": [float("nan"), np.float32(1.5), np.int64(3), np.array([1.0, np.inf])]}
    )
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"a": "</script>\u2028&", "b": [None, 1.5, 3, [1.0, None]]}


def test_arrays_are_packed() -> None:
    assert packed(np.array([1.0, 2.0])) == {"dtype": "f4", "bdata": "AACAPwAAAEA="}
    assert packed(np.array([1, 2], dtype="<u2"))["dtype"] == "u2"
    with pytest.raises(TypeError):
        packed(np.array([1, 2]))
    codes, low, top = quantised(np.array([0.0, 1.0, 2.0]))
    assert codes.tolist() == [0, 128, 255]
    assert (low, top) == (0.0, 2.0)
    codes, low, top = quantised(np.array([-1.0, 0.0, 3.0]))
    assert codes.tolist() == [0, 64, 255]
    assert (low, top) == (-1.0, 3.0)
    assert quantised(np.zeros(2))[1:] == (0.0, 0.0)


def test_a_column_of_the_names_colours_nothing() -> None:
    names = pd.Index(["1", "2", "10"])
    assert _names_observations(pd.Series([1, 2, 10], index=names))
    assert not _names_observations(pd.Series([1, 2, 11], index=names)), "the first alone does not tell"
    assert not _names_observations(pd.Series([2, 2, 10], index=names))


def test_colours_follow_the_cells() -> None:
    reference = pd.Series(list("0001122"))
    labels = pd.Series(list("2220013"))
    # 2 -> 0, 0 -> 1, 1 or 3 -> 2, and the other gets a colour of its own.
    colours = matched_colours(labels, ["0", "1", "2", "3"], reference)
    assert colours[0] == 1
    assert colours[2] == 0
    assert sorted([colours[1], colours[3]]) == [2, 3]


def test_words() -> None:
    assert [number(v) for v in (12345, 0.12345, 1234.5, 1e-9, 0, None, float("nan"), "x", np.float64(2.0))] == [
        "12,345", "0.123", "1,234", "1.00e-09", "0", "–", "–", "x", "2",
    ]  # fmt: skip
    assert [setting(v) for v in (0.85, 5.0, 20000, None, True)] == ["0.85", "5", "20,000", "–", "True"]
    assert percent(0.5) == "50.0\u00a0%"
    assert [duration(s) for s in (2.1, 65, 8000)] == ["2.1 s", "1 min 5 s", "2 h 13 min"]
    assert [megabytes(m) for m in (512, 2048)] == ["512 MB", "2.0 GB"]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([]) == ""
    assert counted(1, "cell") == "1 cell"
    assert counted(2000, "batch", "batches") == "2,000 batches"
    assert natural_order(["10", "2", "b", "2"]) == ["2", "10", "b"]


def test_every_method_has_its_panels(outline: Outline) -> None:
    explorer = payload_of(outline, "explorer")["explorer"]
    assert [(p["layout"], p["method"]) for p in explorer["panels"]] == [
        (k, m) for k in ("umap", "tsne") for m in METHODS
    ]
    assert explorer["layouts"] == [["umap", "UMAP"], ["tsne", "t-SNE"]]
