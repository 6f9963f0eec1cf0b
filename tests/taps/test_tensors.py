import torch

from infoprobe.taps.tensors import main_tensor


def test_main_tensor():
    x, mask = torch.zeros(1), torch.ones(1, dtype=torch.bool)
    assert main_tensor(x) == [x]
    assert main_tensor((None, {"a": [x, torch.ones(1)]})) == [x]
    assert main_tensor(((), {"mask": mask, "x": x})) == [x]
    assert main_tensor([mask, 3]) == [mask]
    assert main_tensor(((), {})) == []
    assert main_tensor("text") == []
