"""Reads of cells to counts: published reads against a direct count, and speed and memory on simulated ones.

.venv/bin/python benchmarks/quantify.py --mirror MIRROR --work WORK > benchmarks/quantify.md
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

# What measures stays small: NumPy and the package are imported by the processes that are measured, or that prepare.
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

POSITIONS = "1,6,14:1,0,6:0,0,0"
SIMULATED = {
    "technology": "10xv2",
    "genome": "genome.fa.gz",
    "annotation": "genes.gtf.gz",
    "whitelist": "whitelist.txt",
}


def settings(mirror: Path) -> dict[str, tuple[dict[str, Any], tuple[Path, Path]]]:
    """Per run: the config's section, and the files."""
    ercc, tenx = mirror / "fastq_celseq_ercc", mirror / "fastq_10xv2"
    cel = {"transcripts": str(ercc / "ERCC92.fa"), "transcripts_to_genes": "ercc.t2g", "technology": POSITIONS}
    mouse = {"transcripts": str(tenx / "mouse_truncated.fasta.gz"), "transcripts_to_genes": "mouse.t2g"}
    nuclei = {"transcripts": "lamanno.fa", "transcripts_to_genes": str(tenx / "lamanno_t2g.txt")}
    cells = (ercc / "simu_R1.fastq.gz", ercc / "simu_R2.fastq.gz")
    small, large = ((tenx / f"{stem}R1.fastq.gz", tenx / f"{stem}R2.fastq.gz") for stem in ("", "lamanno_"))
    simulated = (Path("big_R1.fastq.gz"), Path("big_R2.fastq.gz"))
    return {
        "fastq_celseq_ercc, whitelist auto": (cel, cells),
        "fastq_celseq_ercc, whitelist none": ({**cel, "whitelist": "none"}, cells),
        "fastq_10xv2, 2,500 pairs": ({**mouse, "technology": "10xv2"}, small),
        "fastq_10xv2, 25,000 pairs": ({**nuclei, "technology": "10xv2"}, large),
        "fastq_10xv2, 2,500 pairs, list of 10x v3": ({**mouse, "technology": "10xv2", "whitelist": "v3.txt"}, small),
        "simulated, own list": (SIMULATED, simulated),
        "simulated, whitelist none": ({**SIMULATED, "whitelist": "none"}, simulated),
    }


def prepare(mirror: Path) -> None:
    """Tables of transcripts, and a simulated library of about a million reads, in the current folder."""
    from latentomics.scrna.quantify.whitelist import bundled
    from latentomics.simulate.transcripts import LibraryParams, simulate_library

    ercc, tenx = mirror / "fastq_celseq_ercc", mirror / "fastq_10xv2"
    names = [line[1:].strip() for line in (ercc / "ERCC92.fa").read_text().splitlines() if line.startswith(">")]
    Path("ercc.t2g").write_text("".join(f"{name}\t{name}\n" for name in names))
    with gzip.open(tenx / "mouse_truncated.fasta.gz", "rt") as stream:
        titles = [line[1:].split() for line in stream if line.startswith(">")]
    words = [dict(word.split(":", 1) for word in title[1:] if ":" in word) for title in titles]
    rows = [f"{title[0]}\t{word['gene']}\t{word['gene_symbol']}\n" for title, word in zip(titles, words, strict=True)]
    Path("mouse.t2g").write_text("".join(rows))
    introns = gzip.decompress((tenx / "lamanno_intron.fa.gz").read_bytes())
    Path("lamanno.fa").write_bytes((tenx / "lamanno_cdna.fa").read_bytes() + introns)
    Path("v3.txt").write_bytes(gzip.decompress(Path(str(bundled("10xv3"))).read_bytes()))
    params = LibraryParams(samples=("big",), cells=2000, empties=20_000, whitelist=50_000)
    for name, data in simulate_library(params).files.items():
        Path(name).write_bytes(data)


def run(name: str, mirror: Path) -> None:
    """One run, in this process; prints its figures as JSON on the last line."""
    import numpy as np

    from latentomics.config.quantify import Quantify
    from latentomics.config.row import InputRow
    from latentomics.scrna.quantify.inspect import check_reads
    from latentomics.scrna.quantify.reference import build_reference
    from latentomics.scrna.quantify.sample import quantify_sample

    section, (first, second) = settings(mirror)[name]
    quantify = Quantify(**section)
    out = Path("runs") / str(list(settings(mirror)).index(name))
    row = InputRow(0, "sample", "scrna", first, "fastq", path_2=second)
    start = time.perf_counter()
    problems = [f"[{p.severity}] {p.what}" for p in check_reads(row, quantify, Path())]
    looked = time.perf_counter()
    build_reference(quantify, Path(), out / "reference", 1)
    before = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    built = time.perf_counter()
    quantify_sample([row], quantify, out / "reference", out, 1, 4000)
    done = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    cpu = sum(a.ru_utime + a.ru_stime - b.ru_utime - b.ru_stime for a, b in zip(after, before, strict=True))
    figures = json.loads((out / "quantification.json").read_text())
    figures |= {"check_s": looked - start, "wall_s": done - built, "cpu_s": cpu, "problems": problems}
    figures |= {"peak_mb": after[0].ru_maxrss / 1024, "self_mb": after[1].ru_maxrss / 1024}
    if "ercc" in name:
        import anndata

        counts = anndata.read_h5ad(out / "raw.h5ad").to_df()
        direct = count_directly(mirror / "fastq_celseq_ercc")
        expected = np.array([[direct[barcode, gene] for gene in counts.columns] for barcode in counts.index])
        found = counts.to_numpy()
        figures["direct"] = {
            "correlation": float(np.corrcoef(found.ravel(), expected.ravel())[0, 1]),
            "unequal": int((found != expected).sum()),
            "entries": found.size,
            "umis": int(found.sum()),
            "umis_directly": int(expected.sum()),
            "barcodes": len(counts),
        }
    print(json.dumps(figures))


def count_directly(folder: Path) -> Counter:
    """Distinct UMIs per barcode and transcript, by exact matching of whole reads to either strand."""
    swap = str.maketrans("ACGT", "TGCA")
    where: dict[str, set[str]] = {}
    for part in (folder / "ERCC92.fa").read_text().split(">")[1:]:
        name, sequence = part.split("\n")[0].strip(), "".join(part.split("\n")[1:])
        for strand in (sequence, sequence.translate(swap)[::-1]):
            for start in range(len(strand) - 74):
                where.setdefault(strand[start : start + 75], set()).add(name)
    reads = []
    for mate in ("R1", "R2"):
        with gzip.open(folder / f"simu_{mate}.fastq.gz", "rt") as stream:
            reads.append(stream.read().splitlines()[1::4])
    pairs = [(tag, where[rna]) for rna, tag in zip(*reads, strict=True) if len(where.get(rna, ())) == 1]
    molecules = {(tag[6:14], tag[:6], *names) for tag, names in pairs}
    return Counter((barcode, name) for barcode, _, name in molecules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--step")
    args = parser.parse_args()
    mirror = args.mirror.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    os.chdir(args.work)
    if args.step == "prepare":
        return prepare(mirror)
    if args.step:
        return run(args.step, mirror)

    def step(name: str) -> str:
        command = [sys.executable, __file__, "--mirror", mirror, "--work", ".", "--step", name]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout[-3000:]}")
        return done.stdout

    step("prepare")
    found = {name: json.loads(step(name).splitlines()[-1]) for name in settings(mirror)}
    print(report(found))


def report(found: dict[str, dict[str, Any]]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in next(iter(found.values()))["versions"].items())
    lines = [
        "# Reads of cells to counts",
        "",
        f"{date.today()}, one core of {os.cpu_count()} ({platform.machine()}), shared with other work: compare CPU seconds,",
        f"not wall seconds. {versions}. By `quantify.py --mirror MIRROR --work WORK`.",
        "",
        "| run | reads | mapped | barcodes | UMIs | list of barcodes | warnings |",
        "|---|--:|--:|--:|--:|---|---|",
    ]
    for name, f in found.items():
        said = "; ".join(w["what"] for w in f["warnings"]) or "none"
        rate = f"{f['mapping_rate']:.2%}"
        lines.append(
            f"| {name} | {f['n_reads']} | {rate} | {f['n_barcodes']} | {f['n_umis']} | {f['whitelist']} | {said} |"
        )
    lines += ["", "fastq_celseq_ercc against a count of the reads by exact matching (barcode x transcript):", ""]
    lines += [
        "| run | correlation | entries that differ | UMIs | UMIs, direct count | barcodes |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, f in found.items():
        if d := f.get("direct"):
            unequal = f"{d['unequal']} of {d['entries']}"
            lines.append(
                f"| {name} | {d['correlation']:.6f} | {unequal} | {d['umis']} | {d['umis_directly']} | {d['barcodes']} |"
            )
    lines += [
        "",
        "## Speed and memory",
        "",
        "Of the job that counts one sample; kb itself waits a second after each of its some ten commands. Peak memory is",
        "that of the largest process. The look at the first reads runs before the first job.",
        "",
        "| run | reads | wall s | CPU s | reads per CPU s | peak memory MB | look at first reads s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, f in found.items():
        speed, peak = f["n_reads"] / f["cpu_s"], max(f["peak_mb"], f["self_mb"])
        lines.append(
            f"| {name} | {f['n_reads']} | {f['wall_s']:.1f} | {f['cpu_s']:.1f} | {speed:.0f} | {peak:.0f} | {f['check_s']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
