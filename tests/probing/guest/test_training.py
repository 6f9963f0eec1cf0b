"""Training and the caller's tensors are bit for bit what they are without a probe."""

import contextlib
import gc
import random
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.guest.helpers import EVERYTHING, entropy, network
from tests.probing.helpers import MEASURES, H


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
                for step in range(6):
                    x, labels = torch.randn(32, 6), torch.randint(3, (32,))
                    if probe is not None:
                        probe.target(labels)
                    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                        loss = nn.functional.cross_entropy(model(x), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
                    if probe is not None and step % 3 == 2:
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
