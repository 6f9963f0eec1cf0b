import math
import warnings

import numpy as np
import pytest
import torch

import infoprobe as ip
from tests.maps.textbook_maps import (
    IMAGE,
    VECTOR,
    autograd,
    convolutional,
    dense,
    graph,
    mixture,
    normal,
    perturbed,
)

# FrEIA's modules whose log-determinants are correct: the shape of a sample, and the settings.
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


class TestModulesAndGraphs:
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
class TestWrongLogDeterminants:
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
            with pytest.warns(UserWarning, match="it reports wrong log-determinants"):
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
        with pytest.warns(UserWarning, match="LearnedElementwiseScaling reports the wrong sign"):
            change = ip.entropy_change(module, x, rev=True)
        exact = -ip.entropy_change(module, x).value.item()
        assert change.value.item() == pytest.approx(exact, abs=1e-4)
        module = fm.LearnedElementwiseScaling([(4000,)])
        with pytest.raises(ValueError, match=r"d=4,000 inputs are too many .* 3,072.*add up"):
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

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_module_that_reports_nothing(self):
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
