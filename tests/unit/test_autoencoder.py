"""The autoencoder: its shape, what it learns, what it saves, and how it fails."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from embedding_cases import cells, embedding_data, some_rows
from pydantic import ValidationError
from torch import nn

from latentomics.embed import loop
from latentomics.embed.autoencoder import Params, build, fit, load
from latentomics.embed.data import EmbeddingData, Fit, TrainingError
from latentomics.embed.training import schedule

SMALL = {"hidden": [48, 32, 16], "n_latent": 4, "batch_size": 64, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def data() -> EmbeddingData:
    return embedding_data(cells())


@pytest.fixture(scope="module")
def trained(data: EmbeddingData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    folder = tmp_path_factory.mktemp("autoencoder")
    return fit(data, Params(min_steps=250, max_epochs=50, **SMALL), seed=3, threads=1, folder=folder), folder


def quick(data: EmbeddingData, folder: Path, seed: int = 0, **changes: object) -> Fit:
    params = Params(**(SMALL | {"min_steps": 12, "max_epochs": 3})).model_copy(update=changes)
    return fit(data, params, seed=seed, threads=1, folder=folder)


def dense_rows(data: EmbeddingData) -> np.ndarray:
    return data.normalised.toarray().astype(np.float64)


def test_four_dense_layers_on_each_side_of_the_bottleneck() -> None:
    network = build(100, Params(hidden=[64, 32, 16], n_latent=5))
    widths = {
        side: [(layer.in_features, layer.out_features) for layer in network[side] if isinstance(layer, nn.Linear)]
        for side in ("encoder", "decoder")
    }
    assert widths["encoder"] == [(100, 64), (64, 32), (32, 16), (16, 5)]
    assert widths["decoder"] == [(5, 16), (16, 32), (32, 64), (64, 100)]
    for side in network.values():
        layers = list(side)
        assert isinstance(layers[-1], nn.Linear), "bottleneck and output are linear: any real value can be reached"
        for first, second in pairwise(layers):
            assert not (isinstance(first, nn.Linear) and isinstance(second, nn.Linear)), "a layer without activation"


@pytest.mark.parametrize("hidden", [[64, 32], [64, 32, 16, 8]])
def test_another_number_of_layers_is_refused(hidden: list[int]) -> None:
    with pytest.raises(ValidationError):
        Params(hidden=hidden)


def test_it_explains_held_out_cells_and_says_by_how_much(trained: tuple[Fit, Path], data: EmbeddingData) -> None:
    found, folder = trained
    network, mean, _ = load(folder)
    centred = torch.from_numpy(data.normalised.toarray()[data.held_out] - mean)
    with torch.inference_mode():
        error = float(((network["decoder"](network["encoder"](centred)) - centred) ** 2).sum())
    r2 = 1 - error / float((centred**2).sum())
    assert found.summary["held_out_r2"] == pytest.approx(r2, abs=1e-5)
    assert r2 > 0.03, "better than the mean of the training cells"


def test_the_mean_is_that_of_the_training_cells(trained: tuple[Fit, Path], data: EmbeddingData) -> None:
    _, mean, _ = load(trained[1])
    np.testing.assert_allclose(mean, dense_rows(data)[~data.held_out].mean(axis=0), rtol=1e-4, atol=1e-6)


def test_the_best_weights_are_kept(data: EmbeddingData, tmp_path: Path) -> None:
    # Steps so long that the held-out loss jumps about: the last epoch is not the best one.
    found = quick(data, tmp_path, learning_rate=0.3, min_steps=120)
    losses = found.history["held_out"]
    assert losses.idxmin() < len(losses) - 1, "the case must be one where it matters"
    assert found.summary["held_out_loss"] == pytest.approx(losses.min(), rel=1e-6)
    assert found.summary["best_epoch"] == losses.idxmin() + 1
    about = ((dense_rows(data)[data.held_out] - dense_rows(data)[~data.held_out].mean(axis=0)) ** 2).mean()
    assert found.summary["held_out_r2"] == pytest.approx(1 - losses.min() / about, rel=1e-3)


def test_a_saved_model_gives_the_same_latent_space(trained: tuple[Fit, Path], data: EmbeddingData) -> None:
    found, folder = trained
    network, mean, features = load(folder)
    with torch.inference_mode():
        latent = network["encoder"](torch.from_numpy(data.normalised.toarray()) - torch.from_numpy(mean)).numpy()
    np.testing.assert_array_equal(latent, found.latent)
    assert features == list(data.features)
    assert found.latent.shape == (len(data.obs), 4)
    assert found.latent.dtype == np.float32


def test_loading_unpickles_no_code(trained: tuple[Fit, Path], tmp_path: Path) -> None:
    class Danger:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    for name in ("model.json", "mean.npy"):
        (tmp_path / name).write_bytes((trained[1] / name).read_bytes())
    torch.save({"weights": Danger()}, tmp_path / "weights.pt")
    with pytest.raises(Exception, match="[Ww]eights"):
        load(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_history_and_summary(trained: tuple[Fit, Path], data: EmbeddingData) -> None:
    found, folder = trained
    losses = found.history
    assert list(losses) == ["epoch", "step", "train", "held_out"]
    assert list(losses["epoch"]) == list(range(1, len(losses) + 1))
    per_epoch = -(-int((~data.held_out).sum()) // 64)
    assert list(losses["step"]) == [per_epoch * epoch for epoch in losses["epoch"]]
    assert losses["held_out"].min() < losses["held_out"].iloc[0]
    network, _, _ = load(folder)
    assert found.summary["n_parameters"] == sum(p.numel() for p in network.parameters())
    assert found.summary["n_steps"] >= 250
    json.dumps(found.summary)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(data: EmbeddingData, tmp_path: Path) -> None:
    first, again, other = (quick(data, tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1)))
    np.testing.assert_array_equal(first.latent, again.latent)
    assert first.summary == again.summary
    assert not np.allclose(first.latent, other.latent, atol=1e-3)


def test_held_out_cells_do_not_influence_the_training(data: EmbeddingData, tmp_path: Path) -> None:
    changed = some_rows(data, np.arange(len(data.obs)), data.held_out)
    changed.counts[np.flatnonzero(data.held_out)[0]] *= 7
    # One epoch: early stopping and the choice of the best weights may look at them, the weights may not.
    first, second = (quick(d, tmp_path / str(i), min_steps=1, max_epochs=1) for i, d in enumerate((data, changed)))
    np.testing.assert_array_equal(first.history["train"], second.history["train"])
    np.testing.assert_array_equal(first.latent[~data.held_out], second.latent[~data.held_out])
    assert not np.array_equal(first.history["held_out"], second.history["held_out"])


def test_the_training_is_that_of_the_plain_optimiser(
    data: EmbeddingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few steps, because rounding grows from step to step; a weight decay that would be missed (it changes losses by 1 %).
    settings = {"max_epochs": 2, "min_steps": 1, "weight_decay": 1.0}
    found = quick(data, tmp_path / "fused", **settings)
    plain = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *parameters, fused, **options: plain(*parameters, **options))
    expected = quick(data, tmp_path / "plain", **settings)
    for column in ("train", "held_out"):
        np.testing.assert_allclose(found.history[column], expected.history[column], rtol=3e-4)


def test_a_single_cell_in_the_last_batch(data: EmbeddingData, tmp_path: Path) -> None:
    rows = np.arange(70)
    held_out = rows >= 65  # 65 for training, batches of 64: batch normalisation cannot do with one
    found = quick(some_rows(data, rows, held_out), tmp_path)
    assert np.isfinite(found.latent).all()
    assert found.latent.shape[0] == 70


def test_diverging_training_is_an_error_with_advice(data: EmbeddingData, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)autoencoder: .*not a finite number.*Hint: lower .*learning_rate"):
        quick(data, tmp_path, learning_rate=1e6, min_steps=600)
    assert not (tmp_path / "weights.pt").exists()


def held_out_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Let the held-out loss be these values, one per epoch, whatever the network does."""
    import lightning as L

    log = L.LightningModule.log

    def scripted(self, name, value, **options):
        return log(self, name, torch.tensor(losses[min(self.current_epoch, len(losses) - 1)]), **options)

    monkeypatch.setattr(L.LightningModule, "log", scripted)


@pytest.mark.parametrize(
    ("losses", "min_epochs", "n_epochs"),
    [
        # Patience 2, at most 12 epochs.
        ([5.0, 4.0, 3.0, 3.5, 3.5], 1, 5),  # the best is two epochs old
        ([5.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0], 6, 6),  # long a plateau, but the floor holds
        ([5.0, 6.0, 6.0, 6.0, 4.0, 3.0, 2.0, 2.5, 2.5], 6, 9),  # a plateau before the floor was overcome
        ([12.0 - i for i in range(12)], 1, 12),  # always better: the limit
    ],
)
def test_when_the_training_stops(
    data: EmbeddingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    min_epochs: int,
    n_epochs: int,
) -> None:
    held_out_losses(monkeypatch, losses)
    few = some_rows(data, np.arange(60), np.arange(60) < 10)  # one step per epoch
    changes = {"min_steps": min_epochs, "max_epochs": 12, "patience": 2}
    assert schedule(Params(**SMALL).model_copy(update=changes), 50) == (min_epochs, 12)
    found = quick(few, tmp_path, **changes)
    assert len(found.history) == n_epochs
    assert found.summary["held_out_loss"] == min(losses[:n_epochs])
    assert found.summary["stopped"].startswith("early") == (n_epochs < 12)


def test_a_loss_that_turns_nan_ends_the_training_at_once(
    data: EmbeddingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = []
    finite = loop.check_history
    monkeypatch.setattr(loop, "check_history", lambda h, m: (epochs.append(len(h)), finite(h, m)))
    held_out_losses(monkeypatch, [1.0, 1.0, float("nan")])
    few = some_rows(data, np.arange(60), np.arange(60) < 10)
    with pytest.raises(TrainingError, match="epoch 3"):
        quick(few, tmp_path, min_steps=50)
    assert epochs == [3], "not trained on to the floor"
