import math

import pytest
import torch

import infoprobe as ip
from tests.maps.textbook_maps import Pair, normal


class TestWrongMaps:
    def test_constants_signs_and_noise_by_the_figures_alone(self):
        x = normal(10, 2, 3)
        cases = {
            "is off by a constant +1": (lambda v: v + 1, lambda v: v - 1),
            "forward log-determinant is always 0": (lambda v: 0 * v, lambda v: 0),
            "forward log-determinant has the wrong sign": (lambda v: -v, lambda v: -v),
            "random estimate": (lambda v: v + torch.randn(len(v)), None),
            "is off by 3": (lambda v: v + torch.arange(len(v)) % 5, None),
        }
        for words, reports in cases.items():
            module = Pair(2.0, *reports)
            assert words in ip.check_invertible(module, x).verdict
            with pytest.warns(UserWarning, match="wrong log-determinants .* where autograd finds"):
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
        assert "in both directions add up to 2" in check.verdict

    def test_a_wrong_inverse(self):
        class Off(Pair):
            def inverse(self, z):
                return z / self.scale + 0.1, self.report(z, 1)

        check = ip.check_invertible(Off(), normal(1000, 3))
        assert check.inversion_error == pytest.approx(0.1)
        assert check.relative_inversion_error == pytest.approx(0.1, rel=0.1)
        assert "samples come back 0.1 of the spread of x away" in check.verdict
        folds = Pair()
        folds.forward = lambda x: (x.abs(), torch.zeros(len(x)))
        assert "come back" in ip.check_invertible(folds, normal(100, 2)).verdict

    def test_what_cannot_be_compared(self):
        check = ip.check_invertible(Pair(), normal(2, 4000))
        assert check.ok
        assert "were not compared with autograd" in check.verdict
        silent = Pair(2.0, lambda v: None, lambda v: None)
        check = ip.check_invertible(silent, normal(5, 2))
        assert check.verdict == "Pair is invertible; it reports no log-determinants."
        assert check.cancellation is None
        change = ip.entropy_change(silent, normal(5, 2))
        assert change.value.item() == pytest.approx(2 * math.log(2))
        assert "-" in repr(check)
