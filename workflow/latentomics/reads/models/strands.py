"""Reads as tensors, and both strands of a read seen by one network.

A read and its reverse complement are the same molecule, so a classifier must not tell them apart. Here any network is
applied to both strands and its logits are averaged, which makes the answer invariant by construction. Of the ways to
reach that, Zhou et al. 2022 (MLCB, PMLR 165:1, "Towards a better understanding of reverse-complement equivariance for
deep learning models in genomics") found this one as accurate as equivariant layers when both strands were seen in
training: "post-hoc conjoined".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentomics.reads.bases import N

BASES = 4


def to_onehot(codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Reads as one-hot vectors.

    Parameters
    ----------
    codes
        uint8, (n, width), as :mod:`latentomics.reads.bases` defines them. What lies beyond a read's length is not
        looked at.
    lengths
        Bases of each read, (n,).

    Returns
    -------
    onehot
        float32, (n, 4, width); an unknown base and what lies beyond the end are zeros.
    mask
        bool, (n, width): within the read.
    """
    mask = inside(lengths, codes.shape[1])
    bases = torch.arange(BASES, dtype=codes.dtype, device=codes.device)
    return ((codes[:, None, :] == bases[:, None]) & mask[:, None, :]).float(), mask


def inside(lengths: Tensor, width: int) -> Tensor:
    """Whether a position lies within its read: bool, (n, width)."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def reverse_complement(codes: Tensor, lengths: Tensor) -> Tensor:
    """The other strand of each read, left-aligned as well; same shape, what lies beyond the ends left as it was."""
    source = mirror(lengths, codes.shape[1])
    return torch.where(codes < N, 3 - codes, codes).gather(1, source)


def mirror(lengths: Tensor, width: int) -> Tensor:
    """Where each position of the other strand is found: int64, (n, width); positions beyond the end stay in place."""
    position = torch.arange(width, device=lengths.device)
    mirrored = lengths[:, None] - 1 - position
    return torch.where(mirrored >= 0, mirrored, position)


class BothStrands(nn.Module):
    """A network of one strand, made invariant to which strand was read.

    In evaluation the logits are the mean over both strands. In training each read is seen from one side, drawn with
    torch's global generator of the reads' device: in expectation the same gradient for half the work.

    Parameters
    ----------
    network
        Maps one-hot reads and their mask to logits; see :mod:`latentomics.reads.models.registry`.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Logits, (n, classes), of reads as :func:`to_onehot` takes them."""
        other = reverse_complement(codes, lengths)
        if self.training:
            turned = torch.rand(len(codes), 1, device=codes.device) < 0.5
            return self.network(*to_onehot(torch.where(turned, other, codes), lengths))
        return self._mean(*to_onehot(torch.cat([codes, other]), torch.cat([lengths, lengths])))

    def from_onehot(self, onehot: Tensor, mask: Tensor) -> Tensor:
        """The mean of both strands' logits as a differentiable function of the one-hot reads.

        Parameters
        ----------
        onehot, mask
            As of :func:`to_onehot`, but any number may stand where it has zeros and ones: integrated gradients look
            at points between a baseline and the read.
        """
        source = mirror(mask.sum(dim=1), mask.shape[1])
        # A 0, C 1, G 2, T 3: the complement of a base is its mirror image among the four.
        other = onehot.flip(1).gather(2, source[:, None, :].expand_as(onehot))
        return self._mean(torch.cat([onehot, other]), torch.cat([mask, mask]))

    def _mean(self, onehot: Tensor, mask: Tensor) -> Tensor:
        first, second = self.network(onehot, mask).chunk(2)
        return (first + second) / 2
