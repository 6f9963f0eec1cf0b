"""What cannot be probed is refused by name."""

import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip


@pytest.fixture(scope="module")
def program():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(model, (torch.randn(5, 3),), strict=False)


def measured(model, layers=None):
    with ip.probe(model, layers, ip.Entropy()) as probe:
        model(torch.randn(5, 3))
    return [row["layer"] for row in probe.report().rows]


@pytest.mark.filterwarnings("ignore::FutureWarning")
class TestExportedPrograms:
    def test_a_program_is_refused(self, program):
        with pytest.raises(TypeError, match=r"model: .* got ExportedProgram\. .* graph"):
            ip.probe(program)

    def test_its_module_is_refused_and_left_as_it_was(self, program):
        exported = program.module()
        for model in (exported, nn.Sequential(nn.Linear(3, 3), exported)):
            before = [list(m._forward_hooks) for m in model.modules()]
            with pytest.raises(TypeError, match=r"layers: '.*0' is part of a module that torch"):
                ip.probe(model)
            assert [list(m._forward_hooks) for m in model.modules()] == before

    def test_its_module_is_a_layer_as_a_whole(self, program):
        exported = program.module()
        assert measured(exported, "(model)") == ["(model)"]
        assert measured(nn.Sequential(nn.Linear(3, 3), exported), ["0", "1"]) == ["0", "1"]

    def test_the_way_out_works(self, program):
        assert measured(torch.export.unflatten(program)) == ["0", "1"]


def test_symbolic_traces_are_probed():
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    assert measured(model) == ["0", "1"]


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int\. Transf"):
        ip.probe(3)
