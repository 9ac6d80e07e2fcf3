"""Preflight: every matrix is looked into, and into none twice unless something that counts has changed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentomics.config.ingest import Ingest
from latentomics.config.model import Config
from latentomics.config.qc import QC
from latentomics.config.quantify import Quantify
from latentomics.config.row import InputRow
from latentomics.config.sheet import Sheet
from latentomics.io import checks, preflight
from latentomics.io.preflight import check_inputs
from latentomics.problems import Problem

GENE_SETS = Path(__file__).resolve().parents[2] / "resources/gene_sets.tsv"
N_GENES = 30


def write(path: Path, seed: int = 0, names: str = "ENSG{:011d}", n_cells: int = 12, **changes: float) -> Path:
    """Genes x cells, as a dense table; ``changes`` sets the first count to another value."""
    values = np.random.default_rng(seed).poisson(3, (N_GENES, n_cells)).astype(object)
    for value in changes.values():
        values[0, 0] = value
    genes = [names.format(i + 1) for i in range(N_GENES)]
    pd.DataFrame(values, index=genes, columns=[f"AAAC{i:04d}-1" for i in range(n_cells)]).to_csv(path)
    return path


class Preflight:
    """A sheet of small matrices, checked again and again with one memory; ``looked`` lists what was read."""

    def __init__(self, root: Path):
        self.root = root
        self.rows = [self.row(i, name, write(root / f"{name}.csv", seed=i)) for i, name in enumerate("ABC", 2)]
        self.memory = root / "results/.checked.json"
        self.gene_sets = root / "gene_sets.tsv"
        self.gene_sets.write_bytes(GENE_SETS.read_bytes())
        self.looked: list[str] = []
        self.said: list[str] = []
        self.quantify = Quantify()

    @staticmethod
    def row(number: int, sample: str, path: Path, **more) -> InputRow:
        return InputRow(number, sample, "scrna", path, "dense", **more)

    def run(self, qc: QC | None = None, organism: str = "human", workers: int = 1) -> list[Problem]:
        self.looked.clear()
        self.said.clear()
        sheet = Sheet(self.root / "samples.tsv", tuple(self.rows), ())
        config = Config(qc=qc or QC(), ingest=Ingest(organism=organism), quantify=self.quantify)
        return check_inputs(sheet, config, self.gene_sets, self.memory, workers, self.said.append)


@pytest.fixture
def study(tmp_path, monkeypatch) -> Preflight:
    made = Preflight(tmp_path)
    real = checks.inspect_row

    def counted(row, further=None):
        made.looked.append(row.sample)
        return real(row, further)

    monkeypatch.setattr(checks, "inspect_row", counted)
    return made


def test_good_matrices_are_read_once(study):
    assert study.run() == []
    assert study.looked == ["A", "B", "C"]
    assert study.said == ["Checking 3 inputs (0 are known from an earlier run)."]
    assert study.run() == []
    assert (study.looked, study.said) == ([], [])


def test_problems_are_remembered_too(study):
    write(study.root / "B.csv", first=-1)
    first = study.run()
    assert [p.file for p in first] == [str(study.root / "B.csv")]
    assert "1 negative values" in first[0].what
    assert first[0].value == -1
    assert study.run() == first
    assert study.looked == []
    write(study.root / "B.csv")
    assert study.run() == []
    assert study.looked == ["B"]


def test_one_bad_row_among_good_ones(study):
    (study.root / "A.csv").write_bytes(b"\x1f\x8b\x08 cut")
    write(study.root / "C.csv", first=0.5)
    problems = study.run()
    assert sorted({Path(p.file).name for p in problems}) == ["A.csv", "C.csv"]
    assert study.looked == ["A", "B", "C"]


def test_a_changed_file_is_read_again(study):
    study.run()
    path = study.root / "B.csv"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    study.run()
    assert study.looked == ["B"]
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # another size at the same time
    study.run()
    assert study.looked == ["B"]
    study.run()
    assert study.looked == []


def test_files_beside_the_matrix_count(study):
    table = study.root / "cells.csv"
    pd.DataFrame({"donor": ["d"] * 12}, index=[f"AAAC{i:04d}-1" for i in range(12)]).to_csv(table)
    study.rows[0] = replace(study.rows[0], metadata=table, covariates={"donor": "obs:donor"})
    assert study.run() == []
    table.write_text(table.read_text().replace("donor", "giver"))
    (problem,) = study.run()
    assert study.looked == ["A"]
    assert problem.key == "donor"


@pytest.mark.parametrize("change", ["qc", "organism", "gene sets", "code"])
def test_what_judges_the_cells_counts(study, monkeypatch, change):
    study.run()
    if change == "gene sets":
        study.gene_sets.write_text(study.gene_sets.read_text() + "\n")
    if change == "code":
        monkeypatch.setattr(preflight, "fingerprint", lambda *_: "another")
    study.run(qc=QC(n_mads=4) if change == "qc" else None, organism="mouse" if change == "organism" else "human")
    assert study.looked == ["A", "B", "C"]


def test_a_mended_list_of_barcodes_is_looked_at_again(study, tmp_path):
    listed = tmp_path / "barcodes.txt"
    listed.write_text("ACGT\n")
    study.quantify = Quantify(whitelist=str(listed))
    study.run()
    study.run()
    assert not any("Checking" in line for line in study.said)
    listed.write_text("ACGT\nTTTT\n")
    study.run()
    assert any("Checking 3" in line for line in study.said)


def test_a_row_may_move_in_the_sheet(study):
    study.run()
    study.rows = [replace(row, row=row.row + 5) for row in reversed(study.rows)]
    study.run()
    assert study.looked == []
    study.rows.append(study.row(20, "D", write(study.root / "D.csv", seed=9)))
    study.run()
    assert study.looked == ["D"]
    del study.rows[:2]
    assert study.run() == []
    assert study.looked == []


def test_a_row_that_says_something_else_is_read_again(study):
    study.run()
    study.rows[1] = replace(study.rows[1], covariates={"donor": "obs:donor"})
    (problem,) = study.run()
    assert study.looked == ["B"]
    assert problem.key == "donor"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe\x00", b'{"other": 1}'])
def test_a_damaged_memory_is_made_anew(study, content):
    study.memory.parent.mkdir()
    study.memory.write_bytes(content)
    assert study.run() == []
    assert study.looked == ["A", "B", "C"]
    assert len(json.loads(study.memory.read_text())) == 3
    study.run()
    assert study.looked == []


def test_all_cells_fail_by_fixed_limits(study):
    problems = study.run(qc=QC(min_counts=10_000, n_mads=None))
    assert [p.file for p in problems] == [str(row.path) for row in study.rows]
    assert all("all 12 cells fail QC (12 low counts)" in p.what for p in problems)
    assert study.run(qc=QC(min_counts=1, n_mads=None)) == []


def test_qc_judges_samples_not_lanes(study):
    # One lane of two may lose all its cells: the rule judges them together.
    write(study.root / "B.csv", n_cells=3)
    qc = QC(min_genes=N_GENES + 1)
    study.rows[1] = replace(study.rows[1], sample="A")
    assert [Path(p.file).name for p in study.run(qc=qc)] == ["C.csv"]
    # The same lane alone is a sample, though neither it nor its file has changed.
    del study.rows[1]
    assert [Path(p.file).name for p in study.run(qc=qc)] == ["A.csv", "C.csv"]


def test_genes_named_in_two_ways(study):
    write(study.root / "B.csv", names="RPL{}")
    (problem,) = study.run()
    assert problem.file == str(study.root / "samples.tsv")
    assert "samples name their genes differently" in problem.what
    assert "A, C" in problem.what
    assert study.run() == [problem]
    assert study.looked == []


def test_genes_named_in_two_ways_within_a_sample(study):
    write(study.root / "A.csv", names="RPL{}")
    study.rows = [study.rows[0], replace(study.rows[1], sample="A")]
    (problem,) = study.run()
    assert "A (row 2)" in problem.what
    assert "A (row 3)" in problem.what


def test_two_organisms(study):
    write(study.root / "C.csv", names="ENSMUSG{:011d}")
    (problem,) = study.run(organism="auto")
    assert "samples of different organisms (human: A, B; mouse: C)" in problem.what


def test_in_processes_of_their_own(study):
    write(study.root / "A.csv", first=-1)
    write(study.root / "C.csv", first=0.5)
    alone = study.run()
    remembered = json.loads(study.memory.read_text())
    study.memory.unlink()
    assert study.run(workers=2) == alone
    assert study.looked == []  # not in this process
    assert json.loads(study.memory.read_text()) == remembered
    assert list(json.loads(study.memory.read_text())) == list(remembered)


#: Number and kind of the process that runs it; a function of this file could not be found from another process.
_WHERE = partial(eval, "[__import__('os').getpid(), type(__import__('multiprocessing').current_process()).__name__]")


def test_processes_are_spawned():
    made = list(preflight._each([_WHERE] * 2, workers=2))
    assert os.getpid() not in {number for number, _ in made}
    assert {kind for _, kind in made} == {"SpawnProcess"}


def test_one_matrix_or_one_worker_needs_no_process():
    here = _WHERE()
    assert list(preflight._each([_WHERE], workers=8)) == [here]
    assert list(preflight._each([_WHERE] * 2, workers=1)) == [here] * 2
    assert list(preflight._each([], workers=8)) == []


def test_order_of_results_is_that_of_the_rows():
    assert list(preflight._each([partial(dict, n=i) for i in range(5)], workers=2)) == [{"n": i} for i in range(5)]
