"""Public functions with hostile arguments: a value that is no NaN, or a refusal by name."""

import functools
import math

import matplotlib.pyplot as plt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import ExpTransform

import infoprobe as ip
from infoprobe.estimators.arguments import ARGUMENTS
from infoprobe.models import Schedule
from tests.fuzz.attack import outcome, profile
from tests.fuzz.hostile import arrays, settings

X = torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
BYTES = torch.arange(60, dtype=torch.uint8)
Y = X + torch.randn(24, 2, generator=torch.Generator().manual_seed(1))

FIELDS = {
    ip.Histogram: "bins range over pseudocount correction outside",
    ip.KNN: "k metric calibration variant repeats seed",
    ip.Gaussian: "shrinkage",
    ip.MatrixRenyi: "alpha bandwidth gamma",
    ip.Critic: "bound critic hidden embedding steps batch learning_rate patience validation "
    "held_out clip seed",
    ip.Flow: "residual folds seed components hidden dropout steps batch learning_rate seconds",
    ip.Gaussianization: "residual folds seed rotation layers",
    Schedule: "epochs batch_size learning_rate betas eps weight_decay milestones",
    ip.Entropy: "estimator samples project",
    ip.Divergence: "estimator reference samples project",
    ip.MutualInformation: "estimator reference samples project",
}
# What a setting of a model or of a repetition costs is up to the user.
QUICK = [ip.Histogram, ip.Gaussian, ip.MatrixRenyi]

ESTIMATORS = [
    ip.Histogram(),
    ip.Histogram(8, range="own", pseudocount=1),
    ip.Histogram(4, over="units", range="minmax"),
    ip.Histogram(4, over="samples", correction="grassberger"),
    ip.Histogram(8, range=(-1, 1), outside="clip", correction="james-stein"),
    ip.KNN(k=1),
    ip.KNN(metric="chebyshev", calibration="gaussian", repeats=1),
    ip.Gaussian(),
    ip.Gaussian(shrinkage="ledoit-wolf"),
    ip.MatrixRenyi(),
    ip.MatrixRenyi(alpha=2.0, bandwidth=1.0),
]


@profile(4)
@given(
    st.sampled_from([(made, name) for made, names in FIELDS.items() for name in names.split()]),
    settings,
    st.sampled_from([None, "seed", "bins", "over", "calibration", "folds"]),
    settings,
)
def test_settings(field, value, second, other):
    make, name = field
    fields = {"epochs": 1} if make is Schedule else {}
    if second in FIELDS[make].split():
        fields[second] = other
    fields[name] = value
    made = outcome(lambda: make(**fields))
    if made is not None:
        assert repr(made)
        if make in QUICK:
            outcome(lambda: made.entropy(X))
            outcome(lambda: made.mutual_information(X, Y))


@profile(4)
@given(st.sampled_from(ESTIMATORS), st.data())
def test_samples(estimator, data):
    names = [name for name in ARGUMENTS if hasattr(estimator, name)]
    measure = data.draw(st.sampled_from(names))
    count = len(ARGUMENTS[measure].names)
    drawn = [data.draw(arrays()) for _ in range(count)]
    # Most hostile arguments do not fit each other, which is refused too early to tell much.
    tensors = drawn if data.draw(st.booleans()) else drawn[:1] * count
    outcome(lambda: getattr(estimator, measure)(*tensors))


@profile(2)
@given(st.sampled_from(list(ARGUMENTS)), st.sampled_from([None, *ESTIMATORS]), st.data())
def test_plain_functions(measure, estimator, data):
    drawn = [data.draw(arrays()) for _ in ARGUMENTS[measure].names]
    tensors = drawn if data.draw(st.booleans()) else drawn[:1] * len(drawn)
    if hasattr(ip, measure):
        outcome(lambda: getattr(ip, measure)(*tensors, estimator=estimator))
    values = outcome(lambda: ip.pointwise(measure, *tensors, estimator=estimator))
    assert values is None or len(values) == len(tensors[0])
    outcome(lambda: ip.choose(measure, *tensors))


@profile()
@given(settings, settings)
def test_names_of_measures(name, estimator):
    outcome(lambda: ip.pointwise(name, X, Y))
    outcome(lambda: ip.pointwise("mutual_information", X, Y, estimator=estimator))
    outcome(lambda: ip.choose(name, X, Y))


@profile()
@given(arrays(), settings)
def test_bases(x, base):
    outcome(lambda: ip.entropy(x, base=base))


@profile()
@given(arrays(), settings, st.sampled_from([None, None, 3, "a", torch.Generator()]), settings)
def test_dequantize(images, levels, generator, dtype):
    outcome(lambda: ip.dequantize(images, levels, generator=generator))
    outcome(lambda: ip.dequantize(images, dtype=dtype))
    outcome(lambda: ip.dequantize(BYTES, levels, dtype=dtype))
    outcome(lambda: ip.dequantize(BYTES, levels))


@profile()
@given(arrays(), arrays(), st.one_of(settings, st.integers(1, 4)), st.booleans())
def test_nearest_neighbors(x, queries, k, asked):
    for points, number in ((x, 1), (x, k), (X, k)):
        given = (points, number, queries if asked else None)
        found = outcome(lambda given=given: ip.nearest_neighbors(*given))
        assert found is None or not bool(found[0].isnan().any())


@profile(0.5)
@given(arrays(), settings, settings, st.sampled_from(["subsample", "bootstrap", "a", None]))
def test_confidence_interval(x, level, resamples, method):
    few = resamples if not isinstance(resamples, int) or resamples < 50 else 4
    measure = ip.Histogram(8, range="own").entropy
    for samples, keywords in (
        (x, {"resamples": 4}),
        (X, {"resamples": 4, "level": level}),
        (X, {"resamples": few}),
        (X, {"resamples": 4, "method": method}),
    ):
        found = outcome(lambda s=samples, k=keywords: ip.confidence_interval(measure, s, **k))
        assert found is None or not any(math.isnan(float(value)) for value in found)


@profile()
@given(arrays(), arrays(), st.sampled_from([*ESTIMATORS, None, 3, "a"]))
def test_diagnose(x, y, estimator):
    found = outcome(lambda: ip.diagnose(x, y, estimator=estimator))
    assert found is None or all(str(finding) for finding in found)
    outcome(lambda: ip.diagnose(x, estimator=estimator))
    outcome(lambda: ip.diagnose(x, X, estimator=estimator))


@profile()
@given(settings, settings, settings)
def test_a_probe(memory, seed, values_per_batch):
    model = nn.Linear(2, 2)
    for keywords in (
        {"memory": memory},
        {"seed": seed},
        {"values_per_batch": values_per_batch},
        {"measures": values_per_batch},
        {"layers": None if callable(seed) else seed},  # a predicate of the user's may raise
    ):
        probe = outcome(lambda keywords=keywords: ip.probe(model, **keywords))
        if probe is not None:
            probe.remove()


@profile(0.5)
@given(arrays(), settings, settings)
def test_maps(x, rev, batch_size):
    for map in (ExpTransform(), torch.tanh):
        outcome(lambda map=map: ip.entropy_change(map, x, batch_size=5), nan=True)
        outcome(lambda map=map: ip.entropy_change(map, X, rev=rev), nan=True)
        outcome(lambda map=map: ip.jacobian_spectrum(map, X, batch_size=batch_size))
        outcome(lambda map=map: ip.check_invertible(map, X, batch_size=batch_size))
    outcome(lambda: ip.check_invertible(ExpTransform(), x))


@functools.cache
def probed():
    with ip.probe(model := nn.Sequential(nn.Linear(2, 2), nn.ReLU())) as probe:
        model(X)
    return probe


@profile(0.5)
@given(settings, settings)
def test_what_a_probe_gives(value, second):
    probe = probed()
    report = probe.report()
    for call in (
        lambda: probe.counts(value),
        lambda: probe.counts("0", value),
        lambda: probe.counts("0", call=value),
        lambda: probe.load_state_dict(value),
        lambda: probe.merge(value),
        lambda: report.at(value),
        lambda: report.head(value),
        lambda: report.select(value),
        lambda: report.select(measure=second, type=value),
        lambda: report.compare(value),
        lambda: report.compare(report, names=(value, second)),
        lambda: report.plot(value, second),
        lambda: report.plot(ax=value),
        lambda: report.save(value) if not isinstance(value, str) else None,
    ):
        outcome(call)
        plt.close("all")


@profile(0.5)
@given(settings, st.sampled_from([ip.Entropy, ip.Spectrum, ip.PredictionEntropy, ip.TokenEntropy]))
def test_what_measures_are_given(value, measure):
    name = {ip.PredictionEntropy: "read_out", ip.TokenEntropy: "normalize"}.get(measure, "select")
    # Functions of the user's may raise.
    outcome(lambda: None if callable(value) else measure(**{name: value}))
