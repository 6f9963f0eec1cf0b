"""A probe is a guest: what it must leave alone, one thing after the other."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import mnist_inn
from tests.probing.helpers import MEASURES, H, hook_count, small_model, tensors_in, value


class TestGuestManners:
    def test_training_is_bit_for_bit_the_same(self):
        def train(probed):
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(True), nn.Dropout(0.3), nn.Linear(8, 1)
            )
            optimizer = torch.optim.Adam(model.parameters())
            probe = ip.probe(model) if probed else None
            for _ in range(5):
                loss = model(torch.randn(16, 6)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if probe is not None:
                probe.report()
                probe.remove()
            return model.state_dict(), optimizer.state_dict()["state"], torch.get_rng_state()

        (weights, states, rng), (weights_, states_, rng_) = train(False), train(True)
        assert all(torch.equal(weights[key], weights_[key]) for key in weights)
        assert all(torch.equal(states[i][k], states_[i][k]) for i in states for k in states[i])
        assert torch.equal(rng, rng_)

    def test_flags_and_hooks_are_as_before(self):
        model = small_model()
        model[2].eval()
        before = [dict(module.__dict__) for module in model.modules()]
        with ip.probe(model) as probe:
            assert hook_count(model) > 0
            model(torch.randn(3, 6))
        assert hook_count(model) == 0
        after = [dict(module.__dict__) for module in model.modules()]
        assert all(a.keys() == b.keys() for a, b in zip(before, after, strict=True))
        assert [m.training for m in model.modules()] == [True, True, True, False, True]
        probe.remove()  # once more does no harm
        assert probe.report().rows

    def test_samples_that_cannot_be_admitted(self, monkeypatch):
        def admit(self, n):
            raise RuntimeError("not enough memory")

        model, x = small_model(), torch.randn(30, 6)
        with ip.probe(model, measures=ip.Entropy(ip.KNN())) as probe:
            monkeypatch.setattr("infoprobe.probing.kept.reservoir.Reservoir.admit", admit)
            with pytest.warns(RuntimeWarning, match="not enough memory"):
                model(x)
            monkeypatch.undo()
            model(x)
        assert {row["n"] for row in probe.report().rows} == {30}

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_whatever_is_raised(self, error):
        class Fails(nn.Module):
            failing = True

            def forward(self, x):
                if self.failing:
                    raise error
                return x

        model = nn.Sequential(nn.Linear(6, 6), Fails(), nn.ReLU())
        x = torch.randn(10, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            with pytest.raises(error):
                model(x)
            model[1].failing = False
            model(x)  # the passes after it are measured as usual
        report = probe.report()
        assert value(report, "2", "entropy") == H.entropy(model(x)).item()
        counts = {row["layer"]: (row["n"], row["call"]) for row in report.rows}
        assert counts == {"0": (20, 0), "1": (10, 0), "2": (10, 0)}
        with pytest.raises(error), ip.probe(model):
            raise error
        assert hook_count(model) == 0

    def test_an_exception_that_the_model_catches(self):
        class Picky(nn.Module):
            def forward(self, x):
                raise ArithmeticError

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.inn, self.picky, self.last = mnist_inn(), Picky(), nn.Flatten()

            def forward(self, x):
                try:
                    self.picky(x)
                except ArithmeticError:
                    return self.last(self.inn(x, rev=True)[0])

        model = Model()
        with ip.probe(model, ["conv1", "last"], MEASURES) as probe, torch.no_grad():
            model(torch.rand(3, 1, 28, 28))
        found = {(row["layer"], row["direction"]) for row in probe.report().rows}
        assert found == {("conv1", "inverse"), ("last", "forward")}

    def test_copies_and_pickles_are_not_probed(self):
        model, x = small_model(), torch.randn(10, 6)
        with ip.probe(model) as probe:
            keys = model.state_dict().keys()
            twin = copy.deepcopy(model)
            again = pickle.loads(pickle.dumps(model))
            buffer = io.BytesIO()
            torch.save(model, buffer)
            for other in (twin, again):
                assert torch.equal(other(x), model(x))
            model(x)
        assert {row["n"] for row in probe.report().rows} == {30}
        assert keys == model.state_dict().keys()

    def test_tensors_are_not_kept(self):
        kept = []

        class Watch(nn.Module):
            def forward(self, x):
                y = x + 1
                kept.append(weakref.ref(y))
                return y

        model = nn.Sequential(Watch(), nn.ReLU())
        with ip.probe(model):
            model(torch.randn(5, 5))
            gc.collect()
            assert kept[0]() is None

    def test_memory_does_not_grow(self):
        model = small_model()
        with ip.probe(model) as probe:
            for _ in range(200):
                model(torch.randn(8, 6))
        kept = tensors_in(probe.state_dict()["record"])
        assert sum(values.numel() for values in kept) <= 32 * 4 * 3 * 256

    def test_two_probes_and_a_paused_one(self):
        model, x = small_model(), torch.randn(10, 6)
        with ip.probe(model) as outer:
            with ip.probe(model, "3") as inner:
                model(x)
                with outer.pause():
                    model(x)
            model(x)
        assert {row["n"] for row in outer.report().rows} == {20}
        assert {row["n"] for row in inner.report().rows} == {20}
        outer.reset()
        with pytest.warns(UserWarning, match="seen no pass"):
            assert outer.report().rows == []
        assert repr(inner) == "Probe(1 layers, 3 measures, removed, 2 passes)"
