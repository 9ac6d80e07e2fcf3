"""What the page shows of raw inputs: reads, droplets, ambient RNA and doublets by method."""

from __future__ import annotations

import base64
import json
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from make_metagenome_results import make_metagenome_results
from make_raw_inputs import SOUP, WARNING
from make_results import make_results
from report_pages import prose_of, sections_of
from sklearn.metrics import average_precision_score

from latentomics.report.data import ReportData
from latentomics.report.page import render
from latentomics.report.registry import builders
from latentomics.report.section import Section

OF_RAW = ["quantification", "droplets", "ambient"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As the counts came, and with ambient RNA removed and two doublet callers."""
    root = tmp_path_factory.mktemp("raw")
    made = {}
    for name in ("plain", "corrected"):
        (root / name).mkdir()
        made[name] = make_results(root / name / "scrna", n_cells=900, n_genes=60, corrected=name == "corrected")
    return made


@pytest.fixture
def copied(results: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(results["plain"], tmp_path / "scrna"))


def built(root: Path, name: str) -> Section | None:
    return builders()[name](ReportData("scrna", root))


def there(root: Path, name: str) -> Section:
    section = built(root, name)
    assert section is not None
    return section


def unpacked(values: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])


def page_of(root: Path) -> str:
    return render(ReportData("scrna", root), "t")


def facts_of(root: Path, sample: str) -> dict[str, Any]:
    return json.loads((root / "samples" / sample / "summary.json").read_text())["calling"]


# Reads to counts


def test_a_low_mapping_rate_cannot_be_overlooked(results: dict[str, Path]) -> None:
    section = there(results["plain"], "quantification")
    (row,) = section.context["rows"]
    shown = dict(zip(section.context["heads"], row["values"], strict=True))
    assert (row["sample"], row["technology"]) == ("donor1_ctrl", "10xv2")
    assert shown["Mapped"] == {"text": "1.2\u00a0%", "bad": True}
    assert [value["bad"] for head, value in shown.items() if head != "Mapped"] == [False] * (len(shown) - 1)
    assert shown["Reads"]["text"] == "1,250,000"
    assert WARNING[1:] in prose_of(page_of(results["plain"]))


def test_without_a_warning_there_is_none(copied: Path) -> None:
    table = pd.read_csv(copied / "quantification.tsv", sep="\t")
    table.assign(warnings=None, mapping_rate=0.31).to_csv(copied / "quantification.tsv", sep="\t", index=False)
    section = there(copied, "quantification")
    assert section.context["warnings"] == []
    assert not any(value["bad"] for value in section.context["rows"][0]["values"])
    run = json.loads((copied / "run.json").read_text())
    run["config"]["quantify"] = {"min_mapping_rate": 0.5}
    (copied / "run.json").write_text(json.dumps(run))
    assert any(value["bad"] for value in there(copied, "quantification").context["rows"][0]["values"])


# Droplets


def test_the_curve_is_drawn_with_its_lines(results: dict[str, Path]) -> None:
    section = there(results["plain"], "droplets")
    assert [panel["sample"] for panel in section.context["panels"]] == ["donor1_ctrl", "donor2_stim"]
    curves = pd.read_parquet(results["plain"] / "droplets.parquet")
    for i, sample in enumerate(("donor1_ctrl", "donor2_stim")):
        drawn, facts = section.payload["figures"][f"ranks{i}"], facts_of(results["plain"], sample)
        mine = curves[curves["sample"] == sample]
        (points,) = drawn["data"]
        for axis, column in (("x", "rank"), ("y", "total")):
            np.testing.assert_allclose(unpacked(points[axis]), mine[column], rtol=1e-6)
            assert drawn["layout"][f"{axis}axis"]["type"] == "log"
        np.testing.assert_allclose(unpacked(points["marker"]["color"]), mine["called"], rtol=1e-6)
        assert (points["marker"]["cmin"], points["marker"]["cmax"]) == (0, 1)
        lines = [facts[name] for name in ("knee", "inflection", "lower")]
        assert [shape["y0"] for shape in drawn["layout"]["shapes"]] == lines
        # Places on a logarithmic axis are logarithms, in annotations only.
        np.testing.assert_allclose([note["y"] for note in drawn["layout"]["annotations"]], np.log10(lines))


def test_filtered_samples_say_why(results: dict[str, Path]) -> None:
    table = there(results["plain"], "droplets").payload["tables"]["droplets"]
    titles = [column["title"] for column in table["columns"]]
    rows = {row[0]: dict(zip(titles, row, strict=True)) for row in table["rows"]}
    assert list(rows) == ["donor1_ctrl", "donor2_stim", "donor3_ctrl"]
    assert [row["droplets"] for row in rows.values()] == ["raw", "raw", "already filtered"]
    assert (
        rows["donor3_ctrl"]["how it was told, and notes"]
        == "no barcode has fewer than 480 counts: the empty droplets are gone"
    )
    assert rows["donor3_ctrl"]["barcodes"] is None
    facts = facts_of(results["plain"], "donor2_stim")
    assert rows["donor2_stim"]["called below the knee"] == facts["n_called_below_knee"]
    assert (rows["donor2_stim"]["barcodes"], rows["donor2_stim"]["FDR"]) == (facts["n_barcodes"], 0.001)


def test_only_filtered_samples_have_a_table_and_no_plot(copied: Path) -> None:
    for path in copied.glob("samples/*/summary.json"):
        told = {
            "sample": path.parent.name,
            "calling": {"state": "filtered", "why": "said in the sheet", "n_barcodes": 9},
        }
        path.write_text(json.dumps(told))
    section = there(copied, "droplets")
    assert section.payload["figures"] == {}
    titles = [column["title"] for column in section.payload["tables"]["droplets"]["columns"]]
    assert titles == ["sample", "droplets", "how it was told, and notes"]
    text = prose_of(page_of(copied))
    assert "3 samples already filtered." in text
    assert "Called below the knee" not in text


def test_a_sample_that_left_the_sheet_is_not_shown(copied: Path) -> None:
    shutil.copytree(copied / "samples" / "donor1_ctrl", copied / "samples" / "old")
    told = json.loads((copied / "samples" / "old" / "summary.json").read_text())
    (copied / "samples" / "old" / "summary.json").write_text(json.dumps(told | {"sample": "old"}))
    assert "old" not in [row[0] for row in there(copied, "droplets").payload["tables"]["droplets"]["rows"]]


def test_of_many_samples_the_unusual_are_drawn(tmp_path: Path) -> None:
    curve = pd.DataFrame({"rank": [1.0, 2.0], "total": [500.0, 20.0], "called": [1.0, 0.0]})
    called = {f"s{i}": 1000 + i for i in range(20)} | {"s3": 10, "s17": 90_000}
    for name, n in called.items():
        (tmp_path / "samples" / name).mkdir(parents=True)
        facts = {"state": "raw", "why": "", "n_called": n, "n_barcodes": 10**6, "method": "knee", "knee": 400.0}
        (tmp_path / "samples" / name / "summary.json").write_text(json.dumps({"sample": name, "calling": facts}))
    pd.DataFrame({"sample": list(called)}).to_csv(tmp_path / "samples.tsv", sep="\t", index=False)
    pd.concat([curve.assign(sample=name) for name in called]).to_parquet(tmp_path / "droplets.parquet")
    section = there(tmp_path, "droplets")
    drawn = [panel["sample"] for panel in section.context["panels"]]
    assert len(drawn) == len(section.payload["figures"]) == 12
    assert {"s3", "s17"} <= set(drawn)
    assert drawn == [name for name in called if name in drawn], "in their order"
    assert len(section.payload["tables"]["droplets"]["rows"]) == 20
    text = prose_of(page_of(tmp_path))
    assert "12 of 20 samples" in text
    assert "above the knee" in text
    assert "EmptyDrops" not in text, "it was not used"


# Ambient RNA


def test_the_shares_of_every_sample_are_drawn(results: dict[str, Path]) -> None:
    section = there(results["corrected"], "ambient")
    cells = pd.read_parquet(results["corrected"] / "cells.parquet")
    kept = cells[cells["keep"]].groupby("sample")["ambient_share"].median()
    traces = section.payload["figures"]["shares"]["data"]
    medians = [t["x"][0] for t in traces if "fill" not in t]
    np.testing.assert_allclose(medians, kept[["donor1_ctrl", "donor2_stim", "donor3_ctrl"]])
    text = prose_of(page_of(results["corrected"]))
    assert "Removed by DecontX (Yang et al. 2020" in text
    assert "Ambient RNA was not removed" not in text
    table = section.payload["tables"]["ambient"]
    assert [row[:3] for row in table["rows"]] == [
        ["donor1_ctrl", "DecontX", 0.11],
        ["donor2_stim", "DecontX", 0.09],
        ["donor3_ctrl", "DecontX", 0.07],
    ]


def test_without_removal_the_soup_is_named(results: dict[str, Path]) -> None:
    section = there(results["plain"], "ambient")
    assert section.payload["figures"] == {}
    table = section.payload["tables"]["ambient"]
    assert [column["title"] for column in table["columns"]] == ["sample", "genes that lead in the empty droplets"]
    assert [row[0] for row in table["rows"]] == ["donor1_ctrl", "donor2_stim"]
    assert all(SOUP in row[1] for row in table["rows"])
    page = page_of(results["plain"])
    assert "Ambient RNA was not removed" in prose_of(page)
    assert SOUP not in page
    assert SOUP not in unescape(page), "not even in the text: only in the payload, where `<` is escaped"


def test_expression_is_that_of_the_corrected_counts(results: dict[str, Path]) -> None:
    data = ReportData("scrna", results["corrected"])
    columns = np.array([0, 1, 4])
    corrected = data.store.select(None, columns).toarray()
    assert (corrected < data.store.raw.select(None, columns).toarray()).any()
    expected = np.log1p(corrected * (1e4 / data.store.obs["corrected_counts"].to_numpy())[:, None])
    np.testing.assert_allclose(data.expression(columns), expected, rtol=1e-5)
    assert 'selected.layers["corrected"]' in unescape(page_of(results["corrected"]))
    assert 'selected.layers["counts"]' in unescape(page_of(results["plain"]))


# Doublets


def test_doublets_of_several_methods(results: dict[str, Path]) -> None:
    section = there(results["corrected"], "quality")
    layout = section.payload["figures"]["distributions"]["layout"]
    titles = [layout[key]["title"]["text"] for key in sorted(layout) if key.startswith("xaxis")]
    assert titles[3:] == ["Scrublet score", "SOLO score"]
    cells = pd.read_parquet(results["corrected"] / "cells.parquet")
    doublets = section.context["doublets"]
    assert doublets["heads"] == ["Cells tested", "Scrublet", "SOLO", "All methods", "Called"]
    for sample, counts in doublets["rows"]:
        mine = cells[(cells["sample"] == sample) & (cells["scrublet_score"].notna() | cells["solo_score"].notna())]
        both = mine["scrublet_doublet"] & mine["solo_doublet"]
        expected = [
            len(mine),
            mine["scrublet_doublet"].sum(),
            mine["solo_doublet"].sum(),
            both.sum(),
            mine["doublet"].sum(),
        ]
        assert counts == expected
    for title, value in doublets["precision"]:
        known = cells[cells[f"{title.lower()}_score"].notna()]
        truth = known["label_doublet"] == "doublet"
        assert float(value) == pytest.approx(average_precision_score(truth, known[f"{title.lower()}_score"]), abs=5e-4)
    # The thresholds of both methods, of every sample.
    ticks = [
        t["x"][0]
        for t in section.payload["figures"]["distributions"]["data"]
        if t.get("xaxis") in ("x4", "x5") and len(t["x"]) == 2
    ]
    assert (ticks.count(0.25), ticks.count(0.95)) == (3, 3)


def test_doublets_of_one_method_are_shown_as_before(results: dict[str, Path]) -> None:
    section = there(results["plain"], "quality")
    assert section.context["doublets"] is None
    assert section.payload["figures"]["distributions"]["layout"]["xaxis4"]["title"]["text"] == "doublet score"


# The page


def test_what_is_not_there_has_no_section(copied: Path, tmp_path: Path) -> None:
    assert [name for name in sections_of(page_of(copied)) if name in OF_RAW] == OF_RAW
    for name in ("quantification", "ambient"):
        table = pd.read_csv(copied / f"{name}.tsv", sep="\t")
        table.iloc[:0].to_csv(copied / f"{name}.tsv", sep="\t", index=False)
    shutil.rmtree(copied / "samples")
    assert not set(sections_of(page_of(copied))) & set(OF_RAW)
    taxa = make_metagenome_results(tmp_path / "metagenome")
    assert not any(builders()[name](ReportData("metagenome", taxa)) for name in OF_RAW)


def test_methods_say_what_was_done(copied: Path) -> None:
    run = json.loads((copied / "run.json").read_text())

    def text(**config: Any) -> str:
        (copied / "run.json").write_text(json.dumps(run | {"config": run["config"] | config}))
        return " ".join(" ".join(sentences) for sentences in there(copied, "methods").context["text"])

    plain = text()
    assert "kallisto and bustools" in plain
    assert "Scrublet (Wolock et al. 2019, Cell Systems 8:281) scored doublets in each sample." in plain
    assert "EmptyDrops" not in plain, "the config does not tell"
    cells = {"method": "emptydrops", "fdr": 0.001, "lower": 100}
    both = ["scrublet", "solo"]
    assert "false discovery rate of 0.001" in text(cells=cells)
    assert "above the knee of the barcode ranks were called cells" in text(cells={"method": "knee"})
    assert "CellBender (Fleming et al. 2023" in text(ambient={"method": "cellbender"})
    assert "more than half of them called" in text(doublets={"methods": both, "call": "vote"})
    assert "the call is that of Scrublet." in text(doublets={"methods": both, "call": "auto"})
    assert "the call is that of SOLO." in text(doublets={"methods": both, "call": "solo"})
    assert "no cell was called by its score" in text(doublets={"methods": both, "call": "none"})
    assert "doublets" not in text(doublets={"methods": [], "call": "auto"})
