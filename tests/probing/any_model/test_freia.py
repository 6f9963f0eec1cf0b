"""Graphs and sequences of FrEIA."""

import copy

import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn

import infoprobe as ip
from tests.probing.helpers import MEASURES, Lambda, assert_measured, run


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
