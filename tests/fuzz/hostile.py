"""Arguments that a function should take or refuse by name."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch
from hypothesis import strategies as st


class Unprintable:
    """An object that raises where an error wants to show it, or to compare it."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


FLOATS = [
    *(0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-310, 5e-324, 1e-162, 1e-30, 1e30, 1e155, 1e300),
    *(1e15, 1.7e308, -1.7e308, math.inf, -math.inf, math.nan, 1 + 2**-52, 1 - 2**-53),
]
INTEGERS = [0, 1, 2, 3, 5, 16, -1, 255, 256, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30, 10**400]
OTHERS = [
    *(None, True, False, "", "a", "own", b"a", (), [], {}, set(), (1, 2), [0, 1], 1j, object()),
    *(int, len, torch.float32, Fraction(1, 3), Decimal(2), np.ones(3), np.array(2)),
    *(torch.ones(3), torch.tensor(2), np.array(["a", "b"]), "x" * 1000, range(3), Ellipsis),
    *(Unprintable(), torch.nn.UninitializedParameter(), torch.ones(2, device="meta")),
]
OF_NUMPY = [np.int8(3), np.uint8(200), np.int64(5), np.uint64(2**63), np.float32(0.3)]

settings = st.one_of(
    *(st.sampled_from(values) for values in (FLOATS, INTEGERS, OTHERS, OF_NUMPY)),
    st.floats(),
    st.integers(-(10**6), 10**6),
)

TORCH = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.complex64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64, torch.float8_e5m2),
]
NUMPY = ["f8", ">f8", "f4", "f2", ">i4", "u2", "u8", "i1", "?", "O", "U3", "M8[s]", "c8", "g"]
SHAPES = [(), (0,), (1,), (2,), (7,), (24,), (24, 1), (24, 2), (24, 0), (0, 3), (1, 4), (12, 2, 2)]


@st.composite
def arrays(draw):
    """Arrays of all kinds: of values on many scales, tied, constant, masked, reversed, or none."""
    seed = draw(st.integers(0, 99))
    generator = np.random.default_rng(seed)
    shape = draw(st.sampled_from(SHAPES))
    x = generator.normal(size=shape)
    x = x * draw(st.sampled_from([1.0, 1e-162, 1e-30, 1e15, 1e155, 1e300]))
    change = draw(st.sampled_from(["", "", "", "round", "constant", "one", "offset", "copies"]))
    x = np.asarray(x)
    if change == "round":
        x = np.round(x)
    elif change == "constant":
        x = np.full(shape, 3.0)
    elif change == "offset":
        x = x + 1e15
    elif change == "copies" and x.ndim and len(x):
        x = x[generator.integers(0, max(1, len(x) // 3), len(x))]
    elif change == "one" and x.size:
        x = x.copy()
        x.flat[generator.integers(x.size)] = draw(st.sampled_from(FLOATS))
    form = draw(st.sampled_from(["torch", "torch", "numpy", "list", "view", "masked", "other"]))
    with np.errstate(all="ignore"):
        if form == "torch":
            return torch.tensor(x).to(draw(st.sampled_from(TORCH)))
        if form == "numpy":
            return x.astype(draw(st.sampled_from(NUMPY)), copy=True)
        if form == "list":
            return x.tolist()
        if form == "view":
            return x[::-1] if x.ndim else x
        if form == "masked":
            return np.ma.array(x, mask=generator.random(shape) < draw(st.sampled_from([0, 0.3])))
        return draw(st.sampled_from(OTHERS))
