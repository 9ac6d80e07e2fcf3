"""What each rule needs of a machine, predicted from the size of its inputs.

``memory = (base + factor x input MB) x attempt`` and the like for time. One row per rule; where a rule's memory does
not grow with its input, the factor is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Need(NamedTuple):
    """Memory in MB and run time in minutes, each a base and a factor per MB of input."""

    memory: float
    memory_per_mb: float
    minutes: float
    minutes_per_mb: float


NEEDS: dict[str, Need] = {
    "scrna_reference": Need(2000, 30, 20, 0.5),
    "scrna_quantify": Need(4000, 1, 30, 0.1),
    "scrna_sample": Need(1200, 40, 10, 0.5),
    "scrna_doublets": Need(2500, 60, 60, 5.0),
    "scrna_ambient": Need(2000, 60, 30, 5.0),
    "scrna_ambient_gpu": Need(4000, 60, 240, 10.0),
    "scrna_merge": Need(800, 8, 10, 0.05),
    "metagenome_host": Need(2000, 10, 10, 0.2),
    "metagenome_reads": Need(1200, 1, 15, 0.3),
    "metagenome_database": Need(2000, 8, 20, 0.3),
    "metagenome_profile": Need(1500, 3, 15, 0.2),
    "metagenome_profiles": Need(4000, 3, 30, 0.2),
    "metagenome_table": Need(1000, 20, 10, 0.2),
    "metagenome_merge": Need(1000, 20, 10, 0.1),
    "metagenome_diversity": Need(1500, 60, 20, 0.5),
    "metagenome_prediction": Need(2500, 60, 240, 2.0),
    "reads_data": Need(1500, 2, 20, 0.5),
    "reads_train": Need(2500, 2, 120, 3.0),
    "reads_baseline": Need(2000, 20, 60, 1.0),
    "reads_evaluate": Need(2000, 4, 30, 1.0),
    "reads_attribution": Need(2500, 2, 60, 0.1),
    "reads_curve": Need(2000, 20, 60, 1.0),
    "reads_curve_gpu": Need(2500, 2, 120, 3.0),
    "reads_scores": Need(1000, 1, 20, 0.1),
    "reads_predict": Need(1500, 1, 30, 1.0),
    "quality_page": Need(1000, 8, 20, 0.2),
    "features": Need(1000, 4, 10, 0.05),
    "embed": Need(1200, 15, 20, 0.5),
    "embed_gpu": Need(2500, 15, 120, 2.0),
    "cluster": Need(1500, 60, 30, 5.0),
    "layout": Need(1500, 60, 30, 5.0),
    "markers": Need(1200, 20, 20, 0.5),
    "scores": Need(2500, 15, 30, 0.5),
    "final_file": Need(800, 2, 20, 0.1),
    "report": Need(1500, 8, 20, 0.2),
}


def memory(rule: str) -> Callable[..., int]:
    """Function for a rule's ``mem_mb``."""
    need = NEEDS[rule]

    def mem_mb(wildcards: Any, input: Iterable[str], attempt: int) -> int:
        return round((need.memory + need.memory_per_mb * megabytes(input)) * attempt)

    return mem_mb


def minutes(rule: str) -> Callable[..., int]:
    """Function for a rule's ``runtime``."""
    need = NEEDS[rule]

    def runtime(wildcards: Any, input: Iterable[str], attempt: int) -> int:
        return round((need.minutes + need.minutes_per_mb * megabytes(input)) * attempt)

    return runtime


def megabytes(paths: Iterable[str]) -> float:
    """Size on disk of files and folders.

    Raises
    ------
    FileNotFoundError
        An input does not exist yet; Snakemake then asks again when it does.
    """
    total = 0
    for name in paths:
        path = Path(name)
        files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
        total += sum(f.stat().st_size for f in files)
    return total / 1e6
