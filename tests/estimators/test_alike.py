"""Samples that are the same up to rounding."""

import math

import pytest
import torch

from infoprobe.estimators.alike import entropy_of_kinds, kinds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_kinds_are_the_different_samples(dtype, scale):
    different = torch.randn(7, 5, dtype=dtype)
    owners = torch.cat([torch.arange(7), torch.randint(7, (50,))])
    rounded = 1 + 2 * torch.finfo(dtype).eps * torch.randn(57, 5, dtype=dtype)
    found = kinds(scale * different[owners] * rounded)
    assert torch.equal(found[:, None] == found, owners[:, None] == owners)
    assert sorted(set(found.tolist())) == list(range(7))


def test_what_rounding_cannot_explain_is_different():
    x = torch.randn(1, 5, dtype=torch.float64) * (1 + 1e-8 * torch.arange(40.0).double()[:, None])
    assert len(set(kinds(x).tolist())) == 40
    assert len(set(kinds(x.float()).tolist())) == 1


def test_neighbours_in_half_precision_are_different():
    x = torch.arange(128.0, 256.0).bfloat16().unsqueeze(1)
    assert len(set(kinds(torch.cat([x, x])).tolist())) == 128


def test_their_entropy():
    assert entropy_of_kinds(torch.arange(12)) == math.log(12)
    assert entropy_of_kinds(torch.zeros(12, dtype=torch.int64)) == pytest.approx(0, abs=1e-15)
    truth = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert entropy_of_kinds(torch.tensor([0, 1, 0, 0])) == pytest.approx(truth)
