"""Who is called a doublet: the methods' calls and calls of another kind, made into one.

Only cells that passed QC are judged; a cell moves between kept and dropped as a doublet, and never to or from another
reason. The decision may be made again, when a method with a rule of its own has run: what was decided before is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from latentomics.config.doublets import Doublets
from latentomics.scrna.doublets.registry import DoubletCalls, method
from latentomics.scrna.qc import DOUBLET

#: Values of a column that mean "a doublet"; anything else non-empty means a singlet. (1 with missing values is read as 1.0.)
DOUBLET_WORDS = frozenset({"doublet", "dbl", "true", "1", "1.0", "yes"})
#: A vote needs more than this share of the methods that could judge the cell.
MAJORITY = 0.5


def said_doublets(labels: pd.Series) -> pd.Series:
    """Nullable booleans from a column of words (truth, sample hashing, genotypes); NA where it is empty."""
    words = labels.astype(str).str.strip().str.lower()
    return words.isin(DOUBLET_WORDS).astype("boolean").mask(labels.isna() | words.isin(["", "nan"]))


def calls_table(calls: DoubletCalls, cells: pd.Index) -> pd.DataFrame:
    """The calls of a method as a table, indexed by cell.

    Returns
    -------
    DataFrame
        ``score`` (NaN: not tested), ``doublet`` (nullable boolean; NA where the method abstains, because the cell has no
        score or the method no threshold) and ``threshold`` (NaN: none).
    """
    threshold = np.nan if calls.threshold is None else float(calls.threshold)
    abstains = np.isnan(calls.scores) | np.isnan(threshold)
    doublet = pd.Series(calls.called, index=cells).astype("boolean").mask(abstains)
    return pd.DataFrame({"score": calls.scores, "doublet": doublet, "threshold": threshold}, index=cells)


def decide(
    cells: pd.DataFrame, calls: Mapping[str, pd.DataFrame], params: Doublets, given: pd.Series | None = None
) -> pd.DataFrame:
    """Call doublets among the cells of one sample, or of several.

    Parameters
    ----------
    cells
        One row per cell with ``keep``, ``reason``, ``value`` and ``limit``.
    calls
        By method, the tables of :func:`calls_table`; cells that a table lacks were not tested. The calls of a method that
        is not among them are read from its columns in ``cells``. Methods with a rule of their own may be missing still.
    params
        ``call`` says who decides. A method that abstains calls nobody. ``vote``: more than half of the methods that
        could judge the cell; nobody is called until all have run. ``none``: no method calls anybody.
    given
        Column of words, indexed as ``cells``, that goes before any method where it is not empty, whatever ``call`` is.

    Returns
    -------
    DataFrame
        ``cells`` with ``doublet``, and ``doublet_score``: the score of the deciding method (``none``: of the first one),
        or the share of votes. With several methods, or one with a rule of its own, also ``{method}_score`` and
        ``{method}_doublet`` (nullable). ``doublets.drop`` makes ``doublet`` a reason: ``value`` and ``limit`` are then
        the score and the threshold, or the share of votes and one half; NaN where the call was given.

    Raises
    ------
    KeyError
        A method without a rule of its own has neither a table nor columns.
    """
    tables = {name: _table(name, cells, calls) for name in params.methods if _has_run(name, cells, calls)}
    was = cells["reason"] == DOUBLET
    judged = was | (cells["reason"] == "")
    decision = _decision(tables, params, cells.index)
    said = pd.Series(pd.NA, index=cells.index, dtype="boolean") if given is None else said_doublets(given)
    doublet = said.fillna(decision["doublet"]).fillna(False).astype(bool) & judged
    shown: dict[str, pd.Series] = {}
    if len(params.methods) > 1 or any(method(name).GPU for name in params.methods):
        for name, table in tables.items():
            shown |= {f"{name}_score": table["score"], f"{name}_doublet": table["doublet"]}
    shown |= {"doublet_score": decision["score"].where(judged), "doublet": doublet}

    out = cells.drop(columns=[name for name in shown if name in cells])
    out["reason"] = out["reason"].astype(object)  # categories may lack "doublet"
    out.loc[was, ["reason", "value", "limit"]] = ["", np.nan, np.nan]
    if params.drop:
        out.loc[doublet, "reason"] = DOUBLET
        by_score = doublet & said.isna()
        out.loc[by_score, "value"] = decision.loc[by_score, "score"]
        out.loc[by_score, "limit"] = decision.loc[by_score, "limit"]
    out["keep"] = out["reason"] == ""
    place = out.columns.get_loc("keep")
    return pd.concat([out.iloc[:, :place], pd.DataFrame(shown), out.iloc[:, place:]], axis=1)


def _has_run(name: str, cells: pd.DataFrame, calls: Mapping[str, pd.DataFrame]) -> bool:
    if name in calls or f"{name}_score" in cells:
        return True
    if method(name).GPU:
        return False
    raise KeyError(f"{name}: no calls were given, and the table of the cells has none")


def _table(name: str, cells: pd.DataFrame, calls: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Score, call and threshold of every cell."""
    if name in calls:
        table = calls[name].reindex(cells.index)
        return table.assign(doublet=table["doublet"].astype("boolean"))
    return pd.DataFrame(
        {
            "score": cells[f"{name}_score"],
            "doublet": cells[f"{name}_doublet"].astype("boolean"),
            # Needed only if this method decides, and then its doublets have it already.
            "threshold": cells["limit"].where(cells["reason"] == DOUBLET),
        }
    )


def _decision(tables: Mapping[str, pd.DataFrame], params: Doublets, index: pd.Index) -> pd.DataFrame:
    """Score, call (nullable) and limit of every cell."""
    nobody = pd.Series(pd.NA, index=index, dtype="boolean")
    if params.call == "vote" and params.methods and set(params.methods) <= set(tables):
        votes = pd.DataFrame({name: table["doublet"].astype("Float64") for name, table in tables.items()})
        share = votes.mean(axis=1).astype("Float64")
        doublet = share > MAJORITY
        return pd.DataFrame({"score": share.to_numpy(float, na_value=np.nan), "doublet": doublet, "limit": MAJORITY})
    name = params.call if params.call in params.methods else next(iter(params.methods), None)
    if params.call == "vote" or name not in tables:
        return pd.DataFrame({"score": np.nan, "doublet": nobody, "limit": np.nan}, index=index)
    table = tables[name]
    doublet = nobody if params.call == "none" else table["doublet"]
    return pd.DataFrame({"score": table["score"], "doublet": doublet, "limit": table["threshold"]})
