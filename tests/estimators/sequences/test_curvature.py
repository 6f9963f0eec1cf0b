"""The curvature of token paths, against closed forms and angle by angle."""

import math

import pytest
import torch

from infoprobe.estimators.sequences.curvature import curvatures
from infoprobe.estimators.sequences.outcomes import Outcome
from tests.textbook_sequences import textbook_curvature


def angles(x, mask=None):
    found = curvatures(x, mask)
    assert found.kinds.eq(Outcome.USED).all()
    return found.values


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_the_mean_of_all_angles(dtype):
    x = torch.randn(4, 9, 3).to(dtype)
    truth = [textbook_curvature(tokens.double().numpy()) for tokens in x]
    assert angles(x).tolist() == pytest.approx(truth, abs=1e-12)


def test_straight_paths_have_0_zigzags_pi_and_circles_their_angle():
    line = torch.arange(6.0, dtype=torch.float64).unsqueeze(1) * torch.randn(3).double()
    zigzag = torch.tensor([0.0, 1, 0, 1, 0, 1], dtype=torch.float64).unsqueeze(1).repeat(1, 3)
    turns = torch.arange(6, dtype=torch.float64) * 0.3
    circle = torch.stack([turns.cos(), turns.sin(), 0 * turns], 1)
    found = angles(torch.stack([line, zigzag, circle])).tolist()
    assert found == pytest.approx([0, math.pi, 0.3], abs=1e-7)


def test_independent_tokens_in_many_dimensions_turn_by_120_degrees():
    assert angles(torch.randn(1, 200, 5000)).item() == pytest.approx(2 * math.pi / 3, abs=0.01)


@pytest.mark.parametrize("fill", [0.0, 7.0, math.nan])
def test_padding_on_any_side_changes_nothing(fill):
    x, mask = torch.randn(5, 10, 3), torch.rand(5, 10) < 0.5
    mask[:, 2:5] = True
    alone = [angles(row[m].unsqueeze(0)).item() for row, m in zip(x, mask, strict=True)]
    padded = x.masked_fill(~mask.unsqueeze(-1), fill)
    assert angles(padded, mask).tolist() == pytest.approx(alone, abs=1e-12)


def test_equal_successive_tokens_have_no_angle_and_others_count():
    a, b, c, d = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]).unbind()
    with_a_rest = torch.stack([a, b, b, c, d])  # one angle of 90 degrees is left, at c
    assert angles(with_a_rest.unsqueeze(0)).item() == pytest.approx(math.pi / 2)


def test_paths_without_a_curvature_are_told_apart():
    x = torch.randn(5, 4, 3)
    x[1] = x[1, 0]
    x[2, 0, 0] = math.nan
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[3, 2:] = False
    mask[4] = False
    kinds = [Outcome.USED, Outcome.EMPTY, Outcome.NOT_FINITE, Outcome.FEW, Outcome.FEW]
    assert curvatures(x, mask).kinds.tolist() == kinds
    assert curvatures(torch.randn(2, 2, 3), None).kinds.tolist() == [Outcome.FEW] * 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_steps_of_rounding_have_no_angle(dtype):
    x, eps = torch.randn(1, 1, 4, dtype=dtype), torch.finfo(dtype).eps
    sign = torch.randn(2, 9, 4).sign().to(dtype)
    assert (curvatures(x * (1 + eps * sign / 2), None).kinds == Outcome.EMPTY).all()
    assert (curvatures(x * (1 + 100 * eps * sign), None).kinds == Outcome.USED).all()
