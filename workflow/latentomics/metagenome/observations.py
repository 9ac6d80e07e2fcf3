"""What the sheet says of each observation: its covariates, and whether it is a negative control."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from latentomics.config.confounding import PER_CELL
from latentomics.config.row import InputRow, closest
from latentomics.io.tables import fault
from latentomics.metagenome.taxon_formats import metadata_table
from latentomics.problems import InputError, Problem

#: Words of the column ``control``.
CONTROL_WORDS = dict.fromkeys(("yes", "true", "1", "y", "t"), True) | dict.fromkeys(
    ("", "no", "false", "0", "n", "f", "na", "nan"), False
)


def is_control(value: str) -> bool:
    """Whether a value of the column ``control`` marks a negative control.

    Raises
    ------
    ValueError
        If it says neither yes nor no.
    """
    word = value.strip().casefold()
    if word not in CONTROL_WORDS:
        raise ValueError(f"neither yes nor no: {value!r}")
    return CONTROL_WORDS[word]


def observations(row: InputRow, names: Sequence[str], own: pd.DataFrame) -> pd.DataFrame:
    """The sheet's covariates, per observation.

    Parameters
    ----------
    row
        A row of the sheet.
    names
        Its observations.
    own
        What its file itself says of them (indexed by observation); the ``metadata`` table wins over it.

    Returns
    -------
    DataFrame
        Index ``sample_id``; one column of strings per covariate, ``control`` as ``yes`` or empty. A value ``obs:NAME``
        of the sheet stands for the column ``NAME`` of the table, any other value for itself.

    Raises
    ------
    InputError
        Naming every column that is missing, or if less than half of the observations are in the metadata table.
    """
    known = own.reindex(list(names))
    if row.metadata is not None:
        table = metadata_table(row, row.metadata)
        found = [name in table.index for name in names]
        if sum(found) * 2 < len(names):
            what = f"only {sum(found)} of {len(names)} samples are in the metadata table"
            hint = f"the table of taxa has samples like {names[0]!r}"
            hint += f", the metadata like {table.index[0]!r}: make them the same." if len(table) else "."
            raise fault(row, what, hint, file=row.metadata, key="metadata")
        known = pd.concat([known.drop(columns=table.columns, errors="ignore"), table.reindex(list(names))], axis=1)
    values: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for covariate, value in row.covariates.items():
        name = value.removeprefix(PER_CELL)
        if name != value and name not in known:
            columns = [str(column) for column in known.columns]
            listed = f"There are: {', '.join(columns)}." if columns else "Name a table in the column `metadata`."
            what, hint = f"no column {name!r} of samples, which the sheet names", closest(name, columns) + listed
            problems += fault(row, what, hint, file=row.metadata, key=covariate, value=value).problems
            continue
        values[covariate] = [value] * len(names) if name == value else known[name].fillna("").astype(str).to_list()
        if covariate == "control":
            unclear = [v for v in values["control"] if v.strip().casefold() not in CONTROL_WORDS]
            if unclear:
                hint = "write yes for a negative control, no or nothing for a sample."
                problems += fault(
                    row, "`control` says neither yes nor no", hint, key=covariate, value=unclear[0]
                ).problems
                continue
            values["control"] = ["yes" if is_control(v) else "" for v in values["control"]]
    if problems:
        raise InputError(problems)
    return pd.DataFrame(values, index=pd.Index(list(names), name="sample_id", dtype=object), dtype=object)


def sheet_observations(rows: Sequence[InputRow]) -> pd.DataFrame:
    """Covariates of a sample that is one observation itself (reads), from its rows of the sheet; see :func:`observations`."""
    return observations(rows[0], [rows[0].sample], pd.DataFrame(index=[rows[0].sample]))
