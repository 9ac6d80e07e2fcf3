"""The networks of single reads: both strands alike, nothing beyond the end counts, and what is planted is learned."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from latentomics.reads import bases
from latentomics.reads.models import registry
from latentomics.reads.models.strands import BothStrands, reverse_complement, to_onehot

MODELS = list(registry.MODELS)
CLASSES = 3


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def random_reads(lengths, width=None, unknown=0.05, seed=0):
    """Codes and lengths as tensors, with unknown bases."""
    rng = np.random.default_rng(seed)
    lengths = np.asarray(lengths)
    codes = rng.integers(0, 4, (len(lengths), width or lengths.max())).astype(np.uint8)
    codes[rng.random(codes.shape) < unknown] = bases.N
    codes[np.arange(codes.shape[1]) >= lengths[:, None]] = bases.PAD
    return torch.from_numpy(codes), torch.from_numpy(lengths)


def network(name, n_classes=CLASSES, seed=0):
    torch.manual_seed(seed)
    module = registry.model(name)
    net = BothStrands(module.build(module.Params(), n_classes))
    # Untrained biases are often zero and norms the identity: shaken, so that a forgotten mask shows.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net.eval()


@st.composite
def reads(draw):
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=6))
    return random_reads(lengths, max(lengths) + draw(st.integers(0, 3)), seed=draw(st.integers(0, 99)))


def test_onehot_of_a_known_read():
    codes, lengths, _ = bases.encode([b"ACNGT", b"TT"], 6)
    onehot, mask = to_onehot(torch.from_numpy(codes), torch.from_numpy(lengths))
    assert mask.sum(dim=1).tolist() == [5, 2]
    expected = torch.zeros(4, 6)
    expected[[0, 1, 2, 3], [0, 1, 3, 4]] = 1
    assert torch.equal(onehot[0], expected)
    assert onehot[1].sum() == 2 and onehot[1, 3, :2].tolist() == [1, 1]


def test_onehot_does_not_look_beyond_the_end():
    codes = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)
    onehot, mask = to_onehot(codes, torch.tensor([2]))
    assert onehot[..., 2:].sum() == 0 and mask.tolist() == [[True, True, False, False]]


@given(reads())
@settings(max_examples=50, deadline=None)
def test_reverse_complement_is_that_of_the_arrays(drawn):
    codes, lengths = drawn
    expected = bases.reverse_complement(codes.numpy(), lengths.numpy())
    assert np.array_equal(reverse_complement(codes, lengths).numpy(), expected)


class FirstBase(torch.nn.Module):
    """Logits that tell the strands apart: the first base, and how many bases there are."""

    def forward(self, onehot, mask):
        return torch.cat([onehot[:, :, 0], mask.sum(dim=1, keepdim=True).float()], dim=1)


def test_both_strands_are_averaged_in_evaluation():
    codes, lengths, _ = bases.encode([b"ACC"], 5)
    logits = BothStrands(FirstBase()).eval()(torch.from_numpy(codes), torch.from_numpy(lengths))
    # Strands ACC and GGT.
    assert logits.tolist() == [[0.5, 0, 0.5, 0, 3]]


def test_one_strand_per_read_in_training():
    codes, lengths, _ = bases.encode([b"ACC"] * 400, 5)
    both = BothStrands(FirstBase()).train()
    torch.manual_seed(1)
    first = both(torch.from_numpy(codes), torch.from_numpy(lengths))
    assert set(map(tuple, first.tolist())) == {(1, 0, 0, 0, 3), (0, 0, 1, 0, 3)}
    assert 150 < first[:, 0].sum() < 250
    torch.manual_seed(1)
    assert torch.equal(both(torch.from_numpy(codes), torch.from_numpy(lengths)), first)


@pytest.mark.parametrize("name", MODELS)
def test_a_read_and_its_reverse_complement_agree(name):
    net = network(name)
    codes, lengths = random_reads([10, 11, 30, 31, 75, 76, 149, 150])
    with torch.no_grad():
        logits, other = net(codes, lengths), net(reverse_complement(codes, lengths), lengths)
        one_strand = net.network(*to_onehot(codes, lengths))
    assert torch.allclose(logits, other, atol=1e-5, rtol=0)
    # The property is not an empty one: the network itself tells the strands apart, and the reads.
    assert (one_strand - logits).abs().max() > 1e-3
    assert logits.std(dim=0).min() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_what_is_beyond_the_end_does_not_count(name):
    net = network(name)
    codes, lengths = random_reads([10, 12, 29, 40, 75, 90])
    onehot, mask = to_onehot(codes, lengths)
    with torch.no_grad():
        expected = net(codes, lengths)
        for extra in (1, 2, 7, 100):
            wider = torch.nn.functional.pad(codes, (0, extra), value=bases.PAD)
            assert torch.allclose(net(wider, lengths), expected, atol=1e-5, rtol=0), extra
        garbage = torch.where(mask, codes, torch.randint(0, 4, codes.shape, dtype=torch.uint8))
        assert torch.allclose(net(garbage, lengths), expected, atol=1e-5, rtol=0)
        # The same asked of the network alone: what it is given outside the mask must not reach the logits.
        alone = net.network(onehot, mask)
        noisy = torch.where(mask[:, None], onehot, torch.rand(onehot.shape))
        assert torch.allclose(net.network(noisy, mask), alone, atol=1e-5, rtol=0)
        for i, length in enumerate(lengths):
            one = net(codes[i : i + 1, :length], lengths[i : i + 1])
            assert torch.allclose(one, expected[i : i + 1], atol=1e-5, rtol=0), f"read of {length} bases alone"


@pytest.mark.parametrize("name", MODELS)
def test_every_length_and_unknown_bases(name):
    net = network(name)
    for length in (10, 13, 150, 1000):
        codes, lengths = random_reads([length])
        with torch.no_grad():
            assert net(codes, lengths).shape == (1, CLASSES)
            assert net(codes, lengths).isfinite().all()
    codes, lengths = random_reads([10, 50, 75], unknown=1)
    net.train()
    logits = net(codes, lengths)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_onehot_and_codes_give_the_same_logits(name):
    net = network(name)
    codes, lengths = random_reads([10, 33, 75])
    onehot, mask = to_onehot(codes, lengths)
    with torch.no_grad():
        expected = net(codes, lengths)
    assert torch.allclose(net.from_onehot(onehot, mask), expected, atol=1e-5, rtol=0)
    # A graph that needs gradients takes the same path to the same numbers.
    assert torch.allclose(net.from_onehot(onehot.requires_grad_(), mask), expected, atol=1e-5, rtol=0)


def test_the_table_of_kmers_is_the_convolution(monkeypatch):
    net = network("cnn", seed=3).network.kmers
    codes, lengths = random_reads(np.random.default_rng(0).integers(10, 61, 300), 64, unknown=0.02)
    onehot, mask = to_onehot(codes, lengths)
    calls = []
    monkeypatch.setattr(
        net, "_looked_up", lambda x, within: calls.append(len(x)) or type(net)._looked_up(net, x, within)
    )
    with torch.no_grad():
        quick, within = net(onehot, mask)
    slow, _ = net(onehot.clone().requires_grad_(), mask)
    assert calls == [300]
    assert torch.allclose(quick, slow, atol=1e-5)
    assert quick[~within].abs().max() == 0 and within.sum(dim=1).equal((lengths - 5).clamp(min=0))
    # Its gradients as well.
    for features in (net(onehot, mask)[0], slow):
        net.zero_grad()
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        gradients = [p.grad.clone() for p in net.parameters()]
        calls.append(gradients)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(*calls[-2:], strict=True))
    # What is not plain one-hot is never looked up.
    with torch.no_grad():
        mixed = net(0.25 * mask[:, None].float().expand_as(onehot), mask)[0]
        blended = net(0.5 * onehot + 0.125 * mask[:, None].float(), mask)[0]
    assert len([c for c in calls if isinstance(c, int)]) == 2
    assert mixed.isfinite().all() and not torch.allclose(blended, quick)


@pytest.mark.parametrize("name", MODELS)
def test_integrated_gradients_are_complete(name):
    """The attributions sum to the difference of the logits (Sundararajan et al. 2017, Prop. 1)."""
    net = network(name).double()
    codes, lengths = random_reads([20, 30], unknown=0)
    onehot, mask = to_onehot(codes, lengths)
    onehot = onehot.double()
    baseline = 0.25 * mask[:, None].double().expand_as(onehot)
    share = ((torch.arange(500) + 0.5) / 500).double()[:, None, None, None]
    points = (baseline + share * (onehot - baseline)).flatten(0, 1).requires_grad_()
    logits = net.from_onehot(points, mask.repeat(500, 1))[:, 0]
    (gradient,) = torch.autograd.grad(logits.sum(), points)
    attributed = gradient.unflatten(0, (500, 2)).mean(dim=0) * (onehot - baseline)
    with torch.no_grad():
        change = (net.from_onehot(onehot, mask) - net.from_onehot(baseline, mask))[:, 0]
    assert change.abs().max() > 0.01
    assert (attributed.sum(dim=(1, 2)) - change).abs().max() < 0.03 * change.abs().max()
    assert attributed[~mask[:, None].expand_as(onehot)].abs().max() == 0
    assert (attributed.abs().sum(dim=1) > 0)[mask].all(), "a base that no attribution reaches"


def planted(n, plant, seed):
    """Reads of 40 to 60 random bases; ``plant(codes row, length, rng)`` changes those of class 1; any strand."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(40, 61, n)
    codes, _ = (t.numpy() for t in random_reads(lengths, 60, unknown=0, seed=seed))
    labels = rng.integers(0, 2, n)
    for i in np.flatnonzero(labels):
        plant(codes[i], lengths[i], rng)
    other = bases.reverse_complement(codes, lengths)
    turned = rng.random(n) < 0.5
    codes = np.where(turned[:, None], other, codes)
    return torch.from_numpy(codes), torch.from_numpy(lengths), torch.from_numpy(labels)


def motif(row, length, rng):
    start = rng.integers(0, length - 10)
    row[start : start + 10] = bases.encode([b"GATTACAGGC"], 10)[0][0]


def damage(row, length, rng):
    """C reads as T in the first four bases, and G as A in the last four."""
    row[:4][row[:4] == 1] = 3
    row[length - 4 : length][row[length - 4 : length] == 2] = 0


def train(name, data, steps, batch=128, rate=1e-2):
    torch.manual_seed(0)
    module = registry.model(name)
    net = BothStrands(module.build(module.Params(n_filters=128, n_features=32, n_hidden=64), 2)).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate)
    codes, lengths, labels = data
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, cycle_momentum=False)
    for step in range(steps):
        rows = torch.arange(step * batch, (step + 1) * batch) % len(codes)
        loss = cross_entropy(net(codes[rows], lengths[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def accuracy(net, data):
    codes, lengths, labels = data
    with torch.inference_mode():
        return float((net(codes, lengths).argmax(dim=1) == labels).float().mean())


@pytest.mark.parametrize("name", MODELS)
def test_a_planted_motif_is_learned(name):
    net = train(name, planted(8192, motif, seed=1), steps=64)
    assert accuracy(net, planted(1000, motif, seed=2)) > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_damage_of_the_ends_is_learned(name):
    # A random read lacks those eight bases by chance with probability (3/4)^8 = 0.1: nobody is right above 0.95.
    net = train(name, planted(8192, damage, seed=1), steps=64)
    assert accuracy(net, planted(1000, damage, seed=2)) > 0.85


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_weights(name):
    module = registry.model(name)

    def weights(seed):
        torch.manual_seed(seed)
        return module.build(module.Params(), CLASSES).state_dict()

    first, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_rules_import_no_torch():
    code = "import sys; import latentomics.config.classifier; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
