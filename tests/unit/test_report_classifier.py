"""The chapter of the read classifier: it says what the numbers say, leaves out what is not there, and runs nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classifier_pages import built, changed, page_of
from make_classifier_results import CLASSES, HOSTILE, MARKUP, make_classifier_results
from make_results import make_results
from report_pages import prose_of, sections_of

from latentomics.report.classifier import ClassifierData
from latentomics.report.encode import plotly_text
from latentomics.report.page import write_report
from latentomics.report.registry import CLASSIFIER_SECTIONS

SECTIONS = [name.removeprefix("classifier_") for name in CLASSIFIER_SECTIONS]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier_results(tmp_path_factory.mktemp("classifier") / "reads", n_reads=6000)


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "reads"))


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return page_of(results)


class TestPage:
    def test_all_sections_in_order_and_the_same_twice(self, results: Path, page: str) -> None:
        assert sections_of(page) == SECTIONS
        assert page_of(results) == page

    def test_nothing_of_the_data_runs_or_is_fetched(self, page: str) -> None:
        assert HOSTILE not in page
        assert MARKUP not in page
        assert len(re.findall(r"<script>", page)) == 5
        own = page[page.index("<main") : page.index("</main>")]
        assert not re.search(r"<[^>]+\son\w+=", own)
        assert all(address.startswith(("#", "data:")) for address in re.findall(r'(?:href|src)="([^"]*)"', own))
        # As text it is there, in what is read and in what plotly draws.
        assert HOSTILE in prose_of(own)
        payloads = re.findall(r'class="payload">(.*?)</script>', own, re.DOTALL)
        assert payloads
        assert all("<" not in payload for payload in payloads)
        for payload in payloads:
            drawn = json.dumps(json.loads(payload).get("figures", {}))
            assert HOSTILE not in drawn
            assert "<b>ancient" not in drawn
            # No template that a name could speak to.
            assert "hovertemplate" not in drawn
        assert any(plotly_text(HOSTILE) in json.dumps(json.loads(payload)) for payload in payloads)

    def test_every_figure_and_table_has_its_place(self, page: str) -> None:
        own = page[page.index("<main") : page.index("</main>")]
        for section in re.findall(r"<section.*?</section>", own, re.DOTALL):
            payload = re.search(r'class="payload">(.*?)</script>', section, re.DOTALL)
            content = json.loads(payload[1]) if payload else {}
            placed = set(re.findall(r'data-figure="([^"]+)"', section)) | set(
                re.findall(r'<option value="(rel[^"]+)"', section)
            )
            assert placed == set(content.get("figures", {}))
            assert set(re.findall(r'data-table="([^"]+)"', section)) == set(content.get("tables", {}))

    def test_a_chapter_after_the_assays(self, results: Path, tmp_path: Path) -> None:
        cells = make_results(tmp_path / "scrna", n_cells=200, n_genes=24)
        out = tmp_path / "report.html"
        limits = {"max_points": 100, "max_genes": 5, "n_top_markers": 2, "seed": 0}
        write_report({"scrna": cells}, out, "t", **limits, classifier=results)
        page = out.read_text()
        own = [f"classifier-{name}" for name in SECTIONS]
        assert sections_of(page)[-len(own) :] == own
        assert '<h1 class="chapter" id="chapter-classifier">Read classifier</h1>' in page
        ids = re.findall(r'\sid="([^"]+)"', page[page.index("<main") : page.index("</main>")])
        assert len(ids) == len(set(ids))
        used = set(re.findall(r'<use href="#([^"]+)"', page))
        assert used
        assert used <= set(ids)
        write_report({"scrna": cells}, out, "t", **limits)
        assert "chapter-classifier" not in out.read_text()


class TestMissing:
    @pytest.mark.parametrize(
        ("name", "gone"),
        [
            ("data", {"data"}),
            ("scores.tsv", {"scores", "calibration"}),
            ("scores", {"calibration"}),
            ("attribution", {"attribution"}),
            ("curve", {"curve"}),
            ("samples", {"samples"}),
            ("verdict.json", set()),
            ("ledger.tsv", set()),
            ("models", set()),
            ("baselines", set()),
        ],
    )
    def test_what_is_not_there_is_left_out(self, copy: Path, name: str, gone: set[str]) -> None:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
        assert sections_of(page_of(copy)) == [section for section in SECTIONS if section not in gone]

    def test_nothing_at_all(self, tmp_path: Path) -> None:
        page = page_of(tmp_path)
        assert sections_of(page) == ["overview"]
        assert "No network was judged yet" in page

    def test_tables_without_rows_or_optional_columns(self, copy: Path) -> None:
        for path in [*copy.glob("*.tsv"), *copy.glob("*/*/*.tsv"), *copy.glob("curve/*.tsv")]:
            pd.read_csv(path, sep="\t", dtype=str).iloc[:0].to_csv(path, sep="\t", index=False)
        for path in [*copy.glob("scores/*/summary.json"), *copy.glob("attribution/*/summary.json")]:
            path.write_text("{}")
        assert sections_of(page_of(copy))[:2] == ["overview", "data"]

    def test_scores_without_intervals(self, copy: Path) -> None:
        scores = pd.read_csv(copy / "scores.tsv", sep="\t")
        scores[["model", "accuracy", "n_train"]].to_csv(copy / "scores.tsv", sep="\t", index=False)
        assert "scores" in sections_of(page_of(copy))


class TestOverview:
    def test_verdict_is_that_of_the_numbers(self, results: Path) -> None:
        verdict = built(results, "overview").context["verdict"]
        scores = pd.read_csv(results / "scores.tsv", sep="\t").set_index("model")["accuracy"]
        assert (verdict["kind"], verdict["word"]) == ("good", "Yes.")
        assert f"{100 * scores['cnn']:.1f}\u00a0%" in verdict["text"]
        assert f"{100 * scores['kmer']:.1f}\u00a0%" in verdict["text"]
        assert f"+{100 * (scores['cnn'] - scores['kmer']):.1f} percentage points" in verdict["text"]
        assert "7-mer logistic regression" in verdict["text"]

    @pytest.mark.parametrize(
        ("beats", "word", "said"),
        [(False, "No.", "is the worse one"), (None, "Undecided.", "cannot tell which is better")],
    )
    def test_other_verdicts(self, copy: Path, beats: bool | None, word: str, said: str) -> None:
        changed(
            copy / "verdict.json", beats_kmer=beats, difference=-0.0123, difference_low=-0.02, difference_high=0.004
        )
        verdict = built(copy, "overview").context["verdict"]
        assert verdict["word"] == word
        assert said in verdict["text"]
        assert "−1.2 percentage points" in verdict["text"]
        assert "−2.0 to +0.4" in verdict["text"]

    def test_verdict_with_missing_keys(self, copy: Path) -> None:
        (copy / "verdict.json").write_text(json.dumps({"sentence": HOSTILE}))
        assert built(copy, "overview").context["verdict"] == {"kind": "note", "word": "Undecided.", "text": HOSTILE}
        assert HOSTILE not in page_of(copy)
        (copy / "verdict.json").write_text(json.dumps({"beats_kmer": True, "best": "lstm", "difference": None}))
        assert built(copy, "overview").context["verdict"]["text"] == ""

    def test_warnings(self, results: Path, copy: Path) -> None:
        def where(root: Path) -> set[str]:
            return {warning["where"] for warning in built(root, "overview").context["warnings"]}

        assert where(results) == {"few reads"}
        leak = {"k": 31, "tested": 100, "shared": 40, "share": 0.4, "identical": 2}
        changed(copy / "data/data.json", unit="sequence", leak=leak, conflicts=900)
        scores = pd.read_csv(copy / "scores.tsv", sep="\t")
        scores["threshold"] = np.nan
        scores["ece_scaled"] = 0.2
        scores["accuracy_low"] = 0.1
        scores.to_csv(copy / "scores.tsv", sep="\t", index=False)
        assert where(copy) == {
            *("few reads", "near-duplicates", "the same reads on both sides", "split", "contradicting labels"),
            *("calibration", "threshold", "no better than naming the largest class"),
        }
        prose = prose_of(page_of(copy))
        assert "40.0 % of the test reads share a stretch of 31 bases" in prose
        assert "promise too much" in prose

    def test_best_is_the_most_accurate_without_a_verdict(self, copy: Path) -> None:
        (copy / "verdict.json").unlink()
        assert ClassifierData(copy).best == "cnn"
        changed(copy / "best.json")
        (copy / "verdict.json").write_text(json.dumps({"best": "kmer"}))
        # A baseline is no network.
        assert ClassifierData(copy).best == "cnn"
        (copy / "verdict.json").write_text(json.dumps({"best": "lstm"}))
        assert ClassifierData(copy).best == "lstm"


class TestData:
    def test_counts_are_those_of_the_store(self, results: Path) -> None:
        rows = built(results, "data").context["rows"]
        facts = json.loads((results / "data/data.json").read_text())
        assert [row["name"] for row in rows] == [*CLASSES, None]
        for row in rows[:-1]:
            assert row["splits"] == list(facts["per_class"][row["name"]].values())
        assert rows[-1]["total"] == 6000

    def test_reasons_with_their_classes(self, results: Path) -> None:
        dropped = built(results, "data").context["dropped"]
        assert dropped[0]["reason"] == "a copy of another read or of its reverse complement"
        assert dropped[0]["n"] == 400
        assert dropped[1]["names"] == [f"{HOSTILE}: 120"]

    @pytest.mark.parametrize(
        ("unit", "said"),
        [
            ("source", "sources that no model has seen"),
            ("region", "genomes that were trained on"),
            ("sequence", "is not known"),
            ("source and sequence", "is not known"),
        ],
    )
    def test_split_in_words(self, copy: Path, unit: str, said: str) -> None:
        changed(copy / "data/data.json", unit=unit)
        section = built(copy, "data")
        assert said in " ".join(section.context["meaning"])

    def test_classes_that_were_not_tested(self, copy: Path) -> None:
        splits = np.load(copy / "data/splits.npy")
        labels = np.load(copy / "data/labels.npy")
        splits[(labels == 3) & (splits == 2)] = 0
        np.save(copy / "data/splits.npy", splits)
        assert built(copy, "data").context["notes"] == [
            "Without test reads, so how well they are recognised is not known: 007."
        ]
