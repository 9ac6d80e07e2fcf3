"""Trained read classifiers as folders: ``model.json`` says what it is, ``weights.npz`` holds arrays. Nothing is unpickled.

A folder may come from anywhere, so everything in it is checked against what the model of that name must have.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from latentomics import __version__
from latentomics.problems import InputError, Problem
from latentomics.reads.calibration import probabilities
from latentomics.reads.models import registry
from latentomics.reads.store import MAX_CLASSES

FORMAT = 1
DESCRIPTION, WEIGHTS = "model.json", "weights.npz"
BASELINES = ("majority", "kmer")
#: Reads that go through a network together: few stay in a processor's cache, many fill a GPU.
READS_AT_ONCE = {"cpu": 512, "cuda": 8192}
_HINT = "give a folder that this workflow wrote (results/reads/models/...), copied whole, or train the model again."


class _Described(BaseModel):
    """What ``model.json`` must say, so that reads can be classified; whatever else it says is kept."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, strict=True)

    format: Literal[FORMAT]  # type: ignore[valid-type]
    model: str
    params: dict[str, Any]
    classes: list[str] = Field(min_length=2, max_length=MAX_CLASSES)
    width: int = Field(ge=1, le=10_000)
    min_length: int = Field(ge=1)
    temperature: float = Field(gt=0)
    threshold: float | None = Field(ge=0, le=1)

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError("a class is listed twice")
        return classes


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained network that is ready to classify.

    Attributes
    ----------
    network
        A :class:`~latentomics.reads.models.strands.BothStrands`, in evaluation mode, on the device that computes.
    facts
        What ``model.json`` says.
    """

    network: Any
    facts: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return self.facts["classes"]

    def logits(self, codes: np.ndarray, lengths: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Logits of reads, float32 (n, classes).

        Parameters
        ----------
        codes, lengths
            uint8 (n, any width), see :mod:`~latentomics.reads.bases`, and (n,). No read may be longer than the model was
            trained on (``facts["width"]``): whoever has longer reads cuts them, and knows that it was done.
        batch_size
            Reads that go through the network together; by default what suits the device.

        Raises
        ------
        ValueError
            A read is longer than the model's width.
        """
        import torch

        if (longest := int(lengths.max(initial=0))) > self.facts["width"]:
            raise ValueError(f"a read of {longest} bases; the model was trained on up to {self.facts['width']}")
        device = next(self.network.parameters()).device
        size = batch_size or READS_AT_ONCE[device.type]
        out = np.empty((len(codes), len(self.classes)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(codes), size):
                block = slice(start, start + size)
                kept = np.array(lengths[block], dtype=np.int64)
                reads = np.array(codes[block, : max(kept.max(), 1)])
                found = self.network(torch.from_numpy(reads).to(device), torch.from_numpy(kept).to(device))
                out[block] = found.float().cpu().numpy()
        return out

    def probabilities(self, codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities, float32 (n, classes): the softmax of logits / temperature."""
        return probabilities(self.logits(codes, lengths), self.facts["temperature"])


def save_model(folder: Path, module: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a trained network; the same weights and facts give the same bytes.

    Parameters
    ----------
    module
        A :class:`~latentomics.reads.models.strands.BothStrands`.
    facts
        ``model``, ``params``, ``classes``, ``width``, ``min_length``, ``temperature``, ``threshold`` and ``training``.

    Returns
    -------
    dict
        What ``model.json`` says: ``facts``, and format, number of parameters and versions. It is written last: a folder
        without it is no model.
    """
    described = {
        "format": FORMAT,
        **facts,
        "n_parameters": sum(p.numel() for p in module.parameters()),
        "versions": {"latentomics": __version__, **{name: version(name) for name in ("numpy", "torch", "lightning")}},
    }
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / WEIGHTS, **{name: value.cpu().numpy() for name, value in module.state_dict().items()})
    partial = folder / f".{DESCRIPTION}"
    partial.write_text(text, "utf-8")
    os.replace(partial, folder / DESCRIPTION)
    return described


def load_any(folder: Path) -> Any:
    """Load a network or a baseline: anything with ``logits``, ``probabilities``, ``classes`` and ``facts``.

    Raises
    ------
    InputError
        The folder holds no model, or a damaged one.
    """
    folder = Path(folder)
    if _read_json(folder).get("model") in BASELINES:
        from latentomics.reads.baselines import load_baseline

        return load_baseline(folder)
    return load_model(folder)


def load_model(folder: Path) -> LoadedModel:
    """Load a network that :func:`save_model` wrote, on a GPU where there is one.

    Raises
    ------
    InputError
        Naming the folder: not a model, one of another version, or weights that are not those of the model it names.
    """
    import torch

    from latentomics.reads.models.strands import BothStrands

    folder = Path(folder)
    facts = _read_json(folder)
    try:
        described = _Described(**facts)
    except ValidationError as error:
        raise InputError(_faults(folder, error, "")) from error
    if described.model not in registry.MODELS:
        what = f"a model that is not known here; known are {', '.join(registry.MODELS)}"
        raise _problem(folder / DESCRIPTION, what, key="model", value=described.model)
    module = registry.model(described.model)
    try:
        params = module.Params(**described.params)
    except ValidationError as error:
        raise InputError(_faults(folder, error, "params.")) from error
    network = BothStrands(module.build(params, len(described.classes)))
    arrays = _read_weights(folder / WEIGHTS, network.state_dict())
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LoadedModel(network.to(device).eval(), facts)


def _read_json(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    try:
        facts = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise _problem(folder, f"not a trained model: {DESCRIPTION} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _problem(file, f"not readable as JSON ({error})") from error
    if not isinstance(facts, dict):
        raise _problem(file, "not the description of a model")
    return facts


def _read_weights(file: Path, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of a file, in which there is exactly what a network of these tensors needs."""
    try:
        with np.load(file, allow_pickle=False) as opened:
            names = set(opened.files)
            if missing := [name for name in expected if name not in names]:
                raise _problem(file, f"weights are missing: {_some(missing)}")
            if unknown := sorted(names - set(expected)):
                raise _problem(file, f"weights that the model does not have: {_some(unknown)}")
            arrays = {name: np.asarray(opened[name]) for name in expected}
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _problem(file, f"not readable as the weights of a model ({error})") from error
    for name, tensor in expected.items():
        array, wanted = arrays[name], tensor.cpu().numpy()
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            what = f"weights {name!r} are {array.dtype} {array.shape}, the model has {wanted.dtype} {wanted.shape}"
            raise _problem(file, what)
        if not np.isfinite(array).all():
            raise _problem(file, f"weights {name!r} are not all finite numbers")
    return arrays


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _faults(folder: Path, error: ValidationError, prefix: str) -> list[Problem]:
    return [
        Problem(
            str(folder / DESCRIPTION),
            f"not the description of a model: {fault['msg']}",
            _HINT,
            key=prefix + ".".join(map(str, fault["loc"])),
            value=None if fault["type"] == "missing" else fault["input"],
        )
        for fault in error.errors()
    ]


def _problem(file: Path, what: str, key: str | None = None, value: object | None = None) -> InputError:
    return InputError(Problem(str(file), what, _HINT, key=key, value=value))
