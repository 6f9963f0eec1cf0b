import math

import pytest
import torch

import infoprobe as ip

TWO = ("cross_entropy", "kl_divergence", "js_divergence")


def test_they_call_the_estimator():
    x, y = torch.randn(2, 100)
    h = ip.Histogram(16, pseudocount=1)
    assert ip.entropy(x) == ip.Histogram().entropy(x)
    assert ip.entropy(x, h) == h.entropy(x)
    for name in TWO:
        assert getattr(ip, name)(x, y, h) == getattr(h, name)(x, y)


def test_bases():
    x, y = torch.randn(2, 100)
    h = ip.Histogram(16, pseudocount=1)
    assert ip.entropy(x, base=2).item() == pytest.approx(ip.entropy(x).item() / math.log(2))
    for name in TWO:
        in_bits = getattr(ip, name)(x, y, h, base=2)
        assert in_bits.item() == pytest.approx(getattr(h, name)(x, y).item() / math.log(2))


@pytest.mark.parametrize("base", [0, 1, -2, math.nan, math.inf])
def test_no_base(base):
    with pytest.raises(ValueError, match=r"base: expected a (finite|positive) number"):
        ip.entropy(torch.zeros(3), base=base)


def test_no_estimator():
    with pytest.raises(TypeError, match=r"estimator: expected one that has entropy\(\)"):
        ip.entropy(torch.zeros(3), "histogram")
    with pytest.raises(TypeError, match=r"such as ip\.Histogram"):
        ip.entropy(torch.zeros(3), ip.Histogram)
