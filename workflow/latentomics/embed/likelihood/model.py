"""scvi-tools' SCVI, trained on sparse minibatches with a likelihood that costs what its non-zero counts do.

It is the same model: the same module, parameters, random numbers and loss, hence the same training up to rounding. What is
saved is loaded by ``scvi.model.SCVI.load``, and whatever scvi-tools does with a trained model its own code does, because
only training and its validation are fed sparse minibatches.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import scvi.model
import torch
from scvi import REGISTRY_KEYS
from scvi.module import VAE
from scvi.module._constants import MODULE_KEYS
from scvi.module.base import LossOutput
from scvi.nn import DecoderSCVI
from scvi.train import TrainingPlan

from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.likelihood.loss import loss_of_decoder


class SparseVAE(VAE):
    """The module of SCVI; counts may be :class:`SparseCounts`, or dense as ever."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.decoder.__class__ = _Decoder  # same parameters; its layers are made by scvi-tools' constructor
        self.decoder.defers = False

    def forward(self, tensors: dict[str, Any], *args: Any, **options: Any) -> Any:
        self.decoder.defers = isinstance(tensors[REGISTRY_KEYS.X_KEY], SparseCounts)
        try:
            return super().forward(tensors, *args, **options)
        finally:
            self.decoder.defers = False

    def loss(self, tensors: Any, inference_outputs: Any, generative_outputs: Any, kl_weight: Any = 1.0) -> LossOutput:
        """scvi-tools' loss; of sparse counts the reconstruction is computed here, all else there."""
        x, px = tensors[REGISTRY_KEYS.X_KEY], generative_outputs[MODULE_KEYS.PX_KEY]
        if not isinstance(x, SparseCounts):
            return super().loss(tensors, inference_outputs, generative_outputs, kl_weight)
        heads = [self.decoder.px_scale_decoder[0], self.decoder.px_dropout_decoder]
        found = loss_of_decoder(x, *px.scale, px.theta, *heads[: 2 if self.gene_likelihood == "zinb" else 1])
        certain = {**generative_outputs, MODULE_KEYS.PX_KEY: _Certain()}
        rest = super().loss(tensors, inference_outputs, certain, kl_weight)
        return LossOutput(found.mean + rest.loss, found.per_cell, rest.kl_local, extra_metrics=rest.extra_metrics)


class _Decoder(DecoderSCVI):
    """Leaves its last layer to the loss where ``defers`` is set."""

    def forward(self, dispersion: str, z: torch.Tensor, library: torch.Tensor, *categories: Any) -> tuple[Any, ...]:
        """In place of the scale, which distributions only pass on: what the loss needs. Mean and logit are for show."""
        if not self.defers:
            return super().forward(dispersion, z, library, *categories)
        hidden = self.px_decoder(z, *categories)
        theta = self.px_r_decoder(hidden) if dispersion == "gene-cell" else None
        return (hidden, library), theta, z.new_ones(1), z.new_zeros(1)


class _Certain:
    """A distribution that gives all counts the log probability 0."""

    def log_prob(self, x: SparseCounts) -> torch.Tensor:
        return torch.zeros(x.shape[0], 1, device=x.device)


class _Plan(TrainingPlan):
    """scvi-tools' training plan, which logs at the end of an epoch what that one logs at every step.

    The values are the same. With small minibatches logging takes longer than the training itself.
    """

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.loss_kwargs["kl_weight"] = self.kl_weight
        *_, found = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._note(found, self.train_metrics, "train")
        return found.loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        *_, found = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._note(found, self.val_metrics, "validation")

    def on_train_epoch_start(self) -> None:
        self._sums: dict[str, Any] = {"train": 0.0, "validation": 0.0}

    def on_train_epoch_end(self) -> None:
        self.log("kl_weight", self.kl_weight)
        self._log(self.train_metrics, "train")
        super().on_train_epoch_end()

    def on_validation_epoch_end(self) -> None:
        self._log(self.val_metrics, "validation")
        super().on_validation_epoch_end()

    @torch.inference_mode()
    def _note(self, found: LossOutput, metrics: Any, mode: str) -> None:
        metrics[f"elbo_{mode}"].update(
            reconstruction_loss=found.reconstruction_loss_sum,
            kl_local=found.kl_local_sum,
            kl_global=found.kl_global_sum,
            n_obs_minibatch=found.n_obs_minibatch,
        )
        self._sums[mode] += found.loss * found.n_obs_minibatch

    def _log(self, metrics: Any, mode: str) -> None:
        self.log(f"{mode}_loss", self._sums[mode] / metrics[f"reconstruction_loss_{mode}"].n_obs)
        self.log_dict(metrics)

    def _optimizer_creator_fn(self, optimizer_cls: Any) -> Any:
        return partial(optimizer_cls, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay, fused=True)


class SCVI(scvi.model.SCVI):
    """``scvi.model.SCVI``, trained faster. It has the same name, because scvi-tools writes it into what is saved."""

    _module_cls = SparseVAE
    _training_plan_cls = _Plan

    def train(self, *args: Any, datasplitter_kwargs: dict[str, Any] | None = None, **options: Any) -> None:
        """As scvi-tools', on sparse minibatches; on dense ones where counts are not of a library.

        A ``datamodule`` (:class:`~latentomics.embed.likelihood.cells.Cells`) gives them itself.

        Raises
        ------
        ValueError
            The counts are not a CSR matrix of whole numbers.
        """
        if options.get("datamodule") is not None:
            super().train(*args, **options)
            return
        splitter = dict(datasplitter_kwargs or {})
        sparse = self.module.gene_likelihood in {"nb", "zinb"} and not self.module.use_size_factor_key
        if sparse:
            check_counts(self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY))
            splitter["collate_fn"] = _sparse
        super().train(*args, load_sparse_tensor=sparse, datasplitter_kwargs=splitter, **options)


def check_counts(counts: Any) -> None:
    """Refuse what a likelihood of non-zero counts would be wrong of.

    Raises
    ------
    ValueError
        Not a CSR matrix, or a stored value is not a positive whole number.
    """
    if getattr(counts, "format", None) != "csr":
        raise ValueError(f"counts must be a CSR matrix, not {type(counts).__name__}")
    if (counts.data <= 0).any() or (counts.data % 1).any():
        raise ValueError("every stored count must be a positive whole number")


def _sparse(tensors: dict[str, Any]) -> dict[str, Any]:
    """A minibatch of scvi-tools' loader, its counts as :class:`SparseCounts`."""
    found = torch.utils.data.default_convert(tensors)
    return {**found, REGISTRY_KEYS.X_KEY: SparseCounts.of(found[REGISTRY_KEYS.X_KEY])}
