"""What the examples in docstrings and all tests may use."""

import matplotlib
import pytest
import torch

import infoprobe

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _seeded(doctest_namespace):
    doctest_namespace.update(torch=torch, ip=infoprobe)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
