"""Attribution: complete, on the right bases, the same from both strands; logos; what cannot be explained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from attribution_cases import Additive, Convolution, Recurrent, Smooth, both, random_reads, rng, store_of, turned
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from latentomics.problems import InputError
from latentomics.reads.attribution import (
    ANCHORED,
    STEPS,
    TOLERANCE,
    anchored,
    attribute_model,
    contrast,
    integrated_gradients,
)
from latentomics.reads.bases import PAD, N, encode
from latentomics.reads.store import TRAIN, Batch

__all__ = ["rng"]


# Attributions of single reads


@pytest.mark.parametrize("network", [Convolution(), Smooth(), Recurrent()], ids=lambda n: type(n).__name__)
def test_attributions_add_up_to_what_the_network_says(network: nn.Module, rng: np.random.Generator) -> None:
    model, reads = both(network), random_reads(60, 20, 50, rng)
    found = integrated_gradients(model, reads)
    flat = Batch(reads.codes, reads.lengths, reads.labels)
    with torch.no_grad():
        logits = model(*map(torch.from_numpy, flat[:2])).double().numpy()
        inside = torch.from_numpy(reads.codes < PAD)
        level = model.from_onehot(inside[:, None].expand(-1, 4, -1) * 0.25, inside).double().numpy()
    sign = np.where(reads.labels == 1, 1, -1)
    expected, start = sign * (logits[:, 1] - logits[:, 0]), sign * (level[:, 1] - level[:, 0])
    assert np.allclose(found.contrast, expected, atol=1e-4)
    assert np.allclose(found.baseline, start, atol=1e-4)
    total = found.values.sum(axis=1, dtype=np.float64)
    allowed = TOLERANCE * np.maximum(np.abs(expected - start), 1)
    assert np.all(np.abs(total - (expected - start)) <= allowed)
    assert np.abs(total).max() > 1, "a network that says nothing proves nothing"


def test_more_steps_are_taken_where_a_few_do_not_add_up(rng: np.random.Generator) -> None:
    class Step(Convolution):
        def forward(self, onehot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return 4 * torch.sigmoid(3 * super().forward(onehot, mask))

    found = integrated_gradients(both(Step()), random_reads(80, 30, 30, rng))
    assert set(found.steps) == set(STEPS), "some reads need few points of the path and some many"
    assert found.steps[found.error > TOLERANCE].tolist() == [STEPS[-1]] * int((found.error > TOLERANCE).sum())


def test_additive_networks_are_attributed_exactly_and_without_what_leaves_the_simplex(rng: np.random.Generator) -> None:
    weights = rng.normal(size=(2, 4, 30))
    reads = random_reads(40, 15, 30, rng)
    reads.codes[3, 4] = N
    found = integrated_gradients(both(Additive(weights)), reads)
    expected = np.zeros(reads.codes.shape)
    for i, (codes, length, label) in enumerate(zip(*reads, strict=True)):
        seen = (weights[label] - weights[1 - label])[:, :length]
        # The other strand sees the complement from the other end.
        seen = (seen + seen[::-1, ::-1]) / 2
        known = np.flatnonzero(codes[:length] < N)
        expected[i, known] = seen[codes[known], known] - seen[:, known].mean(axis=0)
    assert np.allclose(found.values, expected, atol=1e-5)
    assert found.values[3, 4] == 0, "an unknown base says nothing"
    assert set(found.steps) == {STEPS[0]}

    offset = both(Additive(weights + rng.normal(size=(1, 4, 30))))
    assert np.allclose(integrated_gradients(offset, reads).values, expected, atol=1e-5), "all logits alike mean nothing"
    lifted = both(Additive(weights + rng.normal(size=(2, 1, 30))))
    assert np.allclose(integrated_gradients(lifted, reads).values, expected, atol=1e-5), "all bases alike mean nothing"


def test_nothing_beyond_the_end_and_the_same_from_both_strands(rng: np.random.Generator) -> None:
    model, reads = both(Smooth()), random_reads(50, 20, 40, rng)
    forward, backward = (integrated_gradients(model, r) for r in (reads, turned(reads)))
    assert np.all(forward.values[reads.codes == PAD] == 0)
    for i, length in enumerate(reads.lengths):
        assert np.allclose(forward.values[i, :length], backward.values[i, :length][::-1], atol=1e-4)


def test_blocks_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    model, reads = both(Convolution()), random_reads(37, 20, 30, rng)
    whole = integrated_gradients(model, reads)
    monkeypatch.setattr("latentomics.reads.attribution._BASES_AT_ONCE", 300)
    parts = integrated_gradients(model, reads)
    assert np.allclose(whole.values, parts.values, atol=1e-5)
    assert np.array_equal(whole.steps, parts.steps)


@given(st.integers(2, 6), st.floats(-50, 50))
def test_the_contrast_is_of_differences(n_classes: int, added: float) -> None:
    logits = torch.randn(7, n_classes, dtype=torch.float64)
    labels = torch.arange(7) % n_classes
    got = contrast(logits, labels)
    assert torch.allclose(contrast(logits + added, labels), got)
    every = torch.stack([contrast(logits, torch.full((7,), c)) for c in range(n_classes)])
    assert torch.allclose(every.sum(dim=0), torch.zeros(7, dtype=torch.float64), atol=1e-9)


# Logos of the ends


def test_logos_of_the_ends_by_hand() -> None:
    codes, lengths, _ = encode([b"TNACG", b"GA"], 6)
    values = np.array([[5, 0, 2, -1, 1, 0], [3, 4, 0, 0, 0, 0]], dtype=float)
    got = anchored(Batch(codes, lengths, lengths), values)
    # Strands: TNACG, its other strand CGTNA with values 1 -1 2 0 5; GA and TC with values 4 3.
    assert got.strands[:6].tolist() == [4, 4, 2, 2, 2, 0]
    expected = np.zeros((ANCHORED, 4))
    expected[0] = [0, 1, 3, 5 + 4]
    expected[1] = [4, 3, -1, 0]
    expected[2] = [2, 0, 0, 2]
    expected[3] = [0, -1, 0, 0]
    expected[4] = [5, 0, 1, 0]
    assert np.array_equal(got.values, expected)
    assert got.bases.sum(axis=1)[:6].tolist() == [4, 3, 2, 1, 2, 0]
    assert np.allclose(got.mean[0], expected[0] / 4)


def test_damage_of_the_ends_is_shown_at_the_ends(rng: np.random.Generator, tmp_path: Path) -> None:
    """Ancient reads with C read as T near their 5' end and G as A near the 3' end; the store holds either strand."""
    reads = random_reads(600, 30, 40, rng)
    ancient = np.flatnonzero(reads.labels == 1)
    for i in ancient:
        codes, length = reads.codes[i], reads.lengths[i]
        from_end = np.arange(length)
        hit = rng.random(length) < 0.8 * 0.5**from_end
        codes[:length][hit & (codes[:length] == 1)] = 3
        hit = (rng.random(length) < 0.8 * 0.5**from_end)[::-1]
        codes[:length][hit & (codes[:length] == 2)] = 0
    flip = rng.random(600) < 0.5
    reads = reads._replace(codes=np.where(flip[:, None], turned(reads).codes, reads.codes))
    # The best answer is known: log odds of T against C, falling with the distance from the 5' end of either strand.
    weights = np.zeros((2, 4, 40))
    rate = 0.8 * 0.5 ** np.arange(40)
    weights[1, 3], weights[1, 1] = np.log(1 + rate), np.log(1 - rate)
    model = SimpleNamespace(network=both(Additive(2 * weights)), classes=["modern", "ancient"])
    store = store_of(tmp_path / "data", reads, classes=("modern", "ancient"))
    attribute_model(model, store, 250, 1, tmp_path / "out")
    logos = pd.read_csv(tmp_path / "out" / "logos.tsv", sep="\t")
    table = logos.pivot_table(index=["class", "anchor", "position"], columns="base", values="value")
    start, end = table.loc[("ancient", "start")], table.loc[("ancient", "end")]
    assert start.to_numpy().argmax() == 3, "T at the first position"
    assert end.to_numpy().argmax() == 4 * (ANCHORED - 1), "A at the last"
    assert start["T"].iloc[0] > 10 * start["T"].iloc[-1].clip(0.001)
    assert table.loc[("modern", "start", 1), "C"] > 0 > table.loc[("modern", "start", 1), "T"]
    assert np.allclose(end.to_numpy(), start.to_numpy()[::-1, ::-1]), "the 3' end mirrors the 5' end"
    share = logos.pivot_table(index=["class", "anchor", "position"], columns="base", values="frequency")
    others = logos.pivot_table(index=["class", "anchor", "position"], columns="base", values="frequency_others")
    assert share.loc[("ancient", "start", 1), "T"] > 0.38 and others.loc[("ancient", "start", 1), "T"] < 0.32
    assert np.allclose(share.loc["ancient"], others.loc["modern"], atol=1e-5)
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())["classes"]["ancient"]
    assert facts["strength"]["ends"][0] > 5 * facts["strength"]["middle"] and facts["motifs"] == []


# What cannot be explained


def test_a_class_without_test_reads_is_left_out(rng: np.random.Generator, tmp_path: Path) -> None:
    reads = random_reads(60, 12, 30, rng)._replace(labels=np.ones(60, dtype=np.int64))
    model = SimpleNamespace(network=both(Convolution()), classes=["plain", "marked"])
    attribute_model(model, store_of(tmp_path / "data", reads), 1000, 0, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["classes"]) == ["marked"] and summary["classes"]["marked"]["reads"] == 60
    logos = pd.read_csv(tmp_path / "out" / "logos.tsv", sep="\t")
    assert set(logos["class"]) == {"marked"} and logos.frequency_others.isna().all()


def test_other_classes_or_no_test_reads_are_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    reads = random_reads(20, 20, 30, rng)
    model = SimpleNamespace(network=both(Convolution()), classes=["plain", "odd\n<script>"])
    with pytest.raises(InputError, match=r"'plain', 'marked', the model has 'plain', 'odd\\n<script>'"):
        attribute_model(model, store_of(tmp_path / "a", reads), 10, 0, tmp_path / "out")
    model.classes = ["plain", "marked"]
    with pytest.raises(InputError, match="no test reads"):
        attribute_model(model, store_of(tmp_path / "b", reads, TRAIN), 10, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()
