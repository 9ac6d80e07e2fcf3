"""``python -m latentomics.simulate DIR``: write the demo's simulated study."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ASSAYS = ("scrna", "metagenome")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m latentomics.simulate", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the study; made where it is missing")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default: %(default)s)")
    parser.add_argument(
        "--assay", choices=(*ASSAYS, "both"), default="both", help="what to simulate (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        parser.error("--seed must not be negative")

    from latentomics.simulate.files import render_sheet, write_files

    files, rows, said = {}, [], []
    for assay in ASSAYS if arguments.assay == "both" else (arguments.assay,):
        made, described, summary = (_cells if assay == "scrna" else _metagenomes)(arguments.seed)
        files |= made
        rows += described
        said.append(summary)
    files["samples.tsv"] = render_sheet(rows)
    try:
        written = write_files(files, arguments.folder)
    except OSError as error:
        print(f"cannot write the study: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.folder / 'samples.tsv'}: {'; '.join(said)}; {len(written)} files written")
    return 0


def _cells(seed: int) -> tuple[dict[str, bytes], list[dict[str, str]], str]:
    from latentomics.simulate.cells import CellParams, simulate
    from latentomics.simulate.files import render_cells

    simulated = simulate(CellParams(seed=seed))
    cells, genes = simulated.counts.shape
    files, rows = render_cells(simulated)
    return files, rows, f"{len(rows)} samples, {cells:,} cells x {genes:,} genes"


def _metagenomes(seed: int) -> tuple[dict[str, bytes], list[dict[str, str]], str]:
    from latentomics.simulate.communities import MetagenomeParams
    from latentomics.simulate.metagenome_files import render_metagenomes

    files, rows = render_metagenomes(MetagenomeParams(seed=seed))
    controls = len({row["sample"] for row in rows if row["control"]})
    samples = len({row["sample"] for row in rows}) - controls
    return files, rows, f"{samples} metagenomes and {controls} negative controls"


if __name__ == "__main__":
    sys.exit(main())
