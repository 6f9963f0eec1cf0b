import copy
import dataclasses
import enum
import functools
import io
import math
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.protocols import (
    ConditionalInformationEstimator,
    CrossEntropyEstimator,
    DivergenceEstimator,
    EntropyEstimator,
    Estimate,
    InformationEstimator,
    JensenShannonEstimator,
    StreamingEstimator,
    TotalCorrelationEstimator,
    configuration,
    diagnosis,
    estimate,
    kind_of,
    require_measure,
)
from tests.estimators.samples import normal

PROTOCOLS = {
    EntropyEstimator: "entropy",
    CrossEntropyEstimator: "cross_entropy",
    DivergenceEstimator: "kl_divergence",
    JensenShannonEstimator: "js_divergence",
    InformationEstimator: "mutual_information",
    ConditionalInformationEstimator: "conditional_mutual_information",
    TotalCorrelationEstimator: "total_correlation",
}
OURS = [
    ip.Histogram(),
    ip.KNN(),
    ip.Gaussian(),
    ip.MatrixRenyi(),
    ip.Critic(),
    ip.Flow(),
    ip.Gaussianization(),
]


class Symbols:
    """A stranger's plug-in entropy of rounded values, which inherits nothing from the library."""

    def __init__(self, width=1.0):
        self.width = width

    def entropy(self, x):
        _, counts = torch.unique((torch.as_tensor(x) / self.width).round(), return_counts=True)
        p = counts.double() / counts.sum()
        return -(p * p.log()).sum()


class Talkative(Symbols):
    """The same with all that is optional."""

    kind = "discrete"

    def kl_divergence(self, p, q):
        if len(q) < 10:
            raise ValueError("too few")
        return torch.tensor(0.5, dtype=torch.float64)

    def configuration(self):
        return {"rounded to": self.width}

    def require_measure(self, measure):
        if measure == "entropy" and self.width > 99:
            raise ValueError("too wide")

    def diagnose(self, measure, tensors, value):
        if measure == "kl_divergence":
            what = f"{measure} of {len(tensors)}: {None if value is None else float(value)}"
            yield ip.Finding("warning", what, 0.0, "None.", "p")
            yield ip.Finding("warning", "both", 0.0, "None.", "p, q")
        else:
            yield ip.Finding("error", measure, 0.0, "None.", "x")


class Measured(Symbols):
    """It knows its own standard error."""

    def estimate(self, measure, *tensors):
        return Estimate(self.entropy(*tensors), torch.tensor(0.1), [])


class TestAStrangersEstimator:
    def test_by_functions(self):
        assert ip.entropy([0.0, 0.1, 1.0, 1.1], Symbols(), base=2).item() == pytest.approx(1)
        with pytest.raises(TypeError, match=r"estimator: expected one that has kl_divergence\(\)"):
            ip.kl_divergence([0.0], [1.0], Symbols())

    def test_by_diagnose(self):
        x, y = normal(50, 2), normal(20, 2, seed=1)
        assert ip.diagnose(x, Symbols()) == []
        with pytest.raises(TypeError, match="that has a measure of them"):
            ip.diagnose(x, y, Symbols())
        assert [str(finding) for finding in ip.diagnose(x, Talkative())] == ["x: entropy. None."]
        found = ip.diagnose(x, y, Talkative())
        assert [str(finding) for finding in found] == [
            "x: kl_divergence of 2: 0.5. None.",
            "x, y: both. None.",
        ]

    def test_what_it_refuses_is_a_finding(self):
        class Refuses:
            def kl_divergence(self, p, q):
                raise ValueError("not today.")

        (finding,) = ip.diagnose(normal(50, 2), normal(20, 2), Refuses())
        assert finding.severity == "error"
        assert finding.what == "not today"
        found = ip.diagnose(normal(50, 2), normal(5, 2), Talkative())
        assert "x: kl_divergence of 2: None. None." in map(str, found)

    def test_without_any_of_the_methods_it_is_none(self):
        class Other:
            def joint_entropy(self, x):
                return x.sum()

        with pytest.raises(TypeError, match="estimator: expected one or two tensors and then an"):
            ip.diagnose(normal(50, 2), Other())

    def test_by_estimate(self):
        x = normal(50, 2)
        value = Symbols().entropy(x)
        assert estimate(Symbols(), "entropy", x) == (value, None, [])
        assert estimate(Measured(), "entropy", x) == (value, torch.tensor(0.1), [])
        found = estimate(Talkative(), "entropy", x).findings
        assert [finding.what for finding in found] == ["entropy"]
        assert diagnosis(Symbols(), "entropy", [x], value) == []

    def test_as_the_residual_of_a_map(self):
        x = normal(200, 1)
        assert math.isfinite(ip.Gaussianization(residual=Symbols(0.1)).entropy(x))

    def test_its_kind(self):
        assert kind_of(Symbols()) is None
        assert kind_of(Talkative()) == "discrete"
        other = Symbols()
        other.kind = "quantum"
        with pytest.raises(ValueError, match=r"estimator\.kind: expected one of 'discrete', 'd"):
            kind_of(other)

    def test_what_is_required_of_it(self):
        require_measure(Symbols(1000), "entropy")
        require_measure(Talkative(), "entropy")
        with pytest.raises(ValueError, match="too wide"):
            require_measure(Talkative(100), "entropy")
        for thing in (Symbols(), Symbols, "kl_divergence"):
            with pytest.raises(TypeError, match=r"estimator: expected one that has kl_div"):
                require_measure(thing, "kl_divergence")


class TestOurs:
    @pytest.mark.parametrize("estimator", OURS)
    def test_they_follow_the_protocols_of_the_methods_that_they_have(self, estimator):
        for protocol, method in PROTOCOLS.items():
            assert isinstance(estimator, protocol) == hasattr(type(estimator), method)

    def test_their_kinds(self):
        kinds = [kind_of(estimator) for estimator in OURS]
        assert (
            kinds
            == ["discrete", "differential", "differential", "discrete"] + ["differential"] * 3
        )

    def test_histograms_stream(self):
        assert [isinstance(each, StreamingEstimator) for each in OURS] == [True] + [False] * 6
        assert ip.Histogram(64, pseudocount=1).uncorrected == ip.Histogram(64).uncorrected

    @pytest.mark.parametrize("correction", ["miller-madow", "chao-shen", "grassberger"])
    def test_corrections_of_entropies_give_no_divergence(self, correction):
        h = ip.Histogram(correction=correction)
        require_measure(h, "entropy")
        require_measure(h, "mutual_information")
        for measure in ("cross_entropy", "kl_divergence", "js_divergence"):
            with pytest.raises(ValueError, match="estimator: expected one that gives probabil"):
                require_measure(h, measure)
        require_measure(ip.Histogram(correction="james-stein"), "kl_divergence")

    def test_a_residual_must_have_what_the_measure_needs(self):
        flow = ip.Flow(residual=Symbols())
        require_measure(flow, "entropy")
        require_measure(flow, "total_correlation")
        for measure, needed in [
            ("kl_divergence", "cross_entropy"),
            ("mutual_information", "mutual_information"),
        ]:
            with pytest.raises(TypeError, match=rf"residual: .* with {needed}\(\)"):
                require_measure(flow, measure)

    def test_one_fit_gives_the_value_its_error_and_findings(self):
        x = normal(200, 2)
        transport = ip.Gaussianization()
        value, stderr, findings = estimate(transport, "entropy", x)
        report = transport.report("entropy", x)
        assert value == report.value
        assert stderr == report.stderr
        assert findings == report.findings
        assert estimate(transport, "total_correlation", x).stderr > 0

    def test_information_near_its_ceiling_after_transport(self):
        x = normal(300, 1)
        y = x + 1e-3 * normal(300, 1, seed=1)
        found = estimate(ip.Gaussianization(), "mutual_information", x, y).findings
        (finding,) = [finding for finding in found if "near the" in finding.what]
        assert "100 samples" in finding.what
        assert finding.argument == "x, y"

    def test_counts_have_the_findings_of_a_divergence(self):
        h = ip.Histogram(range=(-2, 2), bins=4, pseudocount=1)
        p, q = (h.count(x) for x in ([-1.5, 0.5, 0.5, 1.5], [0.5, -0.5, 1.5]))
        found = estimate(h, "kl_divergence", p, q).findings
        assert found[0].what.startswith("25.0% of the values of the first lie in bins where the")
        assert found[0].what.endswith("the pseudo-count and the amount of data decide this number")
        assert found[0].figure == 0.25
        p, q = (h.count(x) for x in ([0.5, 0.5, 1.5], [-0.5, 0.5, 1.5]))
        (finding,) = estimate(h, "kl_divergence", p, q).findings
        assert finding.what.endswith("nats come only from the bin edge at zero")
        assert finding.figure == float(h.kl_at_zero(p, q))
        assert estimate(h, "entropy", p).findings == []


class Colour(enum.Enum):
    RED = 1


class Slotted:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k


@dataclasses.dataclass
class Settings:
    k: int
    cache: object = dataclasses.field(default=None, compare=False)


class TestConfiguration:
    SETTINGS = (
        3,
        0.1,
        math.inf,
        math.nan,
        "text",
        None,
        True,
        [1, (2.0, "a")],
        {"a": {1, 2}},
        {1: "one", (2, 3): "more"},
        b"bytes",
        np.float32(0.5),
        np.int64(3),
        torch.float16,
        torch.device("cpu"),
        Colour.RED,
        torch.arange(6).reshape(2, 3),
        torch.zeros(2, 2, dtype=torch.bfloat16).T,
        np.arange(3.0),
        np.array([1, "a"], dtype=object),
        torch.exp,
        len,
        normal,
        Symbols,
        Symbols(2.0),
        Talkative(2.0),
        Slotted(3),
        Settings(3, object()),
        functools.partial(normal, 3, seed=1),
        Symbols(2.0).entropy,
        ip.Flow(residual=ip.Gaussian()),
        torch.nn.Linear(2, 1),
    )

    @pytest.mark.parametrize("setting", SETTINGS)
    def test_equal_settings_have_equal_ones(self, setting):
        a, b = (configuration(Symbols(copy.deepcopy(setting))) for _ in range(2))
        assert a == b
        assert a != configuration(Symbols("something else"))

    @pytest.mark.parametrize("setting", SETTINGS)
    def test_they_are_plain_data_without_addresses(self, setting):
        found = configuration(Symbols(setting))
        assert " at 0x" not in repr(found)
        file = io.BytesIO()
        torch.save(found, file)
        file.seek(0)
        assert torch.load(file, weights_only=True) == found

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (3, 4),
            ("a", "b"),
            ([1, 2], [2, 1]),
            (torch.zeros(3), torch.zeros(4)),
            (torch.zeros(3), torch.ones(3)),
            (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
            (np.zeros(3), np.ones(3)),
            (Slotted(3), Slotted(4)),
            (Settings(3), Settings(4)),
            (functools.partial(normal, 3), functools.partial(normal, 4)),
            (normal, Symbols),
            (ip.KNN(), ip.KNN(4)),
            (ip.Histogram(), ip.KNN()),
        ],
    )
    def test_different_settings_have_different_ones(self, a, b):
        assert configuration(Symbols(a)) != configuration(Symbols(b))

    def test_classes_are_told_apart(self):
        class Heir(Symbols):
            pass

        assert configuration(Heir()) != configuration(Symbols())

    def test_an_own_method_decides(self):
        assert configuration(Talkative(3.0)) == {"rounded to": 3.0}

    def test_what_is_not_compared_does_not_count(self):
        assert configuration(Settings(3, "a")) == configuration(Settings(3, "b"))

    def test_one_object_in_two_places(self):
        both = [normal(3)] * 2
        assert configuration(both) == configuration([normal(3), normal(3)])

    @pytest.mark.parametrize(
        "setting", [lambda x: x, object(), (x for x in "ab"), sys.stdout.buffer]
    )
    def test_what_has_no_plain_data(self, setting):
        with pytest.raises(TypeError, match=r"estimator: .*Give the estimator a method config"):
            configuration(Symbols([setting]))

    def test_closures(self):
        def scaled(factor):
            def scale(x):
                return factor * x

            return scale

        with pytest.raises(TypeError, match="scale, whose name does not tell what it does"):
            configuration(Symbols(scaled(3)))

    def test_cycles(self):
        cycle = Symbols()
        cycle.width = [cycle]
        with pytest.raises(TypeError, match=r"do not refer to themselves.*method configuration"):
            configuration(cycle)

    def test_the_same_in_another_process(self):
        code = (
            "import torch, infoprobe as ip\n"
            "from infoprobe.estimators.protocols import configuration\n"
            "print(configuration([ip.Flow(), {'b', 'a', 'c'}, torch.ones(3), torch.exp]))"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        expected = configuration([ip.Flow(), {"b", "a", "c"}, torch.ones(3), torch.exp])
        assert printed.strip() == repr(expected)


def test_a_finding_in_sentences():
    finding = ip.Finding("warning", "it is off", 1.0, "Do not trust it.")
    assert str(finding) == "it is off. Do not trust it."
    assert str(finding._replace(argument="p, q")) == "p, q: it is off. Do not trust it."


class TestSettingsThatLookAlike:
    def test_whole_numbers_of_any_type_are_one_setting(self):
        assert configuration(ip.Gaussian(1)) == configuration(ip.Gaussian(1.0))
        assert repr(configuration(ip.Gaussian(1))) == repr(configuration(ip.Gaussian(1.0)))

    def test_classes_of_containers_count(self):
        class A(NamedTuple):
            k: int

        class B(NamedTuple):
            k: int

        assert configuration(A(1)) != configuration(B(1)) != configuration((1,))

    def test_constants_of_torch(self):
        first, second = torch.channels_last, torch.contiguous_format
        assert configuration(first) != configuration(second)

    @pytest.mark.parametrize(
        "hidden",
        [torch.ones(2).to_sparse(), torch.ones(2, device="meta"), np.array(["a"])],
        ids=["sparse", "meta", "text"],
    )
    def test_what_shows_no_values_is_refused_by_name(self, hidden):
        class Holds:
            def __init__(self):
                self.hidden = hidden

        with pytest.raises(TypeError, match="estimator: expected settings that plain data"):
            configuration(Holds())
