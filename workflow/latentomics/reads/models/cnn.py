"""A convolutional network: wide filters, pooled over each of the three reading frames.

One layer of wide filters and pooling over the read, as in DeepVirFinder (Ren et al. 2020, Quantitative Biology 8:64);
pooling by frame is what lets it see codon usage. There is no batch normalisation: its statistics would depend on how
far other reads of the batch are padded.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from latentomics.config.base import Section

TITLE = "Convolutional network"


class Params(Section):
    k: int = Field(6, ge=3, le=8, description="Width of the filters of the first layer (bases).")
    n_filters: int = Field(512, ge=16, le=8192, description="Filters of the first layer.")
    n_features: int = Field(64, ge=8, le=1024, description="Features of a k-mer after it.")
    n_hidden: int = Field(256, ge=8, le=4096, description="Units of the first dense layer.")
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="Dropout of the dense layers (fraction).")


def build(params: Params, n_classes: int) -> Any:
    """The network of one strand; see :mod:`latentomics.reads.models.registry`."""
    from latentomics.reads.models.layers import KmerFeatures, ReadNetwork

    return ReadNetwork(
        KmerFeatures(params.k, params.n_filters, params.n_features),
        body=None,
        n_out=0,
        n_classes=n_classes,
        n_hidden=params.n_hidden,
        dropout_rate=params.dropout_rate,
    )
