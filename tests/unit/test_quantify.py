"""Reads to counts by kallisto | bustools: simulated libraries whose molecules are known."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentomics.config.quantify import Quantify
from latentomics.config.row import InputRow
from latentomics.problems import InputError
from latentomics.scrna.quantify.inspect import check_reads
from latentomics.scrna.quantify.reference import build_reference
from latentomics.scrna.quantify.sample import _memory_for_sorting, quantify_sample
from latentomics.simulate.transcripts import Library, LibraryParams, simulate_library

PARAMS = LibraryParams(seed=3, samples=("a",), cells=60, empties=80, cell_umis=250)
SETTINGS = {
    "technology": "10xv2",
    "genome": "genome.fa.gz",
    "annotation": "genes.gtf.gz",
    "whitelist": "whitelist.txt",
}


@pytest.fixture(scope="module")
def library() -> Library:
    return simulate_library(PARAMS)


class Study:
    """A study's folder with its reference and some ways to count one library, run at the same time, as kb mostly waits."""

    def __init__(self, folder: Path, library: Library) -> None:
        for name, data in library.files.items():
            (folder / name).write_bytes(data)
        self.folder = folder
        (folder / "unlisted.txt").write_text("ACGTACGTACGTACGT\nTTTTTTTTTTTTTTTT\n")
        self.quantify = Quantify(**{**SETTINGS, "whitelist": str(folder / "whitelist.txt")})
        self.row = InputRow(2, "a", "scrna", folder / "a_R1.fastq.gz", "fastq", path_2=folder / "a_R2.fastq.gz")
        build_reference(self.quantify, folder, folder / "reference", 1)
        runs = {
            "whole": ([self.row], self.quantify),
            "lanes": (self._lanes(), self.quantify),
            "nowhere": ([self._nothing()], self.quantify),
            "unlisted": ([self.row], self.quantify.model_copy(update={"whitelist": str(folder / "unlisted.txt")})),
            "none": ([self.row], self.quantify.model_copy(update={"whitelist": "none", "min_mapping_rate": 0.95})),
        }
        with ThreadPoolExecutor(len(runs)) as pool:
            done = {name: pool.submit(self.count, name, *run) for name, run in runs.items()}
        self.failed = {name: done.pop(name).exception() for name in ("nowhere", "unlisted")}
        for run in done.values():
            run.result()

    def _lanes(self) -> list[InputRow]:
        rows = []
        for lane in range(2):
            files = []
            for mate in ("R1", "R2"):
                lines = gzip.decompress((self.folder / f"a_{mate}.fastq.gz").read_bytes()).splitlines(keepends=True)
                half = len(lines) // 8 * 4
                files.append(self.folder / f"a, lane {lane}_{mate}.fastq")
                files[-1].write_bytes(b"".join(lines[half:] if lane else lines[:half]))
            rows.append(replace(self.row, path=files[0], path_2=files[1]))
        return rows

    def _nothing(self) -> InputRow:
        files = [self.folder / f"nothing_{mate}.fastq" for mate in ("R1", "R2")]
        for file, read in zip(files, ("A" * 26, "N" * 75), strict=True):
            file.write_text(f"@r\n{read}\n+\n{'I' * len(read)}\n")
        return replace(self.row, path=files[0], path_2=files[1])

    def count(self, name: str, rows: list[InputRow], quantify: Quantify) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        quantify_sample(rows, quantify, self.folder / "reference", self.folder / name, 1, 1000)

    def read(self, name: str) -> tuple[ad.AnnData, dict[str, Any]]:
        figures = json.loads((self.folder / name / "quantification.json").read_text())
        return ad.read_h5ad(self.folder / name / "raw.h5ad"), figures


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, library: Library) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("study")
    yield Study(folder, library)
    shutil.rmtree(folder)


def test_the_reference_is_that_of_the_annotation(study: Study, library: Library) -> None:
    facts = json.loads((study.folder / "reference/reference.json").read_text())
    assert facts["kind"] == "genome" and facts["k"] == 31 and facts["n_genes"] == PARAMS.n_genes
    table = pd.read_csv(study.folder / "reference/t2g.txt", sep="\t", header=None)
    assert len(table) == facts["n_targets"] > PARAMS.n_genes, "genes of three exons have two transcripts"
    symbols = dict(zip(table[1], table[2], strict=True))
    assert symbols == {gene.ensembl: gene.symbol for gene in library.genes}
    assert sorted(p.name for p in (study.folder / "reference").iterdir()) == ["index.idx", "reference.json", "t2g.txt"]


def test_counts_are_the_simulated_molecules(study: Study, library: Library) -> None:
    counts, figures = study.read("whole")
    truth = library.truth["a"].counts
    assert counts.X.dtype == np.int32 and counts.X.format == "csr" and counts.X.has_sorted_indices
    assert list(counts.var_names) == list(truth.columns) and list(counts.var["ensembl"]) == list(truth.columns)
    assert counts.obs_names.is_monotonic_increasing and counts.obs_names.isin(truth.index).all()
    found = counts.to_df().reindex(truth.index, fill_value=0)
    assert np.corrcoef(found.to_numpy().ravel(), truth.to_numpy().ravel())[0, 1] > 0.999
    # Errors in UMIs make molecules that are none, at ten bases times the error rate per read.
    assert 1 <= found.to_numpy().sum() / truth.to_numpy().sum() < 1 + 2 * 10 * PARAMS.error_rate * PARAMS.reads_per_umi
    assert figures["n_umis"] == found.to_numpy().sum()


def test_figures_are_those_of_the_simulation(study: Study, library: Library) -> None:
    truth = library.truth["a"]
    _, figures = study.read("whole")
    assert figures["n_reads"] == truth.n_reads
    assert figures["mapping_rate"] == pytest.approx(1 - PARAMS.intergenic, abs=0.01)
    # Sixteen bases without an error.
    assert figures["barcodes_exact"] == pytest.approx((1 - PARAMS.error_rate) ** 16, abs=0.01)
    assert figures["barcodes_exact"] + figures["barcodes_corrected"] > 0.999
    assert figures["reads_per_umi"] == pytest.approx(PARAMS.reads_per_umi, rel=0.05)
    assert figures["saturation"] == pytest.approx(1 - 1 / figures["reads_per_umi"])
    assert figures["n_barcodes"] == (truth.counts.sum(axis=1) > 0).sum()
    assert figures["warnings"] == [] and figures["k"] == 31 and set(figures["versions"]) >= {"kallisto", "bustools"}


def test_lanes_give_the_same_bytes_as_one_file(study: Study) -> None:
    """The order of the work, the names of the files and the time of day leave no trace in the counts."""
    assert (study.folder / "lanes/raw.h5ad").read_bytes() == (study.folder / "whole/raw.h5ad").read_bytes()
    _, figures = study.read("lanes")
    assert "Reads of 2 rows were merged." in figures["notes"]


def test_without_a_list_every_barcode_stays(study: Study) -> None:
    counts, figures = study.read("none")
    listed, _ = study.read("whole")
    assert listed.obs_names.isin(counts.obs_names).all() and counts.n_obs > listed.n_obs * 1.5
    assert figures["whitelist"] == "none" and figures["barcodes_exact"] is None
    (warning,) = figures["warnings"]
    assert "'a': only 9" in warning["what"] and "min_mapping_rate" in warning["what"] and warning["hint"]


def test_nothing_is_left_of_the_way_there(study: Study) -> None:
    for name in ("whole", "lanes", "none"):
        assert sorted(p.name for p in (study.folder / name).iterdir()) == ["quantification.json", "raw.h5ad"]


def test_the_check_of_first_reads_agrees(study: Study) -> None:
    assert check_reads(study.row, study.quantify, study.folder) == []
    (problem,) = check_reads(study.row, study.quantify.model_copy(update={"whitelist": "auto"}), study.folder)
    assert "only 0.0%" in problem.what, "the simulated barcodes are not 10x's"


def test_a_file_cut_short_far_in_is_named_by_the_job(study: Study, tmp_path: Path) -> None:
    """kallisto itself would count what comes before, and say nothing."""
    cut = tmp_path / "cut_R2.fastq.gz"
    assert study.row.path_2 is not None
    whole = study.row.path_2.read_bytes()
    cut.write_bytes(whole[: int(0.95 * len(whole))])
    row = replace(study.row, path_2=cut)
    assert check_reads(row, study.quantify, study.folder) == [], "the first reads are sound"
    with pytest.raises(InputError, match="sample 'a': the file is cut short") as caught:
        study.count("cut", [row], study.quantify)
    assert caught.value.problems[0].file == str(cut)
    assert list((study.folder / "cut").iterdir()) == []


def test_files_of_unlike_length_are_named_by_the_job(study: Study, tmp_path: Path) -> None:
    short = tmp_path / "short_R2.fastq"
    assert study.row.path_2 is not None
    lines = gzip.decompress(study.row.path_2.read_bytes()).splitlines(keepends=True)
    short.write_bytes(b"".join(lines[:-8]))
    with pytest.raises(InputError, match="the files of a row must hold the same reads"):
        study.count("short", [replace(study.row, path_2=short)], study.quantify)


def test_reads_that_map_nowhere_are_an_error_of_the_input(study: Study) -> None:
    assert isinstance(study.failed["nowhere"], InputError)
    assert "'a': none of its 1 reads map" in str(study.failed["nowhere"])
    assert list((study.folder / "nowhere").iterdir()) == []


def test_a_list_that_holds_no_barcode_of_the_reads_is_an_error_of_the_input(study: Study) -> None:
    assert isinstance(study.failed["unlisted"], InputError)
    assert "'a': no mapped read has a barcode of the list" in str(study.failed["unlisted"])


@pytest.mark.parametrize(("reads", "memory", "expected"), [(1000, 1000, 64), (10**7, 4000, 369), (10**9, 4000, 2400)])
def test_sorting_takes_what_the_reads_need_and_no_more_than_there_is(reads: int, memory: int, expected: int) -> None:
    assert _memory_for_sorting(reads, memory) == expected


def test_an_index_that_exists_is_taken_with_its_table(study: Study) -> None:
    given = Quantify(index="reference/index.idx", transcripts_to_genes="reference/t2g.txt")
    build_reference(given, study.folder, study.folder / "given", 1)
    for name in ("index.idx", "t2g.txt"):
        assert (study.folder / "given" / name).read_bytes() == (study.folder / "reference" / name).read_bytes()
    assert json.loads((study.folder / "given/reference.json").read_text())["kind"] == "index"
    table = study.folder / "half.t2g"
    lines = (study.folder / "reference/t2g.txt").read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:50]))
    with pytest.raises(InputError, match=f"{len(lines) - 50} of the {len(lines)} transcripts of index.idx"):
        build_reference(
            given.model_copy(update={"transcripts_to_genes": "half.t2g"}), study.folder, study.folder / "x", 1
        )
