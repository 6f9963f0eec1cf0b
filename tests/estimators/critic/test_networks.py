import pytest
import torch
from torch import nn

from infoprobe.estimators.critic import networks
from infoprobe.estimators.critic.bounds import BOUNDS, smile
from tests.estimators.critic.cases import gaussians


def pair_critic(*, separable):
    return networks.pair_critic(3, 3, separable=separable, hidden=64, embedding=32, cap=9.0)


class TestBlocks:
    @pytest.mark.parametrize("kind", ["separable", "concatenated"])
    @pytest.mark.parametrize("bound", ["infonce", "nwj", "smile"])
    def test_give_what_the_whole_matrix_gives(self, kind, bound, monkeypatch):
        x, y = gaussians(50, 3, 0.9)
        x.requires_grad_()
        critic = pair_critic(separable=kind == "separable")
        for parameter in critic.parameters():
            nn.init.normal_(parameter, std=0.3)
        bound = smile(1.0) if bound == "smile" else BOUNDS[bound]
        results = []
        for block in (1 << 22, 50 * 64 * 7):  # all rows at once, and 7 of 50 (or 448)
            monkeypatch.setattr(networks, "_BLOCK", block // (1 if kind == "concatenated" else 64))
            value = critic(bound, x, y)
            results.append((value, torch.autograd.grad(value, x)[0]))
        assert results[0][0].item() != 0
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)

    def test_hold_each_row_once(self, monkeypatch):
        x, y = gaussians(50, 3, 0.9)
        critic = pair_critic(separable=True)
        sizes = []
        rows = critic._rows
        monkeypatch.setattr(networks, "_BLOCK", 50 * 7)
        monkeypatch.setattr(
            critic, "_rows", lambda b, u, *r: sizes.append(len(u)) or rows(b, u, *r)
        )
        critic(BOUNDS["dv"], x, y)
        assert sizes == [7] * 7 + [1]

    def test_a_concatenated_critic_is_a_network_of_the_pair(self):
        x, y = gaussians(4, 3, 0.5)
        critic = pair_critic(separable=False)
        nn.init.normal_(critic.score.rest[1][-1].weight)
        scores = critic.score(critic.encode_x(x), critic.encode_y(y))
        first = nn.Linear(6, 64)
        first.weight.data = torch.cat([critic.encode_x.weight, critic.encode_y.weight], 1).detach()
        first.bias.data = (critic.encode_x.bias + critic.encode_y.bias).detach()
        for i in range(4):
            for j in range(4):
                expected = critic.score.rest(first(torch.cat([x[i], y[j]])))
                assert scores[i, j].item() == pytest.approx(expected.item(), abs=1e-5)
