"""What the networks of single reads share: features of k-mers, reading frames, ends, and how they become logits.

The wide path sums features of k-mers per reading frame, which holds what a logistic regression of k-mer counts can know
and the codon usage besides. The LSTM and the transformer have a deep path too, which sees the k-mers in their order.
Both end in one head (wide and deep learning: Cheng et al. 2016, DLRS).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES = 3
#: Bases at each end that the head sees one by one: most post-mortem damage lies within (Briggs et al. 2007).
END = 8


class KmerFeatures(nn.Module):
    """Features of the k-mer that begins at each position: a wide convolution, ReLU, and a linear map.

    Every filter begins as a random k-mer that answers 2 to itself and 1 to its neighbours by one substitution, so that
    training starts from the features of a mismatch kernel (Leslie et al. 2004, Bioinformatics 20:467) instead of noise.

    There are only 4^k different k-mers: on a CPU a large batch of plain reads is answered from a table of all of them,
    computed afresh from the weights, with the same result for a fraction of the work.

    Parameters
    ----------
    k
        Bases.
    n_filters
        Filters of the convolution.
    n_features
        Features of a k-mer.
    """

    def __init__(self, k: int, n_filters: int, n_features: int):
        super().__init__()
        self.k = k
        self.filters = nn.Conv1d(4, n_filters, k)
        self.project = nn.Linear(n_filters, n_features)
        digits = torch.arange(4**k)[:, None] >> 2 * torch.arange(k - 1, -1, -1) & 3
        every = functional.one_hot(digits, 4).transpose(1, 2).float()
        self.register_buffer("every", every, persistent=False)
        with torch.no_grad():
            chosen = every[torch.randint(len(every), (n_filters,))]
            self.filters.weight.copy_(chosen + 0.1 * torch.randn_like(chosen))
            self.filters.bias.fill_(2.0 - k)
            nn.init.normal_(self.project.weight, std=0.3)
            # Zero on average over all k-mers, so that sums over a read show how it differs from any other.
            self.project.bias.zero_()
            self.project.bias.copy_(-self._convolved(every).mean(dim=0)[0])

    def forward(self, onehot: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features, (n, width - k + 1, n_features), zero beyond the end; and which k-mers lie within the read."""
        within = mask[:, self.k - 1 :]
        features = self._looked_up(onehot, within) if self._is_plain(onehot) else self._convolved(onehot)
        return features * within[..., None], within

    def _convolved(self, onehot: Tensor) -> Tensor:
        return self.project(functional.relu(self.filters(onehot)).transpose(1, 2))

    def _is_plain(self, onehot: Tensor) -> bool:
        """Whether a table pays, and every position is one base or none."""
        if onehot.device.type != "cpu" or onehot.requires_grad or onehot[:, 0].numel() < 2 * len(self.every):
            return False
        bases = onehot.sum(dim=1)
        return bool((bases <= 1).all()) and torch.equal(onehot, onehot.bool().to(onehot.dtype))

    def _looked_up(self, onehot: Tensor, within: Tensor) -> Tensor:
        n, _, width = onehot.shape
        base = onehot.argmax(dim=1)
        word = torch.zeros(n, width - self.k + 1, dtype=torch.int64)
        for i in range(self.k):
            word = word * 4 + base[:, i : i + word.shape[1]]
        # The same as a convolution, but one matrix product.
        answers = functional.linear(self.every.flatten(1), self.filters.weight.flatten(1), self.filters.bias)
        features = functional.embedding(word, self.project(functional.relu(answers)))
        # An unknown base is none of the four: the few k-mers that hold one are no row of the table. (What lies beyond the
        # end, half the positions where lengths differ, is masked anyway.)
        known = onehot.sum(dim=1).unfold(1, self.k, 1).amin(dim=2) > 0
        row, column = (within & ~known).nonzero(as_tuple=True)
        windows = onehot.unfold(2, self.k, 1)[row, :, column]
        return features.index_put((row, column), self._convolved(windows)[:, 0])


class ReadHead(nn.Module):
    """Logits from sums over each reading frame and a description of the whole read.

    Which of the three frames is the coding one is not known. Each is taken as the first in turn, by the same layers,
    and gives class probabilities and its own weight; the logits are the logarithm of their weighted mean: a mixture of
    experts with the frame as the latent variable (Jacobs et al. 1991, Neural Computation 3:79).
    """

    def __init__(self, n_features: int, n_context: int, n_classes: int, n_hidden: int, dropout_rate: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout_rate),
            nn.Linear(FRAMES * n_features + n_context, n_hidden),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
            nn.Linear(n_hidden, n_hidden // 4),
            nn.ReLU(),
            nn.Linear(n_hidden // 4, n_classes + 1),
        )
        # The wide path learns within an epoch and the deep one slowly: training starts as if there were only the former.
        with torch.no_grad():
            first = self.layers[1].weight
            first *= (first.shape[1] / (FRAMES * n_features)) ** 0.5
            first[:, FRAMES * n_features :] = 0

    def forward(self, frames: Tensor, context: Tensor) -> Tensor:
        """Logits, (n, classes), from ``frames`` (n, 3, n_features) and ``context`` (n, n_context)."""
        turns = [torch.cat([frames.roll(-i, dims=1).flatten(1), context], dim=1) for i in range(FRAMES)]
        out = self.layers(torch.stack(turns, dim=1))
        classes, weight = out[..., :-1].log_softmax(dim=2), out[..., -1:].log_softmax(dim=1)
        return (classes + weight).logsumexp(dim=1)


class ReadNetwork(nn.Module):
    """The classifier of one strand around a deep path, or without one.

    Parameters
    ----------
    kmers
        Makes the features of k-mers.
    body
        The deep path: maps tokens (n, steps, n_tokens) and their mask (n, steps) to the same number of steps,
        (n, steps, n_out). A token is made of the three k-mers that begin in a codon. ``None``: there is none.
    n_out
        Width of what ``body`` gives.
    n_classes, n_hidden, dropout_rate
        Of the head.
    """

    def __init__(
        self,
        kmers: KmerFeatures,
        body: nn.Module | None,
        n_out: int,
        n_classes: int,
        n_hidden: int,
        dropout_rate: float,
    ):
        super().__init__()
        n_features = kmers.project.out_features
        self.kmers = kmers
        self.body = body
        if body is not None:
            self.tokens = nn.Linear(FRAMES * n_features, n_features)
        self.head = ReadHead(n_features, 2 * n_out + 8 * END, n_classes, n_hidden, dropout_rate)

    def forward(self, onehot: Tensor, mask: Tensor) -> Tensor:
        """Logits, (n, classes); see :mod:`latentomics.reads.models.registry`."""
        features, within = self.kmers(onehot, mask)
        codons = functional.pad(features, (0, 0, 0, -features.shape[1] % FRAMES)).unflatten(1, (-1, FRAMES))
        # The square root keeps the spread of a sum over random k-mers the same for every length of read.
        frames = codons.sum(dim=1) / within.sum(dim=1).clamp(min=1).sqrt()[:, None, None]
        context = [read_ends(onehot, mask)]
        if self.body is not None:
            context += self._deep(codons.flatten(2), within[:, ::FRAMES])
        return self.head(frames, torch.cat(context, dim=1))

    def _deep(self, codons: Tensor, within: Tensor) -> list[Tensor]:
        """Mean and maximum over a read of what the deep path makes of it, each (n, n_out)."""
        inside = within[..., None]
        deep = self.body(functional.relu(self.tokens(codons)) * inside, within) * inside
        # Beyond the end are zeros: the ReLU after the maximum makes them neutral there.
        return [deep.sum(dim=1) / within.sum(dim=1).clamp(min=1)[:, None], deep.amax(dim=1).relu()]


def read_ends(onehot: Tensor, mask: Tensor) -> Tensor:
    """The first and the last :data:`END` bases of each read, one-hot, (n, 2 x 4 x END)."""
    lengths = mask.sum(dim=1)
    step = torch.arange(END, device=mask.device).expand(len(mask), END)
    last = lengths[:, None] - 1 - step
    ends = []
    for position in (step, last):
        inside = (position >= 0) & (position < lengths[:, None])
        where = (position * inside)[:, None].expand(-1, 4, -1)
        ends.append((onehot.gather(2, where) * inside[:, None]).flatten(1))
    return torch.cat(ends, dim=1)
