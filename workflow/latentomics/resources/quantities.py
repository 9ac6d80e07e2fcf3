"""How large a job is: what its inputs hold, read from headers, attributes and sizes, never from the data.

Every function of :data:`QUANTITIES` takes the files and folders that a job reads and gives one number, whose unit is in
its name. A file that cannot be read is measured by its size: that its content is at fault is said elsewhere, in better
words. Every cluster job imports this module, so h5py and pyarrow are imported where they are used.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

#: Entries of a counts store that are read at a time (:meth:`latentomics.io.store.CountsStore.blocks`).
BLOCK = 1 << 22
#: Bytes of an entry of a sparse matrix (value and column), and of an observation's row in the tables beside it.
ENTRY_BYTES, ROW_BYTES = 8, 500
#: Observations beyond which an embedding's training takes no longer: `max_steps` ends it before `max_epochs` does
#: (60,000 steps of 128 observations are 300 epochs of so many, see :mod:`latentomics.embed.training`).
TRAINED = 25_600
#: Bytes of a value in a table of counts: a digit and a separator, for most are zero.
TEXT_BYTES = 2
#: Endings of tables of counts as text.
TEXT = (".csv", ".tsv", ".txt")


class Matrix(NamedTuple):
    """Observations and stored entries of a matrix of counts; whether it is read block by block."""

    observations: int
    entries: int
    in_blocks: bool = False


def million_entries(paths: Iterable[str]) -> float:
    """Stored entries of all matrices among the inputs; of dense ones, all values."""
    return sum(matrix.entries for matrix in matrices(paths)) / 1e6


def streamed_megabytes(paths: Iterable[str]) -> float:
    """What is held by a job that reads its matrices piece by piece.

    One block of a store, or the largest of the samples' files, and a row of annotation for every observation.
    """
    found = list(matrices(paths))
    pieces = [min(matrix.entries, BLOCK) if matrix.in_blocks else matrix.entries for matrix in found]
    rows = sum(matrix.observations for matrix in found)
    return (max(pieces, default=0) * ENTRY_BYTES + rows * ROW_BYTES) / 1e6


def thousand_observations(paths: Iterable[str]) -> float:
    """Observations of all matrices among the inputs; where there is none, rows of the first table."""
    paths = list(paths)
    found = list(matrices(paths))
    if found:
        return sum(matrix.observations for matrix in found) / 1e3
    tables = [path for path in paths if path.endswith(".parquet")]
    return _known(_rows, tables[0]) / 1e3 if tables else 0.0


def thousand_trained(paths: Iterable[str]) -> float:
    """Observations that decide how long a network trains: all of them, up to :data:`TRAINED`."""
    return min(thousand_observations(paths), TRAINED / 1e3)


def million_values(paths: Iterable[str]) -> float:
    """Observations x selected features: what an embedding is given."""
    paths = list(paths)
    return thousand_observations(paths) * _all_selected(paths) / 1e3


def million_trained_values(paths: Iterable[str]) -> float:
    """Observations that decide how long a network trains x selected features, to which most of a step is proportional."""
    paths = list(paths)
    return thousand_trained(paths) * _all_selected(paths) / 1e3


def thousand_reads(paths: Iterable[str]) -> float:
    """Labelled reads in the folders that hold training data."""
    return sum(_known(_labelled, path) for path in paths if Path(path).name == "data") / 1e3


def megabytes(paths: Iterable[str]) -> float:
    """Size on disk of files and folders."""
    return sum(map(_bytes, paths)) / 1e6


QUANTITIES: dict[str, Callable[[Iterable[str]], float]] = {
    function.__name__: function
    for function in (
        million_entries,
        streamed_megabytes,
        thousand_observations,
        thousand_trained,
        million_values,
        million_trained_values,
        thousand_reads,
        megabytes,
    )
}


def measure(quantity: str, paths: Iterable[str]) -> float:
    """How large a job with these inputs is.

    Parameters
    ----------
    quantity
        A name of :data:`QUANTITIES`.

    Raises
    ------
    FileNotFoundError
        An input does not exist yet.
    """
    return float(QUANTITIES[quantity]([str(path) for path in paths]))


def sizes(paths: Iterable[str]) -> dict[str, float]:
    """A job's size in every quantity that it has any of.

    Raises
    ------
    FileNotFoundError
        An input does not exist yet.
    """
    paths = [str(path) for path in paths]
    found = {name: float(f"{measure(name, paths):.6g}") for name in QUANTITIES}
    return {name: value for name, value in found.items() if value}


def matrices(paths: Iterable[str]) -> Iterator[Matrix]:
    """The matrices of counts among some files and folders, told by their names."""
    for path in paths:
        plain = path.lower().removesuffix(".gz")
        if plain.endswith(".zarr"):
            yield _known(_store, path)
        elif plain.endswith((".h5ad", ".h5")):
            yield _known(_hdf5, path)
        elif plain.endswith(".mtx"):
            yield _known(_matrix_market, path)
        elif plain.endswith(TEXT) and not _names_only(plain):
            yield Matrix(0, _known(_text_bytes, path) // TEXT_BYTES)


def _names_only(path: str) -> bool:
    """Whether a table of text is the list of barcodes or features beside a matrix."""
    return Path(path).stem.endswith(("barcodes", "features", "genes"))


def _known(read: Callable[[Path], Any], path: str) -> Any:
    """What a reader makes of a file, read again only when the file changes."""
    stat = Path(path).stat()
    return _read(read, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=100_000)
def _read(read: Callable[[Path], Any], path: str, changed: int, size: int) -> Any:
    try:
        return read(Path(path))
    except FileNotFoundError as error:
        # A folder that a killed job left half made. Snakemake asks again only if the file missing is the input itself.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except Exception:
        # Of a damaged file: what its preflight says of it must not be hidden by a fault of this prediction.
        guess = _bytes(path) // TEXT_BYTES
        return Matrix(0, guess) if read in (_store, _hdf5, _matrix_market) else guess


def _store(path: Path) -> Matrix:
    rows = _attributes(path / "X")["attributes"]["shape"][0]
    return Matrix(int(rows), int(_attributes(path / "X/data")["shape"][0]), in_blocks=True)


def _attributes(node: Path) -> dict[str, Any]:
    return dict(json.loads((node / "zarr.json").read_text("utf-8")))


def _hdf5(path: Path) -> Matrix:
    """Of a 10x ``.h5`` (genes x barcodes) or an ``.h5ad``: of its largest matrix, whichever slot is read."""
    import h5py

    with h5py.File(path, "r") as file:
        if "X" not in file and "layers" not in file:
            groups = [group for group in file.values() if isinstance(group, h5py.Group) and "barcodes" in group]
            return max(Matrix(len(group["barcodes"]), len(group["data"])) for group in groups)
        nodes = [file.get("X"), file.get("raw/X"), *file.get("layers", {}).values()]
        return max(_h5ad_matrix(node) for node in nodes if node is not None)


def _h5ad_matrix(node: Any) -> Matrix:
    if hasattr(node, "shape"):  # dense
        return Matrix(int(node.shape[0]), int(node.shape[0] * node.shape[1]))
    shape = node.attrs["shape"] if "shape" in node.attrs else node.attrs["h5sparse_shape"]
    return Matrix(int(shape[0]), len(node["data"]))


def _matrix_market(path: Path) -> Matrix:
    """Of the line of sizes: rows (genes, as 10x writes them), columns, entries."""
    with _open(path) as file:
        line = next(line for line in file if line.strip() and not line.startswith(b"%"))
    _, columns, entries = (int(word) for word in line.split())
    return Matrix(columns, entries)


def _text_bytes(path: Path) -> int:
    """Size of a text, unpacked: gzip keeps it in its last four bytes (of 4 GB and more, the rest of the division)."""
    packed = path.stat().st_size
    if path.suffix != ".gz" or packed < 18:
        return packed
    with path.open("rb") as file:
        file.seek(-4, 2)
        size = int.from_bytes(file.read(), "little")
    # Text does not shrink below its packed size; a file of several parts keeps only that of the last.
    return max(size, packed)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _labelled(folder: Path) -> int:
    return int(json.loads((folder / "data.json").read_text("utf-8"))["reads"])


def _rows(path: Path) -> int:
    from pyarrow.parquet import read_metadata

    return int(read_metadata(path).num_rows)


def _all_selected(paths: Iterable[str]) -> float:
    """Selected features of the tables of features among the inputs."""
    return sum(_known(_selected, path) for path in paths if Path(path).name == "features.parquet")


def _selected(path: Path) -> int:
    from pyarrow.parquet import read_table

    return sum(read_table(path, columns=["selected"])["selected"].to_pylist())


def _bytes(name: str) -> int:
    path = Path(name)
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files)
