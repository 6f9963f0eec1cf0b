"""What the examples in docstrings and all tests may use."""

import os

import matplotlib
import pytest
import torch
from hypothesis import HealthCheck, settings

import infoprobe

matplotlib.use("Agg")
os.environ.pop("COLUMNS", None)  # tables in docstrings are as wide as they are
# A busy machine is slow, and no test is timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _seeded(doctest_namespace):
    doctest_namespace.update(torch=torch, ip=infoprobe)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
