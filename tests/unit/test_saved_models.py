"""Saved networks: what is loaded is what was saved, and nothing damaged, foreign or malicious is loaded at all."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from latentomics.config.base import Section
from latentomics.problems import InputError
from latentomics.reads.bases import PAD, reverse_complement
from latentomics.reads.models import registry
from latentomics.reads.models.strands import BothStrands
from latentomics.reads.saved import LoadedModel, load_any, load_model, save_model

CLASSES = ["host", "<b>bacteria</b>", "ünknown"]
WIDTH = 40


class Params(Section):
    channels: int = Field(6, ge=1, le=64, description="Channels.")


class Pooled(nn.Module):
    def __init__(self, channels: int, n_classes: int):
        super().__init__()
        self.scan, self.norm = nn.Conv1d(4, channels, 5, padding=2), nn.BatchNorm1d(channels)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, onehot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = self.norm(self.scan(onehot)).relu() * mask[:, None]
        return self.head(found.sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1))


@pytest.fixture(autouse=True)
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pooled_network")
    module.TITLE, module.Params = "Pooled", Params  # type: ignore[attr-defined]
    module.build = lambda params, n_classes: Pooled(params.channels, n_classes)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pooled_network", module)
    monkeypatch.setitem(registry.MODELS, "pooled", "pooled_network")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def network() -> BothStrands:
    torch.manual_seed(0)
    network = BothStrands(Pooled(6, len(CLASSES)))
    network.network.norm.running_mean += 0.3  # no weight, but part of the model
    return network.eval()


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "model": "pooled",
        "params": {"channels": 6},
        "classes": CLASSES,
        "width": WIDTH,
        "min_length": 20,
        "temperature": 2.0,
        "threshold": 0.7,
        "training": {"n_train": 5},
    } | changes


@pytest.fixture
def folder(network: BothStrands, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", network, facts())
    return tmp_path / "model"


def some_reads(n: int = 37, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, WIDTH + 1, n)
    codes = np.where(np.arange(WIDTH) < lengths[:, None], rng.integers(0, 5, (n, WIDTH)), PAD)
    return codes.astype(np.uint8), lengths


def test_what_is_loaded_is_what_was_saved(network: BothStrands, folder: Path) -> None:
    codes, lengths = some_reads()
    loaded = load_model(folder)
    with torch.inference_mode():
        expected = network(torch.from_numpy(codes), torch.from_numpy(lengths)).numpy()
    found = loaded.logits(codes, lengths)
    assert found.dtype == np.float32 and found.shape == (37, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert loaded.classes == CLASSES and not loaded.network.training
    assert loaded.facts["n_parameters"] == sum(p.numel() for p in network.parameters())
    assert loaded.facts["format"] == 1 and loaded.facts["versions"]["torch"]
    assert facts().items() <= loaded.facts.items()
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.npz"]


def test_logits_do_not_depend_on_batches_padding_or_strand(folder: Path) -> None:
    codes, lengths = some_reads()
    loaded = load_model(folder)
    found = loaded.logits(codes, lengths)
    np.testing.assert_allclose(loaded.logits(codes, lengths, batch_size=5), found, atol=1e-6)
    wider = np.pad(codes, ((0, 0), (0, 9)), constant_values=PAD)
    np.testing.assert_array_equal(loaded.logits(wider, lengths), found)
    np.testing.assert_allclose(loaded.logits(reverse_complement(codes, lengths), lengths), found, atol=1e-5)
    np.testing.assert_array_equal(loaded.logits(codes, lengths.astype(np.uint16)), found)
    assert loaded.logits(codes[:0], lengths[:0]).shape == (0, 3)


def test_probabilities_have_the_temperature(folder: Path) -> None:
    codes, lengths = some_reads()
    loaded = load_model(folder)
    scaled = np.exp(loaded.logits(codes, lengths).astype(float) / 2)
    np.testing.assert_allclose(
        loaded.probabilities(codes, lengths), scaled / scaled.sum(axis=1, keepdims=True), rtol=1e-5
    )


def test_reads_are_not_cut_silently(folder: Path) -> None:
    codes = np.zeros((2, WIDTH + 1), dtype=np.uint8)
    with pytest.raises(ValueError, match="41 bases.*up to 40"):
        load_model(folder).logits(codes, np.array([WIDTH, WIDTH + 1]))


def test_the_same_model_has_the_same_bytes(network: BothStrands, folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", network, facts())
    for name in ("model.json", "weights.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_threshold_may_be_unknown(network: BothStrands, tmp_path: Path) -> None:
    save_model(tmp_path, network, facts(threshold=None))
    assert load_model(tmp_path).facts["threshold"] is None


def test_facts_that_are_no_numbers_are_not_written(network: BothStrands, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        save_model(tmp_path / "model", network, facts(temperature=float("nan")))
    assert not (tmp_path / "model").exists()


def test_baselines_are_loaded_by_their_own_module(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    stand_in = ModuleType("latentomics.reads.baselines")
    stand_in.load_baseline = lambda folder: loaded.append(folder) or "a baseline"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "latentomics.reads.baselines", stand_in)
    for name in ("majority", "kmer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(json.dumps({"format": 1, "model": name}))
        assert load_any(tmp_path / name) == "a baseline"
    assert loaded == [tmp_path / "majority", tmp_path / "kmer"]
    assert isinstance(load_any(folder), LoadedModel)


def described(**changes: Any) -> Callable[[Path], None]:
    """Change what ``model.json`` says; ``...`` removes a key."""

    def change(folder: Path) -> None:
        said = json.loads((folder / "model.json").read_text("utf-8")) | changes
        (folder / "model.json").write_text(json.dumps({k: v for k, v in said.items() if v is not ...}))

    return change


def weighted(**changes: Any) -> Callable[[Path], None]:
    """Change the arrays of ``weights.npz`` (names with __ for dots); ``...`` removes one."""

    def change(folder: Path) -> None:
        with np.load(folder / "weights.npz") as file:
            arrays = {name: file[name] for name in file.files}
        for name, value in changes.items():
            name = name.replace("__", ".")
            arrays[name] = value(arrays[name]) if callable(value) else value
        np.savez(folder / "weights.npz", **{k: v for k, v in arrays.items() if v is not ...})

    return change


def written(name: str, content: bytes | str) -> Callable[[Path], None]:
    return lambda folder: (
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content) and None
    )


def truncated(folder: Path) -> None:
    whole = (folder / "weights.npz").read_bytes()
    (folder / "weights.npz").write_bytes(whole[: len(whole) // 2])


def damaged_inside(folder: Path) -> None:
    with zipfile.ZipFile(folder / "weights.npz", "w") as file:
        file.writestr("network.head.weight.npy", b"\x93NUMPY\x01\x00 no header")


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
        return open, (self.path, "w")


DAMAGES = {
    "no description": (lambda folder: (folder / "model.json").unlink(), "not a trained model"),
    "no weights": (lambda folder: (folder / "weights.npz").unlink(), "weights.npz"),
    "no JSON": (written("model.json", '{"format": 1,'), "not readable as JSON"),
    "no text": (written("model.json", b"\xff\xfe\x00"), "not readable as JSON"),
    "nested": (written("model.json", "[" * 100_000), "not readable as JSON"),
    "a list": (written("model.json", "[]"), "not the description"),
    "another format": (described(format=2), "format"),
    "no format": (described(format=...), "format"),
    "another model": (described(model="resnet"), "not known here; known are cnn, lstm, transformer"),
    "a path as model": (described(model="../../evil"), "not known here"),
    "a list as model": (described(model=["pooled"]), "model"),
    "no classes": (described(classes=...), "classes"),
    "one class": (described(classes=["a"]), "classes"),
    "a class twice": (described(classes=["a", "b", "a"]), "a class is listed twice"),
    "classes of numbers": (described(classes=[1, 2, 3]), "classes.0"),
    "another number of classes": (described(classes=["a", "b"]), "network.head.weight"),
    "no temperature": (described(temperature=...), "temperature"),
    "temperature 0": (described(temperature=0.0), "temperature"),
    "NaN as temperature": (described(temperature=float("nan")), "temperature"),
    "infinite temperature": (described(temperature=float("inf")), "temperature"),
    "threshold 2": (described(threshold=2.0), "threshold"),
    "negative width": (described(width=-1), "width"),
    "params of another version": (described(params={"channels": 6, "new": 1}), "params.new"),
    "params out of range": (described(params={"channels": 10**9}), "params.channels"),
    "other params": (described(params={"channels": 7}), "network.scan.weight"),
    "empty weights": (written("weights.npz", b""), "weights.npz"),
    "weights are text": (written("weights.npz", "weights"), "weights.npz"),
    "weights are one array": (written("weights.npz", b"\x93NUMPY"), "weights.npz"),
    "truncated weights": (truncated, "weights.npz"),
    "damaged inside": (damaged_inside, "weights.npz"),
    "a missing array": (weighted(network__norm__running_mean=...), "missing: 'network.norm.running_mean'"),
    "an unknown array": (weighted(network__tail=np.zeros(2)), "does not have: 'network.tail'"),
    "another shape": (weighted(network__head__bias=lambda a: a[:2]), "network.head.bias.*(2,)"),
    "another type": (weighted(network__head__bias=lambda a: a.astype(np.float64)), "float64"),
    "complex numbers": (weighted(network__head__bias=lambda a: a.astype(np.complex64)), "complex64"),
    "NaN among the weights": (weighted(network__head__bias=lambda a: a * np.nan), "finite"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("load", [load_model, load_any])
def test_a_damaged_folder_is_refused_and_named(folder: Path, load: Callable[[Path], Any], damage: str) -> None:
    change, said = DAMAGES[damage]
    change(folder)
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")) as raised:
        load(folder)
    assert str(folder) in str(raised.value) and "Hint:" in str(raised.value)


def test_every_fault_of_a_description_is_told(folder: Path) -> None:
    described(temperature=-1.0, classes=["a"], width=...)(folder)
    with pytest.raises(InputError) as raised:
        load_model(folder)
    assert [problem.key for problem in raised.value.problems] == ["classes", "width", "temperature"]


@pytest.mark.parametrize("as_object", [True, False])
def test_nothing_is_unpickled(folder: Path, tmp_path: Path, as_object: bool) -> None:
    made = tmp_path / "made by a pickle"
    if as_object:
        evil = np.empty(3, dtype=object)
        evil[:] = [Malicious(str(made))] * 3
        weighted(network__head__bias=evil)(folder)
    else:
        import pickle

        (folder / "weights.npz").write_bytes(pickle.dumps(Malicious(str(made))))
    with pytest.raises(InputError, match="weights"):
        load_model(folder)
    assert not made.exists()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.*No such file"):
        load_any(tmp_path / "nowhere")
