import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators import critic as module
from infoprobe.estimators.critic import Critic

BOUNDS = ["infonce", "dv", "nwj", "jsd", "smile"]
QUICK = {"steps": 300, "hidden": 64}


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def correlated(n, d, rho, seed=0):
    x = normal(n, d, seed)
    return x, rho * x + math.sqrt(1 - rho**2) * normal(n, d, seed + 1)


class TestBounds:
    """The formulas, on a small table of scores."""

    joint = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    product = torch.tensor([[0.1, 0.7], [-0.3, 1.1], [0.0, -2.0]], dtype=torch.float64)

    def bound(self, bound, product):
        return bound.value(self.joint, bound.rows(product)).item()

    def test_infonce(self):
        scores = torch.cat([self.joint.unsqueeze(1), self.product], 1)
        expected = sum(
            own - math.log(sum(math.exp(s) for s in row) / 3)
            for own, row in zip(self.joint.tolist(), scores.tolist(), strict=True)
        )
        assert self.bound(module._BOUNDS["infonce"], scores) == pytest.approx(expected / 3)

    def test_the_others(self):
        scores = self.product.flatten().tolist()
        joint = self.joint.tolist()
        mean = sum(joint) / 3
        ratio = sum(map(math.exp, scores)) / 6
        assert self.bound(module._BOUNDS["dv"], self.product) == pytest.approx(
            mean - math.log(ratio)
        )
        nwj = sum(1 + f for f in joint) / 3 - sum(math.exp(1 + f - 1) for f in scores) / 6
        assert self.bound(module._BOUNDS["nwj"], self.product) == pytest.approx(nwj)
        jensen_shannon = -sum(math.log1p(math.exp(-f)) for f in joint) / 3
        jensen_shannon -= sum(math.log1p(math.exp(f)) for f in scores) / 6
        assert self.bound(module._JENSEN_SHANNON, self.product) == pytest.approx(jensen_shannon)
        clipped = sum(min(max(math.exp(f), math.exp(-1)), math.exp(1)) for f in scores) / 6
        assert self.bound(module._smile(1.0), self.product) == pytest.approx(
            mean - math.log(clipped)
        )

    @pytest.mark.parametrize("name", ["infonce", "dv", "nwj"])
    def test_the_density_ratio_attains_them(self, name):
        rho, n = 0.7, 3000
        x, y = (z.double().squeeze(1) for z in correlated(n, 1, rho))
        a, b = x.unsqueeze(1), y.unsqueeze(0)
        ratio = -(rho**2 * (a**2 + b**2) - 2 * rho * a * b) / (2 * (1 - rho**2))
        ratio -= math.log(1 - rho**2) / 2
        bound = module._BOUNDS[name]
        rows = bound.rows(ratio if bound.own else module._without_partners(ratio, 0))
        value = bound.value(ratio.diagonal(), rows).item()
        assert value == pytest.approx(-math.log(1 - rho**2) / 2, abs=0.04)


class TestMutualInformation:
    truth = -2 * math.log(1 - 0.8**2)  # four coordinates

    @pytest.mark.parametrize("bound", BOUNDS)
    def test_gaussians(self, bound):
        x, y = correlated(4000, 4, 0.8)
        value = Critic(bound, steps=600, hidden=128).mutual_information(x, y)
        assert value.dtype == torch.float64
        assert value.dim() == 0
        assert 0.75 * self.truth < value < self.truth + 0.15

    def test_a_concatenated_critic(self):
        x, y = correlated(2000, 1, 0.9)
        critic = Critic(critic="concatenated", batch=64, **QUICK)
        truth = -math.log(1 - 0.81) / 2
        assert 0.7 * truth < critic.mutual_information(x, y) < truth + 0.15

    @pytest.mark.parametrize("bound", BOUNDS)
    def test_independent_variables(self, bound):
        value = Critic(bound, **QUICK).mutual_information(normal(1500, 3), normal(1500, 5, seed=1))
        assert abs(value) < 0.05

    def test_labels(self):
        labels = torch.arange(2000) % 4
        x = torch.nn.functional.one_hot(labels) + 0.1 * normal(2000, 4)
        value = Critic(**QUICK).mutual_information(x, torch.nn.functional.one_hot(labels))
        assert value == pytest.approx(math.log(4), abs=0.1)

    def test_the_ceiling_of_infonce(self):
        x = normal(400, 5)
        critic = Critic(held_out=0.1, **QUICK)
        assert critic.ceiling(400) == pytest.approx(math.log(40))
        assert Critic("dv").ceiling(400) == math.inf
        value = critic.mutual_information(x, x)
        assert 0.8 * math.log(40) < value <= math.log(40) + 1e-9

    def test_scale_and_constant_features_do_not_matter(self):
        x, y = correlated(1000, 2, 0.9)
        plain = Critic(**QUICK).mutual_information(x, y)
        scaled = Critic(**QUICK).mutual_information(1e6 * x + 1e7, 1e-9 * y)
        assert scaled == pytest.approx(plain.item(), abs=0.05)
        with_constant = torch.cat([x, torch.ones(1000, 1)], 1)
        assert Critic(**QUICK).mutual_information(with_constant, y).isfinite()


@pytest.mark.parametrize("bound", ["dv", "nwj"])
def test_kl_divergence(bound):
    p, q = normal(3000, 2), 1 + normal(2500, 2, seed=1)
    value = Critic(bound, steps=500, hidden=64).kl_divergence(p, q)
    assert 0.75 < value < 1.15  # 1


class TestGuest:
    def test_the_same_seed_gives_the_same_value_and_leaves_the_generator_alone(self):
        x, y = correlated(500, 2, 0.5)
        copies = x.clone(), y.clone()
        state = torch.random.get_rng_state()
        first, second = (Critic(steps=60).mutual_information(x, y) for _ in range(2))
        assert first == second
        assert torch.equal(state, torch.random.get_rng_state())
        assert Critic(steps=60, seed=1).mutual_information(x, y) != first
        assert torch.equal(x, copies[0])
        assert torch.equal(y, copies[1])

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_modes_of_the_caller(self, mode):
        x, y = correlated(500, 2, 0.9)
        expected = Critic(steps=60).mutual_information(x, y)
        with mode():
            value = Critic(steps=60).mutual_information(x.clone(), y.clone())
        assert value == expected

    def test_gradients_are_those_at_a_fixed_critic(self):
        x, y = (z.double() for z in correlated(300, 2, 0.9))
        x.requires_grad_()
        critic = Critic(steps=100, hidden=32)
        value = critic.mutual_information(x, y)
        (gradient,) = torch.autograd.grad(value, x)
        assert x.grad is None
        order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
        moved = gradient.abs().sum(1) > 0
        # Only the held-out samples count, and all of them do.
        assert set(moved.nonzero().squeeze(1).tolist()) == set(order[-60:].tolist())
        i = int(order[-1])
        for j in range(2):
            shifts = []
            for step in (-1e-2, 1e-2):
                shifted = x.detach().clone()
                shifted[i, j] += step
                shifts.append(critic.mutual_information(shifted, y))
            difference = (shifts[1] - shifts[0]) / 2e-2
            assert gradient[i, j].item() == pytest.approx(difference.item(), abs=2e-3, rel=0.1)

    def test_training_stops_early(self, monkeypatch):
        steps = []
        adam = torch.optim.Adam.step
        monkeypatch.setattr(
            torch.optim.Adam, "step", lambda self, *a: (steps.append(1), adam(self, *a))[1]
        )
        x, y = normal(300, 2), normal(300, 2, seed=1)
        Critic(steps=5000, patience=100, hidden=32).mutual_information(x, y)
        assert 100 <= len(steps) < 1500

    def test_on_a_device(self, device):
        x, y = correlated(500, 2, 0.9)
        value = Critic(steps=100).mutual_information(x.to(device), y)
        assert value.device.type == device

    def test_a_progress_bar(self, capsys):
        Critic(steps=50, progress=True).mutual_information(normal(100, 1), normal(100, 1, seed=1))
        assert "Critic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": "mine"}, "bound: expected one of 'infonce', 'dv'"),
        ({"critic": "linear"}, "critic: expected one of 'separable', 'concatenated'"),
        ({"steps": 0}, "steps: expected an integer at least 1"),
        ({"batch": 1}, "batch: expected an integer at least 2"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0"),
        ({"validation": 0.5, "held_out": 0.5}, "validation, held_out: expected shares"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Critic(**settings)


def test_errors():
    x, y = normal(200, 2), normal(200, 3)
    with pytest.raises(ValueError, match="x, y: expected at least 30 samples"):
        Critic().mutual_information(x[:20], y[:20])
    with pytest.raises(ValueError, match="x, y: expected as many samples"):
        Critic().mutual_information(x, y[:100])
    with pytest.raises(ValueError, match="p, q: expected samples from one space"):
        Critic("dv").kl_divergence(x, y)
    with pytest.raises(ValueError, match="bound: expected 'dv' or 'nwj'"):
        Critic().kl_divergence(x, x)
    with pytest.raises(ValueError, match="y: expected finite values"):
        Critic().mutual_information(x, y * math.nan)
    with pytest.raises(FloatingPointError, match="training diverged"):
        Critic("nwj", learning_rate=1e37, steps=200).mutual_information(x, x)


def test_it_is_public():
    assert ip.Critic is Critic
