import contextlib
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.estimators.transport.folds import split
from infoprobe.estimators.transport.report import UpperBound
from infoprobe.estimators.transport.transport import Transport
from tests.estimators.samples import normal


@contextlib.contextmanager
def global_state_unchanged():
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


class Pointwise(nn.Module):
    """A function of single numbers with its logarithmic slope."""

    def __init__(self, function, log_slope):
        super().__init__()
        self.function, self.log_slope = function, log_slope

    def forward(self, x):
        return self.function(x), self.log_slope(x).sum(1)


IDENTITY = Pointwise(lambda x: x, torch.zeros_like)
LOGARITHM = Pointwise(torch.log, lambda x: -x.log())
LINEAR = Pointwise(lambda x: 0.3 * x + 1, lambda x: torch.full_like(x, math.log(0.3)))


@dataclass(frozen=True)
class Given(Transport):
    """Maps that need no fitting, to see what is made of them."""

    map: Any = IDENTITY
    seen: Any = None

    def fit_map(self, x, stop, seed):
        if self.seen is not None:
            self.seen.append((x, stop, seed))
        return self.map


class TestEntropy:
    TRUTH = 5 * math.log(2 * math.pi * math.e) / 2

    def test_the_map_that_makes_data_gaussian(self):
        # Of a lognormal variable h = h(normal) + E X, and KNN alone is far off.
        x = normal(4000, 5)
        truth = self.TRUTH + float(x.sum(1).mean())
        estimate = Given(map=LOGARITHM).entropy(x.exp())
        assert estimate.dtype == torch.float64
        assert estimate.shape == ()
        assert float(estimate) == pytest.approx(truth, abs=0.1)
        assert abs(float(ip.KNN().entropy(x.exp())) - truth) > 0.3

    def test_any_bijection_gives_the_same_with_an_equivariant_residual(self):
        # Affine maps cancel to the last digits: the identity h(X) = h(f(X)) - E ln|det J|.
        x = normal(1000, 3)
        plain = Given().entropy(x)
        assert float(Given(map=LINEAR).entropy(x)) == pytest.approx(float(plain), abs=1e-6)

    def test_is_the_bound_less_what_is_left(self):
        x = normal(3000, 3).exp()
        report = Given(map=LOGARITHM, folds=2).report("entropy", 1.3 * x)
        carried = report.transported["x"]
        # The mean of ln 1.3 X is off by 0.26 in each feature, which a Gaussian shows exactly.
        misfit = 3 * math.log(1.3) ** 2 / 2
        left = float(carried.bound.value) - float(report.value)
        assert left == pytest.approx(misfit + carried.negentropy, abs=0.03)
        assert report.value == carried.entropy
        gaussian = Given(map=LOGARITHM, folds=2, residual=ip.Gaussian())
        assert gaussian.report("entropy", x).transported["x"].negentropy == 0

    def test_every_sample_is_measured_once_by_a_map_that_has_not_seen_it(self):
        seen = []
        x = torch.arange(103, dtype=torch.float64)[:, None] + normal(103, 1) / 100
        Given(seen=seen, folds=4).entropy(x)
        assert [seed for _, _, seed in seen] == [0, 1, 2, 3]
        measured = []
        for fit, stop, _ in seen:
            known = set(torch.cat([fit, stop]).flatten().tolist())
            assert len(known) == len(fit) + len(stop)
            measured += set(x.flatten().tolist()) - known
        assert sorted(measured) == x.flatten().tolist()

    def test_folds_of_unequal_size_count_by_their_samples(self):
        x = normal(104, 2)
        residual = ip.Gaussian()
        report = Given(folds=3, residual=residual).report("entropy", x)
        order = torch.randperm(104, generator=torch.Generator().manual_seed(0))
        parts = [x[i] for i in order.tensor_split(3)]
        expected = sum(float(residual.entropy(part)) * len(part) for part in parts) / 104
        assert float(report.value) == pytest.approx(expected, abs=1e-9)

    def test_same_seed_same_number(self):
        x = normal(500, 2)
        values = [float(Given(seed=seed).entropy(x)) for seed in (0, 0, 1)]
        assert values[0] == values[1] != values[2]

    def test_flattens_and_takes_arrays(self):
        x = normal(500, 4)
        assert Given().entropy(x.view(500, 2, 2).numpy()) == Given().entropy(x)

    def test_in_any_context(self):
        x = normal(300, 2)
        before = Given().entropy(x)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            after = Given().entropy(x.clone())
        assert after == before
        assert not after.is_inference()

    def test_leaves_no_trace(self):
        x = normal(300, 2).requires_grad_()
        with global_state_unchanged():
            value = Given().entropy(x)
        assert not value.requires_grad


class TestUpperBound:
    def test_is_the_negative_log_likelihood_of_the_map(self):
        x = normal(500, 2)
        bound = Given().upper_bound(x)
        assert isinstance(bound, UpperBound)
        nll = (x.square().sum(1) + 2 * math.log(2 * math.pi)) / 2
        assert float(bound.value) == pytest.approx(float(nll.mean()))
        assert float(bound.stderr) == pytest.approx(float(nll.std()) / math.sqrt(500))

    @pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
    def test_is_above_the_truth(self, width):
        # By the KL divergence from the density that the map stands for.
        x = normal(20_000, 3) * width
        bound = Given().upper_bound(x)
        truth = 3 * (math.log(2 * math.pi * math.e) / 2 + math.log(width))
        excess = 3 * ((width**2 - 1) / 2 - math.log(width))
        assert float(bound.value) - truth == pytest.approx(excess, abs=4 * float(bound.stderr))


class TestInformation:
    def test_of_gaussians(self):
        x, noise = normal(2000, 2), normal(2000, 2, seed=1)
        y = 0.6 * x + 0.8 * noise
        truth = -math.log(1 - 0.36)
        value = Given(map=LOGARITHM).mutual_information(x.exp(), y.exp())
        assert float(value) == pytest.approx(truth, abs=0.06)

    def test_total_correlation(self):
        x, noise = normal(4000, 1), normal(4000, 1, seed=1)
        both = torch.cat([x, 0.6 * x + 0.8 * noise], 1)
        value = Given().total_correlation(both.exp())
        assert float(value) == pytest.approx(-math.log(1 - 0.36) / 2, abs=0.05)

    def test_reports_both_variables(self):
        x = normal(400, 2)
        report = Given().report("mutual_information", x, x[:, :1] + normal(400, 1, seed=1))
        assert list(report.transported) == ["x", "y"]
        assert [carried.d for carried in report.transported.values()] == [2, 1]
        text = repr(report)
        assert text.startswith("mutual_information: ")
        assert "Transported(3 maps Pointwise, d=2, fitted to" in text


class TestDivergence:
    def test_of_gaussians(self):
        p, q = normal(3000, 4), 1.5 * normal(3000, 4, seed=1)
        truth = 2 * (1 / 1.5**2 - 1 + math.log(1.5**2))
        value = Given(map=LOGARITHM).kl_divergence(p.exp(), q.exp())
        assert float(value) == pytest.approx(truth, abs=0.1)

    def test_is_the_cross_entropy_less_the_entropy(self):
        p, q = normal(1000, 2).exp(), (normal(800, 2, seed=1) + 0.5).exp()
        estimator = Given(map=LOGARITHM)
        expected = estimator.cross_entropy(p, q) - estimator.entropy(p)
        assert float(estimator.kl_divergence(p, q)) == pytest.approx(float(expected))
        truth = 2 * (0.5 * math.log(2 * math.pi * math.e) + 0.125) + float(p.log().sum(1).mean())
        assert float(estimator.cross_entropy(p, q)) == pytest.approx(truth, abs=0.2)
        assert list(estimator.report("cross_entropy", p, q).transported) == ["q"]
        assert list(estimator.report("kl_divergence", p, q).transported) == ["p", "q"]

    def test_of_samples_of_different_sizes(self):
        value = Given().kl_divergence(normal(1000, 2), normal(700, 2, seed=1))
        assert float(value) == pytest.approx(0, abs=0.1)


class TestReport:
    def test_gain_over_a_gaussian(self):
        x = normal(3000, 3)
        carried = Given(map=LOGARITHM).report("entropy", x.exp()).transported["x"]
        gaussian = ip.Gaussian().entropy(x.exp())
        expected = float(gaussian) - float(carried.bound.value)
        assert carried.gain == pytest.approx(expected, abs=0.5)
        assert carried.gain > 10 * carried.gain_stderr

    def test_counts(self):
        carried = Given(folds=4).report("entropy", normal(400, 2)).transported["x"]
        assert (carried.n, carried.d, len(carried.maps)) == (400, 2, 4)
        assert carried.n_fit + carried.n_stop == 300
        assert carried.n_stop == 37

    def test_nothing_stands_in_the_way_of_gaussians(self):
        report = Given().report("entropy", normal(2000, 3))
        assert report.findings == []
        assert abs(report.transported["x"].negentropy) < 0.05

    def test_a_map_that_leaves_much(self):
        (finding,) = Given().report("entropy", normal(2000, 3) ** 3 / 4).findings[:1]
        assert finding.severity == "warning"
        assert "nats of negentropy" in finding.what

    def test_a_map_that_does_harm(self):
        findings = Given().report("entropy", 3 * normal(2000, 3)).findings
        (finding,) = findings  # what the residual estimator finds is Gaussian
        assert "the map did not help" in finding.what

    def test_through_diagnose(self):
        assert ip.diagnose(normal(500, 2), Given()) == []
        findings = ip.diagnose(3 * normal(500, 2), Given())
        assert any(str(finding).startswith("x: the map did not help") for finding in findings)


class TestInTheProbe:
    def test_entropy_of_a_layer(self):
        x = normal(600, 4).float()
        measures = [
            ip.Entropy(Given()),
            ip.MutualInformation(Given(), reference="input"),
            ip.Divergence(Given(), reference="previous"),
        ]
        model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        with ip.probe(model, "1", measures) as probe, torch.no_grad():
            for batch in x.split(100):
                y = model(batch)
        entropy, information, divergence = probe.report().rows
        samples = model(x).detach()
        # With maps that change nothing, each fold is measured by the residual alone.
        folds = [samples[fold.measure] for fold in split([samples], Given().folds, Given().seed)]
        residual = ip.KNN(calibration="gaussian")
        alone = sum(len(fold) * float(residual.entropy(fold)) for fold in folds) / len(samples)
        assert entropy["value"] == pytest.approx(alone, abs=1e-3)
        assert entropy["stderr"] > 0
        assert entropy["kind"] == "differential"
        assert any("output: the map did not help" in finding for finding in entropy["findings"])
        assert information["value"] > 1
        assert math.isfinite(divergence["value"])
        assert y.shape == (100, 4)


class TestBadInput:
    def test_too_few_samples(self):
        with pytest.raises(ValueError, match=r"x: expected at least folds \* \(d \+ 3\) = 30 "):
            Given().entropy(normal(29, 7))

    def test_too_few_for_both_variables(self):
        with pytest.raises(ValueError, match="= 39 samples in d=10"):
            Given().mutual_information(normal(38, 5), normal(38, 5))

    def test_constant_features(self):
        x = normal(100, 3)
        x[:, 1] = 2
        with pytest.raises(ValueError, match="1 constant of 3"):
            Given().entropy(x)

    def test_redundant_features(self):
        x = normal(100, 3)
        x[:, 2] = x[:, 0] - x[:, 1]
        with pytest.raises(ValueError, match="q: expected linearly independent features"):
            Given().kl_divergence(normal(100, 3), x)

    @pytest.mark.parametrize("spoil", [torch.relu, torch.round])
    def test_atoms(self, spoil):
        with pytest.raises(ValueError, match=r"continuous variable.*Dequantise"):
            Given().entropy(spoil(normal(500, 3)))

    def test_integers(self):
        with pytest.raises(TypeError, match="floating-point"):
            Given().entropy(torch.arange(100))

    def test_not_finite(self):
        x = normal(100, 2)
        x[3, 1] = math.nan
        with pytest.raises(ValueError, match="1 NaN"):
            Given().entropy(x)

    def test_maps_that_give_no_numbers(self):
        broken = Pointwise(lambda x: x / 0, torch.zeros_like)
        with pytest.raises(FloatingPointError, match="the fit diverged"):
            Given(map=broken).entropy(normal(100, 2))

    def test_measures_and_their_arguments(self):
        with pytest.raises(ValueError, match=r"measure: expected one of 'entropy'.*got 'mass'"):
            Given().report("mass", normal(100, 2))
        with pytest.raises(TypeError, match="expected the arguments x, y of 'mutual_information'"):
            Given().report("mutual_information", normal(100, 2))
        with pytest.raises(ValueError, match="p has d=2, q has d=3"):
            Given().kl_divergence(normal(100, 2), normal(100, 3))
        with pytest.raises(ValueError, match="x has 100, y has 90"):
            Given().mutual_information(normal(100, 2), normal(90, 2))

    def test_settings(self):
        with pytest.raises(ValueError, match="folds: expected an integer at least 2, got 1"):
            Given(folds=1)
        with pytest.raises(TypeError, match="residual: expected an estimator"):
            Given(residual=ip.KNN)
        with pytest.raises(TypeError, match="residual: expected an estimator"):
            Given(residual=3)

    def test_a_residual_that_cannot_measure_it(self):
        class Entropies:
            def entropy(self, x):
                return ip.KNN().entropy(x)

        estimator = Given(residual=Entropies())
        assert math.isfinite(estimator.entropy(normal(200, 2)))
        with pytest.raises(TypeError, match=r"residual: expected .* mutual_information"):
            estimator.mutual_information(normal(200, 2), normal(200, 2))
        with pytest.raises(TypeError, match=r"residual: expected .* cross_entropy"):
            estimator.kl_divergence(normal(200, 2), normal(200, 2))


def banana(n, d, seed=0):
    x = normal(n, d, seed=seed)
    x[:, 1::2] += x[:, : d - 1 : 2] ** 2
    return x


def laplace(n, d, seed=0):
    x = normal(n, 3 * d, seed=seed)
    return x[:, :d] * (x[:, d : 2 * d].square() + x[:, 2 * d :].square()).sqrt()


QUICK = [ip.Gaussianization(), ip.Flow(hidden=32, steps=150)]


@pytest.mark.parametrize("estimator", QUICK, ids=["Gaussianization", "Flow"])
class TestFittedMaps:
    @pytest.mark.parametrize(
        ("make", "truth"),
        [
            (normal, math.log(2 * math.pi * math.e) / 2),
            (laplace, 1 + math.log(2)),
            (banana, math.log(2 * math.pi * math.e) / 2),
        ],
    )
    def test_entropy_and_its_bound(self, estimator, make, truth):
        x = make(4000, 4)
        carried = estimator.report("entropy", x).transported["x"]
        bound, stderr = map(float, carried.bound)
        assert bound > 4 * truth - 3 * stderr
        assert bound < 4 * truth + 0.4
        assert float(carried.entropy) == pytest.approx(4 * truth, abs=0.4)
        assert float(estimator.upper_bound(x).value) == bound

    def test_better_than_neighbours_alone(self, estimator):
        x = banana(4000, 10)
        truth = 5 * math.log(2 * math.pi * math.e)
        alone = float(ip.KNN(calibration="gaussian").entropy(x)) - truth
        assert alone > 0.8
        assert abs(float(estimator.entropy(x)) - truth) < 0.6 * alone

    def test_information_does_not_depend_on_the_coordinates(self, estimator):
        x, noise = normal(3000, 3), normal(3000, 3, seed=1)
        y = 0.6 * x + 0.8 * noise
        plain = float(estimator.mutual_information(x, y))
        bent = float(estimator.mutual_information(x**3, y.sinh()))
        assert plain == pytest.approx(-1.5 * math.log(0.64), abs=0.1)
        assert bent == pytest.approx(plain, abs=0.1)

    def test_divergence(self, estimator):
        p, q = laplace(3000, 3), 1.5 * laplace(3000, 3, seed=1)
        truth = 3 * (math.log(1.5) + 1 / 1.5 - 1)
        assert float(estimator.kl_divergence(p, q)) == pytest.approx(truth, abs=0.12)
        assert float(estimator.kl_divergence(p, laplace(3000, 3, seed=2))) < 0.1

    def test_total_correlation(self, estimator):
        x = normal(3000, 3)
        x[:, 1] = 0.6 * x[:, 0] + 0.8 * x[:, 1]
        value = float(estimator.total_correlation(x**3))
        assert value == pytest.approx(-math.log(0.64) / 2, abs=0.1)

    def test_maps_are_what_the_library_takes_for_bijections(self, estimator):
        x = banana(1000, 3)
        carried = estimator.report("entropy", x).transported["x"]
        for fitted in carried.maps:
            assert ip.check_invertible(fitted, x[:100]).ok

    def test_any_order_and_any_seed_give_about_the_same(self, estimator):
        x = banana(3000, 4)
        order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
        values = [estimator.entropy(x), estimator.entropy(x[order])]
        values.append(replace(estimator, seed=7).entropy(x))
        assert max(values) - min(values) < 0.1
        assert estimator.entropy(x) == values[0]

    def test_in_a_probe(self, estimator):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.ReLU())
        x = normal(1500, 4).float()
        with ip.probe(model, measures=[ip.Entropy(estimator)]) as probe, torch.no_grad():
            for batch in x.split(500):
                model(batch)
        linear, tanh, relu = probe.report().rows
        exact = ip.entropy_change(model[0], x).value + 2 * math.log(2 * math.pi * math.e)
        assert linear["value"] == pytest.approx(float(exact), abs=0.3)
        change = ip.entropy_change(lambda x: torch.tanh(x), model[0](x).detach())
        assert tanh["value"] - linear["value"] == pytest.approx(float(change.value), abs=0.3)
        assert relu["value"] is None
        assert "Dequantise" in relu["findings"][0]


def test_the_identity_holds_for_a_random_flow_of_freia():
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    torch.manual_seed(3)
    inn = ff.SequenceINN(4)
    for _ in range(3):
        subnet = lambda i, o: nn.Sequential(nn.Linear(i, 16), nn.Tanh(), nn.Linear(16, o))  # noqa: E731
        inn.append(fm.RNVPCouplingBlock, subnet_constructor=subnet)
    inn.double()
    x = normal(120, 4)
    bound = Given(map=inn).upper_bound(x).value
    z = inn(x)[0].detach()
    change = ip.entropy_change(lambda x: inn(x)[0], x).value  # by autograd
    exact = (z.square().sum(1) / 2).mean() + 2 * math.log(2 * math.pi) - change
    assert float(bound) == pytest.approx(float(exact), abs=1e-6)
