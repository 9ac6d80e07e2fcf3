"""A convolutional network: residual convolutions over the codons of a read.

After CNNs of reads such as DeepVirFinder (Ren et al. 2020, Quantitative Biology 8:64) and CNN-MGP (Al-Ajlan and El
Allali 2019, Interdisciplinary Sciences 11:628), with normalisation per position (Ba et al. 2016, arXiv:1607.06450), as
batch statistics would depend on how far other reads of the batch are padded.
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
    n_channels: int = Field(96, ge=8, le=1024, description="Channels of the residual blocks.")
    n_blocks: int = Field(2, ge=0, le=20, description="Residual blocks; each sees 1 codon more to either side.")
    n_hidden: int = Field(256, ge=8, le=4096, description="Units of the first dense layer.")
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="Dropout of the dense layers (fraction).")


def build(params: Params, n_classes: int) -> Any:
    """The network of one strand; see :mod:`latentomics.reads.models.registry`."""
    from torch import Tensor, nn
    from torch.nn import functional

    from latentomics.reads.models.layers import KmerFeatures, ReadNetwork

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(params.n_channels)
            self.convolve = nn.Conv1d(params.n_channels, params.n_channels, 3, padding=1)

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            seen = self.norm(tokens) * mask[..., None]
            return tokens + functional.relu(self.convolve(seen.transpose(1, 2))).transpose(1, 2)

    class Blocks(nn.ModuleList):
        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            for block in self:
                tokens = block(tokens, mask)
            return tokens

    return ReadNetwork(
        KmerFeatures(params.k, params.n_filters, params.n_features),
        Blocks(Block() for _ in range(params.n_blocks)),
        n_tokens=params.n_channels,
        n_out=params.n_channels,
        n_classes=n_classes,
        n_hidden=params.n_hidden,
        dropout_rate=params.dropout_rate,
    )
