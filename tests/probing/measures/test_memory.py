"""What a pass allocates on top of what is kept, and projections that need no matrix."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import infoprobe as ip
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.samples import Samples
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.projections import _hadamard, projected
from tests.probing.helpers import tensors_in


class Allocations(TorchDispatchMode):
    """Counts the bytes of all storages that operations make; those that are freed count too."""

    def __init__(self):
        super().__init__()
        self.bytes = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if _is(x)}
        made = function(*args, **(kwargs or {}))
        storages = [x.untyped_storage() for x in tree_leaves(made) if _is(x)]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
        new_bytes = sum(size for pointer, size in sizes.items() if pointer not in given)
        self.bytes += new_bytes
        self.largest = max(self.largest, new_bytes)
        return made


def _is(x):
    return isinstance(x, torch.Tensor)


class Spy:
    def __init__(self):
        self.given = []

    def entropy(self, x):
        self.given.append(x)
        return 0.0


@pytest.fixture
def counted(monkeypatch):
    """What a probe allocates for samples, which it does outside of the user's modes."""
    allocations = Allocations()

    def watched(owner, name):
        original = getattr(owner, name)

        def call(*args, **kwargs):
            with allocations:
                return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((Sampling, "reduce"), (Samples, "add"), (Pass, "admit_all")):
        watched(owner, name)
    return allocations


class TestPeak:
    @pytest.mark.parametrize("rows", [16, 200])
    def test_wide_samples_are_not_copied_before_there_is_room(self, rows, counted):
        width, memory = 1 << 16, 1 << 19  # two samples of 256 KiB
        spy = Spy()
        model, x = nn.Identity(), torch.randn(rows, width)
        with ip.probe(model, measures=ip.Entropy(spy), memory=memory) as probe:
            model(x)
        kept = sum(t.nbytes for t in tensors_in(probe.state_dict()) if t.dtype == torch.float32)
        probe.report()
        assert kept <= memory
        assert len(spy.given[0]) == 2
        # The copy, the samples that are kept, and what is needed to know them again.
        assert memory <= counted.bytes <= 4 * memory + rows * 1024 * 8 * 8
        assert any(torch.equal(spy.given[0][0], sample) for sample in x)

    def test_what_is_projected_comes_in_blocks(self, counted):
        rows, width = 40, 1 << 18
        x = torch.randn(rows, width)
        spy = Spy()
        with ip.probe(model := nn.Identity(), measures=ip.Entropy(spy, project=8)) as probe:
            model(x)
        probe.report()
        assert spy.given[0].shape == (40, 8)
        assert 1 << 20 < counted.largest <= 1 << 24 < x.nbytes


class TestProjection:
    def test_no_matrix(self):
        used = Allocations()
        x = torch.randn(2, 1 << 20)
        with used:
            y = projected(x, 50, seed=0)
        assert y.shape == (2, 50)
        assert used.bytes < 12 * x.nbytes < (1 << 20) * 50 * 4

    @pytest.mark.parametrize("n", [1, 2, 8, 64])
    def test_the_transform(self, n):
        rows = torch.tensor([[1.0]])
        while len(rows) < n:
            rows = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), rows)
        assert torch.equal(_hadamard(torch.eye(n)), rows)

    def test_the_same_bits_in_any_batch(self):
        x = torch.randn(100, 700)
        whole = projected(x, 5, seed=3)
        assert torch.equal(torch.cat([projected(part, 5, 3) for part in x.split(7)]), whole)
        assert not torch.equal(projected(x, 5, seed=4), whole)

    @pytest.mark.parametrize("kind", ["normal", "one value", "constant", "half precision"])
    @pytest.mark.parametrize("width", [3, 20, 1000])
    def test_lengths_are_kept_in_the_mean(self, kind, width):
        x = torch.zeros(1, width)
        if kind == "one value":
            x[0, width // 2] = 3.0
        elif kind == "constant":
            x += 2.0
        else:
            x = torch.randn(1, width, generator=torch.Generator().manual_seed(0))
        if kind == "half precision":
            x = x.bfloat16()
        y = torch.cat([projected(x, 2, seed) for seed in range(1000)]).double()
        length = float(x.double().square().sum())
        assert float(y.square().sum(1).mean()) == pytest.approx(length, rel=0.15)
        assert float(y.mean(0).abs().max()) < 5 * math.sqrt(length / 1000)
        # Each direction is as good as the other, and tells something else.
        a, b = (float(x) / length * 2 for x in y.square().mean(0))
        assert (a, b) == (pytest.approx(1, abs=0.3), pytest.approx(1, abs=0.3))
        assert abs(float((y[:, 0] * y[:, 1]).mean())) / length < 0.2

    def test_it_is_linear_and_loses_no_dimension(self):
        for width, dimensions in [(3, 2), (5, 4), (9, 8), (40, 17)]:
            matrix = projected(torch.eye(width), dimensions, seed=1)
            x = torch.randn(10, width)
            torch.testing.assert_close(projected(x, dimensions, 1), x @ matrix)
            assert int(torch.linalg.matrix_rank(matrix)) == dimensions
