import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import transforms

import infoprobe as ip

VECTOR, IMAGE = (6,), (4, 4, 4)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def mixture(d, seed=0):
    """A matrix that mixes d features, with a condition number of some tens."""
    return normal(d, d, seed=seed) / math.sqrt(d) + torch.eye(d, dtype=torch.float64)


def log_det(matrix):
    return torch.linalg.slogdet(matrix)[1].item()


def autograd(function, x):
    """log|det J| at each sample by torch's own Jacobian, one at a time."""
    values = []
    for row in x:
        matrix = torch.autograd.functional.jacobian(lambda x: function(x[None]).flatten(), row)
        values.append(log_det(matrix.reshape(row.numel(), row.numel())))
    return torch.tensor(values, dtype=torch.float64)


def perturbed(module, scale=0.1, seed=0):
    """The module with every trainable parameter moved."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return module


def dense(d, out):
    return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, out))


def convolutional(d, out):
    return nn.Sequential(nn.Conv2d(d, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, out, 1))


def graph(d, *blocks, **settings):
    """A graph of FrEIA's with nodes named first, second, ..."""
    import FrEIA.framework as ff

    nodes = [ff.InputNode(d, name="in")]
    for name, (block, given) in zip(("first", "second", "third"), blocks, strict=False):
        nodes.append(ff.Node(nodes[-1], block, given, name=name))
    return ff.GraphINN([*nodes, ff.OutputNode(nodes[-1], name="out")], **settings)


def real_nvp(d, blocks=3, seed=0):
    import FrEIA.modules as fm

    torch.manual_seed(seed)
    block = (fm.RNVPCouplingBlock, {"subnet_constructor": dense})
    return perturbed(graph(d, *[block] * blocks), seed=seed).double()


class Pair(nn.Module):
    """A map with its inverse and what it claims of its volume."""

    def __init__(self, scale=2.0, forward=None, inverse=None):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.claims = forward, inverse

    def forward(self, x):
        return self.scale * x, self.claim(x, 0)

    def inverse(self, z):
        return z / self.scale, self.claim(z, 1)

    def claim(self, x, way):
        claim = self.claims[way]
        exact = (-1) ** way * x[0].numel() * self.scale.log().expand(len(x))
        return exact if claim is None else claim(exact)


class TestClosedForms:
    @pytest.mark.parametrize("d", [1, 2, 5, 20, 100])
    def test_gaussians_through_affine_maps(self, d):
        a, x = mixture(d), normal(50, d, seed=1)
        change = ip.entropy_change(lambda x: x @ a + 3, x)
        assert change.value.item() == pytest.approx(log_det(a), abs=1e-12 * d)
        assert change.stderr.item() == pytest.approx(0, abs=1e-12 * d)
        assert change.n == 50
        # h = d/2 ln 2 pi e + ln |det a| of a Gaussian.
        estimate = ip.Gaussian().entropy(normal(20_000, d) @ a)
        exact = d / 2 * math.log(2 * math.pi * math.e) + change.value
        assert estimate.item() == pytest.approx(exact.item(), abs=5 * math.sqrt(d / 4e4))

    @pytest.mark.parametrize(("d", "outputs"), [(1, 1), (1, 3), (3, 7), (64, 200)])
    def test_injective_linear_maps(self, d, outputs):
        a = normal(outputs, d)
        change = ip.entropy_change(lambda x: x @ a.T, normal(3, d))
        assert change.value.item() == pytest.approx(log_det(a.T @ a) / 2)

    def test_elementwise_maps(self):
        # E ln (d/dx e^x) = E x, and of tanh: E ln (1 - tanh^2 x).
        x = normal(1000, 3) + 1
        change = ip.entropy_change(torch.exp, x)
        total = x.sum(1)
        assert change.value.item() == pytest.approx(total.mean().item())
        assert change.stderr.item() == pytest.approx((total.std() / math.sqrt(1000)).item())
        change = ip.entropy_change(nn.Tanh(), x)
        expected = torch.log1p(-x.tanh().square()).sum(1).mean()
        assert change.value.item() == pytest.approx(expected.item())

    def test_a_circle(self):
        angles = 3 * normal(100, 1)
        change = ip.entropy_change(lambda t: 5 * torch.cat([t.cos(), t.sin()], 1), angles)
        assert change.value.item() == pytest.approx(math.log(5))

    def test_forward_and_inverse_add_up_to_nothing(self):
        inn, x = real_nvp(6), normal(200, 6)
        z = inn(x)[0].detach()
        forward, inverse = ip.entropy_change(inn, x), ip.entropy_change(inn, z, rev=True)
        assert abs(forward.value) > 0.1
        assert forward.value.item() == pytest.approx(-inverse.value.item())
        assert forward.stderr.item() == pytest.approx(inverse.stderr.item())

    def test_changes_add_up_along_a_composition(self):
        first, second, x = real_nvp(6), real_nvp(6, seed=1), normal(100, 6)
        y = first(x)[0].detach()
        total = ip.entropy_change(lambda x: second(first(x)[0])[0], x).value
        parts = ip.entropy_change(first, x).value + ip.entropy_change(second, y).value
        assert total.item() == pytest.approx(parts.item())

    @pytest.mark.parametrize("seed", [0, 1])
    def test_nearest_neighbours_agree(self, seed):
        inn = real_nvp(2, seed=seed)
        x = normal(20_000, 2, seed=seed)
        with torch.no_grad():
            y = inn(x)[0]
        exact = math.log(2 * math.pi * math.e) + ip.entropy_change(inn, x).value.item()
        assert ip.KNN().entropy(y).item() == pytest.approx(exact, abs=0.03)

    def test_mutual_information_does_not_change(self):
        inn, x = real_nvp(2, blocks=2), normal(8000, 2)
        y = x + 0.5 * normal(8000, 2, seed=1)
        with torch.no_grad():
            z = inn(y)[0]
        before, after = (ip.KNN().mutual_information(x, v).item() for v in (y, z))
        assert before == pytest.approx(math.log(5), abs=0.05)
        assert after == pytest.approx(before, abs=0.05)

    def test_the_mnist_network_against_its_jacobian(self):
        torch.manual_seed(0)
        inn = perturbed(ip.models.mnist_inn(), 0.02)
        x = torch.rand(1, 1, 28, 28)
        claimed = ip.entropy_change(inn, x).value.item()
        assert abs(claimed) > 5
        # Written as a function, it claims nothing.
        exact = ip.entropy_change(lambda x: inn(x, jac=False)[0], x)
        assert exact.value.item() == pytest.approx(claimed, abs=1e-3)
        assert exact.stderr.isnan()


# The modules of FrEIA that are right: settings, the shape of a sample, and how good float64 is,
# in modules that keep inverse matrices from float32.
FREIA = {
    "NICECouplingBlock": (VECTOR, {"subnet_constructor": dense}),
    "RNVPCouplingBlock": (VECTOR, {"subnet_constructor": dense}),
    "GLOWCouplingBlock": (VECTOR, {"subnet_constructor": dense}),
    "GLOWCouplingBlock image": (IMAGE, {"subnet_constructor": convolutional}),
    "GLOWCouplingBlock conditional": (VECTOR, {"subnet_constructor": dense, "dims_c": [(2,)]}),
    "GINCouplingBlock": (VECTOR, {"subnet_constructor": dense}),
    "AffineCouplingOneSided": (VECTOR, {"subnet_constructor": dense}),
    "ConditionalAffineTransform": (VECTOR, {"subnet_constructor": dense, "dims_c": [(2,)]}),
    "AllInOneBlock": (VECTOR, {"subnet_constructor": dense}),
    "AllInOneBlock image": (IMAGE, {"subnet_constructor": convolutional}),
    "AllInOneBlock soft": (VECTOR, {"subnet_constructor": dense, "permute_soft": True}),
    "AllInOneBlock reversed": (VECTOR, {"subnet_constructor": dense, "reverse_permutation": True}),
    "HaarDownsampling": (IMAGE, {}),
    "HaarDownsampling scaled": (IMAGE, {"rebalance": 2.0, "order_by_wavelet": True}),
    "HaarUpsampling": (IMAGE, {}),
    "HaarUpsampling scaled": (IMAGE, {"rebalance": 0.5}),
    "IRevNetDownsampling": (IMAGE, {}),
    "IRevNetUpsampling": (IMAGE, {}),
    "Flatten": (IMAGE, {}),
    "Reshape": (IMAGE, {"output_dims": (64,)}),
    "PermuteRandom": (VECTOR, {"seed": 0}),
    "FixedLinearTransform": (VECTOR, {"M": mixture(6).float()}),
    "Fixed1x1Conv": (IMAGE, {"M": mixture(4).float()}),
    "InvertibleSigmoid": (VECTOR, {}),
    "ActNorm": (IMAGE, {}),
    "InvAutoAct": (VECTOR, {}),
    "InvAutoActTwoSided": (IMAGE, {}),
    "HouseholderPerm": (VECTOR, {"n_reflections": 2, "fixed": True}),
    "Split": (VECTOR, {}),
}


def freia_module(name):
    import FrEIA.modules as fm

    shape, settings = FREIA[name]
    torch.manual_seed(0)
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of FrEIA's own
        module = getattr(fm, name.split()[0])([shape], **settings)
    if name == "ActNorm":
        module([torch.randn(20, *shape)])
    return perturbed(module).double(), normal(7, *shape, seed=1)


class TestFreia:
    @pytest.mark.parametrize("name", FREIA)
    def test_modules_against_autograd(self, name):
        module, x = freia_module(name)
        c = normal(7, 2, seed=2) if module.dims_c else None
        condition = {} if c is None else {"c": [c[:1]]}

        def forward(x):
            return torch.cat([v.flatten(1) for v in module([x.clone()], **condition)[0]], 1)

        alone = [x[:1], None if c is None else c[:1]]
        exact = autograd(forward, x[:1]).item()
        found = ip.entropy_change(module, alone[0], c=alone[1])
        assert found.value.item() == pytest.approx(exact, abs=1e-5)
        everything = {} if c is None else {"c": [c]}
        z = tuple(v.detach() for v in module([x.clone()], **everything)[0])
        there = ip.entropy_change(module, x, c=c)
        back = ip.entropy_change(module, z if len(z) > 1 else z[0], c=c, rev=True)
        assert back.value.item() == pytest.approx(-there.value.item(), abs=1e-5)
        check = ip.check_invertible(module, x, c=c)
        assert check.ok, check.verdict
        assert check.forward_error < 1e-5
        assert check.inverse_error < 1e-5
        assert check.relative_inversion_error < 1e-5
        assert check.compared == 4

    def test_orthogonal_transforms(self):
        import FrEIA.modules as fm

        torch.manual_seed(0)
        module = fm.OrthogonalTransform([(6,)]).double()
        module.scaling.data += 0.3 * normal(1, 6)
        check = ip.check_invertible(module, normal(7, 6))
        assert check.ok, check.verdict
        assert abs(ip.entropy_change(module, normal(7, 6)).value) > 0.1

    @pytest.mark.parametrize("kind", [float, int, np.float64, torch.tensor])
    def test_every_form_of_a_log_determinant(self, kind):
        for form in (lambda v: kind(2.0), lambda v: v, lambda v: v[:1], lambda v: v[0]):
            module = Pair(math.e, form, lambda v: -2)
            change = ip.entropy_change(module, normal(9, 2))
            assert change.value.item() == pytest.approx(2)
            assert change.value.dtype == torch.float64

    def test_whole_networks(self):
        import FrEIA.framework as ff
        import FrEIA.modules as fm

        sequence = ff.SequenceINN(6)
        torch.manual_seed(0)
        for _ in range(2):
            sequence.append(fm.GLOWCouplingBlock, subnet_constructor=dense)
        sequence.append(fm.GLOWCouplingBlock, 0, (2,), subnet_constructor=dense)
        sequence = perturbed(sequence).double()
        x, c = normal(7, 6), normal(7, 2, seed=1)
        expected = sequence(x, [c])[1].mean().item()
        assert ip.entropy_change(sequence, x, c=c).value.item() == pytest.approx(expected)
        check = ip.check_invertible(sequence, x, c=(c,))
        assert check.ok, check.verdict
        assert ip.entropy_change(ff.SequenceINN(6), x).value == 0  # its log-determinant is int 0

    def test_the_user_s_own_batches(self):
        inn, x = real_nvp(6), normal(100, 6)
        whole = ip.entropy_change(inn, x)
        for rows in (1, 7, 1000):
            parts = ip.entropy_change(inn, x, batch_size=rows)
            assert parts.value.item() == pytest.approx(whole.value.item(), abs=1e-12)
            assert parts.stderr.item() == pytest.approx(whole.stderr.item(), abs=1e-12)

    def test_gaussian_mixtures(self):
        import FrEIA.modules as fm

        module = fm.GaussianMixtureModel([(3,)], [(2,), (2, 3), (2, 6), (1,)])
        w = fm.GaussianMixtureModel.normalize_weights(normal(8, 2).float())
        c = (w, normal(8, 2, 3).float(), normal(8, 2, 6).float(), torch.arange(8).int() % 2)
        check = ip.check_invertible(module, normal(8, 3).float(), c=c)
        assert check.ok, check.verdict
        # All components at once have a log-determinant each.
        with pytest.raises(ValueError, match=r"log-determinant for each of .* \(\d, 2\)"):
            ip.entropy_change(module, normal(8, 2, 3).float(), c=(*c[:3], None))

    def test_parts_of_a_wrong_network_are_named(self):
        import FrEIA.modules as fm

        coupling = (fm.RNVPCouplingBlock, {"subnet_constructor": dense})
        inn = perturbed(graph(6, coupling, (fm.LearnedElementwiseScaling, {}), coupling))
        check = ip.check_invertible(inn, normal(20, 6).float())
        assert not check.ok
        assert check.forward_error < 1e-4
        assert check.inverse_error > 0.1
        assert "second (LearnedElementwiseScaling): its inverse log-determinant has the wrong" in (
            check.verdict
        )
        assert "first" not in check.verdict
        assert not any(part._forward_pre_hooks for part in inn.modules())


@pytest.mark.filterwarnings("ignore:Invertible Autoencoder layers:UserWarning")
class TestWrongClaims:
    def modules(self):
        import FrEIA.modules as fm

        torch.manual_seed(0)
        scaling = perturbed(fm.LearnedElementwiseScaling([VECTOR]))
        return {
            "scaling": (scaling, VECTOR, [True]),
            "dense": (fm.InvAutoFC([VECTOR]), VECTOR, [False, True]),
            "conv": (fm.InvAutoConv2D([(2, 3, 3)]), (2, 3, 3), [False, True]),
            "residual": (fm.IResNetLayer([VECTOR]), VECTOR, [False, True]),
        }

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("scaling", "its inverse log-determinant has the wrong sign"),
            ("dense", "its forward log-determinant is always 0, which is"),
            ("conv", "its inverse log-determinant is always 0, which is"),
            ("residual", "its log-determinant is a random estimate"),
        ],
    )
    def test_known_ones(self, name, words):
        module, shape, directions = self.modules()[name]
        module, x = module.double(), normal(10, *shape)
        check = ip.check_invertible(module, x)
        assert words in check.verdict
        assert check.verdict.startswith(f"{type(module).__name__} is not to be trusted: ")
        assert check.verdict in repr(check)
        assert (check.spread > 0) == (name == "residual")
        for rev in directions:
            with pytest.warns(UserWarning, match="log-determinants are not to be believed"):
                change = ip.entropy_change(module, x, rev=rev)
            if name == "residual" and rev:  # autograd sees the last of its iterations only
                back = module((x,), rev=True, jac=False)[0][0].detach()
                exact = -autograd(lambda x: module((x,), jac=False)[0][0], back)
            else:
                exact = autograd(lambda x, rev=rev: module((x,), rev=rev, jac=False)[0][0], x)
            assert change.value.item() == pytest.approx(exact.mean().item(), abs=1e-6)

    def test_a_scaling_is_believed_forward(self):
        module, shape, _ = self.modules()["scaling"]
        x = normal(10, *shape).float()
        expected = module((x,))[1].item()
        assert ip.entropy_change(module, x).value.item() == pytest.approx(expected, abs=1e-6)

    def test_known_ones_of_many_inputs(self):
        import FrEIA.modules as fm

        module = perturbed(fm.LearnedElementwiseScaling([(300,)]), 0.01)
        x = normal(2, 300).float()
        with pytest.warns(UserWarning, match="LearnedElementwiseScaling claims the wrong sign"):
            change = ip.entropy_change(module, x, rev=True)
        exact = -ip.entropy_change(module, x).value.item()
        assert change.value.item() == pytest.approx(exact, abs=1e-4)
        module = fm.LearnedElementwiseScaling([(4000,)])
        with pytest.raises(ValueError, match=r"d=4,000 inputs are too many .* 3,072.*adds up"):
            ip.entropy_change(module, normal(2, 4000).float(), rev=True)

    def test_random_estimates_of_many_inputs(self):
        import FrEIA.modules as fm

        torch.manual_seed(0)
        module, x = fm.IResNetLayer([(200,)]), normal(40, 200).float()
        with pytest.warns(UserWarning, match="are random estimates, which vary by"):
            change = ip.entropy_change(module, x)
        exact = ip.entropy_change(lambda x: module((x,), jac=False)[0][0], x[:4])
        assert change.value.item() == pytest.approx(
            exact.value.item(), abs=5 * change.stderr.item()
        )
        assert change.stderr > 0.05
        assert not x.requires_grad

    def test_constants_signs_and_noise_by_the_figures_alone(self):
        x = normal(10, 2, 3)
        cases = {
            "is off by a constant +1": (lambda v: v + 1, lambda v: v - 1),
            "forward log-determinant is always 0": (lambda v: 0 * v, lambda v: 0),
            "forward log-determinant has the wrong sign": (lambda v: -v, lambda v: -v),
            "random estimate": (lambda v: v + torch.randn(len(v)), None),
            "is off by 3": (lambda v: v + torch.arange(len(v)) % 5, None),
        }
        for words, claims in cases.items():
            module = Pair(2.0, *claims)
            assert words in ip.check_invertible(module, x).verdict
            with pytest.warns(UserWarning, match="not to be believed .* where autograd finds"):
                change = ip.entropy_change(module, x)
            assert change.value.item() == pytest.approx(6 * math.log(2))

    def test_a_reshape_that_adds_one(self):
        class Reshape(Pair):
            def forward(self, x):
                return x.flatten(1), torch.ones(len(x))

            def inverse(self, z):
                return z.view(len(z), 2, 3), torch.ones(len(z))

        check = ip.check_invertible(Reshape(), normal(10, 2, 3))
        assert check.verdict == (
            "Reshape is not to be trusted: its forward log-determinant is off by a constant +1; "
            "its inverse log-determinant is off by a constant +1."
        )
        assert check.inversion_error == 0
        assert check.cancellation == 2
        many = ip.check_invertible(Reshape(), normal(2, 2, 3)).cancellation
        assert many == 2
        # Where autograd is out of reach, what does not cancel is still seen.
        wide = Pair(1.0, lambda v: v + 1, lambda v: v + 1)
        check = ip.check_invertible(wide, normal(2, 4000))
        assert check.compared == 0
        assert check.forward_error is None
        assert "both ways add up to 2" in check.verdict

    def test_a_wrong_inverse(self):
        class Off(Pair):
            def inverse(self, z):
                return z / self.scale + 0.1, self.claim(z, 1)

        check = ip.check_invertible(Off(), normal(1000, 3))
        assert check.inversion_error == pytest.approx(0.1)
        assert check.relative_inversion_error == pytest.approx(0.1, rel=0.1)
        assert "it comes back 0.1 of the spread of x off" in check.verdict
        folds = Pair()
        folds.forward = lambda x: (x.abs(), torch.zeros(len(x)))
        assert "comes back" in ip.check_invertible(folds, normal(100, 2)).verdict

    def test_what_cannot_be_compared(self):
        check = ip.check_invertible(Pair(), normal(2, 4000))
        assert check.ok
        assert "were not compared with autograd" in check.verdict
        silent = Pair(2.0, lambda v: None, lambda v: None)
        check = ip.check_invertible(silent, normal(5, 2))
        assert check.verdict == "Pair is invertible; it claims no log-determinants."
        assert check.cancellation is None
        change = ip.entropy_change(silent, normal(5, 2))
        assert change.value.item() == pytest.approx(2 * math.log(2))
        assert "-" in repr(check)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_freia_module_that_claims_nothing(self):
        import FrEIA.modules as fm

        class Doubling(fm.InvertibleModule):
            def forward(self, x, rev=False, jac=True):
                return (x[0] / 2 if rev else x[0] * 2,), None

            def output_dims(self, dims):
                return dims

        x = normal(5, 2)
        change = ip.entropy_change(Doubling([(2,)]), x)
        assert change.value.item() == pytest.approx(2 * math.log(2))
        assert ip.check_invertible(Doubling([(2,)]), x).cancellation is None


class TestOtherLibraries:
    def agree(self, module, x, forward, c=None, tolerance=1e-4):
        """Against autograd of what the library itself runs, and both ways."""
        row = x[:1]
        condition = None if c is None else c[:1]
        exact = autograd(forward, row).item()
        found = ip.entropy_change(module, row, c=condition).value.item()
        assert found == pytest.approx(exact, abs=tolerance)
        check = ip.check_invertible(module, x, c=c)
        assert check.ok, check.verdict
        assert check.compared

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
            self.agree(module, x, lambda x, module=module: module(x)[0])
        flow = flows.Flow(composite, StandardNormal([4]))
        self.agree(flow, x, lambda x: flow.transform_to_noise(x))
        conditional = nf.MaskedAffineAutoregressiveTransform(4, 16, context_features=2)
        perturbed(conditional, 0.2)
        self.agree(conditional, x, lambda x: conditional(x, context[:1])[0], c=context)
        flow = flows.Flow(conditional, StandardNormal([4]), embedding_net=nn.Linear(2, 2))
        self.agree(flow, x, lambda x: flow.transform_to_noise(x, context[:1]), c=context)
        spline = nf.PiecewiseRationalQuadraticCouplingTransform(
            torch.tensor([1, 0, 1, 0]),
            lambda d, out: perturbed(ResidualNet(d, out, hidden_features=8, num_blocks=1)),
            tails="linear",
            tail_bound=3,
        )
        self.agree(spline, x, lambda x: spline(x)[0])
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
                self.agree(module, x, lambda x, module=module: module(x)[0])
            flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(4), layers)
            self.agree(flow, x, flow.forward)
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

    def test_zuko(self):
        zuko = pytest.importorskip("zuko")
        torch.manual_seed(0)
        x, context = normal(20, 3).float(), normal(20, 2, seed=1).float()
        for flow in (
            zuko.flows.MAF(3, transforms=2),
            zuko.flows.NSF(3, transforms=1),
            zuko.flows.NAF(3, transforms=1),
            zuko.flows.CNF(3),
        ):
            perturbed(flow, 0.05)
            self.agree(flow, x, lambda x, flow=flow: flow().transform(x), tolerance=1e-3)
        flow = zuko.flows.MAF(3, transforms=2)
        self.agree(flow.transform, x, flow().transform)
        self.agree(flow().transform, x, flow().transform)
        flow = perturbed(zuko.flows.MAF(3, 2), 0.05)
        self.agree(flow, x, lambda x: flow(context[:1]).transform(x), c=context)
        with pytest.raises(TypeError, match="a flow with a transform, got GMM"):
            ip.entropy_change(zuko.mixtures.GMM(3), x)

    @pytest.mark.parametrize(
        "transform",
        [
            transforms.ExpTransform(),
            transforms.SigmoidTransform(),
            transforms.TanhTransform(),
            transforms.SoftplusTransform(),
            transforms.AffineTransform(1.0, 3.0),
            transforms.AffineTransform(torch.zeros(2, 3), torch.arange(1, 7).reshape(2, 3)),
            transforms.AffineTransform(1.0, 3.0, event_dim=2),
            transforms.IndependentTransform(transforms.ExpTransform(), 1),
            transforms.ComposeTransform(
                [transforms.AffineTransform(0, 0.5, event_dim=1), transforms.TanhTransform()]
            ),
            transforms.ReshapeTransform((2, 3), (6,)),
            transforms.TanhTransform().inv.inv,
            transforms.identity_transform,
        ],
        ids=str,
    )
    def test_torch(self, transform):
        x = normal(20, 2, 3)
        self.agree(transform, x, transform, tolerance=1e-6)
        y = transform(x)
        back = ip.entropy_change(transform.inv, y).value.item()
        assert back == pytest.approx(-ip.entropy_change(transform, x).value.item(), abs=1e-6)
        assert ip.entropy_change(transform, y, rev=True).value.item() == pytest.approx(back)

    def test_a_transform_into_more_dimensions(self):
        # Its own log-determinant is that of all but the last probability; the simplex that these
        # are the shadow of is larger by the square root of the number of probabilities.
        transform, x = transforms.StickBreakingTransform(), normal(50, 3)
        shadow = transform.log_abs_det_jacobian(x, transform(x)).mean().item()
        change = ip.entropy_change(transform, x)
        assert change.value.item() == pytest.approx(shadow + math.log(4) / 2)

    def test_transforms_that_are_not_bijective(self):
        for transform in (transforms.SoftmaxTransform(), transforms.AbsTransform()):
            with pytest.raises(ValueError, match=r"bijective transform, got \w+Transform, which"):
                ip.entropy_change(transform, normal(5, 3))
        with pytest.raises(TypeError, match=r"^c: expected no condition"):
            ip.entropy_change(transforms.ExpTransform(), normal(5, 3), c=normal(5, 3))

    def test_functions_with_conditions(self):
        x, c = normal(300, 2), normal(300, 1, seed=1)
        change = ip.entropy_change(lambda x, c: x * c.exp(), x, c=c, batch_size=7)
        assert change.value.item() == pytest.approx(2 * c.mean().item())


class TestTheCallersThings:
    def test_nothing_is_touched(self):
        import FrEIA.modules as fm

        haar = fm.HaarDownsampling([(1, 4, 4)])  # writes into what it inverts
        z = torch.randn(5, 4, 2, 2, generator=torch.Generator().manual_seed(0))
        before = z.clone()
        assert ip.entropy_change(haar, z, rev=True).value.item() == pytest.approx(0, abs=1e-6)
        ip.check_invertible(haar, torch.randn(5, 1, 4, 4))
        ip.jacobian_spectrum(haar, z, rev=True)
        assert torch.equal(z, before)

        inn = real_nvp(6)
        for parameter in inn.parameters():
            parameter.grad = torch.ones_like(parameter)
        inn.train()
        state = copy.deepcopy(inn.state_dict())
        x = normal(20, 6).requires_grad_()
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        for function in (ip.entropy_change, ip.check_invertible, ip.jacobian_spectrum):
            function(inn, x)
            found = ip.entropy_change(lambda x: inn(x)[0], x)
            assert not found.value.requires_grad
        assert torch.equal(torch.rand(3), expected)
        assert x.requires_grad
        assert x.grad is None
        assert inn.training
        assert all(torch.equal(p.grad, torch.ones_like(p)) for p in inn.parameters())
        assert all(torch.equal(value, state[key]) for key, value in inn.state_dict().items())

    def test_random_estimates_leave_the_random_state(self):
        import FrEIA.modules as fm

        module, x = fm.IResNetLayer([(4,)]), normal(9, 4).float()
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        ip.check_invertible(module, x)
        assert torch.equal(torch.rand(3), expected)
        assert not x.requires_grad

    def test_buffers_that_a_run_changes(self):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("runs", torch.zeros(()))

            def forward(self, x):
                self.runs += 1
                return 2 * x

        module = Counting()
        assert ip.entropy_change(module, normal(5, 2)).value.item() == pytest.approx(math.log(4))
        assert module.runs == 0

    def test_the_callers_settings_do_not_matter(self):
        inn, x = real_nvp(6), normal(20, 6)
        maps = (inn, lambda x: inn(x)[0])
        for module in maps:
            expected = ip.entropy_change(module, x).value.item()

            def value(module=module):
                return ip.entropy_change(module, x).value.item()

            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert value() == expected
            with torch.inference_mode():
                assert value() == expected
                assert ip.entropy_change(module, x.clone()).value.item() == expected
            with torch.no_grad():
                assert value() == expected
            assert ip.entropy_change(module, x.numpy()).value.item() == expected
        assert ip.check_invertible(inn, x).ok
        with torch.device("meta"):
            doubled = ip.entropy_change(lambda x: 2 * x, x).value.item()
        assert doubled == pytest.approx(6 * math.log(2))

    def test_wrapped_modules(self):
        inn, x = real_nvp(6), normal(20, 6)
        expected = ip.entropy_change(inn, x).value.item()
        compiled = torch.compile(inn, backend="eager")
        assert ip.entropy_change(compiled, x).value.item() == expected
        assert ip.entropy_change(nn.DataParallel(inn), x, rev=False).value.item() == expected

    def test_types_and_devices(self, device):
        inn = real_nvp(6).to(device)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
            x = normal(20, 6).to(device, dtype)
            module = copy.deepcopy(inn).to(dtype)
            expected = ip.entropy_change(real_nvp(6), normal(20, 6)).value.item()
            for found in (
                ip.entropy_change(module, x),
                ip.entropy_change(lambda x, module=module: module(x)[0], x),
            ):
                assert found.value.dtype == found.stderr.dtype == torch.float64
                assert found.value.device.type == device
                assert found.value.dim() == found.stderr.dim() == 0
                assert found.value.item() == pytest.approx(expected, abs=tolerance)
            assert ip.check_invertible(module, x).ok


class TestErrors:
    def test_fewer_outputs_than_inputs(self):
        with pytest.raises(ValueError, match=r"got 5 numbers in and 2 out, .*mutual_information"):
            ip.entropy_change(nn.Linear(5, 2), normal(4, 5).float())

    @pytest.mark.parametrize(
        ("layer", "evaluates"),
        [
            (nn.Dropout(), True),
            (nn.RReLU(), True),
            (nn.BatchNorm1d(3), True),
            (nn.BatchNorm1d(3, track_running_stats=False), False),
        ],
    )
    def test_modules_in_train_mode(self, layer, evaluates):
        module = nn.Sequential(nn.Linear(3, 3), layer).double()
        state = copy.deepcopy(module.state_dict())
        for map in (module, module.forward):
            with pytest.raises(ValueError, match=r"but 1 \(\w+\) works with batch statistics"):
                ip.entropy_change(map, normal(20, 3))
        # Within a function, by what it does.
        with pytest.raises(ValueError, match=r"outputs moved by .* module\.eval\(\)"):
            ip.entropy_change(lambda x: layer.double()(x), normal(20, 3))
        assert all(torch.equal(value, state[key]) for key, value in state.items())
        if evaluates:
            assert ip.entropy_change(module.eval(), normal(20, 3)).value.isfinite()

    def test_uninitialised_modules(self):
        import FrEIA.modules as fm

        module = fm.ActNorm([(3,)])
        with pytest.raises(ValueError, match=r"module \(ActNorm\) takes .* first batch"):
            ip.entropy_change(module, normal(20, 3).float())
        assert not module.scale.any()
        with pytest.raises(ValueError, match=r"0 \(LazyLinear\) takes .* first batch"):
            ip.entropy_change(nn.Sequential(nn.LazyLinear(3)), normal(20, 3).float())

    def test_too_many_inputs(self):
        with pytest.raises(ValueError, match=r"^x: expected at most 3,072.* d=3,073.* adds up"):
            ip.entropy_change(lambda x: 2 * x, normal(2, 3073))
        with pytest.raises(ValueError, match=r"^x: expected at most 3,072"):
            ip.jacobian_spectrum(lambda x: 2 * x, normal(2, 1, 3073))

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

    @pytest.mark.parametrize(
        "function", [ip.entropy_change, ip.check_invertible, ip.jacobian_spectrum]
    )
    def test_bad_samples(self, function):
        module = Pair()
        for bad in (math.nan, math.inf):
            x = normal(5, 3)
            x[2, 1] = bad
            with pytest.raises(ValueError, match=r"^x: expected finite values"):
                function(module, x)
        for bad in (torch.arange(6).reshape(2, 3), torch.ones(2, 3, dtype=torch.bool)):
            with pytest.raises(TypeError, match=rf"^x: expected floating-point .* {bad.dtype}"):
                function(module, bad)
        with pytest.raises(TypeError, match=r"^x: "):
            function(module, "abc")
        with pytest.raises(ValueError, match=r"^x: expected at least one value"):
            function(module, torch.zeros(0, 3))
        with pytest.raises(ValueError, match=r"^x: expected samples along the first axis"):
            function(module, torch.tensor(1.0))
        for rows in (0, -1):
            with pytest.raises(ValueError, match=r"^batch_size"):
                function(module, normal(5, 3), batch_size=rows)
        with pytest.raises(ValueError, match=r"as many samples"):
            function(module, (normal(5, 3), normal(4, 3)))
        with pytest.raises(ValueError, match=r"^x: expected samples that the module maps"):
            function(transforms.ExpTransform().inv, -normal(5, 3).abs())

    def test_log_determinants_that_are_no_numbers(self):
        module = Pair(2.0, lambda v: torch.where(torch.arange(len(v)) == 5, math.nan, v))
        with pytest.raises(ValueError, match=r"that are numbers, got NaN for 1 of 20 samples"):
            ip.entropy_change(module, normal(20, 3))

    def test_errors_of_the_module_itself_come_through(self):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            ip.entropy_change(nn.Linear(4, 4), normal(5, 3).float())

    def test_partly_singular(self):
        x = torch.tensor([[1.0, 2.0], [-1.0, 2.0], [3.0, 1.0], [2.0, 2.0]])
        with pytest.warns(UserWarning, match=r"infinite for 1 of 4 samples \(25.0%\)"):
            change = ip.entropy_change(nn.ReLU(), x)
        assert change.value == -math.inf
        assert change.stderr.isnan()
        assert change.n == 4
