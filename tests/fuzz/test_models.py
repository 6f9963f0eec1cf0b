"""Probed models compute, raise and leave behind what the same models do without a probe."""

import contextlib
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip
from tests.fuzz import attack
from tests.fuzz.attack import profile
from tests.fuzz.models import ExpectedError, models

MEASURES = {
    "usual": None,
    "samples": [ip.Entropy(ip.KNN(k=1), samples=6), ip.MutualInformation(ip.KNN(k=1), samples=6)],
    "projected": ip.Entropy(ip.Gaussian(), samples=8, project=2),
    "own range": [ip.Entropy(ip.Histogram(8, "own")), ip.MutualInformation(reference="target")],
    "exact": [ip.EntropyChange(), ip.Rate(), ip.Entropy(ip.Histogram(8, range=(-1, 1)))],
}

batches = st.lists(st.sampled_from([0, 1, 2, 7, 16]), min_size=1, max_size=4)
ways = st.sampled_from(["train", "train", "no_grad", "inference_mode", "autocast", "eval"])


def around(way):
    if way == "no_grad":
        return torch.no_grad()
    if way == "inference_mode":
        return torch.inference_mode()
    if way == "autocast":
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()


def life(make, sizes, way, hooked, probed):
    """All that can be seen of a model that is trained for some batches."""
    model = make()
    seen = []
    if hooked:
        model.register_forward_hook(lambda module, args, output: seen.append(type(output)))
        model.register_full_backward_hook(lambda module, *gradients: seen.append("backward"))
    if way == "eval":
        model.eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    torch.manual_seed(5)
    before = {name: hooks_of(module) for name, module in model.named_modules()}
    with probed(model):
        for number, size in enumerate(sizes):
            x = torch.randn(size, 4)
            try:
                with around(way):
                    y = model(x)
                seen.append(y.detach().clone())
                if way == "train" and y.requires_grad and len(y):
                    optimizer.zero_grad()
                    y.float().square().mean().backward()
                    seen += [p.grad.clone() for p in model.parameters() if p.grad is not None]
                    optimizer.step()
            except ExpectedError as error:
                seen.append(f"{number}: {error!r}")
            except RuntimeError as error:  # torch's own, such as in-place on a leaf
                seen.append(f"{number}: {type(error).__name__}: {str(error)[:40]}")
    seen += model.state_dict().values()
    seen += [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    seen += [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()]
    seen.append([module.training for module in model.modules()])
    left = {name: hooks_of(module) for name, module in model.named_modules()}
    assert left == before
    return seen


def hooks_of(module):
    return [
        len(found)
        for name, found in vars(module).items()
        if name.endswith("hooks") and found is not None
    ]


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))
    return a == b


def bits(x):
    """NaN is equal to NaN here."""
    return x.contiguous().view(torch.uint8) if x.dim() else x.reshape(1).view(torch.uint8)


@pytest.mark.filterwarnings("ignore")
@profile(0.5)
@given(models(), batches, ways, st.booleans(), st.sampled_from(list(MEASURES)), st.booleans())
def test_a_probe_is_not_felt(make, sizes, way, hooked, measures, tracked):
    attack.begin_call()
    reports = []

    @contextlib.contextmanager
    def probed(model):
        probe = ip.probe(model, measures=MEASURES[measures])
        if tracked:
            probe.track(every=2)
        try:
            yield
        finally:
            probe.remove()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reports.append(probe.report())

    with warnings.catch_warnings():
        warnings.simplefilter("error" if tracked else "ignore", RuntimeWarning)
        expected = life(make, sizes, way, hooked, lambda model: contextlib.nullcontext())
        found = life(make, sizes, way, hooked, probed)
    assert len(found) == len(expected)
    assert all(map(same, found, expected))
    repr(reports[0])
    for row in reports[0].rows:
        value = row["value"]
        if value is not None and value != value:
            attack.OUTCOMES["silent NaN"] += 1
            raise AssertionError(f"a silent NaN: {row}")
