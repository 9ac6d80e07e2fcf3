"""Join the profiles of all samples into the counts store, and account for every sample and taxon that was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix, csr_matrix

from latentomics.config.confounding import confounding
from latentomics.config.taxa import Taxa
from latentomics.io.store import CountsWriter
from latentomics.metagenome import lineage
from latentomics.metagenome.contaminants import best_attainable, contaminant_scores
from latentomics.metagenome.observations import is_control
from latentomics.problems import InputError, Problem

#: Columns of the ledger: every observation or taxon removed, by which rule, why.
LEDGER = ("observation", "kind", "sample", "rule", "reason", "value", "limit")
#: Samples of which more than this share could not be classified are pointed out.
_MOSTLY_UNKNOWN = 0.8
#: Samples that lose more than this share of their abundance to the prevalence filter are pointed out.
_MUCH_FILTERED = 0.25
#: Fewer negative controls than this are a weak witness.
_FEW_CONTROLS = 3


@dataclass(frozen=True)
class Merged:
    """Tables that describe the join; the matrix itself went to the store."""

    samples: pd.DataFrame
    ledger: pd.DataFrame
    warnings: pd.DataFrame


class _Ledger:
    def __init__(self) -> None:
        self._parts: list[pd.DataFrame] = []

    def add(self, names: Sequence[str], kind: str, rule: str, reason: str | Sequence[str], **columns: Any) -> None:
        if len(names):
            data = {"observation": names, "kind": kind, "sample": "", "rule": rule, "reason": reason, **columns}
            self._parts.append(pd.DataFrame(data).reindex(columns=list(LEDGER)))

    def table(self) -> pd.DataFrame:
        return pd.concat(self._parts, ignore_index=True) if self._parts else pd.DataFrame(columns=list(LEDGER))


def merge_profiles(
    profiles: Sequence[pd.DataFrame],
    summaries: Sequence[Mapping[str, Any]],
    observations: Sequence[pd.DataFrame],
    params: Taxa,
    store: Path,
    sheet: str,
) -> Merged:
    """Write the counts store of kept samples x kept taxa.

    In this order: taxa that failed their evidence filter leave, the others are summed at ``params.rank`` and reads are
    rounded; contaminants leave; negative controls and samples with too few reads leave; rare taxa leave.

    Parameters
    ----------
    profiles, summaries, observations
        Of every sample of the sheet, in its order: what a profiler or
        :func:`~latentomics.metagenome.tables.read_table` wrote.
    store
        Folder of the store to write.
    sheet
        Name of the sample sheet, for problems.

    Raises
    ------
    InputError
        An observation occurs twice, counts and relative abundances are mixed, or nothing is left.
    """
    problems = check_together(summaries, sheet)
    if problems:
        raise InputError(problems)
    relative = summaries[0]["values"] == "relative"
    obs = _totals(summaries)
    covariates = pd.concat(observations).loc[obs.index].fillna("").astype(str)
    obs["control"] = [is_control(word) for word in covariates.pop("control")] if "control" in covariates else False
    ledger = _Ledger()
    profile = pd.concat(profiles, ignore_index=True)
    failed = profile[~profile["kept"].to_numpy(dtype=bool)]
    # The limit that was missed stands in the reason: it is one of several.
    evidence = {"value": failed["evidence"].to_numpy()}
    sample = failed["sample"].to_numpy()
    ledger.add(failed["taxon"].to_numpy(), "taxon", "evidence", failed["reason"].to_numpy(), sample=sample, **evidence)
    var, X = taxon_matrix(profile[profile["kept"].to_numpy(dtype=bool)], obs.index, params.rank, relative)

    obs["reason"] = ""
    obs["n_taxa"] = np.diff(X.indptr)
    control = obs["control"].to_numpy(dtype=bool)
    contaminant = np.zeros(len(var), dtype=bool)
    if params.contaminant_threshold is not None and control.any():
        batch = covariates["batch"].to_numpy() if params.contaminants_by_batch and "batch" in covariates else None
        scores = contaminant_scores(X, control, batch)
        contaminant = scores < params.contaminant_threshold  # NaN: not tested, stays
        reason = "more prevalent in negative controls"
        limits = {"value": scores[contaminant], "limit": params.contaminant_threshold}
        ledger.add(var.index[contaminant], "taxon", "contaminants", reason, **limits)
        problems += _control_problems(control, params.contaminant_threshold, sheet)
        X = _columns(X, ~contaminant)
        var = var[~contaminant]
    left = np.asarray(X.sum(axis=1)).ravel()
    shares = csr_matrix(X.multiply(np.where(left > 0, 1 / np.maximum(left, 1e-300), 0)[:, None]))
    obs.loc[control, "reason"] = "control"
    ledger.add(obs.index[control], "sample", "control", "negative control", sample=obs.index[control])
    limit = np.finfo(float).tiny if relative else max(params.min_reads, 1)
    low = ~control & (left < limit)
    obs.loc[low, "reason"] = "min_reads"
    why = "nothing classified is left" if relative else "too few classified reads"
    values = {"value": left[low], "limit": 0.0 if relative else params.min_reads}
    ledger.add(obs.index[low], "sample", "min_reads", why, sample=obs.index[low], **values)

    kept = ~(control | low)
    _stop_if(not kept.any(), f"no sample is left: {int(control.sum())} controls, {int(low.sum())} with {why}", sheet)
    X, shares = X[kept], shares[kept]
    prevalence, limit = _prevalence(shares, params)
    common = prevalence >= limit
    rare = {"value": prevalence[~common], "limit": limit}
    ledger.add(var.index[~common], "taxon", "prevalence", "present in too few samples", **rare)
    _stop_if(not common.any(), f"no taxon is present in {limit:.3g} of the samples", sheet)
    X, shares, var = _columns(X, common), _columns(shares, common), var[common]
    empty = np.diff(X.indptr) == 0
    gone = obs.index[kept][empty]
    obs.loc[gone, "reason"] = "prevalence"
    ledger.add(gone, "sample", "prevalence", "has none of the kept taxa", sample=gone, value=0.0)
    X, shares = X[~empty], shares[~empty]

    obs["total_counts"] = np.nan
    obs.loc[obs["reason"] == "", "total_counts"] = np.asarray(X.sum(axis=1)).ravel()
    obs["filtered_share"] = 1 - obs["total_counts"] / np.where(left > 0, left, np.nan)
    stored = _store_obs(obs[obs["reason"] == ""], covariates, np.diff(X.indptr))
    _write(store, X, stored, _store_var(var, X, shares), relative)
    problems += _problems(obs, covariates, summaries, sheet)
    return Merged(_sample_table(obs, covariates, summaries), ledger.table(), _warning_table(problems, summaries))


def _stop_if(bad: bool, what: str, sheet: str) -> None:
    if bad:
        hint = "loosen the limits under `taxa` in the config, or look at the profiles: is it the right database?"
        raise InputError(Problem(sheet, what, hint, key="taxa"))


def _columns(X: csr_matrix, wanted: np.ndarray) -> csr_matrix:
    return csr_matrix(X[:, np.flatnonzero(wanted)])


def _totals(summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per observation read: its totals and where it is from."""
    rows = []
    for place, summary in enumerate(summaries):
        rows += [{**totals, "source": summary["source"], "place": place} for totals in summary["observations"]]
    obs = pd.DataFrame(rows)
    obs.index = pd.Index(obs["sample"].to_numpy(object), name="sample_id")
    for column in ("total_reads", "classified_reads", "unclassified_share"):
        obs[column] = obs[column].astype(float)
    return obs


def check_together(summaries: Sequence[Mapping[str, Any]], sheet: str) -> list[Problem]:
    """Whether samples can share one matrix: one kind of values, no observation twice.

    Parameters
    ----------
    summaries
        Of each row or sample of the sheet: its ``sample``, its ``values`` and its ``observations``.
    sheet
        Name of the sample sheet, for the problems.
    """
    problems = []
    kinds = {kind: [str(s["sample"]) for s in summaries if s["values"] == kind] for kind in ("counts", "relative")}
    if all(kinds.values()):
        shown = "; ".join(f"{kind}: {', '.join(dict.fromkeys(names[:5]))}" for kind, names in kinds.items())
        what = f"counts and relative abundances cannot share a study ({shown})"
        hint = (
            "give the reads per taxon for all samples, or put the tables of relative abundances into their own study."
        )
        problems.append(Problem(sheet, what, hint, key="path"))
    owners: dict[str, list[str]] = {}
    for summary in summaries:
        for observed in summary["observations"]:
            owners.setdefault(observed["sample"], []).append(str(summary["sample"]))
    # Runs of one sample are rows of one name: they are summed, or refused when they are read.
    twice = {name: found for name, found in owners.items() if len(set(found)) > 1}
    if twice:
        name, found = next(iter(twice.items()))
        what = f"{len(twice)} observations occur twice, the first in {' and '.join(dict.fromkeys(found))} of the sheet"
        hint = "observation ids must be unique in a study: rename those of one table, or remove the row that repeats."
        problems.append(Problem(sheet, what, hint, key="sample", value=name))
    return problems


def taxon_matrix(
    profile: pd.DataFrame, samples: pd.Index, rank: str, relative: bool
) -> tuple[pd.DataFrame, csr_matrix]:
    """Sum profiles at a rank.

    Parameters
    ----------
    profile
        Long table (the kept rows).
    samples
        Rows of the matrix, in order.
    rank
        Key of :data:`lineage.RANKS`.
    relative
        Take ``abundance`` instead of ``reads``; reads are rounded half to even after they are summed.

    Returns
    -------
    var, X
        Taxa by lineage, with unique names as index (columns ``lineage``, ``rank``, ``taxon``); samples x taxa
        (float64; whole numbers unless relative).
    """
    cut = pd.Series(profile["lineage"].unique(), dtype=object)
    cut.index = pd.Index(cut)
    cut = _with_ancestors(cut.map(lambda text: lineage.at_rank(text, rank)))
    taxon, known = pd.factorize(profile["lineage"].map(cut), sort=True)
    value = profile["abundance" if relative else "reads"].to_numpy(dtype=float)
    at = (samples.get_indexer(profile["sample"]), taxon)
    X = csr_matrix(coo_matrix((value, at), shape=(len(samples), len(known))))
    if not relative:
        X.data = np.rint(X.data)
    X.eliminate_zeros()
    var = pd.DataFrame({"lineage": known, "rank": [lineage.rank_of(text) for text in known]}, dtype=object)
    var["taxon"] = [lineage.name_of(text) for text in known]
    var.index = pd.Index(_names(known, rank), name="taxon_id", dtype=object)
    return var, X


def _with_ancestors(lineages: pd.Series) -> pd.Series:
    """Give a taxon of which only its name is known the lineage of the one taxon of that name and rank, if there is one."""
    full: dict[str, set[str]] = {}
    for text in lineages.unique():
        if ";" in text:
            full.setdefault(text.rsplit(";", 1)[1], set()).add(text)
    alone = {text: min(found) for text, found in full.items() if len(found) == 1}
    return lineages.map(lambda text: alone.get(text, text))


def _names(lineages: Sequence[str], rank: str) -> list[str]:
    """Unique, readable names: homonyms get their parent in brackets."""
    names = [
        lineage.name_of(text) + ("" if lineage.rank_of(text) == rank else f" (unclassified {rank})")
        for text in lineages
    ]
    repeated = set(pd.Index(names)[pd.Index(names).duplicated()])
    parents = [lineage.name_of(text.rpartition(";")[0]) for text in lineages]
    names = [f"{n} [{p}]" if n in repeated else n for n, p in zip(names, parents, strict=True)]
    repeated = set(pd.Index(names)[pd.Index(names).duplicated()])
    return [text if n in repeated else n for n, text in zip(names, lineages, strict=True)]


def _prevalence(shares: csr_matrix, params: Taxa) -> tuple[np.ndarray, float]:
    """Share of the samples in which each taxon is present, and the limit; a taxon of no sample never passes."""
    present = shares >= params.min_abundance if params.min_abundance else shares > 0
    prevalence = np.asarray(present.sum(axis=0), dtype=float).ravel() / shares.shape[0]
    return prevalence, max(params.min_prevalence, 1 / shares.shape[0])


def _store_obs(obs: pd.DataFrame, covariates: pd.DataFrame, n_taxa: np.ndarray) -> pd.DataFrame:
    described = pd.concat([obs[["sample"]], covariates.loc[obs.index]], axis=1).astype(str).astype("category")
    numbers = {"total_counts": obs["total_counts"], "n_taxa": n_taxa, "unclassified_share": obs["unclassified_share"]}
    return described.assign(**numbers)


def _store_var(var: pd.DataFrame, X: csr_matrix, shares: csr_matrix) -> pd.DataFrame:
    split = [lineage.split(text) for text in var["lineage"]]
    table = var.copy()
    for rank in lineage.RANKS:
        if any(rank in names for names in split):
            table[rank] = [names.get(rank, "") for names in split]
    table["symbol"] = _symbols(var)
    table["n_samples"] = np.asarray((X > 0).sum(axis=0), dtype=np.int64).ravel()
    table["mean_abundance"] = np.asarray(shares.mean(axis=0)).ravel()
    return table


def _symbols(var: pd.DataFrame) -> list[str]:
    """Short names to show: ``F. prausnitzii``, unless two taxa would share one."""
    short = []
    for name, rank in zip(var.index, var["rank"], strict=True):
        words = name.replace("_", " ").split(" ", 1)
        binomial = rank == "species" and len(words) == 2 and words[0][:1].isupper() and words[1][:1].islower()
        short.append(f"{words[0][0]}. {words[1]}" if binomial and len(words[0]) > 2 else " ".join(words))
    repeated = set(pd.Index(short)[pd.Index(short).duplicated()])
    return [name.replace("_", " ") if s in repeated else s for name, s in zip(var.index, short, strict=True)]


def _write(store: Path, X: csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, relative: bool) -> None:
    X.sort_indices()
    writer = CountsWriter(store, *X.shape, X.nnz, dtype="float32" if relative else "int32")
    writer.append(X)
    writer.close(obs, var)


def _sample_table(obs: pd.DataFrame, covariates: pd.DataFrame, summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per observation read, those left out as well."""
    table = pd.DataFrame({"sample": obs["sample"], "source": obs["source"]})
    for column in ("batch", "condition"):
        if column in covariates:
            table[column] = covariates[column]
    table["control"] = np.where(obs["control"], "yes", "")
    for column in ("total_reads", "classified_reads", "unclassified_share", "n_taxa", "total_counts"):
        table[column] = obs[column]
    table["kept"] = obs["reason"] == ""
    table["reason"] = obs["reason"]
    table["notes"] = ["; ".join(summaries[place].get("notes", ())) for place in obs["place"]]
    return table.reset_index(drop=True)


def _control_problems(control: np.ndarray, threshold: float, sheet: str) -> list[Problem]:
    n_control, n_sample = int(control.sum()), int((~control).sum())
    if not n_sample:
        return []
    best = best_attainable(n_control, n_sample)
    if best >= threshold:
        what = (
            f"{n_control} negative controls beside {n_sample} samples cannot show a contaminant: the lowest score that "
        )
        what += f"the prevalence test can give is {best:.2g}, the threshold {threshold:g}"
        hint = "sequence more controls, or raise `taxa.contaminant_threshold` (0.5 is the strict choice)."
    elif n_control < _FEW_CONTROLS:
        what = f"only {n_control} negative controls: contaminants that they lack by chance stay"
        hint = "sequence more controls; read rare taxa with care."
    else:
        return []
    return [Problem(sheet, what, hint, key="control", severity="warning")]


def _problems(
    obs: pd.DataFrame, covariates: pd.DataFrame, summaries: Sequence[Mapping[str, Any]], sheet: str
) -> list[Problem]:
    found = []

    def warn(what: str, hint: str, key: str | None = None) -> None:
        found.append(Problem(sheet, what, hint, key=key, severity="warning"))

    kept = obs[obs["reason"] == ""]
    unknown = kept.index[kept["unclassified_share"] > _MOSTLY_UNKNOWN]
    if len(unknown):
        what = f"{len(unknown)} samples are more than {_MOSTLY_UNKNOWN:.0%} unclassified, the first {unknown[0]!r}"
        warn(what, "does the database hold what lives there? Is the host removed?")
    thinned = kept.index[kept["filtered_share"] > _MUCH_FILTERED]
    if len(thinned):
        what = (
            f"{len(thinned)} samples lose more than {_MUCH_FILTERED:.0%} of their abundance with rare taxa, the first "
        )
        warn(what + repr(thinned[0]), "lower the limits if these samples differ in kind.", "taxa.min_prevalence")
    low = obs.index[obs["reason"] == "min_reads"]
    if len(low):
        what = (
            f"{len(low)} of {int((~obs['control']).sum())} samples have too few classified reads, the first {low[0]!r}"
        )
        warn(what, "look at their read funnel; is it a failed library?", "taxa.min_reads")
    tools = sorted({(str(s["profiler"]), str(s["version"]), str(s["database"])) for s in summaries})
    if len(tools) > 1:
        listed = "; ".join(" ".join(filter(None, tool)) for tool in tools)
        what = f"samples were profiled in {len(tools)} ways ({listed}): some differences between them are of the tools"
        warn(what, "profile all samples with one tool, version and database, or name them as `batch`.")
    if {"batch", "condition"} <= set(covariates.columns):
        shown = covariates.loc[kept.index]
        found += confounding(sheet, set(zip(shown["batch"], shown["condition"], strict=True)))
    return found


def _warning_table(problems: Sequence[Problem], summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What the report repeats at its top."""
    rows = [("warning", w["file"], w["what"], w["hint"]) for s in summaries for w in s.get("warnings", ())]
    rows += [(p.severity, p.file, p.what, p.hint) for p in problems]
    return pd.DataFrame(rows, columns=["severity", "where", "message", "hint"])
