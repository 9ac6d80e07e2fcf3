"""Paths of a study, in the form in which jobs record them."""

from __future__ import annotations

import os
from pathlib import Path


def of_study(path: Path) -> Path:
    """A normal path, relative where it lies below the current folder (that of the study in a run).

    Snakemake runs a job again when the path of an input or a param changed. Absolute paths would make a study that was
    moved or copied run from the start.
    """
    path = Path(os.path.normpath(path.absolute()))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
