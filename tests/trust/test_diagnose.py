import math

import pytest
import torch

import infoprobe as ip


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def whats(findings):
    return " | ".join(f"{finding.severity}: {finding}" for finding in findings)


@pytest.mark.parametrize(
    "estimator",
    [ip.KNN(), ip.Gaussian(), ip.MatrixRenyi(), ip.Histogram(), ip.Histogram(over="units")],
)
def test_nothing_to_say_about_a_few_gaussian_features(estimator):
    x = gaussian(1500 if isinstance(estimator, ip.MatrixRenyi) else 20_000, 2)
    assert ip.diagnose(x, estimator) == []
    assert ip.diagnose(x, estimator=estimator) == []


def test_nothing_to_say_about_weak_dependence():
    x = gaussian(3000, 1)
    y = 0.5 * x + gaussian(3000, 1, seed=1)
    assert ip.diagnose(x, y, ip.KNN()) == []


class TestNeighbours:
    def test_atoms(self):
        x = gaussian(1000, 2).relu()
        findings = ip.diagnose(x, ip.KNN())
        assert [finding.severity for finding in findings] == ["error", "warning"]
        both = (x == 0).all(1).double().mean().item()
        assert findings[0].figure == pytest.approx(both)
        one = (x == 0).double().mean(0).max().item()
        assert findings[1].figure == pytest.approx(one)
        with pytest.raises(ValueError, match="coincide"):
            ip.KNN().entropy(x)

    def test_a_few_duplicates_are_no_error(self):
        x = gaussian(1000, 2)
        x[:4] = x[4:8]
        (finding,) = ip.diagnose(x, ip.KNN())
        assert finding.severity == "warning"
        assert finding.figure == pytest.approx(0.008)

    def test_constant_features(self):
        x = torch.cat([gaussian(1000, 2), torch.ones(1000, 3)], 1)
        found = whats(ip.diagnose(x, ip.KNN()))
        assert "error: x: 3 of 5 features are constant" in found

    def test_too_many_dimensions(self):
        x = gaussian(2000, 20)
        (finding,) = ip.diagnose(x, ip.KNN())
        truth = 10 * math.log(2 * math.pi * math.e)
        assert finding.figure == pytest.approx(float(ip.KNN().entropy(x)) - truth, abs=0.5)
        assert ip.diagnose(x, ip.KNN(calibration="gaussian")) == []

    def test_fewer_samples_than_dimensions(self):
        x = gaussian(50, 60)
        assert "50 samples of 60 features are too few" in whats(ip.diagnose(x, ip.KNN()))
        found = whats(ip.diagnose(x, ip.KNN(calibration="gaussian")))
        assert "error: x: expected at least d + 3" in found

    def test_information_near_its_ceiling(self):
        x = gaussian(500, 1)
        findings = ip.diagnose(x, x + 1e-4 * gaussian(500, 1, seed=1), ip.KNN())
        assert "mutual information is" in whats(findings)
        assert findings[0].figure > 0.8

    def test_labels_are_no_samples(self):
        x = gaussian(2000, 2)
        assert ip.diagnose(x, (x[:, 0] > 0).long(), ip.KNN()) == []

    def test_what_an_estimator_refuses_is_a_finding(self):
        x, y = gaussian(300, 3), gaussian(300, 2, seed=1)
        labels = (x[:, 0] > 0).long()
        for arguments, message in [
            ((x.relu(), ip.KNN()), "coincide with at least k=3 others"),
            ((torch.ones(300, 3), ip.KNN()), "are constant"),
            ((x, labels, ip.KNN(calibration="gaussian")), "calibration: expected None"),
            ((x, y, ip.KNN(k=400)), "expected more than k=400 samples"),
            ((torch.arange(10), ip.KNN()), "expected floating-point samples"),
            ((torch.arange(10), ip.Gaussian()), "expected floating-point samples"),
            ((x, ip.Histogram(range=(-1, 1))), "values within range"),
            ((torch.ones(300, 3), x, ip.MatrixRenyi()), "bandwidth"),
            ((gaussian(10, 2), gaussian(10, 2), ip.Critic()), "at least 30 samples"),
        ]:
            findings = ip.diagnose(*arguments)
            assert message in whats(findings)
            assert findings[0].severity == "error"

    def test_samples_in_common(self):
        x = gaussian(500, 2)
        found = whats(ip.diagnose(x, torch.cat([x[:50], gaussian(400, 2, seed=1)]), ip.KNN()))
        assert "x, y: 10.0% of the samples of the first are samples of the second" in found


class TestHistogram:
    def test_too_few_values(self):
        findings = ip.diagnose(gaussian(100, 1), ip.Histogram())
        assert "too few values for the bins" in whats(findings)
        assert ip.diagnose(gaussian(100, 1), ip.Histogram(correction="grassberger")) == []

    def test_every_sample_is_a_symbol_of_its_own(self):
        findings = ip.diagnose(gaussian(100, 50), ip.Histogram(over="samples"))
        assert "only one of its kind" in whats(findings)
        assert findings[0].figure == pytest.approx(math.log(100))

    def test_no_shared_support(self):
        x, y = gaussian(5000, 1), gaussian(3000, 1, seed=1) + 20
        (finding,) = ip.diagnose(x, y, ip.Histogram(64))
        assert finding.severity == "error"
        assert finding.figure == pytest.approx(1.0)
        found = whats(ip.diagnose(x, y, ip.Histogram(64, pseudocount=1)))
        assert (
            "x, y: 100.0% of the values of the first lie in bins where the second has none"
            in found
        )
        assert "of no overlap at all" in found

    def test_the_bins_decide(self):
        x = gaussian(20_000, 1).relu()
        y = x + 0.02 * gaussian(20_000, 1, seed=1)
        found = whats(ip.diagnose(x, y[:15_000], ip.Histogram(range="minmax", pseudocount=1)))
        assert "with half and twice the bins" in found

    def test_alike(self):
        x, y = gaussian(50_000, 1), 1.1 * gaussian(40_000, 1, seed=1)
        assert ip.diagnose(x, y, ip.Histogram(64, range=(-6, 6), pseudocount=1)) == []


def test_a_gaussian_of_what_is_none():
    x = torch.empty(5000, 2).exponential_(generator=torch.Generator().manual_seed(0))
    (finding,) = ip.diagnose(x, ip.Gaussian())
    # A Gaussian of variance 1 against an exponential of rate 1, the less Gaussian of the two.
    assert finding.figure == pytest.approx(math.log(2 * math.pi * math.e) / 2 - 1, abs=0.1)
    assert "error: x: 30 samples cannot tell" in whats(
        ip.diagnose(gaussian(30, 40), ip.Gaussian())
    )


def test_kernels_that_see_nothing():
    x = gaussian(300, 3)
    narrow, wide = (ip.MatrixRenyi(bandwidth=width) for width in (1e-3, 1e3))
    assert "all samples to be different" in whats(ip.diagnose(x, narrow))
    assert "all samples to be equal" in whats(ip.diagnose(x, wide))


def test_a_critic_at_its_ceiling():
    x = gaussian(400, 4)
    critic = ip.Critic(steps=200, held_out=0.05)
    found = whats(ip.diagnose(x, x + 0.01 * gaussian(400, 4, seed=1), critic))
    assert "mutual information is" in found


@pytest.mark.parametrize("arguments", [(), (ip.KNN,), (torch.ones(5), torch.ones(5), ip.KNN())])
def test_errors(arguments):
    with pytest.raises(TypeError, match="estimator: expected one or two tensors"):
        ip.diagnose(gaussian(10, 1), *arguments)


def test_a_refusal_calls_the_arguments_what_the_caller_does():
    found = ip.diagnose(gaussian(300, 3), gaussian(200, 2), ip.Histogram(over="units"))
    assert str(found[0]).startswith("x, y: expected samples from one space")


def test_the_measure_that_is_asked_about_can_be_named():
    x, y = gaussian(20_000, 3), 1.1 * gaussian(20_000, 2, seed=1)
    h = ip.Histogram(64, range=(-6, 6), pseudocount=1)
    assert ip.diagnose(x, y, h, measure="kl_divergence") == []
    assert "expected the same shape" in whats(ip.diagnose(x, y, h))
    with pytest.raises(ValueError, match="measure: expected one of"):
        ip.diagnose(x, y, h, measure="information")
    with pytest.raises(TypeError, match="tensors: expected the arguments p, q"):
        ip.diagnose(x, h, measure="kl_divergence")
    three = gaussian(300, 1), gaussian(300, 1, seed=1), gaussian(300, 1, seed=2)
    assert ip.diagnose(*three, ip.KNN(), measure="conditional_mutual_information") == []


def test_information_that_is_refused_is_a_finding_where_the_divergence_is_not():
    x = gaussian(500, 2)
    (finding,) = ip.diagnose(x, x, ip.Gaussian())
    assert str(finding).startswith("x, y: expected linearly independent features")


def test_a_finding_is_told_once():
    x = gaussian(1000, 2)
    x[:4] = x[4:8]
    y = gaussian(1000, 2, seed=1)
    found = [str(each) for each in ip.diagnose(x, y, ip.KNN(), measure="kl_divergence")]
    assert len(found) == len(set(found)) == 1
    assert found[0].startswith("x: 0.8% of the samples coincide")


class TestGaussianInformation:
    def test_of_few_different_samples(self):
        symbols = gaussian(300, 1, seed=3)[:, 0].argsort() % 20
        x, y = gaussian(20, 60)[symbols], gaussian(20, 60, seed=1)[symbols]
        x, y = x + 1e-4 * gaussian(300, 60, seed=2), y.clone()
        (finding,) = ip.Gaussian().diagnose("mutual_information", [x, y], torch.tensor(100.0))
        assert (finding.code, finding.severity) == ("few-distinct-samples", "error")
        assert finding.figure == 20
        assert "3.00 nats" in finding.what

    def test_of_few_samples(self):
        x, y = gaussian(150, 50), gaussian(150, 50, seed=1)
        value = ip.Gaussian().mutual_information(x, y)
        (finding,) = ip.Gaussian().diagnose("mutual_information", [x, y], value)
        assert finding.code == "too-few-samples"
        assert ip.Gaussian(shrinkage=0.1).diagnose("mutual_information", [x, y], value) == []

    def test_of_enough(self):
        x, y = gaussian(400, 50), gaussian(400, 50, seed=1)
        value = ip.Gaussian().mutual_information(x, y)
        assert ip.Gaussian().diagnose("mutual_information", [x, y], value) == []
