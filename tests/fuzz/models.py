"""Small random models, whose layers do what a probe may not expect; 4 features go in and out."""

import dataclasses
import threading

import torch
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import infoprobe as ip


class ExpectedError(Exception):
    """Raised by a model on purpose."""


@dataclasses.dataclass
class Output:
    y: torch.Tensor
    rest: object = None


class Closed(dict):
    def values(self):
        raise ExpectedError("it does not let itself be read")


def recursive(y):
    value = []
    value += [value, y]
    return value


def doubled(value, times):
    for _ in range(times):
        value = [value, value]
    return value


# What a layer may return.
RETURNED = {
    "tuple": lambda y: (y, None),
    "dict": lambda y: {"a": None, "b": y},
    "dataclass": lambda y: Output(y, [1, "x"]),
    "closed": lambda y: Closed(a=y),
    "none": lambda y: None,
    "number": lambda y: 3,
    "same twice": lambda y: [y, y],
    "recursive": recursive,
    "doubled": lambda y: doubled([y], 40),
    "sparse": lambda y: y.relu().to_sparse(),
    "expanded": lambda y: y[:1].expand(len(y) + 1, 4),
    "meta": lambda y: y.to("meta"),
    "empty": lambda y: y[:0],
    "no features": lambda y: y[:, :0],
    "scalar": lambda y: y.sum(),
    "integers": lambda y: (y * 4).round().long(),
    "half": lambda y: y.bfloat16(),
    "complex": lambda y: y.to(torch.complex64),
    "unsigned": lambda y: y.abs().round().to(torch.uint16),
    "infinite": lambda y: y / 0,
    "parameter": lambda y: nn.Parameter(y.detach()),
    "class": lambda y: Output,
}


class Returns(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, y):
        if self.kind == "raises":
            raise ExpectedError
        return RETURNED[self.kind](y)


def caught(block, x, y):
    try:
        block.inner(y)
        block.raises(y)
    except ExpectedError:
        return y


def data_set(block, x, y):
    z = block.act(y)
    z.data = z.data + 1
    return z


def functional(block, x, y):
    weights = {name: 2 * p for name, p in block.linear.named_parameters()}
    return torch.func.functional_call(block.linear, weights, (y,))


def of_function_transforms(block, x, y):
    gradient = torch.func.grad(lambda z: block.linear(z).square().sum())(y.detach())
    return y + gradient + torch.func.vmap(block.linear)(y)


def backward_inside(block, x, y):
    with torch.enable_grad():
        z = y.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(block.inner(z).sum(), z, allow_unused=True)
    return y if gradient is None else y + gradient


def in_a_thread(block, x, y):
    found, enabled = [], torch.is_grad_enabled()

    def work():
        with torch.set_grad_enabled(enabled):
            try:
                found.append(block.inner(y))
            except (ExpectedError, RuntimeError):  # such as of types that differ
                found.append(y)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def hook_inside(block, x, y):
    handle = block.act.register_forward_hook(lambda module, args, output: output + 1)
    try:
        return block.act(y)
    finally:
        handle.remove()


# What a block may do with its input and with that of its linear layer.
ACTIONS = {
    "relu": lambda block, x, y: block.act(y),
    "in place": lambda block, x, y: block.in_place(y).mul_(2),
    "norm": lambda block, x, y: block.norm(y) if len(y) > 1 else y,
    "dropout": lambda block, x, y: block.drop(y),
    "other types": lambda block, x, y: block.act(y.double()).float() + y.bfloat16().float(),
    "twice": lambda block, x, y: block.inner(block.inner(y)),
    "residual": lambda block, x, y: block.inner(y) + block.act(y),
    "checkpoint": lambda block, x, y: checkpoint(block.inner, y, use_reentrant=False),
    "raises": lambda block, x, y: block.raises(y),
    "caught": caught,
    "tap": lambda block, x, y: ip.tap(y * 2, "point"),
    "tap container": lambda block, x, y: ip.tap({"a": [y, None, 3]}, "0")["a"][0],
    "tap raised": lambda block, x, y: ip.tap(Closed(a=y), "linear")["a"],
    "view": lambda block, x, y: block.act(y.t().t()[:, :4]),
    "detached": lambda block, x, y: block.act(y.detach()) + x,
    "noise": lambda block, x, y: y + torch.randn_like(y),
    "data set": data_set,
    "ragged": lambda block, x, y: torch.cat([block.inner(y[:1]), block.inner(y[1:])]),
    "functional": functional,
    "function transforms": of_function_transforms,
    "backward inside": backward_inside,
    "thread": in_a_thread,
    "direct": lambda block, x, y: block.inner.forward(y),
    "hook inside": hook_inside,
    "unused": lambda block, x, y: x * 1,
    "same": lambda block, x, y: x,
}


class Block(nn.Module):
    def __init__(self, action, inner):
        super().__init__()
        self.action, self.inner = action, inner
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.act, self.in_place, self.drop = nn.ReLU(), nn.ReLU(inplace=True), nn.Dropout(0.3)
        self.raises = Returns("raises")

    def forward(self, x):
        return ACTIONS[self.action](self, x, self.linear(x))


class Beside(nn.Module):
    """A layer whose output nobody uses, before another block."""

    def __init__(self, kind, inner):
        super().__init__()
        self.beside, self.inner = Returns(kind), inner

    def forward(self, x):
        self.beside(x)
        return self.inner(x)


@st.composite
def models(draw):
    """A function that makes the same model each time it is called."""
    parts = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*ACTIONS, *RETURNED]),
                st.sampled_from(["chain", "inside", "again"]),
            ),
            min_size=1,
            max_size=5,
        )
    )
    frozen, training = draw(st.booleans()), draw(st.booleans())

    def make():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 4))
        for name, where in parts:
            inner = model if where == "inside" else nn.Linear(4, 4)
            if where == "again":
                inner = model[0]  # one module in several places
            block = Block(name, inner) if name in ACTIONS else Beside(name, inner)
            model = nn.Sequential(*([] if where == "inside" else [model]), block)
        for parameter in model[0].parameters():
            parameter.requires_grad_(not frozen)
        return model.train(training)

    return make
