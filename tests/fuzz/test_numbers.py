"""Numbers of the estimators on data of any scale, offset, type and layout: those of a textbook."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip
from tests import textbook, textbook_gaussian, textbook_neighbors, textbook_renyi
from tests.estimators.knn.cases import textbook_value
from tests.fuzz import attack
from tests.fuzz.attack import outcome, profile


@st.composite
def samples(draw, tied=False, scales=(1.0, 1.0, 1e-150, 1e-30, 1e12, 1e100), largest=40):
    """Two float64 arrays (n, d), whose textbook values can be computed, and how to pass them."""
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, d = draw(st.integers(8, largest)), draw(st.integers(1, 3))
    x = generator.normal(size=(2, n, d)) @ (np.eye(d) + 0.3)
    if tied:
        x = np.round(x * draw(st.sampled_from([1, 4, 64])))
    x = x * draw(st.sampled_from(scales)) + draw(st.sampled_from([0.0, 0.0, 3.0]))
    form = draw(st.sampled_from(["torch", "numpy", "list", "fortran", "reversed", "step"]))
    if draw(st.booleans()) and 1e-30 <= np.abs(x).max() < 1e30:
        x = x.astype(np.float32)  # each value is a float64 too

    def passed(y):
        if form == "torch":
            return torch.tensor(y)
        if form == "list":
            return y.astype(np.float64).tolist()
        if form == "fortran":
            return np.asfortranarray(y)
        if form == "reversed":
            return y[::-1].copy()[::-1]
        if form == "step":
            return np.repeat(y, 2, 0)[::2]
        return y

    return x[0], x[1], passed


def close(found, expected, tolerance=1e-9, terms=1.0):
    """Whether a value is the expected one, up to the rounding of its largest term."""
    if found is None:
        return
    if not math.isclose(float(found), expected, rel_tol=tolerance, abs_tol=tolerance * terms):
        attack.OUTCOMES["wrong"] += 1
        raise AssertionError(f"{float(found)} should be {expected}")


@profile(2)
@given(samples(tied=True), st.integers(2, 40), st.sampled_from([0, 0.5, 1, 1e-3, 7]))
def test_histograms(drawn, bins, pseudocount):
    x, y, passed = drawn
    h = ip.Histogram(bins, pseudocount=pseudocount)
    flat = [z.astype(np.float64).reshape(-1).tolist() for z in (x, y)]
    (counts,) = textbook.dyadic_counts(flat[0], bins=bins)
    p = textbook.probabilities(counts, pseudocount)
    close(outcome(lambda: h.entropy(passed(x))), textbook.entropy(p))
    both = [
        textbook.probabilities(c, pseudocount) for c in textbook.dyadic_counts(*flat, bins=bins)
    ]
    kl = textbook.kl_divergence(*both)
    close(outcome(lambda: h.kl_divergence(passed(x), passed(y))), kl)
    middle = [(a + b) / 2 for a, b in zip(*both, strict=True)]
    js = sum(textbook.kl_divergence(one, middle) for one in both) / 2
    close(outcome(lambda: h.js_divergence(passed(x), passed(y))), js)


@profile(2)
@given(
    samples(largest=24, scales=(1.0, 1.0, 1e-30, 1e12)),
    st.integers(1, 4),
    st.sampled_from(["euclidean", "chebyshev"]),
    st.sampled_from(["entropy", "kl_divergence", "cross_entropy", "mutual_information"]),
)
def test_neighbors(drawn, k, metric, measure):
    x, y, passed = drawn
    if np.abs(x).max() > 1e3 * np.ptp(x, 0).min():
        return  # the offset has rounded the values: ties
    given_samples = (x,) if measure == "entropy" else (x, y)
    found = outcome(lambda: getattr(ip.KNN(k, metric), measure)(*map(passed, given_samples)))
    value = textbook_value(measure, [torch.tensor(z) for z in given_samples], k, metric)
    close(found, value, terms=x.shape[1] * max(1.0, abs(math.log(np.abs(x).max()))))
    table = textbook_neighbors.own_distances([np.float64(x)], metric)
    found = outcome(lambda: ip.nearest_neighbors(passed(x), k, metric=metric))
    if found is not None:
        assert found[1].tolist() == np.argsort(table, axis=1, kind="stable")[:, :k].tolist()
        assert np.allclose(found[0], np.sort(table, 1)[:, :k], rtol=1e-12, atol=0)


@profile(2)
@given(samples(scales=(1.0, 1.0, 1e-30, 1e12)))
def test_gaussians(drawn):
    x, y, passed = drawn
    if x.shape[1] + 3 >= len(x) or np.abs(x).max() > 1e3 * np.ptp(x, 0).min():
        return
    a, b = np.float64(x), np.float64(y)
    # The textbook's determinant needs a scale near one; entropy takes it back exactly.
    scale = np.abs(a).max()
    shift = x.shape[1] * math.log(scale)
    value = textbook_gaussian.textbook_entropy(a / scale) + shift
    gaussian = ip.Gaussian()
    close(outcome(lambda: gaussian.entropy(passed(x))), value, terms=max(1.0, abs(shift)))
    value = textbook_gaussian.textbook_cross_entropy(a / scale, b / scale) + shift
    found = outcome(lambda: gaussian.cross_entropy(passed(x), passed(y)))
    close(found, value, terms=10 * max(1.0, abs(shift)))


@profile(0.5)
@given(samples(largest=14, scales=(1.0, 1e-30, 1e12)), st.sampled_from([1.01, 2.0, 0.5]))
def test_matrices(drawn, alpha):
    x, y, passed = drawn
    if np.abs(x).max() > 1e3 * np.ptp(x, 0).min():
        return
    renyi = ip.MatrixRenyi(alpha=alpha)
    kernels = [textbook_renyi.textbook_kernel(np.float64(z), "median") for z in (x, y)]
    values = [textbook_renyi.textbook_entropy(alpha, k) for k in kernels]
    close(outcome(lambda: renyi.entropy(passed(x))), values[0], tolerance=1e-6)
    joint = textbook_renyi.textbook_entropy(alpha, *kernels)
    found = outcome(lambda: renyi.mutual_information(passed(x), passed(y)))
    close(found, sum(values) - joint, tolerance=1e-6)
