"""The exact change of entropy in a probe, and the ledger of a report."""

import math

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import pytest
import torch
from torch import nn
from torch.distributions import transforms

import infoprobe as ip
from infoprobe.findings import code_of
from infoprobe.models import InvertibleAutoencoder, mnist_inn
from infoprobe.probing.kept.moments import Moments


def perturbed(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return module


def changes(report, direction="forward"):
    return {
        row["layer"]: row
        for row in report.rows
        if (row["measure"], row["direction"]) == ("entropy_change", direction)
    }


@pytest.fixture(scope="module")
def inn():
    return perturbed(mnist_inn())


@pytest.fixture(scope="module")
def images():
    return torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(1))


class TestEntropyChange:
    @pytest.mark.parametrize("jac", [True, False])
    def test_nodes_of_a_graph_whether_or_not_it_was_asked(self, inn, images, jac):
        with torch.no_grad():
            plain = inn(images, jac=jac)
            with ip.probe(inn, measures=ip.EntropyChange()) as probe:
                parts = [inn(x, jac=jac) for x in images.split(7)]
            _, log_det = inn(images)
        for i in (0, 1):  # what the user gets is what it was
            assert torch.allclose(torch.cat([part[i] for part in parts]), plain[i], atol=1e-4)
        assert plain[1].any() == jac
        found = changes(probe.report())
        total = sum(row["value"] for row in found.values())
        assert total == pytest.approx(log_det.double().mean().item(), abs=1e-4)
        assert {row["n"] for row in found.values()} == {24}
        assert {row["kind"] for row in found.values()} == {"exact"}
        assert found["haar_down"]["value"] == pytest.approx(0, abs=1e-9)
        assert found["input"]["value"] == found["output"]["value"] == 0

    def test_outputs_and_gradients_are_bit_for_bit_the_same(self, inn, images):
        results = []
        for measures in ([], [ip.EntropyChange()]):
            with ip.probe(model := InvertibleAutoencoder(inn, 20), measures=measures):
                model.zero_grad()
                y = model(images[:4])
                y.square().mean().backward()
            gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            results.append([y.detach(), *gradients])
        assert all(map(torch.equal, *results))

    def test_mean_and_standard_error(self, inn, images):
        conv1 = inn.module_list[1]
        with torch.no_grad():
            (x,), _ = inn.module_list[0]((images,))
            _, log_det = conv1((x,))
            with ip.probe(inn, "conv1", ip.EntropyChange()) as probe:
                inn(images)
        row = changes(probe.report())["conv1"]
        expected = log_det.double()
        assert row["value"] == pytest.approx(expected.mean().item(), rel=1e-5)
        assert row["stderr"] == pytest.approx(expected.std().item() / math.sqrt(24), rel=1e-3)
        direct = ip.entropy_change(conv1, x)
        assert row["value"] == pytest.approx(float(direct.value), rel=1e-5)

    def test_both_ways_cancel(self, inn, images):
        with torch.no_grad(), ip.probe(inn, measures=ip.EntropyChange()) as probe:
            inn(inn(images)[0], rev=True)
        there, back = (changes(probe.report(), way) for way in ("forward", "inverse"))
        for name, row in there.items():
            assert row["value"] == pytest.approx(-back[name]["value"], abs=1e-3)

    def test_a_step_that_is_not_invertible(self, inn, images):
        model = InvertibleAutoencoder(inn, 20)
        with torch.no_grad(), ip.probe(model, measures=ip.EntropyChange()) as probe:
            model(images[:3])
        report = probe.report()
        row = changes(report)["bottleneck"]
        assert row["value"] is None
        assert "it is not invertible" in row["findings"][0]
        assert changes(report, "inverse")["conv1"]["value"] is not None

    def test_plain_modules(self):
        with ip.probe(model := nn.Linear(3, 3), measures=ip.EntropyChange()) as probe:
            model(torch.randn(5, 3))
        (row,) = probe.report().rows
        assert row["value"] is None
        assert "it is not invertible" in row["findings"][0]

    def test_a_module_alone_that_was_not_asked(self):
        model = Fm.GLOWCouplingBlock([(4,)], subnet_constructor=nn.Linear)
        with ip.probe(model, measures=ip.EntropyChange()) as probe:
            model((torch.randn(5, 4),), jac=False)
        (row,) = probe.report().rows
        assert row["value"] is None
        assert "jac=False" in row["findings"][0]

    def test_known_wrong_modules_are_named(self):
        graph = Ff.SequenceINN(4)
        graph.append(Fm.LearnedElementwiseScaling)
        with ip.probe(graph, measures=ip.EntropyChange()) as probe:
            z, _ = graph(torch.randn(5, 4))
            graph(z, rev=True)
        report = probe.report()
        assert changes(report)["module_list.0"]["value"] == pytest.approx(0)
        row = changes(report, "inverse")["module_list.0"]
        assert row["value"] is None
        assert "LearnedElementwiseScaling reports the wrong sign" in row["findings"][0]

    def test_transforms(self):
        t = transforms.ComposeTransform(
            [transforms.AffineTransform(0.0, 2.0), transforms.SigmoidTransform()]
        )
        x = torch.randn(50, 3, dtype=torch.float64)
        with ip.probe(t, measures=ip.EntropyChange()) as probe:
            y = t(x)
            t.inv(y.clone())
        there, back = (changes(probe.report(), way) for way in ("forward", "inverse"))
        assert there["0"]["value"] == pytest.approx(3 * math.log(2))
        expected = transforms.SigmoidTransform().log_abs_det_jacobian(2 * x, y).sum(1)
        assert there["1"]["value"] == pytest.approx(expected.mean().item())
        assert back["1"]["value"] == pytest.approx(-expected.mean().item())

    def test_flows_of_normflows(self):
        normflows = pytest.importorskip("normflows")
        flows = [
            normflows.flows.AffineCouplingBlock(normflows.nets.MLP([1, 8, 2], init_zeros=False)),
            normflows.flows.Permute(2, mode="swap"),
        ]
        flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(2), flows)
        x = torch.randn(30, 2)
        with ip.probe(flow, measures=ip.EntropyChange()) as probe, torch.no_grad():
            flow.log_prob(x)
            _, log_det = flow.inverse_and_log_det(x)
        found = changes(probe.report(), "inverse")
        total = sum(row["value"] for row in found.values())
        assert total == pytest.approx(log_det.double().mean().item(), abs=1e-5)

    def test_singular_jacobians_are_a_fact(self):
        class Scales(nn.Module):
            def forward(self, x):
                return x, torch.where(x[:, 0] > 0, 0.5, -math.inf)

            def inverse(self, z):
                return z, -torch.ones(len(z))

        with ip.probe(model := Scales(), measures=ip.EntropyChange()) as probe:
            model(torch.tensor([[1.0], [-1.0], [2.0], [3.0]]))
        (row,) = probe.report().rows
        assert row["value"] == -math.inf
        assert "singular for 25.000% of 4 samples" in row["findings"][0]

    def test_merging_and_saving(self, inn, images):
        probes = []
        with torch.no_grad():
            for part in images.split(12):
                with ip.probe(inn, measures=ip.EntropyChange()) as probe:
                    inn(part)
                probes.append(probe)
            with ip.probe(inn, measures=ip.EntropyChange()) as whole:
                whole.load_state_dict(probes[0].state_dict())
                inn(images[12:])
        probes[0].merge(probes[1])
        merged, resumed = (changes(p.report()) for p in (probes[0], whole))
        for name, row in merged.items():
            assert row["value"] == pytest.approx(resumed[name]["value"], abs=1e-9)
            assert row["n"] == resumed[name]["n"] == 24


class TestMoments:
    def test_sums_equal_the_whole(self):
        x = torch.randn(100, dtype=torch.float64) + 1e6
        parts = sum(map(Moments.of, x.split(7)), Moments())
        assert parts.n == 100
        assert parts.mean == pytest.approx(x.mean().item(), rel=1e-12)
        assert parts.stderr == pytest.approx(x.std().item() / 10, rel=1e-9)
        assert math.isnan(Moments.of(x[:1]).stderr)

    def test_what_is_not_a_number(self):
        with pytest.raises(ValueError, match="got 1 of 3 that are NaN or infinite"):
            Moments.of(torch.tensor([1.0, math.nan, -math.inf]))


class TestLedger:
    def test_exact_beside_estimates(self, inn, images):
        estimator = ip.Gaussian(shrinkage="ledoit-wolf")
        measures = [ip.EntropyChange(), ip.Entropy(estimator)]
        with torch.no_grad(), ip.probe(inn, measures=measures) as probe:
            inn(images)
        report = probe.report()
        ledger = report.ledger()
        found = changes(report)
        assert [row["layer"] for row in ledger.rows] == list(found)
        total = ledger.totals["forward"]
        assert total["exact"] == pytest.approx(sum(row["value"] for row in found.values()))
        assert total["stderr"] == pytest.approx(sum(row["stderr"] for row in found.values()))
        values = {row["layer"]: row["value"] for row in report.rows if row["reference"] is None}
        by_name = {row["layer"]: row["estimates"][repr(estimator)] for row in ledger.rows}
        entropies = {
            row["layer"]: row["value"] for row in report.rows if row["measure"] == "entropy"
        }
        assert by_name["conv1"] == entropies["conv1"] - entropies["haar_down"]
        assert total["estimates"][repr(estimator)] == pytest.approx(
            entropies["output"] - entropies["input"]
        )
        assert set(values) == set(entropies)
        text = repr(ledger)
        assert "total" in text
        assert f"{total['exact']:.4f}" in text

    def test_a_missing_estimate(self, inn, images):
        estimator = ip.Entropy(ip.Gaussian())
        with torch.no_grad(), ip.probe(inn, measures=[ip.EntropyChange(), estimator]) as probe:
            inn(images)
        report = probe.report()
        key = repr(estimator.estimator)
        found = [row for row in report.rows if "entropy" in row["measure"].split("_")[-1]]
        for i, row in enumerate(found):
            row["value"] = None if row["layer"] == "conv2" else float(i)
        ledger = report.ledger()
        missing = [row["layer"] for row in ledger.rows if row["estimates"][key] is None]
        assert missing == ["conv2", "conv3"]
        assert ledger.totals["forward"]["estimates"][key] is None
        *_, total, _ = repr(ledger).splitlines()
        assert total.split()[-1] == "–"

    def test_a_report_without_any(self):
        with ip.probe(model := nn.ReLU()) as probe:
            model(torch.randn(3, 3))
        with pytest.raises(ValueError, match=r"expected rows of ip.EntropyChange\(\)"):
            probe.report().ledger()


KEY = repr(ip.KNN())
MEASURES = [ip.EntropyChange(), ip.Entropy(ip.KNN())]


def chain():
    return transforms.ComposeTransform(
        [
            transforms.AffineTransform(0.0, 5.0),
            transforms.TanhTransform(),
            transforms.AffineTransform(0.0, 3.0),
        ]
    )


def ledger_of(model, x, layers=None, **given):
    with ip.probe(model, layers, MEASURES) as probe, torch.no_grad():
        model(x, **given)
    return probe.report().ledger()


class TestEstimates:
    """Each is the entropy of a layer's output minus that of its own input."""

    x = 0.1 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))

    def entropy(self, x):
        return float(ip.KNN().entropy(x))

    def test_the_first_layer_of_a_flow(self):
        ledger = ledger_of(t := chain(), self.x)
        (total,) = ledger.totals.values()
        change = self.entropy(t(self.x)) - self.entropy(self.x)
        assert total["estimates"] == {KEY: pytest.approx(change, abs=1e-4)}
        assert total["estimates"][KEY] == pytest.approx(total["exact"], abs=0.05)
        assert ledger.rows[0]["estimates"][KEY] == pytest.approx(3 * math.log(5), abs=1e-4)

    def test_layers_that_were_not_chosen_are_charged_to_nobody(self):
        ledger = ledger_of(chain(), self.x, ["0", "2"])
        estimates = [row["estimates"][KEY] for row in ledger.rows]
        assert estimates == pytest.approx([3 * math.log(5), 3 * math.log(3)], abs=1e-4)

    def test_only_one_row_for_an_entropy(self):
        with ip.probe(t := chain(), measures=MEASURES) as probe:
            t(self.x)
        rows = [row for row in probe.report().rows if row["measure"] == "input_entropy"]
        assert [row["layer"] for row in rows] == ["0"]
        assert rows[0]["value"] == pytest.approx(self.entropy(self.x), abs=1e-6)
        with ip.probe(t, measures=MEASURES) as probe, torch.inference_mode():
            t(self.x)  # whether a tensor has changed cannot be known
        assert probe.report().ledger().totals["forward"]["estimates"][KEY] is not None

    def test_saved_and_merged(self):
        probes = []
        for x in self.x.split(1000):
            with ip.probe(t := chain(), measures=MEASURES) as probe:
                t(x)
            probes.append(probe)
        with ip.probe(t, measures=MEASURES) as resumed:
            resumed.load_state_dict(probes[0].state_dict())
        resumed.merge(probes[1])
        there = resumed.report().ledger().totals["forward"]["estimates"][KEY]
        whole = ledger_of(chain(), self.x).totals["forward"]["estimates"][KEY]
        assert there == pytest.approx(whole, abs=1e-4)

    def test_a_map_with_a_condition(self):
        graph = Ff.SequenceINN(2)
        graph.append(Conditional, cond=0, cond_shape=(1,))
        x = torch.randn(500, 2)
        c = torch.randint(2, (500, 1)).float()
        ledger = ledger_of(graph, x, c=[c])
        (row,) = [row for row in ledger.rows if row["layer"] == "module_list.0"]
        assert row["conditional"]
        assert row["exact"] == pytest.approx(float(4 * c.mean()), abs=1e-4)
        assert row["estimates"] == {KEY: None}
        assert "module_list.0 | c" in repr(ledger)
        assert ledger.totals["forward"]["estimates"] == {KEY: None}
        assert not any(row["conditional"] for row in ledger_of(chain(), self.x).rows)

    def test_flows_of_zuko_with_a_context(self):
        zuko = pytest.importorskip("zuko")
        flow, c = zuko.flows.NSF(3, 1, transforms=1), torch.randn(100, 1)
        with ip.probe(flow, measures=MEASURES) as probe, torch.no_grad():
            flow(c).log_prob(self.x[:100])
        ledger = probe.report().ledger()
        assert [row["conditional"] for row in ledger.rows] == [True]


class Conditional(Fm.InvertibleModule):
    """z = x e^(2c)."""

    def forward(self, x, c=None, rev=False, jac=True):
        factor = 2 * c[0] * (-1 if rev else 1)
        return (x[0] * factor.exp(),), 2 * factor.sum(1)

    def output_dims(self, dims):
        return dims


class TestDoubts:
    def value_and_findings(self, module, x):
        with ip.probe(module, measures=ip.EntropyChange()) as probe:
            module(x)
        (row,) = probe.report().rows
        return row["value"], row["findings"]

    @pytest.mark.filterwarnings("ignore:Using non-full backward hooks:FutureWarning")
    def test_a_matrix_that_is_not_orthogonal_for_now(self):
        module = Fm.OrthogonalTransform([(4,)])
        x = (torch.randn(20, 4),)
        value, findings = self.value_and_findings(module, x)
        assert value is not None
        assert findings == []
        with torch.no_grad():
            module.weights.mul_(0.9)
        value, (finding,) = self.value_and_findings(module, x)
        assert value is None
        assert "not orthogonal until the next correction (log|det| = -0.421)" in finding
        with pytest.warns(UserWarning, match="not orthogonal"):
            exact = ip.entropy_change(module, x[0])
        scaling = float(module._log_e(module.scaling.detach()).sum())
        assert float(exact.value) == pytest.approx(scaling + 4 * math.log(0.9), abs=1e-5)

    @pytest.mark.filterwarnings("ignore:Using non-full backward hooks:FutureWarning")
    def test_a_matrix_that_a_training_has_moved(self):
        """It is one layer of several, and told in both directions."""
        graph = Ff.SequenceINN(4)
        graph.append(Fm.OrthogonalTransform)
        graph.append(Fm.ActNorm)
        optimizer, x = torch.optim.Adam(graph.parameters(), 1e-2), torch.randn(50, 4)
        for _ in range(20):
            z, log_det = graph(x)
            (z.square().sum(1) / 2 - log_det).mean().backward()
            optimizer.step()
        with ip.probe(graph, measures=ip.EntropyChange()) as probe:
            z, _ = graph(x)
            graph(z, rev=True)
        rows = probe.report().select(layer="module_list.*").rows
        told = {(r["layer"], r["direction"]) for r in rows if r["value"] is None}
        assert told == {("module_list.0", "forward"), ("module_list.0", "inverse")}
        assert all("not orthogonal" in r["findings"][0] for r in rows if r["value"] is None)

    @pytest.mark.parametrize("method", ["forward_and_log_det", "inverse_and_log_det", "log_prob"])
    def test_random_log_determinants_within_a_flow(self, method):
        normflows = pytest.importorskip("normflows")
        net = normflows.nets.LipschitzMLP([3, 8, 3], init_zeros=False, lipschitz_const=0.9)
        parts = [normflows.flows.Residual(net), normflows.flows.AffineConstFlow((3,))]
        flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(3), parts)
        with ip.probe(flow, measures=ip.EntropyChange()) as probe:
            getattr(flow, method)(torch.randn(9, 3))
        told = {row["layer"]: len(row["findings"]) for row in probe.report().rows}
        assert told == {"flows.0": 1, "flows.1": 0}

    def test_random_log_determinants_of_normflows(self):
        normflows = pytest.importorskip("normflows")
        net = normflows.nets.LipschitzMLP([3, 8, 3], init_zeros=False, lipschitz_const=0.9)
        _, (finding,) = self.value_and_findings(normflows.flows.Residual(net), torch.randn(9, 3))
        assert finding == "a stochastic estimate (iResBlock), not exact."

    def test_random_log_determinants_of_zuko(self):
        zuko = pytest.importorskip("zuko")
        transform = zuko.transforms.FreeFormJacobianTransform(lambda t, x: -x, exact=False)
        _, (finding,) = self.value_and_findings(transform, torch.randn(9, 3))
        assert "stochastic estimate" in finding

    @pytest.mark.parametrize(
        ("transform", "width"),
        [(transforms.StickBreakingTransform(), 4), (transforms.CorrCholeskyTransform(), 6)],
        ids=repr,
    )
    def test_one_convention_for_surfaces(self, transform, width):
        x = torch.randn(50, width, dtype=torch.float64)
        value, (finding,) = self.value_and_findings(transform, x)
        assert value == pytest.approx(float(ip.entropy_change(transform, x).value), abs=1e-9)
        assert "with respect to its area" in finding
        assert code_of(finding) == "surface-area"
        if isinstance(transform, transforms.StickBreakingTransform):
            assert f"it is {math.log(5) / 2:.4g} nats less" in finding
            of_torch = transform.log_abs_det_jacobian(x, transform(x)).mean()
            assert value - float(of_torch) == pytest.approx(math.log(5) / 2)
        y = transform(x).clone()
        with ip.probe(transform, measures=ip.EntropyChange()) as probe:
            transform.inv(y)
        (row,) = probe.report().rows
        assert row["value"] == pytest.approx(-value, abs=1e-9)

    @pytest.mark.parametrize(
        ("transform", "width"),
        [(transforms.StickBreakingTransform(), 4), (transforms.CorrCholeskyTransform(), 6)],
        ids=repr,
    )
    def test_one_convention_to_a_surface_and_back(self, transform, width):
        there_and_back = transforms.ComposeTransform([transform, transform.inv])
        with ip.probe(there_and_back, measures=ip.EntropyChange()) as probe:
            there_and_back(torch.randn(50, width, dtype=torch.float64))
        there, *_, back = probe.report().rows
        assert back["layer"] == "1"
        assert back["value"] == pytest.approx(-there["value"], abs=1e-9)
        assert [code_of(f) for f in back["findings"]] == ["surface-area"]

    def test_a_convention_that_is_not_known(self):
        class Doubled(transforms.Transform):
            bijective = True

            def _call(self, x):
                return torch.cat([x, x], 1)

            def log_abs_det_jacobian(self, x, y):
                return x[:, 0] * 0

        _, (finding,) = self.value_and_findings(Doubled(), torch.randn(20, 3))
        assert "Doubled maps 3 numbers to 6" in finding


def test_a_ledger_is_a_frame_and_a_figure():
    transform = transforms.ComposeTransform(
        [transforms.AffineTransform(0.0, 3.0), transforms.SigmoidTransform()]
    )
    measures = [ip.EntropyChange(), ip.Entropy(ip.KNN()), ip.Entropy(ip.KNN(k=5))]
    with ip.probe(transform, measures=measures) as probe:
        transform(torch.randn(300, 2))
    ledger = probe.report().ledger()
    assert repr(ledger).splitlines()[0].split() == [
        *("layer", "direction", "exact", "stderr", "KNN(k=3)", "KNN(k=5)")
    ]
    frame = ledger.to_dataframe()
    assert list(frame["exact"]) == [row["exact"] for row in ledger.rows]
    assert list(frame["KNN(k=5)"]) == [row["estimates"][repr(ip.KNN(k=5))] for row in ledger.rows]
    ax = ledger.plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        *("exact", "KNN(k=3)", "KNN(k=5)")
    ]
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        row["layer"] for row in ledger.rows
    ]
