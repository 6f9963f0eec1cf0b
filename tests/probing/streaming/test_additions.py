"""Calls that wait to be added are there whenever somebody asks."""

import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip


class Asking(nn.Module):
    """Does something in the middle of its forward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.ask = lambda: None

    def forward(self, x):
        x = self.first(x)
        self.ask()
        return self.second(x)


def ns(report):
    return {row["layer"]: row["n"] for row in report.select(measure="entropy").rows}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Asking()


@pytest.mark.filterwarnings("ignore:some probed layers gave no output")
def test_a_report_amid_a_pass(model):
    reports = []
    with ip.probe(model) as probe:
        model.ask = lambda: reports.append(probe.report())
        for _ in range(2):
            model(torch.randn(10, 3))
    assert [ns(report) for report in reports] == [{"first": 10}, {"first": 20, "second": 10}]
    assert ns(probe.report()) == {"first": 20, "second": 20}


def test_what_came_before_a_reset_is_forgotten(model):
    with ip.probe(model) as probe:
        model.ask = probe.reset
        model(torch.randn(10, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ns(probe.report()) == {"second": 10}


@pytest.mark.filterwarnings("ignore:some probed layers gave no output")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_pass_that_is_interrupted(model, error):
    def interrupt():
        raise error

    with ip.probe(model) as probe:
        model.ask = interrupt
        with pytest.raises(error):
            model(torch.randn(10, 3))
        assert ns(probe.report()) == {"first": 10}
    assert ns(probe.report()) == {"first": 10}
