"""CellBender's runner: the command, what is taken over from its output, and every way in which it can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from latentomics.config.ambient import Ambient
from latentomics.embed.data import TrainingError
from latentomics.problems import InputError
from latentomics.scrna.ambient import cellbender
from latentomics.scrna.ambient.correct import check_correction
from latentomics.scrna.ambient.registry import AmbientSample

N_CELLS, N_EMPTY, N_GENES = 20, 200, 12
PARAMS = Ambient(method="cellbender")

#: Stands for the program: takes one count from every entry above one of the droplets it looked at. What it says of them, and
#: how it goes wrong, is told by a file beside it.
FAKE = """#!{python}
import json, os, sys
from pathlib import Path

import h5py
import numpy as np
from scipy.sparse import csr_matrix

wrong = Path(__file__).with_name("wrong").read_text()
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
Path("command.json").write_text(json.dumps([sys.argv[1:], os.environ["PATH"], os.getcwd()]))
Path("ckpt.tar.gz").write_bytes(b"checkpoint")
Path("out.log").write_text("Loading data" + ("\\nNaN in the loss" if wrong == "crash" else ""))
if wrong == "crash":
    sys.exit(1)
if wrong == "silent":
    sys.exit(0)
with h5py.File(options["--input"]) as file:
    group = file["X"]
    counts = csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=group.attrs["shape"])
data = np.where(counts.data > 1, counts.data - 1, counts.data)
if wrong == "above":
    data = data + 5
elif wrong == "negative":
    data[0] = -1
elif wrong == "fractions":
    data = data - 0.5
n_droplets, n_genes = counts.shape
looked_at = np.argsort(-np.asarray(counts.sum(axis=1)).ravel(), kind="stable")[: int(options["--total-droplets-included"])]
probability = (np.arange(len(looked_at)) < int(options["--expected-cells"])).astype(float)
if wrong == "empty":
    probability[:3] = 0.2
names = np.arange(n_droplets + (wrong == "names"))[-n_droplets:].astype("S")
with h5py.File(options["--output"], "w") as file:
    if wrong == "truncated":
        sys.exit(0)
    # Genes x barcodes by columns: the arrays of barcodes x genes by rows.
    for key, value in {{"data": data, "indices": counts.indices, "indptr": counts.indptr}}.items():
        file["matrix/" + key] = value
    file["matrix/shape"] = [n_genes, n_droplets]
    file["matrix/barcodes"], file["matrix/features/name"] = names, np.arange(n_genes).astype("S")
    file["droplet_latents/barcode_indices_for_latents"] = looked_at
    file["droplet_latents/cell_probability"] = probability
    elbo = np.array([-900.0, -700.0, -690.0] if wrong != "astray" else [-900.0, -700.0, -850.0])
    file["metadata/learning_curve_train_elbo"] = elbo
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake program, first on the search path; returns the file that tells how it goes wrong."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cellbender").write_text(FAKE.format(python=sys.executable))
    (folder / "cellbender").chmod(0o755)
    (folder / "wrong").write_text("")
    monkeypatch.setenv("PATH", str(folder))
    return folder / "wrong"


def sample(folder: Path, seed: int = 0) -> AmbientSample:
    """Cells in an order of their own among droplets; names that no shell or HDF5 string of ASCII would take."""
    rng = np.random.default_rng(seed)
    counts = np.vstack([rng.poisson(40, (N_CELLS, N_GENES)), rng.poisson(1, (N_EMPTY, N_GENES))]).astype(np.int32)
    counts[-7:] = 0
    order = rng.permutation(len(counts))
    barcodes = np.array([f"$(touch pwned) {i}" for i in range(len(counts))], dtype=object)
    genes = np.array([f"β-gene {i}" for i in range(N_GENES)], dtype=object)
    raw = ad.AnnData(csr_matrix(counts[order]), pd.DataFrame(index=barcodes[order]), pd.DataFrame(index=genes))
    cells = rng.permutation(N_CELLS)
    profile = counts[N_CELLS:].sum(axis=0) / counts[N_CELLS:].sum()
    return AmbientSample(
        name="S",
        counts=csr_matrix(counts[cells]),
        barcodes=barcodes[cells],
        genes=genes,
        passed=np.ones(N_CELLS, dtype=bool),
        profile=profile,
        curve=pd.DataFrame(),
        raw=lambda: raw,
        folder=folder / "work",
    )


def test_counts_come_back_to_our_cells(tmp_path: Path, program: Path):
    given = sample(tmp_path)
    found = cellbender.correct(given, PARAMS, 0, 2)
    check_correction(given.counts, found.counts)
    expected = np.maximum(given.counts.toarray() - 1, 0)
    np.testing.assert_array_equal(found.counts.toarray(), expected)
    totals = given.counts.toarray().sum(axis=1)
    np.testing.assert_allclose(found.share, (totals - expected.sum(axis=1)) / totals)
    assert found.notes == [] and found.facts["epochs"] == 3 and found.facts["cells_kept_raw"] == 0


def test_the_command_and_its_surroundings(tmp_path: Path, program: Path):
    given = sample(tmp_path)
    cellbender.correct(given, PARAMS, 0, 2)
    arguments, path, folder = json.loads((given.folder / "command.json").read_text())
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert Path(folder) == given.folder
    assert options["--expected-cells"] == "20" and 20 < int(options["--total-droplets-included"]) < 20 + N_EMPTY
    assert (options["--epochs"], options["--fpr"], options["--learning-rate"]) == ("150", "0.01", "0.0001")
    assert options["--checkpoint"] == "ckpt.tar.gz" and options["--cpu-threads"] == "2"
    # No jupyter to be found: it would run a notebook through a shell.
    assert Path(path).is_dir() and not list(Path(path).iterdir())
    assert not list(tmp_path.rglob("pwned"))


def test_cells_that_are_empty_to_cellbender_keep_their_raw_counts(tmp_path: Path, program: Path):
    program.write_text("empty")
    given = sample(tmp_path)
    found = cellbender.correct(given, PARAMS, 0, 1)
    untouched = np.isnan(found.share)
    assert untouched.sum() == 3 == found.facts["cells_kept_raw"]
    assert (found.counts[untouched] != given.counts[untouched]).nnz == 0
    assert (found.counts[~untouched] != given.counts[~untouched]).nnz
    assert "3 of 20 called cells" in found.notes[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("crash", "NaN in the loss"),
        ("silent", "exit 0"),
        ("truncated", "cannot be read"),
        ("negative", "negative counts"),
        ("above", "above the raw"),
        ("fractions", "no whole numbers"),
        ("names", "other barcodes or genes"),
    ],
)
def test_failures(tmp_path: Path, program: Path, wrong: str, said: str):
    program.write_text(wrong)
    given = sample(tmp_path)
    with pytest.raises(TrainingError, match=said) as error:
        cellbender.correct(given, PARAMS, 0, 1)
    assert "'S'" in str(error.value) and "Hint:" in str(error.value)


def test_a_killed_job_finds_its_checkpoint_and_other_counts_do_not(tmp_path: Path, program: Path):
    program.write_text("crash")
    given = sample(tmp_path)
    with pytest.raises(TrainingError):
        cellbender.correct(given, PARAMS, 0, 1)
    checkpoint, source = given.folder / "ckpt.tar.gz", next(given.folder.glob("raw_*.h5ad"))
    checkpoint.write_bytes(b"old")
    raw = cellbender.nonempty(given.raw())
    assert cellbender.write_input(raw.counts, given.folder) == source and checkpoint.read_bytes() == b"old"
    other = cellbender.nonempty(sample(tmp_path, seed=1).raw())
    assert cellbender.write_input(other.counts, given.folder) != source and not checkpoint.exists()


def test_too_long_without_a_gpu(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setenv("LATENTOMICS_CPU_HOURS", "1e-7")
    given = sample(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="no GPU") as error:
        cellbender.correct(given, PARAMS, 0, 1)
    assert "ambient.cellbender.epochs" in str(error.value) and not given.folder.exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cellbender.correct(given, PARAMS, 0, 1)
    assert json.loads((given.folder / "command.json").read_text())[0][-1] == "--cuda"


def test_a_sample_of_usual_size_is_refused_without_a_gpu():
    assert cellbender.hours_on_cpu(25_000, 20_000, 150) > 12
    assert cellbender.hours_on_cpu(1_300, 1_000, 10) < 0.1


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match="not installed"):
        cellbender.correct(sample(tmp_path), PARAMS, 0, 1)


def test_another_raw_matrix_than_the_cells_were_called_in(tmp_path: Path, program: Path):
    given = sample(tmp_path)
    counts = given.counts.copy()
    counts.data[0] += 1
    with pytest.raises(ValueError, match="not the one"):
        cellbender.correct(AmbientSample(**{**given.__dict__, "counts": counts}), PARAMS, 0, 1)


def test_learning_curves(tmp_path: Path, program: Path):
    assert cellbender.learning_notes(np.array([-900.0, -700, -650])) == []
    assert "not a number" in cellbender.learning_notes(np.array([-900.0, np.nan]))[0]
    program.write_text("astray")
    assert "below its best bound" in cellbender.correct(sample(tmp_path), PARAMS, 0, 1).notes[0]


@pytest.mark.parametrize(
    ("n_cells", "n_empty", "expected"), [(100, 50_000, 2100), (5000, 90_000, 10_000), (50, 60, 80), (9, 1, 10)]
)
def test_droplets_included(n_cells: int, n_empty: int, expected: int):
    counts = csr_matrix(np.repeat([[500], [20], [3]], [n_cells, n_empty, 10], axis=0))
    assert cellbender.droplets_included(counts, n_cells) == expected
