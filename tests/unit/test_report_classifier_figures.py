"""The figures and tables of the read classifier's chapter show the numbers that were written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classifier_pages import built, changed, page_of
from hypothesis import given
from hypothesis import strategies as st
from make_classifier_results import CLASSES, HOSTILE, MARKUP, make_classifier_results
from report_pages import sections_of

from latentomics.report.encode import plotly_text
from latentomics.report.sections.classifier_attribution import Scale, logo, scale_of
from latentomics.report.sections.classifier_curve import first_better


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier_results(tmp_path_factory.mktemp("classifier") / "reads", n_reads=6000)


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "reads"))


class TestScores:
    def test_confusion_is_shared_out_by_row(self, results: Path) -> None:
        heat = built(results, "scores").payload["figures"]["confusion"]["data"][0]
        with np.load(results / "scores/cnn/predictions.npz") as found:
            table = pd.crosstab(found["labels"], found["logits"].argmax(axis=1))
        expected = table.div(table.sum(axis=1), axis=0).to_numpy()
        assert np.abs(heat["z"] - expected).max() < 1e-4
        assert f"predicted: class<br>{table.iloc[3, 2]:,} of" in heat["text"][3][2]
        assert built(results, "scores").payload["figures"]["confusion"]["layout"]["yaxis"]["ticktext"] == [
            plotly_text(name) for name in CLASSES
        ]

    def test_classes_keep_their_names(self, results: Path) -> None:
        table = built(results, "scores").payload["tables"]["classes"]
        assert [row[0] for row in table["rows"]] == CLASSES
        assert [column["title"] for column in table["columns"]][:3] == ["class", "test reads", "precision"]

    def test_rows_and_the_best(self, results: Path) -> None:
        rows = built(results, "scores").context["rows"]
        assert [row["name"] for row in rows][-2:] == ["Largest class", "7-mer logistic regression"]
        assert [row["best"] for row in rows] == [True, False, False, False, False]
        assert [row["baseline"] for row in rows] == [False, False, False, True, True]
        assert rows[0]["epochs"] == "12 (best 9)"

    def test_a_sample_of_the_reads_is_called_one(self, copy: Path) -> None:
        path = copy / "baselines/kmer/model.json"
        training = json.loads(path.read_text())["training"]
        changed(path, training=training | {"n_used": 1000})
        n_train = training["n_train"]
        assert [row["n_train"] for row in built(copy, "scores").context["rows"]] == [
            *([f"{n_train:,}"] * 4),
            f"1,000 of {n_train:,}",
        ]

    def test_accuracy_by_length_of_every_model(self, results: Path) -> None:
        drawn = built(results, "scores").payload["figures"]["lengths"]["data"]
        assert len(drawn) == 5
        table = pd.read_csv(results / "scores/cnn/by_length.tsv", sep="\t")
        assert drawn[0]["y"].tolist() == table["accuracy"].tolist()
        assert drawn[0]["x"] == ((table["shortest"] + table["longest"]) / 2).tolist()

    def test_many_classes(self, copy: Path) -> None:
        names = [f"genus {i}" for i in range(200)]
        changed(copy / "data/data.json", classes=names)
        cells = pd.DataFrame(np.eye(200, dtype=int), columns=names)
        cells.insert(0, "class", names)
        cells.to_csv(copy / "scores/cnn/confusion.tsv", sep="\t", index=False)
        layout = built(copy, "scores").payload["figures"]["confusion"]["layout"]
        assert layout["height"] < 1200
        assert layout["xaxis"]["showticklabels"] is False
        assert "data" in sections_of(page_of(copy))


class TestCalibration:
    def test_both_curves_and_the_threshold(self, results: Path) -> None:
        figures = built(results, "calibration").payload["figures"]
        table = pd.read_csv(results / "scores/cnn/calibration.tsv", sep="\t")
        _, raw, scaled = figures["reliability-0"]["data"]
        assert raw["y"] == table.loc[~table["scaled"], "accuracy"].tolist()
        assert scaled["x"] == table.loc[table["scaled"], "confidence"].tolist()
        summary = json.loads((results / "scores/cnn/summary.json").read_text())
        assert f"{100 * summary['ece_scaled']:.2f}" in scaled["name"]
        chosen = [trace for trace in figures["abstention"]["data"] if trace["mode"] == "markers"]
        assert (chosen[0]["x"], chosen[0]["y"]) == ([summary["share_classified"]], [summary["precision_classified"]])
        # The largest class is the same at every read: nothing to calibrate.
        assert len(built(results, "calibration").context["rows"]) == 4

    def test_without_a_threshold(self, copy: Path) -> None:
        changed(copy / "scores/cnn/summary.json", threshold=None, share_classified=0.0, precision_classified=None)
        section = built(copy, "calibration")
        assert section.context["rows"][0]["threshold"] == "none"
        assert len([t for t in section.payload["figures"]["abstention"]["data"] if t["mode"] == "markers"]) == 3


class TestLogos:
    def table(self, values: dict[int, dict[str, float]]) -> pd.DataFrame:
        rows = [(position, base, value) for position, of in values.items() for base, value in of.items()]
        return pd.DataFrame(rows, columns=["position", "base", "value"]).assign(**{"class": "a"}, anchor="start")

    def test_letters_are_as_high_as_their_values(self) -> None:
        table = self.table({1: {"A": 0.1, "C": 0.5, "G": -0.2, "T": 0.0}, 2: {"A": -0.1, "C": 0, "G": -0.3, "T": 0.2}})
        drawn = logo(table, Scale(0.6, 0.4))
        span = drawn["bottom"] - drawn["top"]
        assert drawn["zero"] == drawn["top"] + 0.6 * span
        first = {letter["base"]: letter for letter in drawn["columns"][0]["letters"]}
        assert set(first) == {"A", "C", "G"}
        # The largest is outermost: A stands on the line, C on A, G hangs below.
        assert first["A"]["y"] == pytest.approx(drawn["zero"] - 0.1 * span, abs=0.02)
        assert first["C"]["y"] == pytest.approx(drawn["top"], abs=0.02)
        assert 100 * first["C"]["scale"] == pytest.approx(0.5 * span, abs=0.02)
        assert (first["G"]["y"], first["G"]["below"]) == (drawn["zero"], True)
        assert drawn["columns"][1]["letters"][-1]["y"] == pytest.approx(drawn["zero"] + 0.1 * span, abs=0.02)
        assert drawn["columns"][0]["title"].startswith("position 1: C +0.500, G −0.200")

    @given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
    def test_all_letters_lie_within_the_picture(self, values: list[float]) -> None:
        table = self.table({p: dict(zip("ACGT", values[4 * p : 4 * p + 4], strict=True)) for p in (0, 1)})
        drawn = logo(table, scale_of(table))
        for column in drawn["columns"]:
            for letter in column["letters"]:
                assert letter["y"] >= drawn["top"] - 0.1
                assert letter["y"] + 100 * letter["scale"] <= drawn["bottom"] + 0.1
                # Positive ones end above zero, negative ones begin below.
                edge = letter["y"] if letter["below"] else letter["y"] + 100 * letter["scale"]
                assert (edge - drawn["zero"]) * (1 if letter["below"] else -1) >= -0.1

    def test_zeros_draw_nothing(self) -> None:
        table = self.table({1: dict.fromkeys("ACGT", 0.0)})
        assert logo(table, scale_of(table))["columns"][0]["letters"] == []

    def test_one_scale_for_all_classes_and_their_sentences(self, results: Path) -> None:
        models = built(results, "attribution").context["models"]
        assert [model["title"] for model in models] == ["Convolutional network", "Bidirectional LSTM"]
        classes = {each["name"]: each for each in models[0]["classes"]}
        ends = {
            (drawn["logo"]["high"], drawn["logo"]["zero"]) for each in classes.values() for drawn in each["logos"][:2]
        }
        assert len(ends) == 1
        assert "Base 1 is T in 55.0\u00a0% of the class's strands" in " ".join(classes[MARKUP]["sentences"])
        assert "10 times as much" in classes[HOSTILE]["sentences"][0]
        assert classes["class"]["logos"][2]["title"] == "Motif GATTACA"
        assert "many weak hints" in classes["007"]["sentences"][0]
        columns = classes[MARKUP]["logos"][0]["logo"]["columns"]
        assert columns[0]["letters"][-1]["base"] == "T"
        assert (columns[0]["tick"], columns[4]["tick"], columns[3]["tick"]) == ("1", "5", "")
        assert classes[MARKUP]["logos"][1]["logo"]["columns"][-1]["tick"] == "−1"


class TestCurve:
    def frame(self, low: list[float], high: list[float], n: tuple[int, ...] = (10, 100, 1000)) -> pd.DataFrame:
        return pd.DataFrame({"n_train": n, "accuracy_low": low, "accuracy_high": high})

    @pytest.mark.parametrize(
        ("low", "expected"),
        [
            ([0.5, 0.6, 0.7], None),  # touches at most
            ([0.8, 0.9, 0.95], 10),
            ([0.1, 0.9, 0.95], 100),
            ([0.8, 0.1, 0.95], 1000),  # once lost, it has to be won again
            ([0.8, 0.9, 0.1], None),
        ],
    )
    def test_first_better(self, low: list[float], expected: float | None) -> None:
        baseline = self.frame([0.4, 0.5, 0.6], [0.5, 0.6, 0.7])
        assert first_better(self.frame(low, [1.0] * 3), baseline) == expected

    def test_only_numbers_of_reads_that_both_were_trained_on(self) -> None:
        model = self.frame([0.9, 0.9, 0.9], [1.0] * 3, (10, 50, 1000))
        assert first_better(model, self.frame([0.4] * 3, [0.5] * 3, (50, 100, 2000))) == 50
        assert first_better(model, self.frame([0.4] * 3, [0.5] * 3, (1, 2, 3))) is None

    def test_sentences(self, results: Path) -> None:
        sentences = built(results, "curve").context["sentences"]
        assert re.match(r"From \d+ training reads on, the convolutional network is better than 7-mer", sentences[0])
        assert any(
            s.endswith("the transformer is not clearly better than 7-mer logistic regression.") for s in sentences
        )
        assert "may still improve" in sentences[-1]

    def test_full_size_is_the_last_point(self, results: Path) -> None:
        scores = pd.read_csv(results / "scores.tsv", sep="\t").set_index("model")
        for trace, name in zip(built(results, "curve").payload["figures"]["curve"]["data"], scores.index, strict=True):
            assert trace["x"][-1] == scores.loc[name, "n_train"]
            assert trace["y"][-1] == pytest.approx(scores.loc[name, "accuracy"])
            assert len(trace["x"]) == 5


class TestSamples:
    def test_bars_are_the_corrected_shares(self, results: Path) -> None:
        section = built(results, "samples")
        *bars, left_out = section.payload["figures"]["shares"]["data"]
        assert np.allclose(np.sum([bar["x"] for bar in bars], axis=0), 1, atol=1e-4)
        table = pd.read_csv(results / "samples/gut03/shares.tsv", sep="\t", keep_default_na=False)
        at = section.payload["figures"]["shares"]["layout"]["yaxis"]["ticktext"].index("gut03")
        for bar in bars:
            row = table[table["class"].map(plotly_text) == bar["name"]].iloc[0]
            assert bar["x"][at] == pytest.approx(float(row["share_corrected"]), abs=1e-5)
        assert left_out["x"][at] == 0.7
        assert section.context["names"] == "gut03"
        assert section.context["notes"] == [
            {"text": "12.0% of the reads are shorter than the test reads", "samples": "gut03"}
        ]

    def test_a_class_may_be_called_unclassified(self, copy: Path) -> None:
        for path in copy.glob("samples/*/shares.tsv"):
            path.write_text(path.read_text().replace("007\t", "unclassified\t"))
        *bars, left_out = built(copy, "samples").payload["figures"]["shares"]["data"]
        assert "unclassified" in {bar["name"] for bar in bars}
        assert np.allclose(np.sum([bar["x"] for bar in bars], axis=0), 1, atol=1e-4)
        assert max(left_out["x"]) == 0.7

    def test_a_sample_without_a_classified_read(self, copy: Path) -> None:
        path = copy / "samples/gut05/shares.tsv"
        table = pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)
        table.loc[:4, ["share", "share_corrected", "low", "high"]] = ""
        table.to_csv(path, sep="\t", index=False)
        section = built(copy, "samples")
        assert "gut05" not in section.payload["figures"]["shares"]["layout"]["yaxis"]["ticktext"]
        assert section.context["n_samples"] == 8
        assert "samples" in sections_of(page_of(copy))

    def test_notes_of_all_samples_are_said_once(self, copy: Path) -> None:
        for path in copy.glob("samples/*/shares.json"):
            changed(path, notes=["shares are not corrected."])
        assert built(copy, "samples").context["notes"] == [
            {"text": "shares are not corrected", "samples": "All samples"}
        ]
