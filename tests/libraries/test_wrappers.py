import torch
from torch import nn

from infoprobe.libraries.wrappers import is_wrapper, unwrapped


def test_wrappers_of_torch():
    model = nn.Linear(3, 3)
    compiled = torch.compile(model, backend="eager")
    parallel = nn.DataParallel(compiled)
    for wrapper in (compiled, parallel, nn.DataParallel(model)):
        assert is_wrapper(wrapper)
        assert unwrapped(wrapper) is model


def test_all_else_is_itself():
    class Forwarding(nn.Module):
        """A user's own wrapper around a compiled model, which passes on all attributes."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

    forwarding = Forwarding(torch.compile(nn.Linear(3, 3), backend="eager"))
    assert forwarding._orig_mod is not None
    for other in (nn.Linear(3, 3), nn.Sequential(nn.ReLU()), forwarding, torch.exp, "text"):
        assert not is_wrapper(other)
        assert unwrapped(other) is other
