import math

import numpy as np
import pytest
import scipy.stats
import torch

import infoprobe as ip


class TestBadInput:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite(self, bad):
        x = torch.zeros(4, 5)
        x[1, 2] = bad
        kind = "1 NaN and 0 infinite" if math.isnan(bad) else "0 NaN and 1 infinite"
        with pytest.raises(ValueError, match=rf"q: .*{kind} among 20 \(5.000%\)"):
            ip.Histogram().kl_divergence(torch.zeros(3), x)

    def test_empty(self):
        with pytest.raises(ValueError, match=r"x: .*empty tensor of shape \(0, 7\)"):
            ip.Histogram().entropy(torch.zeros(0, 7))

    @pytest.mark.parametrize("x", [["a"], np.array(["a"]), np.array([None]), None, [[1], [1, 2]]])
    def test_no_numbers(self, x):
        with pytest.raises(TypeError, match="x: expected a tensor or an array of real numbers"):
            ip.Histogram().entropy(x)

    def test_complex_numbers(self):
        with pytest.raises(
            TypeError, match=r"x: expected real numbers, got dtype torch\.complex64"
        ):
            ip.Histogram().entropy(torch.zeros(3, dtype=torch.complex64))

    def test_integers_that_floats_cannot_hold(self):
        ip.Histogram().entropy(torch.tensor([0, 2**53 - 1]))
        with pytest.raises(ValueError, match=r"below 2\*\*53"):
            ip.Histogram().entropy(torch.tensor([0, 2**53 + 1]))

    def test_outside_of_an_explicit_range(self):
        x = torch.tensor([-1.0, 0.5, 1.0, 3.0])
        with pytest.raises(
            ValueError, match=r"x: .*from -1.0 to 3.0, 50.000% of them outside.*clip"
        ):
            ip.Histogram(range=(0, 1)).entropy(x)
        clip = ip.Histogram(4, range=(0, 1), outside="clip")
        assert clip.count(x).values.tolist() == [1, 0, 1, 2]
        drop = ip.Histogram(4, range=(0, 1), outside="drop")
        assert drop.count(x).values.tolist() == [0, 0, 1, 1]
        with pytest.raises(ValueError, match=r"x: .*outside='drop' left none"):
            drop.entropy(x + 9)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"bins": 0}, ValueError, "bins: .*got 0"),
            ({"bins": -3}, ValueError, "bins: .*got -3"),
            ({"bins": 2.5}, TypeError, "bins: expected an integer, got 2.5"),
            ({"bins": 2**25}, ValueError, "bins: .*between 1 and 16,777,216"),
            ({"bins": 1}, ValueError, "bins: expected at least 2 with range='dyadic'"),
            ({"range": "auto"}, ValueError, "range: expected one of 'dyadic', 'minmax', 'own'"),
            ({"range": (1, 0)}, ValueError, "range: expected finite low < high"),
            ({"range": (0, math.inf)}, ValueError, "range: expected finite low < high"),
            ({"range": (0, 1, 2)}, ValueError, r"range: .*pair \(low, high\)"),
            ({"range": None}, ValueError, r"range: .*pair \(low, high\)"),
            ({"over": "layers"}, ValueError, "over: expected one of 'values'"),
            ({"pseudocount": -1}, ValueError, "pseudocount: expected a finite number >= 0"),
            ({"pseudocount": math.nan}, ValueError, "pseudocount: expected a finite number >= 0"),
            ({"pseudocount": "1"}, TypeError, "pseudocount: expected a number, got '1'"),
            ({"outside": "clip"}, ValueError, "outside: expected 'raise' with range='dyadic'"),
            ({"correction": "jackknife"}, ValueError, "correction: expected one of None, 'james"),
            (
                {"correction": "grassberger", "pseudocount": 1},
                ValueError,
                "pseudocount: expected 0 with correction='grassberger', got 1. .* choose one",
            ),
            (
                {"over": "samples", "pseudocount": 1},
                ValueError,
                r"over: 'samples' cannot have a pseudocount.*bins\*\*d symbols",
            ),
            (
                {"over": "samples", "correction": "james-stein"},
                ValueError,
                r"over: 'samples' cannot have correction='james-stein'.*bins\*\*d symbols",
            ),
            ({"range": (0, 1), "outside": "wrap"}, ValueError, "outside: expected one of"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            ip.Histogram(**settings)

    @pytest.mark.parametrize("mode", ["own", "minmax"])
    def test_ranges_that_cannot_stream(self, mode):
        h = ip.Histogram(range=mode)
        with pytest.raises(ValueError, match=f"range: '{mode}' needs all the values at once"):
            h.count(torch.zeros(3))
        with pytest.raises(ValueError, match="needs all the values at once"):
            h.entropy(ip.Histogram().count(torch.zeros(3)))

    @pytest.mark.parametrize("over", ["units", "samples"])
    def test_what_cannot_stream(self, over):
        assert ip.Histogram().streams
        h = ip.Histogram(over=over)
        assert not h.streams
        counts, x = ip.Histogram().count(torch.zeros(3)), torch.zeros(3, 1)
        message = f"over: '{over}' needs all the data at once"
        with pytest.raises(ValueError, match=message):
            h.count(x)
        with pytest.raises(ValueError, match=message):
            h.entropy(counts)
        with pytest.raises(ValueError, match=message):
            h.kl_divergence(x, counts)
        with pytest.raises(ValueError, match=f"over: kl_at_zero .*got '{over}'"):
            h.kl_at_zero(x, x)

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_counts_know_no_pairs(self, over):
        counts = ip.Histogram().count(torch.zeros(3))
        with pytest.raises(
            ValueError, match=r"y: .*counts, which do not know which values belong"
        ):
            ip.Histogram(over=over).mutual_information(torch.zeros(3), counts)

    @pytest.mark.parametrize("over", ["units", "samples"])
    def test_shapes_of_samples(self, over):
        h = ip.Histogram(over=over)
        for name in ("cross_entropy", "kl_divergence", "js_divergence", "uncovered"):
            with pytest.raises(ValueError, match=r"p, q: .*p has d=2, q has d=3"):
                getattr(h, name)(torch.zeros(4, 2), torch.zeros(4, 3))
        for alone in (torch.zeros(()), torch.zeros(1, 5)):
            with pytest.raises(ValueError, match="x: expected at least 2 samples"):
                h.entropy(alone)
        with pytest.raises(ValueError, match=r"x: .*1 NaN and 0 infinite"):
            h.entropy(torch.tensor([[1.0], [math.nan]]))

    def test_pairs_that_do_not_fit(self):
        x = torch.zeros(4, 6)
        for over in ("values", "units"):
            h = ip.Histogram(over=over)
            message = rf"x, y: expected the same shape, since {over} .*got \(4, 6\) and \(4, 5\)"
            with pytest.raises(ValueError, match=message):
                h.mutual_information(x, torch.zeros(4, 5))
        with pytest.raises(ValueError, match=r"x, y: .*x has 4, y has 5"):
            ip.Histogram(over="samples").mutual_information(x, torch.zeros(5, 6))

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_outside_of_an_explicit_range_in_every_way(self, over):
        x, y = torch.tensor([[0.5], [0.6]]), torch.tensor([[0.5], [3.0]])
        h = ip.Histogram(4, (0, 1), over)
        message = "y: .*from 0.5 to 3.0, 50.000% of them outside"
        with pytest.raises(ValueError, match=message):
            h.mutual_information(x, y)
        with pytest.raises(ValueError, match=message.replace("y", "q", 1)):
            h.kl_divergence(x, y)
        drop = ip.Histogram(4, (0, 1), over, outside="drop")
        with pytest.raises(ValueError, match=r"q: .*outside='drop' left none"):
            drop.kl_divergence(x, y + 9)

    def test_a_unit_that_overflows(self):
        x = torch.tensor([[0.0, -1.7e308], [1.0, 1.7e308]], dtype=torch.float64)
        assert ip.Histogram(over="units").entropy(x).item() == pytest.approx(2 * math.log(2))
        with pytest.raises(ValueError, match="overflows"):
            ip.Histogram(range="minmax", over="units").entropy(x)

    def test_counts_of_other_bins(self):
        x = torch.randn(100)
        counts = ip.Histogram(256).count(x)
        for h in (ip.Histogram(64), ip.Histogram(range=(-9, 9)), ip.Histogram(255)):
            with pytest.raises(ValueError, match=r"x: expected counts made by .* Count again"):
                h.entropy(counts)
        with pytest.raises(ValueError, match="q: expected counts made by"):
            ip.Histogram(64).kl_divergence(x, counts)
        with pytest.raises(ValueError, match="no common bins"):
            counts + ip.Histogram(64).count(x)
        same = ip.Histogram(256, pseudocount=1)
        assert same.entropy(counts) == same.entropy(x)

    def test_python_floats_keep_their_precision(self):
        assert ip.Histogram().entropy([1e8, 1e8 + 1]).item() == pytest.approx(math.log(2))
        assert ip.Histogram().entropy([1e300, 1.0]).item() == pytest.approx(math.log(2))

    @pytest.mark.parametrize("mode", ["minmax", "own", (0, 1e308)])
    def test_a_huge_span(self, mode):
        x = torch.linspace(0, 1e308, 257, dtype=torch.float64)
        h = ip.Histogram(256, range=mode)
        expected = np.histogram(x.numpy() / 2**900, 256)[0]
        assert h.entropy(x).item() == pytest.approx(scipy.stats.entropy(expected))

    def test_a_span_that_overflows(self):
        x = torch.tensor([-1.7e308, 1.7e308], dtype=torch.float64)
        assert ip.Histogram().entropy(x).item() == pytest.approx(math.log(2))
        with pytest.raises(ValueError, match="overflows"):
            ip.Histogram(range="minmax").entropy(x)
