"""The sparse count likelihoods: value and gradient against scvi-tools' distributions, known truths, extremes."""

from __future__ import annotations

import types

import numpy as np
import pytest
import scipy.stats
import scvi.distributions._negative_binomial as stock
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scvi.nn import DecoderSCVI

from latentomics.embed.likelihood import counts as counts_module
from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.likelihood.loss import loss_of_decoder, loss_of_means
from latentomics.embed.likelihood.terms import TABULATED

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@pytest.fixture(autouse=True)
def exact_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """scvi-tools' formulas with an exact softplus: torch's is its argument from 20 on, wrong by up to 2e-9."""
    exact = types.SimpleNamespace(softplus=lambda x: torch.logaddexp(x, torch.zeros_like(x)))
    monkeypatch.setattr(stock, "F", exact)


@pytest.fixture(params=[1, 60, 1 << 18])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell at a time, a few, all."""
    monkeypatch.setattr(counts_module, "BLOCK", request.param)


class Case:
    """Counts and parameters of some cells, drawn from a seed: float32, with extremes among them."""

    def __init__(self, seed: int, shape: tuple[int, int], theta: str, inflated: bool, largest: float = 30.0):
        rng = np.random.default_rng(seed)
        share = rng.choice([0.02, 0.1, 0.9])
        counts = np.where(rng.random(shape) < share, np.ceil(10 ** (rng.exponential(0.7, shape).clip(max=6)) - 1), 0)
        self.x = torch.from_numpy(counts)
        self.mean = self._parameter(10 ** rng.uniform(-8, 6, shape))
        theta_shape = {"gene": shape[1:], "gene-batch": shape, "gene-cell": shape}[theta]
        self.theta = self._parameter(10 ** rng.uniform(-4, 5, theta_shape))
        if theta == "gene-batch":
            self.theta = self.theta[rng.integers(0, 2, shape[0]) % shape[0]]
        self.dropout = self._parameter(rng.uniform(-largest, largest, shape)) if inflated else None

    @staticmethod
    def _parameter(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    def parameters(self, dtype: torch.dtype) -> list[torch.Tensor]:
        given = (self.mean, self.theta, self.dropout)
        return [x.to(dtype).clone().requires_grad_() for x in given if x is not None]

    def expected(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Loss per cell and gradient of its mean by scvi-tools, in float64."""
        parameters = self.parameters(torch.float64)
        loss = stock_loss(self.x, *parameters)
        return loss.detach(), list(torch.autograd.grad(loss.mean(), parameters))

    def found(self, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        parameters = self.parameters(dtype)
        loss = loss_of_means(SparseCounts.of(self.x.to(dtype)), *parameters)
        torch.testing.assert_close(loss.mean, loss.per_cell.mean())
        return loss.per_cell, list(torch.autograd.grad(loss.mean, parameters))


def stock_loss(x: torch.Tensor, mean: torch.Tensor, theta: torch.Tensor, dropout: torch.Tensor | None = None):
    if dropout is None:
        return -stock.NegativeBinomial(mu=mean, theta=theta).log_prob(x).sum(-1)
    return -stock.ZeroInflatedNegativeBinomial(mu=mean, theta=theta, zi_logits=dropout).log_prob(x).sum(-1)


def assert_equal(case: Case, dtype: torch.dtype) -> None:
    """To the tolerance, relative to the value or to the terms that it is a difference of."""
    (loss, gradient), (expected_loss, expected) = case.found(dtype), case.expected()
    tolerance = TOLERANCE[dtype]
    terms = 1 + (0 if case.dropout is None else case.dropout.double().abs().sum(1))
    # scvi-tools multiplies theta with a difference of logarithms, whose last bits are not all right
    terms += 3e-5 * case.theta.double().max()
    assert ((loss - expected_loss).abs() <= tolerance * (expected_loss.abs() + 0.1 * terms)).all()
    # what the gradient of theta is a difference of; scvi-tools takes that of logarithms, whose last bits are not all right
    ratio = torch.log1p(case.mean.double() / case.theta.double()) + 1e-5
    for name, a, b in zip(("mean", "theta", "dropout"), gradient, expected, strict=False):
        assert a.dtype == dtype
        scale = {"mean": 0.1, "theta": ratio if a.ndim == 2 else ratio.mean(0), "dropout": 0.1}[name]
        assert ((a.double() - b).abs() <= tolerance * (b.abs() + scale)).all(), name


cases = st.builds(
    Case,
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 12), st.integers(1, 40)),
    st.sampled_from(["gene", "gene-batch", "gene-cell"]),
    st.booleans(),
)


@given(case=cases)
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_those_of_scvi_tools(case: Case, dtype: torch.dtype) -> None:
    assert_equal(case, dtype)


@pytest.mark.parametrize("theta", ["gene", "gene-cell"])
@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.usefixtures("blocks")
def test_blocks_of_cells_change_nothing(theta: str, inflated: bool, dtype: torch.dtype) -> None:
    assert_equal(Case(7, (23, 31), theta, inflated), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_beyond_what_an_exponential_holds(dtype: torch.dtype) -> None:
    for seed in range(20):
        assert_equal(Case(seed, (8, 30), "gene", inflated=True, largest=1500), dtype)


def test_a_single_precision_loss_is_closer_to_the_truth_than_scvi_tools_own() -> None:
    worse = 0
    for seed in range(50):
        case = Case(seed, (8, 30), "gene", inflated=bool(seed % 2), largest=10)
        truth = case.expected()[0]
        parameters = [x.detach() for x in case.parameters(torch.float32)]
        theirs = (stock_loss(case.x.float(), *parameters) - truth).abs().max()
        worse += bool((case.found(torch.float32)[0] - truth).abs().max() > theirs)
    assert worse <= 5


@pytest.mark.parametrize("count", [1, 2, TABULATED - 1, TABULATED, TABULATED + 1, 1000])
def test_probabilities_are_those_of_the_negative_binomial(count: int) -> None:
    x, mean, theta, lost = torch.tensor([[0.0, float(count)]]).double(), 3.5, 1.7, 0.3
    probability = scipy.stats.nbinom.pmf(x.numpy()[0], theta, theta / (theta + mean))
    parameters = torch.full((1, 2), mean).double(), torch.full((2,), theta).double()
    plain = loss_of_means(SparseCounts.of(x), *parameters).per_cell
    assert plain.item() == pytest.approx(-np.log(probability).sum(), rel=1e-6)  # eps is in the formulas
    logit = torch.full((1, 2), float(np.log(lost / (1 - lost)))).double()
    inflated = loss_of_means(SparseCounts.of(x), *parameters, logit).per_cell
    expected = -np.log(lost + (1 - lost) * probability[0]) - np.log((1 - lost) * probability[1])
    assert inflated.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("theta", ["gene", "gene-cell"])
def test_the_gradient_is_the_slope(theta: str, inflated: bool) -> None:
    torch.manual_seed(0)
    x = SparseCounts.of(torch.poisson(torch.full((3, 5), 0.7).double()))
    shapes = [(3, 5), (5,) if theta == "gene" else (3, 5)]
    parameters = [torch.rand(shape).double().add(0.3).requires_grad_() for shape in shapes]
    if inflated:
        parameters.append(torch.randn(3, 5).double().requires_grad_())
    assert torch.autograd.gradcheck(lambda *p: loss_of_means(x, *p).mean * 1.5, parameters)


@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("theta_shape", [(5,), (4, 5)])
def test_the_gradient_through_the_decoder_is_the_slope(theta_shape: tuple[int, ...], inflated: bool) -> None:
    torch.manual_seed(0)
    x = SparseCounts.of(torch.poisson(torch.full((4, 5), 0.7).double()))
    scale, dropout = (torch.nn.Linear(3, 5).double() for _ in range(2))
    hidden, library = torch.randn(4, 3).double().requires_grad_(), torch.rand(4, 1).double().add(1).requires_grad_()
    theta = torch.rand(theta_shape).double().add(0.3).requires_grad_()
    layers = [scale, dropout] if inflated else [scale]
    weights = [p for layer in layers for p in layer.parameters()]
    assert torch.autograd.gradcheck(
        lambda h, b, t, *_: loss_of_decoder(x, h, b, t, *layers).mean, [hidden, library, theta, *weights]
    )


@pytest.mark.parametrize("theta_shape", [(40,), (50, 40)])
@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.usefixtures("blocks")
def test_the_decoder_is_that_of_scvi_tools(theta_shape: tuple[int, ...], inflated: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    decoder = DecoderSCVI(6, 40, n_hidden=16).double()
    x = torch.poisson(torch.rand(50, 40).double() ** 8 * 30)
    hidden, theta = torch.randn(50, 16).double(), torch.exp(torch.randn(theta_shape).double())
    library = torch.log(x.sum(1, keepdim=True).clamp(min=1))

    def gradient(of: torch.dtype, loss: object) -> tuple[torch.Tensor, list[torch.Tensor]]:
        layers = decoder.to(of)
        inputs = [v.to(of).clone().requires_grad_() for v in (hidden, library, theta)]
        value = loss(layers, *inputs)
        weights = [*layers.px_scale_decoder.parameters(), *(layers.px_dropout_decoder.parameters() if inflated else ())]
        return value, list(torch.autograd.grad(value, [*inputs, *weights]))

    def ours(layers, hidden, library, theta):
        heads = [layers.px_scale_decoder[0], layers.px_dropout_decoder][: 1 + inflated]
        return loss_of_decoder(SparseCounts.of(x.to(dtype)), hidden, library, theta, *heads).mean

    def theirs(layers, hidden, library, theta):
        mean = torch.exp(library) * layers.px_scale_decoder(hidden)
        return stock_loss(x, mean, theta, layers.px_dropout_decoder(hidden) if inflated else None).mean()

    expected, found = gradient(torch.float64, theirs), gradient(dtype, ours)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=TOLERANCE[dtype], atol=0)
    for a, b in zip(found[1], expected[1], strict=True):
        assert (a.double() - b).abs().max() <= TOLERANCE[dtype] * b.abs().max()


@pytest.mark.parametrize("inflated", [False, True])
def test_cells_without_counts(inflated: bool) -> None:
    case = Case(3, (6, 9), "gene", inflated)
    case.x[[0, 2, 5]] = 0
    assert_equal(case, torch.float64)
    case.x[:] = 0
    assert_equal(case, torch.float64)


def test_without_a_gradient_the_value_is_the_same() -> None:
    for theta, inflated in (("gene", True), ("gene-cell", False)):
        case = Case(5, (9, 12), theta, inflated)
        x, parameters = SparseCounts.of(case.x), case.parameters(torch.float64)
        expected = loss_of_means(x, *parameters)
        with torch.no_grad():
            found = loss_of_means(x, *parameters)
        assert torch.equal(found.per_cell, expected.per_cell) and not found.mean.requires_grad


def test_a_gradient_can_be_taken_twice_and_scaled() -> None:
    case = Case(5, (9, 12), "gene", inflated=True)
    parameters = case.parameters(torch.float64)
    mean = loss_of_means(SparseCounts.of(case.x), *parameters).mean
    once = torch.autograd.grad(mean, parameters, retain_graph=True)
    again = torch.autograd.grad(3 * mean, parameters)
    for a, b in zip(once, again, strict=True):
        torch.testing.assert_close(3 * a, b)


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = SparseCounts.of(torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"theta is \(4,\), not \(3,\)"):
        loss_of_means(x, torch.ones(4, 3), torch.ones(4))
    with pytest.raises(ValueError, match=r"mean is \(4, 1\), not \(4, 3\)"):
        loss_of_means(x, torch.ones(4, 1), torch.ones(3))
    with pytest.raises(ValueError, match=r"dropout is \(1, 3\)"):
        loss_of_means(x, torch.ones(4, 3), torch.ones(3), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"log_library is \(4,\), not \(4, 1\)"):
        loss_of_decoder(x, torch.ones(4, 2), torch.ones(4), torch.ones(3), torch.nn.Linear(2, 3))


@pytest.fixture
def some_counts() -> tuple[torch.Tensor, SparseCounts]:
    torch.manual_seed(2)
    dense = torch.poisson(torch.rand(30, 17) ** 4 * 5)
    dense[4] = 0
    return dense, SparseCounts.of(dense.to_sparse_csr())


@pytest.mark.usefixtures("blocks")
def test_counts_behave_as_the_dense_matrix(some_counts: tuple[torch.Tensor, SparseCounts]) -> None:
    dense, sparse = some_counts
    assert torch.equal(sparse.dense(), dense) and torch.equal(sparse.sum(1), dense.sum(1))
    assert torch.equal(torch.log1p(sparse).dense(), torch.log1p(dense))
    assert torch.cat((sparse,)) is sparse
    assert torch.equal(torch.cat((sparse, dense), dim=-1), torch.cat((dense, dense), dim=-1))
    assert torch.equal(torch.sqrt(sparse), torch.sqrt(dense))
    whole = torch.vstack([block.dense() for _, block in sparse.blocks()])
    assert torch.equal(whole, dense)
    assert torch.equal(sparse.to(torch.float64).dense(), dense.double())
    assert torch.equal(SparseCounts.of_scipy(csr_matrix(dense.numpy())).dense(), dense)
    with pytest.raises(ValueError, match="over genes only"):
        sparse.sum(0)


@pytest.mark.usefixtures("blocks")
def test_a_linear_layer_of_counts_is_that_of_the_dense_matrix(some_counts: tuple[torch.Tensor, SparseCounts]) -> None:
    dense, sparse = some_counts
    layer = torch.nn.Linear(17, 6)
    weights = torch.randn(30, 6)
    expected, found = layer(dense), layer(sparse)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad((out * weights).sum(), list(layer.parameters())) for out in (found, expected))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("theta", ["gene", "gene-cell"])
@pytest.mark.parametrize("inflated", [False, True])
def test_a_gpu_finds_the_same(theta: str, inflated: bool) -> None:
    case = Case(11, (64, 200), theta, inflated)
    expected_loss, expected = case.expected()
    parameters = [p.detach().cuda().requires_grad_() for p in case.parameters(torch.float64)]
    loss = loss_of_means(SparseCounts.of(case.x).to("cuda"), *parameters)
    torch.testing.assert_close(loss.per_cell.cpu(), expected_loss, rtol=1e-9, atol=1e-9)
    for a, b in zip(torch.autograd.grad(loss.mean, parameters), expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-9, atol=1e-9)
