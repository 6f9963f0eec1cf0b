"""Types, modes and transforms under which a measure's tensors come."""

import math
import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.measures.helpers import (
    PAPER,
    Spy,
    activations,
    data,
    measured,
    model_of,
    row_bytes,
)


class TestPrecision:
    def test_bfloat16(self):
        model, x = model_of(), data()
        estimator = ip.Histogram(20, "own", "units")
        with ip.probe(model, measures=ip.Entropy(estimator)) as probe, torch.no_grad():
            y = model(x.bfloat16())
        row = probe.report().rows[-1]
        assert y.dtype == torch.bfloat16
        assert row["value"] == float(estimator.entropy(y))
        assert row_bytes(probe) == 3 * 120 * 4 * 2

    def test_other_types_from_batch_to_batch(self):
        x = torch.randn(60, 3, dtype=torch.float64)
        spy = Spy()
        with ip.probe(model := nn.Identity(), measures=ip.Entropy(spy)) as probe:
            model(x[:20].bfloat16())
            model(x[20:40].float())
            model(x[40:])
        probe.report()
        expected = torch.cat([x[:20].bfloat16().double(), x[20:40].float().double(), x[40:]])
        assert torch.equal(spy.given[0][0], expected)

    def test_autocast(self):
        model, x, spy = nn.Linear(4, 4), data(), Spy()
        with ip.probe(model, measures=ip.MutualInformation(spy, project=2)) as probe:
            with torch.autocast("cpu", torch.bfloat16):
                model(x)
            with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
                y = model(x)
        probe.report()
        assert y.dtype == torch.bfloat16
        assert spy.given[0][1].dtype == torch.float32
        # Projected in full precision: a linear map fits to more digits than bfloat16 has.
        (of, to), z = spy.given[0], y.float()  # each sample once
        for before, after in ((x, of), (z, to)):
            found = torch.linalg.lstsq(before, after).solution
            torch.testing.assert_close(before @ found, after, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("first", "measure"),
        [
            ("normal", "rows"),
            ("normal", "counts"),
            ("inference", "counts"),
            ("inference", "rows"),
        ],
    )
    def test_inference_mode_by_turns(self, first, measure):
        model, x = model_of(), data()
        estimator = ip.Histogram(pseudocount=1) if measure == "counts" else PAPER
        measures = [ip.Entropy(estimator, samples=50), ip.Divergence(estimator, samples=50)]
        with ip.probe(model, measures=measures) as probe:
            for i in range(6):
                with torch.inference_mode((first == "inference") == (i % 2 == 0)):
                    model(x)
        assert all(math.isfinite(row["value"]) for row in probe.report().rows)

    @pytest.mark.parametrize(
        "dtype",
        [
            torch.float16,
            torch.bool,
            torch.int8,
            torch.uint8,
            torch.int64,
            *(getattr(torch, name) for name in ("uint16", "uint32", "uint64")),
        ],
        ids=str,
    )
    def test_numbers_of_any_type(self, dtype):
        x = torch.randint(0, 2, (40, 3), generator=torch.Generator().manual_seed(0)).to(dtype)
        measures = [ip.Entropy(PAPER), ip.Entropy(ip.Histogram(5, "own"), project=2)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "layer .* a call is left out", RuntimeWarning)
            rows = measured(nn.Identity(), x, measures, [10, 30])
        if rows[0]["value"] is None:  # torch cannot index all types
            assert "2 calls are left out" in rows[0]["findings"][-1]
        else:
            assert rows[0]["value"] == float(PAPER.entropy(x))
        assert rows[1]["value"] > 0

    @pytest.mark.parametrize("transform", ["grad", "jvp", "forward mode"])
    @pytest.mark.parametrize(
        "measure", [ip.Entropy(ip.Histogram()), ip.Entropy(PAPER)], ids=["counts", "rows"]
    )
    @pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated", "ignore:layer '0'")
    def test_transformed_calls(self, transform, measure):
        model, x = model_of(), data()
        with ip.probe(model, measures=measure) as probe:
            if transform == "grad":
                torch.func.grad(lambda z: model(z).sum())(x)
            elif transform == "jvp":
                torch.func.jvp(model, (x,), (x,))
            else:
                with torch.autograd.forward_ad.dual_level():
                    model(torch.autograd.forward_ad.make_dual(x, x))
        for row, y in zip(probe.report().rows, activations(model, x)[1:], strict=True):
            assert row["value"] == float(measure.estimator.entropy(y))

    def test_views_that_negate(self):
        x = torch.complex(data(), data())
        rows = measured(nn.Identity(), x.conj().imag, [ip.Entropy(), ip.Entropy(PAPER)])
        assert [row["value"] for row in rows] == [
            float(ip.Histogram().entropy(-data())),
            float(PAPER.entropy(-data())),
        ]

    @pytest.mark.parametrize("randomness", ["error", "same", "different"])
    @pytest.mark.filterwarnings("ignore:layer '.' .* a call is left out")
    def test_calls_under_vmap_leave_the_rest_alone(self, randomness):
        model, x, spy = model_of(), data(), Spy()
        with ip.probe(model, measures=ip.Entropy(spy, samples=30)) as probe:
            model(x[:60])
            torch.func.vmap(model, randomness=randomness, in_dims=1)(data(3, 5)[:, :, None])
            model(x[60:])
        for row, (y,) in zip(probe.report().rows, spy.given, strict=True):
            assert 25 <= row["n"] == len(y) <= 30
            assert "1 call is left out" in row["findings"][-1]

    def test_integers_have_no_density(self):
        class Rounds(nn.Module):
            def forward(self, x):
                return x.round().long()

        rows = measured(Rounds(), data(), [ip.Entropy(ip.KNN()), ip.Entropy(PAPER)], [120])
        assert rows[0]["value"] is None
        assert "expected floating-point samples" in rows[0]["findings"][0]
        assert rows[1]["value"] == float(PAPER.entropy(data().round().long()))
