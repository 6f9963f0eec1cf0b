"""At any scale, a value is right or refused by name, and what is found about it raises nothing."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.covariance import at_unit_scale, rank_of
from tests.estimators.samples import normal

MAKE = {
    "tiny": lambda x: x * 1e-162,
    "least": lambda x: x * 5e-324,
    "a tiny feature": lambda x: x * torch.tensor([1, 1e-162, 1], dtype=torch.float64),
    "large": lambda x: x * 1e155,
    "greatest": lambda x: x.clamp(-1, 1) * 1.7e308,
    "far away": lambda x: x * 20 + 1e15,
}
ESTIMATORS = [
    ip.Gaussian(),
    ip.KNN(),
    ip.KNN(calibration="gaussian"),
    ip.KNN(calibration="copula"),
    ip.MatrixRenyi(),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_findings_are_found(estimator, make):
    x, y = make(normal(60, 3)), normal(60, 3, seed=1)
    for tensors in ((x,), (x, y), (y, x)):
        found = ip.diagnose(*tensors, estimator=estimator)
        assert all(finding.what for finding in found)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_information_of_samples_does_not_depend_on_their_scale(make):
    x = normal(200, 3).clamp(-3, 3)
    y = x + normal(200, 3, seed=1)
    found = ip.pointwise("mutual_information", make(x), y, estimator=ip.KNN())
    assert found.isfinite().all()
    if make in (MAKE["tiny"], MAKE["a tiny feature"], MAKE["large"]):  # the others round x
        expected = ip.pointwise("mutual_information", x, y, estimator=ip.KNN()).mean()
        assert float(found.mean()) == pytest.approx(float(expected), abs=1e-3)


def test_units_that_are_powers_of_two():
    x = normal(100, 3)
    scaled = at_unit_scale(x * torch.tensor([1e-300, 1.0, 1e300], dtype=torch.float64))
    assert bool((scaled.abs().amax(0) < 1).all() and (scaled.abs().amax(0) >= 0.5).all())
    assert torch.equal(at_unit_scale(x * 2.0**900), at_unit_scale(x))
    assert torch.equal(at_unit_scale(x, dim=None), x / 4)
    assert at_unit_scale(torch.tensor([[5e-324], [-1e-323]], dtype=torch.float64)).tolist() == [
        [0.25],
        [-0.5],
    ]
    x[:, 2] = x[:, 0] + x[:, 1]
    for make in (MAKE["tiny"], MAKE["large"]):
        assert rank_of(make(x)) == 2


def test_a_feature_in_which_one_of_two_samples_hardly_varies():
    p, q = MAKE["a tiny feature"](normal(60, 3)), normal(60, 3, seed=1)
    for measure in (ip.KNN().kl_divergence, ip.KNN().cross_entropy):
        with pytest.raises(ArgumentValueError, match=r"p, q: expected no feature in which q is"):
            measure(p, q)
    assert math.isfinite(ip.KNN().kl_divergence(q, p))


@pytest.mark.parametrize("measure", ["entropy", "kl_divergence", "cross_entropy"])
def test_surrogates_of_samples_near_the_greatest_float(measure):
    """What is drawn like them may exceed their type."""
    knn, scale = ip.KNN(calibration="gaussian"), 2.0**126
    tensors = [normal(60, 3).clamp(-1, 1), 0.9 * normal(60, 3, seed=1).clamp(-1, 1)]
    tensors = tensors[: 1 + (measure != "entropy")]
    added = 0.0 if measure == "kl_divergence" else 3 * math.log(scale)
    found = getattr(knn, measure)(*(x.float() * scale for x in tensors))
    expected = getattr(knn, measure)(*(x.float() for x in tensors))
    assert float(found) == pytest.approx(float(expected) + added, abs=1e-4)


def test_copies_of_a_feature_beside_a_copula():
    x = normal(60, 3).float()
    y = x + 0.5 * normal(60, 3, seed=1).float()
    with pytest.raises(ArgumentValueError, match="expected linearly independent features"):
        ip.KNN(calibration="copula").mutual_information(y, x[:, :1].repeat(1, 3))
