"""A bidirectional LSTM over the codons of a read.

After DeepMicrobes (Liang et al. 2020, NAR Genomics and Bioinformatics 2:lqaa009), whose LSTM reads embedded k-mers.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from latentomics.config.base import Section

TITLE = "Bidirectional LSTM"


class Params(Section):
    k: int = Field(6, ge=3, le=8, description="Width of the filters of the first layer (bases).")
    n_filters: int = Field(512, ge=16, le=8192, description="Filters of the first layer.")
    n_features: int = Field(64, ge=8, le=1024, description="Features of a k-mer after it.")
    n_units: int = Field(64, ge=8, le=1024, description="Units of the LSTM in each direction.")
    n_hidden: int = Field(256, ge=8, le=4096, description="Units of the first dense layer.")
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="Dropout of the dense layers (fraction).")


def build(params: Params, n_classes: int) -> Any:
    """The network of one strand; see :mod:`latentomics.reads.models.registry`."""
    import torch
    from torch import Tensor, nn

    from latentomics.reads.models.layers import KmerFeatures, ReadNetwork
    from latentomics.reads.models.strands import mirror

    class Bidirectional(nn.Module):
        """Two LSTMs; the second reads from each read's own end, so that neither meets padding before a base."""

        def __init__(self) -> None:
            super().__init__()
            self.forwards = nn.LSTM(params.n_features, params.n_units, batch_first=True)
            self.backwards = nn.LSTM(params.n_features, params.n_units, batch_first=True)

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            source = mirror(mask.sum(dim=1), mask.shape[1])[..., None]
            first, _ = self.forwards(tokens)
            second, _ = self.backwards(tokens.gather(1, source.expand_as(tokens)))
            return torch.cat([first, second.gather(1, source.expand_as(second))], dim=2)

    return ReadNetwork(
        KmerFeatures(params.k, params.n_filters, params.n_features),
        Bidirectional(),
        n_out=2 * params.n_units,
        n_classes=n_classes,
        n_hidden=params.n_hidden,
        dropout_rate=params.dropout_rate,
    )
