"""The embedding methods. Adding one is one module in this folder and one line here.

A method's module is imported by the rules, so its top level imports nothing heavier than numpy and pydantic; it offers

``TITLE``
    Name for people.
``ASSAYS``, ``NEEDS_COUNTS``
    Which assays it is made for, and whether it models counts (relative abundances are then not enough).
``GPU``
    Whether its rule asks the scheduler for one GPU.
``Params``
    Its typed parameters, a :class:`~latentomics.config.base.Section`.
``fit(data, params, seed, threads, folder)``
    Fit, save the model below ``folder``, return a :class:`~latentomics.embed.data.Fit`. The counts of very many observations
    are left in their store: ``data.normalised_blocks`` and :func:`~latentomics.embed.loop.batches_of` read either.
``encode(folder, data)``
    Latent coordinates of other observations by the saved model; needed only by methods that predict a condition.
"""

from __future__ import annotations

import importlib
from types import ModuleType

METHODS: dict[str, str] = {
    "pca": "latentomics.embed.pca",
    "autoencoder": "latentomics.embed.autoencoder",
    "scvi": "latentomics.embed.scvi",
    "vae": "latentomics.embed.vae",
}


def method(name: str) -> ModuleType:
    """The module of a registered method."""
    return importlib.import_module(METHODS[name])


def on_gpu(name: str) -> bool:
    """Whether the method's rule asks for a GPU."""
    return bool(method(name).GPU)
