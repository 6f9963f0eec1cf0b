"""Samples that tests of estimators draw, float64 on the CPU."""

import torch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def uniform(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=generator(seed))


def laplace(*shape, seed=0):
    u = uniform(*shape, seed=seed) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())
