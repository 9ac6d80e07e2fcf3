"""The mixture model that divides ambiguous evidence."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from latentomics.metagenome.profile.em import TOLERANCE, mixture


@st.composite
def problems(draw, max_genomes=5):
    """Counts and a likelihood whose columns sum to 1."""
    n_genomes = draw(st.integers(1, max_genomes))
    n_classes = draw(st.integers(1, 8))
    weights = draw(arrays(float, (n_classes, n_genomes), elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0])))
    assume((weights.sum(axis=0) > 0).all())
    counts = draw(arrays(float, n_classes, elements=st.integers(0, 500).map(float)))
    return counts, weights / weights.sum(axis=0)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_shares_sum_to_one_and_the_likelihood_never_falls(problem):
    counts, likelihood = problem
    fit = mixture(counts, likelihood)
    explained = counts[likelihood.sum(axis=1) > 0].sum()
    assert fit.explained == explained
    assert fit.shares.sum() == pytest.approx(1 if explained else 0)
    assert (fit.shares >= 0).all()
    steps = np.diff(fit.log_likelihood)
    assert (steps >= -1e-9 * (1 + np.abs(fit.log_likelihood[1:]))).all()


@given(problems())
@settings(max_examples=60, deadline=None)
def test_reaches_the_maximum_that_a_general_optimiser_finds(problem):
    counts, likelihood = problem
    used = likelihood.sum(axis=1) > 0
    counts, likelihood = counts[used], likelihood[used]
    assume(counts.sum() > 0)

    def value(shares):
        p = likelihood @ shares
        return float(counts[counts > 0] @ np.log(np.maximum(p[counts > 0], 1e-300))) / counts.sum()

    n = likelihood.shape[1]
    best = minimize(lambda x: -value(np.exp(x - x.max()) / np.exp(x - x.max()).sum()), np.zeros(n), method="L-BFGS-B")
    fit = mixture(counts, likelihood)
    assert value(fit.shares) >= -best.fun - 1e-6
    # The bound that stops the iteration holds against a solution found by other means.
    assert -best.fun - value(fit.shares) <= fit.gap + 1e-9


@given(problems(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_of_genomes_and_classes_does_not_matter(problem, random):
    counts, likelihood = problem
    classes, genomes = list(range(likelihood.shape[0])), list(range(likelihood.shape[1]))
    random.shuffle(classes)
    random.shuffle(genomes)
    fit = mixture(counts, likelihood)
    other = mixture(counts[classes], csr_matrix(likelihood[classes][:, genomes]))
    np.testing.assert_allclose(other.shares, fit.shares[genomes], atol=1e-4)


def test_two_genomes_in_closed_form():
    # A yields its own class with 0.4, B with 0.2; the rest is shared. With both own classes seen the maximum solves
    # d/da [n_A ln a + n_B ln(1-a) + n_s ln(0.6 a + 0.8 (1-a))] = 0, a quadratic in a.
    n_a, n_b, n_s = 300.0, 50.0, 650.0
    fit = mixture(np.array([n_a, n_b, n_s]), np.array([[0.4, 0], [0, 0.2], [0.6, 0.8]]))
    q, d = 0.8, 0.6 - 0.8
    roots = np.roots([-(n_a + n_b + n_s) * d, n_a * d - (n_a + n_b) * q + n_s * d, n_a * q])
    # Multiply out n_A/a - n_B/(1-a) + n_s d/(q + d a) by a (1-a) (q + d a).
    [expected] = [root.real for root in roots if 0 < root.real < 1]
    assert fit.shares[0] == pytest.approx(expected, abs=1e-4)


def test_shared_evidence_follows_the_exclusive_evidence():
    # Equal genomes, half of each shared; A three times as frequent.
    likelihood = np.array([[0.5, 0], [0, 0.5], [0.5, 0.5]])
    fit = mixture(likelihood @ [0.75, 0.25] * 10_000, likelihood)
    np.testing.assert_allclose(fit.shares, [0.75, 0.25], atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_recovers_a_planted_mixture(seed):
    rng = np.random.default_rng(seed)
    likelihood = rng.dirichlet(np.full(60, 0.1), 12).T
    truth = rng.dirichlet(np.full(12, 0.5))
    exact = mixture(likelihood @ truth * 1e6, likelihood)
    np.testing.assert_allclose(exact.shares, truth, atol=2e-4)
    assert exact.converged
    n = 200_000
    noisy = mixture(rng.multinomial(n, likelihood @ truth), likelihood)
    assert np.abs(noisy.shares - truth).sum() < 0.02


def test_identical_genomes_share_equally():
    likelihood = np.array([[0.7, 0.7, 0.0], [0.3, 0.3, 0.2], [0, 0, 0.8]])
    shares = mixture(np.array([70.0, 50.0, 80.0]), likelihood).shares
    assert shares[0] == shares[1]
    assert shares[0] + shares[1] == pytest.approx(0.5, abs=1e-3)


def test_what_a_genome_should_have_yielded_speaks_against_it():
    # Both explain the one class seen, but B would mostly have yielded another: leaving that class out changes nothing.
    whole = mixture(np.array([100.0, 0.0]), np.array([[1.0, 0.1], [0.0, 0.9]]))
    cut = mixture(np.array([100.0]), np.array([[1.0, 0.1]]))
    assert whole.shares[0] > 1 - 1e-6
    np.testing.assert_array_equal(whole.shares, cut.shares)


def test_evidence_that_no_genome_yields_is_not_shared_out():
    fit = mixture(np.array([10.0, 90.0]), np.array([[1.0], [0.0]]))
    assert fit.explained == 10
    assert fit.shares.tolist() == [1.0]


@pytest.mark.parametrize("n_genomes", [0, 3])
def test_no_evidence(n_genomes):
    fit = mixture(np.empty(0), np.empty((0, n_genomes)))
    assert fit.shares.tolist() == [0.0] * n_genomes
    assert fit.converged
    assert fit.gap <= TOLERANCE


@pytest.mark.parametrize(
    ("counts", "likelihood"),
    [
        ([1.0, 2.0], [[1.0]]),
        ([-1.0], [[1.0]]),
        ([np.nan], [[1.0]]),
        ([1.0], [[np.inf]]),
        ([1.0, 1.0], [[0.9], [0.9]]),
    ],
)
def test_impossible_input(counts, likelihood):
    with pytest.raises(ValueError, match=r"classes|finite|more than 1"):
        mixture(np.array(counts), np.array(likelihood))
