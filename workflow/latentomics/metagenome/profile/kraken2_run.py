"""Fragments through one Kraken2 process, and what became of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latentomics.metagenome.profile.sketch import locate, sketches
from latentomics.problems import InputError, Problem

MARKER_KSIZE = 31
_BATCH = 2000


@dataclass
class Assigned:
    """Fragments of one sample by node; ``markers`` are the places of the marker k-mers seen (bool)."""

    markers: np.ndarray
    reads: int = 0
    fragments: int = 0
    bases: int = 0
    nodes: Counter[int] = field(default_factory=Counter)


def environment(threads: int) -> dict[str, str]:
    """Environment for Kraken2's programs, which refuse more threads than ``OMP_NUM_THREADS`` allows."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


def run(
    database: Path,
    fragments: Iterable[tuple[int, str, int]],
    confidence: float,
    minimum_hit_groups: int,
    threads: int,
) -> Iterator[tuple[int, int, str, int]]:
    """Classify fragments of any number of samples in one process.

    Parameters
    ----------
    fragments
        Number of the sample, sequence (mates joined by one N, which no k-mer spans: one process takes pairs and single
        reads alike) and number of reads in it.

    Yields
    ------
    sample, taxid, sequence, n_reads
        Node of each fragment, 0 if unclassified.

    Raises
    ------
    InputError
        If Kraken2 fails, with what it said; whatever reading ``fragments`` raises.
    """
    program = shutil.which("kraken2")
    if program is None:
        raise InputError(Problem("kraken2", "program not found", "install Kraken2, or use the profiler sourmash."))
    command = [program, "--db", str(database.absolute()), "--threads", str(threads), "--confidence", str(confidence)]
    command += ["--minimum-hit-groups", str(minimum_hit_groups), "/dev/fd/0"]
    waiting: dict[int, tuple[int, str, int]] = {}
    failed: list[BaseException] = []

    def feed(stream) -> None:  # type: ignore[no-untyped-def]
        try:
            batch: list[str] = []
            for serial, fragment in enumerate(fragments):
                waiting[serial] = fragment
                batch.append(f">{serial}\n{fragment[1]}\n")
                if len(batch) == _BATCH:
                    stream.write("".join(batch).encode())
                    batch = []
            stream.write("".join(batch).encode())
        except BrokenPipeError:
            pass  # Kraken2 ended early; its status tells.
        except BaseException as error:
            failed.append(error)
        finally:
            with suppress(BrokenPipeError):
                stream.close()

    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment(threads)
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=feed, args=(process.stdin,), daemon=True)
        feeder.start()
        try:
            for line in process.stdout:
                _, serial, taxid, _ = line.split(b"\t", 3)
                sample, sequence, n_reads = waiting.pop(int(serial))
                yield sample, int(taxid), sequence, n_reads
            feeder.join()
            status = process.wait()
        except BaseException:
            process.kill()
            feeder.join()
            raise
        if failed:
            raise failed[0]
        if status or waiting:
            said.seek(0)
            words = " | ".join(said.read().decode(errors="replace").strip().splitlines()[-3:])
            what = f"kraken2 failed with status {status}: {words}"
            hint = "is the database complete, and does it fit into memory?"
            raise InputError(Problem(str(database), what, hint))


def assign(
    classified: Iterable[tuple[int, int, str, int]],
    n_samples: int,
    markers: np.ndarray,
    scaled: int,
    within_species: set[int],
) -> list[Assigned]:
    """Count the fragments of each sample by node, and the marker k-mers of those assigned within a species.

    Parameters
    ----------
    markers : (n_markers,) uint64
        Ascending; empty where the database has none.
    scaled
        Fraction at which they were sketched.
    within_species
        Nodes at or below a species.
    """
    found = [Assigned(np.zeros(len(markers), dtype=bool)) for _ in range(n_samples)]
    own: list[list[str]] = [[] for _ in range(n_samples)]

    def look(sample: int) -> None:
        for hashes, _ in sketches(own[sample], MARKER_KSIZE, scaled):
            found[sample].markers[locate(hashes, markers)[1]] = True
        own[sample] = []

    for sample, taxid, sequence, n_reads in classified:
        counted = found[sample]
        counted.fragments += 1
        counted.reads += n_reads
        counted.bases += len(sequence) - (n_reads - 1)
        if taxid:
            counted.nodes[taxid] += 1
            if len(markers) and taxid in within_species:
                own[sample].append(sequence)
                if len(own[sample]) == 10 * _BATCH:
                    look(sample)
    for sample in range(n_samples):
        look(sample)
    return found
