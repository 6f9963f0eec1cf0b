"""Blocks in blocks, shared and swapped modules, and the containers that layers give."""

import collections
import dataclasses

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import (
    MEASURES,
    H,
    Lambda,
    assert_measured,
    assert_output,
    layers_of,
    run,
    small_model,
    value,
)


class TestStructure:
    def test_a_shared_module_has_one_name_and_many_calls(self):
        shared = nn.Linear(6, 6)
        model = nn.Sequential(shared, nn.Tanh(), shared, nn.Sequential(shared, nn.Sigmoid()))
        x = torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        a = shared(x)
        b = shared(a.tanh())
        c = shared(b)
        assert_measured(report, "0", x, x, a)
        assert_measured(report, "0", x, a.tanh(), b, call=1)
        assert_measured(report, "0", x, b, c, call=2)
        assert_measured(report, "3.1", x, c, y)
        assert layers_of(report) == ["0", "1", "3.1"]

    def test_blocks_in_blocks_and_a_container_of_its_own(self):
        model = nn.Sequential(
            collections.OrderedDict(
                stem=nn.Linear(6, 6),
                body=nn.ModuleDict({"a": nn.Sequential(nn.Tanh(), nn.Sequential(nn.ELU()))})["a"],
            )
        )
        x = torch.randn(50, 6)
        y, probe = run(model, x, layers=["*", "body"])
        report = probe.report()
        stem = model.stem(x)
        assert_measured(report, "stem", x, x, stem)
        assert_measured(report, "body", x, stem, y)
        assert_measured(report, "body.1.0", x, stem.tanh(), y)
        assert {"(model)", "body.1"}.isdisjoint(layers_of(report))

    def test_functions_are_invisible_and_shape_the_next_layers_input(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

            def forward(self, x):
                return torch.softmax(self.b(torch.relu(self.a(x)) + 1), -1)

        model, x = Model(), torch.randn(50, 6)
        _, probe = run(model, x, layers=["*", "(model)"])
        report, before = probe.report(), model.a(x).relu() + 1
        assert_measured(report, "b", x, before, model.b(before))
        assert_measured(report, "(model)", x, x, model(x))
        assert layers_of(report) == ["a", "b", "(model)"]

    @pytest.mark.parametrize("kind", [nn.ParameterList, nn.ParameterDict, nn.ModuleList])
    def test_a_module_with_weights_in_lists(self, kind):
        class Scales(nn.Module):
            def __init__(self):
                super().__init__()
                weights = {"a": nn.Parameter(torch.tensor(2.0))}
                self.parts = {
                    nn.ParameterList: lambda: kind(weights.values()),
                    nn.ParameterDict: lambda: kind(weights),
                    nn.ModuleList: kind,
                }[kind]()

            def forward(self, x):
                return 2 * x

        model, x = nn.Sequential(Scales(), nn.Tanh()), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        assert layers_of(report) == ["0", "1"]
        assert_measured(report, "0", x, x, 2 * x)
        assert_measured(report, "1", x, 2 * x, y)

    def test_arguments_by_keyword_and_those_that_are_no_tensors(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Lambda(lambda *, scale, x, mask: x * scale)

            def forward(self, ids, *, x):
                return self.inner(scale=2.0, x=x, mask=ids > 1)

        model, x = Model(), torch.randn(50, 6)
        _, probe = run(model, torch.arange(50), x=x)
        report = probe.report()
        # The first floating-point tensor: of the positional arguments here, there is none.
        assert_output(report, "inner", 2 * x)
        assert value(report, "inner", "divergence", "previous") == (
            H.kl_divergence(x, 2 * x).item()
        )
        assert value(report, "inner", "divergence", "input") is None

    def test_a_module_that_was_swapped_is_named(self):
        model, x = small_model(), torch.randn(20, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            model[1] = nn.Sigmoid()
            y = model(x)
        with pytest.warns(UserWarning, match="some probed layers gave no output: 1. Likely"):
            report = probe.report()
        assert_output(report, "3", y)
        assert layers_of(report) == ["0", "2", "3"]

    def test_layers_of_a_branch_that_was_not_taken_are_named(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.taken, self.left, self.right = (nn.Linear(3, 3) for _ in range(3))

            def forward(self, x):
                return self.left(x) if x.sum() > 1e9 else self.right.forward(self.taken(x))

        _, probe = run(Model(), torch.randn(5, 3))
        with pytest.warns(UserWarning, match="gave no output: left, right. Likely"):
            probe.report()


Pair = collections.namedtuple("Pair", ["index", "values"])


@dataclasses.dataclass
class Output:
    index: torch.Tensor
    values: torch.Tensor
    extra: object = None


class TestContainers:
    """The first floating-point tensor of a layer's output is measured, wherever it is."""

    @pytest.mark.parametrize(
        "pack",
        [
            lambda i, v: (i, v),
            lambda i, v: [i, [v]],
            lambda i, v: {"i": i, "v": {"v": v}},
            lambda i, v: collections.OrderedDict(i=i, v=v),
            lambda i, v: Pair(i, v),
            lambda i, v: Output(i, v),
            lambda i, v: (None, "words", Output(i, v, extra=v.exp())),
            lambda i, v: {"outer": (Pair(i, [v]), v.exp())},
        ],
    )
    def test_containers(self, pack):
        x = torch.randn(50, 6)
        model = nn.Sequential(
            Lambda(lambda x: pack(torch.arange(50), x.tanh())), Lambda(lambda packed: x.sigmoid())
        )
        _, probe = run(model, x)
        report = probe.report()
        assert_measured(report, "0", x, x, x.tanh())
        assert_measured(report, "1", x, x.tanh(), x.sigmoid())

    def test_fields_that_were_not_set(self):
        @dataclasses.dataclass
        class Half:
            values: torch.Tensor
            later: torch.Tensor = dataclasses.field(init=False)

        x = torch.randn(50, 6)
        output, probe = run(Lambda(Half), x)
        assert output.values is x
        assert_measured(probe.report(), "(model)", x, x, x)

    def test_containers_that_contain_themselves(self):
        def tree(x):
            parent, child = {"children": []}, {"x": x.tanh()}
            parent["children"].append(child)
            child["parent"] = parent
            return parent

        x = torch.randn(50, 6)
        _, probe = run(Lambda(tree), x)
        assert_measured(probe.report(), "(model)", x, x, x.tanh())

    def test_outputs_of_transformers(self):
        outputs = pytest.importorskip("transformers.modeling_outputs")
        x = torch.randn(50, 6)
        hidden = x.tanh(), x.sigmoid()
        model = Lambda(
            lambda x: outputs.BaseModelOutput(last_hidden_state=hidden[0], hidden_states=hidden)
        )
        output, probe = run(model, x)
        assert isinstance(output, outputs.BaseModelOutput)
        assert_measured(probe.report(), "(model)", x, x, hidden[0])

    def test_a_model_of_transformers(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            n_layer=2,
            n_head=2,
            n_embd=8,
            vocab_size=20,
            n_positions=10,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = transformers.GPT2LMHeadModel(config).eval()
        ids = torch.randint(20, (3, 7))
        with torch.no_grad():
            expected = model(ids, output_hidden_states=True)
            output, probe = run(
                model,
                ids,
                layers=["lm_head", "transformer.wte", "transformer.h.?"],
                output_hidden_states=True,
            )
        assert torch.equal(output.logits, expected.logits)
        report = probe.report()
        assert_output(report, "lm_head", expected.logits)
        assert_output(report, "transformer.h.0", expected.hidden_states[1])
        # Token ids and activations have no scale in common.
        (row,) = [
            row
            for row in report.rows
            if (row["layer"], row["reference"]) == ("transformer.wte", "input")
        ]
        assert row["value"] is None
        assert "It does not apply: the model's input holds integers" in row["findings"][0]

    def test_only_integers(self):
        model, x = Lambda(lambda x: (x.argmax(1), x.argmin(1))), torch.randn(50, 6)
        _, probe = run(model, x)
        assert_measured(probe.report(), "(model)", x, x, x.argmax(1))
