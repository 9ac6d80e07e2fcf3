"""What jobs use, and the table of needs that is fitted to it.

    python benchmarks/resources.py run MIRROR --work FOLDER [--only demo,pbmc3k]   # run the studies, collect, fit
    python benchmarks/resources.py collect STUDY --run NAME                        # add the jobs of a study that ran
    python benchmarks/resources.py fit                                             # write needs.tsv anew
    python benchmarks/resources.py show > benchmarks/resources.md                  # predicted against used

``resources.tsv`` beside this file holds the observed jobs, ``resources_guesses.tsv`` which quantity drives each rule and what
is assumed of it where nothing was observed. Times are those of the machine at hand: run the studies where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pandas as pd

from latentomics.resources.account import LEAST_SECONDS, OVER, UNDER
from latentomics.resources.fit import OBSERVED, fit_needs, observation, write_needs
from latentomics.resources.predict import TABLE, Need, read_needs
from latentomics.resources.usage import read_usage

HERE = Path(__file__).resolve().parent
OBSERVATIONS, GUESSES = HERE / "resources.tsv", HERE / "resources_guesses.tsv"
#: Runs that are shown rule by rule.
SHOWN = ("demo", "pbmc3k", "sc_mixology")
#: Rules whose time is that of a training.
TRAINING = ("embed_gpu", "reads_train", "reads_curve_gpu", "scrna_ambient_gpu")


def collect(study: Path, run: str, short: bool = False, timed: bool = True) -> int:
    """Add the finished jobs of a study to the observations, instead of those of the same run; returns their number.

    Parameters
    ----------
    short
        Whether the networks were trained so briefly that their times say nothing.
    timed
        Whether nothing else ran meanwhile; otherwise no times are kept.
    """
    records = [record for record in read_usage(study / "results/usage") if record.get("sizes") is not None]
    jobs = pd.DataFrame([observation(run, record) for record in records], columns=list(OBSERVED))
    disturbed = jobs["rule"].isin(TRAINING) & short if timed else slice(None)
    jobs.loc[disturbed, ["seconds", "cpu_seconds"]] = float("nan")
    known = pd.read_csv(OBSERVATIONS, sep="\t") if OBSERVATIONS.exists() else jobs[:0]
    parts = [part for part in (known[known["run"] != run], jobs) if len(part)]
    if parts:
        joined = pd.concat(parts).sort_values(["rule", "job", "run"], kind="stable")
        joined.to_csv(OBSERVATIONS, sep="\t", index=False, float_format="%.6g")
    return len(jobs)


def fit() -> None:
    """Write the table of needs from guesses and observations."""
    write_needs(fit_needs(read_needs(GUESSES), pd.read_csv(OBSERVATIONS, sep="\t")), TABLE)


def run(mirror: Path, work: Path, names: list[str], together: bool = False) -> int:
    """Write and run the studies, one after the other, and collect each; returns how many failed.

    Parameters
    ----------
    together
        Run jobs side by side, where memory is all that matters.
    """
    from resource_studies import STUDIES, write_study

    if unknown := set(names) - set(STUDIES):
        sys.exit(f"no study {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}")
    failed = 0
    for name in names or list(STUDIES):
        folder = (work / name).absolute()
        write_study(name, mirror, folder)
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE.parent / "workflow/Snakefile")]
        command += ["--cores", "2", "--quiet", "rules", "progress", "reason", "host", "--directory", str(folder)]
        # One job at a time: beside another, its time would be another.
        alone = [] if together else ["--resources", "alone=1", "--default-resources", "alone=1"]
        done = subprocess.run([*command, *alone], cwd=HERE.parent)
        failed += done.returncode != 0
        said = "" if done.returncode == 0 else "; the run FAILED"
        print(f"{name}: {collect(folder, name, STUDIES[name].short, timed=not together)} jobs{said}", flush=True)
    fit()
    return failed


def show() -> str:
    """Predicted against used, per rule and per run: by the table that ships, and by one that never saw the run."""
    observed = pd.read_csv(OBSERVATIONS, sep="\t")
    guesses = read_needs(GUESSES)
    rows, counts = [], []
    for run, jobs in observed.groupby("run"):
        shipped, unseen = read_needs(TABLE), fit_needs(guesses, observed[observed["run"] != run])
        own = pd.DataFrame([_judged(job, shipped, unseen) for _, job in jobs.iterrows()])
        timed = own["time"].notna() & (own[["seconds", "time"]].max(axis=1) >= LEAST_SECONDS)
        counts.append(
            [run, len(own), *(_verdict(own[name] / own["used"]) for name in ("memory", "memory_unseen"))]
            + [_verdict(own.loc[timed, name] / own.loc[timed, "seconds"]) for name in ("time", "time_unseen")]
        )
        if run in SHOWN:
            largest = own.loc[own.groupby("rule")["used"].idxmax()]
            rows += [
                [run, job["rule"], *(f"{job[name]:.0f}" for name in ("used", "memory", "memory_unseen"))]
                + [
                    "-" if pd.isna(job["seconds"]) else f"{job[name]:.0f}"
                    for name in ("seconds", "time", "time_unseen")
                ]
                for _, job in largest.iterrows()
            ]
    header = [
        "run",
        "jobs",
        "memory: under, over",
        "of a table without the run",
        "time: under, over",
        "without the run",
    ]
    detail = ["run", "rule", "used, MB", "predicted", "without the run", "used, s", "predicted", "without the run"]
    return "\n".join(
        [
            "# Predicted against used\n",
            f"{date.today()}, {os.cpu_count()} cores, no GPU. `benchmarks/resources.py show`, of the jobs in `resources.tsv`.",
            f"Under: more than {UNDER} times the prediction was used; over: less than {1 / OVER:g} of it. The table that ships",
            "is fitted to all runs; only the columns *without the run*, of a table fitted to all others, are predictions.",
            "Times are judged from a minute on, and known only of runs beside which nothing ran, or only at idle priority.\n",
            *_table(header, counts),
            "\nThe largest job of each rule:\n",
            *_table(detail, rows),
            "",
        ]
    )


def _judged(job: pd.Series, shipped: dict[str, Need], unseen: dict[str, Need]) -> dict[str, object]:
    found = {
        "rule": job["job"] if job["rule"] in TRAINING else job["rule"],
        "used": job["peak_mb"],
        "seconds": job["seconds"],
    }
    for ending, needs in (("", shipped), ("_unseen", unseen)):
        need = needs.get(job["job"], needs[job["rule"]])
        found[f"memory{ending}"] = need.base_mb + need.mb_per_unit * job[need.quantity]
        known = not pd.isna(job["seconds"])
        found[f"time{ending}"] = need.base_s + need.s_per_unit * job[need.s_quantity] if known else float("nan")
    return found


def _verdict(ratios: pd.Series) -> str:
    """How many predictions are too low and too high."""
    return f"{int((ratios < 1 / UNDER).sum())}, {int((ratios > OVER).sum())} of {len(ratios)}"


def _table(header: list[str], rows: list[list[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in [header, ["---"] * len(header), *rows]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = parser.add_subparsers(dest="act", required=True)
    running = acts.add_parser("run", help="run the studies, collect their jobs, fit")
    running.add_argument("mirror", type=Path)
    running.add_argument("--work", type=Path, required=True)
    running.add_argument("--only", default="", help="names of studies, with commas between them")
    running.add_argument(
        "--together", action="store_true", help="jobs side by side: quicker, but their times are no times"
    )
    collecting = acts.add_parser("collect", help="add the jobs of a study that ran")
    collecting.add_argument("study", type=Path)
    collecting.add_argument("--run", required=True)
    collecting.add_argument("--short", action="store_true", help="its networks trained briefly: leave out their times")
    collecting.add_argument("--busy", action="store_true", help="other things ran meanwhile: leave out all times")
    acts.add_parser("fit", help="write the table of needs anew")
    acts.add_parser("show", help="print predicted against used")
    given = parser.parse_args()
    if given.act == "run":
        sys.exit(run(given.mirror, given.work, [name for name in given.only.split(",") if name], given.together))
    if given.act == "collect":
        print(f"{collect(given.study, given.run, given.short, timed=not given.busy)} jobs")
    elif given.act == "show":
        print(show(), end="")
    else:
        fit()


if __name__ == "__main__":
    main()
