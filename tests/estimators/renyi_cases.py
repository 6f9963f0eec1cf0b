"""Orders, bandwidths and variables that tests of matrix-based entropies draw."""

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.textbook_renyi import textbook_width

ALPHAS = [0.5, 0.9, 1, 1.01, 1.5, 2, 3, 50]


BANDWIDTHS = ["median", "scott", "tapia", 0.7]


alphas = st.sampled_from(ALPHAS)


bandwidths = st.sampled_from(BANDWIDTHS)


def variables(count, d=3):
    """As many variables with equally many samples, ties among them included."""
    # Eighths are exact, so that equal distances stay equal.
    elements = st.integers(-40, 40).map(lambda i: i / 8)
    return st.integers(3, 12).flatmap(
        lambda n: st.tuples(
            *[
                st.integers(1, d).flatmap(
                    lambda width: hnp.arrays(np.float64, (n, width), elements=elements)
                )
                for _ in range(count)
            ]
        )
    )


def usable(*xs):
    """Whether all kernel widths are positive, and all features vary."""
    median = all(textbook_width(x, "median") > 0 for x in xs)
    return median and all((x != x[0]).any() for x in xs)


def close(value, abs=1e-12):
    return pytest.approx(float(value), abs=abs, rel=1e-9)
