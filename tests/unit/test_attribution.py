"""Attribution: complete, on the right bases, the same from both strands; logos; motifs that are there and none that are not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
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
from latentomics.reads.bases import PAD, N, decode, encode, reverse_complement
from latentomics.reads.models.strands import BothStrands
from latentomics.reads.motifs import MOST, find_motifs
from latentomics.reads.store import TEST, TRAIN, Batch, ReadStore, ReadStoreWriter

MOTIF = "ACGTTGCA"
OTHER_STRAND = "TGCAACGT"


class Convolution(nn.Module):
    """One convolution and the maximum over the read."""

    def __init__(self, n_classes: int = 2, channels: int = 16, width: int = 11):
        super().__init__()
        self.conv = nn.Conv1d(4, channels, width, padding="same")
        self.last = nn.Linear(channels, n_classes)

    def forward(self, onehot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        height = torch.relu(self.conv(onehot)).masked_fill(~mask[:, None], 0)
        return self.last(height.amax(dim=2))


class Smooth(Convolution):
    """No kinks, and strongly curved."""

    def forward(self, onehot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        height = torch.tanh(3 * self.conv(onehot)) * mask[:, None]
        return self.last(height.sum(dim=2) ** 2)


class Recurrent(nn.Module):
    """An LSTM whose last state does not depend on what lies beyond the end."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 12, batch_first=True)
        self.last = nn.Linear(12, 2)

    def forward(self, onehot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(onehot.transpose(1, 2))
        return self.last((states * mask[:, :, None]).sum(dim=1))


class Additive(nn.Module):
    """A sum of one weight per class, position and base: what attributions must be is known."""

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, onehot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nbw,cbw->nc", onehot * mask[:, None], self.weights[:, :, : onehot.shape[2]])


def both(network: nn.Module, seed: int = 0) -> BothStrands:
    torch.manual_seed(seed)
    for weights in network.parameters():
        if weights.dim() > 1 and not isinstance(network, Additive):
            nn.init.normal_(weights, std=0.5)
    return BothStrands(network).eval()


def random_reads(n: int, low: int, high: int, rng: np.random.Generator) -> Batch:
    lengths = rng.integers(low, high + 1, n)
    codes = rng.integers(0, 4, (n, high)).astype(np.uint8)
    codes[np.arange(high) >= lengths[:, None]] = PAD
    return Batch(codes, lengths, rng.integers(0, 2, n))


def turned(reads: Batch) -> Batch:
    return reads._replace(codes=reverse_complement(reads.codes, reads.lengths))


def plant(reads: Batch, which: np.ndarray, motif: str, rng: np.random.Generator, noise: float = 0.05) -> np.ndarray:
    """Write a motif into some reads, at any place and on either strand, a share of its bases wrong; where it stands."""
    (code,), _, _ = encode([motif.encode()], len(motif))
    there = np.zeros(reads.codes.shape, dtype=bool)
    for i in which:
        start = rng.integers(0, reads.lengths[i] - len(motif) + 1)
        written = code if rng.random() < 0.5 else 3 - code[::-1]
        wrong = rng.random(len(motif)) < noise
        reads.codes[i, start : start + len(motif)] = np.where(wrong, rng.integers(0, 4, len(motif)), written)
        there[i, start : start + len(motif)] = True
    return there


def trained(reads: Batch, epochs: int) -> BothStrands:
    torch.manual_seed(5)
    network = BothStrands(Convolution())
    step = torch.optim.Adam(network.parameters(), lr=0.01)
    codes, lengths, labels = map(torch.from_numpy, reads)
    for _ in range(epochs):
        for rows in torch.randperm(len(codes)).split(128):
            step.zero_grad()
            nn.functional.cross_entropy(network(codes[rows], lengths[rows]), labels[rows]).backward()
            step.step()
    return network.eval()


def accuracy(network: BothStrands, reads: Batch) -> float:
    with torch.no_grad():
        right = network(*map(torch.from_numpy, reads[:2])).argmax(dim=1).numpy() == reads.labels
    return float(right.mean())


def store_of(
    folder: Path, reads: Batch, split: int = TEST, classes: tuple[str, ...] = ("plain", "marked")
) -> ReadStore:
    writer = ReadStoreWriter(folder, len(reads.codes), reads.codes.shape[1])
    same = np.zeros(len(reads.codes), dtype=np.int64)
    writer.append(reads.codes, reads.lengths, reads.labels, same, same + split)
    writer.close(classes, ["here"], {})
    return ReadStore(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


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


# Motifs


@pytest.fixture(scope="module")
def marked() -> tuple[BothStrands, Batch]:
    """A network trained on reads of which one class carries a motif, and reads that it has not seen."""
    rng = np.random.default_rng(2)
    train, test = random_reads(4000, 50, 60, rng), random_reads(900, 50, 60, rng)
    for reads in (train, test):
        plant(reads, np.flatnonzero(reads.labels == 1), MOTIF, rng)
    return trained(train, 8), test


def test_a_planted_motif_is_recovered(marked: tuple[BothStrands, Batch], tmp_path: Path) -> None:
    network, reads = marked
    assert accuracy(network, reads) > 0.85
    model = SimpleNamespace(network=network, classes=["plain", "marked"])
    store = store_of(tmp_path / "data", reads)
    for again in ("one", "two"):
        attribute_model(model, store, 250, 3, tmp_path / again)
    for name in ("logos.tsv", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert list(summary["classes"]) == ["plain", "marked"]
    assert summary["classes"]["plain"]["motifs"] == [], "the absence of a motif is none"
    motif = summary["classes"]["marked"]["motifs"][0]
    assert motif["consensus"] in (MOTIF, OTHER_STRAND)
    assert motif["name"] == "motif1" and motif["reads_tested"] == 125
    assert motif["share"] > 0.6 and motif["share_others"] < 0.1 and motif["p_value"] < 1e-20
    assert summary["classes"]["marked"]["incomplete"] == 0
    logos = pd.read_csv(tmp_path / "one" / "logos.tsv", sep="\t")
    assert list(logos.columns) == ["class", "anchor", "position", "base", "value", "frequency", "frequency_others"]
    rows = logos[(logos["class"] == "marked") & (logos.anchor == "motif1")]
    assert len(rows) == 4 * len(MOTIF)
    spelled = rows.loc[rows.groupby("position").value.idxmax(), "base"].str.cat()
    assert spelled == motif["consensus"]
    assert set(logos.anchor) >= {"start", "end", "motif1"}
    assert logos[logos.anchor == "end"].position.unique().tolist() == list(range(-ANCHORED, 0))


def test_reads_without_signal_give_no_motif(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    train, test = random_reads(400, 50, 60, rng), random_reads(400, 50, 60, rng)
    network = trained(train, 30)
    assert accuracy(network, train) > 0.7, "it has learnt noise by heart"
    model = SimpleNamespace(network=network, classes=["plain", "marked"])
    attribute_model(model, store_of(tmp_path / "data", test), 200, 0, tmp_path / "out")
    classes = json.loads((tmp_path / "out" / "summary.json").read_text())["classes"]
    assert [facts["motifs"] for facts in classes.values()] == [[], []]


def ideal(motif: str, seed: int, share: float = 1.0) -> tuple[Batch, np.ndarray]:
    """Reads with a motif in some of them, and attributions that point to it through noise."""
    rng = np.random.default_rng(seed)
    reads = random_reads(240, 30, 50, rng)
    there = plant(reads, np.flatnonzero(rng.random(240) < share), motif, rng)
    values = np.where(there, 1.0, 0) + rng.normal(0, 0.2, there.shape)
    return reads, np.where(reads.codes < N, values, 0)


def other_reads(seed: int) -> np.ndarray:
    return random_reads(300, 30, 50, np.random.default_rng(seed + 1000)).codes


@settings(max_examples=12, deadline=None)
@given(
    st.text("ACGT", min_size=7, max_size=12).filter(lambda m: len({m[i : i + 2] for i in range(6)}) > 4),
    st.integers(0, 99),
)
def test_any_motif_is_recovered_from_good_attributions(motif: str, seed: int) -> None:
    reads, values = ideal(motif, seed)
    found = find_motifs(reads.codes, values, other_reads(seed), 2, seed)
    (code,), _, _ = encode([motif.encode()], len(motif))
    other = decode(reverse_complement(code[None], np.array([len(motif)])))[0]
    assert found and found[0].consensus in (motif, other)
    assert found[0].consensus == min(motif, other)
    assert np.allclose(found[0].frequencies.sum(axis=1), 1)
    assert len(found) <= MOST


def test_two_motifs_are_told_apart() -> None:
    reads, values = ideal("GATTACCAG", 4)
    half = np.arange(240) % 4 < 2
    second, also = ideal("CCGTATTG", 5)
    codes = np.where(half[:, None], reads.codes, second.codes)
    found = find_motifs(codes, np.where(half[:, None], values, also), other_reads(1), 2, 0)
    assert {motif.consensus for motif in found} == {"CTGGTAATC", "CAATACGG"}
    assert sum(motif.reads for motif in found) > 80


def test_attributions_alone_do_not_make_a_motif() -> None:
    reads, values = ideal(MOTIF, 3)
    assert find_motifs(reads.codes, values, other_reads(3), 2, 0)
    # The other classes have it just as often.
    rest = random_reads(300, 30, 50, np.random.default_rng(5))
    plant(rest, np.arange(300), MOTIF, np.random.default_rng(6))
    assert find_motifs(reads.codes, values, rest.codes, 2, 0) == []
    # The reads that it was not made from do not have it.
    rest.codes[0:240:2] = reads.codes[::2]
    rest.codes[1:240:2] = other_reads(9)[:120]
    assert find_motifs(rest.codes[:240], values, other_reads(3), 2, 0) == []


@pytest.mark.parametrize("motif", [MOTIF, "GATTACCAGTCC"])
def test_a_motif_is_gathered_from_both_strands_and_wherever_the_peak_is(motif: str) -> None:
    reads, values = ideal(motif, 7)
    (found,) = find_motifs(reads.codes, values, other_reads(7), 2, 0)
    assert 100 <= found.seqlets <= 135, "of 120 reads that carry it"
    assert found.share > 0.6


def test_a_motif_that_the_end_of_the_read_cuts_off_is_still_found(rng: np.random.Generator) -> None:
    reads = random_reads(240, 40, 40, rng)
    (code,), _, _ = encode([b"GATTACCAG"], 9)
    values = rng.normal(0, 0.1, reads.codes.shape)
    for i in range(240):
        begin = rng.integers(0, 3)
        reads.codes[i, : 9 - begin] = code[begin:]
        values[i, : 9 - begin] += 1
    found = find_motifs(reads.codes, values, other_reads(3), 2, 0)
    assert [motif.consensus for motif in found] == ["CTGGTAATC"]
    assert 0.2 < found[0].share < 0.5 and found[0].seqlets > 100, "a third is whole"


def test_base_composition_is_no_motif(rng: np.random.Generator) -> None:
    """One class has more G on either strand; the network sees that, and runs of G or of A are where it sees it best."""
    reads = random_reads(3000, 50, 60, rng)
    richer = (reads.labels == 1)[:, None] & (reads.codes < N) & (rng.random(reads.codes.shape) < 0.2)
    reads = reads._replace(codes=np.where(richer, 2, reads.codes).astype(np.uint8))
    train, test = Batch(*(part[:2000] for part in reads)), Batch(*(part[2000:] for part in reads))
    network = trained(train, 6)
    assert accuracy(network, test) > 0.65
    for label in range(2):
        mine, others = (Batch(*(part[test.labels == which] for part in test)) for which in (label, 1 - label))
        assert find_motifs(mine.codes, integrated_gradients(network, mine).values, others.codes, 2, 0) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_noise_gives_no_motif(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reads = random_reads(200, 30, 50, rng)
    assert find_motifs(reads.codes, rng.normal(size=reads.codes.shape), other_reads(seed), 2, seed) == []


@pytest.mark.parametrize("width", [1, 7, 9])
def test_short_reads_and_empty_classes_have_no_motif(width: int, rng: np.random.Generator) -> None:
    reads = random_reads(40, width, width, rng)
    values = rng.normal(size=reads.codes.shape)
    assert find_motifs(reads.codes, values, other_reads(0), 2, 0) == []
    assert find_motifs(reads.codes, values, np.zeros((0, 9), dtype=np.uint8), 2, 0) == []
    assert find_motifs(reads.codes[:1], values[:1], other_reads(0), 2, 0) == []


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
