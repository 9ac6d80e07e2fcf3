"""Prediction of a condition from taxa, by repeated stratified cross-validation with everything fitted inside the fold.

Each training fold fits anew: which taxa are used, what a zero is replaced by, scales, the encoder, the penalty of the
classifier. An encoder is a function of training counts, test counts and a seed; it is never shown a label, so it cannot
look at those of the test fold.

The splits of a repeated cross-validation share samples, and a plain t interval over them is far too narrow. All intervals
and tests here are the corrected resampled t (Nadeau and Bengio 2003, Mach. Learn. 52:239; for repeated cross-validation
Bouckaert and Frank 2004, PAKDD): variance s^2 (1/J + n_test/n_train) of J splits, J - 1 degrees of freedom.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse import issparse

from latentomics.config.prediction import Prediction
from latentomics.io.store import CountsStore
from latentomics.metagenome.composition import default_delta, normalise, to_shares
from latentomics.metagenome.diversity import groups_of, large_groups
from latentomics.problems import InputError, Problem

#: Training counts, test counts (samples x taxa), seed -> latent coordinates of both (samples x dimensions).
Encoder = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]

SUMMARY_COLUMNS = (
    "scheme",
    "model",
    "features",
    "auc_mean",
    "auc_low",
    "auc_high",
    "n_splits",
    "difference_to_clr",
    "difference_low",
    "difference_high",
    "p",
    "verdict",
)
SPLIT_COLUMNS = ("scheme", "model", "features", "split", "held_out", "n_train", "n_test", "auc")
CROSS_VALIDATION, LEAVE_ONE_BATCH_OUT = "cross-validation", "leave one batch out"
_REFERENCE = ("logistic", "clr")


@dataclass(frozen=True)
class _Split:
    scheme: str
    number: int
    held_out: str
    train: np.ndarray
    test: np.ndarray


def clr_of_fold(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred log-ratios of both, zeros replaced by the share that the *training* samples give.

    Parameters
    ----------
    train, test
        Samples x taxa, counts or shares. A sample with none of these taxa becomes 0, its own centre.
    """
    some = train.sum(axis=1) > 0
    delta = default_delta(to_shares(train[some]))

    def transformed(table: np.ndarray) -> np.ndarray:
        z, known = np.zeros(table.shape), table.sum(axis=1) > 0
        if known.any():
            z[known] = normalise(table[known], "clr", seed=0, delta=delta)
        return z

    return transformed(train), transformed(test)


def pca_encoder(n_components: int = 20) -> Encoder:
    """Principal components of the training samples' centred log-ratios; the test samples are projected onto them."""

    def encode(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.decomposition import PCA

        z_train, z_test = clr_of_fold(train, test)
        model = PCA(min(n_components, *z_train.shape), svd_solver="full", random_state=seed).fit(z_train)
        return model.transform(z_train), model.transform(z_test)

    return encode


def predict(
    counts,
    target: pd.Series,
    params: Prediction,
    seed: int,
    threads: int = 1,
    batch: pd.Series | None = None,
    encoders: Mapping[str, Encoder] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How well each kind of features predicts a condition.

    Parameters
    ----------
    counts
        Samples x taxa, dense or CSR; counts or shares.
    target
        Condition of every sample; samples without one, and conditions with fewer samples than folds, are left out.
    batch
        Batch of every sample: with at least two, each is also held out whole.
    encoders
        By name; each gets a logistic regression on its latent coordinates. By default PCA.

    Returns
    -------
    summary
        Columns :data:`SUMMARY_COLUMNS`, one row per scheme, model and features. AUC is the area under the ROC curve, of
        more than two conditions the mean of one against the rest. ``auc_low auc_high`` and ``difference_low
        difference_high`` are 95 % intervals by the corrected resampled t; p is that of the paired difference, not
        adjusted. Left-out batches are too few for either: their range stands in ``verdict``. Where nothing can be
        predicted, one row whose ``verdict`` says why.
    splits
        Columns :data:`SPLIT_COLUMNS`, the AUC of every split.
    """
    encoders = {"pca": pca_encoder()} if encoders is None else encoders
    group, note = large_groups(groups_of(target.reset_index(drop=True)), params.n_folds)
    if note.startswith("not tested"):
        summary = pd.DataFrame(
            [{"verdict": note.replace("not tested", "not predicted")}], columns=list(SUMMARY_COLUMNS)
        )
        return summary, pd.DataFrame(columns=list(SPLIT_COLUMNS))
    rows = group.index.to_numpy()
    selected = counts[rows]
    table = np.asarray(selected.toarray() if issparse(selected) else selected, dtype=np.float64)
    classes, y = np.unique(group.to_numpy(str), return_inverse=True)
    splits = _cross_validation(y, params, seed)
    if batch is not None:
        splits += _left_out_batches(groups_of(batch.reset_index(drop=True))[rows].to_numpy(), y)
    records = []
    for i, split in enumerate(splits):
        of_split = int(np.random.SeedSequence([seed, i]).generate_state(1)[0] >> 1)
        for (model, features), auc in _one_split(table, y, split, params, of_split, threads, encoders).items():
            sizes = {"n_train": len(split.train), "n_test": len(split.test)}
            named = {"scheme": split.scheme, "split": split.number, "held_out": split.held_out}
            records.append({**named, "model": model, "features": features, **sizes, "auc": auc})
    result = pd.DataFrame(records)[list(SPLIT_COLUMNS)]
    return _summary(result, classes, note), result


def predict_study(
    store: CountsStore,
    params: Prediction,
    seed: int,
    threads: int = 1,
    encoders: Mapping[str, Encoder] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`predict` the configured target of a study from its store.

    Raises
    ------
    InputError
        The samples have no such column.
    """
    if params.target not in store.obs:
        known = f"columns that describe samples: {', '.join(map(str, store.obs.columns))}."
        raise InputError(
            Problem("config.yaml", "no column of that name", known, key="prediction.target", value=params.target)
        )
    # A target that is itself the batch cannot be predicted in a batch left out.
    batch = store.obs["batch"] if "batch" in store.obs and params.target != "batch" else None
    return predict(store.select(), store.obs[params.target], params, seed, threads, batch, encoders)


def corrected_interval(values: np.ndarray, ratio: float, level: float = 0.95) -> tuple[float, float, float, float]:
    """Mean, its interval and the p of a mean of zero, by the corrected resampled t (see the module).

    Parameters
    ----------
    values
        One figure per split, shape (J,), J at least 2.
    ratio
        Test over training samples of a split.
    """
    n = len(values)
    mean = float(np.mean(values))
    error = float(np.sqrt((1 / n + ratio) * np.var(values, ddof=1)))
    half = error * stats.t.ppf((1 + level) / 2, n - 1)
    p = 2 * stats.t.sf(abs(mean) / error, n - 1) if error > 0 else float(mean == 0)
    return mean, mean - half, mean + half, float(p)


def _cross_validation(y: np.ndarray, params: Prediction, seed: int) -> list[_Split]:
    from sklearn.model_selection import RepeatedStratifiedKFold

    folds = RepeatedStratifiedKFold(n_splits=params.n_folds, n_repeats=params.n_repeats, random_state=seed)
    return [
        _Split(CROSS_VALIDATION, i, f"repeat {i // params.n_folds + 1}, fold {i % params.n_folds + 1}", train, test)
        for i, (train, test) in enumerate(folds.split(y, y))
    ]


def _left_out_batches(batch: np.ndarray, y: np.ndarray) -> list[_Split]:
    """Every batch that holds all conditions, while the other batches hold each at least three times."""
    named = pd.notna(batch)
    splits = []
    for name in sorted(set(batch[named])):
        test = np.flatnonzero(named & (batch == name))
        train = np.flatnonzero(named & (batch != name))
        n_classes = y.max() + 1
        if len(np.unique(y[test])) == n_classes and np.bincount(y[train], minlength=n_classes).min() >= 3:
            splits.append(_Split(LEAVE_ONE_BATCH_OUT, len(splits), str(name), train, test))
    return splits


def _one_split(
    table: np.ndarray,
    y: np.ndarray,
    split: _Split,
    params: Prediction,
    seed: int,
    threads: int,
    encoders: Mapping[str, Encoder],
) -> dict[tuple[str, str], float]:
    train, test, y_train, y_test = table[split.train], table[split.test], y[split.train], y[split.test]
    chosen = _choose_taxa(train, y_train, params)
    aucs = {}
    if "random_forest" in params.classifiers:
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(params.n_trees, random_state=seed % 2**32, n_jobs=threads)
        forest.fit(to_shares(train)[:, chosen], y_train)
        aucs["random_forest", "relative"] = _auc(y_test, forest.predict_proba(to_shares(test)[:, chosen]))
    train, test = train[:, chosen], test[:, chosen]
    features = {"clr": clr_of_fold(train, test)}
    features |= {name: encode(train, test, seed) for name, encode in encoders.items()}
    for name, (f_train, f_test) in features.items():
        aucs["logistic", name] = _auc(y_test, _logistic(f_train, y_train, f_test, params, seed))
    return aucs


def _choose_taxa(train: np.ndarray, y: np.ndarray, params: Prediction) -> np.ndarray:
    """Columns used, from training samples alone."""
    seen = (train > 0).mean(axis=0)
    columns = np.flatnonzero((seen >= params.min_prevalence) & (seen > 0))
    if params.n_features is None or params.n_features >= len(columns):
        return columns
    from sklearn.feature_selection import f_classif

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # constant taxa: their F is missing, taken as 0
        scores = np.nan_to_num(f_classif(clr_of_fold(train[:, columns], train[:1, columns])[0], y)[0])
    return np.sort(columns[np.argsort(-scores, kind="stable")[: params.n_features]])


def _logistic(train: np.ndarray, y: np.ndarray, test: np.ndarray, params: Prediction, seed: int) -> np.ndarray:
    """Probabilities (n_test x n_classes) by L2 logistic regression, its penalty chosen by cross-validation within ``train``.

    All features share one scale: distances stay what they are, so that a rotation such as PCA differs from the centred
    log-ratios by nothing but what it leaves out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    mean = train.mean(axis=0)
    scale = np.sqrt(train.var(axis=0).mean()) or 1.0
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    inner = StratifiedKFold(3, shuffle=True, random_state=seed % 2**32)
    if len(params.inverse_penalties) == 1:
        model.set_params(C=params.inverse_penalties[0])
    else:
        model = GridSearchCV(model, {"C": sorted(params.inverse_penalties)}, cv=inner, scoring="neg_log_loss")
    return model.fit((train - mean) / scale, y).predict_proba((test - mean) / scale)


def _auc(y: np.ndarray, probability: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    if probability.shape[1] == 2:
        return float(roc_auc_score(y, probability[:, 1]))
    return float(roc_auc_score(y, probability, multi_class="ovr", average="macro"))


def _summary(splits: pd.DataFrame, classes: np.ndarray, note: str) -> pd.DataFrame:
    rows = []
    for scheme, of_scheme in splits.groupby("scheme", sort=False):
        wide = of_scheme.pivot_table(index="split", columns=["model", "features"], values="auc", sort=False)
        ratio = float((of_scheme["n_test"] / of_scheme["n_train"]).mean())
        for key in wide.columns:
            auc, difference = wide[key].to_numpy(), (wide[key] - wide[_REFERENCE]).to_numpy()
            row = {"scheme": scheme, "model": key[0], "features": key[1], "auc_mean": auc.mean(), "n_splits": len(auc)}
            if key != _REFERENCE:
                row["difference_to_clr"] = difference.mean()
            if scheme == CROSS_VALIDATION:
                _, low, high, _ = corrected_interval(auc, ratio)
                row |= {"auc_low": max(low, 0.0), "auc_high": min(high, 1.0)}
                if key != _REFERENCE:
                    _, low, high, p = corrected_interval(difference, ratio)
                    row |= {"difference_low": low, "difference_high": high, "p": p}
                row["verdict"] = "; ".join(filter(None, [_verdict(row, classes), note]))
            else:
                row["verdict"] = f"from {auc.min():.2f} to {auc.max():.2f} over {len(auc)} held-out batch(es)"
            rows.append(row)
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _verdict(row: dict, classes: np.ndarray) -> str:
    if "p" not in row:
        found = f"AUC {row['auc_mean']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})"
        names = ", ".join(classes)
        return f"{found}: {names} {'are told apart' if row['auc_low'] > 0.5 else 'cannot be told apart better than by chance'}"
    difference = f"{row['difference_to_clr']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
    if row["difference_high"] < 0:
        return f"worse than logistic regression on CLR: {difference}"
    if row["difference_low"] > 0:
        return f"better than logistic regression on CLR: {difference}"
    return f"not distinguishable from logistic regression on CLR: {difference}"
