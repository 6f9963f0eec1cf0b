"""Nothing depends on torch's default device, on which nothing is meant to be here."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._device import _device_constructors

import infoprobe as ip


def samples(n=80, d=2):
    x, noise = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0), device="cpu")
    return x, x + noise


def images():
    return torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(0), device="cpu")


def fitted():
    with torch.device("cpu"):
        torch.manual_seed(0)
        model = nn.Conv2d(1, 1, 3, padding=1)
    return ip.models.fit(model, images(), ip.models.Schedule(2, 8), progress=False)


def probed():
    with torch.device("cpu"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    x, y = samples()
    measures = [ip.Entropy(), ip.Divergence(), ip.MutualInformation(ip.KNN(), "target")]
    measures += [ip.Entropy(ip.KNN(), project=1), ip.Spectrum()]
    with ip.probe(model, measures=measures) as probe:
        for rows in (slice(0, 40), slice(40, 80)):
            probe.target(y[rows])
            model(x[rows])
    return [row["value"] for row in probe.report().rows]


def affine():
    return torch.distributions.AffineTransform(
        torch.zeros(2, device="cpu"), torch.full((2,), 2.0, device="cpu"), event_dim=1
    )


CALLS = {
    "entropy": lambda x, y: ip.entropy(x),
    "lists": lambda x, y: ip.entropy([0.0, 1.0, 2.0]),
    "kl": lambda x, y: ip.kl_divergence(x, y, ip.Histogram(pseudocount=1)),
    "js": lambda x, y: ip.js_divergence(x, y),
    "mi": lambda x, y: ip.mutual_information(x, y),
    "units": lambda x, y: ip.mutual_information(x, y, ip.Histogram(8, over="units")),
    "symbols": lambda x, y: ip.entropy(x, ip.Histogram(8, over="samples")),
    "james-stein": lambda x, y: ip.entropy(x, ip.Histogram(correction="james-stein")),
    "at zero": lambda x, y: ip.Histogram(pseudocount=1).kl_at_zero(x, y),
    "uncovered": lambda x, y: torch.as_tensor(ip.Histogram().uncovered(x, y), device="cpu"),
    "knn": lambda x, y: ip.entropy(x, ip.KNN(calibration="gaussian")),
    "knn mi": lambda x, y: ip.mutual_information(x, y, ip.KNN()),
    "chebyshev": lambda x, y: ip.kl_divergence(x, y, ip.KNN(metric="chebyshev")),
    "labels": lambda x, y: ip.mutual_information((x[:, 0] > 0).long(), y, ip.KNN()),
    "gaussian": lambda x, y: ip.mutual_information(x, y, ip.Gaussian()),
    "renyi": lambda x, y: ip.mutual_information(x, y, ip.MatrixRenyi()),
    "critic": lambda x, y: ip.Critic(steps=5, batch=16, hidden=8).mutual_information(x, y),
    "flow": lambda x, y: ip.entropy(x, ip.Flow(steps=5, hidden=8)),
    "gaussianization": lambda x, y: ip.entropy(x, ip.Gaussianization(layers=2)),
    "confidence": lambda x, y: ip.confidence_interval(ip.KNN().entropy, x).stderr,
    "a float": lambda x, y: ip.confidence_interval(lambda v: float(v.mean()), x).stderr,
    "diagnose": lambda x, y: torch.tensor(
        [
            len(ip.diagnose(x.relu(), y, estimator))
            for estimator in (ip.Histogram(), ip.KNN(), ip.Gaussian(), ip.MatrixRenyi())
        ],
        device="cpu",
    ),
    "findings": lambda x, y: torch.tensor(
        [finding.figure for finding in ip.diagnose(x.tan(), ip.Gaussian())], device="cpu"
    ),
    "permutations": lambda x, y: (
        ip.permutation_test(ip.Gaussian().mutual_information, x, y, permutations=9).null
    ),
    "pointwise": lambda x, y: ip.pointwise("entropy", x, estimator=ip.KNN()),
    "neighbors": lambda x, y: ip.nearest_neighbors(x, 3)[0],
    "change": lambda x, y: ip.entropy_change(affine(), x).value,
    "spectrum": lambda x, y: torch.as_tensor(ip.jacobian_spectrum(affine(), x)[0], device="cpu"),
    "invertible": lambda x, y: torch.tensor(
        len(ip.check_invertible(affine(), x).verdict), device="cpu"
    ),
    "dequantize": lambda x, y: ip.dequantize(
        (x > 0).byte(), generator=torch.Generator().manual_seed(0)
    ),
    "digits": lambda x, y: ip.datasets.load("digits")[0].sum(),
    "fit": lambda x, y: torch.tensor(fitted(), device="cpu"),
    "probe": lambda x, y: torch.tensor(probed(), device="cpu"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_value_is_the_same(call):
    x, y = samples()
    expected = call(x, y)
    with torch.device("meta"):
        found = call(x, y)
    assert found.device.type == "cpu"
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


def test_no_tensor_is_made_where_the_default_says():
    """Each call of a function that makes tensors says on which device."""
    makers = {function.__name__ for function in _device_constructors()}
    package = Path(ip.__file__).parent
    silent = [
        f"{path.relative_to(package)}: {ast.unparse(node)}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {f"torch.{maker}" for maker in makers}
        and "device" not in {word.arg for word in node.keywords}
    ]
    assert silent == []
