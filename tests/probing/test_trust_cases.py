"""Cases with known truth: the number of a row is right within its error, or a finding says not."""

import math
from typing import ClassVar

import FrEIA.modules as Fm
import pytest
import torch
from torch import nn
from torch.distributions import transforms as T

import infoprobe as ip
from infoprobe.findings import code_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def seeded(model, seed=0):
    """The model with weights from a generator of its own."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(
                normal(*p.shape, seed=seed + i) / math.sqrt(p[0].numel() if p.dim() > 1 else 4)
            )
    return model


class Map(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def rows_of(model, x, measure, target=None, epochs=1, batch=100):
    model.eval()
    with ip.probe(model, measures=measure) as probe, torch.no_grad():
        for _ in range(epochs):
            for i in range(0, len(x), batch):
                if target is not None:
                    probe.target(target[i : i + batch])
                model(x[i : i + batch])
    return probe.report().rows


def is_right(row, truth):
    error = 1.96 * (row["stderr"] or 0) + 0.03
    return row["value"] is not None and abs(row["value"] - truth) <= error


def codes(row):
    return {code_of(found) for found in row["findings"]} - {""}


def assert_right_or_told(row, truth, code=None):
    assert row["value"] is not None or row["findings"]
    if not is_right(row, truth):
        assert row["findings"], f"silent: {row['value']} for {truth}"
        assert code is None or code in codes(row)


class TestDivergenceOfALayer:
    """The samples before and after a layer are pairs; the truth is KL(N(0, 1) || N(m, s))."""

    @pytest.mark.parametrize(
        ("scale", "shift", "d"),
        [
            (1.001, 0.0, 3),
            (1.0, 0.05, 3),
            (1.1, 0.0, 3),
            (0.8, 0.3, 2),
            (1.0, 0.0, 5),
            (1.5, 0.0, 10),
        ],
    )
    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.KNN(calibration="gaussian")], ids=str)
    def test_neighbours(self, scale, shift, d, estimator):
        truth = d * (math.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5)
        layer = Map(lambda x: scale * x + shift)
        (row,) = rows_of(layer, normal(800, d), ip.Divergence(estimator))
        assert_right_or_told(row, truth)
        if d <= 3:
            assert is_right(row, truth)

    def test_integers_have_no_divergence_from_activations(self):
        model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 4))
        tokens = torch.randint(0, 50, (200, 6), generator=generator())
        for row in rows_of(model, tokens, ip.Divergence(reference="input")):
            assert row["value"] is None
            assert "holds integers" in row["findings"][0]


class TestInformationOfDeterministicLayers:
    """I(input; output) is infinite, whatever an estimator shows."""

    MODELS: ClassVar = {
        "MLP": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)),
        "wide": lambda: nn.Sequential(nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 2)),
        "convolution": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten()
        ),
        "dropout that is off": lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(), nn.Tanh()),
    }

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("reference", ["input", "previous"])
    def test_it_is_told(self, name, reference):
        width = {"wide": 100, "convolution": 36}.get(name, 6)
        measure = ip.MutualInformation(reference=reference)
        for row in rows_of(seeded(self.MODELS[name]()), normal(300, width), measure):
            assert "deterministic" in codes(row)

    def test_information_in_many_dimensions(self):
        # 40 + 40 dimensions, each with a correlation of 0.6.
        layer = Map(lambda x: 0.6 * x + 0.8 * torch.randn(x.shape, generator=noise))
        truth = -40 * math.log(1 - 0.36) / 2
        for estimator in (ip.KNN(), ip.Gaussian()):
            noise = generator(1)
            (row,) = rows_of(layer, normal(500, 40), ip.MutualInformation(estimator))
            assert_right_or_told(row, truth)

    def test_a_gaussian_fit_of_few_different_symbols(self):
        model = nn.Sequential(nn.Embedding(200, 64), Map(lambda x: x[:, -1]))
        tokens = torch.randint(0, 200, (400, 5), generator=generator())
        measure = ip.MutualInformation(ip.Gaussian(), "target")
        *_, row = rows_of(
            seeded(model), tokens, measure, target=nn.functional.one_hot(tokens[:, -1]).float() + 0
        )
        assert_right_or_told(row, math.log(200))


class TestTargets:
    """Labels that arrive sorted, constant or twice."""

    def data(self, n=400, classes=4):
        labels = torch.arange(classes).repeat_interleave(n // classes)
        return labels.float()[:, None] * 3 + normal(n, 2), labels

    def test_one_class_in_each_window(self):
        x, labels = self.data()
        model = nn.Sequential(nn.Identity(), nn.Tanh())
        measure = ip.MutualInformation(reference="target")
        with ip.probe(model, measures=measure).track(every=1) as probe:
            for some, y in zip(x.split(100), labels.split(100), strict=True):
                probe.target(y)
                model(some)
        assert all("constant-target" in codes(row) for row in probe.report().rows)

    @pytest.mark.parametrize("passes", [2, 4])
    def test_several_classes_in_a_window_are_information_about_these(self, passes):
        x, labels = self.data()
        measure = ip.MutualInformation(reference="target")
        model = nn.Identity()
        with ip.probe(model, measures=measure).track(every=passes, passes=passes) as probe:
            for some, y in zip(x.split(100), labels.split(100), strict=True):
                probe.target(y)
                model(some)
        for row in probe.report().rows:
            assert 0.5 * math.log(passes) < row["value"] <= math.log(passes) + 0.05
            assert "sorted-target" in codes(row)

    def test_a_whole_data_set_may_come_sorted(self):
        x, labels = self.data()
        measure = ip.MutualInformation(reference="target")
        (row,) = rows_of(nn.Identity(), x, measure, target=labels)
        assert row["value"] > 1
        assert not codes(row)

    def test_shuffled_classes_are_not_told(self):
        x, labels = self.data()
        order = torch.randperm(len(x), generator=generator())
        measure = ip.MutualInformation(reference="target")
        (row,) = rows_of(nn.Identity(), x[order], measure, target=labels[order])
        assert not codes(row)

    def test_two_epochs_are_one(self):
        x, labels = self.data()
        order = torch.randperm(len(x), generator=generator())
        measure = ip.MutualInformation(reference="target")
        one, two = (
            rows_of(nn.Identity(), x[order], measure, target=labels[order], epochs=epochs)[0]
            for epochs in (1, 2)
        )
        assert two["value"] == pytest.approx(one["value"], abs=1e-9)
        assert "seen-twice" in codes(two)

    @pytest.mark.parametrize("factor", [1.0, 1e3, 1e-6])
    def test_a_bijection_changes_nothing(self, factor):
        x, labels = self.data(classes=2)
        model = nn.Sequential(nn.Identity(), Map(lambda z: z * torch.tensor([factor, 1.0])))
        measure = ip.MutualInformation(reference="target")
        before, after = rows_of(model, x, measure, target=labels, batch=400)
        assert after["value"] == pytest.approx(before["value"], abs=0.02)


def test_constant_pixels_do_not_prevent_information():
    x, labels = ip.datasets.load("digits")
    x = x.flatten(1).float()
    assert bool((x == x[:1]).all(0).any())
    measure = ip.MutualInformation(reference="target")
    (row,) = rows_of(nn.Identity(), x[:600], measure, target=labels[:600], batch=600)
    assert 1 < row["value"] <= math.log(10) + 0.1
    assert "constant-units" in codes(row)


class TestBins:
    """Of counts, too, it is told what they cannot show."""

    def test_an_outlier_squeezes_a_divergence(self):
        x = torch.cat([normal(4000, 1), torch.tensor([[1e6]])])
        (row,) = rows_of(Map(lambda x: 1.5 * x), x, ip.Divergence())
        assert "squeezed-bins" in codes(row)

    def test_bins_that_are_too_wide_for_one_of_two(self):
        (row,) = rows_of(Map(lambda x: 1000 * x), normal(4000, 1), ip.Divergence())
        assert "bins-decide" in codes(row)

    def test_others_are_not_told(self):
        for seed in range(10):
            x = normal(4000, 4, seed=seed)
            (row,) = rows_of(Map(lambda x: 1.5 * x), x, ip.Divergence(), batch=500)
            assert not codes(row)

    @pytest.mark.parametrize("n", [20, 300])
    def test_epochs_show_in_counts(self, n):
        x = normal(n, 1)
        order = torch.cat([torch.randperm(n, generator=generator(i)) for i in range(4)])
        for measure in (ip.Entropy(), ip.Divergence()):
            (row,) = rows_of(nn.Identity(), x[order], measure)
            assert "seen-twice" in codes(row)
            (row,) = rows_of(nn.Identity(), x, measure)
            assert "seen-twice" not in codes(row)

    def test_upsampling_is_no_epoch(self):
        model = Map(lambda x: x.repeat_interleave(4, 1))
        (row,) = rows_of(model, normal(300, 2), ip.Entropy())
        assert "seen-twice" not in codes(row)

    def test_values_alone_in_their_bins(self):
        (row,) = rows_of(nn.Identity(), normal(20, 1), ip.Entropy())
        assert "too-few-values" in codes(row)


class TestTotalCorrelation:
    def test_a_feature_that_comes_twice(self):
        model = Map(lambda x: torch.cat([x, x], 1))
        (row,) = rows_of(model, normal(400, 1), ip.TotalCorrelation(ip.KNN()))
        assert "redundant-features" in codes(row)

    @pytest.mark.parametrize("estimator", [ip.Gaussian(), ip.KNN(), ip.Gaussianization()], ids=str)
    def test_units_on_a_sphere(self, estimator):
        (row,) = rows_of(nn.RMSNorm(12), normal(400, 12), ip.TotalCorrelation(estimator))
        assert "thin-data" in codes(row)


class TestTexts:
    @pytest.mark.parametrize("samples", [4096, 500])
    def test_tokens_that_are_alike(self, samples):
        tokens = normal(100, 1, 2) + 0.1 * normal(100, 20, 2, seed=1)
        labels = torch.randint(0, 2, (100,), generator=generator())
        measure = ip.MutualInformation(reference="target", select="tokens", samples=samples)
        (row,) = rows_of(nn.Identity(), tokens, measure, target=labels, batch=10)
        assert "dependent-samples" in codes(row)
        independent = normal(100, 20, 2, seed=1)
        (row,) = rows_of(nn.Identity(), independent, measure, target=labels, batch=10)
        assert "dependent-samples" not in codes(row)


class TestLedger:
    """The sum of exact changes is h(output) - h(input), and so is that of the estimates."""

    CHAINS: ClassVar = {
        "affine": [T.AffineTransform(0.0, 5.0), T.TanhTransform(), T.AffineTransform(0.0, 3.0)],
        "exp": [T.AffineTransform(1.0, 0.5), T.ExpTransform()],
        "sigmoid": [
            T.SigmoidTransform(),
            T.AffineTransform(0.0, 2.0),
            T.AffineTransform(0.0, 0.1),
        ],
    }

    @pytest.mark.parametrize("name", CHAINS)
    def test_chains(self, name):
        x, measures = 0.1 * normal(4000, 2), [ip.EntropyChange(), ip.Entropy(ip.KNN())]
        chain = T.ComposeTransform(self.CHAINS[name])
        with ip.probe(chain, measures=measures) as probe:
            chain(x)
        total = probe.report().ledger().totals["forward"]
        (estimate,) = total["estimates"].values()
        assert estimate == pytest.approx(total["exact"], abs=0.15)

    @pytest.mark.parametrize("chosen", [["0", "2"], ["1"], ["2"]])
    def test_chosen_layers_are_charged_with_their_own_changes(self, chosen):
        x, measures = normal(4000, 2), [ip.EntropyChange(), ip.Entropy(ip.KNN())]
        chain = T.ComposeTransform([T.AffineTransform(0.0, float(c)) for c in (2, 10, 3)])
        with ip.probe(chain, chosen, measures) as probe:
            chain(x)
        for row in probe.report().ledger().rows:
            (estimate,) = row["estimates"].values()
            assert row["exact"] == pytest.approx(2 * math.log([2, 10, 3][int(row["layer"])]))
            assert estimate == pytest.approx(row["exact"], abs=0.15)

    @pytest.mark.parametrize("library", ["nflows", "FrEIA", "zuko"])
    def test_conditional_maps_are_named(self, library):
        pytest.importorskip(library)
        x, c = normal(500, 2), normal(500, 1, seed=1)
        run = getattr(self, f"_{library.lower()}")()
        model, call = run
        with ip.probe(model, measures=[ip.EntropyChange(), ip.Entropy(ip.KNN())]) as probe:
            call(x, c)
        ledger = probe.report().ledger()
        conditional = [row for row in ledger.rows if row["conditional"]]
        assert conditional
        assert all(each is None for row in conditional for each in row["estimates"].values())
        told = [codes(row) for row in probe.report().rows if row["measure"] == "entropy_change"]
        assert any("conditional-map" in found for found in told)

    def _nflows(self):
        from nflows.transforms import MaskedAffineAutoregressiveTransform

        flow = MaskedAffineAutoregressiveTransform(2, 8, context_features=1)
        return flow, lambda x, c: flow(x, c)

    def _freia(self):
        def subnet(a, b):
            return nn.Linear(a, b)

        block = Fm.GLOWCouplingBlock([(2,)], dims_c=[(1,)], subnet_constructor=subnet)
        return block, lambda x, c: block([x], c=[c])

    def _zuko(self):
        import zuko

        flow = zuko.flows.MAF(2, context=1, transforms=1)
        return flow, lambda x, c: flow(c).log_prob(x)
