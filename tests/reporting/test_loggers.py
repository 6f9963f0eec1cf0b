"""Scalars in the files of TensorBoard and in the history of a run of W&B."""

import logging
import math

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

import infoprobe as ip
from tests.reporting.rows import report

HOSTILE = 'conv/<script>alert("$x$")</script>\n'


class Run:
    """What ``wandb.init()`` returns, as far as its method ``log``."""

    def __init__(self):
        self.history = []

    def log(self, data, step=None, commit=None):
        self.history.append((step, data, commit))


def written_to(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def measured():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    with ip.probe(model) as probe:
        model(torch.randn(50, 3))
    return probe.report()


def test_tensorboard(tmp_path):
    found = measured()
    with SummaryWriter(tmp_path) as writer:
        found.log_to(writer, 7)
        found.log_to(writer, step=20)
    finite = {k: x for k, x in found.scalars().items() if math.isfinite(x)}
    written = written_to(tmp_path)
    assert finite
    assert written.keys() == finite.keys()
    for tag, events in written.items():
        assert [event.step for event in events] == [7, 20]
        assert [event.value for event in events] == pytest.approx([finite[tag]] * 2)


def test_wandb():
    run = Run()
    found = measured()
    found.log_to(run, 7)
    ((step, data, commit),) = run.history
    assert (step, commit) == (7, None)
    assert data == {k: x for k, x in found.scalars().items() if math.isfinite(x)}


def test_what_is_not_finite_or_has_no_value_is_left_out(tmp_path):
    found = report(
        {"layer": "a", "value": math.inf},
        {"layer": "b", "value": math.nan},
        {"layer": "c", "value": None},
        {"layer": "d", "value": -2.5},
    )
    run = Run()
    found.log_to(run, 0)
    assert run.history == [(0, {"d/forward/entropy": -2.5}, None)]
    with SummaryWriter(tmp_path) as writer:
        found.log_to(writer, 0)
    assert written_to(tmp_path).keys() == {"d/forward/entropy"}


def test_of_several_steps_the_last_one():
    run = Run()
    report({"step": 0, "value": 1.0}, {"step": 50, "value": 2.0}).log_to(run, 50)
    assert run.history == [(50, {"layer/forward/entropy": 2.0}, None)]


def test_hostile_names(tmp_path):
    found = report({"layer": HOSTILE}, {"layer": "b", "value": 2.0})
    with SummaryWriter(tmp_path) as writer:
        found.log_to(writer, 1)
    assert len(written_to(tmp_path)) == 2


@pytest.mark.parametrize("writer", [None, "runs", logging.getLogger(), math, print, {}])
def test_other_writers_are_refused(writer):
    with pytest.raises(
        TypeError, match=r"^writer: expected a SummaryWriter .*report\.scalars\(\)"
    ):
        measured().log_to(writer, 1)


def test_bad_steps():
    with pytest.raises(TypeError, match="step: expected an integer"):
        measured().log_to(Run(), 0.5)
    with pytest.raises(ValueError, match="step: expected an integer at least 0, got -1"):
        measured().log_to(Run(), -1)
