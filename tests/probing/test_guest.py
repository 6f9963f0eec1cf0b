"""A probe is a guest: the model, its training and its process are as they were without one."""

import contextlib
import copy
import gc
import io
import itertools
import pickle
import random
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn
from torch.nn.modules import module as torch_module

import infoprobe as ip
from infoprobe.taps import calls, compiled

H = ip.Histogram(64, pseudocount=1)
MEASURES = [ip.Entropy(H), ip.Divergence(H, "previous"), ip.Divergence(H, "input")]
EVERYTHING = [
    *MEASURES,
    ip.MutualInformation(ip.KNN(), "target"),
    ip.MutualInformation(ip.KNN(), "input", project=2),
    ip.Entropy(ip.Gaussian(), samples=20),
]
GLOBAL_HOOKS = [name for name in vars(torch_module) if name.startswith("_global_")]


class Affine(nn.Module):
    """With an inverse that is called by its name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(x), x.new_zeros(len(x))

    def inverse(self, z):
        return (z - self.layer.bias) @ self.layer.weight.inverse().T, z.new_zeros(len(z))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.layer(x)
        y += x
        return ip.tap(self.act(y) * 1, "sum")


def network():
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), Residual(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


def snapshot(model):
    """All that a module has in itself, its hooks and flags above all, and torch's global hooks."""
    modules = [
        {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in module.__dict__.items()
        }
        for module in model.modules()
    ]
    return modules, {name: copy.copy(getattr(torch_module, name)) for name in GLOBAL_HOOKS}


def equal(a, b):
    """Whether two snapshots are of the very same objects."""
    (modules, hooks), (modules_, hooks_) = a, b
    return hooks == hooks_ and all(
        x.keys() == y.keys() and all(_same(x[key], y[key]) for key in x)
        for x, y in zip(modules, modules_, strict=True)
    )


def _same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(a[key] is b[key] for key in a)
    return a is b


def quiet():
    """Nothing of ours is at work in this thread, nor in the compiler."""
    return not calls.running.calls and compiled.suspension._users == 0


def entropy(report, layer, call=0):
    key = f"{layer}#{call}" if call else layer
    return report.scalars()[f"{key}/forward/entropy"]


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert quiet()


class TestTraining:
    """Bit for bit what it is without a probe."""

    def train(self, attach, amp=False):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model = network()
        optimizer = torch.optim.Adam(model.parameters())
        losses = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with attach(model) as probe:
                for _ in range(6):
                    x, labels = torch.randn(32, 6), torch.randint(3, (32,))
                    if probe is not None:
                        probe.target(labels)
                    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                        loss = nn.functional.cross_entropy(model(x), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
                    if probe is not None:
                        probe.report()
        return {
            "weights": [*model.state_dict().values()],
            "gradients": [p.grad for p in model.parameters()],
            "optimizer": [x for s in optimizer.state.values() for x in s.values()],
            "torch": [torch.get_rng_state()],
            "numpy": [torch.from_numpy(np.random.get_state()[1].astype(np.int64))],
            "python": random.getstate(),
            "losses": losses,
        }

    @pytest.mark.parametrize("amp", [False, True])
    @pytest.mark.parametrize(
        "attach",
        [
            lambda model: ip.probe(model),
            lambda model: ip.probe(model, measures=MEASURES),
            lambda model: ip.probe(model, measures=EVERYTHING),
            lambda model: ip.probe(model, measures=EVERYTHING, values_per_batch=50, seed=3),
            lambda model: ip.probe(model, measures=EVERYTHING, memory=500),
            lambda model: ip.probe(model, measures=EVERYTHING).track(every=2),
            lambda model: ip.probe(model, ["*", "(model)"], MEASURES).track(every=3, passes=2),
        ],
        ids=["default", "counts", "rows", "some values", "little memory", "steps", "windows"],
    )
    def test_training(self, attach, amp):
        plain = self.train(lambda model: contextlib.nullcontext(), amp=amp)
        probed = self.train(attach, amp=amp)
        for name, value in plain.items():
            if isinstance(value, list) and isinstance(value[0], torch.Tensor):
                assert all(map(torch.equal, value, probed[name])), name
            else:
                assert value == probed[name], name

    @pytest.mark.parametrize("amp", [False, True])
    def test_what_is_measured_meanwhile(self, amp):
        probes, seen = [], []

        def attach(model):
            probes.append(ip.probe(model, measures=MEASURES))
            model[4].register_forward_hook(lambda m, args, y: seen.append(y.detach().clone()))
            return probes[0]

        self.train(attach, amp=amp)
        assert entropy(probes[0].report(), "4") == H.entropy(torch.cat(seen)).item()

    def test_a_critic_computed_in_a_window(self):
        # It trains networks of its own, in the middle of somebody's pass.
        def run(attach):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
            with attach(model), torch.inference_mode():
                y = model(torch.randn(64, 4))
            return y, torch.get_rng_state()

        measure = ip.MutualInformation(ip.Critic(steps=20))
        plain = run(lambda model: contextlib.nullcontext())
        probed = run(lambda model: ip.probe(model, measures=measure).track(1))
        assert all(map(torch.equal, plain, probed))

    def test_gradients_and_the_graph(self):
        def run(attach):
            torch.manual_seed(0)
            model, x = network(), torch.randn(16, 6, requires_grad=True)
            with attach(model):
                y = model(x)
            nodes, todo = [], [y.grad_fn]
            while todo:
                node = todo.pop()
                nodes.append(node.name())
                todo += [parent for parent, _ in node.next_functions if parent is not None]
            (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            first.square().sum().backward()
            return nodes, [x.grad, *(p.grad for p in model.parameters())]

        (nodes, grads), (nodes_, grads_) = (
            run(lambda model: contextlib.nullcontext()),
            run(lambda model: ip.probe(model, measures=EVERYTHING[:3])),
        )
        assert nodes == nodes_
        assert all(map(torch.equal, grads, grads_))

    def test_in_place_operations_keep_their_versions(self):
        # Autograd checks versions: a probe that touched a tensor would break a backward pass.
        versions = []
        for attach in (contextlib.nullcontext, ip.probe):
            torch.manual_seed(0)
            model, seen = network(), []
            model[0].register_forward_hook(lambda m, args, y, seen=seen: seen.append(y))
            x = torch.randn(16, 6)
            with attach(model):
                seen.append(model(x))
            versions.append([x._version, *(t._version for t in seen)])
        assert versions[0] == versions[1]


class TestTensors:
    @pytest.mark.parametrize("measures", [MEASURES, EVERYTHING])
    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_the_callers_tensors(self, measures, requires_grad):
        model, x = network(), torch.randn(16, 6, requires_grad=requires_grad)
        labels = torch.randint(3, (16,))
        kept, kept_labels = x.detach().clone(), labels.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with ip.probe(model, measures=measures) as probe:
                probe.target(labels)
                y = model(x)
        probe.report()
        assert torch.equal(x, kept)
        assert torch.equal(labels, kept_labels)
        assert x.requires_grad == requires_grad
        assert x.grad is None
        assert x._version == 0
        assert y.requires_grad
        assert all(p.requires_grad and p.grad is None for p in model.parameters())

    def test_frozen_parameters_stay_frozen(self):
        model = network().requires_grad_(False)
        with ip.probe(model):
            y = model(torch.randn(16, 6))
        assert not y.requires_grad
        assert not any(p.requires_grad for p in model.parameters())

    def test_outputs_are_the_very_objects(self):
        x = torch.randn(4, 3)
        outputs = {"a": (x, [x.exp()]), "b": None}

        class Gives(nn.Module):
            def forward(self, x):
                return outputs

        with ip.probe(model := Gives()):
            assert model(x) is outputs
        with ip.probe(model := nn.Identity()):
            assert model(x) is x

    @pytest.mark.parametrize("measures", [MEASURES, EVERYTHING])
    def test_no_graph_is_kept_alive(self, measures):
        kept = []

        class Watch(nn.Module):
            def forward(self, x):
                y = x * 2
                z = y.exp()  # which backward needs
                kept.extend([weakref.ref(y), weakref.ref(z)])
                return z

        model = nn.Sequential(nn.Linear(4, 4), Watch(), nn.Linear(4, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with ip.probe(model, measures=measures) as probe:
                for _ in range(2):
                    probe.target(torch.randn(8, 1))
                    x = torch.randn(8, 4)
                    kept.append(weakref.ref(x))
                    loss = model(x).sum()
                    loss.backward()
                    kept.append(weakref.ref(loss))
                    del x, loss
                gc.collect()
                assert [ref() for ref in kept] == [None] * 8

    def test_no_large_tensor_is_kept_alive_by_a_small_sample(self):
        base = []

        class Wide(nn.Module):
            def forward(self, x):
                big = torch.randn(len(x), 1000)
                base.append(weakref.ref(big))
                return big[:, :2]

        with ip.probe(model := Wide(), measures=ip.Entropy(ip.KNN(), samples=10)) as probe:
            model(torch.randn(100, 3))
            gc.collect()
            assert base[0]() is None
        assert probe.report().rows[0]["n"] == 10


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
        assert "4 passes" in repr(probe)

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
                with pytest.raises(RuntimeWarning, match="left out"):
                    model(x / 0)
                model(x)
        assert equal(snapshot(model), before)
        assert entropy(probe.report(), "1") == H.entropy(model(x)).item()

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


class TestSeveralProbes:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_any_order_of_removal(self, order):
        model, x = network().eval(), torch.randn(8, 6)
        before = snapshot(model)
        probes = [ip.probe(model, layers, MEASURES) for layers in (None, "4", ["*", "(model)"])]
        for index in order:
            model(x)
            probes[index].remove()
        assert equal(snapshot(model), before)
        model(x)
        for times, index in enumerate(order, start=1):
            report = probes[index].report()
            assert {row["n"] for row in report.rows} == {8 * times}
            assert entropy(report, "4") == H.entropy(torch.cat([model(x)] * times)).item()

    def test_nested_on_parts(self):
        model, x = network().eval(), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as whole:
            model(x)
            with ip.probe(model[2], measures=MEASURES) as part:
                model(x)
                with ip.probe(model[2].layer, measures=MEASURES) as layer:
                    y = model(x)
        z = model[:2](x)
        linear = H.entropy(torch.cat([model[2].layer(z)] * 2)).item()
        assert entropy(part.report(), "layer") == linear
        assert entropy(layer.report(), "(model)") == H.entropy(model[2].layer(z)).item()
        assert entropy(whole.report(), "4") == H.entropy(torch.cat([y] * 3)).item()
        # What is marked in the part has the name that it has from there.
        assert entropy(part.report(), "sum") == H.entropy(torch.cat([model[2](z)] * 2)).item()
        assert entropy(whole.report(), "2.sum") == H.entropy(torch.cat([model[2](z)] * 3)).item()

    def test_one_probe_over_several_loaders(self):
        model, x = network().eval(), torch.randn(60, 6)
        loaders = [
            torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=size)
            for size in (7, 60, 1)
        ]
        with ip.probe(model, measures=MEASURES) as probe:
            reports = []
            for loader in loaders:
                for (batch,) in loader:
                    model(batch)
                reports.append(probe.report())
                probe.reset()
        assert reports[0].scalars() == reports[1].scalars() == reports[2].scalars()
        assert entropy(reports[0], "4") == H.entropy(model(x)).item()

    def test_the_same_with_statement_twice(self):
        model, x = network().eval(), torch.randn(8, 6)
        probe = ip.probe(model)
        for _ in range(2):
            with probe:
                model(x)
        assert {row["n"] for row in probe.report().rows} == {8}  # removed by then

    def test_attached_inside_of_a_pass(self):
        class Attaches(nn.Module):
            def forward(self, x):
                probes.append(ip.probe(model, measures=MEASURES))
                return x.tanh()

        probes = []
        model, x = nn.Sequential(nn.Linear(6, 6), Attaches(), nn.Sigmoid()), torch.randn(8, 6)
        before = snapshot(model)
        model(x)
        (probe,) = probes
        # What is left of the pass enters by the layer after it.
        model[1].forward = torch.tanh
        y = model(x)
        del model[1].forward
        probe.remove()
        assert equal(snapshot(model), before)
        report = probe.report()
        counted = {row["layer"]: (row["n"], row["call"]) for row in report.rows}
        assert counted == {"0": (8, 0), "1": (8, 0), "2": (16, 0)}
        assert entropy(report, "2") == H.entropy(torch.cat([y, y])).item()

    def test_removed_and_attached_anew_inside_of_a_pass(self):
        class Swaps(nn.Module):
            def forward(self, x):
                probes[-1].remove()
                probes.append(ip.probe(model, measures=MEASURES))
                return ip.tap(x.tanh(), "point")

        model, x = nn.Sequential(nn.Linear(6, 6), Swaps(), nn.Sigmoid()), torch.randn(8, 6)
        before = snapshot(model)
        probes = [ip.probe(model, measures=MEASURES)]
        model(x)
        model(x)
        probes[-1].remove()
        assert equal(snapshot(model), before)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            counted = [{row["layer"]: row["n"] for row in p.report().rows} for p in probes]
        assert counted == [{"0": 8}, {"0": 8, "2": 8}, {"2": 8}]

    def test_removed_by_a_layer_while_other_probes_go_on(self):
        class Removes(nn.Module):
            def forward(self, x):
                first.remove()
                return x.tanh()

        model, x = nn.Sequential(nn.Linear(6, 6), Removes(), nn.Sigmoid()), torch.randn(8, 6)
        first, second = ip.probe(model, measures=MEASURES), ip.probe(model, measures=MEASURES)
        y = model(x)
        second.remove()
        with pytest.warns(UserWarning, match="gave no output: 1, 2"):
            assert {row["layer"] for row in first.report().rows} == {"0"}
        assert entropy(second.report(), "2") == H.entropy(y).item()


class TestOtherHooks:
    @pytest.mark.parametrize("always_call", [False, True])
    @pytest.mark.parametrize("when", ["before", "after", "first"])
    def test_one_that_replaces_the_output(self, when, always_call):
        model, x = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid()), torch.randn(8, 6)

        def replace(module, args, output):
            return output * 3

        def register():
            model[0].register_forward_hook(
                replace, always_call=always_call, prepend=when == "first"
            )

        if when == "before":
            register()
        with ip.probe(model, measures=MEASURES) as probe:
            if when != "before":
                register()
            y = model(x)
        report, linear = probe.report(), nn.functional.linear(x, model[0].weight, model[0].bias)
        assert torch.equal(y, (linear * 3).sigmoid())
        # What the layer gives at this point of the chain; the next layer is given the last word.
        seen = linear if when == "after" else linear * 3
        assert entropy(report, "0") == H.entropy(seen).item()
        previous = report.scalars()["1/forward/divergence_previous"]
        assert previous == H.kl_divergence(linear * 3, y).item()

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_one_that_replaces_the_input(self, when):
        model, x = nn.Sequential(nn.Tanh(), nn.Sigmoid()), torch.randn(8, 6)

        def replace(module, args):
            return (args[0] * 3,)

        if when == "before":
            model.register_forward_pre_hook(replace)
        with ip.probe(model, measures=MEASURES) as probe:
            if when == "after":
                model.register_forward_pre_hook(replace)
            y = model(x)
        given = x if when == "after" else 3 * x
        scalars = probe.report().scalars()
        assert scalars["1/forward/divergence_input"] == H.kl_divergence(given, y).item()
        assert scalars["0/forward/divergence_previous"] == (
            H.kl_divergence(3 * x, (3 * x).tanh()).item()
        )

    def test_one_that_writes_into_the_output(self):
        model, x = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid()), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as probe, torch.no_grad():
            handle = model[0].register_forward_hook(lambda m, args, y: y.mul_(3) and None)
            with contextlib.suppress(RuntimeError):
                model(x)
            handle.remove()
            probe.reset()
            model[0].register_forward_hook(lambda m, args, y: y.mul_(3))
            y = model(x)
        linear = nn.functional.linear(x, model[0].weight, model[0].bias)
        report = probe.report()
        assert entropy(report, "0") == H.entropy(linear).item()
        previous = report.scalars()["1/forward/divergence_previous"]
        assert previous == H.kl_divergence(linear * 3, y).item()

    def test_hooks_run_as_often_and_in_the_same_order(self):
        def run(attach):
            torch.manual_seed(0)
            model, log = network().eval(), []
            for name, module in model.named_modules():
                module.register_forward_pre_hook(lambda m, a, name=name: log.append(("pre", name)))
                module.register_forward_hook(lambda m, a, y, name=name: log.append(("fwd", name)))
                if name in ("", "0", "3", "4"):  # the others work in place
                    module.register_full_backward_hook(
                        lambda m, a, b, name=name: log.append(("bwd", name))
                    )
            with attach(model):
                model(torch.randn(8, 6, requires_grad=True)).sum().backward()
            return log

        assert run(ip.probe) == run(lambda model: contextlib.nullcontext())

    def test_one_that_is_removed_while_probed(self):
        model, x, seen = nn.Sequential(nn.Tanh()), torch.randn(8, 6), []
        handle = model[0].register_forward_hook(lambda *args: seen.append(1))
        with ip.probe(model) as probe:
            model(x)
            handle.remove()
            model(x)
        assert seen == [1]
        assert {row["n"] for row in probe.report().rows} == {16}
        assert not model[0]._forward_hooks

    def test_global_hooks_of_others(self):
        seen = []
        handle = torch_module.register_module_forward_hook(lambda m, a, y: seen.append(m) or None)
        try:
            model, x = nn.Sequential(nn.Tanh()), torch.randn(8, 6)
            with ip.probe(model, measures=MEASURES) as probe:
                y = model(x)
        finally:
            handle.remove()
        assert seen == [model[0], model]
        assert entropy(probe.report(), "0") == H.entropy(y).item()
