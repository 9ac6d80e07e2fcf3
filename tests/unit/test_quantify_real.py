"""Published reads of cells: counts against a direct count of the reads, and what a user sees where hardly any map."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from latentomics.config.quantify import Quantify
from latentomics.config.row import InputRow
from latentomics.scrna.quantify.inspect import check_reads
from latentomics.scrna.quantify.reference import build_reference
from latentomics.scrna.quantify.sample import quantify_sample

MIRROR = Path(os.environ.get("LATENTOMICS_MIRROR") or Path(__file__).parents[2] / ".." / "shared" / "data")
ERCC, TENX = MIRROR / "fastq_celseq_ercc", MIRROR / "fastq_10xv2"
pytestmark = [
    pytest.mark.mirror,
    pytest.mark.skipif(not ERCC.is_dir(), reason="the mirror of real data is not here (LATENTOMICS_MIRROR)"),
]
#: The second file holds the UMI, then the barcode; the first one the RNA.
POSITIONS = "1,6,14:1,0,6:0,0,0"


def records(file: Path) -> Iterator[str]:
    with gzip.open(file, "rt") as stream:
        for number, line in enumerate(stream):
            if number % 4 == 1:
                yield line.strip()


def fasta(file: Path) -> dict[str, str]:
    return {part.split("\n")[0].strip(): "".join(part.split("\n")[1:]) for part in file.read_text().split(">")[1:]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ad.AnnData, dict[str, Any]]]:
    """Every set and setting, at the same time, as kb mostly waits."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "ercc.t2g").write_text("".join(f"{name}\t{name}\n" for name in fasta(ERCC / "ERCC92.fa")))
    combined = (TENX / "lamanno_cdna.fa").read_bytes() + gzip.decompress((TENX / "lamanno_intron.fa.gz").read_bytes())
    (folder / "lamanno.fa").write_bytes(combined)
    ercc = {"transcripts": str(ERCC / "ERCC92.fa"), "transcripts_to_genes": "ercc.t2g", "technology": POSITIONS}
    tenx = {"technology": "10xv2"}
    with gzip.open(TENX / "mouse_truncated.fasta.gz", "rt") as stream:
        titles = [line[1:].split() for line in stream if line.startswith(">")]
    words = [dict(word.split(":", 1) for word in title[1:] if ":" in word) for title in titles]
    lines = [f"{title[0]}\t{word['gene']}\t{word['gene_symbol']}\n" for title, word in zip(titles, words, strict=True)]
    (folder / "mouse.t2g").write_text("".join(lines))
    mouse = {"transcripts": TENX / "mouse_truncated.fasta.gz", "transcripts_to_genes": "mouse.t2g"}
    nuclei = {"transcripts": "lamanno.fa", "transcripts_to_genes": TENX / "lamanno_t2g.txt"}
    cells = InputRow(2, "cel", "scrna", ERCC / "simu_R1.fastq.gz", "fastq", path_2=ERCC / "simu_R2.fastq.gz")
    small = InputRow(2, "small", "scrna", TENX / "R1.fastq.gz", "fastq", path_2=TENX / "R2.fastq.gz")
    large = InputRow(2, "large", "scrna", TENX / "lamanno_R1.fastq.gz", "fastq", path_2=TENX / "lamanno_R2.fastq.gz")
    wanted = {
        "auto": ([cells], ercc),
        "none": ([cells], {**ercc, "whitelist": "none"}),
        "small": ([small], {**tenx, **{key: str(file) for key, file in mouse.items()}}),
        "large": ([large], {**tenx, **{key: str(file) for key, file in nuclei.items()}}),
    }

    def run(name: str) -> tuple[ad.AnnData, dict[str, Any]]:
        rows, settings = wanted[name]
        quantify, out = Quantify(**settings), folder / name
        assert check_reads(rows[0], quantify, folder) == []
        reference = references[settings["transcripts"]]
        quantify_sample(rows, quantify, reference, out, 1, 2000)
        return ad.read_h5ad(out / "raw.h5ad"), json.loads((out / "quantification.json").read_text())

    distinct = {settings["transcripts"]: Quantify(**settings) for _, settings in wanted.values()}
    references = {name: folder / f"reference{i}" for i, name in enumerate(distinct)}
    with ThreadPoolExecutor(len(wanted)) as pool:
        list(pool.map(lambda name: build_reference(distinct[name], folder, references[name], 1), distinct))
        return dict(zip(wanted, pool.map(run, wanted), strict=True))


@pytest.fixture(scope="module")
def direct() -> pd.DataFrame:
    """Distinct UMIs per barcode and transcript, by exact matching of whole reads to either strand."""
    swap = str.maketrans("ACGT", "TGCA")
    length = len(next(records(ERCC / "simu_R1.fastq.gz")))
    where: dict[str, set[str]] = {}
    for name, sequence in fasta(ERCC / "ERCC92.fa").items():
        for strand in (sequence, sequence.translate(swap)[::-1]):
            for start in range(len(strand) - length + 1):
                where.setdefault(strand[start : start + length], set()).add(name)
    molecules = set()
    pairs = zip(records(ERCC / "simu_R1.fastq.gz"), records(ERCC / "simu_R2.fastq.gz"), strict=True)
    for rna, tag in pairs:
        if len(names := where.get(rna, set())) == 1:
            molecules.add((tag[6:14], tag[:6], *names))
    counted = Counter((barcode, name) for barcode, _, name in molecules)
    table = pd.DataFrame([(*key, n) for key, n in counted.items()], columns=["barcode", "transcript", "n"])
    return table.pivot_table(index="barcode", columns="transcript", values="n", fill_value=0)


def test_counts_are_those_of_a_direct_count(runs: dict, direct: pd.DataFrame) -> None:
    with (ERCC / "barcode_anno.csv").open() as stream:
        barcodes = sorted(row["barcode"] for row in csv.DictReader(stream))
    for name in ("auto", "none"):
        counts, figures = runs[name]
        assert sorted(counts.obs_names) == barcodes, "the ten barcodes, and nothing else"
        expected = direct.reindex(index=counts.obs_names, columns=counts.var_names, fill_value=0)
        found = counts.to_df()
        assert np.corrcoef(found.to_numpy().ravel(), expected.to_numpy().ravel())[0, 1] > 0.999
        assert abs(found.to_numpy().sum() - expected.to_numpy().sum()) <= 0.005 * expected.to_numpy().sum()
        assert figures["n_reads"] == 46_009 and figures["mapping_rate"] > 0.99 and figures["warnings"] == []
    assert "frequent" in runs["auto"][1]["notes"][0] and "kept as it was read" in runs["none"][1]["notes"][0]


@pytest.mark.parametrize(("name", "reads", "rate"), [("small", 2_500, 0.0136), ("large", 25_000, 0.0117)])
def test_hardly_any_read_maps_and_the_user_is_told(runs: dict, name: str, reads: int, rate: float) -> None:
    counts, figures = runs[name]
    assert figures["n_reads"] == reads and figures["mapping_rate"] == pytest.approx(rate, abs=0.0005)
    warning = figures["warnings"][0]
    assert f"sample '{name}': only {rate:.1%} of its {reads} reads map" in warning["what"]
    assert "organism" in warning["hint"]
    assert figures["whitelist"] == "10x_version2_whitelist.txt.gz" and counts.X.sum() == figures["n_umis"] > 0


def test_symbols_and_versions_of_the_table_are_kept(runs: dict) -> None:
    counts, figures = runs["small"]
    assert counts.var.loc["ENSMUSG00000095668.1", "symbol"] == "Trbd1"
    assert counts.var.loc["ENSMUSG00000095668.1", "ensembl"] == "ENSMUSG00000095668"
    assert figures["k"] == 31
