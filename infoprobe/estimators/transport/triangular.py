r"""A triangular bijection: each feature by its distribution given the features before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from infoprobe import devices
from infoprobe.devices import ascending
from infoprobe.estimators.training import linear_layer

_LOG_NORMAL = math.log(2 * math.pi) / 2  # minus the standard Gaussian's log-density at 0
_SIGNIFICANT = 5.0  # standard errors from 0 of a regression coefficient to start with
_MOST_CHANGE = 3.0  # of the logarithm of a width, by the network
_MOST_START = 4000  # samples to which the mixtures at the start are fitted
_GAIN = 2e-5  # nats a round of expectation-maximisation, below which it ends

Mapped = tuple[Tensor, Tensor]
Mixtures = tuple[Tensor, Tensor, Tensor]


class Triangular(nn.Module):
    """The triangular map of :class:`Flow`, with the log-density by which it is trained.

    Arguments:
        y: Samples (n, d) in float32, for the start.
        components: Gaussians in a mixture.
        hidden: Units in each of the two hidden layers.
        dropout: The share of them dropped in training.
    """

    start: Tensor
    first_mask: Tensor
    second_mask: Tensor
    last_mask: Tensor
    shift_mask: Tensor
    components: int
    dropout: float
    first: nn.Linear
    second: nn.Linear
    last: nn.Linear
    shift: nn.Parameter

    def __init__(self, y: Tensor, components: int, hidden: int, dropout: float) -> None:
        super().__init__()
        d = y.shape[1]
        self.components, self.dropout = components, dropout
        feature = torch.arange(d, device="cpu")
        # A unit knows the features up to its own; output j uses the units that know up to j - 1.
        unit = torch.arange(hidden, device="cpu") * max(d - 1, 1) // hidden
        output = feature.repeat_interleave(3 * components)
        masks = {
            "first_mask": unit[:, None] >= feature,
            "second_mask": unit[:, None] >= unit,
            "last_mask": output[:, None] > unit,
            "shift_mask": (feature[:, None] > feature).repeat(1, 2),
        }
        for name, mask in masks.items():
            self.register_buffer(name, mask.float())
        self.first, self.second = linear_layer(d, hidden), linear_layer(hidden, hidden)
        self.last = linear_layer(hidden, len(output))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        shift = _significant_regression(y.double())
        self.shift = nn.Parameter(shift.float())
        self.to(y.device)
        left = y - _with_squares(y) @ self.shift.detach().T
        self.register_buffer("start", torch.stack(_mixtures(left, components), 1))

    def forward(self, y: Tensor) -> Mapped:
        """Scores z (n, d), and the log-determinants (n,) of the Jacobian."""
        return _scores(y, self._mixtures(y))

    def inverse(self, z: Tensor) -> Mapped:
        """The way back, feature by feature, and its log-determinants."""
        y = torch.zeros_like(z)
        for j in range(z.shape[1]):
            log_weight, mean, log_width = (part[:, j : j + 1] for part in self._mixtures(y))
            # Where all components are below the score, or above it, so is the mixture.
            ends = mean + log_width.exp() * z[:, j : j + 1, None]
            low, high = ends.amin(2), ends.amax(2)
            for _ in range(64):  # halves: as far as float64 goes
                middle = (low + high) / 2
                below = _scores(middle, (log_weight, mean, log_width))[0] < z[:, j : j + 1]
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            y = torch.cat([y[:, :j], (low + high) / 2, y[:, j + 1 :]], 1)
        return y, -_log_det(y, z, self._mixtures(y))

    def log_density(self, y: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """The log-density of samples (n, d), (n,); a generator drops units at random."""
        return _log_densities(y, self._mixtures(y, dropout)).sum(1)

    def _mixtures(self, y: Tensor, dropout: torch.Generator | None = None) -> Mixtures:
        """Logarithms of weights, means, and logarithms of widths, (n, d, components) each."""
        linear, silu = nn.functional.linear, nn.functional.silu
        h = silu(linear(y, self.first.weight * self.first_mask, self.first.bias))
        h = self._drop(h, dropout)
        h = h + silu(linear(h, self.second.weight * self.second_mask, self.second.bias))
        h = self._drop(h, dropout)
        change = linear(h, self.last.weight * self.last_mask, self.last.bias)
        log_weight, mean, log_width = change.view(len(y), -1, 3, self.components).unbind(2)
        shift = linear(_with_squares(y), self.shift * self.shift_mask)
        return (
            (self.start[:, 0] + log_weight).log_softmax(2),
            self.start[:, 1] + mean + shift.unsqueeze(2),
            self.start[:, 2] + _MOST_CHANGE * torch.tanh(log_width / _MOST_CHANGE),
        )

    def _drop(self, h: Tensor, generator: torch.Generator | None) -> Tensor:
        # nn.Dropout would draw from the global generator.
        if generator is None:
            return h
        keep = 1 - self.dropout
        return h * torch.empty_like(h).bernoulli_(keep, generator=generator) / keep


def _with_squares(y: Tensor) -> Tensor:
    return torch.cat([y, (y * y - 1) / 2], 1)


def _log_densities(y: Tensor, mixtures: Mixtures) -> Tensor:
    """The log-density of each feature given the features before it, (n, d)."""
    log_weight, mean, log_width = mixtures
    u = (y.unsqueeze(2) - mean) * (-log_width).exp()
    return (log_weight - log_width - u * u / 2).logsumexp(2) - _LOG_NORMAL


def _log_det(y: Tensor, z: Tensor, mixtures: Mixtures) -> Tensor:
    """The logarithm of the ratio of the densities before and after, (n,)."""
    return (_log_densities(y, mixtures) + z * z / 2 + _LOG_NORMAL).double().sum(1)


def _scores(y: Tensor, mixtures: Mixtures) -> Mapped:
    log_weight, mean, log_width = mixtures
    u = (y.unsqueeze(2) - mean) * (-log_width).exp()
    # From the nearer tail, where digits are not lost.
    below = (log_weight + torch.special.log_ndtr(u)).logsumexp(2)
    above = (log_weight + torch.special.log_ndtr(-u)).logsumexp(2)
    score = _normal_quantile(torch.minimum(below, above))
    z = torch.where(below < above, score, -score)
    return z, _log_det(y, z, mixtures)


def _normal_quantile(log_p: Tensor) -> Tensor:
    r"""The :math:`z \le 0` with :math:`\ln \Phi(z)` = ``log_p``, at most -ln 2 up to rounding.

    By Newton's method on a concave function, from below (:math:`\Phi(-t) \le e^{-t^2/2} / 2`),
    so that it converges without fail.
    """
    with torch.no_grad():
        z = -(-2 * (log_p + math.log(2))).clamp(min=0).sqrt()
        for _ in range(8):
            z = _newton(z, log_p)
    return _newton(z, log_p)  # which has the right gradient


def _newton(z: Tensor, log_p: Tensor) -> Tensor:
    log_normal = torch.special.log_ndtr(z)
    value: Tensor = z - (log_normal - log_p) * (log_normal + z * z / 2 + _LOG_NORMAL).exp()
    return value


def _significant_regression(y: Tensor) -> Tensor:
    """Coefficients (d, 2 d) of each feature on the features before it and on their squares.

    Least squares, with a ridge of as many samples' worth of variance as there are coefficients;
    coefficients less than 5 standard errors from 0 are set to 0. The Cholesky factor of one matrix
    holds all the regressions, each feature on what comes before.
    """
    n, d = y.shape
    f = _with_squares(y).view(n, 2, d).mT.reshape(n, 2 * d)  # each feature next to its square
    deviation = f.std(0)
    deviation = torch.where(deviation > 0, deviation, 1)  # the square of -1 or 1 is constant
    f = (f - f.mean(0)) / deviation
    identity = torch.eye(2 * d, dtype=y.dtype, device=y.device)
    factor = torch.linalg.cholesky(f.T @ f / n + identity * (2 * d / n))
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    coefficient = -inverse * factor.diagonal().unsqueeze(1)
    # The inverse of the matrix of the first i features has the diagonal sum_{k < i} inverse_k^2.
    before = devices.cumsum(inverse.square(), 0) - inverse.square()
    significant = inverse.square() * n > _SIGNIFICANT**2 * before
    coefficient = coefficient * (significant.tril(-1) * deviation.unsqueeze(1) / deviation)
    on_features: Tensor = coefficient[0::2].view(d, d, 2).mT.reshape(d, 2 * d)
    return on_features


def _mixtures(y: Tensor, components: int) -> Mixtures:
    """Mixtures of Gaussians for each feature, (d, components) each part.

    Logarithms of weights, means, and logarithms of widths.
    """
    # In blocks that fit into the cache, and only some of them need many rounds.
    fitted = [_expectation_maximisation(block, components) for block in torch.split(y, 16, 1)]
    log_weight, mean, log_width = (torch.cat(part) for part in zip(*fitted, strict=True))
    return log_weight, mean, log_width


def _expectation_maximisation(y: Tensor, components: int) -> Mixtures:
    """Fitted as if each component had seen one more sample at its start, so none collapses."""
    parts = ascending(y, 0).tensor_split(components)
    middle = torch.stack([part.mean(0) for part in parts], 1)
    of_parts = torch.stack([part.var(0, correction=0) for part in parts], 1)
    variance = of_parts + (y.std(0) / (2 * components)).square().unsqueeze(1)
    y = y[:: math.ceil(len(y) / _MOST_START)].T.unsqueeze(2)
    weight, mean, width = torch.full_like(middle, 1 / components), middle, variance.sqrt()
    previous = torch.full_like(middle[:, 0], -math.inf)
    for _ in range(100):
        u = (y - mean.unsqueeze(1)) / width.unsqueeze(1)
        joint = (weight / width).log().unsqueeze(1) - u * u / 2
        total = joint.logsumexp(2, keepdim=True)
        likelihood = total.mean((1, 2))
        if (likelihood - previous).max() < _GAIN:
            break
        previous = likelihood
        share = (joint - total).exp()
        count = share.sum(1) + 1
        mean = ((share * y).sum(1) + middle) / count
        spread = (share * (y - mean.unsqueeze(1)).square()).sum(1)
        width = ((spread + variance) / count).sqrt()
        weight = count / count.sum(1, keepdim=True)
    return weight.log(), mean, width.log()
