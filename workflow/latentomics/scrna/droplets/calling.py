"""Cells of one sample among its barcodes: recognise a raw matrix, test its droplets, say what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import false_discovery_control

from latentomics.config.cells import Cells
from latentomics.scrna.droplets.emptydrops import (
    estimate_alpha,
    log_probabilities,
    monte_carlo_p_values,
    of_total,
    pool,
)
from latentomics.scrna.droplets.good_turing import good_turing_shares
from latentomics.scrna.droplets.ranks import find_bends
from latentomics.scrna.droplets.recognise import looks_raw

#: Empty droplets that have counts, and their counts together, below which they do not make a profile.
_MIN_DROPLETS, _MIN_COUNTS = 100, 1000
#: How far the smallest well of a plate stands above the largest barcode of sequencing errors.
_GAP = 3
#: p value above which a droplet looks ambient, the share of such droplets that puts the knee in doubt, and how many times
#: `lower` it must then be to be used all the same: large cells of one kind are what the ambient RNA is made of.
_AMBIENT_P, _TOO_MANY, _FAR = 0.05, 0.5, 2
#: Simulated droplets beyond those of the config: as many as it allows at most, and about 20 seconds' worth of molecules.
_MOST_ITERATIONS, _MOST_MOLECULES = 1_000_000, 1e9


@dataclass(frozen=True, eq=False)
class Calling:
    """Which barcodes are cells, and why.

    Attributes
    ----------
    state, why
        Whether the matrix was taken as raw or filtered, and the evidence, in a sentence.
    called
        Whether each barcode is a cell, (n_barcodes,).
    ambient
        Share of each gene in the empty droplets, (n_genes,), summing to 1; zero where a gene has no count in any barcode.
        None where the matrix is filtered, every barcode is a cell, or the empty droplets have too few counts.
    table
        Per tested barcode, indexed by its position: ``total``, ``log_probability`` (of its counts as ambient RNA),
        ``p_value``, ``fdr`` and ``called``; empty where nothing was tested.
    facts
        JSON-able: see :func:`call_cells`.
    """

    state: Literal["raw", "filtered"]
    why: str
    called: np.ndarray
    ambient: np.ndarray | None
    table: pd.DataFrame
    facts: dict[str, Any]


class _Cut(NamedTuple):
    """What a method makes of a raw matrix."""

    called: np.ndarray
    table: pd.DataFrame
    retain: float | None
    notes: list[str]
    alpha: float | None = None
    n_iterations: int | None = None


def call_cells(counts: csr_matrix, params: Cells, seed: int, said: str | None) -> Calling:
    """Call the cells of one sample.

    Parameters
    ----------
    counts
        Barcodes x genes, whole counts, at most one entry per barcode and gene.
    params
        Section ``cells`` of the config.
    seed
        Of the simulated droplets.
    said
        ``raw`` or ``filtered`` where the sheet says so; None to recognise it.

    Returns
    -------
    Calling
        In a filtered matrix every barcode is a cell. ``facts``: ``n_barcodes``, ``n_nonempty`` (with a count),
        ``n_tested``, ``n_called``, ``method`` (``none`` in a filtered matrix), ``knee`` and ``inflection`` (counts),
        ``lower``, ``retain`` (the counts from which barcodes were called untested), ``fdr``, ``n_above_knee`` (at it or
        above), ``n_called_below_knee``, ``ambient_counts`` (in droplets of at most ``lower``), ``alpha`` (overdispersion of the
        ambient RNA), ``n_iterations`` (simulated droplets: those of the config, and more where the smallest p value could
        not reach ``fdr``) and ``notes`` for people.
    """
    totals = np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()
    raw, why = (said == "raw", "said in the sheet") if said else looks_raw(totals, params.lower)
    method = params.method if raw else "none"
    empty = totals <= params.lower
    bends = find_bends(totals, params.lower) if raw else None
    ambient = _ambient_profile(counts, totals, empty) if method != "none" else None
    if method == "none":
        cut = _Cut(np.ones(len(totals), dtype=bool), _table(), None, [])
    elif method == "emptydrops" and ambient is not None:
        cut = _test(counts, totals, ambient, params, bends.knee if bends else None, seed)
    else:
        cut_by = _cut_ranks if method == "knee" else _cut_untested
        cut = cut_by(totals, params.lower, bends.knee if bends else None)
    if raw and not cut.called.any():
        cut.notes.append("no barcode is called a cell.")
    facts = {
        "n_barcodes": len(totals),
        "n_nonempty": int(np.count_nonzero(totals)),
        "n_tested": len(cut.table),
        "n_called": int(cut.called.sum()),
        "method": method,
        "knee": bends.knee if bends else None,
        "inflection": bends.inflection if bends else None,
        "lower": params.lower,
        "retain": cut.retain,
        "fdr": params.fdr,
        "n_above_knee": int((totals >= bends.knee).sum()) if bends else None,
        "n_called_below_knee": int((cut.called & (totals < bends.knee)).sum()) if bends else None,
        "ambient_counts": int(totals[empty].sum()),
        "alpha": cut.alpha,
        "n_iterations": cut.n_iterations,
        "notes": cut.notes,
    }
    return Calling("raw" if raw else "filtered", why, cut.called, ambient, cut.table, facts)


def _table(**columns: np.ndarray) -> pd.DataFrame:
    """The table of tested barcodes; without columns, an empty one."""
    types = {"total": np.int64, "log_probability": float, "p_value": float, "fdr": float, "called": bool}
    made = {name: np.asarray(columns.get(name, []), dtype=kind) for name, kind in types.items()}
    return pd.DataFrame(made, index=pd.Index(columns.get("at", []), dtype=np.int64, name="position"))


def _ambient_profile(counts: csr_matrix, totals: np.ndarray, empty: np.ndarray) -> np.ndarray | None:
    """Share of each gene in the ambient RNA, (n_genes,), or None where the empty droplets have too few counts."""
    if np.count_nonzero(totals[empty]) < _MIN_DROPLETS or totals[empty].sum() < _MIN_COUNTS:
        return None
    in_empty = pool(counts, empty)
    # As in DropletUtils: genes of the annotation that nothing expresses take no share from the others.
    expressed = (in_empty + pool(counts, ~empty)) > 0
    profile = np.zeros(counts.shape[1])
    profile[expressed] = good_turing_shares(in_empty[expressed])
    return profile


def _cut_ranks(totals: np.ndarray, lower: int, knee: float | None) -> _Cut:
    """Cells are the barcodes from the knee up; where none is to be seen, all above ``lower``."""
    limit, notes = knee, []
    if limit is None:
        limit = float(lower + 1)
        notes.append(f"the barcode ranks have no knee: cells are all barcodes with more than {lower:,} counts.")
    return _Cut(totals >= limit, _table(), limit, notes)


def _cut_untested(totals: np.ndarray, lower: int, knee: float | None) -> _Cut:
    """What EmptyDrops falls back to without a profile of the ambient RNA: a plate, or too few empty droplets.

    Where a gap lies at ``lower``, as between wells and what sequencing errors leave of them, everything above it is a cell;
    so it is where nothing lies below. Else the knee decides.
    """
    low, high = totals[(totals > 0) & (totals <= lower)], totals[totals > lower]
    gap = not len(low) or (len(high) > 0 and high.min() >= _GAP * low.max())
    limit = float(lower + 1) if gap or knee is None else knee
    if len(high) and not len(low):
        note = (
            f"no barcode with counts has {lower:,} or fewer: nothing shows where cells end, all are called. If empty droplets "
            "are among them, raise `cells.lower` above their counts."
        )
    else:
        note = (
            f"{len(low):,} barcodes have 1 to {lower:,} counts, {int(low.sum()):,} together: too few for a profile of the "
            f"ambient RNA (at least {_MIN_DROPLETS:,} and {_MIN_COUNTS:,}). Droplets are not tested: cells are those with "
            f"{limit:,.0f} counts or more."
        )
    return _Cut(totals >= limit, _table(), limit, [note])


def _test(
    counts: csr_matrix, totals: np.ndarray, ambient: np.ndarray, params: Cells, knee: float | None, seed: int
) -> _Cut:
    """EmptyDrops: test every droplet above ``lower`` against the ambient RNA; those at ``retain`` or more are cells."""
    tested = totals > params.lower
    sums = totals[tested]
    alpha = estimate_alpha(counts, totals, ~tested, ambient)
    log_probs = log_probabilities(counts, tested, ambient, alpha)
    rng = np.random.default_rng(seed)
    p_values = monte_carlo_p_values(sums, log_probs, ambient, alpha, params.n_iterations, rng)
    retain, notes = (float(params.retain), []) if params.retain else _retain_from(knee, sums, p_values, params.lower)
    kept = sums >= (np.inf if retain is None else retain)
    n_iterations = params.n_iterations
    while True:
        # Droplets that are kept in any case count as certain: they must not change the correction of the others.
        certain = np.where(kept, 0.0, p_values)
        fdr = false_discovery_control(certain, method="bh") if len(sums) else certain
        is_cell = fdr <= params.fdr
        smallest = 1 / (n_iterations + 1)
        limited = ~is_cell & (p_values <= smallest)
        if not limited.any():
            break
        # Their p values are as small as they can be and still too large for this many tests: find out how small they are,
        # in a run of their own, so that it is no less valid for their having been chosen by the one before.
        needed = int(np.ceil(len(sums) / (params.fdr * (certain <= smallest).sum())))
        affordable = min(_MOST_ITERATIONS, int(_MOST_MOLECULES / sums[limited].max()))
        more = min(max(2 * n_iterations, needed), affordable)
        if more <= n_iterations:
            break
        n_iterations = more
        p_values[limited] = monte_carlo_p_values(sums[limited], log_probs[limited], ambient, alpha, n_iterations, rng)
    if limited.any():
        notes.append(
            f"{int(limited.sum()):,} droplets have the smallest p value that {n_iterations:,} simulated droplets can show and "
            f"are still not called at a false discovery rate of {params.fdr:g}: raise `cells.n_iterations`."
        )
    called = np.zeros(len(totals), dtype=bool)
    called[np.flatnonzero(tested)[is_cell]] = True
    table = _table(
        at=np.flatnonzero(tested),
        total=sums,
        log_probability=log_probs + of_total(sums, alpha),
        p_value=p_values,
        fdr=fdr,
        called=is_cell,
    )
    return _Cut(called, table, retain, notes, alpha, n_iterations)


def _retain_from(
    knee: float | None, sums: np.ndarray, p_values: np.ndarray, lower: int
) -> tuple[float | None, list[str]]:
    """The counts from which droplets are cells untested: those at the knee, unless it is in doubt; and notes on that."""
    if knee is None:
        return None, []
    above = p_values[sums >= knee]
    looks_ambient = int((above > _AMBIENT_P).sum())
    if looks_ambient <= _TOO_MANY * len(above):
        return knee, []
    note = (
        f"{looks_ambient:,} of the {len(above):,} droplets at the knee ({knee:,.0f} counts) or above do not differ from the "
        "ambient RNA: the cells are of one kind, or the knee is not where they end (see the barcode ranks; `cells.retain` "
        "sets it)."
    )
    if knee >= _FAR * lower:
        return knee, [note]
    return None, [note, f"the knee is close to `cells.lower` ({lower:,}): no droplet is called untested."]
