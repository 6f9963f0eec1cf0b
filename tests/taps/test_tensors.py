import dataclasses
from collections import UserDict

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


def test_containers_that_refuse_to_be_read():
    @dataclasses.dataclass
    class Output:
        loss: object = None

        def __getattribute__(self, name):
            if name == "loss":
                raise RuntimeError("not computed")
            return super().__getattribute__(name)

    class Refuses(UserDict):
        def values(self):
            raise KeyError("values")

    x = torch.zeros(1)
    assert main_tensor((Output(), x)) == [x]
    assert main_tensor([Refuses(), x]) == [x]


def test_deep_shared_and_circular_containers():
    x = torch.zeros(1)
    deep = shared = x
    for _ in range(2000):
        deep = [deep]
    for _ in range(26):
        shared = [shared, shared]
    circle = [1]
    circle += [circle, x]
    for value in (deep, shared, circle):
        assert main_tensor(value) == [x]
    assert main_tensor([[3] * 100_000, x]) == []  # enough is enough


def test_an_object_that_hides_its_class():
    class Hidden:
        @property
        def __class__(self):
            raise ValueError("it does not say")

    assert main_tensor(Hidden()) == []
    assert main_tensor([Hidden()]) == []
