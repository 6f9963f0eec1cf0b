import math

import torch

import infoprobe as ip
from infoprobe.estimators.knn import drift, measures, surrogates
from infoprobe.estimators.ranks import normal_scores
from tests.estimators.samples import normal

KNN = ip.KNN(calibration="copula", repeats=1)


def excess(measure, *tensors, knn=KNN):
    """The excess bias of data over plain Gaussian surrogates."""
    samples = [normal_scores(x) for x in tensors]
    drawn = next(surrogates.paired(samples, 1, seed=0))
    first, second = ((each, measure.raw(knn, *each)) for each in (samples, drawn))
    return drift.excess_bias(knn, measure, first, second)


def banana(n, d, seed=0):
    x = normal(n, d, seed=seed)
    x[:, 1::2] += x[:, 0::2] ** 2
    return x


def test_the_entropy_of_curved_data():
    n, d = 3000, 10
    truth = d * math.log(2 * math.pi * math.e) / 2
    x = banana(n, d)
    found = excess(measures.ENTROPY, x)
    assert found > 0.3
    error = KNN.entropy(x).item() - truth
    assert abs(error) < 0.5
    assert abs(error) < found


def test_the_information_of_curved_dependence():
    x, noise = normal(4000, 3), normal(4000, 3, seed=1)
    y = 0.8 * x + 0.6 * noise
    angle = y.square().sum(1)
    turned = y.clone()
    turned[:, 0] = angle.cos() * y[:, 0] - angle.sin() * y[:, 1]
    turned[:, 1] = angle.sin() * y[:, 0] + angle.cos() * y[:, 1]
    truth = -3 * math.log(0.6)
    found = excess(measures.MUTUAL_INFORMATION, x, turned)
    assert found < -0.1
    error = KNN.mutual_information(x, turned).item() - truth
    assert abs(error) < 0.75 * abs(error + found)


def test_gaussian_data_have_none():
    for seed in range(8):
        x = normal(1000, 6, seed=seed)
        y = x[:, :2] + normal(1000, 2, seed=seed + 100)
        assert excess(measures.ENTROPY, x) == 0
        assert excess(measures.MUTUAL_INFORMATION, x[:, :3], y) == 0
        assert excess(measures.TOTAL_CORRELATION, torch.cat([x, y], 1)) == 0


def test_it_is_left_alone_where_noise_would_decide():
    x = banana(200, 80)
    assert excess(measures.ENTROPY, x) == 0
    x = banana(13, 2)
    assert excess(measures.ENTROPY, x[:12]) == 0


def test_structure_finer_than_neighbours_changes_with_k() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, z = torch.randn(3, 1500, 1, generator=generator, dtype=torch.float64)
    common = (5 * z).sin()
    curve = torch.cat([x, x**2 + 1e-3 * y], 1)
    for measure, tensors in (
        ("conditional_mutual_information", (common + 0.1 * x, common + 0.1 * y, z)),
        ("entropy", (curve,)),
    ):
        codes = [f.code for f in ip.KNN().estimate(measure, *tensors).findings]
        assert "changes-with-k" in codes


def test_smooth_densities_do_not_change_with_k() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, z = torch.randn(3, 1500, 1, generator=generator, dtype=torch.float64)
    for measure, tensors in (
        ("conditional_mutual_information", (x + z, y + z, z)),
        ("entropy", (torch.cat([x, y.exp()], 1),)),
        ("entropy", (x.exp(),)),
        ("mutual_information", (x, x + y)),
    ):
        assert ip.KNN().estimate(measure, *tensors).findings == []
