from dataclasses import replace

import pytest
import torch
from torch import nn

from infoprobe.models import SCHEDULES, InvertibleAutoencoder, Schedule, fit, mnist_inn


def test_published_schedules():
    published = [(s.epochs, s.batch_size, s.milestones) for s in SCHEDULES.values()]
    assert published == [
        (10, 128, (8, 10)),
        (15, 128, (10, 15)),
        (8, 32, (6, 7, 8)),
        (100, 128, tuple(range(10, 101, 10))),
        (100, 128, (60, 85, 100)),
        (2, 32, (8, 9, 10)),
    ]
    for name, schedule in SCHEDULES.items():
        inn = name.endswith("_inn")
        assert schedule.learning_rate == 1e-3
        assert schedule.betas == ((0.8, 0.8) if inn else (0.9, 0.999))
        assert schedule.eps == (1e-4 if inn else 1e-8)
        assert schedule.weight_decay == (1e-6 if inn else 1e-5)


class Scale(nn.Module):
    """The smallest of all models, for images of any shape."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist_classical", (1, 28, 28)),
        ("cifar10_classical", (3, 32, 32)),
        ("celeba_classical", (3, 218, 178)),
    ],
)
def test_the_shape_of_the_images_decides(name, shape):
    history = fit(Scale(), torch.ones(1, *shape), batch_size=1, progress=False)
    assert len(history) == SCHEDULES[name].epochs


def test_the_family_decides():
    inn = InvertibleAutoencoder(mnist_inn(), 5)
    x = torch.zeros(2, 1, 28, 28)
    history = fit(inn, x, batch_size=2, progress=False)
    assert len(history) == SCHEDULES["mnist_inn"].epochs


def test_none_was_published():
    with pytest.raises(ValueError, match=r"of shape \(1, 8, 8\), only for \(1, 28, 28\)"):
        fit(Scale(), torch.zeros(128, 1, 8, 8), progress=False)


def test_scaled():
    schedule = Schedule(epochs=10, milestones=(5, 8, 10), learning_rate=0.5)
    assert schedule.scaled(epochs=4) == replace(schedule, epochs=4, milestones=(2, 4, 4))
    assert schedule.scaled(epochs=20).milestones == (10, 16, 20)
    with pytest.raises(ValueError, match="epochs: expected an integer at least 1, got 0"):
        schedule.scaled(epochs=0)


def test_bad_settings():
    with pytest.raises(TypeError, match="milestones: expected a tuple, got 1 of type int"):
        Schedule(epochs=4, milestones=1)
    with pytest.raises(TypeError, match="learning_rate: expected a number, got '1e-3'"):
        Schedule(epochs=4, learning_rate="1e-3")
    with pytest.raises(ValueError, match="weight_decay: expected a finite number >= 0"):
        Schedule(epochs=4, weight_decay=-1.0)


def test_learning_rates():
    schedule = Schedule(epochs=4, milestones=(1, 3), learning_rate=1.0)
    rates = [schedule.learning_rate_in(epoch) for epoch in range(4)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01])
