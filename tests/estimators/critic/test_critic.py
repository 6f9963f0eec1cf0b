import math

import pytest
import torch
from torch import nn

from infoprobe.estimators.critic.critic import Critic
from tests.estimators.critic.cases import NAMES, gaussian_information, gaussians, quick
from tests.estimators.samples import generator


class TestClosedForms:
    def test_by_default(self):
        x, y = gaussians(10_000, 10, 0.6)
        value = Critic().mutual_information(x, y).item()
        truth = gaussian_information(10, 0.6)  # 2.231; the best critic reads 2.165 off these
        assert truth - 0.25 < value < truth + 0.05

    @pytest.mark.parametrize("bound", NAMES)
    def test_correlated_gaussians(self, bound):
        x, y = gaussians(4000, 3, 0.7)
        value = quick(bound).mutual_information(x, y).item()
        truth = gaussian_information(3, 0.7)  # 1.010
        assert truth - 0.2 < value < truth + 0.08

    @pytest.mark.parametrize("bound", ["infonce", "jsd"])
    def test_a_concatenated_critic(self, bound):
        x, y = gaussians(4000, 2, 0.8)
        critic = quick(bound, critic="concatenated", hidden=32, batch=64, learning_rate=2e-3)
        truth = gaussian_information(2, 0.8)  # 1.022
        assert truth - 0.2 < critic.mutual_information(x, y).item() < truth + 0.08

    @pytest.mark.parametrize("bound", NAMES)
    def test_independent_variables(self, bound):
        x, y = gaussians(1000, 10, 0.0)
        assert quick(bound).mutual_information(x, y).item() == pytest.approx(0, abs=0.02)

    def test_a_label(self):
        label = torch.randint(4, (2000,), generator=generator())
        x = 5 * torch.eye(4)[label] + torch.randn(2000, 4, generator=generator(1))
        y = nn.functional.one_hot(label)
        assert quick().mutual_information(x, y).item() == pytest.approx(math.log(4), abs=0.06)

    def test_a_ceiling(self):
        x, _ = gaussians(2000, 4, 0.0)
        critic = quick(steps=300)
        assert critic.ceiling(2000) == math.log(400)
        assert 0.85 * math.log(400) < critic.mutual_information(x, x).item() < math.log(400)

    @pytest.mark.parametrize("bound", ["dv", "nwj"])
    def test_divergence_of_gaussians(self, bound):
        # KL(N(m, 1) || N(0, 1)) = d m**2 / 2
        p, q = torch.randn(2, 6000, 5, generator=generator())
        value = quick(bound).kl_divergence(p + 0.5, q[:5000]).item()
        assert 5 * 0.125 - 0.12 < value < 5 * 0.125 + 0.05
        assert quick(bound).kl_divergence(p, q).item() == pytest.approx(0, abs=0.02)

    def test_divergence_has_a_direction(self):
        p, q = torch.randn(2, 6000, 5, generator=generator())
        p = 1.5 * p
        forward = quick("nwj").kl_divergence(p, q).item()
        backward = quick("nwj").kl_divergence(q, p).item()
        assert 0.75 < forward < 5 / 2 * (1.25 - math.log(2.25)) + 0.05  # 1.098
        assert 0.55 < backward < 5 / 2 * (math.log(2.25) - 5 / 9) + 0.05  # 0.638

    def test_divergences_beyond_reach(self):
        # Its truth is 40; no sample of one is near the other.
        p, q = torch.randn(2, 1000, 5, generator=generator())
        value = quick("nwj", learning_rate=2e-3).kl_divergence(p + 4, q).item()
        assert 0.6 * math.log(200) < value < 1 + math.log(200)

    def test_dv_is_at_least_nwj(self):
        # The same critic, by the same training.
        x, y = gaussians(1000, 3, 0.7)
        dv, nwj = (quick(b, steps=200).mutual_information(x, y) for b in ("dv", "nwj"))
        assert nwj < dv < nwj + 0.05


class TestTraining:
    def test_it_stops_early(self, bars):
        x, y = gaussians(500, 3, 0.0)
        quick(progress=True, patience=100).mutual_information(x, y)
        quick(progress=True, patience=120).mutual_information(x, y)
        quick(progress=True, patience=100, steps=30).mutual_information(x, y)
        # Nothing is better than the critic at the start; every 50 steps there is a look.
        assert [bar.steps for bar in bars] == [100, 150, 30]
        assert [bar.total for bar in bars] == [500, 500, 30]
        assert all(bar.closed for bar in bars)
        assert bars[0].name == "Critic('infonce')"
        assert bars[0].postfix["best"] == "0.0000"

    def test_and_keeps_the_best_weights(self, bars):
        x, y = gaussians(500, 5, 0.7)
        value = quick(progress=True, patience=200, steps=3000).mutual_information(x, y)
        best = bars[0].steps - 200
        assert 0 < best < 2800
        assert quick(steps=best).mutual_information(x, y) == value
        assert quick(steps=best + 50).mutual_information(x, y) == value
        assert quick(steps=best - 50).mutual_information(x, y) != value

    def test_a_bar_is_closed_when_training_diverges(self, bars):
        with pytest.raises(FloatingPointError):
            quick(progress=True, learning_rate=1e10).mutual_information(*gaussians(100, 2, 0.5))
        assert bars[0].closed

    def test_a_seed(self):
        x, y = gaussians(300, 2, 0.7)
        for method in (Critic.mutual_information, Critic.kl_divergence):
            values = []
            for seed in (0, 0, 1):
                torch.rand(1)  # of no consequence
                values.append(method(quick("dv", seed=seed, steps=60), x + 1, y))
            assert values[0] == values[1]
            assert values[0] != values[2]


class TestGuestManners:
    def test_result(self, device):
        x, y = (t.to(device) for t in gaussians(300, 2, 0.7))
        for value in (
            quick(steps=50).mutual_information(x, y.cpu()),
            quick("nwj", steps=50).kl_divergence(x, y.cpu()),
        ):
            assert value.shape == ()
            assert value.dtype == torch.float64
            assert value.device == x.device
            assert not value.requires_grad

    def test_devices_agree(self, device):
        x, y = (t.to(device) for t in gaussians(1000, 3, 0.7))
        value = quick(steps=200).mutual_information(x, y).item()
        expected = quick(steps=200).mutual_information(x.cpu(), y.cpu()).item()
        assert value == pytest.approx(expected, abs=0.02)
        assert expected > 0.7

    def test_no_random_number_is_drawn(self, device):
        def states():
            return torch.cat([torch.random.get_rng_state(), *torch.cuda.get_rng_state_all()])

        x, y = (t.to(device) for t in gaussians(300, 2, 0.7))
        before = states()
        quick(steps=50).mutual_information(x, y)
        quick(critic="concatenated", steps=3, hidden=8).mutual_information(x, y)
        quick("dv", steps=50).kl_divergence(x, y)
        assert torch.equal(states(), before)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_callers_without_gradients(self, mode):
        x, y = gaussians(300, 2, 0.7)
        expected = quick(steps=100).mutual_information(x, y)
        divergence = quick("nwj", steps=100).kl_divergence(x + 1, y)
        assert expected > 0
        with mode():
            x, y = x.clone(), y.clone()  # inference tensors
            assert quick(steps=100).mutual_information(x, y) == expected
            assert quick("nwj", steps=100).kl_divergence(x + 1, y) == divergence
        assert quick(steps=100).mutual_information(x, y) == expected

    def test_callers_in_another_precision(self):
        x, y = gaussians(300, 2, 0.7)
        expected = quick(steps=100).mutual_information(x, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert quick(steps=100).mutual_information(x, y) == expected
        torch.set_default_dtype(torch.float64)
        try:
            assert quick(steps=100).mutual_information(x, y) == expected
        finally:
            torch.set_default_dtype(torch.float32)

    def test_the_arguments_are_left_as_they_were(self):
        x, y = (t.requires_grad_() for t in gaussians(300, 2, 0.7))
        before, versions = (x.detach().clone(), y.detach().clone()), (x._version, y._version)
        quick(steps=50).mutual_information(x, y)
        assert torch.equal(x, before[0])
        assert torch.equal(y, before[1])
        assert (x._version, y._version) == versions
        assert x.grad is None
        assert y.grad is None

    def test_numbers_of_other_kinds(self):
        x = torch.randint(5, (300, 2, 2), generator=generator())
        y = x.flatten(1) + torch.randint(3, (300, 4), generator=generator(1))
        value = quick(steps=100).mutual_information(x, y)
        assert value > 0
        assert quick(steps=100).mutual_information(x.double(), y.numpy().astype(float)) == value


class TestGradients:
    @pytest.mark.parametrize("critic", ["separable", "concatenated"])
    @pytest.mark.parametrize("bound", ["infonce", "smile"])
    def test_equal_finite_differences(self, bound, critic):
        x, y = (t.requires_grad_() for t in gaussians(200, 2, 0.7, torch.float64))
        critic = quick(bound, critic=critic, steps=100, hidden=16, learning_rate=3e-3, clip=1)
        critic.mutual_information(x, y).backward()
        held_out = x.grad.ne(0).any(1)
        # The critic depends on no held-out sample, so that there this is the whole derivative.
        assert held_out.sum() == 40
        assert torch.equal(held_out, y.grad.ne(0).any(1))
        size = 1e-3 * (0.5 + torch.rand(200, 2, generator=generator(), dtype=torch.float64))
        for t, side in ((x, 0), (y, 1)):
            step = size * t.grad.sign()
            pairs = [(x + s, y) if side == 0 else (x, y + s) for s in (step, -step)]
            forward, backward = (critic.mutual_information(*pair).item() for pair in pairs)
            expected = (t.grad * step).sum().item()
            assert (forward - backward) / 2 == pytest.approx(expected, rel=0.01)

    def test_of_a_divergence(self):
        p, q = (t.requires_grad_() for t in gaussians(200, 2, 0.0, torch.float64))
        critic = quick("dv", steps=100, hidden=16, learning_rate=3e-3)
        critic.kl_divergence(p + 1, q[:150]).backward()
        assert p.grad.ne(0).any(1).sum() == 40
        assert q.grad.ne(0).any(1).sum() == 30
        step = 1e-3 * p.grad / p.grad.norm()
        forward, backward = (critic.kl_divergence(p + 1 + s, q[:150]) for s in (step, -step))
        difference = (forward - backward).item() / 2
        assert difference == pytest.approx(1e-3 * p.grad.norm().item(), rel=0.01)


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"bound": "mine"}, ValueError, "bound: expected one of 'infonce', 'dv', 'nwj'"),
            ({"critic": "bilinear"}, ValueError, "critic: expected one of 'separable', 'concat"),
            ({"hidden": 0}, ValueError, "hidden: expected an integer at least 1, got 0"),
            ({"embedding": 2.5}, TypeError, "embedding: expected an integer, got 2.5"),
            ({"steps": 0}, ValueError, "steps: expected an integer at least 1, got 0"),
            ({"patience": 0}, ValueError, "patience: expected an integer at least 1, got 0"),
            ({"batch": 1}, ValueError, "batch: expected an integer at least 2, got 1"),
            ({"seed": -1}, ValueError, "seed: expected an integer between 0 and"),
            ({"seed": 2**64}, ValueError, "seed: expected an integer between 0 and"),
            ({"learning_rate": 0}, ValueError, "learning_rate: expected a number above 0, got 0"),
            ({"learning_rate": "1"}, TypeError, "learning_rate: expected a number, got '1'"),
            ({"clip": -1}, ValueError, "clip: expected a finite number >= 0, got -1"),
            ({"validation": 0.0}, ValueError, "validation: expected a number above 0, got 0"),
            ({"held_out": 0.9}, ValueError, r"validation, held_out: .* got 0\.1 \+ 0\.9"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            Critic(**settings)

    def test_too_few_samples(self):
        x, y = gaussians(30, 2, 0.5)
        message = "expected at least 30 samples with validation=0.1 and held_out=0.2, got 29"
        with pytest.raises(ValueError, match=f"x, y: {message}"):
            quick().mutual_information(x[1:], y[1:])
        with pytest.raises(ValueError, match=f"q: {message}"):
            quick("dv").kl_divergence(x, y[1:])
        with pytest.raises(ValueError, match=f"p: {message}"):
            quick("dv").kl_divergence(x[1:], y)
        with pytest.raises(ValueError, match=f"n: {message}"):
            quick().ceiling(29)
        assert math.isfinite(quick(steps=10).mutual_information(x, y))
        assert quick().ceiling(30) == math.log(6)
        with pytest.raises(ValueError, match="expected at least 300 samples"):
            quick(validation=0.01).ceiling(299)

    def test_ceilings(self):
        assert quick("dv").ceiling(1000) == quick("smile").ceiling(1000) == math.inf
        for bound in ("nwj", "jsd"):
            assert quick(bound).ceiling(1000) == pytest.approx(1 + math.log(200 * 199))
        with pytest.raises(TypeError, match=r"n: expected an integer, got 1000\.0"):
            quick().ceiling(1000.0)

    def test_samples_that_are_not_pairs(self):
        with pytest.raises(ValueError, match=r"x, y: .*as many samples.*x has 50, y has 40"):
            quick().mutual_information(torch.rand(50, 2), torch.rand(40, 2))

    def test_samples_of_different_spaces(self):
        with pytest.raises(ValueError, match=r"p, q: .*p has d=2, q has d=3"):
            quick("nwj").kl_divergence(torch.rand(50, 2), torch.rand(50, 3))

    @pytest.mark.parametrize("bound", ["infonce", "jsd", "smile"])
    def test_bounds_without_a_divergence(self, bound):
        with pytest.raises(ValueError, match=f"bound: expected 'dv' or 'nwj' .*got '{bound}'"):
            quick(bound).kl_divergence(torch.rand(50, 2), torch.rand(50, 2))

    def test_values_that_are_not_finite(self):
        x = torch.zeros(50, 2)
        x[3, 1] = math.nan
        with pytest.raises(ValueError, match="y: expected finite values, got 1 NaN"):
            quick().mutual_information(torch.zeros(50, 1), x)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_span_that_overflows(self, dtype):
        x = torch.rand(50, 2).to(dtype)
        x[::2], x[1::2] = torch.finfo(dtype).max, torch.finfo(dtype).min
        with pytest.raises(ValueError, match=rf"x: the values span .* overflows {dtype}"):
            quick().mutual_information(x, torch.rand(50, 2))
        with pytest.raises(ValueError, match="p, q: the values span"):
            quick("dv").kl_divergence(torch.rand(50, 2), x)

    @pytest.mark.parametrize("bound", ["infonce", "dv"])
    def test_training_that_diverges(self, bound):
        message = rf"bound '{bound}' became nan in validation at step 50: .*lower learning_rate"
        with pytest.raises(FloatingPointError, match=message):
            quick(bound, learning_rate=1e10).mutual_information(*gaussians(100, 2, 0.5))
