import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import transforms

import infoprobe as ip
from tests.maps.textbook_maps import (
    Pair,
    normal,
    real_nvp,
)


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
    def test_uninitialised_modules(self):
        import FrEIA.modules as fm

        module = fm.ActNorm([(3,)])
        with pytest.raises(ValueError, match=r"module \(ActNorm\) takes .* first batch"):
            ip.entropy_change(module, normal(20, 3).float())
        assert not module.scale.any()
        with pytest.raises(ValueError, match=r"0 \(LazyLinear\) takes .* first batch"):
            ip.entropy_change(nn.Sequential(nn.LazyLinear(3)), normal(20, 3).float())

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

    def test_errors_of_the_module_itself_come_through(self):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            ip.entropy_change(nn.Linear(4, 4), normal(5, 3).float())
