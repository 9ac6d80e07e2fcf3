"""Read QC of a sample: against cutadapt's command line, adapters, bytes, faults, memory, real reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from read_qc_cases import ADAPTERS, PLAIN, TRUSEQ, dna, get, good, library, put, row

from latentomics.config.reads import Reads, host_names
from latentomics.metagenome import read_qc, trimming
from latentomics.metagenome.host import build_index
from latentomics.metagenome.read_qc import clean, step_names, write_cleaned
from latentomics.problems import InputError

MIRROR = os.environ.get("LATENTOMICS_MIRROR") or None


def cutadapt(folder: Path, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "cutadapt", "--quiet", *map(str, arguments)], check=True, cwd=folder)


# Against cutadapt's command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("poly_g", [False, True])
def test_pairs_are_those_of_cutadapt(tmp_path, poly_g):
    one, two = library(np.random.default_rng(0), 3000)
    paths = put(tmp_path / "1.fastq.gz", one), put(tmp_path / "2.fastq", two)
    params = Reads(poly_g=poly_g, min_quality=22, min_length=40, min_complexity=None, max_ambiguous=0.02)
    done = clean([row(*paths)], params, ADAPTERS, {}, tmp_path / "reads")
    quality = ("--nextseq-trim", "22") if poly_g else ("-q", "22")
    adapters = ("-a", TRUSEQ[0], "-A", TRUSEQ[1])
    limits = ("-m", "40", "--max-n", "0.02")
    cutadapt(tmp_path, *quality, *adapters, *limits, "-o", "c1.fastq", "-p", "c2.fastq", *paths)
    for m in (1, 2):
        assert get(tmp_path / "reads" / f"reads_{m}.fastq.gz") == get(tmp_path / f"c{m}.fastq")
    (run,) = done.summary["runs"]
    assert [(a["name"], a["mate"]) for a in run["adapters"]] == [("TruSeq read 1", 1), ("TruSeq read 2", 2)]


def test_single_reads_are_those_of_cutadapt_and_each_step_is_counted(tmp_path):
    reads, _ = library(np.random.default_rng(1), 2000)
    path = put(tmp_path / "a.fastq.gz", reads)
    params = Reads(adapters=[TRUSEQ[0]], poly_g=False, min_complexity=None)
    done = clean([row(path)], params, ADAPTERS, {}, tmp_path / "reads")
    expected = [("raw", reads)]
    for step, arguments in (("quality", ["-q", "20"]), ("adapters", ["-a", TRUSEQ[0]]), ("length", ["-m", "35"])):
        put(tmp_path / "in.fastq", expected[-1][1])
        cutadapt(tmp_path, *arguments, "-o", "out.fastq", "in.fastq")
        expected.append((step, get(tmp_path / "out.fastq")))
    expected.append(("clean", expected[-1][1]))
    table = [(step, len(kept), sum(len(r[1]) for r in kept)) for step, kept in expected]
    assert list(done.steps.itertuples(index=False, name=None)) == table
    assert get(tmp_path / "reads/reads.fastq.gz") == expected[-1][1]
    assert done.summary["mean_length"] == table[-1][2] / table[-1][1]


# Adapters and poly-G, detected ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kit", ["TruSeq read 1", "TruSeq read 2", "Nextera transposase", "MGI/BGI read 1"])
def test_the_adapter_of_a_run_is_found_and_gone(tmp_path, kit):
    rng = np.random.default_rng(2)
    sequence = trimming.read_adapters(ADAPTERS)[kit]
    inserts = [dna(rng, 60) for _ in range(500)]
    # One run has the adapter, the other none: what is cut is decided for each.
    with_adapter = put(tmp_path / "a.fastq", good(*((s + sequence + dna(rng, 60))[:100] for s in inserts)))
    without = put(tmp_path / "b.fastq", good(*(dna(rng, 100) for _ in range(500))))
    done = clean([row(with_adapter), row(without)], Reads(), ADAPTERS, {}, tmp_path / "reads")
    first, second = done.summary["runs"]
    assert [(a["name"], a["surveyed_share"], a["cut_from"]) for a in first["adapters"]] == [(kit, 1.0, 500)]
    assert second["adapters"] == []
    assert any("b.fastq: none of the known adapters" in note for note in done.summary["notes"])
    kept = get(tmp_path / "reads/reads.fastq.gz")
    # A chance extension of the match may take the insert's last bases, never more than the allowed errors explain.
    assert sum(s == insert for (_, s, _), insert in zip(kept[:500], inserts, strict=True)) > 490
    assert [s for _, s, _ in kept[500:]] == [s for _, s, _ in get(without)]


def test_only_the_first_reads_are_surveyed(tmp_path, monkeypatch):
    monkeypatch.setattr(trimming, "SURVEYED", 1500)
    rng = np.random.default_rng(3)
    plain = [dna(rng, 60) for _ in range(1500)]
    path = put(tmp_path / "a.fastq", good(*plain, *(dna(rng, 30) + TRUSEQ[0] for _ in range(500))))
    assert trimming.survey(row(path), trimming.read_adapters(ADAPTERS)) == (1500, Counter(), Counter())


@pytest.mark.parametrize(
    ("tails", "cut"), [({"G": 40}, True), ({"G": 40, "C": 30}, False), ({"G": 1}, False), ({}, False)]
)
def test_poly_g_is_recognised_by_its_excess_over_c(tmp_path, tails, cut):
    rng = np.random.default_rng(4)
    ends = "".join(base * n for base, n in tails.items())
    sequences = [dna(rng, 80) + "A" + base * 20 for base in ends] + [dna(rng, 99) + "AT" for _ in range(500)]
    done = clean([row(put(tmp_path / "a.fastq", good(*sequences)))], Reads(), ADAPTERS, {}, tmp_path / "reads")
    assert done.summary["runs"][0]["poly_g"] is cut
    ending = [s.endswith("G" * 10) for _, s, _ in get(tmp_path / "reads/reads.fastq.gz")]
    assert sum(ending) == (0 if cut else tails.get("G", 0))


def test_given_adapters_of_both_mates(tmp_path):
    rng = np.random.default_rng(5)
    one, two = dna(rng, 20), dna(rng, 20)
    first, second = [dna(rng, 50) for _ in range(50)], [dna(rng, 50) for _ in range(50)]
    pair = row(
        put(tmp_path / "1", good(*(s + one for s in first))), put(tmp_path / "2", good(*(s + two for s in second)))
    )
    params = Reads(**PLAIN | {"adapters": [one.lower()], "adapters_2": [two]})
    clean([pair], params, ADAPTERS, {}, tmp_path / "reads")
    assert [s for _, s, _ in get(tmp_path / "reads/reads_1.fastq.gz")] == first
    assert [s for _, s, _ in get(tmp_path / "reads/reads_2.fastq.gz")] == second


# The whole: bytes, faults, memory ------------------------------------------------------------------------------------


def test_twice_the_same_bytes_and_steps_only_shrink(tmp_path):
    one, two = library(np.random.default_rng(9), 500)
    pair = row(put(tmp_path / "1.gz", one), put(tmp_path / "2.gz", two))
    params = Reads(deduplicate=True, max_ambiguous=0.05)
    for name in ("a", "b"):
        done = clean([pair], params, ADAPTERS, {}, tmp_path / name / "reads")
        write_cleaned(done, tmp_path / name / "reads.tsv", tmp_path / name / "reads.json")
    for file in ("reads.tsv", "reads.json", "reads/reads_1.fastq.gz", "reads/reads_2.fastq.gz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    table = pd.read_csv(tmp_path / "a/reads.tsv", sep="\t")
    assert table["step"].tolist() == step_names(params)
    assert (table[["reads", "bases"]].diff().dropna() <= 0).all(axis=None)
    assert table["reads"].iloc[-1] == 2 * len(get(tmp_path / "a/reads/reads_1.fastq.gz"))
    assert json.loads((tmp_path / "a/reads.json").read_text())["n_clean"] == table["reads"].iloc[-1]


def test_a_late_fault_leaves_the_earlier_result_and_nothing_half_written(tmp_path):
    first = put(tmp_path / "a.fastq", good(*(dna(np.random.default_rng(0), 60) for _ in range(9))))
    cut = put(tmp_path / "b.fastq", good(*["ACGTTGCA" * 8] * 5000))
    cut.write_bytes(cut.read_bytes()[:-3])
    to = tmp_path / "out/reads"
    clean([row(first)], Reads(**PLAIN), ADAPTERS, {}, to)
    before = (to / "reads.fastq.gz").read_bytes()
    with pytest.raises(InputError, match="record 5000 is not"):
        clean([row(first), row(cut)], Reads(**PLAIN), ADAPTERS, {}, to)
    assert (to / "reads.fastq.gz").read_bytes() == before
    assert [p.name for p in to.parent.iterdir()] == ["reads"]
    with pytest.raises(InputError):
        clean([row(cut)], Reads(**PLAIN), ADAPTERS, {}, tmp_path / "new/reads")
    assert not list((tmp_path / "new").iterdir())


def test_what_a_killed_job_left_is_cleared_and_an_old_layout_goes(tmp_path):
    (tmp_path / ".reads.partial").mkdir()
    (tmp_path / ".reads.partial/reads_1.fastq.gz").write_text("half")
    (tmp_path / "reads").mkdir()
    (tmp_path / "reads/reads_1.fastq.gz").write_text("old")
    clean([row(put(tmp_path / "a", good("ACGT" * 20)))], Reads(**PLAIN), ADAPTERS, {}, tmp_path / "reads")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "reads"]
    assert [p.name for p in (tmp_path / "reads").iterdir()] == ["reads.fastq.gz"]


def test_no_reads_left_is_an_error_with_the_funnel(tmp_path):
    path = put(tmp_path / "a.fastq", good("ACGTA", "ACGTC"))
    with pytest.raises(InputError, match=r"sample 'gut': no reads left .*raw 2, .*length 0") as caught:
        clean([row(path)], Reads(), ADAPTERS, {}, tmp_path / "reads")
    assert caught.value.problems[0].key == "reads"
    assert [p.name for p in tmp_path.iterdir()] == ["a.fastq"]


def test_memory_does_not_grow_with_the_number_of_reads(tmp_path):
    reads, _ = library(np.random.default_rng(10), 1000)
    peaks = []
    for times in (20, 60):
        path = put(tmp_path / f"{times}.fastq", reads * times)
        tracemalloc.start()
        clean([row(path)], Reads(), ADAPTERS, {}, tmp_path / "reads")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 1e6


# Config --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"adapters": ["ACGU5"]}, "pattern"),
        ({"adapters_2": ["ACGTACGT"]}, "leave `adapters_2` empty"),
        ({"min_length": 0}, "greater than or equal to 1"),
        ({"min_complexity": False}, "a switch"),
        ({"hosts": ["a/phix.fa", "b/PhiX.fasta.gz"]}, "two files named"),
        ({"hosts": ["a/ph ix.fa"]}, "letters, digits"),
        ({"hosts": ["a/../.fa"]}, "letters, digits"),
        ({"trim": 3}, "Extra inputs"),
    ],
)
def test_config_refuses(given, words):
    with pytest.raises(ValidationError, match=words):
        Reads(**given)


def test_steps_follow_the_config():
    assert step_names(Reads()) == ["raw", "quality", "adapters", "length", "complexity", "clean"]
    assert step_names(Reads(**PLAIN)) == ["raw", "length", "clean"]
    assert host_names(["x/y/GRCh38.p14.fna.gz", "phix174.fasta"]) == ["GRCh38.p14", "phix174"]


# Real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.mirror
@pytest.mark.skipif(MIRROR is None, reason="set LATENTOMICS_MIRROR to the folder of real data")
def test_ancient_reads_lose_their_adapters_and_little_else(tmp_path):
    given, kept, left = Counter(), Counter(), 0
    for path in sorted(Path(MIRROR, "ameta_reads").glob("*.fq.gz")):
        clean([row(path)], Reads(min_length=30), ADAPTERS, {}, tmp_path / path.name)
        given.update(name[:4] for name, *_ in get(path))
        for name, sequence, _ in get(tmp_path / path.name / "reads.fastq.gz"):
            kept[name[:4]] += 1
            left += TRUSEQ[0][:12] in sequence
            assert len(sequence) >= 30
    assert left == 0 and sum(given.values()) == 5240
    assert all(kept[origin] >= 0.98 * given[origin] for origin in ("endo", "cont"))
    assert sum(kept.values()) >= 0.98 * 5240


@pytest.mark.mirror
@pytest.mark.skipif(MIRROR is None, reason="set LATENTOMICS_MIRROR to the folder of real data")
def test_real_pairs_with_two_hosts(tmp_path):
    folder = Path(MIRROR, "sunbeam_reads")
    index = {}
    for name in ("human", "phix174"):
        build_index(folder / f"hosts/{name}.fasta", tmp_path / name, "kmers")
        index[name] = tmp_path / name
    params = Reads(hosts=["human.fasta", "phix174.fasta"])
    for one in sorted(folder.glob("reads/*_R1.fastq.gz")):
        two = one.with_name(one.name.replace("_R1", "_R2"))
        done = clean([row(one, two)], params, ADAPTERS, index, tmp_path / "reads")
        assert done.steps["reads"].iloc[0] == 200 and done.steps["reads"].iloc[-1] >= 170
        assert {a["name"] for a in done.summary["runs"][0]["adapters"]} == {"Nextera transposase"}
        assert tuple(sorted(p.name for p in (tmp_path / "reads").iterdir())) == read_qc.PAIRED
