"""The section on resources: what it says of the jobs, where its points lie, and records that are damaged."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from make_results import HOSTILE, make_results
from make_usage import make_records, record
from report_pages import prose_of, sections_of

from latentomics.report.encode import plotly_text
from latentomics.report.page import render, run_chapter, write_report
from latentomics.report.registry import RUN_SECTIONS, builders
from latentomics.report.section import Section
from latentomics.report.sections.resources import MAX_DRAWN, most_per_rule
from latentomics.resources.account import OVER, UNDER, job_table
from latentomics.resources.usage import read_usage

LIMITS = {"max_points": 100, "max_genes": 5, "n_top_markers": 2, "seed": 0}


def built(records: list[dict[str, Any]]) -> Section:
    section = builders(RUN_SECTIONS)["resources"](job_table(records))
    assert section is not None
    return section


def page_of(records: list[dict[str, Any]]) -> str:
    return render([run_chapter(job_table(records))], "t")


def points(section: Section, measure: str) -> dict[str, dict[str, Any]]:
    """The traces of a figure that hold jobs, by their name."""
    return {trace["name"]: trace for trace in section.payload["figures"][measure]["data"] if "name" in trace}


class TestTable:
    def test_one_row_per_rule_what_must_be_looked_at_first(self) -> None:
        records = make_records(30, 8)
        rows = built([*records, record("a_waste", peak_mb=100)]).context["rows"]
        assert len(rows) == 31
        assert [row["rule"] for row in rows[:3]] == ["rule_00", "rule_28", "a_waste"]
        assert [row["under"] for row in rows[:4]] == [True, True, False, False]
        assert [row["rule"] for row in rows[3:]] == sorted(row["rule"] for row in rows[3:])
        assert rows[0]["flags"] == [f"memory under by 131 %: sample {HOSTILE}"]
        assert (rows[0]["jobs"], rows[0]["attempts"]) == (8, 2)
        assert [cell["bad"] for cell in rows[0]["cells"]] == [False, False, True, False, False, False]
        assert [cell["bad"] for cell in rows[1]["cells"]] == [False, False, False, False, False, True]

    def test_amounts_as_people_read_them(self) -> None:
        (row,) = built([record(peak_mb=2048, predicted_mb=1024, seconds=65, predicted_s=130)]).context["rows"]
        assert [cell["text"] for cell in row["cells"]] == [
            *("1.0 GB", "2.0 GB", "200\u00a0%", "2 min 10 s", "1 min 5 s", "50\u00a0%"),
        ]

    @pytest.mark.parametrize(
        ("gpu", "device", "said"),
        [
            (False, "cpu", ""),
            (True, "cpu", "asked for, ran on CPU"),
            (True, "NVIDIA A100", "asked for, ran on NVIDIA A100"),
            (False, "NVIDIA A100", "not asked for, ran on NVIDIA A100"),
        ],
    )
    def test_gpu(self, gpu: bool, device: str, said: str) -> None:
        assert built([record(gpu=gpu, device=device)]).context["rows"][0]["gpu"] == said

    def test_says_how_many_rules_are_flagged_and_where_a_site_changes_them(self) -> None:
        prose = prose_of(page_of(make_records(30, 8)))
        assert "2 of 30 rules flagged" in prose
        assert "mem_mb" in prose
        assert "in slurm/config.yaml , more under set-resources" in prose
        assert "are not in the table" in prose
        assert "more than 1.2 times" in prose
        assert "less than 1/4" in prose
        assert "from 1 minute on" in prose

    def test_says_so_where_nothing_is_flagged_or_judged(self) -> None:
        prose = prose_of(page_of([record(), record("b"), {"rule": "c"}]))
        assert "of 2 jobs that can be judged, none went beyond a bound" in prose
        assert "slurm/config.yaml" not in prose
        prose = prose_of(page_of([{"rule": "c"}]))
        assert "Nothing was predicted" in prose
        assert "beyond a bound" not in prose


class TestFigures:
    def test_points_lie_where_the_jobs_do_and_are_of_their_kind(self) -> None:
        records = [
            record("in", peak_mb=900, seconds=300, predicted_s=310),
            record("under", peak_mb=1500, seconds=2, predicted_s=3),
            record("over", peak_mb=100, gpu=True, device="NVIDIA A100", seconds=200, predicted_s=5000),
        ]
        section = built(records)
        memory, time = points(section, "memory"), points(section, "time")
        assert memory["within the bounds"]["x"] == [1000]
        assert memory["within the bounds"]["y"] == [900]
        assert set(zip(memory["beyond a bound"]["x"], memory["beyond a bound"]["y"], strict=True)) == {
            *((1000, 1500), (1000, 100)),
        }
        assert "not judged" not in memory
        assert time["within the bounds"]["y"] == [300]
        assert sorted(time["not judged"]["y"]) == [2, 200]

    def test_bounds_are_drawn_where_they_are_judged(self) -> None:
        section = built([record(), record("b", peak_mb=30)])
        for figure in section.payload["figures"].values():
            lines = [trace for trace in figure["data"] if trace["mode"] == "lines"]
            assert [line["y"][0] / line["x"][0] for line in lines] == pytest.approx([UNDER, 1 / OVER])
            assert [line["y"][1] / line["x"][1] for line in lines] == pytest.approx([UNDER, 1 / OVER])

    def test_axes_hold_every_point_and_are_the_same(self) -> None:
        for figure in built(make_records(30, 8)).payload["figures"].values():
            across, up = figure["layout"]["xaxis"], figure["layout"]["yaxis"]
            assert across["range"] == up["range"]
            low, high = (10**end for end in across["range"])
            values = [v for trace in figure["data"] if "name" in trace for v in (*trace["x"], *trace["y"])]
            assert low < min(values) <= max(values) < high
            assert 2 <= len(across["tickvals"]) <= 5
            assert all(low <= value <= high for value in across["tickvals"])

    def test_hover_names_the_job(self) -> None:
        section = built([record(wildcards={"sample": "<b>x</b>"}, peak_mb=512, mem_mb=1300, attempts=2)])
        (text,) = points(section, "memory")["within the bounds"]["text"]
        assert text.split("<br>") == [
            "scrna_sample",
            f"sample {plotly_text('<b>x</b>')}",
            "used 512 MB of 1000 MB predicted (51\u00a0%)",
            "asked for: 1.3 GB",
            "on CPU",
            "2 attempts",
        ]
        (text,) = points(section, "time")["within the bounds"]["text"]
        assert "asked for: 10 min 0 s" in text

    def test_many_jobs_are_thinned_and_every_rule_keeps_those_that_matter(self) -> None:
        records = make_records(30, 400)
        # Far off, but too short to be judged: they must not push out one that is.
        records += [record("short", wildcards={"i": i}, seconds=50, predicted_s=1) for i in range(300)]
        records.append(record("short", wildcards={"i": "long"}, seconds=130, predicted_s=100))
        section = built(records)
        for measure in ("memory", "time"):
            drawn = points(section, measure)
            assert sum(len(trace["x"]) for trace in drawn.values()) <= MAX_DRAWN
        assert any("i long" in text for text in points(section, "time")["beyond a bound"]["text"])
        assert any(plotly_text(HOSTILE) in text for text in points(section, "memory")["beyond a bound"]["text"])
        most = most_per_rule(job_table(records))
        assert section.context["most"] == most == MAX_DRAWN // 31
        assert f"Of each rule the {most} jobs are drawn" in prose_of(page_of(records))
        assert "are drawn" not in prose_of(page_of(make_records(30, 8)))


class TestPage:
    def test_last_chapter_of_the_page_and_absent_without_jobs(self, tmp_path: Path) -> None:
        cells = make_results(tmp_path / "scrna", n_cells=200, n_genes=24)
        out = tmp_path / "report.html"
        write_report({"scrna": cells}, out, "t", **LIMITS, jobs=job_table(make_records()))
        page = out.read_text()
        assert sections_of(page)[-1] == "run-resources"
        assert '<h1 class="chapter" id="chapter-run">This run</h1>' in page
        write_report({"scrna": cells}, out, "t", **LIMITS, jobs=job_table([]))
        assert "chapter-run" not in out.read_text()
        assert sections_of(out.read_text())[0] == "overview"

    def test_nothing_of_the_records_runs(self) -> None:
        hostile = {"rule": HOSTILE, "device": HOSTILE, "quantity": HOSTILE, "wildcards": {HOSTILE: HOSTILE}}
        page = page_of([record(**hostile, peak_mb=9000), record(gpu=True)])
        assert HOSTILE not in page
        assert len(re.findall(r"<script>", page)) == 5
        assert f"memory under by 800 %: {HOSTILE} {HOSTILE}" in prose_of(page)
        (payload,) = re.findall(r'class="payload">(.*?)</script>', page, re.DOTALL)
        drawn = json.dumps(json.loads(payload))
        assert HOSTILE not in drawn
        assert plotly_text(HOSTILE) in drawn
        assert "hovertemplate" not in drawn

    def test_damaged_records_leave_the_others(self, tmp_path: Path) -> None:
        usage = tmp_path / "usage"
        usage.mkdir()
        start = {"event": "start", "rule": "good", "wildcards": {}}
        end = {"event": "end", **{k: v for k, v in record().items() if k not in ("rule", "wildcards", "attempts")}}
        whole = f"{json.dumps(start)}\n{json.dumps(end)}\n"
        odd = json.dumps(end | {"predicted_mb": "lots", "peak_mb": -1, "seconds": None, "device": 3, "size": [1]})
        for name, content in {
            "good": whole.encode(),
            "empty": b"",
            "bytes": b"\xff\xfe\x00{",
            "list": b'[1, 2]\n"text"\nnull\n',
            "cut": whole.encode()[:-30],
            "odd": f"{json.dumps(start | {'rule': 'odd', 'wildcards': 'none'})}\n{odd}\n".encode(),
            "no_start": json.dumps(end).encode(),
            "nan": json.dumps([math.nan]).encode(),
        }.items():
            (usage / f"{name}.jsonl").write_bytes(content)
        jobs = job_table(read_usage(usage))
        assert jobs["rule"].tolist() == ["good", "odd"]
        assert jobs["memory"].tolist() == ["within", "not judged"]
        assert sections_of(render([run_chapter(jobs)], "t")) == ["resources"]
        assert job_table(read_usage(tmp_path / "none")).empty

    def test_file_holds_the_rules(self, tmp_path: Path) -> None:
        """What the script writes is read as it was, a rule without a ratio too."""
        from latentomics.resources.account import rule_table

        rules = rule_table(job_table([*make_records(6, 3), {"rule": "bare"}]))
        rules.to_csv(tmp_path / "resources.tsv", sep="\t", index=False, float_format="%.6g")
        again = pd.read_csv(tmp_path / "resources.tsv", sep="\t", keep_default_na=False, na_values={"used_mb": [""]})
        assert again["rule"].tolist() == rules["rule"].tolist()
        assert again["flags"].tolist() == rules["flags"].tolist()
        assert again["used_mb"].to_numpy() == pytest.approx(
            rules["used_mb"].to_numpy(dtype=float), rel=1e-5, nan_ok=True
        )
