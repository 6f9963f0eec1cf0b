"""One entrance: numbers become Python's, arrays become tensors, and what is neither is named."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import infoprobe as ip
from infoprobe import checks
from infoprobe.models import Schedule

HUGE = 10**5000  # has more digits than Python writes
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


def hex_or_text(value):
    return hex(value)[:9] if isinstance(value, int) else str(value)


def data(n=60, d=2):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


class TestNumbers:
    @pytest.mark.parametrize("kind", INTEGERS)
    @pytest.mark.parametrize(
        ("make", "integers"),
        [
            (ip.Histogram, {"bins": 100}),
            (ip.KNN, {"k": 3, "variant": 2, "repeats": 2, "seed": 5}),
            (
                ip.Critic,
                dict.fromkeys(("hidden", "embedding", "steps", "patience", "batch", "seed"), 16),
            ),
            (ip.Flow, dict.fromkeys(("components", "hidden", "steps", "batch", "folds"), 3)),
            (ip.Gaussianization, {"layers": 3, "folds": 3, "seed": 1}),
            (ip.Entropy, {"samples": 50, "project": 2}),
            (Schedule, {"epochs": 2, "batch_size": 3, "milestones": (1,)}),
        ],
    )
    def test_of_numpy_are_the_same_as_of_python(self, make, integers, kind):
        of_numpy = {
            name: tuple(map(kind, x)) if isinstance(x, tuple) else kind(x)
            for name, x in integers.items()
        }
        made = make(**of_numpy)
        assert repr(made) == repr(make(**integers))
        for name in integers:
            value = getattr(made, name)
            assert {type(x) for x in (value if isinstance(value, tuple) else (value,))} == {int}

    def test_of_numpy_as_arguments(self):
        x = data()
        assert ip.nearest_neighbors(x, np.int8(3))[0].shape == (60, 3)
        one, two = np.int16(64), np.uint8(1)
        assert len(ip.confidence_interval(ip.KNN().entropy, x, resamples=one)) == 4
        model = nn.Linear(2, 2)
        with ip.probe(model, seed=np.int64(3), memory=np.int32(9), measures=ip.Entropy()) as probe:
            tracked = probe.track(every=np.int64(2), passes=two)
            assert tracked is not None
        images = torch.rand(8, 1, 2, 2)
        schedule = Schedule(np.int64(1), np.int64(4))
        torch.manual_seed(0)
        conv = nn.Conv2d(1, 1, 1)
        assert len(ip.models.fit(conv, images, schedule, seed=np.uint64(3), progress=False)) == 1
        assert ip.dequantize(torch.zeros(3, dtype=torch.uint8), np.uint8(2)).shape == (3,)

    def test_a_square_of_bins_does_not_wrap(self):
        x, y = data(50), data(50) ** 2
        expected = ip.Histogram(50_000).mutual_information(x, y)
        assert ip.Histogram(np.int32(50_000)).mutual_information(x, y) == expected

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (Fraction(1, 2), 0.5),
            (np.float32(0.5), 0.5),
            (np.float16(0.5), 0.5),
            (np.longdouble(0.5), 0.5),
            (np.int8(2), 2),
            (10**30, 1e30),
            (2**53, 2.0**53),
            (1, 1),
        ],
    )
    def test_a_real_becomes_a_number_of_python(self, given, expected):
        found = checks.require_real(given, 0, "a")
        assert type(found) is type(expected)
        assert found == expected
        x = torch.rand(100, generator=torch.Generator().manual_seed(0))
        h = ip.Histogram(8, range=(0, 1), pseudocount=given)
        assert h.entropy(x) == ip.Histogram(8, range=(0, 1), pseudocount=expected).entropy(x)

    @pytest.mark.parametrize(
        "value",
        [10**400, HUGE, 1e307, -1, np.nan, np.inf, "a", None, 1j, [1], True, 1e-310],
        ids=hex_or_text,
    )
    def test_what_is_no_pseudocount_is_named(self, value):
        with pytest.raises((ValueError, TypeError), match=r"^pseudocount: expected .*, got "):
            ip.Histogram(pseudocount=value)

    @pytest.mark.parametrize("pseudocount", [1e-280, 1e-100, 1e20, 1e280])
    def test_extreme_pseudocounts_are_right(self, pseudocount):
        p, q = torch.tensor([0.1, 0.1, 0.1, 0.9]), torch.tensor([0.1, 0.3, 0.9, 0.3])
        h = ip.Histogram(10, range=(0, 1), pseudocount=pseudocount)
        a, b = np.zeros(10), np.zeros(10)
        a[[1, 9]], b[[1, 3, 9]] = [3, 1], [1, 2, 1]
        a, b = ((x + pseudocount) / (4 + 10 * pseudocount) for x in (a, b))
        expected = (a * (np.log(a) - np.log(b))).sum()
        assert float(h.kl_divergence(p, q)) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert bool(h.js_divergence(p, q).isfinite())
        assert bool(h.mutual_information(p, q).isfinite())

    @pytest.mark.parametrize("value", [-HUGE, "3", 3.0, None, True, [3], 2**63], ids=hex_or_text)
    def test_what_is_no_integer_is_named(self, value):
        for make, name in (
            (lambda: ip.Histogram(bins=value), "bins"),
            (lambda: ip.KNN(seed=value), "seed"),
            (lambda: ip.Flow(steps=value), "steps"),
            (lambda: Schedule(value), "epochs"),
            (lambda: ip.probe(nn.Linear(1, 1), memory=value), "memory"),
        ):
            with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected an integer"):
                make()

    @pytest.mark.parametrize(
        "base", [10**400, HUGE, 0, 1, -2, np.nan, np.inf, "2"], ids=hex_or_text
    )
    def test_a_base_that_is_none_is_named(self, base):
        with pytest.raises((ValueError, TypeError), match=r"^base: expected .*, got "):
            ip.entropy(data(), base=base)

    def test_levels_near_one(self):
        found = ip.confidence_interval(ip.Gaussian().entropy, data(), level=1 - 2**-53)
        assert float((found.high - found.value) / found.stderr) == pytest.approx(8.2924, abs=1e-3)
        usual = ip.confidence_interval(ip.Gaussian().entropy, data())
        width = float((usual.high - usual.value) / usual.stderr)
        assert width == pytest.approx(1.959963984540054, rel=1e-12)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_no_interval_around_what_is_not_finite(self, value):
        def measure(x):
            return x.mean() if len(x) < 60 else torch.tensor(value)

        with pytest.raises(ValueError, match="measure: expected a finite estimate, got"):
            ip.confidence_interval(measure, data())


class TestChoices:
    @pytest.mark.parametrize(
        "value", [np.ones(3), torch.ones(3), [1], {}, 3, object(), b"own", np.array(["own", "a"])]
    )
    def test_what_is_none_is_named(self, value):
        for make, name in (
            (lambda: ip.Histogram(over=value), "over"),
            (lambda: ip.Histogram(range=value), "range"),
            (lambda: ip.Histogram(correction=value), "correction"),
            (lambda: ip.KNN(metric=value), "metric"),
            (lambda: ip.Critic(value), "bound"),
            (lambda: ip.Divergence(reference=value), "reference"),
            (lambda: ip.datasets.load(value), "name"),
        ):
            with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
                make()

    def test_an_argument_that_cannot_be_shown(self):
        class Silent:
            def __repr__(self):
                raise RuntimeError

        for make in (ip.Histogram, ip.KNN):
            with pytest.raises(TypeError, match="an object of type Silent"):
                make(Silent())
        assert len(checks.shown("x" * 10**6)) < 300

    @pytest.mark.parametrize("value", [None, 0, 1.0, "yes", [], torch.tensor(True)])
    def test_what_is_neither_true_nor_false_is_named(self, value):
        for name, call in {
            "rev": lambda: ip.entropy_change(torch.tanh, data(), rev=value),
            "download": lambda: ip.datasets.load("mnist", download=value),
            "progress": lambda: ip.Critic(progress=value),
        }.items():
            with pytest.raises(TypeError, match=f"{name}: expected True or False, got"):
                call()
        assert ip.Critic(progress=np.False_).progress is False

    @pytest.mark.parametrize("value", [3, [], b"0", np.ones(2)])
    def test_what_is_no_text_is_named(self, value, tmp_path):
        with ip.probe(model := nn.Linear(2, 2)) as probe:
            model(data())
        report = probe.report()
        for name, call in {
            "layer": lambda: probe.counts(value),
            "title": lambda: report.to_html(tmp_path / "page.html", title=value),
            "measure": lambda: report.plot(value),
            "reference": lambda: report.plot(reference=value),
        }.items():
            with pytest.raises(TypeError, match=f"{name}: expected a text, got"):
                call()
        with pytest.raises(TypeError, match="ax: expected axes of matplotlib or None, got"):
            report.plot(ax=value)


class TestArrays:
    def test_masks_are_not_ignored(self):
        values = [0, 0, 1, 1, 999.0]
        masked = np.ma.array(values, mask=[0, 0, 0, 0, 1])
        for x in (masked, [masked], ([masked],), np.ma.array([[1.0, 2]], mask=[[0, 1]])):
            with pytest.raises(ValueError, match=r"^x: expected values without a mask"):
                ip.entropy(x)
        with pytest.raises(ValueError, match=r"^q: expected values without a mask"):
            ip.kl_divergence(values, masked)
        assert ip.entropy(masked.compressed()) == ip.entropy(values[:4])
        assert ip.entropy(np.ma.array(values)) == ip.entropy(values)

    @pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
    def test_masked_tensors_are_refused_by_name(self):
        from torch.masked import masked_tensor

        x = masked_tensor(data(), data() > 0)
        for call in (ip.entropy, lambda x: ip.entropy(x, ip.KNN()), lambda x: ip.dequantize(x)):
            with pytest.raises(TypeError, match=r"got a MaskedTensor. Pass the values that count"):
                call(x)

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    @pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
    def test_nested_tensors_are_their_samples(self, layout):
        parts = list(data().split([10, 30, 20]))
        nested = torch.nested.nested_tensor(parts, layout=layout)
        for estimator in (ip.Histogram(8, over="samples"), ip.KNN(), ip.Gaussian()):
            assert estimator.entropy(nested) == estimator.entropy(data())
        # The part of each component that a view shows, and no more.
        if layout is torch.jagged:
            start, length = torch.tensor([0, 1]), torch.tensor([5, 6])
            view = torch.nested.narrow(data().view(2, 30, 2), 1, start, length, layout=layout)
            shown = torch.cat([data()[:5], data()[31:37]])
            assert ip.entropy(view, ip.KNN()) == ip.entropy(shown, ip.KNN())
        uneven = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 5)])
        with pytest.raises(TypeError, match=r"^x: expected a nested tensor of samples that have"):
            ip.entropy(uneven)

    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x[::-1],
            lambda x: x[:, ::-1],
            lambda x: x[::-1][:1][:, ::-1],
            lambda x: x[:1][::-1],
            lambda x: x.astype(">f8"),
            lambda x: x.astype(">f4"),
            lambda x: x.astype(">i2")[::-1],
            lambda x: np.asfortranarray(x),
            lambda x: np.broadcast_to(x[:1], x.shape),
            lambda x: np.stack([x, x], axis=2)[:, :, 0],
            lambda x: np.frombuffer(b"\0" + x.tobytes(), "u1")[1:].view("f8").reshape(x.shape),
            lambda x: np.array([(1, 2.5)], dtype=[("a", "i1"), ("b", "f8")])["b"],
        ],
    )
    def test_views_of_numpy(self, view):
        array = view(3 * data().double().numpy())
        expected = torch.tensor(np.array(array.tolist()))
        assert torch.equal(checks.as_tensor(array, "x").double(), expected)

    @pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
    def test_unsigned_integers(self, dtype):
        x, same = (torch.arange(40).remainder(7).to(kind) for kind in (dtype, torch.int64))
        h = ip.Histogram(8, over="samples")
        for call in (
            ip.entropy,
            lambda x: ip.kl_divergence(x, x.flip(0) if x.dtype == torch.int64 else x),
            lambda x: ip.mutual_information(x, x, h),
            lambda x: ip.mutual_information(x, data(40), ip.KNN()),
            lambda x: ip.confidence_interval(ip.Histogram(8).entropy, x).stderr,
            lambda x: ip.dequantize(x, generator=torch.Generator().manual_seed(0)).sum(),
            lambda x: ip.nearest_neighbors(x + 0 if x.dtype == torch.int64 else x, 1)[0].sum(),
        ):
            assert torch.equal(call(x), call(same))

    def test_integers_that_no_type_holds(self):
        x = torch.tensor([2**63 + 5, 1], dtype=torch.uint64)
        for call in (ip.entropy, ip.dequantize, lambda x: ip.entropy(x, ip.Gaussian())):
            with pytest.raises(ValueError, match="expected integers below 2"):
                call(x)

    @pytest.mark.parametrize("name", ["bits8", "bits1x8", "int4", "uint1", "float4_e2m1fn_x2"])
    def test_types_without_numbers_are_named(self, name):
        dtype = getattr(torch, name, None)
        if dtype is None:
            pytest.skip("unknown to this torch")
        x = torch.zeros(8, 2, dtype=torch.uint8).view(dtype)
        for estimator in (ip.Histogram(), ip.Gaussian(), ip.MatrixRenyi()):
            with pytest.raises(TypeError, match=rf"^x: expected .*torch\.{name}"):
                ip.entropy(x, estimator)

    @pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16"])
    def test_small_floats(self, name):
        x = data().to(getattr(torch, name))
        for estimator in (ip.Histogram(), ip.Gaussian(), ip.MatrixRenyi()):
            assert ip.entropy(x, estimator) == ip.entropy(x.float(), estimator)

    @pytest.mark.parametrize(
        "x",
        [None, "text", b"text", {}, {1}, object(), iter([1.0]), [[1], [1, 2]], ["a"], 1j, [None]],
    )
    def test_what_holds_no_numbers_is_named(self, x):
        for call in (ip.entropy, lambda x: ip.entropy(x, ip.KNN()), lambda x: ip.dequantize(x)):
            with pytest.raises((TypeError, ValueError), match=r"^(x|images): expected"):
                call(x)

    def test_a_list_within_itself(self):
        x = []
        x.append(x)
        with pytest.raises(TypeError, match=r"^x: expected a tensor or an array"):
            ip.entropy(x)

    @pytest.mark.skipif(not torch.distributed.is_available(), reason="needs distributed torch")
    def test_distributed_tensors_are_refused_by_name(self):
        from torch.distributed.tensor import distribute_tensor, init_device_mesh

        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            x = distribute_tensor(data(), init_device_mesh("cpu", (1,)))
            for estimator in (ip.Histogram(), ip.KNN()):
                with pytest.raises(TypeError, match=r"^x: .*got a DTensor. Pass x.full_tensor"):
                    ip.entropy(x, estimator)
            assert ip.entropy(x.full_tensor()) == ip.entropy(data())
        finally:
            torch.distributed.destroy_process_group()

    def test_an_array_that_raises(self):
        class Broken:
            def __array__(self, *_, **__):
                raise RuntimeError("not here")

        with pytest.raises(TypeError, match=r"^x: expected .*got Broken \(not here\)"):
            ip.entropy(Broken())

    def test_tensors_without_values(self):
        refused = pytest.raises(TypeError, match=r"x: expected a tensor with values, got one with")
        with FakeTensorMode():
            fake = torch.randn(20, 2)
            with refused:
                ip.entropy(fake, ip.KNN())
        with refused:
            ip.entropy(fake, ip.Gaussian())
        with refused:
            torch.func.vmap(lambda x: ip.entropy(x, ip.Histogram()))(data().view(3, 20, 2))
        with refused:
            make_fx(lambda x: ip.entropy(x, ip.MatrixRenyi()))(data())
        with pytest.raises(TypeError, match=r"x: .* waits for the first batch\. Run its module"):
            ip.entropy(nn.LazyLinear(3).weight, ip.Histogram())


def test_wrong_types_are_named():
    x, images = data(), torch.rand(20, 1, 4, 4)
    conv = nn.Conv2d(1, 1, 1)
    schedule = Schedule(1, 4)
    for call, message in {
        (lambda: ip.dequantize(x.byte(), generator=3)): "generator: expected a torch.Generator",
        (lambda: ip.confidence_interval(ip.entropy, x, generator=3)): "generator: expected",
        (lambda: ip.Flow(dropout="a")): "dropout: expected a number",
        (lambda: ip.Flow(dropout=float("nan"))): "dropout: expected",
        (lambda: ip.Flow(seconds=None)): "seconds: expected a number",
        (lambda: ip.Flow(learning_rate=float("inf"))): "learning_rate: expected a finite",
        (lambda: ip.Critic(validation=5e-324)): "validation: expected a finite number >= 1e-12",
        (lambda: ip.Critic(clip=10**400)): "clip: expected a finite number",
        (lambda: ip.Histogram(range=(0, 10**400))): "range: expected",
        (lambda: ip.models.fit(conv, images, schedule, loss=3)): "loss: expected a function",
        (lambda: ip.models.fit(conv, images, schedule, loss=0)): "loss: expected a function",
        (lambda: ip.models.fit(3, images, schedule)): "model: expected a torch.nn.Module",
        (lambda: Schedule(1, betas=("a", 2))): "betas: expected a number",
        (lambda: Schedule(1, betas=(0.9, 1.0))): "betas: expected a finite number",
        (lambda: Schedule(1, betas=(0.9,))): "betas: expected two numbers",
        (lambda: Schedule(1, milestones=("a",))): "milestones: expected an integer",
        (lambda: ip.datasets.ImageFiles(3)): "paths: expected the path of a file, got 3",
        (lambda: ip.datasets.ImageFiles([3])): "paths: expected the path of a file",
        (lambda: ip.datasets.load("mnist", root=3)): "root: expected the path",
    }.items():
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            call()


def test_fields_keep_what_they_were():
    paper = ip.Histogram(bins=1000, range="own", pseudocount=1)
    assert repr(paper).startswith(
        "Histogram(bins=1000, range='own', over='values', pseudocount=1,"
    )
    assert dataclasses.replace(paper, bins=np.int16(1000)) == paper
