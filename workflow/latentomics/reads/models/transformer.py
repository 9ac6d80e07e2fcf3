"""A transformer over the codons of a read.

An encoder with normalisation before each layer and sinusoidal positions (Vaswani et al. 2017, NeurIPS; Xiong et al.
2020, ICML).
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from latentomics.config.base import Section

TITLE = "Transformer"


class Params(Section):
    k: int = Field(6, ge=3, le=8, description="Width of the filters of the first layer (bases).")
    n_filters: int = Field(512, ge=16, le=8192, description="Filters of the first layer.")
    n_features: int = Field(64, ge=8, le=1024, description="Features of a k-mer after it, and of a token.")
    n_layers: int = Field(2, ge=1, le=24, description="Layers of the encoder.")
    n_heads: int = Field(4, ge=1, le=32, description="Attention heads; they divide `n_features`, which is even.")
    n_hidden: int = Field(256, ge=8, le=4096, description="Units of the first dense layer.")
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="Dropout of the dense layers; half of it in the encoder.")

    @model_validator(mode="after")
    def _heads_fit(self) -> Params:
        if self.n_features % self.n_heads or self.n_features % 2:
            raise ValueError(f"n_features ({self.n_features}) must be even and a multiple of n_heads ({self.n_heads})")
        return self


def build(params: Params, n_classes: int) -> Any:
    """The network of one strand; see :mod:`latentomics.reads.models.registry`."""
    import torch
    from torch import Tensor, nn

    from latentomics.reads.models.layers import KmerFeatures, ReadNetwork

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(
                params.n_features,
                params.n_heads,
                2 * params.n_features,
                params.dropout_rate / 2,
                batch_first=True,
                norm_first=True,
            )
            self.layers = nn.TransformerEncoder(layer, params.n_layers, enable_nested_tensor=False)
            frequency = torch.exp(torch.arange(0, params.n_features, 2) * (-math.log(10000) / params.n_features))
            self.register_buffer("frequency", frequency, persistent=False)

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            angle = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * self.frequency
            return self.layers(tokens + torch.cat([angle.sin(), angle.cos()], dim=1), src_key_padding_mask=~mask)

    return ReadNetwork(
        KmerFeatures(params.k, params.n_filters, params.n_features),
        Encoder(),
        n_out=params.n_features,
        n_classes=n_classes,
        n_hidden=params.n_hidden,
        dropout_rate=params.dropout_rate,
    )
