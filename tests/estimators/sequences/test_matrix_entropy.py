"""The matrix-based entropy of tokens, against closed forms and singular values."""

import math

import pytest
import torch

from infoprobe.estimators.sequences.matrix_entropy import entropy_of_samples, matrix_entropies
from infoprobe.estimators.sequences.outcomes import Outcome
from tests.textbook_sequences import textbook_matrix_entropy

ORDERS = [0.5, 1.0, 1.01, 2.0, 3.0]


def entropies(x, alpha=1.0, mask=None):
    found = matrix_entropies(x, mask, alpha)
    assert found.kinds.eq(Outcome.USED).all()
    return found.values


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("shape", [(3, 7, 4), (3, 4, 7), (2, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_that_of_the_singular_values(alpha, shape, dtype):
    x = torch.randn(shape).to(dtype)
    truth = [textbook_matrix_entropy(tokens.double().numpy(), alpha) for tokens in x]
    assert entropies(x, alpha).tolist() == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize("alpha", ORDERS)
def test_one_hot_tokens_have_ln_n_and_repeated_ones_0(alpha):
    one_hot = torch.eye(6, 9).unsqueeze(0)
    assert entropies(one_hot, alpha).item() == pytest.approx(math.log(6), abs=1e-12)
    repeated = torch.randn(2, 1, 5).expand(2, 8, 5)
    assert entropies(repeated, alpha).tolist() == pytest.approx([0, 0], abs=1e-6)
    if alpha >= 1:
        assert entropies(repeated, alpha).tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_orthogonal_tokens_of_rank_r_have_ln_r(rank):
    directions = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q[:rank]
    tokens = directions.repeat(4, 1).unsqueeze(0) * -3.0
    assert entropies(tokens).item() == pytest.approx(math.log(rank), abs=1e-12)


def test_scale_and_rotation_change_nothing_and_a_stretch_does():
    x = torch.randn(3, 10, 6, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert entropies(1e-30 * x @ rotation).tolist() == pytest.approx(entropies(x).tolist())
    stretch = torch.tensor([100.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert (entropies(x * stretch) < entropies(x) / 2).all()


def test_isotropic_tokens_approach_ln_d():
    assert entropies(torch.randn(1, 20000, 8)).item() == pytest.approx(math.log(8), abs=1e-3)


@pytest.mark.parametrize("fill", [0.0, 7.0, math.nan, math.inf])
@pytest.mark.parametrize("alpha", ORDERS)
def test_padding_changes_nothing(fill, alpha):
    x, mask = torch.randn(4, 9, 5), torch.rand(4, 9) < 0.6
    mask[:, :2] = True
    alone = [entropies(row[m].unsqueeze(0), alpha).item() for row, m in zip(x, mask, strict=True)]
    padded = x.masked_fill(~mask.unsqueeze(-1), fill)
    assert entropies(padded, alpha, mask).tolist() == pytest.approx(alone, abs=1e-9)


def test_prompts_without_an_entropy_are_told_apart():
    x = torch.randn(5, 4, 3)
    x[1] = 0.0
    x[2, 3, 1] = math.nan
    x[4, 0, 0] = math.inf
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[3, 1:] = False
    found = matrix_entropies(x, mask, 1.0)
    kinds = [Outcome.USED, Outcome.EMPTY, Outcome.NOT_FINITE, Outcome.FEW, Outcome.NOT_FINITE]
    assert found.kinds.tolist() == kinds
    assert found.values[1:].eq(0).all()


def test_blocks_of_sequences_make_no_difference(monkeypatch):
    from infoprobe.estimators.sequences import outcomes

    x, mask = torch.randn(7, 6, 4), torch.rand(7, 6) < 0.8
    whole = matrix_entropies(x, mask, 1.0)
    monkeypatch.setattr(outcomes, "_BLOCK", 50)
    parts = matrix_entropies(x, mask, 1.0)
    assert torch.equal(parts.kinds, whole.kinds)
    assert torch.allclose(parts.values, whole.values, atol=1e-14)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize(("shape", "within"), [((400, 5), 0.05), ((30, 60), 1.0)])
def test_the_entropy_of_samples_and_its_error_are_those_of_the_jackknife(alpha, shape, within):
    x = torch.randn(shape, dtype=torch.float64) * torch.linspace(0.2, 2, shape[1])
    value, stderr = entropy_of_samples(x, alpha)
    assert value.item() == pytest.approx(textbook_matrix_entropy(x.numpy(), alpha), abs=1e-10)
    n = len(x)
    without = torch.tensor(
        [textbook_matrix_entropy(torch.cat([x[:i], x[i + 1 :]]).numpy(), alpha) for i in range(n)]
    )
    jackknife = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt().item()
    # With fewer samples than units, it is on the safe side.
    assert jackknife * 0.95 < stderr.item() < jackknife * (1 + within)
