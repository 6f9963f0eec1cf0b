"""Nothing of a probe is left on a model, whatever happens, nor in its copies."""

import contextlib
import copy
import gc
import io
import pickle
import threading
import warnings
import weakref

import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn

import infoprobe as ip
from tests.probing.guest.helpers import Affine, entropy, equal, network, quiet, snapshot
from tests.probing.helpers import MEASURES, H, passes


class TestWhatIsLeft:
    """Nothing, whatever happens."""

    def models(self):
        net = [ff.InputNode(6, name="in")]
        net += [
            ff.Node(
                net[-1], fm.RNVPCouplingBlock, {"subnet_constructor": nn.Linear}, name="coupling"
            )
        ]
        lazy = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).eval()
        lazy[1].train()
        return [
            network(),
            nn.Sequential(ff.GraphINN([*net, ff.OutputNode(net[-1])])),
            nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
            Affine(),
            nn.Sequential(lazy, nn.DataParallel(nn.Linear(4, 4))),
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(6, 2, 8), 2, enable_nested_tensor=False
            ),
        ]

    def test_after_removal(self):
        for model in self.models():
            model(torch.randn(8, 6))
            before, keys = snapshot(model), model.state_dict().keys()
            probe = ip.probe(model)
            assert not equal(snapshot(model), before)
            assert model.state_dict().keys() == keys
            model(torch.randn(8, 6))
            probe.remove()
            assert equal(snapshot(model), before)
            probe.remove()
            assert equal(snapshot(model), before)
            # Of train() and eval(), too.
            assert quiet()

    def test_global_hooks_are_never_used(self):
        model = network()
        before = snapshot(model)[1]
        with ip.probe(model):
            assert snapshot(model)[1] == before

    @pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, SystemExit])
    def test_after_an_error_in_the_body(self, error):
        model = network()
        before = snapshot(model)
        with contextlib.suppress(error), ip.probe(model) as probe:
            model(torch.randn(8, 6))
            raise error
        assert equal(snapshot(model), before)
        assert {row["n"] for row in probe.report().rows} == {8}

    @pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("where", ["forward", "pre-hook", "hook"])
    @pytest.mark.parametrize("early", [False, True])
    def test_after_an_error_in_the_model(self, error, where, early):
        class Inner(nn.Module):
            def __init__(self):
                super().__init__()
                self.leaf = nn.Tanh()

            def forward(self, x):
                x = ip.tap(self.leaf(x), "point")
                if failing and where == "forward":
                    raise error
                return x

        def fail(*args):
            if failing and len(args) == (2 if where == "pre-hook" else 3):
                raise error

        failing = True
        model, x = nn.Sequential(nn.Linear(6, 6), Inner(), nn.Sigmoid()), torch.randn(8, 6)
        register = {
            "pre-hook": model[1].leaf.register_forward_pre_hook,
            "hook": model[1].leaf.register_forward_hook,
        }.get(where, lambda hook: None)
        if early:
            register(fail)
            before = snapshot(model)
        probe = ip.probe(model, measures=MEASURES)
        if not early:
            register(fail)
        for _ in range(3):
            with pytest.raises(error):
                model(x)
        failing = False
        y = model(x)
        ip.tap(x, "outside")
        probe.remove()
        if early:
            assert equal(snapshot(model), before)
        report = probe.report()
        assert entropy(report, "2") == H.entropy(y).item()
        assert {row["call"] for row in report.rows} == {0}
        counted = {row["layer"]: row["n"] for row in report.rows}
        assert (counted["0"], counted["2"]) == (32, 8)
        assert set(counted) == {"0", "1.leaf", "1.point", "2"}
        assert passes(probe) == 4

    def test_an_interrupt_and_then_nothing_more(self):
        def interrupt(*args):
            raise KeyboardInterrupt

        model, x = network(), torch.randn(8, 6)
        handle = model[2].layer.register_forward_pre_hook(interrupt)
        before = snapshot(model)
        probe = ip.probe(model)
        with pytest.raises(KeyboardInterrupt):
            model(x)
        ip.tap(x, "outside")  # belongs to no pass
        probe.remove()
        assert equal(snapshot(model), before)
        handle.remove()
        model(x)
        with pytest.warns(UserWarning, match="gave no output"):
            assert {row["layer"] for row in probe.report().rows} == {"0", "1"}

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_an_interrupt_in_another_thread(self):
        class Interrupted(nn.Module):
            def forward(self, x):
                if threading.current_thread() is not threading.main_thread():
                    raise KeyboardInterrupt
                return x

        def call():
            with contextlib.suppress(KeyboardInterrupt):
                model(x)

        model, x = nn.Sequential(nn.Tanh(), Interrupted(), nn.Sigmoid()), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            for _ in range(3):
                thread = threading.Thread(target=call)
                thread.start()
                thread.join()
                model(x)
        counted = {row["layer"]: (row["n"], row["call"]) for row in probe.report().rows}
        assert counted == {"0": (48, 0), "1": (24, 0), "2": (24, 0)}

    def test_an_error_while_attaching(self):
        model = network()
        before = snapshot(model)
        for arguments in (
            {"layers": "nothing"},
            {"measures": 3},
            {"values_per_batch": 0},
            {"layers": lambda name, module: 1 / 0},
        ):
            with pytest.raises((TypeError, ValueError, ZeroDivisionError)):
                ip.probe(model, **arguments)
            assert equal(snapshot(model), before)

    def test_warnings_that_are_errors(self):
        # As somebody chose; the model must work again afterwards.
        model, x = nn.Sequential(nn.Tanh(), nn.Sigmoid()), torch.randn(8, 6)
        before = snapshot(model)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with ip.probe(model, measures=MEASURES) as probe:
                model(x * float("nan"))  # the report says it
                model(x)
        assert equal(snapshot(model), before)
        assert entropy(probe.report(), "1") == H.entropy(model(x)).item()
        assert all("left out" in row["findings"][-1] for row in probe.report().rows)

    def test_an_estimator_that_fails_in_a_window(self):
        class Fails:
            def entropy(self, x):
                raise torch.linalg.LinAlgError("singular")

        model, x = nn.Tanh(), torch.randn(8, 6)
        before = snapshot(model)
        with ip.probe(model, measures=[ip.Entropy(Fails()), MEASURES[0]]).track(1) as probe:
            for _ in range(2):
                assert torch.equal(model(x), x.tanh())
        assert equal(snapshot(model), before)
        rows = probe.report().rows
        assert [row["step"] for row in rows] == [0, 0, 1, 1]
        assert [row["value"] for row in rows] == [None, H.entropy(x.tanh()).item()] * 2
        assert "singular" in rows[0]["findings"][0]

    def test_flags_may_change_while_probed(self):
        model = network()
        with ip.probe(model):
            model.eval()
            assert not any(m.training for m in model.modules())
            model[3].train()
        assert [m.training for m in model].count(True) == 1

    def test_the_probe_holds_the_model_and_the_model_the_probe_no_longer(self):
        model = network()
        probe = ip.probe(model)
        model(torch.randn(8, 6))
        probe.remove()
        ref = weakref.ref(probe)
        del probe
        gc.collect()
        assert ref() is None

    def test_a_probe_that_was_dropped_takes_its_hooks_along(self):
        model = network()
        before = snapshot(model)
        for _ in range(5):
            probe = ip.probe(model)
        del probe
        gc.collect()
        assert equal(snapshot(model), before)

    def test_it_does_not_keep_a_model_that_was_dropped(self):
        model = network()
        with ip.probe(model) as probe:
            model(torch.randn(8, 6))
        ref = weakref.ref(model)
        del model
        gc.collect()
        assert ref() is None
        with pytest.raises(RuntimeError, match="the model is no longer there"), probe:
            pass


class TestCopies:
    @pytest.mark.parametrize(
        "duplicate",
        [
            copy.deepcopy,
            lambda model: pickle.loads(pickle.dumps(model)),
            lambda model: torch.load(_saved(model), weights_only=False),
        ],
    )
    def test_copies_of_a_probed_model(self, duplicate):
        model, x = network().eval(), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            twin = duplicate(model)
            assert torch.equal(twin(x), model(x))
            with ip.probe(twin, measures=MEASURES) as second:
                twin(x)
        assert torch.equal(twin(x), model(x))
        assert {row["n"] for row in probe.report().rows} == {8}
        assert probe.report().rows == second.report().rows

    def test_copies_of_a_model_with_an_inverse(self):
        model, z = Affine(), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
            for twin in [*twins, model]:
                x, _ = twin.inverse(z)
        assert {row["n"] for row in probe.report().rows if row["value"] is not None} == {8}
        for twin in twins:
            assert twin(x)[0].allclose(z, atol=1e-4)
            assert torch.equal(twin.inverse(z)[0], x)
            twin.layer.bias.data += 1
            assert not torch.equal(twin.inverse(z)[0], x)
        assert torch.equal(model.inverse(z)[0], x)

    def test_weights_saved_while_probed(self):
        model = network()
        with ip.probe(model):
            buffer = _saved(model.state_dict())
        other = network()
        other.load_state_dict(torch.load(buffer))
        assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
        with ip.probe(model):
            model.load_state_dict(other.state_dict())

    def test_averaged_models(self):
        model, x = network().eval(), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            averaged = torch.optim.swa_utils.AveragedModel(model)
            averaged.update_parameters(model)
            assert torch.equal(averaged(x), model(x))
        assert {row["n"] for row in probe.report().rows} == {8}


def _saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer
