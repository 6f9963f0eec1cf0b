r"""A trained bijection: each feature's distribution, given those before it, made Gaussian."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.training import (
    batches_of,
    drawing_weights,
    require_converging,
    train,
)
from infoprobe.estimators.transport.bijections import (
    Affine,
    Chain,
    Tails,
    independent_components,
    whitening,
)
from infoprobe.estimators.transport.negentropy import moments
from infoprobe.estimators.transport.transport import Transport
from infoprobe.estimators.transport.triangular import Triangular

_WARM_UP = 50  # training steps with a lower learning rate
_CHECK = 25  # training steps from one look at the stopping samples to the next


@dataclass(frozen=True)
class Flow(Transport):
    r"""A bijection, trained by likelihood, that carries data to nearly independent Gaussians.

    Samples are turned (or only scaled) by a matrix, their tails are drawn in by an inverse
    hyperbolic sine, and a triangular map follows. With the distribution of each feature modelled
    as a mixture of M Gaussians whose weights, means and widths depend on the features before it,

    .. math:: z_j = \Phi^{-1}\Big( \sum_{k=1}^M w_{jk}\, \Phi\big(
              (y_j - t_j - \mu_{jk}) / \sigma_{jk} \big) \Big),
              \quad (w, \mu, \sigma, t)_j = \text{a function of } y_1, \ldots, y_{j-1}.

    :math:`t_j` is a quadratic function of single features, and the rest comes from a masked
    network, with dropout in training. The start is in closed form: :math:`t` by least squares,
    with only the coefficients beyond 5 standard errors, and a mixture for what is left of each
    feature. So for independent features, training starts from the map that makes each of them
    Gaussian by itself.

    Two maps are trained, one on the features as they are, and one on independent components
    (FastICA), the least Gaussian first; the likelihood of the stopping samples decides between
    them, and chooses the weights to keep.

    Arguments:
        components: The M of the mixtures.
        hidden: Units in each of the two hidden layers of the network.
        dropout: The share of units dropped at random in a training step. The fewer samples there
            are for the features, the more of it helps; in 2 dimensions, 0 does better.
        steps: The most training steps for each of the two maps, with Adam; a third of them
            without a better likelihood of the stopping samples, seen every 25 steps, end it.
        batch: The number of samples in a training step.
        learning_rate: The learning rate of Adam at first; it falls to 0 along a cosine.
        seconds: The most time for training a map; an estimate needs ``folds`` maps for each
            variable. Infinite by default. The start is not cut short, some 10 seconds in hundreds
            of dimensions. Where the time decides, results depend on the speed of the machine.
        residual: What measures the samples that the map has carried.
        folds: How many parts the samples come in. Each is measured by a map that was fitted to
            the others; an eighth of these are stopping samples.
        seed: The seed of the folds, the initial weights, the batches, dropout and the start of
            FastICA.
            The same seed gives the same number on a CPU; torch's global generators are not used.
        progress: Whether to show progress bars. Needs the extra ``infoprobe[progress]``.

    Bias and limits:
        Errors of the entropy, measured with n = 10,000, in nats, as means of 5 seeds, and of one
        seed in the first and fourth row (``benchmarks/accuracy.py``), beside the errors of
        ``KNN(calibration="gaussian")`` by itself:

        ==========================  ===  ========  ============
        data                        d    KNN       this
        ==========================  ===  ========  ============
        Gaussian, correlations 0.9  20   +0.00     +0.03
        independent Laplace         20   +0.39     +0.05
        independent Laplace         100  +3.93     +0.13
        Laplace, rotated            20   +0.39     +0.02
        mixture of 4 Gaussians      20   -1.03     +0.15
        banana                      20   +2.87     +0.14
        banana                      100  +21.22    +0.68
        banana, rotated             20   +2.88     +0.40
        ==========================  ===  ========  ============

        The negative log-likelihood of held-out samples exceeds their entropy, by what the map has
        missed; among some thousands of samples in many dimensions, it misses much of any
        dependence that is neither quadratic nor between few directions. The order of features
        matters: the distribution of a feature may be simple given another, and not the other way.

        One pass of the network maps samples forward, while the inverse takes one for each
        feature. In many hundreds of dimensions a step takes a large part of a second on a CPU.

    References:
        | B. Uria, I. Murray & H. Larochelle (2013). RNADE: the real-valued neural autoregressive
          density-estimator. arXiv:1306.0186.
        | M. Germain, K. Gregor, I. Murray & H. Larochelle (2015). MADE: masked autoencoder for
          distribution estimation. arXiv:1502.03509.
        | A. Hyvärinen (1999). Fast and robust fixed-point algorithms for independent component
          analysis. IEEE Trans. Neural Netw. 10(3), 626-634.
    """

    components: int = 4
    _: KW_ONLY
    hidden: int = 128
    dropout: float = 0.3
    steps: int = 1200
    batch: int = 256
    learning_rate: float = 5e-3
    seconds: float = math.inf
    progress: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("components", "hidden", "steps", "batch"):
            checks.require_integer_field(self, name, 1)
        checks.require_bool_field(self, "progress")
        checks.require_real_field(self, "dropout", 0, 1)
        if self.dropout == 1:
            raise ArgumentValueError("dropout", "expected a share below 1, got 1.")
        for name in ("learning_rate", "seconds"):
            checks.require_real_field(self, name, 0, infinite=name == "seconds")
            if not getattr(self, name) > 0:
                raise ArgumentValueError(
                    name, f"expected a number above 0, got {getattr(self, name)!r}."
                )

    def fit_map(self, x: Tensor, stop: Tensor, seed: int) -> nn.Module:
        """A map fitted to samples ``x`` (n, d) and stopped by other samples, (m, d)."""
        begin = time.monotonic()
        if len(x) < self.components:
            raise ArgumentValueError(
                "components",
                f"expected no more than the {len(x):,} samples that a map is fitted "
                f"to, got {self.components}. Lower it, or pass more samples.",
            )
        x, stop = x.double(), stop.double()
        frames = list(_frames(x, seed, begin + self.seconds / 4))
        fitted = []
        for i, frame in enumerate(frames):
            left = (begin + self.seconds - time.monotonic()) / (len(frames) - i)
            fitted.append(self._train(frame, x, stop, seed, left, f"Flow, map {i + 1} of 2"))
        return min(fitted, key=lambda found: found[0])[1]

    def _train(
        self, frame: Affine, x: Tensor, stop: Tensor, seed: int, seconds: float, name: str
    ) -> tuple[float, Chain]:
        """The map after ``frame``, and minus the log-likelihood of the stopping samples."""
        begin = time.monotonic()
        outer = Chain(frame, Tails(frame(x)[0]))
        y, y_stop = outer(x)[0].float(), outer(stop)[0].float()
        with drawing_weights(seed):
            triangular = Triangular(y, self.components, self.hidden, self.dropout)
        batches = batches_of(len(y), self.batch, torch.Generator("cpu").manual_seed(seed))
        dropout = torch.Generator(y.device).manual_seed(seed)

        def loss() -> Tensor:
            return -triangular.log_density(y[next(batches)], dropout).mean()

        def score(step: int) -> float:
            likelihood = float(triangular.log_density(y_stop).mean())
            return require_converging(likelihood, step, self.learning_rate)

        def learning_rate(step: int, done: float) -> float:
            warm_up = min(1.0, (step + 1) / _WARM_UP)
            return self.learning_rate * warm_up * (1 + math.cos(math.pi * done)) / 2

        best = train(
            triangular,
            torch.optim.Adam(triangular.parameters(), betas=(0.9, 0.99)),
            loss,
            score,
            steps=self.steps,
            check_every=_CHECK,
            patience=self.steps / 3,
            learning_rate=learning_rate,
            # Whichever of steps and time runs out first, the learning rate has fallen by then.
            spent=lambda: (time.monotonic() - begin) / seconds if seconds > 0 else 1.0,
            name=name,
            progress=self.progress,
        )
        flow = Chain(*outer, triangular).double().requires_grad_(False)
        return -best - float(outer(stop)[1].mean()), flow


def _frames(x: Tensor, seed: int, deadline: float) -> Iterator[Affine]:
    """The features as they are, scaled; and independent components, the least Gaussian first."""
    yield Affine(x.mean(0), torch.diag(1 / x.std(0)))
    white = whitening(x)
    z, _ = white(x)
    generator = torch.Generator("cpu").manual_seed(seed)
    d = x.shape[1]
    normal = torch.randn(d, d, dtype=torch.float64, generator=generator, device="cpu")
    rotation = independent_components(z, torch.linalg.qr(normal).Q.to(x.device), deadline)
    order = moments(z @ rotation.T).argsort(descending=True, stable=True)
    yield Affine(white.shift, rotation[order] @ white.matrix)
