"""Whatever PyTorch calls a model can be probed, and the numbers are those of its tensors."""

import collections
import contextlib
import copy
import dataclasses
import itertools
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint

import infoprobe as ip

H = ip.Histogram(64, pseudocount=1)
MEASURES = [ip.Entropy(H), ip.Divergence(H, "previous"), ip.Divergence(H, "input")]
ROWS = [ip.Entropy(ip.KNN()), ip.MutualInformation(ip.KNN())]


def run(model, *args, layers=None, measures=MEASURES, times=1, **kwargs):
    """The model's output and the probe that watched."""
    with ip.probe(model, layers, measures) as probe:
        for _ in range(times):
            output = model(*args, **kwargs)
    return output, probe


def assert_measured(report, layer, x, before, after, call=0, direction="forward"):
    """The layer turned ``before`` into ``after`` in a pass with input ``x``: by hand."""
    key = f"{layer}#{call}" if call else layer
    scalars = report.scalars()
    assert scalars[f"{key}/{direction}/entropy"] == H.entropy(after).item()
    of_previous = scalars[f"{key}/{direction}/divergence_previous"]
    assert of_previous == H.kl_divergence(before, after).item()
    assert scalars[f"{key}/{direction}/divergence_input"] == H.kl_divergence(x, after).item()


def assert_output(report, layer, after, call=0):
    key = f"{layer}#{call}" if call else layer
    assert report.scalars()[f"{key}/forward/entropy"] == H.entropy(after).item()


def layers_of(report):
    return list(dict.fromkeys(row["layer"] for row in report.rows))


def small_model():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class TestStructure:
    def test_a_shared_module_has_one_name_and_many_calls(self):
        shared = nn.Linear(6, 6)
        model = nn.Sequential(shared, nn.Tanh(), shared, nn.Sequential(shared, nn.Sigmoid()))
        x = torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        a = shared(x)
        b = shared(a.tanh())
        c = shared(b)
        assert_measured(report, "0", x, x, a)
        assert_measured(report, "0", x, a.tanh(), b, call=1)
        assert_measured(report, "0", x, b, c, call=2)
        assert_measured(report, "3.1", x, c, y)
        assert layers_of(report) == ["0", "1", "3.1"]

    def test_blocks_in_blocks_and_a_container_of_its_own(self):
        model = nn.Sequential(
            collections.OrderedDict(
                stem=nn.Linear(6, 6),
                body=nn.ModuleDict({"a": nn.Sequential(nn.Tanh(), nn.Sequential(nn.ELU()))})["a"],
            )
        )
        x = torch.randn(50, 6)
        y, probe = run(model, x, layers=["*", "body"])
        report = probe.report()
        stem = model.stem(x)
        assert_measured(report, "stem", x, x, stem)
        assert_measured(report, "body", x, stem, y)
        assert_measured(report, "body.1.0", x, stem.tanh(), y)
        assert {"(model)", "body.1"}.isdisjoint(layers_of(report))

    def test_functions_are_invisible_and_shape_the_next_layers_input(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

            def forward(self, x):
                return torch.softmax(self.b(torch.relu(self.a(x)) + 1), -1)

        model, x = Model(), torch.randn(50, 6)
        _, probe = run(model, x, layers=["*", "(model)"])
        report, before = probe.report(), model.a(x).relu() + 1
        assert_measured(report, "b", x, before, model.b(before))
        assert_measured(report, "(model)", x, x, model(x))
        assert layers_of(report) == ["a", "b", "(model)"]

    @pytest.mark.parametrize("kind", [nn.ParameterList, nn.ParameterDict, nn.ModuleList])
    def test_a_module_with_weights_in_lists(self, kind):
        class Scales(nn.Module):
            def __init__(self):
                super().__init__()
                weights = {"a": nn.Parameter(torch.tensor(2.0))}
                self.parts = {
                    nn.ParameterList: lambda: kind(weights.values()),
                    nn.ParameterDict: lambda: kind(weights),
                    nn.ModuleList: kind,
                }[kind]()

            def forward(self, x):
                return 2 * x

        model, x = nn.Sequential(Scales(), nn.Tanh()), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        assert layers_of(report) == ["0", "1"]
        assert_measured(report, "0", x, x, 2 * x)
        assert_measured(report, "1", x, 2 * x, y)

    def test_arguments_by_keyword_and_those_that_are_no_tensors(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Lambda(lambda *, scale, x, mask: x * scale)

            def forward(self, ids, *, x):
                return self.inner(scale=2.0, x=x, mask=ids > 1)

        model, x = Model(), torch.randn(50, 6)
        _, probe = run(model, torch.arange(50), x=x)
        report = probe.report()
        # The first floating-point tensor: of the positional arguments here, there is none.
        ids = torch.arange(50)
        assert_measured(report, "inner", ids, x, 2 * x)

    def test_a_module_that_was_swapped_is_named(self):
        model, x = small_model(), torch.randn(20, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            model[1] = nn.Sigmoid()
            y = model(x)
        with pytest.warns(UserWarning, match="some probed layers gave no output: 1. Likely"):
            report = probe.report()
        assert_output(report, "3", y)
        assert layers_of(report) == ["0", "2", "3"]

    def test_layers_of_a_branch_that_was_not_taken_are_named(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.taken, self.left, self.right = (nn.Linear(3, 3) for _ in range(3))

            def forward(self, x):
                return self.left(x) if x.sum() > 1e9 else self.right.forward(self.taken(x))

        _, probe = run(Model(), torch.randn(5, 3))
        with pytest.warns(UserWarning, match="gave no output: left, right. Likely"):
            probe.report()


Pair = collections.namedtuple("Pair", ["index", "values"])


@dataclasses.dataclass
class Output:
    index: torch.Tensor
    values: torch.Tensor
    extra: object = None


class TestContainers:
    """The first floating-point tensor of a layer's output is measured, wherever it is."""

    @pytest.mark.parametrize(
        "pack",
        [
            lambda i, v: (i, v),
            lambda i, v: [i, [v]],
            lambda i, v: {"i": i, "v": {"v": v}},
            lambda i, v: collections.OrderedDict(i=i, v=v),
            lambda i, v: Pair(i, v),
            lambda i, v: Output(i, v),
            lambda i, v: (None, "words", Output(i, v, extra=v.exp())),
            lambda i, v: {"outer": (Pair(i, [v]), v.exp())},
        ],
    )
    def test_containers(self, pack):
        x = torch.randn(50, 6)
        model = nn.Sequential(
            Lambda(lambda x: pack(torch.arange(50), x.tanh())), Lambda(lambda packed: x.sigmoid())
        )
        _, probe = run(model, x)
        report = probe.report()
        assert_measured(report, "0", x, x, x.tanh())
        assert_measured(report, "1", x, x.tanh(), x.sigmoid())

    def test_fields_that_were_not_set(self):
        @dataclasses.dataclass
        class Half:
            values: torch.Tensor
            later: torch.Tensor = dataclasses.field(init=False)

        x = torch.randn(50, 6)
        output, probe = run(Lambda(Half), x)
        assert output.values is x
        assert_measured(probe.report(), "(model)", x, x, x)

    def test_containers_that_contain_themselves(self):
        def tree(x):
            parent, child = {"children": []}, {"x": x.tanh()}
            parent["children"].append(child)
            child["parent"] = parent
            return parent

        x = torch.randn(50, 6)
        _, probe = run(Lambda(tree), x)
        assert_measured(probe.report(), "(model)", x, x, x.tanh())

    def test_outputs_of_transformers(self):
        outputs = pytest.importorskip("transformers.modeling_outputs")
        x = torch.randn(50, 6)
        hidden = x.tanh(), x.sigmoid()
        model = Lambda(
            lambda x: outputs.BaseModelOutput(last_hidden_state=hidden[0], hidden_states=hidden)
        )
        output, probe = run(model, x)
        assert isinstance(output, outputs.BaseModelOutput)
        assert_measured(probe.report(), "(model)", x, x, hidden[0])

    def test_a_model_of_transformers(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            n_layer=2,
            n_head=2,
            n_embd=8,
            vocab_size=20,
            n_positions=10,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = transformers.GPT2LMHeadModel(config).eval()
        ids = torch.randint(20, (3, 7))
        with torch.no_grad():
            expected = model(ids, output_hidden_states=True)
            output, probe = run(
                model,
                ids,
                layers=["lm_head", "transformer.wte", "transformer.h.?"],
                output_hidden_states=True,
            )
        assert torch.equal(output.logits, expected.logits)
        report = probe.report()
        assert_output(report, "lm_head", expected.logits)
        assert_output(report, "transformer.h.0", expected.hidden_states[1])
        embedded = model.transformer.wte(ids)
        assert report.scalars()["transformer.wte/forward/divergence_input"] == (
            H.kl_divergence(ids, embedded).item()
        )

    def test_only_integers(self):
        model, x = Lambda(lambda x: (x.argmax(1), x.argmin(1))), torch.randn(50, 6)
        _, probe = run(model, x)
        assert_measured(probe.report(), "(model)", x, x, x.argmax(1))


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


class TestDtypesAndLayouts:
    def test_autocast_neither_rounds_nor_leaks(self):
        model, x = small_model(), torch.randn(50, 6)
        with torch.autocast("cpu", torch.bfloat16):
            expected = model(x)
            y, probe = run(model, x)
            _, rows = run(
                nn.Sequential(nn.Identity()), x, measures=ip.Entropy(ip.KNN(), project=2)
            )
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, expected)
        with torch.autocast("cpu", torch.bfloat16):
            before = model[:3](x)
        assert_measured(probe.report(), "3", x, before, y)
        _, plain = run(nn.Sequential(nn.Identity()), x, measures=ip.Entropy(ip.KNN(), project=2))
        assert rows.report().scalars() == plain.report().scalars()

    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.Gaussian(), ip.MatrixRenyi()])
    def test_windows_that_end_in_any_mode(self, estimator):
        x = torch.randn(100, 2)
        model = Lambda(lambda x: x + 0.1 * noise)
        noise = torch.randn(100, 2)
        found = []
        for mode in (
            contextlib.nullcontext(),
            torch.no_grad(),
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16),
        ):
            measure = ip.MutualInformation(estimator)
            with ip.probe(model, measures=measure).track(1) as probe, mode:
                model(x)
            (row,) = probe.report().rows
            found.append(row["value"])
        assert found == [estimator.mutual_information(x, model(x)).item()] * 4

    @pytest.mark.parametrize(
        "convert",
        [
            lambda x: x > 0,
            lambda x: (4 * x).to(torch.int8),
            lambda x: (4 * x).to(torch.int64),
            lambda x: (4 * x).to(torch.uint8),
            lambda x: x.half(),
            lambda x: x.bfloat16(),
            lambda x: x.double(),
            lambda x: x.to(torch.float8_e4m3fn),
            lambda x: x.to(torch.float8_e5m2),
            lambda x: x.sum(),
            lambda x: x.sum(1),
            lambda x: x.expand(3, *x.shape),
        ],
    )
    def test_dtypes_and_shapes(self, convert):
        model, x = nn.Sequential(Lambda(convert), nn.Identity()), torch.rand(50, 6)
        y, probe = run(model, x, times=2)
        report = probe.report()
        both = torch.stack([y, y])
        assert_measured(report, "1", torch.stack([x, x]), both, both)
        assert {row["n"] for row in report.rows} == {2 * (len(y) if y.dim() else 1)}

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize(
        "view",
        [
            lambda z: z.conj().imag,
            lambda z: z.imag,
            torch.view_as_real,
        ],
    )
    def test_views_of_complex_tensors(self, view, measures):
        z = torch.randn(50, 2, dtype=torch.complex64)
        expected = view(z).resolve_neg().clone(memory_format=torch.contiguous_format)
        model = nn.Sequential(Lambda(lambda x: view(z)), nn.Identity())
        _, probe = run(model, torch.randn(50, 6), measures=measures)
        entropy = probe.report().scalars()["0/forward/entropy"]
        assert entropy == measures[0].estimator.entropy(expected).item()

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    def test_subclasses_of_tensors(self, measures):
        class Named(torch.Tensor):
            pass

        x = torch.randn(50, 2)
        model = nn.Sequential(Lambda(lambda x: x.tanh().as_subclass(Named)), nn.Linear(2, 2))
        y, probe = run(model, x, measures=measures)
        assert type(y) is Named
        entropy = probe.report().scalars()["0/forward/entropy"]
        assert entropy == measures[0].estimator.entropy(x.tanh()).item()

    def test_tensors_that_refuse_all_functions(self):
        class Refuses(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                raise NotImplementedError

        model, x = (
            nn.Sequential(nn.Tanh(), Lambda(lambda x: x.as_subclass(Refuses))),
            torch.ones(2),
        )
        with ip.probe(model, measures=MEASURES), pytest.warns(RuntimeWarning, match="left out"):
            assert type(model(x)) is Refuses

    def test_the_dtype_of_kept_rows_may_change(self):
        dtypes = [torch.bfloat16, torch.float64, torch.float32]
        model, x = Lambda(lambda x: x.to(dtypes[0])), torch.randn(60, 2).bfloat16().double()
        with ip.probe(model, measures=ROWS) as probe:
            for batch in x.split(20):
                model(batch)
                dtypes.pop(0)
        scalars = probe.report().scalars()
        assert scalars["(model)/forward/entropy"] == ip.KNN().entropy(x).item()

    def test_float8_rows_do_not_stop_the_model(self):
        dtypes = [torch.float8_e4m3fn, torch.float32]
        model, x = Lambda(lambda x: x.to(dtypes[0])), torch.randn(20, 2)
        with (
            warnings.catch_warnings(),
            ip.probe(model, measures=ROWS),
        ):
            warnings.simplefilter("ignore", RuntimeWarning)
            model(x)
            dtypes.pop(0)
            assert torch.equal(model(x), x)

    def test_empty_batches_are_left_out(self):
        model, x = small_model(), torch.randn(50, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
            with pytest.warns(RuntimeWarning, match="empty tensor of shape"):
                assert model(x[:0]).shape == (0, 4)
            y = model(x)
        assert {row["n"] for row in probe.report().rows} == {100}
        assert_output(probe.report(), "3", torch.cat([y, y]))

    def test_empty_batches_leave_kept_rows_alone(self):
        model, x = nn.Linear(2, 2), torch.randn(50, 2)
        with ip.probe(model, measures=ROWS) as probe:
            with pytest.warns(RuntimeWarning, match="empty tensor of shape"):
                model(x[:0])
            y = model(x)
        scalars = probe.report().scalars()
        assert scalars["(model)/forward/entropy"] == ip.KNN().entropy(y).item()

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize("kind", ["complex", "sparse", "csr", "meta"])
    def test_tensors_without_real_values_are_left_out(self, kind, measures):
        def convert(x):
            if kind == "complex":
                return torch.complex(x, x)
            return {"sparse": x.to_sparse, "csr": x.to_sparse_csr, "meta": lambda: x.to("meta")}[
                kind
            ]()

        # The layer after it repairs the values and is measured.
        x = torch.randn(50, 6)
        model = nn.Sequential(Lambda(convert), Lambda(lambda _: x.tanh()))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, probe = run(model, x, measures=measures)
        ours = [str(w.message) for w in caught if "left out" in str(w.message)]
        assert len(ours) == (2 if measures is MEASURES else 1)  # the next was given it
        rows = probe.report().rows
        assert all(row["value"] is None for row in rows if row["layer"] == "0")
        assert next(r for r in rows if r["layer"] == "1")["n"] == 50

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
    @pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
    def test_nested_tensors(self, layout):
        parts = [torch.randn(3, 4), torch.randn(2, 4)]
        x = torch.nested.nested_tensor(parts, layout=layout)
        model = nn.Sequential(nn.Linear(4, 4), nn.Identity())
        _, probe = run(model, x)
        flat = torch.cat(parts)
        before = model[0](flat).detach()
        assert_measured(probe.report(), "1", flat, before, before)
        assert {row["n"] for row in probe.report().rows} == {2}

    @pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
    def test_quantized_models(self):
        # They hold their weights in modules that are never called.
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            pytest.skip("needs the fbgemm backend")
        model = torch.ao.quantization.quantize_dynamic(small_model(), {nn.Linear})
        x = torch.randn(50, 6)
        expected = model(x)
        y, probe = run(model, x)
        assert torch.equal(y, expected)
        assert_output(probe.report(), "3", y)

    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
    def test_quantized_tensors(self):
        x = torch.randn(50, 6)
        y, probe = run(Lambda(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)), x)
        assert_measured(probe.report(), "(model)", x, x, y.dequantize())

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    def test_inference_mode_and_others_in_turn(self, measures):
        model, x = small_model()[:1], torch.randn(40, 6)
        with ip.probe(model, measures=measures) as probe:
            for i, batch in enumerate(x.split(10)):
                with torch.inference_mode(i % 2 == 0):
                    model(batch)
        _, plain = run(model, x, measures=measures)
        assert probe.report().scalars() == plain.report().scalars()

    @pytest.mark.parametrize(
        "measures",
        [
            MEASURES,
            [ip.Entropy(ip.KNN(), project=2)],
        ],
    )
    def test_the_default_dtype_does_not_matter(self, measures):
        model, x = small_model()[:2], torch.randn(40, 6)
        _, plain = run(model, x, measures=measures)
        torch.set_default_dtype(torch.float64)
        try:
            _, probe = run(model, x, measures=measures)
        finally:
            torch.set_default_dtype(torch.float32)
        assert probe.report().rows == plain.report().rows

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize("values_per_batch", [None, 20])
    def test_the_default_device_does_not_matter(self, measures, values_per_batch):
        model, x = small_model()[:2], torch.randn(40, 6)
        rows = []
        for mode in (contextlib.nullcontext(), torch.device("meta")):
            with (
                mode,
                ip.probe(model, measures=measures, values_per_batch=values_per_batch) as probe,
            ):
                model(x)
                model(x)
            rows.append(probe.report().rows)
        assert rows[0] == rows[1]

    def test_a_layer_of_another_length_does_not_hide_the_samples(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.positions, self.head = nn.Embedding(4, 3), nn.Linear(3, 3)

            def forward(self, x):
                return self.head(x + self.positions(torch.arange(4)))

        model, x = Model(), torch.randn(30, 4, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            y, probe = run(model, x, measures=ip.Entropy(ip.KNN()))
        assert probe.report().scalars()["head/forward/entropy"] == ip.KNN().entropy(y).item()


class Counting:
    """A compiler that only counts what it was given to compile, and how often that ran."""

    def __init__(self):
        self.compiled = self.ran = 0

    def __call__(self, graph, inputs):
        self.compiled += 1

        def compiled(*args):
            self.ran += 1
            return graph.forward(*args)

        return compiled


@pytest.fixture
def counting():
    torch.compiler.reset()
    yield Counting()
    torch.compiler.reset()


class TestCompiledModels:
    @pytest.mark.parametrize("fullgraph", [False, True])
    @pytest.mark.parametrize("on", ["wrapper", "model"])
    def test_compiled_and_run_before(self, counting, fullgraph, on):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=fullgraph)
        expected = compiled(x)
        with ip.probe(compiled if on == "wrapper" else model, measures=MEASURES) as probe:
            y = compiled(x)
        report = probe.report()
        assert torch.equal(y, expected)
        assert_measured(report, "3", x, model[:3](x), y)
        assert (counting.compiled, counting.ran) == (1, 1)
        compiled(x)  # goes on with what was compiled
        assert (counting.compiled, counting.ran) == (1, 2)
        assert {row["n"] for row in probe.report().rows} == {50}

    def test_compiled_while_probed(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            compiled = torch.compile(model, backend=counting, fullgraph=True)
            y = compiled(x)
        assert_measured(probe.report(), "3", x, model[:3](x), y)
        compiled(x)
        assert (counting.compiled, counting.ran) == (1, 1)

    @pytest.mark.parametrize("ran", [False, True])
    def test_compiled_in_place(self, counting, ran):
        model, x = Block(), torch.randn(50, 6)
        model.compile(backend=counting, fullgraph=True)
        if ran:
            model(x)
        y, probe = run(model, x)
        assert_measured(probe.report(), "layer", x, x, model.layer(x))
        assert_output(probe.report(), "out", y - x)
        model(x)
        assert (counting.compiled, counting.ran) == (1, 1 + ran)

    @pytest.mark.parametrize("ran", [False, True])
    def test_a_compiled_part_of_a_plain_model(self, counting, ran):
        block = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        model = nn.Sequential(torch.compile(block, backend=counting), nn.Sigmoid())
        x = torch.randn(50, 6)
        if ran:
            model(x)
        y, probe = run(model, x)
        report = probe.report()
        assert layers_of(report) == ["0.0", "0.1", "1"]
        assert_measured(report, "0.1", x, block[0](x), block(x))
        assert_measured(report, "1", x, block(x), y)
        model(x)
        assert (counting.compiled, counting.ran) == (1, 1 + ran)

    def test_a_compiled_function_around_a_plain_model(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        step = torch.compile(lambda x: model(x).sum(), backend=counting)
        step(x)
        with ip.probe(model, measures=MEASURES) as probe:
            step(x)
        assert_output(probe.report(), "3", model(x))
        step(x)
        assert counting.ran == 2

    def test_two_probes_in_any_order_of_removal(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting)
        compiled(x)
        first, second = ip.probe(model), ip.probe(compiled)
        first.remove()
        compiled(x)
        second.remove()
        compiled(x)
        assert {row["n"] for row in second.report().rows} == {50}
        assert (counting.compiled, counting.ran) == (1, 2)

    def test_training(self, counting):
        gradients = []
        x = torch.randn(50, 6)
        for probed in (False, True):
            torch.manual_seed(0)
            model = small_model()
            compiled = torch.compile(model, backend=counting)
            compiled(x).sum().backward()
            with ip.probe(compiled) if probed else contextlib.nullcontext():
                compiled(x).square().sum().backward()
            compiled(x).sum().backward()
            gradients.append([p.grad for p in model.parameters()])
        assert all(map(torch.equal, *gradients))

    @pytest.mark.parametrize("fullgraph", [False, True])
    def test_a_compiler_that_comes_into_the_process_while_probed(self, fullgraph):
        # Importing the compiler takes a second, so a probe does not.
        code = f"""
import torch, sys, infoprobe as ip
model, x = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh()), torch.randn(50, 6)
assert "torch._dynamo" not in sys.modules
with ip.probe(model, measures=ip.Entropy()) as probe:
    compiled = torch.compile(model, backend="eager", fullgraph={fullgraph})
    for _ in range(3):
        compiled(x)
assert [row["n"] for row in probe.report().rows] == [150, 150]
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] <= 1, counters["stats"]
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def process_group(tmp_path):
    """One process that talks to itself."""
    if not torch.distributed.is_available():
        pytest.skip("needs torch.distributed")
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class TestParallelModels:
    @pytest.mark.parametrize("probed", ["before", "after", "inside"])
    def test_data_parallel_in_processes(self, process_group, probed):
        model, x = small_model(), torch.randn(50, 6)
        early = ip.probe(model, measures=MEASURES)
        parallel = nn.parallel.DistributedDataParallel(model)
        late = ip.probe(model if probed == "inside" else parallel, measures=MEASURES)
        with early, late:
            y = parallel(x)
            y.sum().backward()
            probe = early if probed == "before" else late
            probe.sync()
        report = probe.report()
        assert layers_of(report) == ["0", "1", "2", "3"]
        assert_measured(report, "3", x, model[:3](x), y)
        assert not any("entered" in f for row in report.rows for f in row["findings"])

    def test_data_parallel_in_threads(self):
        model, x = small_model(), torch.randn(50, 6)
        y, probe = run(nn.DataParallel(model), x)
        report = probe.report()
        assert layers_of(report) == ["0", "1", "2", "3"]
        assert_measured(report, "3", x, model[:3](x), y)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return ip.tap(self.layer(x).tanh(), "out") + x


class TestBackward:
    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoints_are_counted_once(self, reentrant):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.block, self.last = Block(), nn.Linear(6, 6)

            def forward(self, x):
                return self.last(checkpoint(self.block, x, use_reentrant=reentrant))

        model, x = Model(), torch.randn(50, 6, requires_grad=True)
        with ip.probe(model, measures=MEASURES) as probe:
            model(x).sum().backward()
            model(x).sum().backward()
        report = probe.report()
        twice = torch.cat([x, x]).detach()
        hidden = model.block.layer(twice)
        assert layers_of(report) == ["block.layer", "block.out", "last"]
        assert_measured(report, "block.layer", twice, twice, hidden)
        assert_output(report, "block.out", hidden.tanh())
        assert {(row["n"], row["call"]) for row in report.rows} == {(100, 0)}

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoints_inside_a_model_that_goes_backward_itself(self, reentrant):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.block, self.last = Block(), nn.Linear(6, 6)

            def forward(self, x):
                y = checkpoint(self.block, x, use_reentrant=reentrant)
                y.sum().backward()
                return self.last(x.grad)

        model, x = Model(), torch.randn(50, 6, requires_grad=True)
        y, probe = run(model, x)
        report = probe.report()
        assert [(row["layer"], row["call"]) for row in report.rows[::3]] == [
            ("block.layer", 0),
            ("block.out", 0),
            ("last", 0),
        ]
        assert_measured(report, "last", x.detach(), x.grad, y)

    def test_gradients_inside_of_forward(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.energy, self.last = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 6)

            def forward(self, x):
                x = x.detach().requires_grad_()
                (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
                return self.last(force)

        model, x = Model(), torch.randn(50, 6)
        plain = model(x)
        y, probe = run(model, x)
        assert torch.equal(y, plain)
        report = probe.report()
        energy = model.energy[0](x)
        assert_measured(report, "energy.1", x, energy, energy.tanh())
        force = (1 - energy.tanh().square()) @ model.energy[0].weight
        assert_output(report, "last", y)
        assert torch.allclose(model.last(force), y, atol=1e-5)

    def test_a_gradient_penalty(self):
        grads = []
        for probed in (False, True):
            torch.manual_seed(0)
            model, x = small_model(), torch.randn(50, 6, requires_grad=True)
            with ip.probe(model, measures=MEASURES) if probed else contextlib.nullcontext():
                (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
                (model(x).mean() + slope.square().mean()).backward()
            grads.append([p.grad for p in model.parameters()])
        assert all(map(torch.equal, *grads))

    def test_jacobians(self):
        model, x = small_model(), torch.randn(5, 6)
        expected = torch.autograd.functional.jacobian(model, x)
        with ip.probe(model, measures=MEASURES) as probe:
            jacobian = torch.autograd.functional.jacobian(model, x)
        assert torch.equal(jacobian, expected)
        assert_measured(probe.report(), "3", x, model[:3](x), model(x))


class TestFunctionTransforms:
    def test_functional_call(self):
        model, x = small_model(), torch.randn(50, 6)
        weights = {name: 2 * p.detach() for name, p in model.named_parameters()}
        with ip.probe(model, measures=MEASURES) as probe:
            y = torch.func.functional_call(model, weights, (x,))
        assert_output(probe.report(), "3", y)

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize("transform", ["jacrev", "vjp", "grad", "jvp", "dual", "nested"])
    def test_differentiation_keeps_values(self, transform, measures):
        model, x = small_model()[:2], torch.randn(40, 6)
        scalar = lambda x: model(x).square().sum()  # noqa: E731

        def transformed():
            if transform == "jacrev":
                return torch.func.jacrev(model)(x[:5])
            if transform == "vjp":
                return torch.func.vjp(model, x)[0]
            if transform == "grad":
                return torch.func.grad(scalar)(x)
            if transform == "jvp":
                return torch.func.jvp(model, (x,), (x,))[1]
            if transform == "nested":
                return torch.func.grad(lambda x: torch.func.grad(scalar)(x).sum())(x)
            with torch.autograd.forward_ad.dual_level():
                return model(torch.autograd.forward_ad.make_dual(x, x)).sum()

        with warnings.catch_warnings():
            # torch itself says so when it first needs its decompositions.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            expected = transformed()
        with ip.probe(model, measures=measures) as probe:
            model(x)
            assert torch.equal(transformed(), expected)
            model(x)
        n = 85 if transform == "jacrev" else 120
        assert {row["n"] for row in probe.report().rows} == {n}
        assert not any("left out" in f for row in probe.report().rows for f in row["findings"])

    def test_a_transform_leaves_nothing_behind(self):
        # In a thread of its own, where nothing was counted before.
        model, x, found = small_model(), torch.randn(50, 6), []

        def count():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with ip.probe(model, measures=MEASURES):
                    torch.func.vjp(model, x)
                    torch.func.vmap(model)(x)
            y, probe = run(model, x)
            found.append((y, probe))

        thread = threading.Thread(target=count)
        thread.start()
        thread.join()
        ((y, probe),) = found
        assert_measured(probe.report(), "3", x, model[:3](x), y)

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize(
        ("randomness", "values_per_batch"),
        [
            ("error", None),
            ("error", 20),
            ("same", None),
            ("same", 20),
            ("different", None),
            ("different", 20),
        ],
    )
    def test_calls_under_vmap_are_left_out(self, measures, randomness, values_per_batch):
        model, x = small_model()[:2], torch.randn(10, 40, 6)
        expected = torch.vmap(model, randomness=randomness)(x)
        with ip.probe(model, measures=measures, values_per_batch=values_per_batch) as probe:
            with pytest.warns(RuntimeWarning, match="a call is left out"):
                y = torch.vmap(model, randomness=randomness)(x)
            model(x[0])
        assert torch.equal(y, expected)
        rows = probe.report().rows
        assert {row["n"] for row in rows} == {40}
        assert all("calls left out: 1" in row["findings"][-1] for row in rows)

    @pytest.mark.parametrize("randomness", ["error", "same", "different"])
    def test_calls_under_vmap_do_not_take_the_room_of_samples(self, randomness):
        model, x = nn.Linear(6, 3), torch.randn(10, 40, 6)
        with ip.probe(model, measures=ip.Entropy(ip.KNN(), samples=40)) as probe:
            with pytest.warns(RuntimeWarning, match="a call is left out"):
                torch.vmap(model, randomness=randomness)(x)
            y = model(x[0])
        (row,) = probe.report().rows
        assert row["n"] == 40
        assert row["value"] == ip.KNN().entropy(y).item()

    def test_fake_tensors(self):
        fake = pytest.importorskip("torch._subclasses.fake_tensor")
        model, x = small_model(), torch.randn(50, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            with (
                pytest.warns(RuntimeWarning, match="a call is left out"),
                fake.FakeTensorMode(allow_non_fake_inputs=True),
            ):
                model(torch.randn(50, 6))
            y = model(x)
        assert_measured(probe.report(), "3", x, model[:3](x), y)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
class TestScripts:
    def test_scripted_models_and_children_are_refused(self):
        scripted = torch.jit.script(nn.Linear(3, 3))
        for model in (scripted, nn.Sequential(nn.Tanh(), scripted)):
            with pytest.raises(TypeError, match="is a ScriptModule, which takes no hooks"):
                ip.probe(model)
            assert not any(m._forward_hooks for m in model.modules())
        _, probe = run(nn.Sequential(nn.Tanh(), scripted), torch.randn(9, 3), layers="0")
        assert layers_of(probe.report()) == ["0"]

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_traced_models_and_children_are_refused(self):
        traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(9, 3))
        for model in (traced, nn.Sequential(nn.Tanh(), traced)):
            with pytest.raises(TypeError, match="is a ScriptModule, which takes no hooks"):
                ip.probe(model)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_tracing_a_probed_model(self):
        model, x = small_model(), torch.randn(50, 6)
        plain = torch.jit.trace(model, x)
        with ip.probe(model, measures=MEASURES) as probe:
            traced = torch.jit.trace(model, x, check_trace=False)
            y = model(x)
        report = probe.report()
        assert_output(report, "3", torch.cat([y, y]) if report.rows[0]["n"] == 100 else y)
        assert all(type(row["n"]) is int for row in report.rows)
        assert str(traced.inlined_graph).count("aten::") == str(plain.inlined_graph).count(
            "aten::"
        )


class TestFrEIA:
    def flow(self, kind, *dims, **settings):
        nodes = [ff.InputNode(*dims, name="in")]
        nodes += [ff.Node(nodes[-1], kind, settings, name="layer")]
        nodes += [ff.OutputNode(nodes[-1], name="out")]
        return ff.GraphINN(nodes)

    @pytest.mark.parametrize(
        ("kind", "rev", "shape"),
        [
            (fm.HaarDownsampling, False, (5, 4, 4, 4)),
            (fm.HaarDownsampling, True, (5, 16, 2, 2)),
            (fm.HaarUpsampling, False, (5, 16, 2, 2)),
            (fm.HaarUpsampling, True, (5, 4, 4, 4)),
        ],
    )
    @pytest.mark.parametrize("rebalance", [1.0, 0.5])
    def test_wavelets_that_overwrite_their_input(self, kind, rev, shape, rebalance):
        dims = (16, 2, 2) if kind is fm.HaarUpsampling else (4, 4, 4)
        net, x = self.flow(kind, *dims, rebalance=rebalance), torch.randn(shape)
        clean = copy.deepcopy(net)(x.clone(), rev=rev)[0]
        before = x.clone()
        with ip.probe(net, measures=MEASURES) as probe:
            y, _ = net(x, rev=rev)
        assert torch.equal(y, clean)
        direction = "inverse" if rev else "forward"
        report = probe.report()
        assert_measured(report, "layer", before, before, clean, direction=direction)
        ends = ("out", "in") if rev else ("in", "out")
        assert_measured(report, ends[0], before, before, before, direction=direction)
        assert_measured(report, ends[1], before, clean, clean, direction=direction)

    def test_a_node_after_one_that_is_overwritten(self):
        first, x = nn.Linear(6, 16), torch.randn(50, 6)
        haar = fm.HaarUpsampling([(16, 1, 1)])
        model = nn.Sequential(
            first, Lambda(lambda x: x.view(-1, 16, 1, 1)), Lambda(lambda z: haar((z,))[0][0])
        )
        model[2].haar = haar
        with torch.no_grad():
            y, probe = run(model, x, layers=["0", "1", "2.haar"])
            report, hidden = probe.report(), first(x)
        assert_measured(report, "0", x, x, hidden)
        assert_measured(report, "1", x, hidden, hidden)
        assert_measured(report, "2.haar", x, hidden, y)

    @pytest.mark.filterwarnings(
        "ignore:.*(ReversibleGraphNet|ReversibleSequential|SequenceINN|GraphINN):DeprecationWarning"
    )
    def test_old_names(self):
        def nodes():
            nodes = [ff.InputNode(6, name="in")]
            nodes += [ff.Node(nodes[-1], fm.PermuteRandom, {"seed": 1}, name="permute")]
            return [*nodes, ff.OutputNode(nodes[-1], name="out")]

        graph = ff.ReversibleGraphNet(nodes(), verbose=False)
        sequence = ff.ReversibleSequential(6)
        sequence.append(fm.PermuteRandom, seed=1)
        x = torch.randn(50, 6)
        for net, names in ((graph, ["in", "permute", "out"]), (sequence, None)):
            with ip.probe(net, measures=MEASURES) as probe:
                z = net(x)
                z = z[0] if isinstance(z, tuple) else z
                net(z, rev=True)
            rows = probe.report().rows
            names = names or ["input", "module_list.0", "output"]
            forward = dict.fromkeys(r["layer"] for r in rows if r["direction"] == "forward")
            assert list(forward) == names
            inverse = dict.fromkeys(r["layer"] for r in rows if r["direction"] == "inverse")
            assert list(inverse) == names[::-1]
            assert_measured(probe.report(), names[1], x, x, z)
            assert_measured(probe.report(), names[1], z, z, x, direction="inverse")

    def test_conditions_splits_and_joins_both_ways(self):
        x_in, condition = ff.InputNode(6, name="x"), ff.ConditionNode(3, name="c")
        split = ff.Node(x_in, fm.Split, {"section_sizes": [2, 4], "dim": 0}, name="split")
        subnet = lambda a, b: nn.Linear(a, b)  # noqa: E731
        glow = ff.Node(
            split.out1,
            fm.GLOWCouplingBlock,
            {"subnet_constructor": subnet},
            conditions=condition,
            name="glow",
        )
        join = ff.Node([split.out0, glow.out0], fm.Concat, {"dim": 0}, name="join")
        net = ff.GraphINN([x_in, condition, split, glow, join, ff.OutputNode(join, name="z")])
        x, c = torch.randn(50, 6), 100 + torch.randn(50, 3)
        with torch.no_grad():
            with ip.probe(net, measures=MEASURES) as probe:
                z, _ = net(x, c=[c])
                back, _ = net(z, c=[c], rev=True)
            report = probe.report()
            ((transformed,), _) = glow.module((x[:, 2:],), c=[c])
            ((untransformed,), _) = glow.module((z[:, 2:],), c=[c], rev=True)
        parts = (x[:, :2], x[:, 2:])
        assert_measured(report, "split", x, x, x)  # both outputs together
        assert_measured(report, "glow", x, parts[1], transformed)
        assert_measured(report, "join", x, torch.cat([parts[0], transformed], 1), z)
        assert_measured(report, "z", x, z, z)
        assert_measured(report, "join", z, z, z, direction="inverse")
        assert_measured(report, "glow", z, z[:, 2:], untransformed, direction="inverse")
        assert_measured(report, "split", z, back, back, direction="inverse")
        assert_measured(report, "x", z, back, back, direction="inverse")
        order = dict.fromkeys(r["layer"] for r in report.rows if r["direction"] == "inverse")
        assert list(order) == ["z", "join", "glow", "split", "x"]

    def test_a_sequence_with_conditions_both_ways(self):
        net = ff.SequenceINN(6)
        for _ in range(2):
            net.append(
                fm.RNVPCouplingBlock,
                cond=0,
                cond_shape=(3,),
                subnet_constructor=lambda a, b: nn.Linear(a, b),
            )
        x, c = torch.randn(50, 6), torch.randn(50, 3)
        with torch.no_grad():
            with ip.probe(net, measures=MEASURES) as probe:
                z, _ = net(x, c=[c])
                back, _ = net(z, c=[c], rev=True)
            report = probe.report()
            ((middle,), _) = net.module_list[0]((x,), c=[c])
            ((middle_back,), _) = net.module_list[1]((z,), c=[c], rev=True)
        assert_measured(report, "module_list.0", x, x, middle)
        assert_measured(report, "module_list.1", x, middle, z)
        assert_measured(report, "module_list.1", z, z, middle_back, direction="inverse")
        assert_measured(report, "module_list.0", z, middle_back, back, direction="inverse")

    def test_layers_that_initialise_themselves(self):
        torch.manual_seed(0)
        net, x = self.flow(fm.ActNorm, 6), 3 + 2 * torch.randn(50, 6)
        twin = copy.deepcopy(net)
        expected, _ = twin(x)
        with ip.probe(net, measures=MEASURES) as probe:
            y, _ = net(x)
        assert torch.equal(y, expected)
        assert net.state_dict().keys() == twin.state_dict().keys()
        assert all(map(torch.equal, net.state_dict().values(), twin.state_dict().values()))
        assert_measured(probe.report(), "layer", x, x, y)

    def test_a_layer_that_iterates(self):
        torch.manual_seed(0)
        net, x = (
            self.flow(fm.IResNetLayer, 6, internal_size=8, n_internal_layers=1),
            torch.randn(50, 6),
        )
        net.eval()
        with ip.probe(net, measures=MEASURES) as probe:
            z, _ = net(x.clone(), jac=False)
            back, _ = net(z.detach().clone(), jac=False, rev=True)
        report = probe.report()
        assert_measured(report, "layer", x, x, z)
        assert_measured(report, "layer", z, z, back, direction="inverse")
        with ip.probe(net, lambda name, m: isinstance(m, nn.Linear), MEASURES) as probe:
            net(x.clone())
        calls = [row["call"] for row in probe.report().rows[::3]]
        assert max(calls) > 10
        assert {row["n"] for row in probe.report().rows} == {50}

    @pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
    def test_what_is_raised_in_a_node(self, error):
        class Fails(fm.InvertibleModule):
            failing = True

            def forward(self, x, c=(), rev=False, jac=True):
                if self.failing:
                    raise error("in a node")
                return x, x[0].new_zeros(len(x[0]))

            def output_dims(self, dims):
                return dims

        net, x = self.flow(Fails, 6), torch.randn(50, 6)
        (fails,) = net.module_list
        with ip.probe(net, measures=MEASURES) as probe:
            with pytest.raises((RuntimeError, error)):
                net(x, rev=True)
            fails.failing = False
            net(x)
        report = probe.report()
        assert_measured(report, "layer", x, x, x)
        assert_measured(report, "out", x, x, x)
        assert {row["call"] for row in report.rows} == {0}


class TestThreads:
    def start(self, functions):
        barrier, errors = threading.Barrier(len(functions)), []

        def call(function):
            try:
                barrier.wait()
                function()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=call, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors

    @pytest.mark.parametrize("n", [2, 4])
    def test_one_probed_model(self, n):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.act = nn.Linear(6, 6), Block(), nn.ReLU(True)

            def forward(self, x):
                return self.act(self.a(self.b(self.a(x))))

        model, batches = Model(), torch.randn(n, 20, 30, 6)
        with ip.probe(model, measures=MEASURES) as sequential:
            for batch in batches.flatten(0, 1):
                model(batch)
        with ip.probe(model, measures=MEASURES) as probe:
            self.start([lambda part=part: [model(x) for x in part] for part in batches])

        def measured(probe):
            return {
                (row["layer"], row["call"], row["measure"], row["reference"]): (
                    row["value"],
                    row["n"],
                    [f for f in row["findings"] if "left out" not in f],
                )
                for row in probe.report().rows
            }

        assert measured(probe) == measured(sequential)
        assert f"{20 * n} passes" in repr(probe)

    def test_rows_of_one_probed_model_belong_together(self):
        class Keeps:
            def mutual_information(self, x, y):
                kept.append((x, y))
                return 0.0

        kept, model, batches = [], Lambda(lambda x: 2 * x), torch.randn(4, 10, 5, 2)
        with ip.probe(model, measures=ip.MutualInformation(Keeps())) as probe:
            self.start([lambda part=part: [model(x) for x in part] for part in batches])
        assert probe.report().rows[0]["n"] == 200
        ((given, gave),) = kept
        assert torch.equal(2 * given, gave)
        assert torch.equal(given.sort(0).values, batches.flatten(0, 2).sort(0).values)

    def test_two_models_and_two_probes(self):
        models, x = [small_model(), small_model()], torch.randn(30, 6)

        def measure(i):
            for _ in range(10):
                with ip.probe(models[i], measures=MEASURES) as probe:
                    y = models[i](x)
                found[i].append((probe, y))

        found = {0: [], 1: []}
        self.start([lambda i=i: measure(i) for i in found])
        for i, model in enumerate(models):
            for probe, y in found[i]:
                assert_measured(probe.report(), "3", x, model[:3](x), y)

    def test_reports_while_other_threads_run_the_model(self):
        class Grows(nn.Module):
            def forward(self, x):
                for i in range(50):
                    ip.tap(x, f"point {next(numbers)} {i}")
                return x

        numbers, errors = itertools.count(), []

        def look():
            try:
                probe.report()
                probe.state_dict()
                probe.counts("(model)")
            except RuntimeError as error:
                errors.append(error)

        with ip.probe(model := Grows(), measures=ip.Entropy(H)) as probe:
            model(torch.randn(5, 3))
            thread = threading.Thread(target=lambda: [model(torch.randn(5, 3)) for _ in range(20)])
            thread.start()
            while thread.is_alive():
                look()
            thread.join()
        assert not errors
        assert len(probe.report().rows) == 21 * 50 + 1

    def test_a_probe_removed_by_another_thread(self):
        entered, go_on = threading.Event(), threading.Event()

        def wait(x):
            entered.set()
            assert go_on.wait(10)
            return ip.tap(x, "point")

        model, x = nn.Sequential(nn.Identity(), Lambda(wait), nn.Tanh()), torch.randn(30, 6)
        probe = ip.probe(model, measures=MEASURES)
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        assert entered.wait(10)
        probe.remove()
        go_on.set()
        thread.join()
        with pytest.warns(UserWarning, match="gave no output: 1, 2"):
            assert layers_of(probe.report()) == ["0"]


class TestMarkedPoints:
    def test_rows_by_hand(self):
        model, x = Block(), torch.randn(50, 6)
        y, probe = run(model, x, times=2)
        marked = model.layer(x).tanh()
        twice, marks = torch.cat([x, x]), torch.cat([marked, marked])
        entropy, previous, of_input = (row for row in probe.report().rows if row["layer"] == "out")
        assert {row["type"] for row in (entropy, previous, of_input)} == {"tap"}
        assert {row["n"] for row in (entropy, previous, of_input)} == {100}
        assert entropy["value"] == H.entropy(marks).item()
        assert of_input["value"] == H.kl_divergence(twice, marks).item()
        assert previous["value"] is None
        assert "a tap has no input of its own" in previous["findings"][-1]
        assert torch.equal(y, marked + x)

    def test_kept_rows(self):
        model, x = Block(), torch.randn(50, 6)
        _, probe = run(model, x, measures=ROWS)
        marked = model.layer(x).tanh().detach()
        scalars = probe.report().scalars()
        assert scalars["out/forward/entropy"] == ip.KNN().entropy(marked).item()
        expected = ip.KNN().mutual_information(x, marked).item()
        assert scalars["out/forward/mutual_information_input"] == expected

    def test_the_same_object_comes_back(self):
        seen = []

        class Model(nn.Module):
            def forward(self, x):
                seen.append(ip.tap(x, "x") is x)
                return x

        model, x = Model(), torch.randn(5, 2, requires_grad=True)
        model(x)
        with ip.probe(model) as probe:
            model(x)
        model(x)
        assert seen == [True, True, True]
        assert ip.tap(x, "x") is x  # outside of any model
        assert {row["n"] for row in probe.report().rows} == {5}

    def test_names_and_calls_in_nested_and_reused_blocks(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList([Block(), Block()])

            def forward(self, x):
                for block in [*self.blocks, self.blocks[0]]:
                    x = block(x)
                ip.tap(x, "end")
                ip.tap(2 * x, "end")
                return x

        model, x = Model(), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        marks, z = [], x
        for i in (0, 1, 0):
            marks.append(model.blocks[i].layer(z).tanh())
            z = z + marks[-1]
        assert_output(report, "blocks.0.out", marks[0])
        assert_output(report, "blocks.1.out", marks[1])
        assert_output(report, "blocks.0.out", marks[2], call=1)
        assert_output(report, "end", y)
        assert_output(report, "end", 2 * y, call=1)

    @pytest.mark.parametrize("layers", ["head", nn.Sigmoid, "(model)"])
    def test_names_do_not_depend_on_the_chosen_layers(self, layers):
        class Leaf(nn.Module):
            def forward(self, x):
                return ip.tap(x, "point")

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(Block(), Block(), Leaf())
                self.head = nn.Sigmoid()

            def forward(self, x):
                return self.head(self.body(x))

        _, probe = run(Model(), torch.randn(50, 6), layers=layers)
        marked = [(r["layer"], r["call"]) for r in probe.report().rows if r["type"] == "tap"]
        assert list(dict.fromkeys(marked)) == [
            ("body.0.out", 0),
            ("body.1.out", 0),
            ("body.2.point", 0),
        ]

    def test_a_point_with_the_name_of_a_layer(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(6, 6)

            def forward(self, x):
                return ip.tap(self.layer(x).relu(), "layer")

        model, x = Model(), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        assert_output(report, "layer", model.layer(x))
        assert_output(report, "layer (tap)", y)

    def test_the_direction_is_that_of_the_pass(self):
        class Doubles(fm.InvertibleModule):
            def forward(self, x, c=(), rev=False, jac=True):
                y = ip.tap(x[0] / 2 if rev else x[0] * 2, "y")
                return (y,), y.new_zeros(len(y))

            def output_dims(self, dims):
                return dims

        nodes = [ff.InputNode(6)]
        nodes += [ff.Node(nodes[-1], Doubles, {}, name="double")]
        net, x = ff.GraphINN([*nodes, ff.OutputNode(nodes[-1])]), torch.randn(50, 6)
        with ip.probe(net, measures=ip.Entropy(H)) as probe:
            net(x)
            net(x, rev=True)
        scalars = probe.report().scalars()
        assert scalars["double.y/forward/entropy"] == H.entropy(2 * x).item()
        assert scalars["double.y/inverse/entropy"] == H.entropy(x / 2).item()

    def test_windows_and_pauses(self):
        model, x = Block(), torch.randn(50, 6)
        with ip.probe(model, measures=ip.Entropy(H)).track(every=2) as probe:
            for _ in range(4):
                model(x)
        steps = [row["step"] for row in probe.report().rows if row["layer"] == "out"]
        assert steps == [0, 2]
        with ip.probe(model, measures=ip.Entropy(H)) as probe, probe.pause():
            model(x)
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []

    def test_two_models_one_inside_the_other(self):
        class Outer(nn.Module):
            def forward(self, x):
                return ip.tap(inner(x), "outer")

        inner, outer, x = Block(), Outer(), torch.randn(50, 6)
        with ip.probe(inner, measures=ip.Entropy(H)) as inside:
            _, outside = run(outer, x)
        assert "out" in layers_of(inside.report())
        assert "outer" not in layers_of(inside.report())
        assert "outer" in layers_of(outside.report())

    def test_points_cost_no_graph_break(self, counting):
        model, x = nn.Sequential(Block(), Block()), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        expected = compiled(x)
        y, _ = run(model, x)
        torch.testing.assert_close(y, expected)
        compiled(x)
        assert (counting.compiled, counting.ran) == (1, 2)
        with ip.probe(compiled, measures=MEASURES) as probe:
            compiled(x)
        assert_output(probe.report(), "0.out", model[0].layer(x).tanh())

    def test_a_point_that_cannot_be_measured(self):
        class Model(nn.Module):
            def forward(self, x):
                ip.tap(torch.complex(x, x), "complex")
                return x

        model, x = Model(), torch.randn(50, 6)
        with pytest.warns(RuntimeWarning, match=r"layer 'complex' .* expected real numbers"):
            _, probe = run(model, x)
        assert_measured(probe.report(), "(model)", x, x, x)
