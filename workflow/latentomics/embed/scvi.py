"""scVI: a variational autoencoder with a count likelihood and batch correction.

Lopez et al. 2018, Nature Methods 15:1053. The model is scvi-tools' own ``SCVI``, saved in its own format:
``scvi.model.SCVI.load(folder, adata)`` opens it. Trained on sparse minibatches (:mod:`latentomics.embed.likelihood`), which
are read from the store where the counts of all cells would take too much memory (:mod:`latentomics.embed.stored`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from latentomics.embed.data import EmbeddingData, Fit, TrainingError
from latentomics.embed.training import TrainingParams, check_history, refusal, schedule, training_summary, use_device

TITLE = "scVI"
ASSAYS = ("scrna",)
NEEDS_COUNTS = True
GPU = True


class Params(TrainingParams):
    n_latent: int = Field(10, ge=2, le=100, description="Latent dimensions.")
    n_hidden: int = Field(64, ge=8, le=4096, description="Units of each hidden layer; raise it for large data.")
    n_layers: int = Field(1, ge=1, le=8, description="Hidden layers of encoder and decoder.")
    dropout_rate: float = Field(0.2, ge=0, lt=1, description="Dropout in the encoder (fraction).")
    gene_likelihood: Literal["zinb", "nb"] = Field(
        "zinb", description="Count likelihood: (zero-inflated) negative binomial."
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Step size of Adam.")
    kl_warmup_epochs: int = Field(
        50, ge=1, description="Epochs over which the weight of the latent prior grows from 0 to 1."
    )
    covariates: list[str] = Field(
        [], description="Further sheet columns to correct for, beside `batch`: numeric ones as continuous covariates."
    )


def fit(data: EmbeddingData, params: Params, seed: int, threads: int, folder: Path) -> Fit:
    """Train scVI on the counts of the selected features; ``batch`` is the batch key.

    Returns
    -------
    Fit
        ``latent`` is the mean of the approximate posterior (n_obs x n_latent); ``history`` holds the ELBO per
        observation (negative, lower is better), of the training and the held-out observations.

    Raises
    ------
    TrainingError
        The loss became NaN or infinite, a covariate is unknown, or a CPU would take longer than the site's limit.
    """
    import anndata as ad
    import numpy as np
    import scvi
    from scipy.sparse import csr_matrix

    from latentomics.embed.likelihood.model import SCVI
    from latentomics.embed.likelihood.resident import ResidentCells
    from latentomics.embed.likelihood.stored import StoredCells
    from latentomics.embed.resident import resident_rows

    accelerator, device = use_device(threads)
    scvi.settings.seed = seed
    scvi.settings.dl_num_workers = 0
    if data.stored:
        counts = csr_matrix(data.counts.shape, dtype=np.float32)
    else:
        counts = data.counts.astype(np.float32)
        counts.eliminate_zeros()
    adata = ad.AnnData(counts, obs=_covariates(data.obs, params), var=pd.DataFrame(index=data.features))
    covariates = adata.obs.columns.drop("batch")
    numeric = [c for c in covariates if pd.api.types.is_numeric_dtype(adata.obs[c])]
    SCVI.setup_anndata(
        adata,
        batch_key="batch",
        categorical_covariate_keys=[c for c in covariates if c not in numeric] or None,
        continuous_covariate_keys=numeric or None,
    )
    model = SCVI(
        adata,
        n_latent=params.n_latent,
        n_hidden=params.n_hidden,
        n_layers=params.n_layers,
        dropout_rate=params.dropout_rate,
        gene_likelihood=params.gene_likelihood,
    )
    train, held_out = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
    min_epochs, max_epochs = schedule(params, len(train))
    # A last minibatch of one observation breaks batch normalisation.
    odd_one = len(train) > params.batch_size and len(train) % params.batch_size == 1
    if data.counts.dtype.kind not in "iu":
        raise ValueError(f"counts must be whole numbers, not {data.counts.dtype}")
    resident = resident_rows((block for _, block in data.counts.blocks()) if data.stored else [counts], accelerator)
    feeding: dict[str, Any] = {}
    if resident is not None:
        cells = ResidentCells(model.adata_manager, resident, data.held_out, params.batch_size, seed, odd_one)
        feeding["datamodule"] = cells
    elif data.stored:
        cells = StoredCells(model.adata_manager, data.counts, data.held_out, params.batch_size, seed, odd_one)
        feeding["datamodule"] = cells
    else:
        feeding["batch_size"] = params.batch_size
        feeding["datasplitter_kwargs"] = {"external_indexing": [train, held_out], "drop_last": odd_one}
    try:
        model.train(
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=1,
            **feeding,
            early_stopping=True,
            early_stopping_patience=params.patience,
            early_stopping_warmup_epochs=min_epochs,
            check_val_every_n_epoch=1,
            plan_kwargs={"lr": params.learning_rate, "n_epochs_kl_warmup": params.kl_warmup_epochs},
            enable_progress_bar=False,
            callbacks=[refusal("scvi", params, min_epochs, max_epochs)],
        )
    except ValueError as error:
        # scvi-tools' distributions refuse NaN parameters before Lightning sees the loss.
        if "nan" not in str(error).lower() and "constraint" not in str(error):
            raise
        check_history(pd.DataFrame({"epoch": [], "train": [], "held_out": []}), "scvi")
    history = pd.DataFrame(
        {
            "train": model.history["elbo_train"].iloc[:, 0].astype(float),
            "held_out": model.history["elbo_validation"].iloc[:, 0].astype(float),
        }
    )
    history.insert(0, "epoch", np.arange(1, len(history) + 1))
    history.insert(1, "step", history["epoch"] * (-(-len(train) // params.batch_size) - odd_one))
    check_history(history, "scvi")
    latent = cells.latent(model) if data.stored else model.get_latent_representation()
    model.save(folder, overwrite=True, save_anndata=False)
    summary = {
        "n_parameters": sum(p.numel() for p in model.module.parameters()),
        "n_latent": params.n_latent,
        "device": device,
        "n_batches": int(adata.obs["batch"].nunique()),
        **training_summary(history, max_epochs, "negative ELBO per observation"),
    }
    return Fit(latent.astype(np.float32), summary, history.reset_index(drop=True))


def _covariates(obs: pd.DataFrame, params: Params) -> pd.DataFrame:
    covariates = [c for c in params.covariates if c != "batch"]
    missing = [c for c in covariates if c not in obs.columns]
    if missing:
        raise TrainingError(
            f"scvi: no column {', '.join(missing)} in the sample sheet.\n"
            f"    Hint: `embeddings.scvi.covariates` may name {', '.join(obs.columns)}."
        )
    chosen = obs[["batch", *covariates]].copy()
    for column in covariates:
        as_number = pd.to_numeric(chosen[column], errors="coerce")
        chosen[column] = as_number if as_number.notna().all() else chosen[column].astype("category")
    chosen["batch"] = chosen["batch"].astype("category")
    return chosen
