"""Real public data by name: ``python -m latentomics.io.datasets NAME [--to DIR]``.

Fetches the files of a data set, checks them, and writes a study beside them that runs as it is:
``snakemake --directory DIR``. The registry is ``resources/datasets.yaml``. A file gets its final name only after
its check, so what lies under DIR/data is whole. A local mirror, ``$LATENTOMICS_MIRROR/<data set>/<file>``, goes before
the network and is checked as well.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, NoReturn

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from latentomics.config.base import Section
from latentomics.problems import InputError, Problem

REGISTRY = Path(__file__).resolve().parents[3] / "resources" / "datasets.yaml"
MIRROR = "LATENTOMICS_MIRROR"
CONFIG = "samples: config/samples.tsv\n"
TIMEOUT = 60.0
"""Seconds of silence after which a server is given up."""

# One path component that cannot leave its folder: no separator, no leading dot.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Cell = Annotated[str, StringConstraints(pattern=r"^[^\t\r\n\"]*$")]


class Content(Section):
    """What an archive holds, where its bytes may differ between copies."""

    matrix: str = Field(description="Folder in the archive with a 10x v2 matrix.")
    n_cells: int = Field(ge=1, description="Cells.")
    n_genes: int = Field(ge=1, description="Genes.")
    nnz: int = Field(ge=0, description="Non-zero counts.")
    total: int = Field(ge=0, description="Sum of all counts.")


class File(Section):
    """One published file. Exactly one of ``sha256`` and ``content`` checks it."""

    name: Name
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] | None = Field(
        description="null: mirror only."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    content: Content | None = None
    unpack: Name | None = Field(None, description="Folder beside the file that the archive is unpacked into.")

    @model_validator(mode="after")
    def _one_check(self) -> File:
        if (self.sha256 is None) == (self.content is None):
            raise ValueError("exactly one of sha256 and content must be given")
        return self


class Dataset(Section):
    """A data set and the study that is written for it."""

    description: Text
    licence: Text
    citation: Text
    files: list[File] = Field(min_length=1)
    sheet: list[dict[Name, Cell]] = Field(min_length=1, description="Rows of config/samples.tsv.")

    @field_validator("sheet")
    @classmethod
    def _paths_inside(cls, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        for row in rows:
            if missing := {"sample", "assay", "path"} - row.keys():
                raise ValueError(f"a row of the sheet lacks {', '.join(sorted(missing))}")
            for key in row.keys() & {"path", "path_2", "metadata"}:
                parts = PurePosixPath(row[key]).parts
                if parts[:2] != ("..", "data") or len(parts) < 3 or ".." in parts[2:]:
                    raise ValueError(f"{key} {row[key]!r} must lie under ../data/")
        return rows

    @model_validator(mode="after")
    def _names_differ(self) -> Dataset:
        names = [name for file in self.files for name in (file.name, file.unpack) if name]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("two files or unpacked folders have the same name")
        return self


@dataclass(frozen=True)
class Fetched:
    """A fetched data set.

    Attributes
    ----------
    folder
        The study: ``snakemake --directory`` this.
    files
        The checked files, under ``folder/data``.
    notes
        What was done, one line per file.
    """

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def load_registry(path: Path = REGISTRY) -> dict[str, Dataset]:
    """Read and validate the registry of data sets.

    Raises
    ------
    InputError
        With every fault of the registry.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _fail(path, f"the registry of data sets cannot be read: {error}", "Restore the file from the release.")
    if not isinstance(raw, dict):
        _fail(path, "the registry of data sets is not a mapping of names to entries", "Restore it from the release.")
    found: dict[str, Dataset] = {}
    problems = []
    hint = "See the comment at the head of the registry for what an entry holds."
    for name, entry in raw.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)):
            problems.append(Problem(str(path), "a data set's name may hold letters, digits, _ and -", hint, value=name))
            continue
        try:
            found[str(name)] = Dataset.model_validate(entry)
        except ValidationError as error:
            for fault in error.errors():
                key = ".".join(map(str, (name, *fault["loc"])))
                problems.append(Problem(str(path), fault["msg"], hint, key=key, value=fault["input"]))
    if problems:
        raise InputError(problems)
    return found


def fetch(
    name: str,
    to: Path | None = None,
    *,
    registry: Mapping[str, Dataset] | None = None,
    mirror: Path | None = None,
    attempts: int = 4,
    backoff: float = 1.0,
    progress: bool = False,
) -> Fetched:
    """Fetch and check a data set and write its study. A second call fetches only what is missing or wrong.

    Parameters
    ----------
    name
        Name in the registry.
    to
        Folder of the study; ``data/<name>`` by default.
    registry
        Data sets by name; the shipped registry by default.
    mirror
        Folder that holds ``<data set>/<file>``; goes before the network.
    attempts
        How often a file is asked for when the connection fails.
    backoff
        Seconds before the second attempt; doubled before each further one.
    progress
        Draw a progress bar on stderr.

    Raises
    ------
    InputError
        When the name is unknown, or a file cannot be had or fails its check. Files that passed are kept.
    """
    known = load_registry() if registry is None else registry
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        guess = f"Did you mean {close[0]!r}? " if close else ""
        _fail(REGISTRY, "unknown data set", f"{guess}Known: {', '.join(sorted(known))}.", value=name)
    dataset = known[name]
    folder = Path("data") / name if to is None else Path(to)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    files, notes = [], []
    for file in dataset.files:
        final = data / file.name
        source = mirror / name / file.name if mirror is not None else None
        if final.is_file() and check(final, file) is None:
            notes.append(f"{final}: already there, checked")
        else:
            notes.append(f"{final}: from {_obtain(name, file, final, source, attempts, backoff, progress)}, checked")
        if file.unpack is not None:
            _unpack(final, data / file.unpack)
        files.append(final)
    notes += _write_study(dataset, folder / "config")
    return Fetched(folder, tuple(files), tuple(notes))


def check(path: Path, file: File) -> str | None:
    """Say what is wrong with the bytes or the content of a file; None when it is what was published."""
    if file.content is not None:
        return _check_content(path, file.content)
    import pooch

    found = pooch.file_hash(str(path), alg="sha256")
    return None if found == file.sha256 else f"its sha256 is {found}, not {file.sha256}"


def _check_content(path: Path, content: Content) -> str | None:
    import numpy as np
    from scipy.io import mmread

    folder = PurePosixPath(content.matrix)
    try:
        with tarfile.open(path) as archive:
            lines = {}
            for part in ("barcodes", "genes"):
                member = archive.extractfile(str(folder / f"{part}.tsv"))
                lines[part] = sum(1 for _ in member) if member else 0
            matrix = mmread(archive.extractfile(str(folder / "matrix.mtx")))
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError, zlib.error) as error:
        return f"it is not the expected archive ({error})"
    found = {
        "n_genes": matrix.shape[0],
        "n_cells": matrix.shape[1],
        "nnz": int(np.count_nonzero(matrix.data)),
        "total": int(matrix.data.sum()),
    }
    wrong = [
        f"{key} is {value:,}, not {getattr(content, key):,}"
        for key, value in found.items()
        if value != getattr(content, key)
    ]
    if (lines["genes"], lines["barcodes"]) != matrix.shape:
        wrong.append(f"{lines['genes']:,} gene and {lines['barcodes']:,} barcode names do not fit the matrix")
    return "; ".join(wrong) or None


def _obtain(
    name: str, file: File, final: Path, source: Path | None, attempts: int, backoff: float, progress: bool
) -> str:
    """Put a checked file under its final name; return where it came from."""
    place = f"{name}/{file.name}"
    # On the same file system as the final name, so that the last step is one atomic rename.
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".fetch-") as staging:
        partial = Path(staging) / file.name
        if source is not None and source.is_file():
            shutil.copyfile(source, partial)
            if wrong := check(partial, file):
                _fail(
                    source,
                    f"not the published file: {wrong}",
                    f"Replace or remove this copy in the mirror (${MIRROR}).",
                )
            origin = str(source)
        elif file.url is None:
            looked = f"there is none at {source}" if source is not None else f"${MIRROR} is not set"
            _fail(
                place,
                f"this file has no public address, only mirrors hold it, and {looked}",
                f"Set {MIRROR} to a folder that holds {place}.",
            )
        else:
            _download(file.url, partial, place, attempts, backoff, progress)
            if wrong := check(partial, file):
                _fail(
                    file.url,
                    f"not the published file: {wrong}",
                    f"Run again; if it stays so, the source or a proxy in between has changed it: put the right file at "
                    f"<folder>/{place} and set {MIRROR}=<folder>.",
                )
            origin = file.url
        os.replace(partial, final)
    return origin


def _download(url: str, partial: Path, place: str, attempts: int, backoff: float, progress: bool) -> None:
    import pooch
    import requests

    download = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=1 << 16,
        timeout=TIMEOUT,
        # Published .gz files must arrive as they are, not unpacked on the way; some hosts refuse a library by its name.
        headers={"Accept-Encoding": "identity", "User-Agent": "latentomics"},
    )
    mirror_hint = f"put the file at <folder>/{place} and set {MIRROR}=<folder>."
    for attempt in range(1, attempts + 1):
        try:
            download(url, str(partial), None)
            return
        except requests.HTTPError as error:
            status = error.response.status_code
            # Of the refusals only "timeout" and "too many requests" mend themselves.
            if attempt == attempts or (status < 500 and status not in (408, 429)):
                what = f"the server answered {status} {error.response.reason}"
                _fail(url, what, f"The file may have moved: {mirror_hint}")
        except requests.RequestException as error:
            if attempt == attempts:
                what = f"the connection failed {attempts} times, the last time with {type(error).__name__}: {error}"
                _fail(url, what, f"Check the network (HTTPS_PROXY) and run again, or {mirror_hint}")
        time.sleep(backoff * 2 ** (attempt - 1))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a checked archive into ``folder``, whole or not at all, and never outside of it."""
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            if folder.is_dir() and all(
                (folder / m.name).is_file() and (folder / m.name).stat().st_size == m.size
                for m in members
                if m.isfile()
            ):
                return
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as staging:
                fresh = Path(staging) / "new"
                fresh.mkdir()
                tar.extractall(fresh, filter="data")
                if folder.exists():
                    os.replace(folder, Path(staging) / "old")
                os.replace(fresh, folder)
    except tarfile.TarError as error:
        hint = "Do not use this archive; report it to the people who run its source."
        _fail(archive, f"the archive was not unpacked: {error}", hint)


def _write_study(dataset: Dataset, folder: Path) -> list[str]:
    """Write config.yaml and samples.tsv where there is none yet; return what was done."""
    columns = list(dict.fromkeys(key for row in dataset.sheet for key in row))
    lines = [columns, *([row.get(column, "") for column in columns] for row in dataset.sheet)]
    sheet = "".join("\t".join(line) + "\n" for line in lines)
    folder.mkdir(parents=True, exist_ok=True)
    notes = []
    for name, text in (("config.yaml", CONFIG), ("samples.tsv", sheet)):
        path = folder / name
        if not path.exists():
            path.write_text(text, encoding="utf-8", newline="\n")
            notes.append(f"{path}: written")
        elif path.read_bytes() != text.encode():
            notes.append(
                f"{path}: differs from the registry's and was kept as it is (remove it to have it written anew)"
            )
    return notes


def _fail(file: Path | str, what: str, hint: str, value: object | None = None) -> NoReturn:
    raise InputError(Problem(str(file), what, hint, value=value))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m latentomics.io.datasets",
        description="Fetch a public data set and write a study for it.",
        epilog=f"Files are taken from ${MIRROR}/<data set>/<file> where they are there, else from their public address.",
    )
    parser.add_argument("name", metavar="NAME", help="data set, as named in resources/datasets.yaml")
    parser.add_argument("--to", metavar="DIR", type=Path, help="folder of the study (default: data/NAME)")
    arguments = parser.parse_args(argv)
    mirror = Path(os.environ[MIRROR]) if os.environ.get(MIRROR) else None
    try:
        registry = load_registry()
        fetched = fetch(arguments.name, arguments.to, registry=registry, mirror=mirror, progress=sys.stderr.isatty())
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot write the data set: {error}", file=sys.stderr)
        return 1
    dataset = registry[arguments.name]
    print(*fetched.notes, sep="\n")
    print(f"Licence: {dataset.licence}\nCite: {dataset.citation}\nRun: snakemake --directory {fetched.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
