"""How well a disease is told from gut taxa: three published cohorts, each kind of features, everything fitted in the fold.

The tables are MetaPhlAn's relative abundances as MetAML and DeepMicro use them (Pasolli et al. 2016, PLoS Comput. Biol.
12:e1004977; Oh and Zhang 2020, Sci. Rep. 10:6026), at https://github.com/minoh0201/DeepMicro, folder `data`.

    .venv/bin/python benchmarks/cohorts.py --data FOLDER > benchmarks/cohorts.md
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from latentomics.config.prediction import Prediction
from latentomics.embed.autoencoder import Params as AutoencoderParams
from latentomics.metagenome.encoders import registered_encoder
from latentomics.metagenome.prediction import CROSS_VALIDATION, Encoder, pca_encoder, predict

#: Add an embedding here: a function (training counts, test counts, seed) -> (training latent, test latent).
#: The variational autoencoder is not among them: its likelihood needs counts, and these tables hold percentages.
ENCODERS: dict[str, Encoder] = {
    "pca": pca_encoder(20),
    "autoencoder": registered_encoder("autoencoder", AutoencoderParams(min_steps=300, batch_size=32)),
}

COHORTS = {"IBD": "abundance_IBD", "cirrhosis": "abundance_Cirrhosis", "T2D": "abundance_T2D"}
#: AUC of others on these tables, one set of 20 stratified 80/20 splits, without intervals.
OTHERS = {
    "IBD": {("random_forest", "relative"): 0.893, ("logistic", "clr"): 0.911, ("logistic", "pca"): 0.889},
    "cirrhosis": {("random_forest", "relative"): 0.936, ("logistic", "clr"): 0.946, ("logistic", "pca"): 0.914},
    "T2D": {("random_forest", "relative"): 0.739, ("logistic", "clr"): 0.763, ("logistic", "pca"): 0.732},
}


def read_cohort(path: Path) -> tuple[np.ndarray, pd.Series, pd.Series]:
    """Samples x taxa (percent), disease or healthy, and the study within the cohort."""
    table = pd.read_csv(path, sep="\t", header=None, index_col=0, dtype=str)
    abundance = table[table.index.str.startswith("k__")].astype(float).T.to_numpy()
    healthy = (table.loc["disease"] == "n").to_numpy()
    return (
        abundance,
        pd.Series(np.where(healthy, "healthy", "disease")),
        table.loc["dataset_name"].reset_index(drop=True),
    )


def rows(name: str, summary: pd.DataFrame) -> list[str]:
    lines = []
    for row in summary.itertuples():
        if row.scheme == CROSS_VALIDATION:
            interval = f"{row.auc_mean:.3f} ({row.auc_low:.3f} to {row.auc_high:.3f})"
            difference = "" if pd.isna(row.p) else f"{row.difference_to_clr:+.3f}, p {row.p:.2g}"
        else:
            interval, difference = f"{row.auc_mean:.3f}", row.verdict
        others = OTHERS[name].get((row.model, row.features)) if row.scheme == CROSS_VALIDATION else None
        cells = [name, row.scheme, row.model.replace("_", " "), row.features, interval, difference, f"{others or ''}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the tables, .txt or .txt.gz")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("names", nargs="*", default=list(COHORTS))
    options = parser.parse_args()
    # Every small fit of scikit-learn may warn; what matters stands in the table.
    warnings.simplefilter("ignore")
    params, seed = Prediction(target="disease"), 0
    print(f"# Disease from gut taxa\n\n{date.today()}, by `benchmarks/{Path(__file__).name}`.\n")
    print(
        f"{params.n_repeats} x {params.n_folds}-fold stratified cross-validation, {params.n_repeats * params.n_folds} splits; "
        "AUC with its 95 % interval (corrected resampled t, Nadeau and Bengio 2003), the paired difference to logistic "
        "regression on CLR, and the AUC that others had (20 stratified 80/20 splits, other folds).\n"
    )
    print("| cohort | scheme | model | features | AUC (95 %) | difference to CLR | others |\n|" + " --- |" * 7)
    costs = []
    for name in options.names:
        found = [p for p in sorted(options.data.glob(f"{COHORTS[name]}.txt*")) if p.suffix in (".txt", ".gz")]
        if not found:
            sys.exit(f"no {COHORTS[name]}.txt or .txt.gz in {options.data}")
        abundance, disease, study = read_cohort(found[0])
        started = time.monotonic()
        with redirect_stdout(sys.stderr):  # the networks tell their progress
            summary, _ = predict(abundance, disease, params, seed, options.threads, study, ENCODERS)
        costs.append(
            f"{name} {abundance.shape[0]} samples x {abundance.shape[1]} taxa {time.monotonic() - started:.0f} s"
        )
        print("\n".join(rows(name, summary)), flush=True)
    print(f"\nWall time on {options.threads} core(s): {'; '.join(costs)}.")


if __name__ == "__main__":
    main()
