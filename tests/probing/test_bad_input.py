"""What cannot be measured is said, and stops neither the model nor the other layers."""

import math
import warnings

import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn

import infoprobe as ip
from infoprobe.findings import code_of
from infoprobe.models import mnist_inn
from tests.probing.helpers import MEASURES, H, hook_count, small_model, value


class TestBadInput:
    def test_no_such_layer(self):
        model = small_model()
        with pytest.raises(ValueError, match=r"layers: '9' matches none of the model's 5 layers"):
            ip.probe(model, ["0", "9"])
        with pytest.raises(ValueError, match=r"Did you mean 'conv1'"):
            ip.probe(mnist_inn(), "convl1")
        with pytest.raises(ValueError, match="this ReLU matches none"):
            ip.probe(model, nn.ReLU())
        with pytest.raises(TypeError, match="layers: expected a pattern, a module"):
            ip.probe(model, [3])
        with pytest.raises(TypeError, match="layers: expected a pattern, a module"):
            ip.probe(model, 3)
        with pytest.raises(TypeError, match="layers: expected a pattern, a module"):
            ip.probe(model, torch.tensor(3))  # it says that it can be iterated over, and cannot
        with pytest.raises(ValueError, match="layers: expected at least one"):
            ip.probe(model, [])
        assert hook_count(model) == 0

    def test_no_measure(self):
        with pytest.raises(TypeError, match=r"measures: expected ip.Entropy\(...\)"):
            ip.probe(small_model(), measures=[ip.Histogram()])
        with pytest.raises(TypeError, match=r"estimator: expected one that has entropy\(\)"):
            ip.Entropy(ip.Critic())
        with pytest.raises(TypeError, match=r"kl_divergence\(\), such as .*, got 'input'"):
            ip.Divergence("input")
        with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got NoneType"):
            ip.probe(None)
        with pytest.raises(ValueError, match="reference: expected one of 'previous', 'input'"):
            ip.Divergence(reference="output")

    def test_values_that_are_not_finite(self):
        model, x = small_model(), torch.randn(10, 6)
        bad = x.clone()
        bad[3, 2] = math.nan
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
            with pytest.warns(RuntimeWarning) as caught:
                model(bad)
            model(bad)  # says nothing new
            model(x)
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 1  # not one a layer, nor one a pass
        expected = (
            "layer '0' (forward): a call is left out of its measures. In pass 2, the output could "
            "not be measured: "
        )
        assert messages[0].startswith(expected)
        assert "8 NaN and 0 infinite among 80 (10.000%)" in messages[0]
        report = probe.report()
        assert {row["n"] for row in report.rows} == {20}
        assert value(report, "3", "entropy") == H.entropy(model(torch.cat([x, x]))).item()
        assert all("2 calls are left out. In pass 2" in row["findings"][-1] for row in report.rows)

    def test_values_outside_an_explicit_range(self):
        model = nn.Sequential(nn.Identity())
        h = ip.Histogram(range=(0, 1))
        message = r"expected values within range=\(0.0, 1.0\)"
        with ip.probe(model, measures=ip.Entropy(h)) as probe, pytest.warns(match=message):
            model(torch.full((2, 2), 3.0))
        (row,) = probe.report().rows
        assert row["value"] is None
        assert row["n"] == 0
        assert row["d"] is None
        assert "outside='clip'" in row["findings"][0]

    def test_a_layer_without_a_value_does_not_hide_the_others(self):
        model = nn.Sequential(nn.Identity(), nn.ReLU())
        h = ip.Histogram(range=(-2, -1), outside="drop")
        with ip.probe(model, measures=ip.Entropy(h)) as probe:
            model(torch.full((2, 2), -1.5))
        identity, relu = probe.report().rows
        assert identity["value"] == 0.0
        assert relu["value"] is None
        assert "outside='drop' left none" in relu["findings"][0]

    def test_a_bad_input_does_not_hide_the_outputs(self):
        class Repairs(nn.Module):
            def forward(self, x):
                return x.nan_to_num()

        model = Repairs()
        with ip.probe(model, measures=MEASURES) as probe, pytest.warns(RuntimeWarning) as caught:
            model(torch.tensor([[math.nan], [1.0]]))
        assert len(caught) == 1
        entropy, previous, model_input = probe.report().rows
        assert entropy["value"] > 0
        assert [code_of(finding) for finding in entropy["findings"]] == ["too-few-values"]
        assert previous["value"] is None
        assert model_input["value"] is None

    @pytest.mark.parametrize("kind", ["sparse", "nested", "quantized", "meta"])
    def test_unusual_tensors_do_not_stop_the_model(self, kind):
        class Makes(nn.Module):
            def forward(self, x):
                if kind == "sparse":
                    return x.to_sparse()
                if kind == "nested":
                    return torch.nested.nested_tensor([x[0], x[1]])
                if kind == "meta":
                    return x.to("meta")
                return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)

        model, x = Makes(), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with ip.probe(model, measures=ip.Entropy()) as probe:
                model(x)
        (row,) = probe.report().rows
        ours = [str(w.message) for w in caught if w.category is RuntimeWarning]
        if kind in ("quantized", "nested"):
            assert row["value"] == pytest.approx(math.log(4))
            assert row["n"] == 2
        else:
            assert "expected a dense tensor with values" in ours[0]
            assert row["value"] is None

    def test_a_graph_called_with_too_few_inputs_raises_its_own_error(self):
        a, b = ff.InputNode(3), ff.InputNode(5)
        both = ff.Node([a.out0, b.out0], fm.Concat, {})
        graph = ff.GraphINN([a, b, both, ff.OutputNode(both)])
        with ip.probe(graph), pytest.raises(ValueError, match="Got 1 inputs, but expected 2"):
            graph((torch.randn(2, 3),))

    def test_outputs_that_are_no_numbers(self):
        class Complex(nn.Module):
            def forward(self, x):
                return torch.complex(x, x)

        class Words(nn.Module):
            def forward(self, x):
                return "words"

        model = nn.Sequential(Complex(), Words())
        with ip.probe(model) as probe, pytest.warns(RuntimeWarning) as caught:
            model(torch.randn(3, 3))
        assert "expected real numbers, got dtype torch.complex64" in str(caught[0].message)
        assert "there is no tensor" in str(caught[1].message)
        assert all(row["value"] is None and row["findings"] for row in probe.report().rows)

    def test_a_layer_that_is_never_called(self):
        class Skips(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

            def forward(self, x):
                return self.used(x) @ self.unused.weight

        model = Skips()
        with ip.probe(model) as probe:
            model(torch.randn(3, 3))
        with pytest.warns(UserWarning, match="some probed layers gave no output: unused"):
            report = probe.report()
        assert {row["layer"] for row in report.rows} == {"used"}

    def test_infinite_divergences_say_why(self):
        model = nn.Sequential(nn.ReLU())
        x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
        with ip.probe(model, measures=[ip.Divergence(ip.Histogram()), ip.Divergence(H)]) as probe:
            model(x)
        infinite, finite = probe.report().rows
        assert infinite["value"] == math.inf
        said = "the layer's input and the output: 50.0% of the values of the first lie in bins"
        assert infinite["findings"][0].startswith(said)
        assert math.isfinite(finite["value"])
        assert finite["findings"][0].startswith(said)

    def test_nothing_is_said_where_all_is_well(self):
        model = nn.Sequential(nn.Identity())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with ip.probe(model) as probe:
                model(torch.randn(300, 3))
            rows = probe.report().rows
        assert [row["value"] for row in rows[1:]] == [0.0, 0.0]
        assert all(row["findings"] == [] for row in rows)
