import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import distributions as td
from torch import nn
from torch.distributions import transforms as tt

import infoprobe as ip
from tests.taps.seen import MEASURES, H, check, names, passes, visits


def chain():
    inner = tt.ComposeTransform([tt.TanhTransform(), tt.AffineTransform(0.0, 3.0)])
    return tt.ComposeTransform([tt.AffineTransform(1.0, 0.5), inner, tt.SoftplusTransform()])


CHAIN = ["0", "1.0", "1.1", "2"]
TYPES = ["AffineTransform", "TanhTransform", "AffineTransform", "SoftplusTransform"]


def parts(transform):
    return [transform.parts[0], *transform.parts[1].parts, transform.parts[2]]


def steps(transforms, x):
    found = []
    for transform in transforms:
        x = transform(x)
        found.append(x)
    return found


class TestTransforms:
    def test_names(self):
        assert names(chain()) == CHAIN
        assert names(chain(), "1*") == ["1.0", "1.1"]
        assert names(chain(), "(model)") == ["(model)"]
        assert names(chain(), tt.AffineTransform) == ["0", "1.1"]
        transform = chain()
        assert names(transform, transform.parts[1]) == ["1"]
        assert names(chain(), lambda name, t: t.sign == 1 and name.endswith("0")) == ["0", "1.0"]
        assert names(tt.ExpTransform()) == ["(model)"]
        same = tt.ExpTransform()
        assert names(tt.ComposeTransform([same, same, tt.AbsTransform()])) == ["0", "2"]
        with pytest.raises(ValueError, match="'3' matches none of the model's 6 layers"):
            names(chain(), "3")

    def test_both_ways(self):
        transform, x = chain(), torch.randn(100)
        with ip.probe(transform, measures=MEASURES) as probe:
            y = transform(x)
        after = steps(parts(transform), x)
        assert torch.equal(y, after[-1])
        assert check(probe, x, [*zip(CHAIN, ["forward"] * 4, after, strict=True)]) == TYPES

        y = y.detach()
        with ip.probe(transform, measures=MEASURES) as probe:
            transform.inv(y)
        back = steps([part.inv for part in parts(transform)[::-1]], y)
        found = check(probe, y, [*zip(CHAIN[::-1], ["inverse"] * 4, back, strict=True)])
        assert found == TYPES[::-1]
        assert passes(probe) == 1

    def test_a_composite_as_one_layer(self):
        transform, x = chain(), torch.randn(100)
        with ip.probe(transform, ["1", "(model)"], measures=ip.Entropy(H)) as probe:
            transform.inv(transform(x))
        assert visits(probe) == [
            *(("1", "forward", 0), ("(model)", "forward", 0)),
            *(("1", "inverse", 0), ("(model)", "inverse", 0)),
        ]

    def test_log_determinants_do_not_count(self):
        transform, x = chain(), torch.randn(100)
        with ip.probe(transform, measures=ip.Entropy(H)) as probe:
            transform.log_abs_det_jacobian(x, transform(x))
        assert visits(probe) == [(name, "forward", 0) for name in CHAIN]
        assert passes(probe) == 1

    def test_results_that_are_cached(self):
        transform = tt.TanhTransform(cache_size=1)
        x = torch.randn(100)
        with ip.probe(transform, measures=ip.Entropy(H)) as probe:
            assert transform.inv(transform(x)) is x
        assert visits(probe) == [("(model)", "forward", 0), ("(model)", "inverse", 0)]

    def test_an_inverse_as_a_part(self):
        transform = tt.ComposeTransform([tt.TanhTransform().inv, tt.AffineTransform(0.0, 2.0)])
        x = torch.rand(100) - 0.5
        with ip.probe(transform, measures=ip.Entropy(H)) as probe:
            transform.inv(transform(x))
        assert visits(probe) == [
            *(("0", "forward", 0), ("1", "forward", 0)),
            *(("1", "inverse", 0), ("0", "inverse", 0)),
        ]

    def test_parts_side_by_side_are_one_layer(self):
        transform = tt.StackTransform([tt.ExpTransform(), tt.TanhTransform()], dim=1)
        with ip.probe(transform, measures=ip.Entropy(H)) as probe:
            transform(torch.randn(10, 2))
        assert visits(probe) == [("(model)", "forward", 0)]

    def test_errors(self):
        with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got Normal"):
            ip.probe(td.Normal(0.0, 1.0))

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_nothing_is_left(self, error):
        class Failing(tt.AffineTransform):
            def _call(self, x):
                raise error

        transform = tt.ComposeTransform([tt.TanhTransform(), Failing(0.0, 1.0)])
        everything = [transform, *transform.parts]
        before = [(type(t), dict(vars(t))) for t in everything]
        probe = ip.probe(transform, measures=ip.Entropy(H))
        assert isinstance(transform.parts[0], tt.TanhTransform)
        assert transform.parts[0] == tt.TanhTransform()
        with pytest.raises(error), probe:
            transform(torch.randn(10))
        assert [(type(t), dict(vars(t))) for t in everything] == before
        with pytest.warns(UserWarning, match="gave no output: 1"):
            assert len(probe.report().rows) == 1

    def test_attributes_that_cannot_be_set(self):
        class Frozen(tt.TanhTransform):
            def __setattr__(self, name, value):
                raise AttributeError(name)

            def __init__(self):
                vars(self).update(_cache_size=0, _inv=None)

        transform = Frozen()
        with ip.probe(transform, measures=ip.Entropy(H)) as probe:
            transform(torch.randn(10))
        assert type(transform) is Frozen
        assert visits(probe) == [("(model)", "forward", 0)]

    def test_two_probes_removed_in_any_order(self):
        for first, second in [(0, 1), (1, 0)]:
            transform, x = chain(), torch.randn(10)
            probes = [ip.probe(transform, measures=ip.Entropy(H)) for _ in range(2)]
            transform(x)
            probes[first].remove()
            transform.inv(transform(x))
            probes[second].remove()
            transform(x)
            assert type(transform) is tt.ComposeTransform
            assert {type(t).__bases__ for t in parts(transform)} == {(tt.Transform,)}
            assert passes(probes[first]) == 1
            assert passes(probes[second]) == 3
            assert len(visits(probes[second])) == 8

    @pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, "pickle"])
    def test_copies_are_not_probed(self, copied):
        transform, x = chain(), torch.randn(10)
        base = td.Normal(torch.zeros(3), torch.ones(3))
        distribution = td.TransformedDistribution(base, tt.TanhTransform())
        with ip.probe(transform), ip.probe(distribution) as probe:
            for one in (transform.parts[0], transform, distribution):
                twin = pickle.loads(pickle.dumps(one)) if copied == "pickle" else copied(one)
                assert type(twin) is type(one).__bases__[0]
                assert vars(twin).keys() == vars(one).keys() - {"_infoprobe_listeners"}
            if copied is not copy.copy:
                twin.log_prob(torch.zeros(3))
                assert passes(probe) == 0
        assert torch.equal(transform(x), copy.deepcopy(transform)(x))


class TestDistributions:
    def test_both_ways(self):
        base = td.Normal(torch.zeros(3), torch.ones(3))
        inner = [tt.AffineTransform(1.0, 0.5), tt.SoftplusTransform()]
        model = td.TransformedDistribution(base, inner)
        assert names(model) == ["0", "1"]
        with ip.probe(model, measures=MEASURES) as probe:
            torch.manual_seed(0)
            y = model.sample((50,))
        torch.manual_seed(0)
        x = base.sample((50,))
        types = ["AffineTransform", "SoftplusTransform"]
        found = check(probe, x, [*zip("01", ["forward"] * 2, steps(inner, x), strict=True)])
        assert found == types
        assert passes(probe) == 1

        with ip.probe(model, measures=MEASURES) as probe:
            model.log_prob(y)
        back = steps([t.inv for t in inner[::-1]], y)
        assert check(probe, y, [*zip("10", ["inverse"] * 2, back, strict=True)]) == types[::-1]
        assert passes(probe) == 1
        assert type(model) is td.TransformedDistribution

    def test_other_questions(self):
        model = td.LogNormal(torch.zeros(3), torch.ones(3))
        with ip.probe(model, measures=MEASURES) as probe:
            y = model.rsample((20,))
            model.icdf(model.cdf(y))
        assert passes(probe) == 3
        assert visits(probe) == [("0", "forward", 0), ("0", "inverse", 0)]
        assert model.mean.shape == (3,)


class TestModulesThatMakeThem:
    def test_a_policy_is_an_ordinary_model(self):
        class Policy(nn.Module):
            def __init__(self, *transforms):
                super().__init__()
                self.net, self.transforms = nn.Linear(3, 3), list(transforms)

            def forward(self, x):
                normal = td.Normal(self.net(x), 1.0)
                return td.TransformedDistribution(normal, self.transforms)

        for policy in (Policy(), Policy(tt.TanhTransform())):
            with ip.probe(policy, measures=ip.Entropy(H)) as probe:
                made = policy(torch.randn(20, 3))
                made.log_prob(made.rsample())
            assert visits(probe) == [("net", "forward", 0)]
            assert passes(probe) == 1

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 3)

        def forward(self, c):
            scale = tt.AffineTransform(0.0, self.net(c).exp())
            return tt.ComposeTransform([scale, tt.TanhTransform()])

    def test_parts_have_names(self):
        model, c, x = self.Scale(), torch.randn(20, 3), torch.randn(20, 3)
        with ip.probe(model, ["(model)", "net"], measures=ip.Entropy(H)) as probe:
            transform = model(c)
            transform(x)
        layers = [(row["layer"], row["type"]) for row in probe.report().rows]
        assert layers == [
            ("net", "Linear"),
            *(("(model)[0]", "AffineTransform"), ("(model)[1]", "TanhTransform")),
        ]
        assert type(transform) is tt.ComposeTransform

    def test_inside_a_model(self):
        class Model(nn.Module):
            def __init__(self, scale):
                super().__init__()
                self.scale = scale

            def forward(self, x):
                return self.scale(x).inv(self.scale(x)(x) * 0.9)

        model = Model(self.Scale())
        with ip.probe(model, "scale", measures=ip.Entropy(H)) as probe:
            model(torch.randn(20, 3))
        assert passes(probe) == 1
        assert visits(probe) == [
            *(("scale[0]", "forward", 0), ("scale[1]", "forward", 0)),
            *(("scale[1]", "inverse", 0), ("scale[0]", "inverse", 0)),
        ]


class TestZuko:
    zuko = property(lambda self: pytest.importorskip("zuko"))

    @pytest.fixture(autouse=True)
    def _restored(self):
        # zuko changes these for all distributions when it is imported.
        pytest.importorskip("zuko")

    def test_names(self):
        flows = self.zuko.flows
        assert names(flows.NSF(3, transforms=2)) == [f"transform.transforms.{i}" for i in (0, 1)]
        assert names(flows.CNF(3)) == ["transform"]
        lazy = self.zuko.lazy.LazyInverse(flows.MaskedAutoregressiveTransform(3))
        assert names(nn.ModuleDict({"map": lazy})) == ["map"]
        assert names(flows.NSF(3, transforms=1), "*hyper.0") == ["transform.transforms.0.hyper.0"]

    @pytest.mark.parametrize("kind", ["NSF", "RealNVP", "GF", "CNF", "UNAF"])
    def test_both_ways(self, kind):
        torch.manual_seed(0)
        options = {} if kind == "CNF" else {"transforms": 2}
        model = getattr(self.zuko.flows, kind)(3, 2, **options)
        x, c = torch.randn(40, 3), torch.randn(40, 2)
        transform = model(c).transform
        maps = getattr(transform, "transforms", [transform])
        layers = names(model)
        types = [type(t).__name__ for t in maps]

        with ip.probe(model, measures=MEASURES) as probe, torch.no_grad():
            model(c).log_prob(x)
        after, z = [], x
        with torch.no_grad():
            for t in maps:
                z, _ = t.call_and_ladj(z)
                after.append(z)
        found = check(probe, x, [*zip(layers, ["forward"] * len(maps), after, strict=True)])
        assert found == types
        assert passes(probe) == 1

        with ip.probe(model, measures=MEASURES) as probe:
            torch.manual_seed(1)
            model(c).sample()
        torch.manual_seed(1)
        z = model(c).base.sample()
        with torch.no_grad():
            back = steps([t.inv for t in maps[::-1]], z)
        ways = ["inverse"] * len(maps)
        assert check(probe, z, [*zip(layers[::-1], ways, back, strict=True)]) == types[::-1]
        assert passes(probe) == 1

        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model(c).rsample_and_log_prob((2,))
        assert visits(probe) == [(layer, "inverse", 0) for layer in layers[::-1]]
        assert passes(probe) == 1

    def test_subnets_run_the_way_of_their_map(self):
        model = self.zuko.flows.RealNVP(4, transforms=1)
        with ip.probe(model, "*hyper.0", measures=ip.Entropy(H)) as probe:
            flow = model()
            flow.log_prob(torch.randn(10, 4))
            flow.sample((10,))
        layer = "transform.transforms.0.hyper.0"
        assert visits(probe) == [(layer, "forward", 0), (layer, "inverse", 0)]

    def test_the_whole_transform_as_one_layer(self):
        model = self.zuko.flows.NSF(3, transforms=2)
        with ip.probe(model, "transform", measures=ip.Entropy(H)) as probe:
            flow = model()
            flow.log_prob(torch.randn(10, 3))
            flow.sample((10,))
        assert visits(probe) == [("transform", "forward", 0), ("transform", "inverse", 0)]
        assert {row["type"] for row in probe.report().rows} == {"ComposedTransform"}

    def test_a_lazy_inverse(self):
        flow = self.zuko.flows.NSF(3, transforms=2)
        model = self.zuko.lazy.LazyComposedTransform(*(t.inv for t in flow.transform.transforms))
        assert names(model) == ["transforms.0", "transforms.1"]
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            transform = model()
            transform.inv(transform(torch.randn(10, 3)))
        assert visits(probe) == [
            *((f"transforms.{i}", "forward", 0) for i in (0, 1)),
            *((f"transforms.{i}", "inverse", 0) for i in (1, 0)),
        ]
        with ip.probe(model, "*.1.transform", measures=ip.Entropy(H)) as probe:
            model()(torch.randn(10, 3))
        assert visits(probe) == [("transforms.1.transform", "inverse", 0)]

    def test_what_was_made_outlives_the_probe(self):
        model = self.zuko.flows.NSF(3, transforms=2)
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            flow = model()
        everything = [flow, flow.transform, *flow.transform.transforms]
        assert all("_infoprobe_listeners" not in vars(one) for one in everything)
        assert [type(one).__bases__[-1].__name__ for one in everything[1:]] == ["Transform"] * 3
        flow.log_prob(torch.randn(10, 3))
        assert passes(probe) == 0

    def test_nothing_is_kept(self):
        model = self.zuko.flows.NSF(3, transforms=2)
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            gc.collect()
            gc.disable()
            try:
                x = torch.randn(10, 3)
                flow = model()
                log_prob = flow.log_prob(x)
                one = flow.transform.transforms[0]
                kept = [weakref.ref(t) for t in (x, flow, log_prob, flow.transform, one)]
                del x, flow, log_prob, one
                assert [ref() for ref in kept] == [None] * 5
            finally:
                gc.enable()
            assert not probe._tap._taps[0]._heard

    def test_training_is_the_same(self):
        def train(probed):
            torch.manual_seed(0)
            model = self.zuko.flows.NSF(3, transforms=2, hidden_features=[8])
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
            probe = ip.probe(model, measures=MEASURES) if probed else None
            for _ in range(4):
                optimizer.zero_grad()
                (-model().log_prob(torch.randn(32, 3)).mean()).backward()
                optimizer.step()
            model().sample((3,))
            if probe is not None:
                assert passes(probe) == 5
                probe.remove()
            return model.state_dict(), torch.get_rng_state()

        (plain, plain_rng), (probed, probed_rng) = train(False), train(True)
        assert all(torch.equal(plain[key], probed[key]) for key in plain)
        assert torch.equal(plain_rng, probed_rng)

    def test_two_probes(self):
        model = self.zuko.flows.NSF(3, transforms=2)
        outer = ip.probe(model, measures=ip.Entropy(H))
        with ip.probe(model, "*.1", measures=ip.Entropy(H)) as inner:
            flow = model()
            flow.log_prob(torch.randn(10, 3))
        flow.log_prob(torch.randn(10, 3))
        outer.remove()
        flow.log_prob(torch.randn(10, 3))
        assert (passes(outer), passes(inner)) == (2, 1)
        assert type(flow) is self.zuko.distributions.NormalizingFlow
        assert (len(visits(outer)), len(visits(inner))) == (2, 1)

    def test_a_distribution_alone(self):
        model = self.zuko.flows.NSF(3, transforms=2)()
        assert names(model) == ["0", "1"]
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model.log_prob(model.sample((10,)))
        assert visits(probe) == [
            *(("1", "inverse", 0), ("0", "inverse", 0)),
            *(("0", "forward", 0), ("1", "forward", 0)),
        ]
