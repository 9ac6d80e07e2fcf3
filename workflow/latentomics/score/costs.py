"""What each embedding cost: time and memory from the workflow's benchmark files, device from the model's summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def cost_table(benchmarks: Mapping[str, Path], summaries: Mapping[str, Path]) -> pd.DataFrame:
    """One row per embedding: wall seconds, peak resident memory (MB) and device.

    These figures differ from run to run; they stand apart from the scores so that those can be compared byte for byte.
    """
    rows = []
    for method, path in benchmarks.items():
        measured = pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[-1]
        device = json.loads(Path(summaries[method]).read_text())["device"]
        rows.append(
            {
                "embedding": method,
                "seconds": round(float(measured["s"]), 1),
                "max_rss_mb": round(float(measured["max_rss"]), 0),
                "device": device,
            }
        )
    return pd.DataFrame(rows).set_index("embedding")
