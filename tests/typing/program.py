"""A user's program over the whole public surface: every type in it is checked by mypy and pyright.

``assert_type`` fails the check where a type is ``Any`` or another one than expected. The tests
run the program as well, so that the types are also those that come at run time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from typing_extensions import assert_type

import infoprobe as ip

N = 60


def samples(width: int = 2) -> Tensor:
    return torch.randn(N, width)


def array(width: int = 2) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(N, width))


def estimators() -> None:
    """Every method of every estimator, with tensors and with arrays."""
    x, y, z = samples(), array(), samples(1)
    labels = torch.arange(N) % 3

    histogram = ip.Histogram(bins=16, range=(-9.0, 9.0), pseudocount=1.0, outside="clip")
    assert_type(histogram.entropy(x), Tensor)
    assert_type(histogram.entropy(y), Tensor)
    assert_type(histogram.cross_entropy(x, y), Tensor)
    assert_type(histogram.kl_divergence(x, y), Tensor)
    assert_type(histogram.js_divergence(x, y), Tensor)
    assert_type(histogram.mutual_information(x, y), Tensor)
    assert_type(histogram.bins, int)
    ip.Histogram(1000, "own", "units", 0, "grassberger")

    knn = ip.KNN(k=4, metric="chebyshev", calibration="gaussian", variant=2)
    assert_type(knn.entropy(x), Tensor)
    assert_type(knn.cross_entropy(x, y), Tensor)
    assert_type(knn.kl_divergence(x, y), Tensor)
    assert_type(ip.KNN().mutual_information(labels, y, variant=1), Tensor)
    assert_type(ip.KNN().conditional_mutual_information(x, y, z), Tensor)
    assert_type(ip.KNN().total_correlation(y), Tensor)
    bias = ip.KNN(calibration="gaussian").bias("entropy", x)
    assert_type(bias.value, Tensor)
    assert_type(bias.stderr, Tensor)

    gaussian = ip.Gaussian(shrinkage="ledoit-wolf")
    assert_type(gaussian.entropy(y), Tensor)
    assert_type(gaussian.conditional_entropy(x, y), Tensor)
    assert_type(gaussian.cross_entropy(x, y), Tensor)
    assert_type(gaussian.kl_divergence(x, y), Tensor)
    assert_type(gaussian.mutual_information(x, y), Tensor)
    assert_type(gaussian.conditional_mutual_information(x, y, z), Tensor)
    assert_type(gaussian.total_correlation(x), Tensor)

    renyi = ip.MatrixRenyi(alpha=2.0, bandwidth="scott", gamma=0.5)
    assert_type(renyi.entropy(y), Tensor)
    assert_type(renyi.joint_entropy(x, y, z), Tensor)
    assert_type(renyi.mutual_information(x, y), Tensor)
    assert_type(renyi.conditional_mutual_information(x, y, z), Tensor)
    assert_type(renyi.total_correlation(x), Tensor)
    assert_type(renyi.kernel_width(x), Tensor)

    critic = ip.Critic("dv", critic="concatenated", hidden=8, steps=5, batch=16)
    assert_type(critic.mutual_information(x, y), Tensor)
    assert_type(critic.kl_divergence(x, y), Tensor)
    assert_type(critic.ceiling(1000), float)


def transports() -> None:
    """The estimators that carry samples through a map of their own."""
    x, y = samples(), array()
    for transport in (
        ip.Gaussianization(layers=2, folds=2, residual=ip.KNN(calibration="gaussian")),
        ip.Flow(components=2, hidden=8, steps=5, folds=2, seconds=10.0),
    ):
        assert_type(transport.entropy(x), Tensor)
        assert_type(transport.cross_entropy(x, y), Tensor)
        assert_type(transport.kl_divergence(x, y), Tensor)
        assert_type(transport.mutual_information(x, y), Tensor)
        assert_type(transport.total_correlation(x), Tensor)
        bound = transport.upper_bound(y)
        assert_type(bound.value, Tensor)
        assert_type(bound.stderr, Tensor)


class Shared:
    """An array of another library, which torch takes by DLPack."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __dlpack__(self, *, stream: int | None = None) -> object:
        return self.values.numpy().__dlpack__(stream=None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def plain_functions() -> None:
    x, y, z = samples(), array(), samples(1)
    assert_type(ip.entropy(x), Tensor)
    assert_type(ip.entropy(y, ip.KNN(), base=2), Tensor)
    assert_type(ip.cross_entropy(x, y, ip.Histogram(pseudocount=1)), Tensor)
    assert_type(ip.kl_divergence(x, y, ip.Gaussian()), Tensor)
    assert_type(ip.js_divergence(x, y), Tensor)
    assert_type(ip.mutual_information(x, y, ip.MatrixRenyi()), Tensor)
    assert_type(ip.conditional_mutual_information(x, y, z), Tensor)
    assert_type(ip.total_correlation(x, ip.Gaussian()), Tensor)
    assert_type(ip.entropy([0.0, 1.0, 2.0]), Tensor)
    assert_type(ip.entropy([samples(), samples()]), Tensor)
    assert_type(ip.entropy([[[0, 1], [1, 0]], [[0, 1], [1, 0]]]), Tensor)
    own: ip.ArrayLike = Shared(samples())
    assert_type(ip.entropy(own), Tensor)

    neighbors = ip.nearest_neighbors(x, 3, queries=y[:5], metric="chebyshev")
    assert_type(neighbors.distances, Tensor)
    assert_type(neighbors.indices, Tensor)


def trust() -> None:
    x, y = samples(), samples()
    interval = ip.confidence_interval(
        ip.KNN().mutual_information,
        x,
        y,
        level=0.9,
        resamples=5,
        generator=torch.Generator().manual_seed(0),
    )
    assert_type(interval, ip.ConfidenceInterval)
    assert_type(interval.value, Tensor)
    assert_type(interval.stderr, Tensor)
    assert_type(interval.low, Tensor)
    assert_type(interval.high, Tensor)

    choice = ip.choose("mutual_information", x, y)
    assert_type(choice, ip.Choice)
    assert_type(choice.reasons, tuple[str, ...])
    assert_type(ip.mutual_information(x, y), Tensor)

    findings = ip.diagnose(x, y, estimator=ip.KNN(), measure="mutual_information")
    assert_type(findings, list[ip.Finding])
    for finding in findings:
        assert_type(finding.what, str)
        assert_type(finding.figure, float)
        assert_type(finding.remedy, str)
        assert_type(finding.code, str)


class Marked(nn.Module):
    """A layer with a marked point inside."""

    def forward(self, x: Tensor) -> Tensor:
        return assert_type(ip.tap(x.tanh(), "tanh"), Tensor) + x


def probing(folder: Path) -> ip.Report:
    """A probe with each of the library's measures."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Marked())
    measures = [
        ip.Entropy(ip.KNN(), samples=40, project=2),
        ip.Divergence(reference="input"),
        ip.Divergence(ip.Histogram(pseudocount=1), "previous"),
        ip.MutualInformation(ip.KNN(), "input"),
        ip.MutualInformation(reference="target"),
        ip.EntropyChange(),
        ip.Rate(),
    ]
    with ip.probe(model, [model[0], "2", Marked], measures, memory=10**6, seed=1) as probe:
        assert_type(probe, ip.Probe)
        for _ in range(3):
            probe.target(torch.arange(N) % 2)
            model(samples(3))
        with probe.pause():
            model(samples(3))
    state = probe.state_dict()
    torch.save(state, folder / "probe.pt")
    with ip.probe(model, [model[0], "2", Marked], measures, seed=1) as again:
        again.load_state_dict(state)
        again.merge(probe)
        again.reset()
        again.target(samples(1))
        model(samples(3))
    tracking = ip.probe(model, measures=ip.Entropy()).track(every=5, passes=2)
    assert_type(tracking, ip.Probe)
    model(samples(3))
    tracking.remove()
    assert_type(tracking.report().steps, list[int])
    assert_type(tracking.report().at(0), ip.Report)
    counted = probe.counts("0", "forward", call=0)
    assert_type(counted.total, int)
    assert_type(ip.Histogram().js_divergence(counted, probe.counts("2")), Tensor)
    ip.probe(model, lambda name, module: name.startswith("1")).remove()
    return assert_type(probe.report(), ip.Report)


def reporting(report: ip.Report, folder: Path) -> None:
    """What a report gives."""
    for row in report.rows:
        assert_type(row["layer"], str)
        assert_type(row["type"], str)
        assert_type(row["call"], int)
        assert_type(row["order"], int)
        assert_type(row["step"], int | None)
        assert_type(row["measure"], str)
        assert_type(row["estimator"], str)
        assert_type(row["reference"], str | None)
        assert_type(row["value"], float | None)
        assert_type(row["stderr"], float | None)
        assert_type(row["unit"], str)
        assert_type(row["n"], int)
        assert_type(row["d"], float | None)
        assert_type(row["findings"], list[str])
        if row["direction"] == "inverse" or row["kind"] == "exact":
            assert_type(row["layer"], str)
    assert_type(report.scalars(), dict[str, float])
    assert len(report.to_dataframe()) == len(report.rows)
    assert_type(report.plot("entropy"), Axes)
    assert_type(report.plot(measure="divergence", reference="input", ax=None), Axes)
    report.to_html(folder / "report.html", title="a title")
    report.save(folder / "report.json")
    assert_type(ip.Report.load(folder / "report.json"), ip.Report)


def ledger() -> None:
    """The exact changes of entropy of a network both ways."""
    inn = ip.models.mnist_inn().eval()
    with ip.probe(inn, measures=[ip.Entropy(ip.Gaussian()), ip.EntropyChange()]) as probe:
        inn(torch.rand(4, 1, 28, 28))
    account = probe.report().ledger()
    for row in account.rows:
        assert_type(row["layer"], str)
        assert_type(row["call"], int)
        assert_type(row["exact"], float)
        assert_type(row["stderr"], float | None)
        assert_type(row["estimates"], dict[str, float | None])
    for direction, total in account.totals.items():
        assert direction in ("forward", "inverse")
        assert_type(total["exact"], float)
        assert_type(total["stderr"], float)
        assert_type(total["estimates"], dict[str, float | None])


def exact() -> None:
    """What invertible maps do, without estimating."""
    x = samples().double()
    change = ip.entropy_change(torch.exp, x, batch_size=30)
    assert_type(change.value, Tensor)
    assert_type(change.stderr, Tensor)
    assert_type(change.n, int)
    ip.entropy_change(torch.distributions.AffineTransform(1.0, 2.0), array(), rev=True)

    check = ip.check_invertible(torch.distributions.AffineTransform(1.0, 2.0), x)
    assert_type(check.ok, bool)
    assert_type(check.verdict, str)
    assert_type(check.inversion_error, float)
    assert_type(check.forward_error, float | None)
    assert_type(check.findings, tuple[str, ...])

    spectrum = ip.jacobian_spectrum(torch.sin, x)
    assert_type(spectrum.singular_values, Tensor)
    assert_type(spectrum.rank, Tensor)
    assert_type(spectrum.log_volume, Tensor)

    images = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    noisy = ip.dequantize(images, 256, generator=generator, dtype=torch.float64)
    assert_type(noisy, Tensor)

    autoencoder = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 16)
    account = ip.bottleneck_account(autoencoder, noisy.float())
    assert_type(account, ip.BottleneckAccount)
    assert_type(account.energy_share, float)
    assert_type(account.entropy_bound, float)
    assert_type(account.lost_at(1 / 256), float)


def models(folder: Path) -> None:
    """The reference models and their training."""
    images = torch.rand(20, 1, 28, 28)
    autoencoder = ip.models.MNISTAutoencoder(3)
    code = autoencoder.encode(images)
    assert_type(code, Tensor)
    assert_type(autoencoder.decode(code), Tensor)
    assert_type(autoencoder(images), Any)  # what torch says of the call of any module
    losses = ip.models.fit(
        autoencoder,
        images,
        ip.models.Schedule(epochs=1, batch_size=10, learning_rate=1e-3, milestones=(1,)),
        seed=3,
        checkpoint=folder / "model.safetensors",
        progress=False,
    )
    assert_type(losses, list[float])
    assert_type(ip.models.reconstruction_loss(autoencoder, images), Tensor)
    ip.models.CIFAR10Autoencoder(3)

    invertible = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 4)
    assert_type(invertible.decode(invertible.encode(images)), Tensor)
    ip.models.fit(
        invertible,
        images,
        epochs=1,
        batch_size=10,
        loss=ip.models.InvertibleAutoencoderLoss(),
        progress=False,
    )

    bottleneck = ip.models.GaussianBottleneck(3)
    variational = ip.models.MNISTAutoencoder(bottleneck)
    loss = ip.models.VariationalLoss(beta=0.5)
    assert_type(bottleneck.rate(samples(6)), Tensor)
    mean, variance = bottleneck.posterior(samples(6))
    assert_type((mean, variance), tuple[Tensor, Tensor])
    ip.models.fit(variational, images, epochs=1, batch_size=10, loss=loss, progress=False)


def datasets() -> None:
    images, labels = ip.datasets.load("digits", root=None, split="test")
    assert_type(images, Tensor)
    assert_type(labels, Tensor)


def celeba(root: Path) -> None:
    """Images that are read when they are needed; the files are large, so this is not run."""
    images, attributes = ip.datasets.load("celeba", root, size=64)
    assert_type(images, ip.datasets.ImageFiles)
    assert_type(attributes, Tensor)
    assert_type(images[torch.arange(4)], Tensor)
    assert_type(len(images), int)
    ip.models.fit(ip.models.CelebAAutoencoder(64), images, epochs=1, batch_size=10)
