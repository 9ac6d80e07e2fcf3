"""One sample: its reads to a matrix of all barcodes x genes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.io import mmread
from scipy.sparse import csr_matrix

from latentomics.config.quantify import TECHNOLOGIES, Quantify, read_layout
from latentomics.config.quantify_study import read_files, technology_of, whitelist_file
from latentomics.config.row import InputRow
from latentomics.io.gene_ids import gene_table
from latentomics.io.tables import fault
from latentomics.problems import InputError
from latentomics.scrna.quantify import whitelist as whitelists
from latentomics.scrna.quantify.annotation import read_table
from latentomics.scrna.quantify.inspect import count_reads
from latentomics.scrna.quantify.kb import KbFailed, run_kb
from latentomics.scrna.quantify.reference import FACTS, INDEX, TABLE, working_folder
from latentomics.scrna.quantify.statistics import read_run, summarise, warnings

RAW, FIGURES = "raw.h5ad", "quantification.json"
_MATRIX = "counts_unfiltered"
#: kb calls SCRB-seq otherwise than the kallisto that it carries.
_OF_KALLISTO = {"SCRUBSEQ": "SCRBSEQ"}
#: Bytes of a read in a BUS file.
_RECORD = 32


def quantify_sample(
    rows: Sequence[InputRow], quantify: Quantify, reference: Path, folder: Path, threads: int, memory_mb: int
) -> None:
    """Write ``raw.h5ad`` (every barcode x genes, before any cell calling) and ``quantification.json``.

    Counts are UMIs of reads that fit the transcripts of one gene only. Barcodes with an N stay: kallisto reads it as one
    of the bases, which a list corrects where it can.

    Parameters
    ----------
    rows
        The sample's rows of reads: lanes of one library, mapped together.
    quantify
        A relative ``whitelist`` is relative to the current folder, which in a run is the study's.
    reference
        Folder of :func:`latentomics.scrna.quantify.reference.build_reference`.
    folder
        Where to write; a folder ``.quantify`` in it is used and removed.
    memory_mb
        Memory of the job; bounds the sorting. Mapping takes what the index needs, whatever this says.

    Raises
    ------
    InputError
        Files that are cut short or do not belong together; no read maps; no barcode is on the list.
    """
    first = rows[0]
    technology = technology_of(first, quantify)
    expected = _count_all(rows, threads)
    with working_folder(folder) as work:
        options, listed = _whitelist(quantify, technology, work)
        if quantify.strand != "auto":
            options += ["--strand", quantify.strand]
        memory = f"{_memory_for_sorting(expected, memory_mb)}M"
        out = _run_count(rows, technology, reference, work, [*options, "-t", str(threads), "-m", memory])
        run = read_run(out)
        if run.mapped["n_processed"] != expected:
            what = f"kallisto found {run.mapped['n_processed']} reads where the files have lines for {expected}"
            raise fault(first, what, "are they FASTQ with four lines a read? Look at them where they may be damaged.")
        counts = _read_matrix(out / _MATRIX, reference / TABLE)
        if not counts.X.nnz:
            raise fault(first, "every mapped read fits several genes", "is it the right reference?")
        word, sentence = listed or _frequent(counts.n_obs)
        facts = json.loads((reference / FACTS).read_text("utf-8"))
        figures = {
            "sample": first.sample,
            "technology": technology,
            "strand": quantify.strand,
            "whitelist": word,
            **summarise(run, counts.X),
            "k": facts["k"],
            "versions": facts["versions"],
            "files": [[str(file) for file in read_files(row)] for row in rows],
            "notes": [*([f"Reads of {len(rows)} rows were merged."] if len(rows) > 1 else []), sentence],
        }
        figures["warnings"] = warnings(first.sample, figures, quantify.min_mapping_rate)
        counts.write_h5ad(work / RAW, compression="gzip", compression_opts=1)
        (work / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        for name in (RAW, FIGURES):
            os.replace(work / name, folder / name)


def _memory_for_sorting(n_reads: int, memory_mb: int) -> int:
    """MB that bustools sorts in: it takes all it is given at once, so what all reads need, and at most 60 %."""
    return min(n_reads * _RECORD // 2**20 + 64, max(memory_mb * 6 // 10, 64))


def _run_count(
    rows: Sequence[InputRow], technology: str, reference: Path, work: Path, options: Sequence[str | Path]
) -> Path:
    """Run ``kb count`` and return its output folder, which holds a matrix with barcodes."""
    first, out = rows[0], work / "kb"
    known = TECHNOLOGIES[technology.lower()][0] if technology.lower() in TECHNOLOGIES else technology
    index: list[str | Path] = ["-i", (reference / INDEX).absolute(), "-g", (reference / TABLE).absolute()]
    places: list[str | Path] = ["-x", _OF_KALLISTO.get(known, known), "-o", out, "--tmp", work / "tmp"]
    files = [file.absolute() for row in rows for file in read_files(row)]
    try:
        run_kb(["count", *index, *places, *options, *files])
    except KbFailed as error:
        raise _explained(first, out) or KbFailed(f"sample {first.sample!r}: kb count failed: {error}") from error
    if not (out / _MATRIX / "cells_x_genes.mtx").is_file():
        raise _explained(first, out) or KbFailed(f"sample {first.sample!r}: kb count wrote no matrix")
    if not (out / _MATRIX / "cells_x_genes.barcodes.txt").stat().st_size:
        hint = "is it the right technology, or the right list in `quantify.whitelist`?"
        raise fault(first, "no mapped read has a barcode of the list", hint)
    return out


def _count_all(rows: Sequence[InputRow], threads: int) -> int:
    """Reads of all rows; the files of a row must have the same number (an InputError otherwise)."""
    files = [(row, file) for row in rows for file in read_files(row)]
    with ThreadPoolExecutor(max(1, min(threads, len(files)))) as pool:
        numbers = pool.map(lambda pair: count_reads(*pair), files)
        counted = {file: number for (_, file), number in zip(files, numbers, strict=True)}
    total = 0
    for row in rows:
        one, *others = read_files(row)
        for other in others:
            if counted[one] != counted[other]:
                what = f"{counted[other]} reads, but {one.name} has {counted[one]}"
                hint = "the files of a row must hold the same reads in the same order; was one copied incompletely?"
                raise fault(row, what, hint, file=other)
        total += counted[one]
    return total


def _whitelist(quantify: Quantify, technology: str, work: Path) -> tuple[list[str | Path], tuple[str, str] | None]:
    """Options of kb, and what the list is: in a word or two, and in a sentence. None: the frequent barcodes."""
    if quantify.whitelist == "none":
        return ["-w", "NONE"], ("none", "No list of barcodes: every barcode is kept as it was read.")
    if own := whitelist_file(quantify, Path()):
        length = sum(end - start for _, start, end in read_layout(technology).barcode)
        n = whitelists.stage(own, length, work / "whitelist.txt")
        return ["-w", work / "whitelist.txt"], (own.name, f"Barcodes of {own.name} ({n}), one wrong base corrected.")
    if carried := whitelists.bundled(technology):
        return [], (carried.name, f"Barcodes of kb's {carried.name}, one wrong base corrected.")
    return [], None


def _frequent(n: int) -> tuple[str, str]:
    return (
        "frequent",
        f"This technology has no list of barcodes: the {n} frequent ones were taken (bustools allowlist), others "
        "corrected to them by one base or left out. Empty droplets are left out with them: to call cells among "
        "droplets, set `quantify.whitelist` to none or to a file.",
    )


def _explained(row: InputRow, out: Path) -> InputError | None:
    """The cause of a failure that kb takes for one of its own: no read maps."""
    info = out / "run_info.json"
    if not info.is_file():
        return None
    figures = json.loads(info.read_text("utf-8"))
    if figures["n_pseudoaligned"]:
        return None
    hint = "is the reference of the right organism, the technology and `quantify.strand` right?"
    return fault(row, f"none of its {figures['n_processed']} reads map to the reference", hint)


def _read_matrix(folder: Path, table: Path) -> ad.AnnData:
    """bustools' matrix: barcodes in the order of the alphabet, as bustools sorts them, genes in that of the reference."""
    genes = (folder / "cells_x_genes.genes.txt").read_text("utf-8").splitlines()
    lines = (folder / "cells_x_genes.barcodes.txt").read_text("utf-8").splitlines()
    barcodes = pd.Index(lines, name="barcode", dtype=object)
    values = csr_matrix(mmread(folder / "cells_x_genes.mtx"))
    whole = values.data.astype(np.int32)
    if not np.array_equal(whole, values.data):
        raise RuntimeError("bustools counted parts of UMIs, which it is not asked to")
    symbols = {gene.gene: gene.symbol for gene in read_table(table).values()}
    order = pd.Index(genes).get_indexer(list(symbols))
    if (order < 0).any():
        raise RuntimeError("bustools left out genes of the table")
    counts = csr_matrix((whole, values.indices, values.indptr), shape=values.shape)[:, order]
    counts.sort_indices()
    ids = gene_table(list(symbols), {"symbol": list(symbols.values())}).var
    var = pd.DataFrame(
        {"ensembl": ids["ensembl"].to_numpy(), "symbol": list(symbols.values())},
        index=pd.Index(list(symbols), name="gene", dtype=object),
    )
    return ad.AnnData(counts, obs=pd.DataFrame(index=barcodes), var=var)
