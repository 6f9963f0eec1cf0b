"""Tensors of any type, layout and mode."""

import contextlib
import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.taps.tensors import tensors_in
from tests.probing.helpers import (
    MEASURES,
    Lambda,
    assert_measured,
    assert_output,
    run,
    small_model,
)

ROWS = [ip.Entropy(ip.KNN()), ip.MutualInformation(ip.KNN())]


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

    @pytest.mark.parametrize("held", [lambda x: x, lambda x: [x], lambda x: {"a": (3, x)}])
    def test_tensors_that_refuse_all_functions(self, held):
        class Refuses(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                raise NotImplementedError

        model, x = (
            nn.Sequential(nn.Tanh(), Lambda(lambda x: held(x.as_subclass(Refuses)))),
            torch.ones(2),
        )
        with ip.probe(model, measures=MEASURES), pytest.warns(RuntimeWarning, match="left out"):
            assert type(next(tensors_in(model(x)))) is Refuses

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
        assert len(ours) == 1  # not for the next, too, which was given it
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

    @pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
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


@pytest.mark.filterwarnings("ignore:layer '0'")
def test_a_model_without_values():
    measures = [ip.Entropy(), ip.Entropy(ip.KNN()), ip.InfoNCE(), ip.Spectrum()]
    model = nn.Sequential(nn.Linear(3, 2)).to("meta")
    with ip.probe(model, measures=measures) as probe:
        for _ in range(2):
            assert model(torch.ones(5, 3, device="meta")).is_meta
    for row in probe.report().rows:
        assert row["value"] is None
        assert any("got a meta one" in finding for finding in row["findings"])
