import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.taps.seen import MEASURES, NFLOW, H, check, names, nflow, passes, visits


def normflow(nf):
    flows = [nf.flows.ActNorm(2), nf.flows.AutoregressiveRationalQuadraticSpline(2, 1, 8)]
    flows += [nf.flows.LULinearPermute(2), nf.flows.CoupledRationalQuadraticSpline(2, 1, 8)]
    return nf.NormalizingFlow(nf.distributions.DiagGaussian(2), flows).eval()


class Pair(nn.Module):
    """A map after the manner of nflows."""

    def forward(self, x, context=None):
        return 2 * x, x.new_zeros(len(x))

    def inverse(self, x, context=None):
        return x / 2, x.new_zeros(len(x))


class TestNormflows:
    nf = property(lambda self: pytest.importorskip("normflows"))

    def test_names(self):
        assert names(normflow(self.nf)) == ["flows.0", "flows.1", "flows.2", "flows.3"]
        block = self.nf.flows.AffineCouplingBlock(self.nf.nets.MLP([1, 8, 2]))
        model = self.nf.NormalizingFlow(self.nf.distributions.DiagGaussian(2), [block])
        assert names(model) == [f"flows.0.flows.{i}" for i in range(3)]
        assert names(model, "flows.0") == ["flows.0"]
        assert names(model, "q0") == ["q0"]

    @pytest.mark.parametrize("way", ["log_prob", "forward_kld", "inverse", "inverse_and_log_det"])
    def test_from_data_to_noise(self, way):
        model, x = normflow(self.nf), torch.randn(200, 2)
        model.log_prob(x)  # ActNorm takes its scale from the first batch
        with ip.probe(model, measures=MEASURES) as probe:
            getattr(model, way)(x)
        expected, z = [], x
        for i in reversed(range(4)):
            z, _ = model.flows[i].inverse(z)
            expected.append((f"flows.{i}", "inverse", z))
        check(probe, x, expected)
        assert passes(probe) == 1

    @pytest.mark.parametrize("way", ["sample", "forward"])
    def test_from_noise_to_data(self, way):
        model = normflow(self.nf)
        model.sample(9)
        with ip.probe(model, measures=MEASURES) as probe:
            torch.manual_seed(0)
            model.sample(200) if way == "sample" else model(model.q0(200)[0])
        torch.manual_seed(0)
        start, _ = model.q0(200)
        expected, z = [], start
        for i in range(4):
            z, _ = model.flows[i](z)
            expected.append((f"flows.{i}", "forward", z))
        check(probe, start, expected)
        assert passes(probe) == 1

    def test_both_ways_of_reverse_kld(self):
        target = self.nf.distributions.TwoMoons()
        model = normflow(self.nf)
        model.p = target
        with ip.probe(model, measures=MEASURES) as probe:
            model.reverse_kld(50, score_fn=False)
        ways = [(f"flows.{i}", "forward", 0) for i in range(4)]
        ways += [(f"flows.{i}", "inverse", 0) for i in reversed(range(4))]
        assert visits(probe) == ways
        assert passes(probe) == 1

    def test_several_scales(self):
        nf = self.nf

        def coupling(channels):
            net = nf.nets.ConvNet2d([channels // 2, 8, channels], [1, 1], init_zeros=False)
            return nf.flows.AffineCouplingBlock(net)

        flows = [[coupling(16), nf.flows.Squeeze()], [coupling(8), nf.flows.Squeeze()]]
        merge = nf.flows.Merge()
        layers = [*flows[0], *flows[1], merge]
        base = [
            nf.distributions.DiagGaussian((16, 1, 1)),
            nf.distributions.DiagGaussian((4, 2, 2)),
        ]
        model = nf.MultiscaleFlow(base, flows, [merge], class_cond=False)
        x = torch.randn(50, 2, 4, 4)
        with ip.probe(model, layers, measures=MEASURES) as probe:
            model.log_prob(x, None)
        steps, z = [], x
        for i in (1, 0):
            z, _ = flows[i][1].inverse(z)
            steps.append((f"flows.{i}.1", z))
            z, _ = flows[i][0].inverse(z)
            steps.append((f"flows.{i}.0", z))
            if i == 1:
                (z, other), _ = merge.inverse(z)
                steps.append(("merges.0", torch.cat([z, other], 1)))
        rows = [row for row in probe.report().rows if row["measure"] == "entropy"]
        assert [row["layer"] for row in rows] == [name for name, _ in steps]
        assert [row["value"] for row in rows] == [H.entropy(z).item() for _, z in steps]
        assert {row["direction"] for row in rows} == {"inverse"}
        assert passes(probe) == 1

        with ip.probe(model, layers, measures=MEASURES) as probe:
            model.sample(20)
            z, _ = model.inverse_and_log_det(x)
            model.forward_and_log_det(z)
        assert passes(probe) == 3
        assert set(visits(probe)) == {
            (name, way, 0) for name, _ in steps for way in ("forward", "inverse")
        }

    def test_training_is_the_same(self):
        def train(probed):
            torch.manual_seed(0)
            model = normflow(self.nf).train()
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
            probe = ip.probe(model, measures=MEASURES) if probed else None
            for _ in range(5):
                optimizer.zero_grad()
                model.forward_kld(torch.randn(64, 2)).backward()
                optimizer.step()
            model.sample(3)
            if probe is not None:
                assert passes(probe) == 6
                probe.remove()
            return model.state_dict(), torch.get_rng_state()

        (plain, plain_rng), (probed, probed_rng) = train(False), train(True)
        assert plain.keys() == probed.keys()
        assert all(torch.equal(plain[key], probed[key]) for key in plain)
        assert torch.equal(plain_rng, probed_rng)


class TestNflows:
    def test_names(self):
        assert names(nflow()) == NFLOW
        assert names(nflow(), "*transform_net.final_layer") == [
            f"{NFLOW[i]}.transform_net.final_layer" for i in (1, 3)
        ]

    @pytest.mark.parametrize("way", ["log_prob", "transform_to_noise"])
    def test_from_data_to_noise(self, way):
        model, x = nflow(), torch.randn(200, 4)
        with ip.probe(model, measures=MEASURES) as probe:
            getattr(model, way)(inputs=x)
        expected, z = [], x
        for name, step in zip(NFLOW, model._transform._transforms, strict=True):
            z, _ = step(z)
            expected.append((name, "forward", z))
        check(probe, x, expected)
        assert passes(probe) == 1

    @pytest.mark.parametrize("way", ["sample", "sample_and_log_prob"])
    def test_from_noise_to_data(self, way):
        model = nflow()
        with ip.probe(model, measures=MEASURES) as probe:
            torch.manual_seed(0)
            getattr(model, way)(200)
        torch.manual_seed(0)
        start = model._distribution.sample(200)
        expected, x = [], start
        for name, step in [*zip(NFLOW, model._transform._transforms, strict=True)][::-1]:
            x, _ = step.inverse(x)
            expected.append((name, "inverse", x))
        check(probe, start, expected)
        assert passes(probe) == 1

    def test_a_context_is_no_input(self):
        model = nflow(context=3)
        x, context = torch.randn(100, 4), torch.randn(100, 3)
        with ip.probe(model, measures=ip.Divergence(H, "input")) as probe:
            model.log_prob(context=context, inputs=x)
        z, _ = model._transform(x, context)
        assert probe.report().rows[-1]["value"] == H.kl_divergence(x, z).item()
        with ip.probe(model, measures=ip.Divergence(H, "input")) as probe:
            torch.manual_seed(0)
            x = model.sample(5, context)
        torch.manual_seed(0)
        noise = model._distribution.sample(5, context)
        rows = probe.report().rows
        assert rows[-1]["value"] == H.kl_divergence(noise, x).item()
        assert rows[-1]["n"] == 500

    def test_whole_transforms_when_asked_for(self):
        model, x = nflow(), torch.randn(100, 4)
        with ip.probe(model, "_transform", measures=ip.Entropy(H)) as probe:
            model.log_prob(x)
            model.sample(10)
        assert visits(probe) == [("_transform", "forward", 0), ("_transform", "inverse", 0)]

    def test_an_inverse_transform(self):
        pytest.importorskip("nflows")
        from nflows import transforms

        model = transforms.InverseTransform(transforms.CompositeTransform([Pair(), Pair()]))
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model(torch.randn(10, 2))
        assert visits(probe) == [
            ("_transform._transforms.1", "inverse", 0),
            ("_transform._transforms.0", "inverse", 0),
        ]

    def test_a_flow_in_a_model(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder, self.flow = nn.Linear(6, 4), nflow()

            def forward(self, x):
                return self.flow.log_prob(self.encoder(x))

        model = Model()
        assert names(model) == ["encoder", *(f"flow.{name}" for name in NFLOW)]
        with ip.probe(model, measures=MEASURES) as probe:
            model(torch.randn(50, 6))
        assert [visit[0] for visit in visits(probe)] == names(model)
        assert passes(probe) == 1
