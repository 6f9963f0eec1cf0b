import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.maps.textbook_maps import Pair, agree, autograd, normal, perturbed


class TestFlows:
    @pytest.mark.filterwarnings("ignore:torch.triangular_solve:UserWarning")
    def test_nflows(self):
        flows = pytest.importorskip("nflows.flows")
        nf = pytest.importorskip("nflows.transforms")
        from nflows.distributions import StandardNormal
        from nflows.nn.nets import ResidualNet

        torch.manual_seed(0)
        x, context = normal(20, 4).float(), normal(20, 2, seed=1).float()
        autoregressive = nf.MaskedAffineAutoregressiveTransform(4, 16)
        composite = nf.CompositeTransform(
            [autoregressive, nf.RandomPermutation(4), nf.LULinear(4), nf.ActNorm(4)]
        )
        composite = perturbed(composite, 0.2).eval()
        for module in (*composite._transforms, composite, nf.InverseTransform(nf.LULinear(4))):
            agree(module, x, lambda x, module=module: module(x)[0])
        flow = flows.Flow(composite, StandardNormal([4]))
        agree(flow, x, lambda x: flow.transform_to_noise(x))
        conditional = nf.MaskedAffineAutoregressiveTransform(4, 16, context_features=2)
        perturbed(conditional, 0.2)
        agree(conditional, x, lambda x: conditional(x, context[:1])[0], c=context)
        flow = flows.Flow(conditional, StandardNormal([4]), embedding_net=nn.Linear(2, 2))
        agree(flow, x, lambda x: flow.transform_to_noise(x, context[:1]), c=context)
        spline = nf.PiecewiseRationalQuadraticCouplingTransform(
            torch.tensor([1, 0, 1, 0]),
            lambda d, out: perturbed(ResidualNet(d, out, hidden_features=8, num_blocks=1)),
            tails="linear",
            tail_bound=3,
        )
        agree(spline, x, lambda x: spline(x)[0])
        with pytest.raises(ValueError, match=r"ActNorm.* first batch"):
            ip.entropy_change(nf.ActNorm(4).train(), x)
        with pytest.raises(ValueError, match="treats each sample on its own"):
            ip.entropy_change(nf.BatchNorm(4).train(), x)

    def test_normflows(self):
        nf = pytest.importorskip("normflows")
        torch.manual_seed(0)
        x = normal(20, 4).float()
        coupling = nf.flows.AffineCouplingBlock(nf.nets.MLP([2, 8, 4]))
        layers = [coupling, nf.flows.Permute(4), nf.flows.LULinearPermute(4)]
        layers.append(nf.flows.AutoregressiveRationalQuadraticSpline(4, 1, 8))
        perturbed(nn.ModuleList(layers))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.triangular_solve")
            for module in layers:
                agree(module, x, lambda x, module=module: module(x)[0])
            flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(4), layers)
            agree(flow, x, flow.forward)
        # Only forwards.
        planar = nf.flows.Planar((4,))
        exact = autograd(lambda x: planar(x)[0], x).mean().item()
        assert ip.entropy_change(planar, x).value.item() == pytest.approx(exact, abs=1e-4)
        with pytest.raises(TypeError, match=r"inverse to run it backwards, got Planar"):
            ip.entropy_change(planar, x, rev=True)
        with pytest.raises(TypeError, match=r"inverse to run it backwards, got Planar"):
            ip.check_invertible(planar, x)
        with pytest.raises(ValueError, match=r"ActNorm.* first batch"):
            ip.entropy_change(nf.flows.ActNorm((4,)), x)
        with pytest.raises(ValueError, match="when fewer samples came along"):
            ip.entropy_change(nf.flows.BatchNorm(), x)

    def test_several_scales_of_normflows(self):
        nf = pytest.importorskip("normflows")

        def coupling(channels):
            net = nf.nets.ConvNet2d([channels // 2, 8, channels], [1, 1], init_zeros=False)
            return nf.flows.AffineCouplingBlock(net)

        steps = [[coupling(8), nf.flows.Squeeze()], [coupling(4), nf.flows.Squeeze()]]
        base = [nf.distributions.DiagGaussian(shape) for shape in [(8, 1, 1), (2, 2, 2)]]
        flow = nf.MultiscaleFlow(base, steps, [nf.flows.Merge()], class_cond=False).double()
        x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
        latents = [z.detach() for z in flow.inverse_and_log_det(x)[0]]

        def flat(image):
            return torch.cat([z.flatten() for z in flow.inverse_and_log_det(image[None])[0]])

        jacobians = [torch.autograd.functional.jacobian(flat, image) for image in x]
        exact = torch.stack([torch.linalg.slogdet(j.view(16, 16)).logabsdet for j in jacobians])
        back = ip.entropy_change(flow, x, rev=True)
        assert float(back.value) == pytest.approx(float(exact.mean()))
        assert float(ip.entropy_change(flow, latents).value) == pytest.approx(-float(back.value))
        assert ip.check_invertible(flow, latents).inversion_error < 1e-9
        with ip.probe(flow, measures=ip.EntropyChange()) as probe:
            flow.log_prob(x, None)
        steps_of_the_pass = sum(row["value"] for row in probe.report().rows)
        assert steps_of_the_pass == pytest.approx(float(back.value))


class TestFunctions:
    def test_functions_with_conditions(self):
        x, c = normal(300, 2), normal(300, 1, seed=1)
        change = ip.entropy_change(lambda x, c: x * c.exp(), x, c=c, batch_size=7)
        assert change.value.item() == pytest.approx(2 * c.mean().item())

    def test_maps_that_are_none(self):
        x = normal(5, 3)
        with pytest.raises(TypeError, match=r"^module: expected a module, .* got str"):
            ip.entropy_change("module", x)
        with pytest.raises(TypeError, match=r"returns a tensor, got tuple.*module\(x\)\[0\]"):
            ip.entropy_change(lambda x: (x, 0), x)
        with pytest.raises(TypeError, match="backwards, got function without"):
            ip.entropy_change(lambda x: x, x, rev=True)
        with pytest.raises(TypeError, match="got Linear without a method 'inverse'"):
            ip.check_invertible(nn.Linear(3, 3), x.float())
        with pytest.raises(ValueError, match=r"output for each of \d samples, got shape \(\)"):
            ip.entropy_change(lambda x: x.sum(), x)
        odd = Pair()
        odd.forward = lambda x: ({"z": x}, torch.zeros(len(x)))
        with pytest.raises(TypeError, match="expected tensors and a log-determinant from Pair"):
            ip.entropy_change(odd, x)
        odd = Pair(2.0, lambda v: torch.zeros(len(v), 2))
        with pytest.raises(ValueError, match=r"log-determinant for each of \d samples, got shape"):
            ip.entropy_change(odd, x)
