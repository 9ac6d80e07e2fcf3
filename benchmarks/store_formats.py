"""Which format the counts store should have: Zarr v3 in shards, by the codec pipeline in Python and by that in Rust, and HDF5.

    pip install zarrs                      # the Rust pipeline; without it, its rows are left out
    python benchmarks/made_cells.py MIRROR STORE --cells 100000 --store
    python benchmarks/store_formats.py STORE --work FOLDER > benchmarks/store_formats.md

Values and column numbers of the same cells, held in memory, are written in each format as the store's writer would, a
shard at a time; read whole in order, as rules do (4 million entries at a time); and read at random places: single rows,
runs of 64 rows, and runs of 4,096, as a training that outgrows memory does. All that is read is compared with the truth.
Files are in the page cache: this is the cost of the format, not of the disk. Everything runs in turn, ``--repeats`` times;
medians are shown.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
import zarr
from scipy.sparse import csr_matrix
from zarr.codecs import BloscCodec, ZstdCodec

from latentomics.io.store import BLOCK, CHUNK, CHUNKS_PER_SHARD, CountsStore, row_blocks

PARTS = ("data", "indices")
RUST = "zarrs.ZarrsCodecPipeline"
#: Reads: name, rows in a run, runs in one read, reads.
READS = {"single rows": (1, 512, 1), "runs of 64": (64, 8, 5), "runs of 4,096": (4096, 1, 5)}
READING = """\
All that was read is what was written, in every format. Blosc's LZ4 after a shuffle of bits writes with little more than a
third of the processor's time of zstd and scans with three quarters of it, at 4 % more bytes: that is what the store is
written with. Chunks of 512k entries are scanned in little more than half the time. But rules read beside their work: all of
100,000 cells took 180 s in place of 182 (`large.py compare`), and rules that read held up to a quarter more memory (`embed`
981 MB in place of 785), so chunks stay small. The pipeline in Rust reads in half the time, the same values; but it puts the
chunks of a shard in the order in which its threads end, so that the same counts give other bytes each time. A pass over a
million cells takes some 11 s of a processor, of which it would save six, beside other work too: not worth a dependency. HDF5
without compression is read fastest, at four times the bytes; nothing in this workflow reads single rows, and runs of rows
come faster than any network trains."""


class Format(Protocol):
    """A way to keep two long arrays."""

    def write(self, path: Path, matrix: csr_matrix) -> None: ...

    def opened(self, path: Path) -> Any:
        """Context in which the arrays can be sliced, by their names."""


class Zarr(NamedTuple):
    compressors: Any
    chunk: int = CHUNK
    shard: int = CHUNK * CHUNKS_PER_SHARD
    pipeline: str = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def write(self, path: Path, matrix: csr_matrix) -> None:
        with zarr.config.set({"codec_pipeline.path": self.pipeline}):
            root = zarr.open_group(path, mode="w", zarr_format=3)
            for part in PARTS:
                array = root.create_array(
                    part, shape=(matrix.nnz,), dtype="int32", chunks=(self.chunk,), shards=(self.shard,),
                    compressors=self.compressors,
                )  # fmt: skip
                for start in range(0, matrix.nnz, self.shard):
                    piece = slice(start, min(start + self.shard, matrix.nnz))
                    array[piece] = getattr(matrix, part)[piece]

    @contextmanager
    def opened(self, path: Path) -> Iterator[dict[str, Any]]:
        with zarr.config.set({"codec_pipeline.path": self.pipeline}):
            root = zarr.open_group(path, mode="r")
            yield {part: root[part] for part in PARTS}


class HDF5(NamedTuple):
    options: dict[str, Any]
    chunk: int = CHUNK
    shard: int = CHUNK * CHUNKS_PER_SHARD

    def write(self, path: Path, matrix: csr_matrix) -> None:
        with h5py.File(path, "w") as file:
            for part in PARTS:
                array = file.create_dataset(part, (matrix.nnz,), "int32", chunks=(self.chunk,), **self.options)
                for start in range(0, matrix.nnz, self.shard):
                    piece = slice(start, min(start + self.shard, matrix.nnz))
                    array[piece] = getattr(matrix, part)[piece]

    @contextmanager
    def opened(self, path: Path) -> Iterator[dict[str, Any]]:
        with h5py.File(path, "r") as file:
            yield {part: file[part] for part in PARTS}


def formats() -> dict[str, Format]:
    """All that are compared, by name."""
    lz4 = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)
    arrays = {
        "zstd 0": Zarr(ZstdCodec(level=0)),  # its default level, 3
        "blosc lz4, bitshuffle": Zarr(lz4),
        f"blosc lz4, bitshuffle, chunks of {CHUNK >> 13}k": Zarr(lz4, CHUNK // 8),
        f"blosc lz4, bitshuffle, chunks of {CHUNK >> 8}k": Zarr(lz4, CHUNK * 4),
        "blosc zstd 1, bitshuffle": Zarr(BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=4)),
        "blosc zstd 1, shuffle": Zarr(BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=4)),
        "zstd 1": Zarr(ZstdCodec(level=1)),
        "none": Zarr(None),
    }
    files = {
        "lzf, shuffle": {"compression": "lzf", "shuffle": True},
        "gzip 1, shuffle": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
        "lzf": {"compression": "lzf"},
        "gzip 4": {"compression": "gzip", "compression_opts": 4},
        "none": {},
    }
    found: dict[str, Format] = {}
    for name, array in arrays.items():
        found[f"zarr, {name}"] = array
        if find_spec("zarrs"):
            found[f"zarr in Rust, {name}"] = array._replace(pipeline=RUST)
    return found | {f"HDF5, {name}": HDF5(options) for name, options in files.items()}


def timed(act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall and of the processor, all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def scan(arrays: dict[str, Any], matrix: csr_matrix) -> None:
    for rows in row_blocks(matrix.indptr, BLOCK):
        entries = slice(matrix.indptr[rows.start], matrix.indptr[rows.stop])
        for part in PARTS:
            if not np.array_equal(arrays[part][entries], getattr(matrix, part)[entries]):
                raise RuntimeError(f"{part} of rows {rows.start} to {rows.stop} were read wrongly")


def at_random(arrays: dict[str, Any], matrix: csr_matrix, length: int, runs: int, reads: int) -> int:
    """Read runs of rows that begin anywhere; returns the rows read."""
    length = min(length, matrix.shape[0])
    starts = np.random.default_rng(0).integers(0, matrix.shape[0] - length + 1, (reads, runs))
    for start in starts.ravel():
        entries = slice(int(matrix.indptr[start]), int(matrix.indptr[start + length]))
        for part in PARTS:
            if not np.array_equal(arrays[part][entries], getattr(matrix, part)[entries]):
                raise RuntimeError(f"{part} of row {start} were read wrongly")
    return starts.size * length


def measure(form: Format, path: Path, matrix: csr_matrix) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds: of writing and of a scan per million entries, of reads at random per thousand rows."""
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    millions = matrix.nnz / 1e6
    found = {"write": tuple(s / millions for s in timed(lambda: form.write(path, matrix)))}
    with form.opened(path) as arrays:
        found["scan"] = tuple(s / millions for s in timed(lambda: scan(arrays, matrix)))
        for name, (length, runs, reads) in READS.items():
            rows = reads * runs * min(length, matrix.shape[0]) / 1e3
            seconds = timed(lambda: at_random(arrays, matrix, length, runs, reads))  # noqa: B023
            found[name] = tuple(s / rows for s in seconds)
    return found


def content(path: Path) -> dict[str, bytes]:
    """Every file of a format by its name: a hash of what it holds."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).digest() for file in files}


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="formats whose names contain this")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    matrix = CountsStore(options.store).select()
    chosen = {name: form for name, form in formats().items() if options.only in name}
    rounds: list[dict[str, dict[str, tuple[float, float]]]] = []
    sizes: dict[str, int] = {}
    contents: dict[str, list[dict[str, bytes]]] = {name: [] for name in chosen}
    for _ in range(options.repeats):
        rounds.append({})
        for name, form in chosen.items():
            path = options.work / "format"
            rounds[-1][name] = measure(form, path, matrix)
            sizes[name] = size(path)
            contents[name].append(content(path))
            print(name, {k: f"{1e3 * v[1]:.1f} ms" for k, v in rounds[-1][name].items()}, file=sys.stderr, flush=True)
    print(f"# Formats of the counts store\n\n{date.today()}, {os.cpu_count()} {platform.machine()} cores. ", end="")
    print(f"By `benchmarks/{Path(__file__).name}`: {matrix.shape[0]:,} cells x {matrix.shape[1]:,} genes, ", end="")
    print(
        f"{matrix.nnz:,} entries, {8 * matrix.nnz / 1e6:,.0f} MB as 32-bit values and columns. zarr {zarr.__version__}, ",
        end="",
    )
    print(f"h5py {h5py.__version__}. Chunks of {CHUNK >> 10}k entries, {CHUNKS_PER_SHARD} to a shard, unless said.\n")
    print(
        "Wall and CPU time in ms: of writing and of a scan per million entries, of reads at random per thousand rows.\n"
    )
    titles = ["write", "scan", *READS]
    print(f"| format | MB | {' | '.join(titles)} |\n| --- | ---: |{' ---: |' * len(titles)}")
    for name in chosen:
        median = {
            title: [statistics.median(1e3 * r[name][title][i] for r in rounds) for i in (0, 1)] for title in titles
        }
        cells = " | ".join(f"{wall:,.1f}, {cpu:,.1f}" for wall, cpu in median.values())
        print(f"| {name} | {sizes[name] / 1e6:,.0f} | {cells} |")
    if options.repeats > 1:
        unlike = [name for name, found in contents.items() if any(one != found[0] for one in found)]
        print(
            f"\nThe same matrix written {options.repeats} times gave other bytes with: {'; '.join(unlike) or 'none'}."
        )
    print(f"\n{READING}")


if __name__ == "__main__":
    main()
