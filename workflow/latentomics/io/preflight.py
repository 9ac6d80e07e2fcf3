"""Look into every input before the first job, and remember what was found.

Reading hundreds of inputs takes time, so one is read again only if one of its files, the code that checks it or
the settings that judge it changed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from latentomics.config.fingerprint import fingerprint
from latentomics.config.model import Config
from latentomics.config.quantify import Quantify
from latentomics.config.quantify_study import whitelist_file
from latentomics.config.row import InputRow
from latentomics.config.sheet import Sheet
from latentomics.problems import InputError, Problem


def check_inputs(
    sheet: Sheet,
    config: Config,
    gene_sets: Path,
    memory: Path,
    workers: int,
    say: Callable[[str], None],
) -> list[Problem]:
    """Every fault of every input, and of the matrices of cells taken together.

    Matrices and tables are read whole, of reads only the first: their jobs find what is wrong further on.

    Parameters
    ----------
    config
        ``qc``, ``cells``, ``ingest.organism`` and ``quantify`` are looked at.
    memory
        JSON file of earlier findings; written anew.
    workers
        Inputs read at the same time, each in a process of its own.
    say
        Called with a line of progress.
    """
    settings = [config.qc, config.cells, config.ingest, config.quantify]
    judge = (*(part.model_dump_json() for part in settings), gene_sets.read_bytes(), fingerprint(Path(__file__)))
    judge += (_stamp(whitelist_file(config.quantify, Path.cwd())),)
    known = _read(memory)
    # QC judges whole samples: not the rows of one that is merged from several.
    alone = {name: len(rows) == 1 for name, rows in sheet.samples("scrna").items()}
    keys = {row.row: _key(row, row.assay == "scrna" and alone[row.sample], judge) for row in sheet.rows}
    waiting = [row for row in sheet.rows if keys[row.row] not in known]
    found = {keys[row.row]: known[keys[row.row]] for row in sheet.rows if keys[row.row] in known}
    if waiting:
        say(f"Checking {len(waiting)} inputs ({len(found)} are known from an earlier run).")
        looks = [_look(row, config, gene_sets, row.assay == "scrna" and alone[row.sample]) for row in waiting]
        for row, result in zip(waiting, _each(looks, workers), strict=True):
            found[keys[row.row]] = result
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    problems = [Problem(**p) for row in sheet.rows for p in found[keys[row.row]]["problems"]]
    return problems + _together(sheet, {row.row: found[keys[row.row]]["summary"] for row in sheet.rows})


def _read(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _key(row: InputRow, alone: bool, judge: tuple) -> str:
    """Hash of all that the findings on a row depend on."""
    files = [_stamp(file) for file in row.files()]
    return hashlib.sha256(repr((row.as_dict(), files, alone, judge)).encode()).hexdigest()[:24]


def _stamp(file: Path | None) -> tuple[str, int, int] | None:
    """What changes when a file does; None where there is none."""
    if file is None or not file.exists():
        return None
    return str(file), file.stat().st_size, file.stat().st_mtime_ns


def _each(looks: Sequence[Callable[[], dict]], workers: int) -> Iterator[dict]:
    if workers < 2 or len(looks) < 2:
        yield from (look() for look in looks)
        return
    # Not forked: a fork copies the locks that other threads of this process hold, and then waits for them for ever.
    with ProcessPoolExecutor(min(workers, len(looks)), multiprocessing.get_context("spawn")) as pool:
        yield from (future.result() for future in [pool.submit(look) for look in looks])


def _look(row: InputRow, config: Config, gene_sets: Path, alone: bool) -> Callable[[], dict]:
    """What looks into a row; ``alone``: it is the only one of its sample."""
    if row.assay == "metagenome":
        return partial(_inspect_metagenome, row)
    if row.format == "fastq":
        return partial(_inspect_reads_of_cells, row, config.quantify, Path.cwd())
    return partial(_inspect_cells, row, config if alone else None, gene_sets)


def _inspect_reads_of_cells(row: InputRow, quantify: Quantify, study: Path) -> dict[str, Any]:
    from latentomics.scrna.quantify.inspect import check_reads

    return {"problems": _plain_problems(check_reads(row, quantify, study)), "summary": {}}


def _inspect_metagenome(row: InputRow) -> dict[str, Any]:
    if row.format == "fastq":
        problems = _check_first_reads(row)
        itself = [{"sample": row.sample}]
        summary = {"sample": row.sample, "source": "reads", "values": "counts", "observations": itself}
    else:
        from latentomics.metagenome.tables import inspect_table

        problems, summary = inspect_table(row)
    return {"problems": _plain_problems(problems), "summary": summary}


def _check_first_reads(row: InputRow) -> list[Problem]:
    from latentomics.metagenome.fastq import read_chunks

    with closing(read_chunks(row)) as chunks:
        try:
            next(chunks)
        except InputError as error:
            return error.problems
    return []


def _inspect_cells(row: InputRow, config: Config | None, gene_sets: Path) -> dict[str, Any]:
    from latentomics.io.checks import inspect_row

    further = partial(_no_cell_left, row=row, config=config, gene_sets=gene_sets) if config else None
    problems, summary = inspect_row(row, further)
    return {"problems": _plain_problems(problems), "summary": summary}


def _plain_problems(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{**asdict(p), "value": _plain(p.value)} for p in problems]


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _no_cell_left(adata: Any, row: InputRow, config: Config, gene_sets: Path) -> list[Problem]:
    from latentomics.scrna.droplets.recognise import looks_raw
    from latentomics.scrna.sample import all_cells_fail, judge_cells

    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    if row.droplets == "raw" or (row.droplets is None and looks_raw(totals, config.cells.lower)[0]):
        return []  # which droplets are cells takes a job of its own to find out
    _, _, verdict = judge_cells(adata, config.qc, config.ingest.organism, gene_sets)
    return [] if (verdict["reason"] == "").any() else [all_cells_fail(row.sample, str(row.path), verdict)]


def _together(sheet: Sheet, summaries: Mapping[int, Mapping[str, Any]]) -> list[Problem]:
    from latentomics.io.checks import check_id_types

    found = [summaries[row.row] for row in sheet.rows if row.assay == "metagenome" and summaries[row.row]]
    problems = []
    if found:
        from latentomics.metagenome.merge import check_together

        problems = check_together(found, str(sheet.path))
    several = {name for name, rows in sheet.samples("scrna").items() if len(rows) > 1}
    infos = {
        f"{row.sample} (row {row.row})" if row.sample in several else row.sample: summaries[row.row]
        for row in sheet.rows
        if row.assay == "scrna" and summaries[row.row]
    }
    return problems + check_id_types(infos, str(sheet.path))
