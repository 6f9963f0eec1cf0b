"""Layers of PyTorch that are called, or give, in ways of their own."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, rnn

from tests.probing.helpers import Lambda, assert_measured, assert_output, layers_of, run


class TestLayersOfPyTorch:
    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
    def test_recurrent_layers(self, kind):
        model, x = kind(4, 5, batch_first=True), torch.randn(10, 7, 4)
        (y, _), probe = run(model, x)
        assert_measured(probe.report(), "(model)", x, x, y)

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_packed_sequences_in_and_out(self, kind):
        packed = rnn.pack_padded_sequence(
            torch.randn(3, 7, 4), torch.tensor([7, 5, 2]), batch_first=True
        )
        model = kind(4, 5, batch_first=True)
        (y, _), probe = run(model, packed)
        # What is packed is measured, without padding.
        assert_measured(probe.report(), "(model)", packed.data, packed.data, y.data)
        assert y.data.shape == (14, 5)

    @pytest.mark.parametrize("weights", [False, True])
    def test_attention(self, weights):
        model, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(5, 7, 8)
        (y, _), probe = run(model, x, x.sin(), x.cos(), need_weights=weights)
        report = probe.report()
        assert_measured(report, "(model)", x, x, y)
        assert layers_of(report) == ["(model)"]

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
    @pytest.mark.parametrize("layers", [None, nn.TransformerEncoderLayer, "(model)"])
    def test_the_fast_path_of_transformers(self, layers):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = nn.TransformerEncoder(layer, 2).eval()
        x, mask = torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool)
        mask[0, 3:] = True
        with torch.no_grad():
            plain, masked = model(x), model(x, src_key_padding_mask=mask)
            y, probe = run(model, x, layers=layers)
            y_masked, probe_masked = run(model, x, layers=layers, src_key_padding_mask=mask)
        assert torch.allclose(y, plain, rtol=0, atol=1e-6)
        assert torch.allclose(y_masked, masked, rtol=0, atol=1e-6)
        name = {"(model)": "(model)", None: "layers.1.norm2"}.get(layers, "layers.1")
        assert_output(probe.report(), name, y)
        if layers == "(model)":
            assert_output(probe_masked.report(), name, y_masked)
        else:
            assert probe_masked.report().rows

    def test_lazy_layers(self):
        model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.Tanh())
        x = torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        assert_measured(report, "0", x, x, model[0](x))
        assert_measured(report, "2", x, model[1](model[0](x)), y)
        assert type(model[0]) is nn.Linear
        assert not model[0]._forward_hooks
        assert not model[0]._forward_pre_hooks

    @pytest.mark.parametrize(
        "norm", [parametrizations.weight_norm, parametrizations.spectral_norm]
    )
    def test_parametrized_layers(self, norm):
        model, x = nn.Sequential(norm(nn.Linear(6, 5)), nn.Tanh()).eval(), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        assert_measured(report, "0", x, x, model[0](x))
        assert_measured(report, "1", x, model[0](x), y)
        assert layers_of(report) == ["0", "1"]

    def test_layers_that_overwrite_what_others_gave(self):
        class Residual(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
                self.relu = nn.ReLU(inplace=True)

            def forward(self, x):
                y = self.a(x)
                y += x
                z = self.relu(y)
                z.mul_(2)
                return self.b(z)

        for mode in (contextlib.nullcontext(), torch.no_grad(), torch.inference_mode()):
            model, x = Residual(), torch.randn(50, 6)
            kept = x.clone()
            with mode:
                _, probe = run(model, x)
            with torch.no_grad():
                report, a = probe.report(), model.a(x)
                relu = (a + x).relu()
                assert_measured(report, "a", x, x, a)
                assert_measured(report, "relu", x, a + x, relu)
                assert_measured(report, "b", x, 2 * relu, model.b(2 * relu))
            assert torch.equal(x, kept)

    def test_a_model_that_overwrites_its_input(self):
        model, x = nn.Sequential(nn.ReLU(True), nn.Linear(6, 6)), torch.randn(50, 6)
        before = x.clone()
        _, probe = run(model, x)
        report = probe.report()
        assert_measured(report, "0", before, before, before.relu())
        assert_measured(report, "1", before, before.relu(), model[1](x))

    def test_views_of_one_tensor_are_told_apart(self):
        model = nn.Sequential(nn.Flatten(), Lambda(lambda x: x[:, :3]), Lambda(lambda x: x.t()))
        x = torch.randn(20, 2, 3)
        _, probe = run(model, x)
        report = probe.report()
        assert_measured(report, "1", x, x, x.flatten(1)[:, :3])
        assert_measured(report, "2", x, x.flatten(1)[:, :3], x.flatten(1)[:, :3])
