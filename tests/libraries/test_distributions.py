import math

import pytest
import torch
from torch.distributions import transforms

import infoprobe as ip
from tests.maps.textbook_maps import agree, normal, perturbed


class TestDistributions:
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
            agree(flow, x, lambda x, flow=flow: flow().transform(x), tolerance=1e-3)
        flow = zuko.flows.MAF(3, transforms=2)
        agree(flow.transform, x, flow().transform)
        agree(flow().transform, x, flow().transform)
        flow = perturbed(zuko.flows.MAF(3, 2), 0.05)
        agree(flow, x, lambda x: flow(context[:1]).transform(x), c=context)
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
        agree(transform, x, transform, tolerance=1e-6)
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
