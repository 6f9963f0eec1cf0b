import contextlib
import math
import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.measures.helpers import (
    OF_DIVERGENCE,
    OF_ENTROPY,
    OF_INFORMATION,
    PAPER,
    Square,
    data,
    measured,
)

ROWS = [ip.Entropy(PAPER), ip.MutualInformation(ip.Gaussian())]


class Names(nn.Module):
    """A layer with an output that has no batch."""

    def forward(self, x):
        return x.sum(0)


class _Sum(nn.Module):
    def forward(self, x):
        return x.sum()


class TestWhatCannotBeMeasured:
    """It is reported on the row; the model's pass goes on, and so do the other layers."""

    def test_a_shape_that_changes(self):
        model, x = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool1d(3)), data(40, 8)
        with ip.probe(model, measures=ip.Entropy(PAPER)) as probe:
            model(x[:20])
            message = (
                r"layer '0' .*In pass 2, the output could not be measured: "
                r"expected samples of shape \(8,\) as before, got"
            )
            with pytest.warns(RuntimeWarning, match=message):
                model(x[:, :6])
            model(x[20:])
        identity, pool = probe.report().rows
        assert identity["n"] == 40
        assert identity["value"] == float(PAPER.entropy(x))
        assert "1 call is left out. In pass 2, the output" in identity["findings"][-1]
        assert pool["n"] == 80
        assert pool["value"] is not None

    def test_a_layer_without_a_batch(self):
        model, x = nn.Sequential(nn.Identity(), nn.Identity(), Names()), data()
        message = "as the pass has samples, 120,"
        with (
            ip.probe(model, measures=[*ROWS, ip.Entropy()]) as probe,
            pytest.warns(RuntimeWarning, match=message),
        ):
            model(x)
        rows = probe.report().rows
        assert rows[3]["value"] == float(PAPER.entropy(x))
        for row in rows[6:8]:
            assert row["value"] is None
            assert "which row belongs to which sample is unknown" in row["findings"][0]
        assert rows[8]["value"] is not None

    def test_a_first_layer_without_a_batch(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.positions, self.last = nn.Embedding(4, 4), nn.Identity()

            def forward(self, x):
                return self.last(x + self.positions(torch.arange(4)).sum(0))

        model, x = Model(), data()
        with ip.probe(model, measures=ip.Entropy(PAPER)) as probe, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            y = model(x)
        positions, last = probe.report().rows
        assert positions["value"] is None
        assert last["value"] == float(PAPER.entropy(y))

    def test_a_single_number(self):
        model = nn.Sequential(nn.Identity(), _Sum())
        message = "layer '1'"
        with (
            ip.probe(model, measures=ip.Entropy(PAPER)) as probe,
            pytest.warns(RuntimeWarning, match=message),
        ):
            model(data())
        identity, total = probe.report().rows
        assert identity["value"] == float(PAPER.entropy(data()))
        assert total["value"] is None
        assert "1 call is left out" in total["findings"][-1]

    def test_no_tensor_goes_in(self):
        class Makes(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Identity()

            def forward(self, n):
                return self.layer(data(n))

        model = Makes()
        message = "In pass 1, the model's input could not be measured: there is no tensor"
        with (
            ip.probe(model, measures=ROWS) as probe,
            pytest.warns(RuntimeWarning, match=message),
        ):
            model(50)
        entropy, information = probe.report().rows
        assert entropy["value"] == float(PAPER.entropy(data(50)))
        assert information["value"] is None
        assert information["findings"][0].endswith(
            "the model's input could not be measured: there is no tensor."
        )

    def test_batches_that_are_not_finite(self):
        class Breaks(nn.Module):
            def forward(self, x):
                y = x.clone()
                y[x[:, 0] > 100] = math.nan
                return y

        model, x = nn.Sequential(nn.Identity(), Breaks(), nn.Identity()), data(100)
        bad = data(10)
        bad[::5, 0] = 200
        h = ip.Histogram(64)
        measures = [ip.Entropy(PAPER), ip.MutualInformation(PAPER), ip.Entropy(h)]
        with ip.probe(model, measures=measures) as probe:
            model(x[:60])
            with pytest.warns(RuntimeWarning) as caught:
                model(bad)
            model(x[60:])
        assert len(caught) == 1
        expected = (
            "layer '1' (forward): a call is left out of its measures. In pass 2, the output could "
            "not be measured: expected finite values, got 8 NaN and 0 infinite among 40 (20.000%)"
        )
        assert str(caught[0].message).startswith(expected)
        rows = probe.report().rows
        both = torch.cat([x[:60], bad, x[60:]])
        assert [row["n"] for row in rows] == [110] * 3 + [100] * 6
        assert rows[0]["value"] == float(PAPER.entropy(both))
        for row in rows[3::3]:
            assert row["value"] == float(PAPER.entropy(x))
            assert "1 call is left out. In pass 2, the output" in row["findings"][-1]
        for row in rows[4::3]:
            assert row["value"] == float(PAPER.mutual_information(x, x))
        for row in rows[5::3]:
            assert row["value"] == float(h.entropy(x))

    def test_an_estimator_that_refuses(self):
        model = nn.Sequential(nn.Identity(), nn.Linear(4, 2))
        rows = measured(model, data(), ip.Divergence(ip.KNN(), "input"), [120])
        assert abs(rows[0]["value"]) < 1  # of one half from the other
        assert rows[1]["value"] is None
        assert "same d" in rows[1]["findings"][0] or "equally many" in rows[1]["findings"][0]

    @pytest.mark.parametrize(
        "x",
        [
            torch.ones(30, 3),
            torch.zeros(1, 3),
            torch.randn(2, 3),
            torch.randn(30, 1).expand(30, 3),
        ],
        ids=["constant", "one sample", "two samples", "singular"],
    )
    def test_whatever_the_data(self, x):
        estimators = [*OF_ENTROPY, *OF_DIVERGENCE, *OF_INFORMATION]
        measures = []
        for kind in (ip.Entropy, ip.Divergence, ip.MutualInformation):
            for estimator in estimators:
                with contextlib.suppress(TypeError, ValueError):
                    measures.append(kind(estimator))
        rows = measured(nn.Sequential(Square()), x, measures, [len(x)])
        assert all(row["value"] is not None or row["findings"] for row in rows)


def test_a_problem_after_calls_that_do_not_apply_is_told_once():
    class Scales(nn.Module):
        def forward(self, x):
            return 2 * x, x.new_full((len(x),), math.nan)

        def inverse(self, z):
            return z / 2, z.new_zeros(len(z))

    model = Scales()
    with ip.probe(model, measures=ip.EntropyChange()) as probe:
        torch.func.vmap(lambda x: model(x[None])[0])(torch.randn(3, 2))
        x = torch.randn(4, 2)
        with pytest.warns(RuntimeWarning, match="are NaN or infinite") as caught:
            [model(x) for _ in range(5)]
    assert len(caught) == 1
    (row,) = probe.report().rows
    assert row["findings"][0].startswith("5 calls are left out. In pass 2, what the layer reports")
    assert row["findings"][1].startswith("1 call is left out. Under torch.func.vmap")
