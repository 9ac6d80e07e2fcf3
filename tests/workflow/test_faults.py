"""Everything that is wrong with a study is said at once, before the first job."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study import Study

#: What is wrong with the study below, and how the listing says it.
FAULTS = {
    "unknown key": r"config\.yaml, row \d+, qc\.n_mad: unknown key.*\n\s+Hint: did you mean 'n_mads'\?",
    "misspelt method": r"embeddings\.methods\.\d: unknown value \(value 'scvii'\)\n\s+Hint: did you mean 'scvi'\?",
    "missing file": r"row \d+, path: sample 'absent': file does not exist",
    "duplicate sample": r"duplicate sample 'twice'",
    "negative counts": r"sample 'negative'.*negative",
    "fractional counts": r"sample 'fractional'.*",
    "log data": r"sample 'logged'.*log",
    "empty matrix": r"sample 'empty'",
    "duplicate barcodes": r"sample 'repeated'.*barcode",
    "path escapes": r"sample 'escape': relative path leaves the study's folder",
    "unreadable encoding": r"sample 'encoded'.*",
    "slash in name": r"sample name cannot be used \(value '\.\./slash'\)",
    "unknown covariate": r"config\.yaml, row \d+, embeddings\.scvi\.covariates\.0: the sample sheet has no column "
    r"'dose' \(value 'dose'\)\n\s+Hint: Columns of .*samples\.tsv that describe samples: batch, condition\.",
    "mate of a matrix": r"sample 'mated': `path_2` has no use here",
    "confounded": r"batch is confounded with condition",
}


@pytest.fixture(scope="module")
def listing(new_study: Callable[..., Study]) -> tuple[Study, str, int]:
    study = new_study(
        "faults", qc={"n_mad": 3}, embeddings={"methods": ["pca", "scvii"], "scvi": {"covariates": ["dose"]}}
    )
    folder = study.folder / "data"
    folder.mkdir()
    good = _matrix()
    tables = {
        "negative": good.mask(good == good.iloc[0, 0], -1.0).where(good != 0, -2),
        "fractional": good + 0.37 * (good > 0) * np.arange(1, 61) / 60,
        "logged": np.log1p(good / good.sum() * 1e4),
        "empty": good.iloc[:, :0],
        "repeated": good.set_axis(["AAAC-1", "AAAC-1", *good.columns[2:]], axis=1),
        "twice": good,
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv")
    (folder / "encoded.csv").write_bytes(good.rename(columns={good.columns[0]: "Zürich"}).to_csv().encode("latin-1"))
    rows = [(name, f"../data/{name}.csv", "b1", "c1") for name in (*tables, "encoded")]
    rows += [
        ("twice", "../data/twice.csv", "b1", "c1"),
        ("absent", "../data/absent.csv", "b1", "c1"),
        ("escape", "../../../../etc/hosts.csv", "b1", "c1"),
        ("../slash", "../data/twice.csv", "b1", "c1"),
        ("other", "batch2_control", "b2", "c2"),
    ]
    other = next(path for path in (study.folder / "config/batch2_control").iterdir() if path.name != "cells.tsv")
    rows[-1] = ("other", str(other.relative_to(study.folder / "config")), "b2", "c2")
    sheet = ["\t".join(("sample", "assay", "path", "batch", "condition", "path_2"))]
    sheet += ["\t".join((name, "scrna", path, batch, condition, "")) for name, path, batch, condition in rows]
    sheet.append("mated\tscrna\t../data/twice.csv\tb1\tc1\t../data/encoded.csv")
    (study.folder / "config/samples.tsv").write_text("\n".join(sheet) + "\n")
    done = study.run()
    return study, done.stdout + done.stderr, done.returncode


def _matrix() -> pd.DataFrame:
    """A genes x cells table of counts that nothing is wrong with."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.6, 3.0, (300, 1)), (300, 60))
    genes = [f"ENSG{i:011d}" for i in range(300)]
    return pd.DataFrame(counts, index=genes, columns=[f"CELL{i:03d}" for i in range(60)])


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_listed_with_a_hint(listing: tuple[Study, str, int], fault: str) -> None:
    _, said, _ = listing
    problems = re.split(r"\n\s+\d+\. \[", said)
    found = [p for p in problems if re.search(FAULTS[fault], p, flags=re.DOTALL)]
    assert found, said
    assert "Hint: " in found[0]


def test_nothing_ran(listing: tuple[Study, str, int]) -> None:
    study, said, code = listing
    assert code != 0
    assert "Traceback" not in said
    assert not (study.folder / "results/scrna").exists()
    assert said.count("error(s)") == 1  # one listing


def test_matrix_fault_alone_is_found_before_the_first_job(new_study: Callable[..., Study]) -> None:
    study = new_study("alone")
    path = study.folder / "bad.csv"
    (_matrix() + 0.5).to_csv(path)
    sheet = study.folder / "config/samples.tsv"
    sheet.write_text(f"sample\tassay\tpath\nbad\tscrna\t{path}\n")
    done = study.run()
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "sample 'bad'" in said
    assert "Hint: " in said
    assert not (study.folder / "results/scrna").exists()


@pytest.mark.parametrize("content", [b"samples: [", b"\xff\xfe", b"- a list\n"])
def test_unreadable_config(new_study: Callable[..., Study], content: bytes) -> None:
    study = new_study("config")
    (study.folder / "config/config.yaml").write_bytes(content)
    done = study.run("--dry-run")
    assert done.returncode != 0
    assert "config.yaml" in done.stdout + done.stderr
    assert "Hint: " in done.stdout + done.stderr


def test_no_config_at_all(tmp_path: Path) -> None:
    done = Study(tmp_path).run("--dry-run")
    assert "`samples: config/samples.tsv` is a complete config" in done.stdout + done.stderr
