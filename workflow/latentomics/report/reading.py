"""Result files as the page reads them: what is absent is empty, and names stay names."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file; empty if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_tsv(path: Path, text: Collection[str]) -> pd.DataFrame:
    """A table; empty if there is no such file.

    Parameters
    ----------
    text
        Columns that are text even where they look like numbers. Others are numbers if every value that is there is one.
    """
    if not path.exists() or path.stat().st_size == 0:
        return pd.DataFrame()
    # As text first, only "" missing: a sample called "NA" or "007" keeps its name.
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for column in frame.columns.difference(list(text), sort=False):
        number = pd.to_numeric(frame[column], errors="coerce")
        if (number.notna() | frame[column].str.lower().isin(["", "nan", "na"])).all():
            frame[column] = number
    return frame
