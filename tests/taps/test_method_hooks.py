import copy
import gc
import inspect
import io
import pickle
import threading
import weakref

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.taps.seen import MEASURES, NFLOW, H, check, names, nflow, passes, visits


class Affine(nn.Module):
    """A map of anybody's own, whose net sees one half of the features."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        return torch.cat([a, b + self.net(a)], 1)

    def inverse(self, z):
        a, b = z.chunk(2, 1)
        return torch.cat([a, b - self.net(a)], 1)


class Swap(nn.Module):
    def forward(self, x):
        return x.flip(1)

    def inverse(self, z):
        return z.flip(1)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.swap, self.last = Affine(), Swap(), Affine()

    def forward(self, x):
        return self.last(self.swap(self.first(x)))

    def inverse(self, z):
        return self.first.inverse(self.swap.inverse(self.last.inverse(z)))


class TestOwnModules:
    def test_both_ways(self):
        model, x = Chain(), torch.randn(100, 4)
        steps = ["first", "swap", "last"]
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
        y = [model.first(x)]
        y.append(model.swap(y[0]))
        y.append(model.last(y[1]))
        check(probe, x, [(s, "forward", t) for s, t in zip(steps, y, strict=True)])

        z = torch.randn(100, 4)
        with ip.probe(model, measures=MEASURES) as probe:
            model.inverse(z)
        back = [model.last.inverse(z)]
        back.append(model.swap.inverse(back[0]))
        back.append(model.first.inverse(back[1]))
        check(probe, z, [(s, "inverse", t) for s, t in zip(steps[::-1], back, strict=True)])

    def test_both_ways_in_one_pass(self):
        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.chain = Chain()

            def forward(self, x):
                return self.chain.inverse(self.chain(x))

        model = Both()
        with ip.probe(model, "*swap", measures=MEASURES) as probe:
            model(torch.randn(10, 4))
        assert visits(probe) == [("chain.swap", "forward", 0), ("chain.swap", "inverse", 0)]
        assert passes(probe) == 1

    def test_subnets_run_the_way_of_their_map(self):
        model = Chain()
        with ip.probe(model, ["first.net.0", "first"], measures=ip.Entropy(H)) as probe:
            model.inverse(torch.randn(10, 4))
            model(torch.randn(10, 4))
        assert sorted(visits(probe)) == [
            *(("first", way, 0) for way in ("forward", "inverse")),
            *(("first.net.0", way, 0) for way in ("forward", "inverse")),
        ]

    def test_a_model_that_is_one_map(self):
        model = Affine()
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model.inverse(torch.randn(10, 4))
        assert visits(probe) == [("(model)", "inverse", 0)]

    def test_a_pass_that_enters_by_a_part(self):
        model = Chain()
        with ip.probe(model, measures=ip.Divergence(H, "input")) as probe:
            model.last.inverse(torch.randn(10, 4))
        with pytest.warns(UserWarning, match="gave no output: first, swap"):
            (row,) = probe.report().rows
        assert (row["layer"], row["direction"]) == ("last", "inverse")
        assert any("entered by last" in finding for finding in row["findings"])

    @pytest.mark.filterwarnings("ignore:layer .* there is no tensor")
    def test_results_are_handed_on_as_they_are(self):
        class Model(nn.Module):
            def forward(self, x):
                return self.result

            def inverse(self, z, *, scale=1):
                assert scale == 2
                return self.result

        model = Model()
        for result in [torch.randn(3), (torch.randn(3), 0), [torch.randn(3)], None, "text", {}]:
            model.result = result
            with ip.probe(model, measures=ip.Entropy(H)):
                assert model.inverse(torch.randn(3), scale=2) is result

    def test_lists_are_measured_together(self):
        class Halves(nn.Module):
            def forward(self, x):
                return list(x.chunk(2, 1)), 0

            def inverse(self, parts):
                return torch.cat(parts, 1), 0

        model, x = Halves(), torch.randn(50, 4)
        with ip.probe(model, measures=MEASURES) as probe:
            parts, _ = model(x)
            model.inverse(parts)
        rows = probe.report().rows
        assert [row["value"] for row in rows] == [H.entropy(x).item(), 0, 0] * 2
        assert [row["d"] for row in rows] == [4] * 6


def attributes(model):
    return [dict(vars(module)) for module in model.modules()]


class TestLeavingNoTrace:
    def test_after_removal(self):
        model = nflow()
        before, state = attributes(model), list(model.state_dict())
        with ip.probe(model, measures=ip.Entropy(H)):
            assert "inverse" in vars(model._transform)
            assert list(model.state_dict()) == state
        assert attributes(model) == before

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    @pytest.mark.parametrize("hooked", [False, True])
    def test_after_an_error(self, error, hooked):
        model = Chain()
        fails = True

        class Failing(Swap):
            def inverse(self, z):
                if fails:
                    raise error
                return self.deeper(super().inverse(z)) if hooked else super().inverse(z)

        model.swap = Failing()
        model.swap.deeper = nn.Identity()
        before = attributes(model)
        with ip.probe(model, "swap", measures=ip.Entropy(H)) as probe:
            with pytest.raises(error):
                model.inverse(torch.randn(10, 4))
            fails = False
            model.inverse(torch.randn(10, 4))
            assert passes(probe) == 2
        assert attributes(model) == before
        assert visits(probe) == [("swap", "inverse", 0)]
        fails = True
        with pytest.raises(error), ip.probe(model):
            model.inverse(torch.randn(10, 4))
        assert attributes(model) == before

    def test_two_probes_removed_in_any_order(self):
        for first, second in [(0, 1), (1, 0)]:
            model, x = Chain(), torch.randn(10, 4)
            before = attributes(model)
            probes = [ip.probe(model, measures=ip.Entropy(H)) for _ in range(2)]
            model.inverse(x)
            probes[first].remove()
            model.inverse(x)
            probes[second].remove()
            model.inverse(x)
            assert attributes(model) == before
            assert passes(probes[first]) == 1
            assert passes(probes[second]) == 2
            assert all(len(visits(probe)) == 3 for probe in probes)

    def test_removed_in_a_call(self):
        class Removing(Swap):
            def inverse(self, z):
                probe.remove()
                return super().inverse(z)

        model = Chain()
        model.swap = Removing()
        before = attributes(model)
        probe = ip.probe(model, "last", measures=ip.Entropy(H))
        model.inverse(torch.randn(10, 4))
        assert attributes(model) == before
        assert visits(probe) == [("last", "inverse", 0)]

    def test_attributes_of_the_user_come_back(self):
        model = Chain()
        own = model.swap.inverse = lambda z: z.flip(1)
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model.inverse(torch.randn(10, 4))
        assert vars(model.swap)["inverse"] is own
        assert ("swap", "inverse", 0) in visits(probe)

        with ip.probe(model, measures=ip.Entropy(H)):
            newer = model.swap.inverse = lambda z: z
        assert vars(model.swap)["inverse"] is newer

    def test_an_attribute_that_is_refused(self):
        class Stubborn(nn.Module):
            def __getattribute__(self, name):
                if name == "inverse":
                    return Stubborn.inverse.__get__(self)
                return super().__getattribute__(name)

            def inverse(self, z):
                return z

        model = nn.Sequential(Affine(), Stubborn())
        before = attributes(model)
        with pytest.raises(TypeError, match="'inverse' of Stubborn takes no attribute"):
            ip.probe(model)
        assert attributes(model) == before
        assert not any(module._forward_hooks for module in model.modules())

    @pytest.mark.parametrize("make", [copy.deepcopy, "pickle", "save"])
    def test_copies_are_not_probed(self, make):
        def copied(model):
            if make == "pickle":
                return pickle.loads(pickle.dumps(model))
            if make == "save":
                torch.save(model, file := io.BytesIO())
                file.seek(0)
                return torch.load(file, weights_only=False)
            return make(model)

        model, z = Chain(), torch.randn(10, 4)
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            twin = copied(model)
            twin.first.net[0].weight.data.zero_()
            result = twin.inverse(z)
            assert passes(probe) == 0
            assert not torch.equal(result, model.inverse(z))
            with ip.probe(twin, measures=ip.Entropy(H)) as other:
                twin.inverse(z)
            assert (passes(probe), passes(other)) == (1, 1)
        for module in twin.modules():
            method = vars(module).get("inverse")
            assert method is None or method.__self__ is module
        assert torch.equal(copied(twin).inverse(z), result)
        del model
        gc.collect()
        assert torch.equal(twin.inverse(z), result)

    def test_no_tensor_and_no_model_is_kept(self):
        model = nflow()
        x = torch.randn(10, 4)
        probe = ip.probe(model, measures=ip.Entropy(H))
        z = model.transform_to_noise(x)
        y, _ = model._transform.inverse(z)
        kept = [weakref.ref(t) for t in (x, y, z)]
        del x, y, z
        assert not any(ref() is not None for ref in kept)
        probe.remove()
        ref = weakref.ref(model)
        del model
        gc.collect()
        assert ref() is None

    def test_signatures_are_those_of_the_methods(self):
        model = nflow()
        before = inspect.signature(model.log_prob)
        with ip.probe(model):
            assert inspect.signature(model.log_prob) == before
            with ip.probe(model, measures=ip.Divergence(H, "input")) as probe:
                model.log_prob(context=None, inputs=torch.randn(10, 4))
            assert passes(probe) == 1
            probe.report()


class TestPasses:
    def test_pauses_steps_and_backward(self):
        model, x = Chain(), torch.randn(10, 4, requires_grad=True)
        with ip.probe(model, measures=ip.Entropy(H)).track(every=2) as probe:
            for _ in range(4):
                model.inverse(x).sum().backward()
            with probe.pause():
                model.inverse(x)
        assert [row["step"] for row in probe.report().rows] == [0] * 3 + [2] * 3

    def test_threads(self):
        model = Chain()
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            threads = [
                threading.Thread(target=lambda: model.inverse(torch.randn(10, 4)))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert passes(probe) == 4
        assert {row["n"] for row in probe.report().rows} == {40}

    def test_points(self):
        class Tapped(Affine):
            def inverse(self, z):
                return ip.tap(super().inverse(z), "inside")

        model = nn.ModuleDict({"map": Tapped()})
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model["map"].inverse(torch.randn(10, 4))
        assert visits(probe) == [("map.inside", "inverse", 0), ("map", "inverse", 0)]

    def test_a_model_that_is_compiled(self):
        model = torch.compile(nflow(), backend="eager")
        assert names(model) == NFLOW
        assert names(torch.compile(Chain(), backend="eager")) == ["first", "swap", "last"]
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model.log_prob(torch.randn(10, 4))
        assert passes(probe) == 1
        assert [name for name, *_ in visits(probe)] == NFLOW
