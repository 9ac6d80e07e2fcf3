"""``python -m latentomics.simulate DIR``: write the demo's simulated study."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m latentomics.simulate", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the study; made where it is missing")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        parser.error("--seed must not be negative")

    from latentomics.simulate.cells import CellParams, simulate
    from latentomics.simulate.files import write_study

    simulated = simulate(CellParams(seed=arguments.seed))
    try:
        written = write_study(simulated, arguments.folder)
    except OSError as error:
        print(f"cannot write the study: {error}", file=sys.stderr)
        return 1
    cells, genes = simulated.counts.shape
    samples = simulated.obs["sample"].nunique()
    sheet = arguments.folder / "samples.tsv"
    print(f"{sheet}: {samples} samples, {cells:,} cells x {genes:,} genes, {len(written)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
