"""Which methods embed an assay, and which of them is the primary one."""

from __future__ import annotations

import pytest

from latentomics.config.model import Config


@pytest.mark.parametrize(
    ("methods", "primary", "batches", "chosen"),
    [
        (["pca", "scvi"], "auto", 1, "pca"),
        (["pca", "scvi"], "auto", 2, "scvi"),
        (["autoencoder", "pca"], "auto", 2, "autoencoder"),
        (["autoencoder", "scvi"], "auto", 1, "autoencoder"),
        (["pca", "scvi"], "pca", 5, "pca"),
        (["pca", "scvi"], "scvi", 1, "scvi"),
        (["pca", "scvi"], "auto", 0, "pca"),
    ],
)
def test_primary_method(methods, primary, batches, chosen):
    config = Config.model_validate({"embeddings": {"methods": methods, "primary": primary}})
    method, reason = config.embeddings.primary_method("scrna", methods, batches)
    assert method == chosen
    assert reason


def test_methods_of_each_assay():
    embeddings = Config().embeddings
    assert embeddings.methods_for("scrna", counts=True) == ["pca", "autoencoder", "scvi"]
    assert embeddings.methods_for("metagenome", counts=True) == ["pca", "autoencoder", "vae"]
    assert embeddings.methods_for("metagenome", counts=False) == ["pca", "autoencoder"]
    assert embeddings.primary_method("metagenome", ["pca", "vae"], 2)[0] == "pca"
    chosen = Config.model_validate({"embeddings": {"primary": "scvi"}}).embeddings
    assert chosen.primary_method("metagenome", ["pca", "vae"], 1)[0] == "pca", "a method of cells is none of theirs"
