import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from infoprobe.models import (
    SCHEDULES,
    GaussianBottleneck,
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    MNISTAutoencoder,
    Schedule,
    VariationalLoss,
    fit,
    mnist_inn,
    reconstruction_loss,
)

QUICK = Schedule(epochs=2, batch_size=16)


def images(n=64):
    """Bright squares at random places: uint8, (n, 1, 28, 28)."""
    x = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    for i, (row, column) in enumerate(torch.randint(2, 18, (n, 2)).tolist()):
        x[i, :, row : row + 8, column : column + 8] = 255
    return x


@pytest.mark.parametrize("family", ["invertible", "classical"])
def test_it_learns(family):
    torch.manual_seed(0)
    x = images(64)
    if family == "invertible":
        model, loss = InvertibleAutoencoder(mnist_inn(), 20), InvertibleAutoencoderLoss()
        schedule = replace(SCHEDULES["mnist_inn"], epochs=5, batch_size=8)
    else:
        model, loss = MNISTAutoencoder(20), reconstruction_loss
        schedule = replace(SCHEDULES["mnist_classical"], epochs=20, batch_size=16, milestones=())
    before = loss(model, x / 255).item()
    history = fit(model, x, schedule, progress=False)
    assert len(history) == schedule.epochs
    assert history[-1] < history[0] < before
    assert loss(model, x / 255).item() < 0.9 * before


def test_a_seed_decides_everything():
    def trained(seed):
        torch.manual_seed(0)
        model = MNISTAutoencoder(5)
        history = fit(model, images(), QUICK, seed=seed, progress=False)
        return history, model.encoder.code.weight

    (a, weight_a), (b, weight_b), (c, _) = trained(1), trained(1), trained(2)
    assert a == b != c
    assert torch.equal(weight_a, weight_b)


def test_the_global_generator_is_not_used():
    x, model = images(), MNISTAutoencoder(5)
    state = torch.get_rng_state()
    fit(model, x, QUICK, progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_bytes_and_floats_are_the_same():
    x = images()
    histories = []
    for data in (x, x / 255):
        torch.manual_seed(0)
        histories.append(fit(MNISTAutoencoder(5), data, QUICK, progress=False))
    assert histories[0] == histories[1]


def test_images_come_in_the_precision_of_the_model():
    x = images()
    expected = fit(seeded(), x, QUICK, progress=False)
    assert fit(seeded(), (x / 255).double().numpy(), QUICK, progress=False) == expected
    wide = fit(seeded().double(), x, QUICK, progress=False)
    assert wide == pytest.approx(expected, rel=1e-4)


def seeded():
    torch.manual_seed(0)
    return MNISTAutoencoder(5)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda model: torch.compile(model, backend="eager"), id="compiled"),
        pytest.param(nn.DataParallel, id="parallel"),
    ],
)
@pytest.mark.parametrize("bottleneck", [20, GaussianBottleneck(20)], ids=["plain", "gaussian"])
def test_wrapped_models_are_trained_as_what_they_are(wrap, bottleneck):
    x = images(16)

    def history(wrap):
        torch.manual_seed(0)
        model = InvertibleAutoencoder(mnist_inn(), bottleneck)
        return fit(wrap(model), x, epochs=1, batch_size=8, progress=False)

    assert history(wrap) == pytest.approx(history(lambda model: model), rel=1e-5)


def test_the_loss_of_each_family():
    invertible = InvertibleAutoencoder(mnist_inn(), 20)
    for model, loss in (
        (MNISTAutoencoder(20), reconstruction_loss),
        (MNISTAutoencoder(GaussianBottleneck(20)), VariationalLoss()),
        (invertible, InvertibleAutoencoderLoss()),
        (InvertibleAutoencoder(mnist_inn(), GaussianBottleneck(20)), VariationalLoss()),
    ):
        start = {name: value.clone() for name, value in model.state_dict().items()}
        histories = []
        for given in (None, loss):
            model.load_state_dict(start)
            torch.manual_seed(0)
            histories.append(fit(model, images(16), QUICK, loss=given, progress=False))
        assert histories[0] == histories[1]


def test_milestones(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watched(optimizer, *args, **kwargs):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    schedule = replace(QUICK, epochs=3, milestones=(1,), learning_rate=1e-3)
    fit(MNISTAutoencoder(5), images(), schedule, progress=False)
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 8)


def test_changes_of_the_schedule():
    torch.manual_seed(0)
    a = fit(MNISTAutoencoder(5), images(), replace(QUICK, epochs=3), progress=False)
    torch.manual_seed(0)
    b = fit(MNISTAutoencoder(5), images(), QUICK, epochs=3, progress=False)
    assert a == b
    with pytest.raises(TypeError, match="'epoch'"):
        fit(MNISTAutoencoder(5), images(), epoch=3)


def test_lower_precision():
    seen = []

    class Watch(MNISTAutoencoder):
        def encode(self, x):
            code = super().encode(x)
            seen.append(code.dtype)
            return code

    model = Watch(5)
    fit(model, images(), QUICK, autocast=torch.bfloat16, progress=False)
    assert set(seen) == {torch.bfloat16}
    assert model.encoder.code.weight.dtype == torch.float32


def test_lower_precision_where_it_is_faster(monkeypatch):
    seen = []

    def watch(model, x):
        y = model(x)
        seen.append(y.dtype)
        return (y - x).abs().mean()

    def train():
        seen.clear()
        fit(MNISTAutoencoder(5), images(), QUICK, loss=watch, autocast="auto", progress=False)
        return set(seen)

    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        told = {"avx512_bf16": able}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        assert train() == {dtype}
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert train() == {torch.float32}
    for unknown in ("bf16", torch.float16, True):
        with pytest.raises(ValueError, match=f"autocast: expected .*'auto', .*got {unknown!r}"):
            fit(MNISTAutoencoder(5), images(), QUICK, autocast=unknown)


def test_on_a_device(device):
    model = MNISTAutoencoder(5).to(device)
    fit(model, images(), QUICK, progress=False)
    assert next(model.parameters()).device.type == device


class Folder:
    """Images that are read when they are needed."""

    def __init__(self, images):
        self.images, self.read = images, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read += len(index)
        return self.images[index]


class Listed(Folder):
    def __getitem__(self, index):
        return list(self.images[index])


def test_images_that_are_read_when_needed():
    histories, x = [], images()
    folder = Folder(x)
    for data in (x, folder):
        torch.manual_seed(0)
        histories.append(fit(MNISTAutoencoder(5), data, QUICK, progress=False))
    assert histories[0] == histories[1]
    assert folder.read < 3 * len(x)


def test_a_progress_bar(capsys):
    fit(MNISTAutoencoder(5), images(), QUICK)
    shown = capsys.readouterr().err
    assert "MNISTAutoencoder" in shown
    assert "8/8" in shown
    assert "loss=" in shown


def test_no_progress_bar_without_tqdm(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("tqdm"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"needs tqdm: .*or pass progress=False"):
        fit(MNISTAutoencoder(5), images(), QUICK, progress=True)
    fit(MNISTAutoencoder(5), images(), QUICK, progress=False)
    fit(MNISTAutoencoder(5), images(), QUICK)


def test_bad_input():
    with pytest.raises(ValueError, match="data: expected at least one batch of 16, got 3"):
        fit(MNISTAutoencoder(5), images(3), QUICK, progress=False)
    with pytest.raises(ValueError, match="batch_size: expected an integer at least 1, got 0"):
        Schedule(epochs=1, batch_size=0)
    with pytest.raises(TypeError, match="data: expected a tensor or an array"):
        fit(MNISTAutoencoder(5), ["a.png"], QUICK, progress=False)
    with pytest.raises(ValueError, match="x: expected shape"):
        fit(MNISTAutoencoder(5), images()[:, 0], QUICK, progress=False)
    with pytest.raises(ValueError, match="data: expected at least one image"):
        fit(MNISTAutoencoder(5), Folder(images(0)), QUICK, progress=False)
    with pytest.raises(TypeError, match=r"data: expected images \(16, C, H, W\) .*, got list"):
        fit(MNISTAutoencoder(5), Listed(images()), QUICK, progress=False)
    model = MNISTAutoencoder(5)
    nn.init.constant_(model.encoder.code.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="the loss became nan in epoch 1, step 1"):
        fit(model, images(), QUICK, progress=False)
    with pytest.raises(TypeError, match=r"data: .* got a tuple of 2\. Pass the images without"):
        fit(MNISTAutoencoder(5), (images(), torch.zeros(64)), QUICK, progress=False)
    with pytest.raises(TypeError, match=r"data: .* got torch\.int64"):
        fit(MNISTAutoencoder(5), images().long(), QUICK, progress=False)
    with pytest.raises(TypeError, match=r"schedule: expected .* got 'mnist_inn'"):
        fit(MNISTAutoencoder(5), images(), "mnist_inn", progress=False)
    with pytest.raises(TypeError, match="seed: expected an integer, got None"):
        fit(MNISTAutoencoder(5), images(), QUICK, seed=None, progress=False)
    with pytest.raises(ValueError, match="model: expected parameters to train"):
        fit(MNISTAutoencoder(5).requires_grad_(False), images(), QUICK, progress=False)


def test_a_gradient_that_is_not_finite_in_the_last_step():
    steps = 0

    def loss(model, x):
        nonlocal steps
        steps += 1
        value = reconstruction_loss(model, x)
        if steps == 8:  # the value is finite, but not its gradient
            value = value + (model.encoder.code.bias * 0).sqrt().sum()
        return value

    with pytest.raises(FloatingPointError, match="became NaN or infinite by epoch 2, step 4"):
        fit(MNISTAutoencoder(5), images(), QUICK, loss=loss, progress=False)


class TestWhereReadingALossMeansWaiting:
    """Elsewhere than on the CPU, the losses of several steps are read at once."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch):
        monkeypatch.setattr("infoprobe.models.training.is_here", lambda x: False)
        monkeypatch.setattr("infoprobe.models.training._AT_ONCE", 3)

    def test_the_mean_losses_are_the_same(self, monkeypatch):
        def losses():
            torch.manual_seed(0)
            return fit(MNISTAutoencoder(5), images(), QUICK, progress=False)

        together = losses()
        monkeypatch.undo()
        assert together == pytest.approx(losses(), rel=1e-12)

    @pytest.mark.parametrize(("bad", "seen"), [(1, 3), (4, 4), (7, 7), (8, 8)])
    def test_one_that_is_not_finite_is_seen_with_the_others(self, bad, seen):
        steps = 0

        def loss(model, x):
            nonlocal steps
            steps += 1
            value = reconstruction_loss(model, x)
            return value * torch.inf if steps == bad else value

        epoch, step = divmod(bad - 1, 4)
        message = f"the loss became inf in epoch {epoch + 1}, step {step + 1}. Check that"
        with pytest.raises(FloatingPointError, match=message):
            fit(MNISTAutoencoder(5), images(), QUICK, loss=loss, progress=False)
        assert steps == seen


def test_frozen_parameters_need_not_be_finite():
    model = MNISTAutoencoder(5)
    model.mask = nn.Parameter(torch.full((2,), -torch.inf), requires_grad=False)
    fit(model, images(), QUICK, progress=False)


def test_seeds_of_numpy():
    histories = [fit(seeded(), images(), QUICK, seed=s, progress=False) for s in (2, np.int64(2))]
    assert histories[0] == histories[1]
