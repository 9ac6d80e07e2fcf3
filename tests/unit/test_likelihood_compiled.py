"""The compiled likelihood of scVI's last layer, in single precision, against torch's in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import vectorize
from scipy.sparse import random as random_sparse

from latentomics.embed.likelihood import compiled
from latentomics.embed.likelihood.counts import SparseCounts
from latentomics.embed.likelihood.loss import loss_of_decoder
from latentomics.embed.likelihood.terms import TABULATED


class Case:
    """Counts of some cells, and logits and other parameters of their likelihood, drawn from a seed."""

    def __init__(self, seed: int, shape: tuple[int, int], inflated: bool, dropout: float = 30.0, theta: float = 4.0):
        rng = np.random.default_rng(seed)
        share, self.shape = rng.choice([0.0, 0.02, 0.1, 0.9]), shape
        counts = np.where(rng.random(shape) < share, np.ceil(10 ** (rng.exponential(0.7, shape).clip(max=6)) - 1), 0)
        self.x = torch.from_numpy(counts)
        width = rng.choice([0.1, 3, 20])
        self.logits = _single(rng.uniform(-width, width, shape))
        self.dropout = _single(rng.uniform(-dropout, dropout, shape)) if inflated else None
        self.log_library = _single(rng.uniform(0, 12, (shape[0], 1)))
        self.theta = _single(10 ** rng.uniform(-theta, theta, shape[1]))

    def found(self, dtype: torch.dtype) -> Found:
        """Through a last layer that passes on what it is given: half of the hidden units are logits, half dropout."""
        identity, nothing = torch.eye(self.shape[1]), torch.zeros(self.shape[1], self.shape[1])
        layers, given = [_layer(torch.hstack([identity, nothing]), dtype)], [self.logits, self.logits * 0]
        if self.dropout is not None:
            layers.append(_layer(torch.hstack([nothing, identity]), dtype))
            given[1] = self.dropout
        inputs = [x.to(dtype).requires_grad_() for x in (torch.hstack(given), self.log_library, self.theta)]
        loss = loss_of_decoder(SparseCounts.of(self.x.to(dtype)), *inputs, *layers)
        return Found(loss.per_cell, *torch.autograd.grad(loss.mean * self.shape[0], inputs))


class Found(NamedTuple):
    loss: torch.Tensor
    logits: torch.Tensor
    log_library: torch.Tensor
    theta: torch.Tensor


def _single(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _layer(weight: torch.Tensor, dtype: torch.dtype) -> torch.nn.Linear:
    layer = torch.nn.Linear(*reversed(weight.shape)).to(dtype)
    layer.weight.data, layer.bias.data = weight.to(dtype), torch.zeros(len(weight), dtype=dtype)
    return layer.requires_grad_(False)


def assert_right(case: Case) -> None:
    """To 1e-5, relative to the value or to what it is a difference of; and to the last bits of the softmax's argument."""
    found, expected = case.found(torch.float32), case.found(torch.float64)
    inflation = 0 if case.dropout is None else case.dropout.double().abs().sum(1)
    molecules = case.x.sum(1) + torch.exp(case.log_library.double())[:, 0]
    rounding = 2e-7 * (1 + float(np.ptp(case.logits.numpy()))) * molecules
    allowed = {
        "loss": 1e-5 * (expected.loss.abs() + 0.1 * (1 + inflation)) + rounding,
        "logits": 1e-5 * (expected.logits.abs() + 0.1) + rounding[:, None],
        "log_library": 1e-5 * (expected.log_library.abs() + 0.1) + rounding[:, None],
        "theta": 1e-5 * (expected.theta.abs() + len(case.x)) + rounding.sum() / case.theta.double(),
    }
    for name, most in allowed.items():
        ours = getattr(found, name)
        assert ours.dtype == torch.float32
        assert ((ours.double() - getattr(expected, name)).abs() <= most).all(), name


@given(
    case=st.builds(
        Case,
        st.integers(0, 2**32),
        st.tuples(st.integers(1, 2 * compiled.PART + 5), st.integers(1, 40)),
        st.booleans(),
        st.sampled_from([3.0, 30.0, 1500.0]),
    )
)
@settings(max_examples=150)
def test_it_is_torchs_in_double_precision(case: Case) -> None:
    assert compiled.serves(case.logits, case.theta)
    assert_right(case)


@pytest.mark.parametrize("inflated", [False, True])
def test_a_theta_of_nothing_and_of_a_poisson_distribution(inflated: bool) -> None:
    for theta in (0.0, 1e-30, 1e8):
        case = Case(3, (5, 20), inflated)
        case.theta[:] = theta
        loss = case.found(torch.float32).loss
        torch.testing.assert_close(loss.double(), case.found(torch.float64).loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inflated", [False, True])
def test_counts_around_the_table(inflated: bool) -> None:
    case = Case(5, (8, 30), inflated)
    case.x = torch.randint(TABULATED - 2, TABULATED + 3, case.shape).double()
    case.x[2] = 0
    assert_right(case)


@pytest.mark.parametrize("where", ["logits", "dropout", "log_library", "theta"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_gives_none(where: str, value: float) -> None:
    case = Case(1, (4, 9), inflated=True)
    case.x[0] = 0
    getattr(case, where).ravel()[0] = value
    assert not case.found(torch.float32).loss[0].isfinite()


def test_without_a_gradient_it_is_the_same() -> None:
    case = Case(2, (70, 11), inflated=True)
    expected = case.found(torch.float32).loss
    layers = [_layer(torch.eye(11), torch.float32)] * 2
    with torch.no_grad():
        found = [
            loss_of_decoder(SparseCounts.of(case.x.float()), case.logits, case.log_library, case.theta, *layers[:n])
            for n in (1, 2)
        ]
    case.dropout = case.logits
    torch.testing.assert_close(found[1].per_cell, case.found(torch.float32).loss, rtol=0, atol=0)
    case.dropout = None
    torch.testing.assert_close(found[0].per_cell, case.found(torch.float32).loss, rtol=0, atol=0)
    assert not torch.equal(found[0].per_cell, expected)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_change_nothing(threads: Callable[[int], None]) -> None:
    case, found = Case(4, (5 * compiled.PART + 7, 30), inflated=True), []
    for n in (1, 2, 3):
        threads(n)
        found.append(case.found(torch.float32))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("ours", "exact", "numbers"),
    [
        ("_exp", np.exp, np.linspace(-87, 88, 1_000_001)),
        ("_log", np.log, np.exp(np.linspace(-87, 88, 1_000_001))),
        ("_log1p", np.log1p, np.exp(np.linspace(-40, 40, 1_000_001))),
    ],
)
def test_functions_are_exact_to_two_units(ours: str, exact: np.ufunc, numbers: np.ndarray) -> None:
    function, numbers = getattr(compiled, ours), numbers.astype(np.float32)
    found = vectorize(["float32(float32)"])(lambda x: function(x))(numbers)
    truth = exact(numbers.astype(np.float64))
    assert (np.abs(found - truth) <= 2 * np.spacing(np.abs(truth).astype(np.float32)) + 1e-38).all()


def test_the_logarithm_of_double_precision_is_exact_to_two_units() -> None:
    numbers = np.exp(np.concatenate([np.linspace(-700, 700, 100_001), np.linspace(-1e-3, 1e-3, 100_001)]))
    found = vectorize(["float64(float64)"])(lambda x: compiled._log_64(x))(numbers)
    truth = np.log(numbers.astype(np.longdouble))
    assert (np.abs(found - truth) <= 2 * np.spacing(np.abs(truth).astype(float)) + 1e-300).all()


def test_sparse_rows_of_a_real_width() -> None:
    case = Case(9, (80, 600), inflated=True)
    filled = random_sparse(80, 600, 0.1, random_state=0, data_rvs=lambda n: np.arange(n) % 40 + 1)
    case.x = torch.from_numpy(filled.toarray())
    assert_right(case)
