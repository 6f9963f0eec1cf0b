import builtins
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from infoprobe.models import (
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    Schedule,
    checkpoints,
    fit,
    mnist_inn,
)

QUICK = Schedule(epochs=3, batch_size=8, milestones=(1,))
STEPS = 12


def images():
    x = torch.randint(256, (32, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    return x.to(torch.uint8)


class Model(nn.Module):
    """A model with all kinds of state: buffers, draws, and tied, frozen and unused weights."""

    def __init__(self, width=6):
        super().__init__()
        self.encoder = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.2)
        self.decoder = nn.ConvTranspose2d(1, width, 3, padding=1)
        self.decoder.weight = self.encoder.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x):
        h = self.dropout(self.norm(self.encoder(x)).relu())
        return nn.functional.conv_transpose2d(h, self.decoder.weight, padding=1)


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return Model(**settings).to(memory_format=torch.channels_last)


class Killed(BaseException):
    pass


def stopping(at, by=Killed):
    """Returns a loss that ends the training at a step, counted from its start or resumption."""
    steps = 0

    def loss(model, x):
        nonlocal steps
        steps += torch.is_grad_enabled()  # not where the work of a step is estimated
        if steps == at:
            raise by()
        return nn.functional.l1_loss(model(x), x)

    return loss


def train(model, path=None, schedule=QUICK, data=None, at=None, by=Killed, **settings):
    data = images() if data is None else data
    settings = {"loss": stopping(at, by), "progress": False, **settings}
    return fit(model, data, schedule, checkpoint=path, **settings)


def state(model):
    return [*model.state_dict().values(), torch.get_rng_state()]


def same_bits(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)


@pytest.fixture
def complete():
    """The bits and the history of a training that nothing stopped."""
    model = build()
    history = train(model)
    return state(model), history


@pytest.mark.parametrize("by", [Killed, KeyboardInterrupt])
@pytest.mark.parametrize("steps", [[1], [2, 1], [6], [4, 5], [STEPS], [3, 3, 3, 3]])
@pytest.mark.usefixtures("every_step")
def test_it_goes_on_with_the_same_bits(path, complete, steps, by):
    for seed, at in enumerate(steps):
        with pytest.raises(by):
            train(build(seed), path, at=at, by=by)
    model = build(seed=9)
    history = train(model, path)
    assert history == complete[1]
    assert same_bits(state(model), complete[0])


def test_it_goes_on_from_the_last_epoch(path, complete):
    with pytest.raises(Killed):
        train(build(), path, at=7)
    model = build(seed=9)
    # The 8 steps after the first epoch, and not one more.
    assert train(model, path, at=9) == complete[1]
    assert same_bits(state(model), complete[0])


def test_a_complete_one_is_only_loaded(path, complete):
    train(build(), path)
    written = path.stat().st_mtime_ns
    model = build(seed=9)
    assert train(model, path, at=1) == complete[1]
    assert same_bits(state(model), complete[0])
    assert path.stat().st_mtime_ns == written


def test_without_one_the_bits_are_the_same(path, complete):
    model = build()
    assert train(model, path) == complete[1]
    assert same_bits(state(model), complete[0])


def test_weights_are_easy_to_read(path):
    model = build()
    train(model, path)
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(f"model.{name}") for name in model.state_dict()}
    build().load_state_dict(weights)
    assert torch.equal(weights["norm.running_mean"], model.norm.running_mean)


def test_a_killed_process(path, complete):
    """The process is killed by SIGKILL, in a step and while it writes the file."""
    for where in ("step", "write"):
        command = [sys.executable, __file__, str(path), where]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == -signal.SIGKILL, process.stderr
    (temporary,) = set(path.parent.iterdir()) - {path}
    assert temporary.name.startswith(".model.safetensors.")
    model = build(seed=9)
    assert train(model, path, at=STEPS - 3) == complete[1]
    assert same_bits(state(model), complete[0])


def be_killed(path, where):
    """Trains a few steps in its own process, until that is killed."""

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoints._SECONDS = 0.0
    if where == "step":
        train(build(), path, at=4, by=kill)
    else:
        writes = iter([os.fsync, os.fsync, kill])
        os.fsync = lambda descriptor: next(writes)(descriptor)
        train(build(seed=5), path)


@pytest.mark.usefixtures("every_step")
def test_an_invertible_autoencoder_in_bfloat16(path):
    def run(seed, path=None, at=None):
        torch.manual_seed(seed)
        model = InvertibleAutoencoder(mnist_inn(), 20).to(memory_format=torch.channels_last)
        noisy, step = InvertibleAutoencoderLoss(), stopping(at)

        def loss(model, x):
            step(nn.Identity(), x)
            return noisy(model, x + 0.1 * torch.randn_like(x))

        settings = {"loss": loss, "autocast": torch.bfloat16, "checkpoint": path}
        x = torch.linspace(0, 1, 12 * 784).reshape(12, 1, 28, 28)
        history = fit(model, x, epochs=2, batch_size=4, progress=False, **settings)
        return history, state(model)

    expected = run(0)
    for seed, at in ((0, 3), (1, 3)):
        with pytest.raises(Killed):
            run(seed, path, at)
    history, bits = run(9, path)
    assert history == expected[0]
    assert same_bits(bits, expected[1])


def test_on_a_device(path, device):
    expected = train(build().to(device))
    with pytest.raises(Killed):
        train(build().to(device), path, at=6)
    model = build(seed=9).to(device)
    assert train(model, path) == pytest.approx(expected)
    assert next(model.parameters()).device.type == device


def test_the_bar_goes_on(path, capsys):
    with pytest.raises(Killed):
        train(build(), path, at=6)
    capsys.readouterr()
    train(build(), path, progress=True)
    shown = capsys.readouterr().err
    assert "4/12" in shown
    assert "12/12" in shown


def bottleneck(size):
    torch.manual_seed(0)
    return InvertibleAutoencoder(mnist_inn(), size)


def test_of_another_training(path):
    train(build(), path)
    written = path.read_bytes()

    def refuses(what, **changed):
        with pytest.raises(ValueError, match=f"is of a training with another {what}"):
            train(**{"model": build(), "path": path, **changed})

    refuses("model: there   .*Conv2d.1, 6, .*here   .*Conv2d.1, 5, ", model=build(width=5))
    refuses("model: there .*float32, .*here .*float64", model=build().double())
    refuses(
        "model: there unused: .*, trained, here unused: .*, not trained", model=frozen(build())
    )
    refuses(
        r"schedule: there .*'milestones': \[1\].*here .*'milestones': \[2\]",
        schedule=replace(QUICK, milestones=(2,)),
    )
    refuses("seed: there 0, here 1", seed=1)
    refuses("autocast: there None, here torch.bfloat16", autocast=torch.bfloat16)
    refuses("data: there 32 images, .*, here 31 images", data=images()[1:])
    refuses("data", data=255 - images())
    with pytest.raises(ValueError, match="another loss"):
        fit(build(), images(), QUICK, checkpoint=path, progress=False)
    assert path.read_bytes() == written


def test_more_epochs_continue_and_fewer_are_refused(path):
    longer = replace(QUICK, epochs=5)
    whole = build()
    expected = train(whole, schedule=longer)
    train(build(), path)
    model = build(seed=9)
    assert train(model, path, schedule=longer) == expected
    assert same_bits(state(model), state(whole))
    with pytest.raises(ValueError, match=r"has done 5 epochs and 0 steps, and 3 epochs are asked"):
        train(build(), path)


def test_settings_of_a_loss(path):
    def weighted(model, x, weight):
        return weight * nn.functional.l1_loss(model(x), x)

    train(build(), path, loss=partial(weighted, weight=1.0))
    train(build(), path, loss=partial(weighted, weight=1.0))
    with pytest.raises(ValueError, match=r"another loss: there .*1\.0.*, here .*2\.0"):
        train(build(), path, loss=partial(weighted, weight=2.0))


def test_numbers_of_numpy(path):
    train(build(), path, schedule=replace(QUICK, epochs=np.int64(3), milestones=(np.int64(1),)))
    train(build(), path)


def frozen(model):
    model.unused.requires_grad_(False)
    return model


def test_of_another_bottleneck(path):
    x = torch.zeros(8, 1, 28, 28)
    settings = {"epochs": 1, "batch_size": 8, "checkpoint": path, "progress": False}
    fit(bottleneck(20), x, **settings)
    with pytest.raises(ValueError, match=r"ZeroPadding\(size=20, .*ZeroPadding\(size=32, "):
        fit(bottleneck(32), x, **settings)


def test_damaged_files(path):
    train(build(), path)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100], b"", b"no checkpoint", 100 * b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model.safetensors is damaged.*Delete it"):
            train(build(), path)
        assert path.read_bytes() == damaged


def test_other_files(path):
    save_file(build().encoder.state_dict(), path)
    with pytest.raises(ValueError, match="was not written by fit"):
        train(build(), path)


def test_a_path_that_cannot_be_written_shows_early(tmp_path):
    for path in (tmp_path / "missing" / "model.safetensors", tmp_path, ""):
        with pytest.raises(ValueError, match="checkpoint: expected the path of a file"):
            train(build(), path, at=1)


def test_weights_that_are_not_finite_are_not_written(path):
    model = build()
    nn.init.constant_(model.encoder.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="became NaN or infinite before the first step"):
        train(model, path)
    assert not path.exists()


@pytest.mark.usefixtures("every_step")
def test_a_broken_write_leaves_the_previous_file(path, monkeypatch):
    with pytest.raises(Killed):
        train(build(), path, at=6)
    written = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        train(build(), path)
    assert path.read_bytes() == written


@pytest.mark.usefixtures("every_step")
def test_a_state_that_is_not_finite_is_never_written(path):
    def loss(model, x):
        value = stopping(None)(model, x)
        steps.extend([value] * torch.is_grad_enabled())
        if len(steps) == 6:
            # The value is finite, but not its gradient.
            value = value + (model.encoder.bias * 0).sqrt().sum()
        return value

    steps = []
    with pytest.raises(FloatingPointError, match=r"by epoch 2, step 2.*was left as it was before"):
        fit(build(), images(), QUICK, loss=loss, checkpoint=path, progress=False)
    with safe_open(path, "pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118
        assert '"epoch": 1, "step": 1' in file.metadata()["infoprobe"]


def test_without_safetensors(path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"needs safetensors: .*infoprobe\[train\]"):
        train(build(), path)
    train(build())


if __name__ == "__main__":
    be_killed(*sys.argv[1:])
