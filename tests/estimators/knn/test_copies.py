"""Copies of rows are refused; ties of values are answered."""

import math

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes

from infoprobe.estimators import KNN
from infoprobe.estimators.knn.atoms import copies, near_copies
from tests.estimators.samples import normal, uniform

COPIES = r"rows occur again, with all their values.*Remove the copies"


def repeated(times, *tensors):
    return [x.repeat(times, *[1] * (x.dim() - 1)) for x in tensors]


class TestCopies:
    @pytest.mark.parametrize("times", [2, 4, 8])
    def test_they_are_refused_by_all_of_the_family(self, times):
        x, y, z = (normal(300, 2, seed=i) for i in range(3))
        labels = torch.arange(300) % 2
        for measure, tensors in (
            ("mutual_information", [x, y]),
            ("mutual_information", [x[:, :1], y[:, :1]]),
            ("mutual_information", [x, labels]),
            ("mutual_information", [labels, x[:, :1]]),
            ("conditional_mutual_information", [x, y, z]),
            ("total_correlation", [x]),
        ):
            for estimator in (KNN(), KNN(variant=2), KNN(5)):
                with pytest.raises(ValueError, match=COPIES):
                    getattr(estimator, measure)(*repeated(times, *tensors))

    def test_a_tenth_is_too_much(self):
        x, y = normal(500, 1), normal(500, 1, seed=1)
        with pytest.raises(ValueError, match=r"100 of 550 " + COPIES):
            KNN().mutual_information(*(torch.cat([v, v[:50]]) for v in (x, y)))
        few = [torch.cat([v, v[:20]]) for v in (x, y)]
        value = KNN().mutual_information(*few)
        (found,) = KNN().diagnose("mutual_information", few, value)
        assert "7.7% of the rows are copies of other rows" in found.what

    def test_of_discrete_variables_they_are_none(self):
        x, y = normal(900, 1), normal(900, 1, seed=1)
        for pair in (
            [x.round(), y.round()],
            [x.round(), x.round()],
            [x.relu(), (x + y).relu()],
            [x.relu(), torch.where(x > 0, y, 0)],
            [x > 0, (y > 0)],
            [(10 * x).round() / 10, (10 * x + y).round() / 10],
            [x, (x > 0)],
        ):
            assert not copies([v.double() for v in pair]).any()

    def test_a_data_set_that_is_passed_twice_is_found_whatever_its_values(self):
        x, y = normal(300, 1).mul(10).round(), normal(300, 1, seed=1).mul(10).round()
        assert not copies([x, y]).any()
        with pytest.raises(ValueError, match=COPIES):
            KNN().mutual_information(*repeated(2, x, y))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_copies_in_another_precision_are_found(self, dtype):
        pair = [normal(1000, 1), normal(1000, 1, seed=1)]
        assert near_copies(pair) == 0
        both = [torch.cat([x, x.to(dtype).double()]) for x in pair]
        assert near_copies(both) > 0.5
        found = KNN().diagnose("mutual_information", both, KNN().mutual_information(*both))
        assert any("but for rounding" in finding.what for finding in found)

    def test_a_tenth_of_near_copies_is_found(self):
        x = normal(1000, 2)
        near = torch.cat([x, x[:100] + 1e-9])
        assert near_copies([near]).item() == pytest.approx(200 / 1100, abs=0.02)

    @pytest.mark.parametrize("d", [1, 3])
    @pytest.mark.parametrize(
        ("share", "noise"), [(0.1, 1e-3), (0.1, 1e-5), (0.5, 3e-3), (1, 1e-2)]
    )
    def test_copies_with_a_little_noise_are_told_of(self, d, share, noise):
        number = int(1000 * share)
        pair = []
        for seed in (0, 2):
            x = normal(1000, d, seed=seed)
            pair.append(torch.cat([x, x[:number] + noise * normal(number, d, seed=seed + 1)]))
        for measure, tensors in (
            ("mutual_information", pair),
            ("total_correlation", [torch.cat(pair, 1)]),
            ("entropy", [torch.cat(pair, 1)]),
            ("kl_divergence", [torch.cat(pair, 1), normal(1000, 2 * d, seed=9)]),
        ):
            found = KNN().estimate_without_error(measure, *tensors).findings
            (copied,) = (each for each in found if each.code == "copied-samples")
            copies = 2 * share / (1 + share)
            assert 0.3 * copies < copied.figure < 1.15 * copies

    def test_dense_places_are_no_copies(self):
        x = normal(1000, 2)
        near = normal(1000, 2, seed=3)
        for cloud in (
            x / normal(1000, 1, seed=1).abs(),  # Cauchy
            (2 * x).exp(),
            x + 8 * (torch.arange(1000) % 6).unsqueeze(1),
            torch.cat([x, 1e-3 * near]),
            (10 * x).round() / 10,
            x.relu(),
            x.cumsum(0),
            torch.cat([x, near[:, :1].expand(-1, 2)]),  # on a line, half of them
        ):
            assert near_copies([cloud]) < 0.03

    @pytest.mark.parametrize("d", [1, 2, 10])
    def test_independent_samples_have_none(self, d):
        for seed in range(5):
            x = normal(500, d, seed=seed)
            assert near_copies([x, x + 0.01 * normal(500, d, seed=seed + 9)]) < 0.005


class TestTies:
    def test_a_number_and_a_uniform_variable_above_it(self):
        # Gao et al. 2017, section 5.
        x = (5 * uniform(3000, 1)).floor()
        y = x + 2 * uniform(3000, 1, seed=1)
        truth = math.log(5) - 4 / 5 * math.log(2)
        for variant in (1, 2):
            value = KNN(variant=variant).mutual_information(x, y)
            assert value.item() == pytest.approx(truth, abs=0.03)
        labels = KNN().mutual_information(x[:, 0].long(), y)
        assert KNN().mutual_information(x, y).item() == pytest.approx(labels.item(), abs=0.01)

    def test_zero_inflated_counts(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.empty(3000, 1, dtype=torch.float64).exponential_(generator=generator)
        y = torch.poisson(x, generator=generator)
        y[torch.rand(3000, 1, generator=generator) < 0.15] = 0
        series = sum(math.log(k) * 2.0**-k for k in range(1, 60))
        truth = 0.85 * (2 * math.log(2) - 0.5772156649 - series)
        assert KNN().mutual_information(x, y).item() == pytest.approx(truth, abs=0.04)

    def test_discrete_variables(self):
        x = (5 * uniform(2000, 1)).floor()
        assert KNN().mutual_information(x, x % 2).item() == pytest.approx(0.673, abs=0.02)
        assert KNN().mutual_information(x, x).item() == pytest.approx(math.log(5), abs=0.01)
        y = (3 * uniform(2000, 1, seed=1)).floor()
        assert KNN().mutual_information(x, y).item() == pytest.approx(0, abs=0.01)
        z = (x + y) % 2
        chain = KNN().mutual_information(x, z) + KNN().conditional_mutual_information(x, y, z)
        whole = KNN().mutual_information(x, torch.cat([y, z], 1))
        assert chain.item() == pytest.approx(whole.item(), abs=0.02)
        three = torch.cat([x, y, (x + y) % 2], 1)
        expected = KNN().mutual_information(torch.cat([x, y], 1), (x + y) % 2)
        assert KNN().total_correlation(three).item() == pytest.approx(expected.item(), abs=0.02)

    def test_one_hot_labels(self):
        labels = torch.arange(2000) % 4
        x = normal(2000, 2) + 2 * labels[:, None]
        expected = KNN().mutual_information(x, labels)
        value = KNN().mutual_information(x, torch.eye(4)[labels])
        assert value.item() == pytest.approx(expected.item(), abs=0.01)

    def test_columns_of_tables_are_answered(self):
        for data in (load_breast_cancer(), load_diabetes()):
            x, y = torch.from_numpy(data.data), torch.from_numpy(data.target).double()
            for column in x.unbind(1):
                assert -0.1 < KNN().mutual_information(column, y) < 1
            for i in range(0, x.shape[1], 3):
                assert KNN().mutual_information(x[:, i], x[:, i - 1]).isfinite()

    def test_a_finding_says_so(self):
        x = normal(300, 1)
        several = KNN().diagnose("mutual_information", [x.relu(), x + 1], torch.tensor(1.0))
        (found,) = [finding for finding in several if finding.code == "mixed-variable"]
        assert found.argument == "x"
        assert "a mixture of a discrete and a continuous variable" in found.what


class TestDisjointSupports:
    def test_they_are_found(self):
        for p, q in (
            (normal(500, 4), normal(500, 4, seed=1) + 20),
            (uniform(500, 1), 2 + uniform(500, 1, seed=1)),
        ):
            found = KNN().diagnose("kl_divergence", [p, q], KNN().kl_divergence(p, q))
            assert any("where the second has none" in finding.what for finding in found)

    def test_supports_that_overlap_are_none(self):
        for d in (1, 3):
            p, q = normal(500, d), 1.5 * normal(500, d, seed=1) + 0.3
            assert not KNN().diagnose("kl_divergence", [p, q], KNN().kl_divergence(p, q))
