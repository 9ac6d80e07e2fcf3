"""The simulated libraries hold what their truth says."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from latentomics.simulate.transcripts import BARCODE, LibraryParams, simulate_library

SMALL = LibraryParams(samples=("a", "b"), cells=6, empties=10, cell_umis=50, error_rate=0.0005, whitelist=50)


def reads(data: bytes) -> list[bytes]:
    return gzip.decompress(data).splitlines()[1::4]


def test_the_same_parameters_give_the_same_bytes() -> None:
    one, other = simulate_library(SMALL), simulate_library(SMALL)
    assert one.files == other.files and set(one.files) == {
        *("genome.fa.gz", "genes.gtf.gz", "whitelist.txt"),
        *(f"{sample}_{mate}.fastq.gz" for sample in "ab" for mate in ("R1", "R2")),
    }
    for name, data in one.files.items():
        assert not name.endswith(".gz") or data[4:8] == bytes(4), "no time of day"
    assert one.files["a_R1.fastq.gz"] != one.files["b_R1.fastq.gz"]


def test_reads_hold_the_molecules_of_the_truth() -> None:
    """Barcode, UMI and gene of each read by exact matching, with the transcripts spliced from the files here."""
    library = simulate_library(SMALL)
    parts = gzip.decompress(library.files["genome.fa.gz"]).decode().split(">")[1:]
    genome = {part.split("\n")[0]: "".join(part.split("\n")[1:]) for part in parts}
    swap = str.maketrans("ACGT", "TGCA")
    exons: dict[tuple[str, str], str] = {}
    strand = {}
    for line in gzip.decompress(library.files["genes.gtf.gz"]).decode().splitlines():
        fields = line.split("\t")
        if fields[2] == "exon":
            words = fields[8].replace('"', "").replace(";", "").split()
            key = words[words.index("gene_id") + 1], words[words.index("transcript_id") + 1]
            exons[key] = exons.get(key, "") + genome[fields[0]][int(fields[3]) - 1 : int(fields[4])]
            strand[key] = fields[6]
    spliced = {key: s if strand[key] == "+" else s.translate(swap)[::-1] for key, s in exons.items()}
    found: dict[tuple[str, str], set[bytes]] = {}
    n_matched = 0
    pairs = list(zip(reads(library.files["a_R1.fastq.gz"]), reads(library.files["a_R2.fastq.gz"]), strict=True))
    for first, rna in pairs:
        genes = {gene for (gene, _), sequence in spliced.items() if rna.decode() in sequence}
        n_matched += bool(genes)
        for gene in genes:
            found.setdefault((first[:BARCODE].decode(), gene), set()).add(first[BARCODE:])
    truth = library.truth["a"]
    assert len(pairs) == truth.n_reads
    assert n_matched / len(pairs) == pytest.approx(1 - SMALL.intergenic, abs=0.08)
    counted = truth.counts * 0
    for (barcode, gene), umis in found.items():
        if barcode in counted.index:
            counted.loc[barcode, gene] = len(umis)
    assert np.corrcoef(counted.to_numpy().ravel(), truth.counts.to_numpy().ravel())[0, 1] > 0.98


def test_cells_stand_out_and_their_types_differ() -> None:
    truth = simulate_library(LibraryParams(samples=("a",))).truth["a"]
    totals = truth.counts.sum(axis=1)
    assert totals[truth.cell_type != ""].min() > 4 * totals[truth.cell_type == ""].max()
    means = truth.counts.groupby(truth.cell_type).mean()
    share = means.div(means.sum(axis=1), axis=0)
    fold = share.loc["type1"] / share.loc["type2"]
    assert (fold > 3).sum() >= 8 and (fold < 1 / 3).sum() >= 8


def test_values_out_of_range_are_told() -> None:
    with pytest.raises(ValueError, match="reads_per_umi must be at least 1; whitelist must hold"):
        LibraryParams(reads_per_umi=0.5, whitelist=3)
