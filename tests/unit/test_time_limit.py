"""The limit of trainings on a CPU: refused by what they do at least, estimated from the first steps; never on a GPU."""

from __future__ import annotations

import itertools
import logging
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from embedding_cases import cells, embedding_data
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from latentomics import time_limit
from latentomics.embed.data import TrainingError
from latentomics.time_limit import LONGEST_ON_CPU_HOURS, VARIABLE, cpu_time_limit, longest_on_cpu, refuse_if_too_long


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def ticking(seconds: float):
    """A clock on which so many seconds pass between two looks at it."""
    count = itertools.count()
    return lambda: next(count) * seconds


class Line(L.LightningModule):
    """The smallest thing that Lightning trains."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.steps = 0

    def training_step(self, batch):
        self.steps += 1
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train(callback, epochs: int = 4, steps: int = 30, **options) -> Line:
    """Train for some epochs of some steps."""
    module = Line()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[callback], enable_model_summary=False, **(quiet | options)
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(steps, 1)), batch_size=1))
    return module


# The limit


def test_the_limit_is_the_sites_or_twelve_hours(monkeypatch):
    assert longest_on_cpu() == LONGEST_ON_CPU_HOURS == 12
    for text, hours in (("0.5", 0.5), (" 48 ", 48), ("inf", float("inf")), ("", 12)):
        monkeypatch.setenv(VARIABLE, text)
        assert longest_on_cpu() == hours


@pytest.mark.parametrize("text", ["a day", "0", "-3", "nan", "12h"])
def test_a_limit_that_is_no_number_of_hours_is_refused(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(TrainingError, match=rf"{VARIABLE} is '{text}'.*\n    Hint: unset it"):
        longest_on_cpu()


@given(hours=st.floats(0, 1e6), limit=st.floats(0.01, 1e5))
def test_refused_exactly_above_the_limit(hours, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, repr(limit))
        if hours > limit:
            with pytest.raises(TrainingError, match="the limit is"):
                refuse_if_too_long("x", hours, "do less")
        else:
            refuse_if_too_long("x", hours, "do less")


def test_the_refusal_says_what_how_long_and_what_to_do():
    with pytest.raises(TrainingError) as refused:
        refuse_if_too_long("scvi", 1234.4, "lower `embeddings.scvi.max_epochs`")
    assert str(refused.value) == (
        "scvi: there is no GPU here, and on this CPU it takes at least 1,234 hours; the limit is 12 hours.\n"
        "    Hint: run it on a node with a GPU (on a cluster: `--profile slurm`), lower `embeddings.scvi.max_epochs`, or "
        "raise the limit by setting LATENTOMICS_CPU_HOURS."
    )


# The callback


def test_a_training_that_is_too_long_ends_after_its_first_steps():
    """A step of an hour; the least are two epochs of 30 steps, and 25 are done when that is known."""
    limit = cpu_time_limit("net", (2, 4), "do less", ticking(3600))
    with pytest.raises(TrainingError, match="net: .* at least 35 hours; the limit is 12 hours"):
        train(limit)
    assert limit.steps == time_limit.WARM_UP_STEPS + time_limit.TIMED_STEPS == 25


def test_how_many_steps_are_timed_and_what_is_said(capsys):
    """The estimate comes once, after the steps that are not timed and those that are."""
    callback = cpu_time_limit("net", (2, 4), "do less", ticking(36))
    train(callback)
    assert callback.steps == time_limit.WARM_UP_STEPS + time_limit.TIMED_STEPS
    # 25 of 60 and of 120 steps are done when it is said.
    assert capsys.readouterr().out.count("net: 36 s per step, 21 minutes to 57 minutes to go") == 1


def test_fast_steps_are_timed_for_ten_seconds(capsys):
    callback = cpu_time_limit("net", (2, 4), "do less", ticking(0.2))
    train(callback)
    assert callback.steps == time_limit.WARM_UP_STEPS + 50
    assert "net: 0.2 s per step, 1 seconds to 13 seconds to go" in capsys.readouterr().out


def test_the_first_steps_are_not_timed():
    """A slow start, such as a compilation, says nothing about the rest."""
    looks = itertools.chain([0, 1e5, 2e5, 3e5, 4e5], itertools.count(4e5 + 1))
    train(cpu_time_limit("net", (4, 4), "do less", lambda: next(looks)))


def test_a_training_that_may_end_early_is_not_refused_for_its_longest(monkeypatch):
    monkeypatch.setenv(VARIABLE, "10")
    train(cpu_time_limit("net", (1, 1000), "do less", ticking(600)))
    with pytest.raises(TrainingError):
        train(cpu_time_limit("net", (1000, 1000), "do less", ticking(600)))


def test_short_trainings_end_before_they_are_judged():
    assert train(cpu_time_limit("net", (1, 1), "do less", ticking(1e9)), epochs=1, steps=20).steps == 20


def test_what_a_checkpoint_has_done_does_not_count(tmp_path, monkeypatch):
    """Three of four epochs are done: the rest is short enough."""
    module, loader = Line(), DataLoader(TensorDataset(torch.ones(30, 1)), batch_size=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    first = L.Trainer(max_epochs=3, enable_checkpointing=False, **quiet)
    first.fit(module, loader)
    first.save_checkpoint(tmp_path / "x.ckpt")
    monkeypatch.setenv(VARIABLE, "30")
    limit = cpu_time_limit("net", (4, 4), "do less", ticking(3600))
    L.Trainer(max_epochs=4, enable_checkpointing=False, callbacks=[limit], **quiet).fit(
        Line(), loader, ckpt_path=tmp_path / "x.ckpt", weights_only=True
    )
    assert limit.judged
    with pytest.raises(TrainingError):
        train(cpu_time_limit("net", (4, 4), "do less", ticking(3600)))


def test_nothing_is_refused_on_a_gpu():
    callback = cpu_time_limit("net", (1000, 1000), "do less", ticking(3600))
    device = SimpleNamespace(root_device=torch.device("cuda", 0))
    trainer = SimpleNamespace(strategy=device, num_training_batches=30, global_step=0)
    for index in range(100):
        callback.on_train_batch_end(trainer, None, None, None, index)
    assert not callback.judged


# Where it is used


@pytest.fixture
def impatient(monkeypatch):
    """A site that has hardly any time; it says so after the steps that are timed."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(time_limit, "TIMED_SECONDS", 0.0)
    monkeypatch.setenv(VARIABLE, "1e-9")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", ["scvi", "autoencoder"])
def test_embeddings_are_refused(tmp_path, method):
    from latentomics.embed import registry

    module = registry.method(method)
    with pytest.raises(TrainingError, match=rf"(?s){method}: there is no GPU.*`embeddings\.{method}`"):
        module.fit(embedding_data(cells()), module.Params(), seed=0, threads=1, folder=tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Reads:
    """As much of a loader of reads as the training asks for."""

    waited, done = 0.0, 0

    def __len__(self):
        return 30

    def __iter__(self):
        return itertools.repeat((torch.ones(2, 1), torch.ones(2), torch.tensor([0, 1])), len(self))

    def state_dict(self):
        return {}


class Guess(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 2)

    def forward(self, codes, lengths):
        return self.layer(codes)


@pytest.mark.usefixtures("impatient")
def test_read_classifiers_are_refused(tmp_path):
    from latentomics.config.classifier import Training
    from latentomics.reads.loop import run_training

    with pytest.raises(TrainingError, match=r"(?s)cnn: there is no GPU.*`classifier\.fit`"):
        run_training("cnn", Guess(), Reads(), Reads(), Training(), 0, "cpu", tmp_path / "cnn.ckpt")
