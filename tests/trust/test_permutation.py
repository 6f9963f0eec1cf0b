import functools
import math

import pytest
import torch

import infoprobe as ip


def data(n=150, d=2, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_what_is_there_is_found():
    x, noise = data(), data(seed=1)
    for measure in (
        ip.KNN().mutual_information,
        ip.Gaussian().mutual_information,
        functools.partial(ip.mutual_information, estimator=ip.MatrixRenyi()),
    ):
        found = ip.permutation_test(measure, x, x + noise, permutations=39)
        assert found.p_value == pytest.approx(1 / 40)
        assert float(found.value) == float(measure(x, x + noise))
        assert found.null.shape == (39,)
    both = torch.cat([x, x + 0.5 * noise], 1)
    assert ip.permutation_test(ip.Gaussian().total_correlation, both, permutations=39)[
        1
    ] == pytest.approx(1 / 40)
    for measure in (ip.KNN().kl_divergence, ip.js_divergence):
        found = ip.permutation_test(measure, x, data(90, seed=2) + 1, permutations=39)
        assert found.p_value == pytest.approx(1 / 40)


def test_p_values_are_uniform_where_nothing_is_there():
    estimator, cases = ip.Gaussian(), 80
    for measure, arguments in (
        (estimator.mutual_information, lambda i: [data(30, seed=i), data(30, seed=1000 + i)]),
        (estimator.kl_divergence, lambda i: [data(30, seed=i), data(20, seed=1000 + i)]),
        (estimator.total_correlation, lambda i: [data(30, 3, seed=i)]),
    ):
        values = torch.tensor(
            [
                ip.permutation_test(
                    measure,
                    *arguments(i),
                    permutations=19,
                    generator=torch.Generator().manual_seed(i),
                ).p_value
                for i in range(cases)
            ]
        )
        # Of a uniform variable on 20 values: 4 standard errors to each side.
        assert abs(float(values.mean()) - 0.525) < 4 * 0.289 / math.sqrt(cases)
        share = float((values <= 0.1001).double().mean())
        assert abs(share - 0.1) < 4 * math.sqrt(0.09 / cases)


def test_the_bias_of_the_estimator_does_no_harm():
    # A histogram finds much information where there is none, in permuted samples as well.
    x, y = data(100, 1), data(100, 1, seed=1)
    found = ip.permutation_test(ip.Histogram(64).mutual_information, x, y, permutations=39)
    assert float(found.value) > 1
    assert float(found.null.mean()) == pytest.approx(float(found.value), abs=0.2)
    assert 0.05 < found.p_value <= 1


def test_permutations_are_reproducible_and_leave_the_generator_alone():
    x, y = data(), data(seed=1)
    state = torch.get_rng_state()
    first, again = (
        ip.permutation_test(ip.Gaussian().mutual_information, x, y, permutations=9)
        for _ in range(2)
    )
    assert torch.equal(first.null, again.null)
    assert torch.equal(torch.get_rng_state(), state)
    other = ip.permutation_test(
        ip.Gaussian().mutual_information,
        x,
        y,
        permutations=9,
        generator=torch.Generator().manual_seed(1),
    )
    assert not torch.equal(first.null, other.null)


def test_labels_and_own_functions():
    x = data()
    labels = (x[:, 0] > 0).long()
    found = ip.permutation_test(ip.KNN().mutual_information, labels, x, permutations=19)
    assert found.p_value == pytest.approx(0.05)

    def covariance(a, b):
        return ((a - a.mean()) * (b - b.mean())).mean()

    assert ip.permutation_test(covariance, x[:, :1], x[:, :1], permutations=19).p_value == 0.05


@pytest.mark.parametrize(
    ("measure", "tensors", "problem"),
    [
        (3, [data(), data()], r"^measure: expected a method such as"),
        (ip.entropy, [data()], r"^measure: .* which no permutation changes"),
        (
            ip.KNN().conditional_mutual_information,
            [data()] * 3,
            r"^measure: .* Test the information of x and \(y, z\)",
        ),
        (ip.mutual_information, [data()], r"^tensors: expected the arguments x, y"),
        (ip.mutual_information, [data(), data(30)], r"^x, y: expected as many samples"),
        (ip.mutual_information, [torch.tensor(1.0), data()], r"^x: expected at least 2 samples"),
    ],
)
def test_what_cannot_be_tested_is_refused(measure, tensors, problem):
    with pytest.raises((TypeError, ValueError), match=problem):
        ip.permutation_test(measure, *tensors)


def test_a_name_stands_for_the_estimator_that_suits_the_data():
    x, y = data(d=1), data(d=1) + data(d=1, seed=1)
    chosen = ip.choose("mutual_information", x, y).estimator
    for function, settings in (
        (ip.permutation_test, {"permutations": 9}),
        (ip.confidence_interval, {"resamples": 5}),
    ):
        by_name = function("mutual_information", x, y, **settings)
        by_method = function(chosen.mutual_information, x, y, **settings)
        for one, other in zip(by_name, by_method, strict=True):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
        with pytest.raises(ValueError, match=r"^measure: expected one of 'entropy', .* 'mutual'"):
            function("mutual", x, y)
    for function in (ip.choose, ip.pointwise):
        with pytest.raises(TypeError, match=r"^measure: expected the name of a measure"):
            function(ip.KNN().mutual_information, x, y)
