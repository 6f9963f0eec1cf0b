import math

import pytest
import torch
from torch import nn

from infoprobe.estimators.critic import networks
from infoprobe.estimators.critic.bounds import BOUNDS, JENSEN_SHANNON, roles_of, smile
from tests.estimators.critic.cases import NAMES, gaussian_information, gaussians
from tests.estimators.samples import generator


def gaussian_log_ratio(x, y, rho):
    """ln p(x, y) / p(x) p(y) of all pairs of the above."""
    squares = x.square().sum(1).unsqueeze(1) + y.square().sum(1)
    exponent = (2 * rho * x @ y.T - rho**2 * squares) / (2 * (1 - rho**2))
    return exponent + gaussian_information(x.shape[1], rho)


def bound_of(bound, scores):
    """A bound of a square matrix of scores, those that belong together on its diagonal."""
    n = len(scores)
    others = scores if bound.own else scores[~torch.eye(n, dtype=torch.bool)].view(n, n - 1)
    return bound.value(scores.diagonal(), bound.rows(others)).item()


SCORES = 2 * torch.randn(6, 6, generator=generator(), dtype=torch.float64)


JOINT = [SCORES[i, i].item() for i in range(6)]


PRODUCT = [SCORES[i, j].item() for i in range(6) for j in range(6) if i != j]


class TestFormulas:
    """Against the textbook's sums, written out."""

    def test_donsker_varadhan(self):
        expected = sum(JOINT) / 6 - math.log(sum(math.exp(t) for t in PRODUCT) / 30)
        assert bound_of(BOUNDS["dv"], SCORES) == pytest.approx(expected)

    def test_nguyen_wainwright_jordan(self):
        joint, product = ([1 + f for f in scores] for scores in (JOINT, PRODUCT))
        expected = sum(joint) / 6 - sum(math.exp(t - 1) for t in product) / 30
        assert bound_of(BOUNDS["nwj"], SCORES) == pytest.approx(expected)

    def test_infonce(self):
        expected = 0.0
        for i in range(6):
            row = [math.exp(SCORES[i, j].item()) for j in range(6)]
            expected += (SCORES[i, i].item() - math.log(sum(row) / 6)) / 6
        assert bound_of(BOUNDS["infonce"], SCORES) == pytest.approx(expected)

    def test_jensen_shannon(self):
        def softplus(t):
            return math.log(1 + math.exp(t))

        expected = -sum(softplus(-t) for t in JOINT) / 6
        expected -= sum(softplus(t) for t in PRODUCT) / 30
        assert bound_of(JENSEN_SHANNON, SCORES) == pytest.approx(expected)

    def test_smile(self):
        low, high = math.exp(-1.5), math.exp(1.5)
        clipped = [min(max(math.exp(t), low), high) for t in PRODUCT]
        assert clipped != [math.exp(t) for t in PRODUCT]
        expected = sum(JOINT) / 6 - math.log(sum(clipped) / 30)
        assert bound_of(smile(1.5), SCORES) == pytest.approx(expected)

    def test_a_case_by_hand(self):
        # Partners score ln 3, the others 0.
        scores = math.log(3) * torch.eye(2, dtype=torch.float64)
        values = {name: bound_of(bound, scores) for name, bound in BOUNDS.items()}
        assert values == pytest.approx(
            {"infonce": math.log(3 / 2), "dv": math.log(3), "nwj": math.log(3)}
        )
        expected = -math.log(4 / 3) - math.log(2)
        assert bound_of(JENSEN_SHANNON, scores) == pytest.approx(expected)

    def test_of_single_samples(self):
        critic = networks.SampleCritic(nn.Flatten(), cap=100.0)
        p, q = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [-1.0], [0.5]])
        mean_exp = (1 + math.exp(-1) + math.exp(0.5)) / 3
        expected = {"dv": 1.5 - math.log(mean_exp), "nwj": 2.5 - mean_exp}
        for name, value in expected.items():
            assert critic(BOUNDS[name], p, q).item() == pytest.approx(value)

    @pytest.mark.parametrize("name", ["infonce", "dv", "nwj", "smile"])
    def test_the_log_density_ratio_gives_the_truth(self, name):
        x, y = gaussians(2000, 2, 0.6, torch.float64)
        scores = gaussian_log_ratio(x, y, 0.6)
        bound = smile(50.0) if name == "smile" else BOUNDS[name]
        truth = gaussian_information(2, 0.6)
        assert bound_of(bound, scores) == pytest.approx(truth, abs=0.03)

    @pytest.mark.parametrize("name", ["nwj", "jsd"])
    def test_which_is_where_training_leads(self, name):
        x, y = gaussians(2000, 2, 0.6, torch.float64)
        f = gaussian_log_ratio(x, y, 0.6)
        bound = roles_of(name, clip=5.0).objective
        best = bound_of(bound, f)
        for worse in (f + 0.3, f - 0.3, 1.3 * f, 0.7 * f):
            assert bound_of(bound, worse) < best - 0.003

    def test_dv_is_the_best_that_a_constant_makes_of_nwj(self):
        dv, nwj = BOUNDS["dv"], BOUNDS["nwj"]
        constants = torch.linspace(-5, 5, 2001, dtype=torch.float64)
        best = max(bound_of(nwj, SCORES + c) for c in constants)
        assert bound_of(dv, SCORES) == pytest.approx(best, abs=1e-4)

    def test_scores_stay_below_their_cap(self):
        scores = torch.tensor([-1e3, -5.0, 0.0, 9.0, 10.0, 1e3])
        capped = networks.capped(scores, 10.0)
        assert capped[:3].tolist() == pytest.approx([-1e3, -5.0, 0.0], abs=1e-4)
        assert capped[4].item() == pytest.approx(10 - math.log(2))
        assert (capped <= 10).all()
        assert (capped.diff() > 0).all()


def test_what_chooses_the_weights():
    # What is reported, but for the logarithm of a mean, and for what is no bound.
    criteria = {bound: roles_of(bound, clip=5.0).criterion for bound in NAMES}
    assert criteria["smile"] is JENSEN_SHANNON
    assert criteria["infonce"] is BOUNDS["infonce"]
    for bound in ("dv", "nwj", "jsd"):
        assert criteria[bound] is BOUNDS["nwj"]
