"""What a probe measures is what the estimators say of the whole tensors, or of the rows kept."""

import contextlib
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip

PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)
# Seven ways to split 120 samples.
SPLITS = [[120], [60, 60], [1] * 120, [7] * 17 + [1], [119, 1], [50, 70], [30, 1, 89]]


class Spy:
    """An estimator that remembers the rows it was given."""

    def __init__(self):
        self.given = []

    def entropy(self, x):
        self.given.append((x,))
        return 0.0

    def kl_divergence(self, p, q):
        return self.mutual_information(p, q)

    def mutual_information(self, x, y):
        self.given.append((x, y))
        return 0.0


class Square(nn.Module):
    def forward(self, x):
        return x * x.abs()


class Mixes(nn.Module):
    def forward(self, x):
        return x + x.roll(1, 1).abs() / 3


class Names(nn.Module):
    """A layer with an output that has no batch."""

    def forward(self, x):
        return x.sum(0)


def model_of():
    """Of layers that round each sample alike, whatever batch it comes in."""
    return nn.Sequential(Mixes(), Square(), Mixes())


def data(n=120, width=4):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(2))


def measured(model, x, measures, splits=(120,), target=None, **options):
    with ip.probe(model, measures=measures, **options) as probe, torch.no_grad():
        targets = None if target is None else target.split(list(splits))
        for i, batch in enumerate(x.split(list(splits))):
            if targets is not None:
                probe.target(targets[i])
            model(batch)
    return probe.report().rows


def activations(model, x):
    """The input of the model, and the output of each layer."""
    tensors = [x]
    with torch.no_grad():
        for layer in model:
            tensors.append(layer(tensors[-1]))
    return tensors


def row_bytes(probe):
    """What all rows in a probe's state take."""
    return sum(
        values.numel() * values.element_size()
        for visit in probe.state_dict()["record"]["visits"]
        for store in visit["stores"]
        if store["kept"] is not None and store["kept"]["type"] == "Rows"
        for values in [store["kept"]["state"]["values"]]
    )


OF_ENTROPY = [
    PAPER,
    ip.Histogram(50, "minmax"),
    ip.Histogram(50, "own", "units", correction="grassberger"),
    ip.Histogram(8, "dyadic", "units"),
    ip.Histogram(8, "minmax", "samples"),
    ip.Histogram(3, (-2, 2), "samples", outside="clip"),
    ip.KNN(),
    ip.KNN(k=2, metric="chebyshev", calibration="gaussian"),
    ip.Gaussian(),
    ip.MatrixRenyi(),
]
OF_DIVERGENCE = [
    PAPER,
    ip.Histogram(20, "minmax", pseudocount=0.5),
    ip.Histogram(20, "own", "units", pseudocount=1),
    ip.Histogram(4, "minmax", "samples"),
    ip.KNN(),
    ip.KNN(calibration="gaussian"),
    ip.Gaussian(),
]
OF_INFORMATION = [
    ip.KNN(),
    ip.KNN(variant=2),
    ip.Histogram(4, over="samples"),
    ip.Histogram(4, "own", over="samples"),
    ip.Histogram(6, "minmax"),
    ip.Histogram(6, "own", over="units"),
    ip.Gaussian(),
    ip.MatrixRenyi(),
]


def _id(estimator):
    return repr(estimator)


class TestAllSamples:
    """With room for all samples, values are those of the whole tensors, to the last bit."""

    @pytest.mark.parametrize("estimator", OF_ENTROPY, ids=_id)
    def test_entropy(self, estimator):
        model, x = model_of(), data()
        expected = [float(estimator.entropy(y)) for y in activations(model, x)[1:]]
        for splits in SPLITS[:3]:
            rows = measured(model, x, ip.Entropy(estimator), splits)
            assert [row["value"] for row in rows] == expected
            assert {(row["n"], row["d"]) for row in rows} == {(120, 4)}
            assert not any("samples, drawn" in found for row in rows for found in row["findings"])

    @pytest.mark.parametrize("reference", ["previous", "input"])
    @pytest.mark.parametrize("estimator", OF_DIVERGENCE, ids=_id)
    def test_divergence(self, estimator, reference):
        model, x = model_of(), data()
        tensors = activations(model, x)
        references = [x] * 3 if reference == "input" else tensors[:3]
        expected = [
            float(estimator.kl_divergence(p, q))
            for p, q in zip(references, tensors[1:], strict=True)
        ]
        for splits in SPLITS[3:]:
            rows = measured(model, x, ip.Divergence(estimator, reference), splits)
            assert [row["value"] for row in rows] == expected

    @pytest.mark.parametrize("reference", ["previous", "input"])
    @pytest.mark.parametrize("estimator", OF_INFORMATION, ids=_id)
    def test_mutual_information(self, estimator, reference):
        model, x = model_of(), data()
        tensors = activations(model, x)
        references = [x] * 3 if reference == "input" else tensors[:3]
        expected = [
            float(estimator.mutual_information(p, q))
            for p, q in zip(references, tensors[1:], strict=True)
        ]
        for splits in SPLITS[::3]:
            rows = measured(model, x, ip.MutualInformation(estimator, reference), splits)
            assert [row["value"] for row in rows] == expected
            assert {row["reference"] for row in rows} == {reference}

    @pytest.mark.parametrize(
        "estimator",
        [ip.KNN(), ip.Histogram(4, over="samples"), ip.Histogram(5, "own", "samples")],
        ids=_id,
    )
    def test_labels(self, estimator):
        model, x = model_of(), data()
        labels = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
        measure = ip.MutualInformation(estimator, "target")
        for splits in SPLITS:
            rows = measured(model, x, measure, splits, labels)
            assert [row["value"] for row in rows] == [
                float(estimator.mutual_information(labels, y)) for y in activations(model, x)[1:]
            ]

    def test_a_target_of_any_other_kind(self):
        model, x = model_of(), data()
        y = x @ torch.randn(4, 2) + torch.randn(120, 2)
        rows = measured(model, x, ip.MutualInformation(reference="target"), [50, 70], y)
        for row, z in zip(rows, activations(model, x)[1:], strict=True):
            assert row["value"] == float(ip.KNN().mutual_information(y, z))

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
    def test_whatever_the_split(self, splits, seed):
        splits = [2, *splits]
        model, x = model_of(), data(sum(splits))
        measures = [ip.Entropy(PAPER), ip.Divergence(PAPER, "input")]
        last = activations(model, x)[-1]
        rows = measured(model, x, measures, splits, seed=seed)[-2:]
        assert rows[0]["value"] == float(PAPER.entropy(last))
        assert rows[1]["value"] == float(PAPER.kl_divergence(x, last))

    def test_images(self):
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
        x = torch.randn(30, 2, 6, 5)
        h = ip.Histogram(20, "own", "units")
        rows = measured(model, x, ip.Entropy(h), [10, 20])
        with torch.no_grad():
            assert rows[1]["value"] == float(h.entropy(model(x)))
        assert (rows[1]["n"], rows[1]["d"]) == (30, 36)

    def test_one_image(self):
        x = torch.randn(1, 3, 8, 8)
        (row,) = measured(Square(), x, ip.Entropy(PAPER), [1])
        assert row["value"] == float(PAPER.entropy(x * x.abs()))

    def test_measures_that_keep_alike_share_their_rows(self):
        model, x = model_of(), data()
        alone, both = [], []
        for measures, bytes_kept in (([ip.Entropy(ip.KNN())], alone), (None, both)):
            measures = measures or [ip.Entropy(ip.KNN()), ip.Entropy(PAPER), ip.Entropy(PAPER)]
            with ip.probe(model, measures=measures) as probe:
                model(x)
            bytes_kept.append(row_bytes(probe))
        assert alone == both


class TestSomeSamples:
    """With less room, the rows are a sample, the same at every layer."""

    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(SPLITS), st.integers(2, 130), st.integers(0, 2**32 - 1), st.booleans())
    def test_the_same_rows_everywhere(self, splits, samples, seed, of_target):
        model, x, spy = model_of(), data(), Spy()
        reference = "target" if of_target else "input"
        measures = [
            ip.Entropy(spy, samples=samples),
            ip.Divergence(spy, samples=samples),
            ip.MutualInformation(spy, reference, samples=samples),
        ]
        target = torch.arange(120)
        rows = measured(model, x, measures, splits, target, seed=seed)
        tensors = activations(model, x)
        kept = None
        for i in range(3):
            (y,), (before, y_), (of, y__) = spy.given[3 * i : 3 * i + 3]
            assert torch.equal(y, y_)
            assert torch.equal(y, y__)
            numbers = of if of_target else (of[:, None] == x[None]).all(-1).long().argmax(1)
            kept = numbers if kept is None else kept
            assert torch.equal(numbers, kept)
            assert len(numbers.unique()) == min(samples, 120)
            assert torch.equal(y, tensors[i + 1][kept])
            assert torch.equal(before, tensors[i][kept])
        for row in rows:
            assert row["n"] == min(samples, 120)
            assert any("drawn at random" in found for found in row["findings"]) == (samples < 120)

    def test_the_finding(self):
        rows = measured(model_of(), data(), ip.Entropy(PAPER, samples=50), [60, 60], seed=9)
        assert {row["findings"][-1] for row in rows} == {
            "from 50 of 120 samples, drawn at random (seed 9), the same at every layer: samples "
            "is 50."
        }

    def test_neither_the_choice_nor_the_data_touch_the_generator(self):
        model, x = model_of(), data()
        torch.manual_seed(5)
        before = torch.get_rng_state()
        measured(model, x, ip.Entropy(ip.KNN(), samples=10, project=2), [60, 60])
        assert torch.equal(before, torch.get_rng_state())

    def test_seeds(self):
        model, x = model_of(), data()
        values = [
            [row["value"] for row in measured(model, x, ip.Entropy(PAPER, samples=40), seed=seed)]
            for seed in (1, 1, 2)
        ]
        assert values[0] == values[1] != values[2]


class TestMemory:
    @pytest.mark.parametrize("memory", [0, 15, 160, 1600, 3333, 10**6])
    def test_what_is_kept_and_what_is_said(self, memory):
        model, x = model_of(), data()
        with ip.probe(model, measures=ip.Entropy(PAPER), memory=memory) as probe:
            model(x)
        size = min(120, memory // (3 * 4 * 4))
        assert row_bytes(probe) <= memory
        for row in probe.report().rows:
            assert row["n"] == size
            if size < 120:
                assert row["findings"][-1].endswith(f"memory had room for {size}.")
            if not size:
                assert row["value"] is None

    @pytest.mark.parametrize("kind", ["small batches", "wider types"])
    def test_the_budget_holds(self, kind):
        model, memory = nn.Identity(), 40_000
        batches = [torch.randn(1, 100) for _ in range(300)]
        if kind == "wider types":
            batches = [torch.randn(300, 100).bfloat16(), torch.randn(300, 100).double()]
        with ip.probe(model, measures=ip.Entropy(ip.Gaussian()), memory=memory) as probe:
            for batch in batches:
                model(batch)
                assert row_bytes(probe) <= memory

    def test_the_budget_holds_when_merging(self):
        model = nn.Sequential(nn.Identity(), nn.Identity())
        probes = []
        for layer in ("0", "1"):
            with ip.probe(model, layer, ip.Entropy(ip.Gaussian()), memory=4000) as probe:
                model(torch.randn(200, 10))
            probes.append(probe)
        probes[0].merge(probes[1])
        assert row_bytes(probes[0]) <= 4000

    def test_a_layer_that_comes_late(self):
        class Late(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.late, self.passes = nn.Identity(), nn.Identity(), 0

            def forward(self, x):
                self.passes += 1
                x = self.first(x)
                return self.late(x.repeat(1, 9)) if self.passes > 5 else x

        model, spy = Late(), Spy()
        with ip.probe(model, measures=ip.Entropy(spy), memory=4000) as probe:
            for i in range(10):
                model(torch.arange(100 * i, 100 * i + 100, dtype=torch.float32)[:, None])
        first, late = probe.report().rows
        assert row_bytes(probe) <= 4000
        (x,), (y,) = spy.given
        assert (len(x), first["n"], first["d"]) == (100, 100, 1)
        assert late["n"] == len(y) < 100
        there = (x >= 500).squeeze(1)
        assert torch.equal(x[there].repeat(1, 9), y)
        assert 20 < len(y) < 80  # half of the samples are of the later passes


class TestProjection:
    MEASURE = staticmethod(lambda estimator: ip.MutualInformation(estimator, project=3))

    def test_only_what_is_wider_is_projected(self):
        model = nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 20), nn.Unflatten(1, (4, 5)))
        x, spy = torch.randn(50, 8), Spy()
        rows = measured(model, x, self.MEASURE(spy), [25, 25])
        widths = [tuple(t.shape for t in pair) for pair in spy.given]
        assert widths == [((50, 3), (50, 3))] * 3
        expected = model[0](x).detach()
        torch.testing.assert_close(spy.given[0][1], expected)
        assert rows[0]["findings"] == [
            "the input (8 dimensions) projected onto 3 random directions."
        ]
        both = "the input (8 dimensions) and the output (20 dimensions) projected onto 3 random"
        assert [row["findings"] for row in rows[1:]] == [[f"{both} directions."]] * 2
        assert [row["d"] for row in rows] == [3, 20, 20]

    def test_one_matrix_for_each_width_that_keeps_lengths(self):
        class Doubles(nn.Module):
            def forward(self, x):
                return 2 * x

        x, spy = torch.randn(200, 300), Spy()
        model = nn.Sequential(nn.Identity(), Doubles())
        measured(model, x, ip.Divergence(spy, project=100), [200])
        (a, b), (c, d) = spy.given
        assert torch.equal(a, b)
        assert torch.equal(b, c)
        assert torch.equal(2 * c, d)
        assert float(a.square().mean() * 100) == pytest.approx(300, rel=0.05)

    def test_seeds(self):
        x = torch.randn(50, 20)
        given_ = []
        for seed in (1, 1, 2):
            spy = Spy()
            measured(nn.Identity(), x, self.MEASURE(spy), [25, 25], seed=seed)
            given_.append(spy.given[0][1])
        assert torch.equal(given_[0], given_[1])
        assert not torch.equal(given_[0], given_[2])

    def test_projections_do_not_know_more(self):
        model, x = nn.Linear(12, 12), torch.randn(2000, 12)
        y = x + torch.randn_like(x)
        values = [
            measured(
                model, x, ip.MutualInformation(ip.Gaussian(), "target", project=width), [2000], y
            )
            for width in (1, 3, 8, None)
        ]
        values = [row["value"] for (row,) in values]
        assert 0 <= values[0] < values[1] < values[2] < values[3]

    def test_another_default_type(self):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            rows = measured(nn.Identity(), torch.randn(50, 20), self.MEASURE(Spy()), [50])
        finally:
            torch.set_default_dtype(default)
        assert rows[0]["value"] is not None


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
        (of, to), z = spy.given[0], torch.cat([y, y]).float()
        for before, after in ((torch.cat([x, x]), of), (z, to)):
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
            assert "calls left out: 2" in rows[0]["findings"][-1]
        else:
            assert rows[0]["value"] == float(PAPER.entropy(x))
        assert rows[1]["value"] > 0

    @pytest.mark.parametrize("transform", ["grad", "jvp", "forward mode"])
    @pytest.mark.parametrize("measure", [ip.Entropy(), ip.Entropy(PAPER)], ids=["counts", "rows"])
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
            assert "calls left out: 1" in row["findings"][-1]

    def test_integers_have_no_density(self):
        class Rounds(nn.Module):
            def forward(self, x):
                return x.round().long()

        rows = measured(Rounds(), data(), [ip.Entropy(ip.KNN()), ip.Entropy(PAPER)], [120])
        assert rows[0]["value"] is None
        assert "expected floating-point samples" in rows[0]["findings"][0]
        assert rows[1]["value"] == float(PAPER.entropy(data().round().long()))


ROWS = [ip.Entropy(PAPER), ip.MutualInformation(ip.Gaussian())]


class TestWhatCannotBeMeasured:
    """It is reported on the row; the model's pass goes on, and so do the other layers."""

    def test_a_shape_that_changes(self):
        model, x = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool1d(3)), data(40, 8)
        with ip.probe(model, measures=ip.Entropy(PAPER)) as probe:
            model(x[:20])
            message = (
                r"layer '0' .*in pass 2, output: expected rows of shape \(8,\) as before, got"
            )
            with pytest.warns(RuntimeWarning, match=message):
                model(x[:, :6])
            model(x[20:])
        identity, pool = probe.report().rows
        assert identity["n"] == 40
        assert identity["value"] == float(PAPER.entropy(x))
        assert "calls left out: 1; in pass 2, output" in identity["findings"][-1]
        assert pool["n"] == 80
        assert pool["value"] is not None

    def test_a_layer_without_a_batch(self):
        model, x = nn.Sequential(nn.Identity(), nn.Identity(), Names()), data()
        message = "for each of the pass's 120 samples"
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
        assert "calls left out: 1" in total["findings"][-1]

    def test_no_tensor_goes_in(self):
        class Makes(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Identity()

            def forward(self, n):
                return self.layer(data(n))

        model = Makes()
        message = "in pass 1, input: there is no tensor"
        with (
            ip.probe(model, measures=ROWS) as probe,
            pytest.warns(RuntimeWarning, match=message),
        ):
            model(50)
        entropy, information = probe.report().rows
        assert entropy["value"] == float(PAPER.entropy(data(50)))
        assert information["value"] is None
        assert information["findings"][0].endswith("in pass 1, input: there is no tensor.")

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
        assert len(caught) == 2
        expected = (
            "layer '1' (forward): a call is left out of its measures, in pass 2, output: expected "
            "finite values, got 8 NaN and 0 infinite among 40 (20.000%)"
        )
        assert str(caught[0].message).startswith(expected)
        rows = probe.report().rows
        both = torch.cat([x[:60], bad, x[60:]])
        assert [row["n"] for row in rows] == [110] * 3 + [100] * 6
        assert rows[0]["value"] == float(PAPER.entropy(both))
        for row in rows[3::3]:
            assert row["value"] == float(PAPER.entropy(x))
            assert "calls left out: 1; in pass 2, output" in row["findings"][-1]
        for row in rows[4::3]:
            assert row["value"] == float(PAPER.mutual_information(x, x))
        for row in rows[5::3]:
            assert row["value"] == float(h.entropy(x))

    def test_an_estimator_that_refuses(self):
        model = nn.Sequential(nn.Identity(), nn.Linear(4, 2))
        rows = measured(model, data(), ip.Divergence(ip.KNN(), "input"), [120])
        assert rows[0]["value"] is None  # x is not independent of itself
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


class _Sum(nn.Module):
    def forward(self, x):
        return x.sum()


class TestTargets:
    MEASURE = ip.MutualInformation(ip.Gaussian(), "target")

    def test_none(self):
        model = nn.Identity()
        message = r"Call probe.target\(y\) before the forward"
        with (
            ip.probe(model, measures=self.MEASURE) as probe,
            pytest.warns(RuntimeWarning, match=message),
        ):
            model(data())
        (row,) = probe.report().rows
        assert row["value"] is None
        assert "in pass 1, target: there is none. Call probe.target(y)" in row["findings"][-1]

    def test_for_the_next_pass_alone(self):
        model, x = nn.Identity(), data()
        y = x + 1
        spy = Spy()
        measure = ip.MutualInformation(spy, "target")
        with ip.probe(model, measures=measure) as probe:
            probe.target(y[:40])
            model(x[:40])
            with pytest.warns(RuntimeWarning, match="in pass 2, target: there is none"):
                model(x[40:80])
            probe.target(y[:7])  # the last word counts
            probe.target(y[80:])
            model(x[80:])
        (row,) = probe.report().rows
        (of, z) = spy.given[0]
        assert torch.equal(of, torch.cat([y[:40], y[80:]]))
        assert torch.equal(z, torch.cat([x[:40], x[80:]]))
        assert row["n"] == 80
        assert "calls left out: 1" in row["findings"][-1]

    def test_passes_without_one_are_no_random_draw(self):
        model, x = nn.Identity(), data()
        with ip.probe(model, measures=ip.MutualInformation(Spy(), "target")) as probe:
            probe.target(x[:40])
            model(x[:40])
            with pytest.warns(RuntimeWarning):
                model(x[40:80])
        (row,) = probe.report().rows
        assert not any("drawn at random" in found for found in row["findings"])

    def test_a_paused_pass_takes_it_too(self):
        model, x, spy = nn.Identity(), data(), Spy()
        with ip.probe(model, measures=ip.MutualInformation(spy, "target")) as probe:
            probe.target(torch.ones(120))
            with probe.pause():
                model(x)
            probe.target(torch.zeros(120))
            model(x)
        probe.report()
        assert not spy.given[0][0].any()

    def test_another_length(self):
        model = nn.Identity()
        with ip.probe(model, measures=self.MEASURE) as probe:
            probe.target(torch.zeros(7))
            with pytest.warns(RuntimeWarning, match="samples, got shape"):
                model(data())
            probe.target(data()[:, 0])
            model(data())
        (row,) = probe.report().rows
        assert row["n"] == 120
        assert "calls left out: 1; in pass 1" in row["findings"][-1]

    def test_what_is_no_target(self):
        with ip.probe(nn.Identity(), measures=self.MEASURE) as probe:
            with pytest.raises(TypeError, match="target: expected a tensor or an array"):
                probe.target("cat")
            with pytest.raises(ValueError, match="target: expected at least one value"):
                probe.target([])

    def test_a_list_and_an_array(self):
        model, x = nn.Identity(), data(6)
        spy = Spy()
        with ip.probe(model, measures=ip.MutualInformation(spy, "target")) as probe:
            probe.target([0, 1, 0, 1, 2, 2])
            model(x)
            probe.target(x.numpy()[:, 0].round().astype(int))
            model(x)
        probe.report()
        assert spy.given[0][0].tolist() == [0, 1, 0, 1, 2, 2, *x[:, 0].round().long().tolist()]


class TestArguments:
    def test_numbers(self):
        with pytest.raises(ValueError, match="samples: expected an integer at least 2, got 1"):
            ip.Entropy(samples=1)
        with pytest.raises(ValueError, match="project: expected an integer at least 1, got 0"):
            ip.Divergence(project=0)
        with pytest.raises(TypeError, match=r"project: expected an integer, got 2\.5"):
            ip.MutualInformation(project=2.5)
        with pytest.raises(TypeError):
            ip.Entropy(ip.KNN(), 100)
        with pytest.raises(ValueError, match="memory: expected an integer at least 0, got -1"):
            ip.probe(nn.Identity(), memory=-1)
        with pytest.raises(ValueError, match="seed: expected an integer between 0 and"):
            ip.probe(nn.Identity(), seed=1 << 32)
        with pytest.raises(ValueError, match="values_per_batch: expected an integer at least 1"):
            ip.probe(nn.Identity(), values_per_batch=0)

    def test_estimators(self):
        with pytest.raises(TypeError, match=r"one that has mutual_information\(\)"):
            ip.MutualInformation("input")
        with pytest.raises(TypeError, match=r"one that has entropy\(\)"):
            ip.Entropy(ip.KNN)
        with pytest.raises(
            ValueError, match="reference: expected one of 'input', 'previous', 'ta"
        ):
            ip.MutualInformation(reference="output")
        with pytest.raises(ValueError, match="reference: expected one of 'previous', 'input'"):
            ip.Divergence(reference="target")

    def test_equal_measures_are_one(self):
        measures = [ip.Entropy(), ip.Entropy(ip.Histogram()), ip.Entropy(samples=9)]
        assert len({*measures}) == 2
        assert len(measured(nn.Identity(), data(), measures)) == 2
        assert ip.Entropy() != ip.MutualInformation()

    def test_kinds(self):
        estimators = [ip.Histogram(), PAPER, ip.MatrixRenyi(), ip.KNN(), ip.Gaussian(), Spy()]
        kinds = [ip.Entropy(estimator).kind for estimator in estimators]
        assert kinds == ["discrete"] * 3 + ["differential"] * 3
