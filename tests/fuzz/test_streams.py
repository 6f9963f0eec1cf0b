"""Data in any number of batches, in any order, through any probes: the rows of a textbook."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip
from tests import textbook
from tests.fuzz import attack
from tests.fuzz.attack import profile
from tests.probing.helpers import save_and_load

BINS = 16
H = ip.Histogram(BINS, pseudocount=1)
FIXED = ip.Histogram(8, range=(-4.0, 4.0), outside="clip")
MEASURES = [
    ip.Entropy(H),
    ip.Divergence(H, "previous"),
    ip.Divergence(H, "input"),
    ip.Entropy(FIXED),
    ip.Entropy(ip.KNN(k=2), samples=60),
    ip.Entropy(ip.Gaussian(), samples=60),
    ip.MutualInformation(ip.KNN(k=2), samples=60),
]


class Bends(nn.Module):
    """Multiplications and maxima alone, which numpy rounds alike."""

    def forward(self, x):
        return torch.maximum(x * 1.5, x * -0.25)


def bent(x):
    return np.maximum(x * 1.5, x * -0.25)


def data(seed, n, width, scale, form):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, width)) * scale
    if form == "rounded":
        x = np.round(x * 4) / 4
    elif form == "heavy":
        x = generator.standard_cauchy((n, width)) * scale
    elif form == "sorted":
        x = np.sort(x, axis=0)
    return x


def expected(x):
    """The rows of both layers, from numpy and the textbook: layer, measure, reference, value."""
    layers = [x, bent(x), bent(bent(x))]
    for layer in (1, 2):
        y, previous = layers[layer], layers[layer - 1]
        flat = [z.reshape(-1).tolist() for z in (y, previous, x)]
        (counts,) = textbook.dyadic_counts(flat[0], bins=BINS)
        name = str(layer - 1)
        p = textbook.probabilities(counts, 1)
        yield name, 0, textbook.entropy(p)
        for number, other in ((1, flat[1]), (2, flat[2])):
            a, b = textbook.dyadic_counts(other, flat[0], bins=BINS)
            kl = textbook.kl_divergence(textbook.probabilities(a, 1), textbook.probabilities(b, 1))
            yield name, number, kl
        clipped = np.clip(y.reshape(-1), -4.0, 4.0)
        fixed = np.histogram(clipped, bins=8, range=(-4.0, 4.0))[0].tolist()
        yield name, 3, textbook.entropy(textbook.probabilities(fixed))


streams = st.tuples(
    st.integers(0, 10**6),
    st.integers(12, 60),
    st.integers(1, 3),
    st.sampled_from([1.0, 1.0, 1e-30, 1e12, 0.5]),
    st.sampled_from(["normal", "rounded", "heavy", "sorted"]),
)


@profile(0.4)
@given(streams, st.data())
def test_rows_do_not_depend_on_how_data_come(stream, drawn):
    attack.begin_call()
    x = data(*stream)
    model = nn.Sequential(Bends(), Bends())
    cuts = sorted(drawn.draw(st.sets(st.integers(0, len(x)), max_size=6)))
    parts = list(np.split(x, cuts))
    parts = drawn.draw(st.permutations(parts))
    probe, others = ip.probe(model, measures=MEASURES), []
    for part in parts:
        action = drawn.draw(st.sampled_from(["go on", "go on", "resume", "another", "pause"]))
        if action == "resume":
            state = save_and_load(probe.state_dict())
            probe.remove()
            probe = ip.probe(model, measures=MEASURES)
            probe.load_state_dict(state)
        elif action == "another":
            probe.remove()
            others.append(probe)
            probe = ip.probe(model, measures=MEASURES, seed=len(others))
        elif action == "pause":
            with probe.pause():
                model(torch.tensor(part) * 1e3)
        model(torch.tensor(part))
    probe.remove()
    for other in drawn.draw(st.permutations(others)):
        probe.merge(other)
    rows = probe.report().rows
    found = {name: [r for r in rows if r["layer"] == name] for name in ("0", "1")}
    for name, number, value in expected(x):
        row = found[name][number]
        assert row["n"] == len(x)
        if not math.isclose(row["value"], value, rel_tol=1e-9, abs_tol=1e-12):
            attack.OUTCOMES["wrong"] += 1
            raise AssertionError(f"{row} should be {value}")
    # Estimates of samples that are all kept depend on the samples alone, not on their order.
    with ip.probe(model, measures=MEASURES) as once:
        model(torch.tensor(x))
    for row, alone in zip(rows, once.report().rows, strict=True):
        assert (row["layer"], row["measure"], row["n"]) == (
            alone["layer"],
            alone["measure"],
            alone["n"],
        )
        if row["value"] is None or not math.isclose(
            row["value"], alone["value"] or 0.0, rel_tol=1e-6, abs_tol=1e-8
        ):
            assert (row["value"] is None) == (alone["value"] is None), (row, alone)
            if row["value"] is not None and row["value"] != alone["value"]:
                attack.OUTCOMES["wrong"] += 1
                raise AssertionError(f"{row} in parts, {alone} at once")
