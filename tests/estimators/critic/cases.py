"""Critics that train fast, and Gaussian pairs whose information is known."""

import math

import torch

from infoprobe.estimators.critic.critic import Critic
from tests.estimators.samples import generator

NAMES = ["infonce", "dv", "nwj", "jsd", "smile"]


def quick(bound="infonce", **settings):
    defaults = {"hidden": 64, "steps": 500, "batch": 128, "learning_rate": 1e-3, "patience": 150}
    return Critic(bound, **{**defaults, **settings})


def gaussians(n, d, rho, dtype=torch.float32):
    """Pairs of standard normal vectors, of which equal coordinates have a correlation."""
    x, noise = torch.randn(2, n, d, generator=generator(), dtype=dtype)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def gaussian_information(d, rho):
    return -d / 2 * math.log(1 - rho**2)
