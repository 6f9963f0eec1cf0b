"""Data and settings that tests of histograms draw."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import infoprobe as ip

samples = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 60),
    elements=st.floats(-1000, 1000, width=32),
)


def matrices(elements, width=4):
    """Two of one dtype, float32 or float64, and one shape, of 3 to 20 samples."""
    shapes = st.tuples(st.integers(3, 20), st.integers(1, width))
    return st.tuples(st.sampled_from([np.float32, np.float64]), shapes).flatmap(
        lambda kind: st.tuples(*[hnp.arrays(*kind, elements=elements)] * 2)
    )


FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


# Values that meet each other and the edges of bins.
COARSE = st.integers(-40, 40).map(lambda i: i / 8)


RANGES = ["dyadic", "minmax", "own", (-5, 5)]


CORRECTIONS = [None, "miller-madow", "james-stein", "chao-shen", "grassberger"]


histograms = st.builds(
    ip.Histogram,
    bins=st.integers(2, 50),
    range=st.sampled_from(["dyadic", "minmax", "own", (-1000, 1000)]),
    pseudocount=st.sampled_from([0.0, 0.5, 1.0]),
)


def columns(x):
    return x.reshape(len(x), -1).T
