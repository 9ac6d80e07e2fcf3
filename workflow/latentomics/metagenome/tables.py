"""Taxon tables of the sheet -> the profile that every profiler writes, and what the sheet says of their samples."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from latentomics.config.row import InputRow
from latentomics.io.tables import fault
from latentomics.metagenome import lineage
from latentomics.metagenome.biom_tables import read_biom
from latentomics.metagenome.kraken_reports import read_bracken, read_kraken_report
from latentomics.metagenome.observations import observations
from latentomics.metagenome.taxon_formats import TaxonTable, metadata_table, read_metaphlan, read_taxon_table
from latentomics.problems import InputError, Problem

#: Columns of a profile: one row per sample and taxon.
PROFILE = (
    *("sample", "taxon", "rank", "lineage", "reads", "evidence", "expected_evidence"),
    *("abundance", "abundance_plain", "kept", "reason"),
)
#: Shares of a sample may sum to this much beside 1 (100 %): more is an error, less a warning, below the last an error.
_TOO_MUCH, _MUCH_LESS, _TOO_LITTLE = 1.05, 0.95, 0.5
_LONGEST_ID = 200

#: How each format is read.
READERS: dict[str, Callable[[InputRow], TaxonTable]] = {
    "biom": read_biom,
    "taxon_table": read_taxon_table,
    "metaphlan": read_metaphlan,
    "kraken_report": read_kraken_report,
    "bracken": read_bracken,
}


def read_table(rows: Sequence[InputRow]) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Read all rows of one sample of the sheet.

    Reports of one sample (Kraken2, Bracken: its runs) are summed; tables of many samples are put under each other.

    Returns
    -------
    profile
        Columns :data:`PROFILE`; per sample the taxa present, by lineage. ``reads`` is NaN for relative abundances.
    summary
        Ready for JSON: where the values are from, totals per observation, notes and warnings for people.
    observations
        The sheet's covariates of every observation (:func:`observations`).

    Raises
    ------
    InputError
        With every fault of the tables.
    """
    tables, problems, covariates = [], [], []
    for row in rows:
        table = READERS[row.format](row)
        tables.append(table)
        problems += _faults(row, table)
        covariates.append(observations(row, table.samples, table.metadata) if _no_error(problems) else pd.DataFrame())
    if not _no_error(problems):
        raise InputError([p for p in problems if p.severity == "error"])
    kinds = [values_of(row, table) for row, table in zip(rows, tables, strict=True)]
    if len(set(kinds)) > 1:
        what = f"counts ({_named(rows, kinds, 'counts')}) and relative abundances ({_named(rows, kinds, 'relative')})"
        raise fault(rows[0], f"its files hold {what}", "give them two samples and studies, or the same kind of values.")
    profile, totals = _profile(rows, tables, kinds[0])
    joined = pd.concat(covariates)
    first = joined[~joined.index.duplicated()]
    if not joined.groupby(level=0, sort=False).nunique().le(1).to_numpy().all():
        raise fault(rows[0], "covariates differ between its files", "rows of one sample are merged and must agree.")
    summary = {
        "sample": rows[0].sample,
        "source": rows[0].format,
        "files": [str(row.path) for row in rows],
        **{key: " + ".join(dict.fromkeys(getattr(t, key) for t in tables)) for key in ("profiler", "version")},
        "database": " + ".join(dict.fromkeys(table.database for table in tables)),
        "values": kinds[0],
        "observations": totals,
        "notes": list(dict.fromkeys(note for table in tables for note in table.notes)),
        "warnings": [{k: asdict(p)[k] for k in ("file", "what", "hint")} for p in problems],
    }
    return profile, summary, first


def _no_error(problems: Sequence[Problem]) -> bool:
    return all(p.severity == "warning" for p in problems)


def _named(rows: Sequence[InputRow], kinds: Sequence[str], kind: str) -> str:
    return ", ".join(row.path.name for row, found in zip(rows, kinds, strict=True) if found == kind)


def _profile(
    rows: Sequence[InputRow], tables: Sequence[TaxonTable], kind: str
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The long table of all files and the totals of their observations."""
    _check_owners(rows, tables, kind)
    names = list(dict.fromkeys(name for table in tables for name in table.samples))
    place = {name: at for at, name in enumerate(names)}
    known = sorted({text for table in tables for text in table.lineages})
    code = {text: at for at, text in enumerate(known)}
    parts, lost = [], np.zeros(len(names))
    for table in tables:
        entries = table.values.tocoo()
        scale = _scale(table) if kind == "relative" else 1.0
        sample = np.array([place[name] for name in table.samples])[entries.col]
        nothing = table.unclassified[entries.row]
        lost += np.bincount(sample[nothing], entries.data[nothing] / scale, len(names))
        part = {"sample": sample, "lineage": np.array([code[t] for t in table.lineages])[entries.row]}
        part["value"] = entries.data / scale
        for column, values in (("evidence", table.evidence), ("plain", table.plain)):
            part[column] = np.nan if values is None else values[entries.row]
        parts.append(pd.DataFrame(part)[~nothing & (entries.data > 0)])
    # min_count: a sum of nothing known is unknown. Groups come sorted: by sample, then by lineage.
    long = (
        pd.concat(parts).groupby(["sample", "lineage"])[["value", "evidence", "plain"]].sum(min_count=1).reset_index()
    )
    classified = np.bincount(long["sample"], long["value"], len(names))
    abundance = long["value"].to_numpy() / classified[long["sample"]]
    plain = (long["plain"] / long.groupby("sample")["plain"].transform("sum")).to_numpy()

    def text_of(words: Sequence[str], codes: pd.Series) -> np.ndarray:
        return np.array(words, dtype=object)[codes]

    profile = pd.DataFrame(
        {
            "sample": text_of(names, long["sample"]),
            "taxon": text_of([lineage.name_of(text) for text in known], long["lineage"]),
            "rank": text_of([lineage.rank_of(text) for text in known], long["lineage"]),
            "lineage": text_of(known, long["lineage"]),
            "reads": long["value"].to_numpy(float) if kind == "counts" else np.nan,
            "evidence": long["evidence"].to_numpy(float),
            "expected_evidence": np.nan,
            "abundance": abundance,
            "abundance_plain": np.where(np.isnan(plain), abundance, plain),
            "kept": True,
            "reason": "",
        },
        columns=list(PROFILE),
    ).astype({"kept": bool, "reason": object})
    knows_unclassified = any(table.unclassified.any() for table in tables)
    totals = []
    for name, got, rest in zip(names, classified.tolist(), lost.tolist(), strict=True):
        share = rest / (got + rest) if knows_unclassified and got + rest else None
        totals.append(
            {
                "sample": name,
                "total_reads": got + rest if kind == "counts" else None,
                "classified_reads": got if kind == "counts" else None,
                "unclassified_share": share,
            }
        )
    return profile, totals


def _check_owners(rows: Sequence[InputRow], tables: Sequence[TaxonTable], kind: str) -> None:
    """Only the counts of a sample's runs may come from several files."""
    owner: dict[str, int] = {}
    for at, (row, table) in enumerate(zip(rows, tables, strict=True)):
        for name in table.samples:
            first = owner.setdefault(name, at)
            if first != at and (kind == "relative" or max(len(table.samples), len(tables[first].samples)) > 1):
                what = f"observation {name!r} is also in {rows[first].path.name}"
                raise fault(row, what, "rename one, or remove it from one of the tables.", value=name)


def inspect_table(row: InputRow) -> tuple[list[Problem], dict[str, Any]]:
    """Read and check one table of the sheet, before the first job.

    Returns
    -------
    problems, summary
        Every fault found. The summary is that of :func:`read_table`, as far as
        :func:`~latentomics.metagenome.merge.check_together` needs it; empty if the table cannot be used.
    """
    try:
        table = READERS[row.format](row)
        problems = _faults(row, table)
        if _no_error(problems):
            observations(row, table.samples, table.metadata)
    except InputError as error:
        return error.problems, {}
    if not _no_error(problems):
        return problems, {}
    found = [{"sample": name} for name in table.samples]
    values = values_of(row, table)
    return problems, {"sample": row.sample, "source": row.format, "values": values, "observations": found}


def _sums(table: TaxonTable) -> np.ndarray:
    return np.asarray(table.values.sum(axis=0)).ravel()


def _scale(table: TaxonTable) -> float:
    """What the shares of a sample sum to: 1, or 100 where they are percentages."""
    sums = _sums(table)
    return 100.0 if np.median(sums[sums > 0]) > 2 else 1.0


def values_of(row: InputRow, table: TaxonTable) -> Literal["counts", "relative"]:
    """Counts, or shares that sum to 1 or 100 (of a table without fault); MetaPhlAn writes shares, even if all are 100."""
    whole = bool((table.values.data == np.floor(table.values.data)).all())
    return "counts" if whole and row.format != "metaphlan" else "relative"


def _are_shares(table: TaxonTable) -> bool:
    middle = np.median(_sums(table)[_sums(table) > 0]) / _scale(table)
    return bool(_MUCH_LESS <= middle <= _TOO_MUCH)


def _faults(row: InputRow, table: TaxonTable) -> list[Problem]:
    problems: list[Problem] = []
    X = table.values

    def add(what: str, hint: str, severity: Literal["error", "warning"] = "error", **place: Any) -> None:
        problems.append(Problem(str(row.path), f"sample {row.sample!r}: {what}", hint, severity=severity, **place))

    if 0 in X.shape or not np.any(X.data != 0):
        what = f"{X.shape[1]} samples and {X.shape[0]} taxa" if 0 in X.shape else "every value is zero"
        add(f"the table is empty: {what}", "is this the right file?")
        return problems
    for names, word in ((table.samples, "sample"), (table.taxa, "taxon")):
        index = pd.Index(names, dtype=object)
        # Names may repeat in a report (homonyms): its lines are told apart by their lineage.
        if word == "taxon" and row.format in ("kraken_report", "bracken"):
            continue
        if not index.is_unique:
            repeated = index[index.duplicated()]
            hint = "sum the rows that repeat, or rename them." if word == "taxon" else "rename one, or remove it."
            place = _line_of(table, word, names, repeated[0])
            add(f"{len(repeated)} {word} names appear twice", hint, value=repeated[0], **place)
    for name in table.samples:
        if not name or not name.isprintable() or len(name) > _LONGEST_ID:
            add("a sample's name cannot be used", f"use 1 to {_LONGEST_ID} printable characters.", value=name)
    for test, what, hint in (
        (~np.isfinite(X.data), "values are missing or not finite", "write 0 where nothing was found."),
        (X.data < 0, "values are negative", "give counts or relative abundances, not logarithms or ratios."),
    ):
        if test.any():
            add(f"{int(test.sum())} {what}, the first in {_place(table, test)[1]}", hint, **_place(table, test)[0])
    return problems or _value_faults(row, table)


def _value_faults(row: InputRow, table: TaxonTable) -> list[Problem]:
    """Faults of finite values that are not negative: neither counts nor shares, or sums that are off."""
    X, sums, file = table.values, _sums(table), str(row.path)
    of_sample = f"sample {row.sample!r}: "
    problems = []
    empty = [name for name, total in zip(table.samples, sums, strict=True) if total == 0]
    if empty:
        what = f"{of_sample}{len(empty)} samples hold nothing, the first {empty[0]!r}"
        problems.append(Problem(file, what, "they will be left out.", severity="warning"))
    if row.metadata is not None:
        known = set(metadata_table(row, row.metadata).index)
        lacking = [name for name in table.samples if name not in known]
        if lacking:
            what = f"{of_sample}{len(lacking)} of {len(table.samples)} samples are not in the metadata table"
            hint = "their covariates are empty: add them."
            problems.append(Problem(str(row.metadata), what, hint, value=lacking[0], severity="warning"))
    if table.without_lineage:
        what = f"{of_sample}{table.without_lineage} of {len(table.taxa)} taxa have no lineage: taken for species"
        hint = "add a column `lineage` (d__...;p__...;...;s__...) to see other ranks than species."
        problems.append(Problem(file, what, hint, severity="warning"))
    if values_of(row, table) == "counts":
        large = X.data > np.iinfo(np.int32).max
        if large.any():
            place, where = _place(table, large)
            what = f"{of_sample}{int(large.sum())} values above 2147483647, the first in {where}"
            problems.append(Problem(file, what, "no taxon has that many reads: are these reads?", **place))
        return problems
    if not _are_shares(table):
        fractions = X.data != np.floor(X.data)
        place, where = _place(table, fractions) if fractions.any() else ({}, "")
        why = f"values are not whole (the first in {where}), and " if where else ""
        what = f"{of_sample}neither counts nor relative abundances: {why}samples sum to "
        what += f"{np.median(sums[sums > 0]):.4g} (median) instead of 1 or 100"
        hint = "give the reads per taxon (as `taxon_table`), or shares of the whole sample (all taxa, one rank)."
        problems.append(Problem(file, what, hint, **place))
        return problems
    relative = sums / _scale(table)
    for off, severity, hint in (
        (
            (relative > _TOO_MUCH) | ((relative < _TOO_LITTLE) & (relative > 0)),
            "error",
            "more than the whole: are ranks counted twice? Much less: is the file complete?",
        ),
        (
            (relative >= _TOO_LITTLE) & (relative < _MUCH_LESS),
            "warning",
            "taxa were left out of the table; the rest is scaled to the whole.",
        ),
    ):
        if off.any():
            at = int(off.argmax())
            what = f"{of_sample}relative abundances of {int(off.sum())} samples do not sum to {_scale(table):g}, the "
            what += f"first {table.samples[at]!r}"
            key = f"column {table.samples[at]!r}"
            value = round(float(sums[at]), 6)
            problems.append(Problem(file, what, hint, key=key, value=value, severity=severity))  # type: ignore[arg-type]
    return problems


def _line_of(table: TaxonTable, word: str, names: Sequence[str], name: str) -> dict[str, Any]:
    if not len(table.lines) or (word == "sample") != table.by_sample:
        return {"key": f"column {name!r}"} if word == "sample" else {}
    return {"row": table.lines[len(names) - 1 - list(names)[::-1].index(name)]}


def _place(table: TaxonTable, at_fault: np.ndarray) -> tuple[dict[str, Any], str]:
    """Line, column and value of the first stored entry at fault, and its names in words."""
    first = int(at_fault.argmax())
    taxon = int(np.searchsorted(table.values.indptr, first, side="right")) - 1
    sample = int(table.values.indices[first])
    line = (sample if table.by_sample else taxon) if len(table.lines) else None
    column = table.taxa[taxon] if table.by_sample else table.samples[sample]
    place = {"row": None if line is None else table.lines[line], "key": f"column {column!r}"}
    place["value"] = float(table.values.data[first])
    return place, f"sample {table.samples[sample]!r}, taxon {table.taxa[taxon]!r}"


def write_table(
    profile: pd.DataFrame, summary: Mapping[str, Any], covariates: pd.DataFrame, outputs: Mapping[str, Path]
) -> None:
    """Write ``profile`` and ``observations`` (Parquet) and ``summary`` (JSON); all or none of them appears."""
    staged = {name: path.with_name(f".{path.name}.part") for name, path in outputs.items()}
    try:
        profile.to_parquet(staged["profile"], index=False)
        covariates.to_parquet(staged["observations"])
        staged["summary"].write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")
        for name, path in staged.items():
            os.replace(path, outputs[name])
    finally:
        for path in staged.values():
            path.unlink(missing_ok=True)
